"""Published weights: a folder, a file or a hub id flows in, a local file and a network that holds exactly its tensors flow out.

Only tensors, numbers and JSON are read: safetensors, in one file or in shards under an index, or a torch file with weights_only.
Nothing of a checkpoint is executed.
"""

import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

_INDEX = ".safetensors.index.json"
"""How the name of the file ends that says which tensor lies in which shard."""

_MAX_FAULTS_SHOWN = 20

_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS = [
    *(_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), np.dtype),  # the second name is the one of NumPy 1
    *{type(np.dtype(code)) for code in "?" + np.typecodes["AllInteger"] + np.typecodes["Float"]},
]
"""What a pickled NumPy number is rebuilt from, such as the loss that a training loop saves beside its weights."""


def weights_file(checkpoint: str | Path, weights: Sequence[str] = WEIGHT_FILES, beside: Sequence[str] = ("config.json",)) -> Path:
    """Where the weights of a checkpoint lie on this machine, the files that belong to them beside them.

    Args:
        checkpoint: a local weights file, a local folder in the published layout, or, when no such path exists, a hub id.
        weights: published names of a weights file, the preferred one first; one that ends in .safetensors.index.json stands for
            itself and the shards that it names.
        beside: names of the other files that are needed.

    Raises:
        FileNotFoundError: neither a path nor something the hub gives; a folder that lacks weights or one of the other files.
    """
    path = Path(checkpoint).expanduser()
    if not path.exists():
        path = _download(str(checkpoint), weights, beside)
    if path.is_file():
        folder, names = path.parent, [path.name]
    else:
        folder, names = path, [name for name in weights if (path / name).is_file()]
    if not names or not all((folder / name).is_file() for name in beside):
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"A checkpoint folder must hold {_needed(weights, beside)}; this one holds {found}.\n"
            f"  file: {folder}\n  fix: copy the published files there, under their published names."
        )
    return folder / names[0]


def load_weights(model: nn.Module, path: Path) -> None:
    """Fills a network from a weights file whose keys are those of its state_dict.

    Tied tensors may be stored under any one of their keys (safetensors drops the others) or under all.

    Raises:
        ValueError: the file cannot be read, or its keys, shapes or ties are not those of the network (all listed).
    """
    tensors = read_tensors(path)
    refuse_misfits(_fill_ties(model, tensors) + state_faults(tensors, model.state_dict()), path)
    model.load_state_dict(tensors)


def refuse_misfits(faults: Sequence[str], origin: Path | str) -> None:
    """What is wrong between a weights file and its network, such as `state_faults` gives, in one error.

    Raises:
        ValueError: there is any fault.
    """
    if faults:
        raise ValueError(
            f"Weights must fit their configuration tensor for tensor; {list_faults(faults)}\n"
            f"  file: {origin}\n  fix: use the config.json that was published with these weights;"
            " copy or download a partial file again."
        )


def read_tensors(source: str | Path | Mapping, wrapper: str | None = None) -> dict[str, Tensor]:
    """Named tensors from a weights file; plain numbers beside them, NumPy's included, are read too, anything else is refused.

    Args:
        source: the path of a .safetensors file (whose tensors stay on disk until they are read), of an index of such files, or
            of a torch file, or what such a file held.
        wrapper: key under which a training checkpoint keeps its tensors beside other entries; None: there is no such key.

    Raises:
        FileNotFoundError: no file there, or an index names shards that are not there (all listed).
        ValueError: a file that is damaged or needs code to be read, or one that holds something else than named tensors.
    """
    content = source if isinstance(source, Mapping) else _load(Path(source))
    if isinstance(content, Mapping) and wrapper in content:
        content = content[wrapper]
    origin = "a dict in memory" if isinstance(source, Mapping) else source
    if not isinstance(content, Mapping) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        where = f" by themselves or under {wrapper!r}" if wrapper else ""
        raise ValueError(
            f"Weights: named tensors were expected{where}; got {_describe(content)}.\n"
            f"  file: {origin}\n  fix: save model.state_dict() and pass that."
        )
    return dict(content)


def state_faults(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """A line for every tensor that is missing, unexpected or of another shape than expected; empty if all fit."""
    faults = [f"{key}: missing, {tuple(expected[key].shape)} expected" for key in expected if key not in state]
    faults += [f"{key}: unexpected, {tuple(state[key].shape)} found" for key in state if key not in expected]
    faults += [
        f"{key}: {tuple(expected[key].shape)} expected, {tuple(state[key].shape)} found"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    return faults


def list_faults(faults: Sequence[str]) -> str:
    """Their number and one line each, the end of an error's sentence; cut short where they are many."""
    more = f"\n  … and {len(faults) - _MAX_FAULTS_SHOWN} more" if len(faults) > _MAX_FAULTS_SHOWN else ""
    return f"faults: {len(faults)}\n  " + "\n  ".join(faults[:_MAX_FAULTS_SHOWN]) + more


def _load(path: Path) -> object:
    if not path.is_file():
        raise FileNotFoundError(
            f"A file of weights was expected; there is {'a folder' if path.is_dir() else 'nothing'} at this path.\n"
            f"  file: {path}\n  fix: pass the path of a .safetensors or torch file."
        )
    if path.name.endswith(_INDEX):
        return _load_shards(path)
    with reading(path), torch.serialization.safe_globals(_NUMPY_SCALARS):
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a reader of weights finds wrong with a file becomes one ValueError that names it."""
    try:
        yield
    except Exception as error:  # a damaged file fails anywhere inside the reader, with any kind of error
        raise ValueError(
            f"Weights must be a safetensors file or a torch file of tensors and numbers; this file is not: {_reason(error)}.\n"
            f"  file: {path}\n  fix: copy or download it again; files that need code to be loaded are never opened:"
            " where this one is trusted, save its state dict alone."
        ) from error


def _load_shards(index: Path) -> dict[str, Tensor]:
    """The tensors that an index names; one that its shard lacks is left out, and so found missing by whoever compares."""
    shards = {path.name: _load(path) for path in shard_files(index)}
    return {key: shards[name][key] for key, name in read_index(index).items() if key in shards[name]}


def shard_files(index: Path) -> list[Path]:
    """The files that the index of a sharded checkpoint names.

    Raises:
        ValueError: see `read_index`.
        FileNotFoundError: some are not there (all listed).
    """
    names = sorted(set(read_index(index).values()))
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"All {len(names)} files that an index of weights names must lie beside it; {len(absent)} do not:"
            f" {', '.join(absent)}.\n"
            f"  file: {index}\n  fix: copy the missing shards there, under their published names."
        )
    return [index.parent / name for name in names]


def read_index(path: Path) -> dict[str, str]:
    """The index of a sharded checkpoint → tensor name to the name of the safetensors file that holds it.

    Raises:
        ValueError: not JSON, no weight_map of names to .safetensors files, or one that leads out of the folder.
    """
    try:
        shard_of = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        sound = bool(shard_of) and all(_is_shard_name(name) for name in shard_of.values())
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ValueError(
            "An index of weights must be JSON whose weight_map gives each tensor's .safetensors file in the same folder; this one"
            f" is not.\n  file: {path}\n  fix: copy or download it again."
        )
    return shard_of


def _is_shard_name(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def _reason(error: Exception) -> str:
    """What the reader found, on one line; PyTorch's own text goes on with advice to load the file unsafely."""
    if needed := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it needs {needed[1]}"
    if isinstance(error, pickle.UnpicklingError):
        return "torch.save writes no such content for tensors"
    first_sentence = re.split(r"\.\s|\n", str(error))[0].rstrip(".")
    return f"{type(error).__name__}: {first_sentence}" if first_sentence else type(error).__name__


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {len(content)} entries, {', '.join(map(str, list(content)[:5])) or 'none'}"
    return f"a {type(content).__name__}"


def _fill_ties(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Gives every key of a tied tensor that the file left out the value of a key that it holds; returns what differs."""
    keys_of: dict[int, list[str]] = {}
    for key, parameter in model.named_parameters(remove_duplicate=False):
        keys_of.setdefault(id(parameter), []).append(key)
    faults = []
    for keys in keys_of.values():
        stored = [key for key in keys if key in tensors]
        faults += [f"tied: {key} differs from {stored[0]}" for key in stored[1:] if not tensors[key].equal(tensors[stored[0]])]
        tensors.update({key: tensors[stored[0]] for key in keys if stored})
    return faults


def _needed(weights: Sequence[str], beside: Sequence[str]) -> str:
    """The files of a checkpoint, in words."""
    words = [f"{name} with its shards" if name.endswith(_INDEX) else name for name in weights]
    return f"{', '.join(beside)} and {' or '.join(words)}"


def _download(repository: str, weights: Sequence[str], beside: Sequence[str]) -> Path:
    """A hub id → the local folder of these files alone: the first of the weights that it has, and what belongs beside them."""
    import huggingface_hub  # slow to import, and needed by those alone who name a hub id

    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", repository):
        raise FileNotFoundError(
            f"A checkpoint must be a local path or a hub id; got {repository!r}: there is nothing at this path, and it is no hub"
            f" id.\n  fix: pass the path of a FOLDER with {_needed(weights, beside)} (dna.checkpoint in the recipes)."
        )
    try:
        for name in weights:
            folder = Path(huggingface_hub.snapshot_download(repository, allow_patterns=[*beside, name]))
            if (folder / name).is_file():
                break
        if name.endswith(_INDEX) and (folder / name).is_file():
            shards = sorted(set(read_index(folder / name).values()))
            folder = Path(huggingface_hub.snapshot_download(repository, allow_patterns=[*beside, name, *shards]))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"A checkpoint must be a local path or a hub id; no path {repository!r} exists, and the hub did not give it:"
            f" {type(error).__name__}: {error}\n"
            f"  fix: where there is a network, `hf download {repository} --local-dir FOLDER`, or place {_needed(weights, beside)}"
            " in a FOLDER; then pass checkpoint=FOLDER (dna.checkpoint in the recipes)."
        ) from error
    return folder

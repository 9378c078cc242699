"""Evo 2's files: a model name, hub id, folder or file flows in, one checkpoint's files and its configuration flow out.

A model is known by its name: shapes do not tell the 8 k, 262 k and Microviridae networks of 7 billion parameters apart, and the
config.json on the hub holds no configuration.
"""

import re
from pathlib import Path
from typing import NamedTuple

from encoders.evo2_config import PUBLISHED, REPOSITORIES, Evo2Config
from encoders.published import shard_files

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PARTS_ON_HUB = {"evo2_40b": 2, "evo2_40b_base": 2}
_PART = re.compile(r"(?P<whole>.+)\.part(?P<number>\d+)")


class Source(NamedTuple):
    """Where a checkpoint lies.

    `files` are one torch file or its parts in order, or safetensors; none where they are to be fetched from the hub. `config` is
    None where nothing but the shapes can tell the model.
    """

    files: list[Path]
    config: Evo2Config | None


def find_source(checkpoint: str | Path, model: str | None = None) -> Source:
    """What a checkpoint means, without the network.

    Args:
        checkpoint: a published model name or hub id; or a local folder or file (.pt, any part of one, .safetensors). A
            config.json beside a local file tells the configuration where it holds the settings of the published yml, else
            `model` does, else the file's name where it is a published one.
        model: a published model name.

    Raises:
        FileNotFoundError: neither a path nor a published model; a folder without weights; a part that is missing.
        ValueError: an unknown `model`, or one that contradicts the checkpoint; a folder with several checkpoints.
    """
    if model is not None and model not in PUBLISHED:
        raise ValueError(f"model must be one of {', '.join(PUBLISHED)}; got {model!r}.\n  fix: model=evo2_7b.")
    path = Path(checkpoint).expanduser()
    if path.exists() or _parts(path):
        files = _files(path)
        return Source(files, _config(files[0], model))
    name = _published_name(str(checkpoint))
    if name is None:
        raise FileNotFoundError(
            f"An Evo 2 checkpoint must be a local path, a published model or its hub id; no path {str(checkpoint)!r} exists.\n"
            f"  known: {', '.join(PUBLISHED)}\n  fix: pass one of these, or the path of its .pt file."
        )
    if model not in (None, name):
        raise ValueError(f"model is {model!r}, and the checkpoint is {name}.\n  fix: leave model out: the checkpoint names it.")
    return Source([], PUBLISHED[name])


def fetch(name: str) -> list[Path]:
    """The files of a published model from the hub, or from its cache on this machine.

    Raises:
        FileNotFoundError: the hub does not give them.
    """
    import huggingface_hub  # slow to import, and needed by those alone who name a hub id

    repository, whole = REPOSITORIES[name], f"{name}.pt"
    names = [f"{whole}.part{i}" for i in range(PARTS_ON_HUB[name])] if name in PARTS_ON_HUB else [whole]
    try:
        return [Path(huggingface_hub.hf_hub_download(repository, file)) for file in names]
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name} is to be fetched from the hub, as no path of this name exists, and the hub did not give it:"
            f" {type(error).__name__}: {error}\n"
            f"  file: {' and '.join(names)} of {repository}\n"
            f"  fix: where there is a network, `hf download {repository} {' '.join(names)} --local-dir FOLDER`; then pass"
            f" checkpoint=FOLDER/{names[0]} (dna.checkpoint in the recipes)."
        ) from error


def _files(path: Path) -> list[Path]:
    """The files of the one checkpoint that a path names."""
    if not path.is_dir():
        return [path] if path.is_file() and not _PART.fullmatch(path.name) else _parts(path)
    if (path / INDEX).is_file():
        return shard_files(path / INDEX)
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    found = sorted({str(_whole(file)) for file in path.iterdir() if _whole(file).suffix == ".pt"})
    if len(found) > 1:
        listed = ", ".join(Path(each).name for each in found)
        raise ValueError(
            f"A checkpoint folder must hold one model; found {listed}.\n  file: {path}\n  fix: pass the file's path."
        )
    if not found:
        held = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"An Evo 2 folder must hold NAME.pt, NAME.pt.part0 and so on, {INDEX} or {SINGLE}; this one holds {held}.\n"
            f"  file: {path}\n  fix: copy the published files there, under their published names."
        )
    whole = Path(found[0])
    return [whole] if whole.is_file() else _parts(whole)


def _whole(path: Path) -> Path:
    """The file that a part is one of; the path itself where it is no part."""
    named = _PART.fullmatch(path.name)
    return path.with_name(named["whole"]) if named else path


def _parts(path: Path) -> list[Path]:
    """All parts of a file in order, told from its own path or that of any part; empty where there are none."""
    whole = _whole(path)
    if not whole.parent.is_dir():
        return []
    numbers = sorted(
        int(named["number"])
        for file in whole.parent.iterdir()
        if (named := _PART.fullmatch(file.name)) and named["whole"] == whole.name
    )
    if numbers and numbers != list(range(len(numbers))):
        missing = min(set(range(numbers[-1])) - set(numbers))
        raise FileNotFoundError(
            f"Parts 0 to {numbers[-1]} of {whole.name} are needed; {whole.name}.part{missing} is missing.\n"
            f"  file: {whole.parent}\n  fix: put all parts into one folder; they are read in place, not merged."
        )
    needed = PARTS_ON_HUB.get(whole.stem, 0) if numbers else 0
    if len(numbers) < needed:
        raise FileNotFoundError(
            f"{whole.stem} has {needed} parts; only {len(numbers)} are here, and {whole.name}.part{len(numbers)} is missing.\n"
            f"  file: {whole.parent}\n  fix: put all parts into one folder; they are read in place, not merged."
        )
    return [whole.with_name(f"{whole.name}.part{number}") for number in numbers]


def _config(file: Path, model: str | None) -> Evo2Config | None:
    """The configuration of a local file, by its config.json, by `model` or by its name."""
    beside = file.parent / "config.json"
    config = Evo2Config.from_file(beside) if beside.is_file() else None
    if config is None:
        name = model or _published_name(_whole(file).stem)
        return None if name is None else PUBLISHED[name]
    if model not in (None, config.published_name):
        of = config.published_name or "no published model by name"
        raise ValueError(
            f"model is {model!r}, and the config.json beside the weights is of {of}.\n"
            f"  file: {beside}\n  fix: leave model out, or remove the config.json."
        )
    return config


def _published_name(text: str) -> str | None:
    by_repository = {repository: name for name, repository in REPOSITORIES.items()}
    return text if text in PUBLISHED else by_repository.get(text)

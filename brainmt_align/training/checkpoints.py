"""The files of a run: weights, optimiser state and provenance flow in and out of its folder, each file written atomically."""

import hashlib
import importlib.metadata
import json
import pickle
import platform
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from brainmt_align.atomic import write_atomically
from brainmt_align.listing import list_faults
from brainmt_align.training.run_folder import STATE, RunFolder, check_run_folder, close_run_folder, open_run_folder
from encoders.published import state_faults

__all__ = [
    "STATE", "History", "RunFolder", "Stateful", "Weights", "check_run_folder", "close_run_folder", "load_progress",
    "load_weights", "open_run_folder", "provenance", "read_description", "read_weights", "require_description", "require_kind",
    "save_progress", "save_weights", "write_json",
]  # fmt: skip

PACKAGES = ("brainmt-align", "torch", "accelerate", "transformers", "numpy", "numba", "nibabel", "pysam", "safetensors")
HASHED_BYTES = 1 << 30


class Stateful(Protocol):
    """A model, an optimiser, a schedule, a gradient scaler."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...


def write_json(path: Path, content: dict) -> None:
    """Write `content` as readable JSON; NaN is refused, None is null."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text))


def save_weights(path: Path, model: nn.Module, description: dict) -> None:
    """Save a model's parameters and buffers as safetensors, with what is needed to build it again as metadata.

    Args:
        path: a .safetensors file.
        model: unwrapped.
        description: JSON-ready facts about the model and its data (shapes, orientation, regions …).
    """
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    metadata = {"brainmt_align": json.dumps(description)}
    write_atomically(path, lambda partial: save_file(tensors, partial, metadata))


def read_description(path: Path) -> dict:
    """The facts that `save_weights` wrote beside the weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of ours, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"A checkpoint of this project was expected, got no file.\n  file: {path}\n"
            "  fix: name best.safetensors of a run folder."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"A checkpoint in safetensors form was expected, got a file that cannot be read as one ({error}).\n"
            f"  file: {path}\n  fix: name best.safetensors of a run folder, or train again."
        ) from error
    if "brainmt_align" not in metadata:
        raise ValueError(
            "A checkpoint written by recipes/contrastive.py was expected, got safetensors without its description.\n"
            f"  file: {path}\n  fix: official BrainMT weights go under fmri.checkpoint, not checkpoint."
        )
    return json.loads(metadata["brainmt_align"])


def load_weights(path: Path, model: nn.Module, description: dict | None = None) -> None:
    """Fill a model from `save_weights`; all faults come as one list.

    Args:
        path: a .safetensors file of `save_weights`.
        model: unwrapped.
        description: what today's model and data are like; every entry must equal the checkpoint's. None: not compared.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of ours, another description, or parameters missing, unknown or of another shape.
    """
    recorded = read_description(path)
    found, wanted = load_file(path), model.state_dict()
    if faults := _differences(description or {}, recorded) + state_faults(found, wanted):
        raise ValueError(_misfit(path, faults))
    model.load_state_dict(found)


ALIGNMENT, PHENOTYPE = "an alignment", "a phenotype model"
RECIPES = {ALIGNMENT: "recipes/contrastive.py", PHENOTYPE: "recipes/phenotype.py"}


class Weights(NamedTuple):
    """A checkpoint's tensors and what `save_weights` wrote beside them."""

    state: dict[str, torch.Tensor]
    description: dict


def kind_of(path: Path) -> str:
    """ALIGNMENT or PHENOTYPE, whichever a checkpoint is one of; errors as for `read_description`."""
    return PHENOTYPE if "targets" in read_description(path) else ALIGNMENT


def require_kind(path: Path, kind: str) -> dict:
    """The description of a checkpoint of the wanted kind.

    Args:
        path: a .safetensors file of `save_weights`.
        kind: ALIGNMENT (of recipes/contrastive.py) or PHENOTYPE (of recipes/phenotype.py).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of ours, or of the other kind.
    """
    found = kind_of(path)
    if found != kind:
        raise ValueError(
            f"A checkpoint of {kind} was expected, got one of {found}.\n  file: {path}\n"
            f"  fix: name best.safetensors of a run of {RECIPES[kind]}."
        )
    return read_description(path)


def require_description(path: Path, expected: dict, kind: str) -> dict:
    """The description of a checkpoint of the wanted kind and data; arguments and errors as for `read_weights`."""
    recorded = require_kind(path, kind)
    if faults := _differences(expected, recorded):
        raise ValueError(_misfit(path, faults))
    return recorded


def read_weights(path: Path, expected: dict, kind: str = ALIGNMENT) -> Weights:
    """The tensors of a checkpoint for a model that takes some of them, or that is built from its description.

    Args:
        path: a .safetensors file of `save_weights`.
        expected: entries that its description must have.
        kind: see `require_kind`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of ours, of the other kind, or of other data.
    """
    recorded = require_description(path, expected, kind)
    return Weights(load_file(path), recorded)


class History(NamedTuple):
    """Figures of the training so far, one dict a row."""

    steps: list[dict[str, float]]
    epochs: list[dict[str, float | None]]


def save_progress(folder: Path, parts: dict[str, Stateful], history: History, description: dict, criterion: str) -> None:
    """Leave everything an interrupted run needs, and the best weights so far.

    Writes best.safetensors when the newest epoch has the smallest `criterion`, last.safetensors, steps.csv and epochs.csv, and
    last of all, in one step, last.state.pt: the states of all parts and the history, so that nothing in it can disagree.

    Args:
        folder: the run folder.
        parts: unwrapped model (under "model"), optimiser, schedule and whatever else has a state_dict of tensors and numbers.
        history: up to and with the newest epoch.
        description: see `save_weights`; all of it must be the same when the run goes on.
        criterion: column of `history.epochs` that chooses the best checkpoint; smaller is better, the earlier of equals stays.
    """
    scores = [row[criterion] for row in history.epochs]
    dated = {**description, "epoch": len(scores) - 1}
    if scores.index(min(scores)) == len(scores) - 1:
        save_weights(folder / "best.safetensors", parts["model"], dated)
    save_weights(folder / "last.safetensors", parts["model"], dated)
    for name, rows in history._asdict().items():
        write_atomically(folder / f"{name}.csv", partial(pd.DataFrame(rows).to_csv, index=False))
    states = {name: part.state_dict() for name, part in parts.items()}
    state = {"parts": states, "description": json.dumps(description), **history._asdict()}
    write_atomically(folder / STATE, partial(torch.save, state))


def load_progress(folder: Path, parts: dict[str, Stateful], description: dict) -> History:
    """Put all parts where `save_progress` left them; nothing in the file is executed.

    Args:
        folder: the run folder.
        parts: as for `save_progress`.
        description: of today.

    Raises:
        ValueError: the run began under another description, whose differences are listed; or last.state.pt or
            best.safetensors is missing or damaged.
    """
    state = _read_state(folder)
    faults = _differences(description, json.loads(state["description"]))
    if faults:
        raise ValueError(
            f"An interrupted run can only go on as it began, got {len(faults)} differences:\n"
            f"{list_faults(faults, len(faults))}  file: {folder / STATE}\n"
            "  fix: launch it as before, or set out= to another place."
        )
    for name, part in parts.items():
        part.load_state_dict(state["parts"][name])
    return History(state["steps"], state["epochs"])


def _read_state(folder: Path) -> dict:
    """The content of last.state.pt; best.safetensors, which the run ends with, is looked at as well."""
    file = folder / STATE
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        file = folder / "best.safetensors"
        read_description(file)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"An interrupted run goes on from whole files, got one that is missing or damaged ({reason}).\n"
            f"  file: {file}\n  fix: put the file back, or delete {folder / STATE} to start this run anew."
        ) from error
    return state


def provenance(files: dict[str, Path | str | None], extra: dict[str, object]) -> dict[str, object]:
    """What a reader needs to know where figures come from: versions, git commit, data hashes.

    Args:
        files: input files by configuration key; None and folders are skipped. Above 1 GiB size and time stand for the hash.
        extra: facts that the recipe adds.
    """
    return {
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "inputs": {key: _fingerprint(Path(path)) for key, path in files.items() if path is not None and Path(path).is_file()},
        **extra,
    }


def _misfit(path: Path, faults: list[str]) -> str:
    return (
        f"The checkpoint must fit the model and the data that the configuration describes, got {len(faults)} differences:\n"
        f"{list_faults(faults)}  file: {path}\n  fix: take data.*, fmri.* and dna.* from the config.yaml beside the checkpoint."
    )


def _differences(expected: dict, recorded: dict) -> list[str]:
    """One line for every entry of `expected` that `recorded` lacks or has otherwise."""
    expected = json.loads(json.dumps(expected))
    return [f"{key}: expected {value}, got {recorded.get(key)}" for key, value in expected.items() if recorded.get(key) != value]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout this code runs from, with '+changes' when the tree differs from it.

    None for a package that is installed somewhere inside the repository of another project: that one does not track this file.
    """
    here = Path(__file__).resolve()
    ask = partial(subprocess.run, cwd=here.parent, capture_output=True, text=True, check=True)
    try:
        ask(["git", "ls-files", "--error-unmatch", here.name])
        head, status = ask(["git", "rev-parse", "HEAD"]), ask(["git", "status", "--porcelain", "-uno"])
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def _fingerprint(path: Path) -> dict[str, object]:
    stat = path.stat()
    facts: dict[str, object] = {"name": path.name, "bytes": stat.st_size}
    if stat.st_size > HASHED_BYTES:
        return {**facts, "modified": stat.st_mtime}
    with path.open("rb") as file:
        return {**facts, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

"""The place of a run: a path and a configuration flow in; a folder that this process alone works in flows out."""

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from brainmt_align.atomic import require_writable, write_atomically
from brainmt_align.folder_lock import check_folder, hold_folder, move_held_folder, release_folder

STATE = "last.state.pt"
TRACKER_FOLDERS = {"wandb", "brainmt-align"}  # what Accelerate's trackers make in a run folder
FIT_FOLDER = re.compile(r"(fmri|dna|both)_seed\d+_fold\d+")  # of one model of a run that trains several
FREE_KEYS = (
    "threads",
    "train.workers",
    "tracker",
    "out",
    "stores.bold",
    "stores.dna",
    "stores.alleles",
)  # cannot change a result
OWN = "A run folder of this run's own", "out"


class RunFolder(NamedTuple):
    """Whether an interrupted run goes on, where an earlier run's files went, and both in words."""

    resumed: bool
    archived: Path | None
    note: str | None


def check_run_folder(path: Path, *inputs: str | Path | None) -> None:
    """Refuse a place that holds something else than a run, before any work; changes nothing.

    A run's folder holds config.yaml and files; of folders only a tracker's and those of the models of a run that trains several.

    Args:
        path: where a run shall leave its files.
        inputs: files that the run reads and that must not be moved away with an earlier run; None is skipped.

    Raises:
        FileExistsError: the place is a file or lies under one, is the working folder, is a folder that is neither empty nor a
            run's, or holds one of the inputs.
        PermissionError: nothing can be written there.
        RuntimeError: another process works there.
    """
    place = path.resolve()
    held = [str(each) for each in inputs if each is not None and Path(each).resolve().is_relative_to(place)]
    if held or place == Path.cwd() or any(parent.is_file() for parent in place.parents):
        got = f"one that holds {', '.join(held)}" if held else "the working folder, or a place under a file"
        raise FileExistsError(
            f"A folder of the run's own was expected, got {got}.\n  file: {path}\n  fix: set out= to another place."
        )
    entries = sorted(path.iterdir()) if path.is_dir() else []
    inside = [entry for entry in entries if not entry.name.startswith(".") and ".partial-" not in entry.name]
    folders = [entry.name for entry in inside if entry.is_dir()]
    foreign = [name for name in folders if name not in TRACKER_FOLDERS and not FIT_FOLDER.fullmatch(name)]
    if (path.exists() and not path.is_dir()) or foreign or (inside and not (path / "config.yaml").is_file()):
        got = "a file" if not inside else f"a folder with {', '.join(foreign[:3] or [entry.name for entry in inside[:3]])}"
        raise FileExistsError(
            f"A new folder or that of an earlier run was expected, got {got}.\n  file: {path}\n  fix: set out= to another place."
        )
    require_writable(path, "out")
    check_folder(path, *OWN)


def open_run_folder(path: Path, config_yaml: str, product: str = "metrics.json", resumable: str = STATE) -> RunFolder:
    """Make room for a run without losing an earlier one, and keep other processes out until `close_run_folder`.

    An interrupted run (resumable state, but no product) with the same configuration is continued, FREE_KEYS aside; any other
    earlier run in this place is renamed to `<name>-<time it was last written>`.

    Args:
        path: the run folder.
        config_yaml: the resolved configuration; saved as config.yaml.
        product: file that a finished run holds.
        resumable: file that an interrupted run can be continued from.

    Raises:
        FileExistsError, PermissionError, RuntimeError: see `check_run_folder`.
    """
    check_run_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    hold_folder(path, *OWN)
    config_file, archived, changed = path / "config.yaml", None, []
    if (path / resumable).exists() and not (path / product).exists():
        changed = _changed_keys(config_file.read_text(), config_yaml)
        if not changed:
            for torn in path.rglob("*.partial-*"):
                torn.unlink()
            write_atomically(config_file, lambda partial: partial.write_text(config_yaml))
            return RunFolder(True, None, f"The interrupted run in {path} goes on")
    if config_file.exists():
        files = [file for file in path.iterdir() if not file.name.startswith(".")]
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(max(file.stat().st_mtime for file in files)))
        archived = _free_name(path.with_name(f"{path.name}-{stamp}"))
        move_held_folder(path, archived, *OWN)
    write_atomically(config_file, lambda partial: partial.write_text(config_yaml))
    note = f"An earlier run was in {path}; it is now {archived}" if archived else None
    if changed:
        note = f"{note}. It was interrupted, but cannot go on with other settings: {'; '.join(changed)}"
    return RunFolder(False, archived, note)


def close_run_folder(path: Path) -> None:
    """Let other processes work in a run folder again; nothing happens where this process does not hold it."""
    release_folder(path)


def _changed_keys(earlier: str, today: str) -> list[str]:
    """Every key that can change a result and differs, with both values."""
    was, now = (_flat(OmegaConf.to_container(OmegaConf.create(text))) for text in (earlier, today))
    differ = [key for key in {**now, **was} if key not in FREE_KEYS and was.get(key) != now.get(key)]
    return [f"{key} was {was.get(key)}, is {now.get(key)}" for key in differ]


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    return {name: leaf for key, each in values.items() for name, leaf in _flat(each, f"{prefix}.{key}".lstrip(".")).items()}


def _free_name(path: Path) -> Path:
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free

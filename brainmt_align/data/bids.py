"""BIDS: a raw or fMRIPrep folder flows in; one row a BOLD run, with its mask and its confounds, flows out."""

import json
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd

# Entities that tell versions of one acquisition apart, not acquisitions.
VERSION_ENTITIES = {"space", "cohort", "res", "den", "desc", "echo", "part"}
RESOLUTION_ENTITIES = ("cohort", "res", "den")
DISPLACEMENT = "framewise_displacement"  # column of a confounds table, mm
NOT_MAGNITUDE = {"phase", "real", "imag"}


class SaidTime(NamedTuple):
    """A repetition time and the sidecar that says it; 0 and None where none does."""

    seconds: float
    sidecar: Path | None


def find_runs(folder: str | Path, space: str | None = None, desc: str = "preproc") -> pd.DataFrame:
    """Lists the BOLD runs of a BIDS or fMRIPrep folder, one row a run, sorted by run_id.

    A preprocessed file (`desc-<desc>`) stands in for the raw file of the same acquisition, a combined file for its single
    echoes; files with another desc and those of phase, real or imaginary part are passed over. A mask belongs to a run when
    all their entities but desc agree, confounds when those of the acquisition do.

    Args:
        folder: searched with all its subfolders, through symbolic links too; each folder counts once, however many links show it.
        space: which `space-` to take, e.g. "MNI152NLin2009cAsym", with "_res-2" behind it where there are several
            resolutions, or "native" for files without that entity. Needed only when there are several. The exact name
            goes first; where no file has it, any resolution of that space is taken.
        desc: which preprocessed version, e.g. "preproc" (fMRIPrep) or "denoised" (XCP-D).

    Returns:
        subject_id (text without "sub-"), run_id (file name without `_bold`/`_desc-…_bold`), bold_path, mask_path,
        confounds_path (text; missing where there is none).

    Raises:
        FileNotFoundError: no such folder, or no run in it.
        ValueError: several spaces and no choice, an unknown space, single echoes without their combination, or two files with
            one run_id.

    Reference:
        Gorgolewski et al. 2016, The brain imaging data structure, Scientific Data 3:160044.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"BOLD runs: a BIDS folder was expected, got no folder.\n  file: {folder}\n  fix: correct data.bold."
        )
    files = sorted(_walk(folder))
    bolds = [path for path in files if re.fullmatch(r"sub-.*_bold\.nii(\.gz)?", path.name)]
    bolds = [path for path in bolds if _entities(path).get("part") not in NOT_MAGNITUDE]
    bolds = [path for path in bolds if _entities(path).get("desc", desc) == desc]
    if not bolds:
        raise FileNotFoundError(_nothing_found(folder, files, desc))
    preprocessed = {_acquisition(path) for path in bolds if "desc" in _entities(path)}
    bolds = [path for path in bolds if "desc" in _entities(path) or _acquisition(path) not in preprocessed]
    bolds = _choose_space(_combined_echoes(bolds), space, folder)
    masks = {_version(path): str(path) for path in files if fnmatch(path.name, "sub-*_desc-brain_mask.nii*")}
    confounds = {_acquisition(path): str(path) for path in files if fnmatch(path.name, "sub-*_desc-confounds_*.tsv")}
    columns = {
        "subject_id": [_entities(path)["sub"] for path in bolds],
        "run_id": [run_id_of(path) for path in bolds],
        "bold_path": [str(path) for path in bolds],
        "mask_path": [masks.get(_version(path)) for path in bolds],
        "confounds_path": [confounds.get(_acquisition(path)) for path in bolds],
    }
    table = pd.DataFrame(columns, dtype="str").sort_values("run_id", ignore_index=True)
    twice = table.loc[table["run_id"].duplicated(keep=False), "bold_path"]
    if len(twice):
        raise ValueError(
            f"BOLD runs: one file a run was expected, got {len(twice)} files that share their run_id.\n  file: "
            + "\n  file: ".join(twice)
            + "\n  fix: keep one of each, or point data.bold at one pipeline's folder."
        )
    return table


def run_id_of(bold: str | Path) -> str:
    """The file name without `.nii[.gz]` and without `_bold` or `_desc-…_bold`."""
    return re.sub(r"(_desc-[^_]+)?_bold$", "", _stem(Path(bold)))


def sidecars_of(bold: str | Path) -> list[Path]:
    """The .json files that describe a run: the one of its name, then those that it inherits, nearest first.

    A file is inherited from the run's folder and those above it, up to the data set's root (the nearest folder with a
    dataset_description.json, else the one that holds `sub-<label>`), when it ends in `_bold` too and all its entities are
    among the run's. In one folder the file with more entities comes first.

    Reference:
        The inheritance principle, BIDS specification 1.9, common principles.
    """
    path = Path(bold)
    names = [_stem(path)]
    if path.name.startswith("sub-") and names[0].endswith("_bold"):
        # Named instead of listed: the root of a large data set holds tens of thousands of folders.
        pairs = [part for part in names[0].split("_") if "-" in part]
        chosen = [some for count in range(len(pairs), -1, -1) for some in combinations(pairs, count)]
        names = list(dict.fromkeys([names[0], *("_".join([*some, "bold"]) for some in chosen)]))
    candidates = (folder / f"{name}.json" for folder in _folders_up_to_root(path) for name in names)
    return [candidate for candidate in candidates if candidate.is_file()]


def sidecar_repetition_time(bold: str | Path) -> SaidTime:
    """RepetitionTime of the nearest sidecar that has one.

    Raises:
        ValueError: a sidecar that is no JSON object or whose RepetitionTime is no number.
    """
    for sidecar in sidecars_of(bold):
        try:
            entries = json.loads(sidecar.read_text(encoding="utf-8"))
            if entries.get("RepetitionTime") is not None:
                return SaidTime(float(entries["RepetitionTime"]), sidecar)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"BIDS sidecar: a JSON object with RepetitionTime in seconds was expected, got: {error}.\n"
                f"  file: {sidecar}\n  fix: repair or remove it."
            ) from error
    return SaidTime(0.0, None)


def mean_displacement(confounds: str | Path | None) -> float:
    """Mean framewise displacement of a run in mm, over the frames that have one (the first has none); NaN where nothing tells.

    Args:
        confounds: fMRIPrep's table of the run, with a column framewise_displacement; None or missing: there is none.

    Raises:
        ValueError: a table that cannot be read, or displacements that are no numbers.

    Reference:
        Power et al. 2012, Spurious but systematic correlations in functional connectivity, NeuroImage 59:2142.
    """
    if pd.isna(confounds) or not Path(confounds).is_file():
        return float("nan")
    try:
        frames = pd.read_csv(confounds, sep="\t", usecols=lambda name: name == DISPLACEMENT, na_values="n/a")
        return float(frames[DISPLACEMENT].astype(float).mean()) if DISPLACEMENT in frames else float("nan")
    except ValueError as error:
        raise ValueError(
            f"Confounds: a table with {DISPLACEMENT} in mm was expected, got: {str(error).strip()}.\n"
            f"  file: {confounds}\n  fix: repair the file or take it away; the run's motion is then not told."
        ) from error


def _folders_up_to_root(path: Path) -> list[Path]:
    """The folder of a run and those above it, up to the data set's root; the folder alone where no root shows."""
    above = list(path.absolute().parents)
    for height, folder in enumerate(above):
        if (folder / "dataset_description.json").is_file():
            return above[: height + 1]
    subject = [height for height, folder in enumerate(above) if folder.name.startswith("sub-")]
    return above[: subject[-1] + 2] if subject else above[:1]


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, through symbolic links; a folder that was seen is not entered again, so that links may circle."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Real folders first, so that a run keeps its own path where a link shows it too.
        folders.sort(key=lambda name: (Path(place, name).is_symlink(), name))
        yield from (Path(place, name) for name in names)


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$|\.tsv$", "", path.name)


def _entities(path: Path) -> dict[str, str]:
    return dict(part.split("-", 1) for part in _stem(path).split("_") if "-" in part)


def _acquisition(path: Path) -> frozenset:
    return frozenset(pair for pair in _entities(path).items() if pair[0] not in VERSION_ENTITIES)


def _version(path: Path) -> frozenset:
    return frozenset(pair for pair in _entities(path).items() if pair[0] != "desc")


def _space(path: Path) -> str:
    entities = _entities(path)
    finer = [f"{key}-{entities[key]}" for key in RESOLUTION_ENTITIES if key in entities]
    return "_".join([entities.get("space", "native"), *finer])


def _combined_echoes(bolds: list[Path]) -> list[Path]:
    """The files without the single echoes whose combination is among them; echoes alone are no run of the person."""
    combined = {_acquisition(path) for path in bolds if "echo" not in _entities(path)}
    bolds = [path for path in bolds if "echo" not in _entities(path) or _acquisition(path) not in combined]
    echoes: dict[frozenset, dict[str, Path]] = {}
    for path in bolds:
        echoes.setdefault(_acquisition(path), {}).setdefault(_entities(path).get("echo", ""), path)
    several = [list(paths.values()) for paths in echoes.values() if len(paths) > 1]
    if several:
        first = several[0]
        raise ValueError(
            f"BOLD runs: one file an acquisition was expected, got single echoes of {len(several)}, "
            f"such as {first[0].name} and {len(first) - 1} more.\n  file: {first[0]}\n"
            "  fix: give the combined run (fMRIPrep makes it, without echo- in its name) and let data.bold name its folder."
        )
    return bolds


def _choose_space(bolds: list[Path], space: str | None, folder: Path) -> list[Path]:
    exact = [path for path in bolds if _space(path) == space]
    chosen = exact or [path for path in bolds if space is None or f"{_space(path)}_".startswith(f"{space}_")]
    spaces = pd.Series([_space(path) for path in chosen or bolds])
    if chosen and spaces.nunique() == 1:
        return chosen
    found = ", ".join(f"{name} ({count} runs)" for name, count in spaces.value_counts().sort_index().items())
    wanted = "one space" if space is None else f"space={space}"
    raise ValueError(
        f"BOLD runs: {wanted} was expected, got {found}.\n  file: {folder}\n  fix: set data.space to one of these names."
    )


def _nothing_found(folder: Path, files: list[Path], desc: str) -> str:
    names = sorted(path.name for path in files)
    examples = ", ".join(names[:: max(1, len(names) // 3)][:3]) or "an empty folder"
    return (
        f"BOLD runs: sub-*_desc-{desc}_bold.nii[.gz] or sub-*_bold.nii[.gz] was expected, got none in {len(names)} "
        f"files: {examples}.\n  file: {folder}\n  fix: set data.bold to the BIDS or fMRIPrep folder."
    )

"""BOLD store: NIfTI runs and their masks flow in; one safetensors file a run, for `stored_run` to read, flows out.

A file holds `data_TV` (float16, in-mask) and `voxels` (int32, flat C-order indices into the grid D, H, W), and as JSON in
its metadata under "header" everything else: see `_header`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from safetensors.numpy import save_file
from tqdm import tqdm

from brainmt_align.atomic import require_writable, write_atomically
from brainmt_align.data.bids import mean_displacement, run_id_of, sidecars_of
from brainmt_align.data.bold import BoldRun, read_bold
from brainmt_align.data.stored_run import FORMAT, FORMAT_VERSION, StoredRun, mask_hash, open_run
from brainmt_align.listing import list_faults

__all__ = [
    "StoredRun", "build", "build_run", "check_orientation", "common_volume_shape", "open_run", "sources_hash",
]  # fmt: skip


class _Outcome(NamedTuple):
    path: Path | None
    fault: str | None


def build_run(
    bold: str | Path,
    mask: str | Path | None,
    folder: str | Path,
    *,
    run_id: str | None = None,
    orientation: str = "RAS",
    normalisation: str = "global",
    min_frames: int = 1,
    tr_s: float | None = None,
) -> Path:
    """Stores one run as `folder/<orientation>_<normalisation>/<run_id>.safetensors`, unless it is there already.

    It is there when the file has these settings and its sources (run, mask, BIDS sidecars) have the recorded sizes and either
    the recorded times of change or the recorded SHA-256.

    Args:
        bold, mask, orientation, normalisation, min_frames, tr_s: as in `bold.read_bold`.
        folder: of the store.
        run_id: None: the file name without `_bold` or `_desc-…_bold`.

    Raises:
        FileNotFoundError, ValueError: as `bold.read_bold`; or the run_id is no file name, or belongs to another run.
        PermissionError: the run must be stored, but nothing can be written there.
    """
    sources = {"bold": bold, "mask": mask, **_sidecar_roles(bold)}
    sources = {role: Path(path).absolute() for role, path in sources.items() if path is not None}
    run_id = run_id_of(bold) if run_id is None else run_id
    if run_id in ("", "..") or Path(run_id).name != run_id:
        raise ValueError(
            f"run_id: a plain file name was expected, got {run_id!r}.\n  file: {bold}\n  fix: give a name without slashes."
        )
    settings = {"orientation": orientation, "normalisation": normalisation, "tr_s": tr_s}
    target = _target(folder, orientation, normalisation, run_id)
    if target.exists() and _is_finished(target, sources, settings, min_frames):
        return target
    require_writable(target.parent, "stores.bold")
    run = read_bold(bold, mask, orientation, normalisation, min_frames, tr_s)
    header = _header(run, run_id, settings, sources)
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "header": json.dumps(header)}
    tensors = {"data_TV": run.data_TV, "voxels": run.voxels}
    return write_atomically(target, lambda partial: save_file(tensors, partial, metadata))


def build(
    runs: pd.DataFrame,
    folder: str | Path,
    *,
    orientation: str = "RAS",
    normalisation: str = "global",
    min_frames: int = 1,
    tr_s: float | None = None,
    workers: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Stores all runs; those that are there already are kept, so that it goes on where it stopped.

    Args:
        runs: columns run_id, bold_path and, where there are masks, mask_path (may be missing in a row);
            confounds_path, where it is known, tells the motion.
        folder, orientation, normalisation, min_frames, tr_s: as in `build_run`.
        workers: processes that read at the same time (0.8 GB each for a 2 mm run of 490 frames).
        progress: show a bar.

    Returns:
        runs with mean_fd_mm (mean framewise displacement; NaN where no confounds tell it), store_path (text), num_frames, tr_s
            (seconds), voxels (in the mask), depth, height, width.

    Raises:
        ValueError: a column is missing, no run at all, a run_id twice; after all the good runs were stored, how many could not
            be, and the first of them; or, last, an unreadable table of confounds.
        PermissionError: runs are missing, and nothing can be written to the store; a complete one may be read-only.
    """
    folder = Path(folder)
    _check_table(runs, folder)
    if not all(_target(folder, orientation, normalisation, str(run_id)).exists() for run_id in runs["run_id"]):
        require_writable(folder / f"{orientation}_{normalisation}", "stores.bold")
    settings = {"orientation": orientation, "normalisation": normalisation, "min_frames": min_frames, "tr_s": tr_s}
    masks = runs["mask_path"] if "mask_path" in runs else [None] * len(runs)
    jobs = [
        {"bold": bold, "mask": None if pd.isna(mask) else mask, "folder": folder, "run_id": str(run_id), **settings}
        for run_id, bold, mask in zip(runs["run_id"], runs["bold_path"], masks, strict=True)
    ]
    outcomes = _outcomes(jobs, workers)
    outcomes = list(tqdm(outcomes, total=len(jobs), desc="BOLD store", unit="run", disable=not progress))
    faults = [f"{job['run_id']}: {outcome.fault}" for job, outcome in zip(jobs, outcomes, strict=True) if outcome.fault]
    if faults:
        raise ValueError(
            f"BOLD store: all {len(jobs)} runs were expected to be stored, got {len(faults)} that cannot be (the others are):\n"
            f"{list_faults(faults)}  file: {folder}\n  fix: repair these runs or drop them from the table."
        )
    stored = [open_run(outcome.path) for outcome in outcomes]
    depth, height, width = zip(*(run.volume_shape for run in stored), strict=True)
    if "mean_fd_mm" not in runs:  # a pair table may tell it
        confounds = runs["confounds_path"] if "confounds_path" in runs else [None] * len(runs)
        runs = runs.assign(mean_fd_mm=[mean_displacement(path) for path in confounds])
    return runs.assign(
        store_path=[str(run.path) for run in stored],
        tr_s=[run.tr_s for run in stored],
        voxels=[run.num_voxels for run in stored],
        num_frames=[run.num_frames for run in stored],
        depth=depth,
        height=height,
        width=width,
    )


def common_volume_shape(runs: pd.DataFrame) -> tuple[int, int, int]:
    """(D, H, W) that all runs of `build`'s table share.

    Raises:
        ValueError: runs on several grids; lists them.
    """
    shapes = runs.groupby(["depth", "height", "width"], sort=True)["run_id"].agg(["count", "first"])
    if len(shapes) > 1:
        rows = (f"    {' x '.join(map(str, grid))}: {count} runs, such as {first}" for grid, count, first in shapes.itertuples())
        listed = "\n".join(rows)
        raise ValueError(
            f"grid: runs on one grid were expected, got {len(shapes)} grids (D x H x W):\n{listed}\n"
            f"  file: {Path(runs['store_path'].iloc[0]).parent}\n"
            "  fix: choose one space with data.space, or resample the runs to one grid."
        )
    return tuple(int(length) for length in shapes.index[0])


def sources_hash(store_paths: Iterable[str | Path]) -> str:
    """SHA-256 over the hashes of the BOLD files that stored runs came from, whatever the order of the runs."""
    hashes = sorted(open_run(path).header["sources"]["bold"]["sha256"] for path in store_paths)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def check_orientation(runs: Iterable[StoredRun], expected: str, wanted_by: str) -> None:
    """Raises when a run is stored in another orientation than, say, a checkpoint was trained with.

    Args:
        runs: opened runs.
        expected: three letters.
        wanted_by: what expects it, for the message, e.g. the path of a checkpoint.

    Raises:
        ValueError: names how many runs differ, and the first.
    """
    other = [run for run in runs if run.header["orientation"] != expected]
    if other:
        got = ", ".join(sorted({run.header["orientation"] for run in other}))
        raise ValueError(
            f"orientation: {expected} was expected by {wanted_by}, got {got} in {len(other)} stored runs.\n"
            f"  file: {other[0].path}\n  fix: set data.orientation={expected}; the runs are then stored again beside these."
        )


def _target(folder: str | Path, orientation: str, normalisation: str, run_id: str) -> Path:
    return Path(folder) / f"{orientation}_{normalisation}" / f"{run_id}.safetensors"


def _sidecar_roles(bold: str | Path) -> dict[str, Path]:
    """sidecar for the nearest, then sidecar_2 …: whichever tells the TR, a change of any stores the run again."""
    return {"sidecar" if place == 1 else f"sidecar_{place}": path for place, path in enumerate(sidecars_of(bold), start=1)}


def _check_table(runs: pd.DataFrame, folder: Path) -> None:
    missing = [name for name in ("run_id", "bold_path") if name not in runs]
    faults = [f"columns run_id and bold_path were expected, got {', '.join(map(str, runs.columns)) or 'none'}"] if missing else []
    if runs.empty:
        faults.append("at least one run was expected, got none")
    elif not missing and runs["run_id"].duplicated().any():
        twice = sorted(runs.loc[runs["run_id"].duplicated(), "run_id"].astype(str).unique())
        faults.append(f"one row a run_id was expected, got {len(twice)} run_ids more than once: {', '.join(twice)}")
    if faults:
        raise ValueError(f"BOLD runs: {'; '.join(faults)}.\n  file: (for the store) {folder}\n  fix: correct the table.")


def _outcomes(jobs: list[dict], workers: int) -> Iterator[_Outcome]:
    if workers <= 1:
        yield from map(_attempt, jobs)
        return
    # Not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_attempt, jobs)


def _attempt(job: dict) -> _Outcome:
    try:
        return _Outcome(build_run(**job), None)
    except (ValueError, OSError) as error:
        return _Outcome(None, str(error))


def _header(run: BoldRun, run_id: str, settings: dict, sources: dict[str, Path]) -> dict:
    return {
        "run_id": run_id,
        "num_frames": run.data_TV.shape[0],
        "num_voxels": run.data_TV.shape[1],
        "grid": list(run.grid),  # (D, H, W) = (Y, X, Z) of the oriented array
        "affine": run.affine.tolist(),  # millimetres, of the oriented (X, Y, Z) array
        "orientation": settings["orientation"],
        "normalisation": settings["normalisation"],
        "tr_s": run.tr_s,
        "background": run.background,
        "statistics": run.statistics,  # before normalisation
        "mask_rule": run.mask_rule,
        "mask_sha256": mask_hash(run.grid, run.voxels),
        "settings": settings,
        "sources": {role: _source(path) for role, path in sources.items()},
        "versions": {name: version(name) for name in ("brainmt-align", "nibabel", "numpy")},
    }


def _source(path: Path) -> dict:
    status = path.stat()
    return {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": _file_hash(path)}


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_finished(target: Path, sources: dict[str, Path], settings: dict, min_frames: int) -> bool:
    if not sources["bold"].is_file():
        return False
    try:
        header = open_run(target).header
    except ValueError:
        return False
    recorded = header["sources"]
    if recorded["bold"]["path"] != str(sources["bold"]) and not _is_same(recorded["bold"], sources["bold"]):
        raise ValueError(
            f"run_id: a name of its own was expected, got {target.stem}, which stores {recorded['bold']['path']}.\n"
            f"  file: {sources['bold']}\n  fix: give this cohort a store of its own (stores.bold), or the run another run_id; "
            f"where the stored run is no longer wanted, delete {target}."
        )
    if recorded.keys() != sources.keys() or header["settings"] != settings or header["num_frames"] < min_frames:
        return False
    return all(_is_same(recorded[role], path) for role, path in sources.items())


def _is_same(recorded: dict, path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != recorded["size"]:
        return False
    return path.stat().st_mtime_ns == recorded["mtime_ns"] or _file_hash(path) == recorded["sha256"]

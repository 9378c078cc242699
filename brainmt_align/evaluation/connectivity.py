"""Functional connectivity: stored runs and a division of their voxels into regions flow in; Fisher z of every pair flows out.

K regions, labelled 1 … K; edges are the K (K - 1) / 2 pairs.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from nilearn.connectome import ConnectivityMeasure
from nilearn.image import resample_img
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.covariance import EmpiricalCovariance
from tqdm import tqdm

from brainmt_align.data.bold import voxels_apart
from brainmt_align.data.stored_run import StoredRun, open_run
from brainmt_align.listing import some

MIN_FRAMES = 3  # two frames correlate by ±1 whatever they hold
LARGEST_CORRELATION = 1 - 1e-6  # Fisher z of at most 7.25
SAME_GRID_VOXELS = 1.0  # corners of two runs' grids may lie this far apart
VALUES_PER_BLOCK = 2**22  # of a run that are float64 at once: 32 MiB


def grid_regions(runs: Sequence[StoredRun], count: int, seed: int) -> np.ndarray:
    """Divides the voxels that all runs share into compact regions of similar size, by where they lie and nothing else.

    Args:
        runs: on one grid.
        count: how many regions.
        seed: of k-means on the voxels' millimetres.

    Returns:
        (D*H*W,) int32 in the flat C order of the store's grid: 1 … count, 0 outside.

    Raises:
        ValueError: no runs, grids that differ, no shared voxel, fewer than 2 regions or more than shared voxels.
    """
    voxels = _shared_voxels(runs)
    if not 2 <= count <= len(voxels):
        raise ValueError(
            f"Regions: expected 2 to {len(voxels)} of them, as many as {len(runs)} runs share voxels, got {count}.\n"
            "  fix: ask for another number of regions."
        )
    shape = runs[0].volume_shape
    y, x, z = np.unravel_index(voxels, shape)
    millimetres = apply_affine(np.array(runs[0].header["affine"]), np.column_stack([x, y, z]))
    labels = np.zeros(int(np.prod(shape)), np.int32)
    labels[voxels] = 1 + KMeans(count, n_init=1, random_state=seed).fit_predict(millimetres)
    return labels


def atlas_regions(atlas_path: str | Path, runs: Sequence[StoredRun]) -> np.ndarray:
    """The regions of an atlas on the runs' grid, by the nearest voxel; both must lie in the same space, which no file tells.

    Args:
        atlas_path: 3-D NIfTI of whole numbers, 0 outside.
        runs: on one grid.

    Returns:
        (D*H*W,) int32 in the flat C order of the store's grid: 1 … K in the order of the atlas' numbers, 0 outside and where not
        all runs have a voxel. Regions without a voxel in all runs are left out, and a warning names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no label image, fewer than 2 regions left, and what `grid_regions` complains of in the runs.
    """
    voxels = _shared_voxels(runs)
    atlas = _read_atlas(Path(atlas_path))
    depth, height, width = runs[0].volume_shape
    resampled = resample_img(
        atlas,
        target_affine=np.array(runs[0].header["affine"]),
        target_shape=(height, depth, width),  # the array is (X, Y, Z), the store's grid (Y, X, Z)
        interpolation="nearest",
        copy_header=True,
        force_resample=True,
    )
    numbers = np.asarray(resampled.dataobj).transpose(1, 0, 2).ravel()[voxels].astype(np.int64)
    kept = np.unique(numbers[numbers > 0])
    if len(kept) < 2:
        raise ValueError(
            f"Atlas: expected 2 regions or more within the voxels that {len(runs)} runs share, got {len(kept)}.\n"
            f"  file: {atlas_path}\n  fix: give an atlas in the space of the runs (data.space)."
        )
    lost = np.setdiff1d(np.unique(np.asarray(atlas.dataobj).astype(np.int64)), np.append(kept, 0))
    if lost.size:
        names = some([str(number) for number in lost])
        warnings.warn(
            f"Atlas: regions without a voxel in all runs are left out: {names}.\n  file: {atlas_path}", UserWarning, stacklevel=2
        )
    labels = np.zeros(depth * height * width, np.int32)
    labels[voxels] = np.where(numbers > 0, np.searchsorted(kept, numbers) + 1, 0)
    return labels


def cohort_regions(store_paths: Sequence[str | Path], count: int, seed: int, atlas_path: str | Path | None = None) -> np.ndarray:
    """The regions that a cohort's runs are compared in: an atlas's, or a grid's where none is named.

    Args:
        store_paths: files of the BOLD store.
        count, seed: as in `grid_regions`.
        atlas_path: as in `atlas_regions`.

    Returns:
        (D*H*W,) int32 labels, as these two give them; they say what is raised.
    """
    runs = [open_run(path) for path in store_paths]
    return atlas_regions(atlas_path, runs) if atlas_path else grid_regions(runs, count, seed)


def region_series(run: StoredRun, labels: np.ndarray) -> np.ndarray:
    """(T, K) float32: the mean of every region's voxels in each frame, in the unit of the store.

    Args:
        run: any run on the labels' grid.
        labels: (D*H*W,) of `grid_regions` or `atlas_regions`.

    Raises:
        ValueError: labels of another grid, or a region in which the run has no voxel.
    """
    if labels.shape != (int(np.prod(run.volume_shape)),):
        raise ValueError(
            f"Region series: labels of the run's grid {run.volume_shape} were expected, got {labels.shape}.\n"
            f"  file: {run.path}\n  fix: make regions from runs on the same grid."
        )
    label_V = labels[run.voxels()]
    inside = np.flatnonzero(label_V)
    sizes = np.bincount(label_V[inside] - 1, minlength=labels.max())
    if not sizes.all():
        raise ValueError(
            f"Region series: a voxel in each of {len(sizes)} regions was expected, got none in region "
            f"{np.flatnonzero(sizes == 0)[0] + 1}.\n  file: {run.path}\n  fix: make the regions with this run too, or drop it."
        )
    rows = label_V[inside] - 1
    membership_KV = csr_array((1 / sizes[rows], (rows, inside)), shape=(len(sizes), run.num_voxels))
    series_TK = np.empty((run.num_frames, len(sizes)), np.float32)
    step = max(1, VALUES_PER_BLOCK // run.num_voxels)
    for start in range(0, run.num_frames, step):
        block_TV = run.window(start, min(step, run.num_frames - start)).astype(np.float64)
        series_TK[start : start + step] = (membership_KV @ block_TV.T).T
    return series_TK


def connectivity(series: Iterable[np.ndarray], names: Sequence[str] | None = None) -> np.ndarray:
    """Fisher z of the correlation of every pair of regions, one row a run; |r| is cut at 1 - 10⁻⁶.

    Args:
        series: (T, K) a run, at least 3 frames; T may differ.
        names: what messages call the runs; their numbers by default.

    Returns:
        (n, K (K - 1) / 2) float32, the pairs in the order of the lower triangle, row by row.

    Raises:
        ValueError: no runs, runs of other shapes, values that are not finite, a region that does not vary.
    """
    measure = ConnectivityMeasure(
        cov_estimator=EmpiricalCovariance(store_precision=False),
        kind="correlation",
        vectorize=True,
        discard_diagonal=True,
        standardize="zscore_sample",
    )
    rows, regions = [], None
    for at, series_TK in enumerate(series):
        name = str(at) if names is None else names[at]
        _check_series(series_TK, regions, name)
        regions = series_TK.shape[1]
        correlations = measure.fit_transform([series_TK])[0]
        rows.append(np.arctanh(np.clip(correlations, -LARGEST_CORRELATION, LARGEST_CORRELATION)).astype(np.float32))
    if not rows:
        raise ValueError("Connectivity: one run or more was expected, got none.\n  fix: give the runs' region series.")
    return np.stack(rows)


def people_connectivity(paths_of_people: Sequence[Sequence[str]], labels: np.ndarray, progress: bool = False) -> np.ndarray:
    """One row a person: the Fisher z of all of the person's runs, averaged.

    Args:
        paths_of_people: files of the BOLD store of each person.
        labels: as in `region_series`.
        progress: shows a bar.

    Returns:
        (n, K (K - 1) / 2) float32.

    Raises:
        ValueError: no people, a person without a run, and what `region_series` and `connectivity` complain of.
    """
    missing = [person for person, paths in enumerate(paths_of_people) if not len(paths)]
    if missing or not len(paths_of_people):
        raise ValueError(
            f"Connectivity: one run or more of every person was expected, got {len(paths_of_people)} people of whom "
            f"{len(missing)} have none.\n  fix: leave out people without a scan."
        )
    rows = []
    for paths in tqdm(paths_of_people, desc="connectivity", unit="person", disable=not progress):
        z = connectivity((region_series(open_run(path), labels) for path in paths), names=[str(path) for path in paths])
        rows.append(z.mean(0))
    return np.stack(rows)


class CohortEdges(NamedTuple):
    """The connectivity of everybody."""

    edges_NF: np.ndarray  # (N, K (K - 1) / 2) float32, see `people_connectivity`
    regions: int  # K


def cohort_connectivity(
    runs: pd.DataFrame,
    subject_ids: Sequence[str],
    regions: int,
    seed: int,
    atlas: str | Path | None = None,
    progress: bool = False,
) -> CohortEdges:
    """Connectivity of people from the table of their stored runs, between regions that all of their runs share.

    Args:
        runs: subject_id and store_path, a row a run.
        subject_ids: whose, and in which order.
        regions: how many of the grid; not looked at with an atlas.
        seed: of the grid.
        atlas: see `atlas_regions`; None: `grid_regions`.
        progress: whether a bar counts people.

    Raises:
        FileNotFoundError, ValueError: people without runs, and what the functions of this room complain of.
    """
    paths_of = runs.groupby("subject_id")["store_path"].agg(list)
    if absent := [subject for subject in subject_ids if subject not in paths_of.index]:
        raise ValueError(
            f"Connectivity: stored runs of {len(subject_ids)} people were expected, got none of {len(absent)}: {some(absent)}.\n"
            "  where: the table of runs\n  fix: leave these people out, or bring their scans."
        )
    paths = [paths_of[subject] for subject in subject_ids]
    opened = [open_run(path) for each in paths for path in each]
    labels = grid_regions(opened, regions, seed) if atlas is None else atlas_regions(atlas, opened)
    return CohortEdges(people_connectivity(paths, labels, progress), int(labels.max()))


def _shared_voxels(runs: Sequence[StoredRun]) -> np.ndarray:
    """Flat indices of the voxels that every run has; a mask that many runs have is read once."""
    if not len(runs):
        raise ValueError("Regions: one run or more was expected, got none.\n  fix: give the runs of the people to compare.")
    first = runs[0]
    depth, height, width = first.volume_shape
    for run in runs:
        same = run.volume_shape == first.volume_shape
        apart = voxels_apart((height, depth, width), first.header["affine"], run.header["affine"]) if same else np.inf
        if apart > SAME_GRID_VOXELS:
            got = f"a grid {apart:.3g} voxels away" if same else f"{run.volume_shape}"
            raise ValueError(
                f"Regions: the grid {first.volume_shape} of {first.path.name} was expected, got {got}.\n  file: {run.path}\n"
                "  fix: bring all runs to one template space; without it, connectivity between people means nothing."
            )
    shared = None
    for run in {run.header["mask_sha256"]: run for run in runs}.values():
        shared = run.voxels() if shared is None else np.intersect1d(shared, run.voxels(), assume_unique=True)
    if not shared.size:
        raise ValueError(
            f"Regions: voxels that all of {len(runs)} runs share were expected, got none.\n  file: {first.path}\n"
            "  fix: check the runs' masks."
        )
    return shared


def _read_atlas(path: Path) -> nib.Nifti1Image:
    if not path.is_file():
        raise FileNotFoundError(f"Atlas: a NIfTI file was expected, got none.\n  file: {path}\n  fix: correct the path.")
    try:
        image = nib.load(path)
        values = np.asarray(image.dataobj)
    except (ImageFileError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"Atlas: a readable NIfTI file was expected, got: {' '.join(str(error).split())}.\n  file: {path}\n"
            "  fix: fetch or write it again."
        ) from error
    whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and np.array_equal(values, np.round(values)))
    if values.ndim != 3 or not whole or values.min() < 0:
        raise ValueError(
            f"Atlas: a 3-D image of whole numbers of 0 or more was expected, got {values.shape} {values.dtype}.\n  file: {path}\n"
            "  fix: give the label image of the atlas, not its probabilities."
        )
    return nib.Nifti1Image(values.astype(np.int32), image.affine)


def _check_series(series_TK: np.ndarray, regions: int | None, name: str) -> None:
    shape = np.shape(series_TK)
    if len(shape) != 2 or shape[0] < MIN_FRAMES or shape[1] < 2:
        raise ValueError(
            f"Connectivity: {MIN_FRAMES} frames or more of 2 regions or more were expected, got {shape}.\n  run: {name}\n"
            "  fix: take longer runs and more regions."
        )
    if shape[1] != (regions or shape[1]):
        raise ValueError(
            f"Connectivity: {regions} regions were expected as in the run before, got {shape[1]}.\n  run: {name}\n"
            "  fix: take the same regions in every run."
        )
    if not np.isfinite(series_TK).all():
        raise ValueError(
            f"Connectivity: finite values were expected, got others in region {np.argwhere(~np.isfinite(series_TK))[0][1] + 1}.\n"
            f"  run: {name}\n  fix: store the run again."
        )
    constant = np.flatnonzero(np.ptp(series_TK, axis=0) == 0)
    if constant.size:
        raise ValueError(
            f"Connectivity: regions that vary over time were expected, got {constant.size} constant, the first region "
            f"{constant[0] + 1}.\n  run: {name}\n  fix: check the mask there, or take fewer, larger regions."
        )

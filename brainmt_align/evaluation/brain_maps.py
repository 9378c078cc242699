"""Brain maps: maps (D, H, W) of people flow in; their mean and its certainty, and any map as a NIfTI file, flow out."""

import gzip
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from brainmt_align.atomic import write_atomically
from brainmt_align.data.stored_run import StoredRun

NIFTI_ENDINGS = (".nii", ".nii.gz")


class GroupMap(NamedTuple):
    """Over people."""

    mean_DHW: np.ndarray  # float64
    t_DHW: np.ndarray  # float64: mean / its standard error over families; 0 where that is 0
    people: int
    families: int


def average_maps(maps: Iterable[np.ndarray], groups_N: Sequence[Hashable]) -> GroupMap:
    """Mean map over people, and how many of its standard errors it lies from 0; families are the independent units.

    Maps are read once, one at a time; the sum of a family is held until its last member was seen.

    Args:
        maps: (D, H, W) of each person, on one grid.
        groups_N: family of each person.

    Raises:
        ValueError: maps that are not finite, of several grids or more or fewer than families were given, or fewer than two
            families.

    Reference:
        Liang and Zeger 1986 (the variance that clusters leave), with the factor F / (F - 1).
    """
    sizes = Counter(groups_N)
    left, families, people = Counter(sizes), len(sizes), len(groups_N)
    if families < 2:
        raise ValueError(f"Group map: 2 families or more were expected, got {families}.\n  fix: pass maps of more people.")
    sums, total, squares, weighted = {}, 0.0, 0.0, 0.0
    for person, (group, map_DHW) in enumerate(_paired(maps, groups_N)):
        map_DHW = np.asarray(map_DHW, np.float64)
        if not np.isfinite(map_DHW).all() or (person and map_DHW.shape != np.shape(total)):
            raise ValueError(
                f"Group map: finite maps on one grid were expected, got {map_DHW.shape} for person {person}"
                f"{f' beside {np.shape(total)}' if person else ''}, {int((~np.isfinite(map_DHW)).sum())} values not finite.\n"
                "  fix: attribute everybody on one grid."
            )
        sums[group], left[group] = sums.get(group, 0.0) + map_DHW, left[group] - 1
        total = total + map_DHW
        if not left[group]:
            sum_DHW = sums.pop(group)
            squares, weighted = squares + np.square(sum_DHW), weighted + sizes[group] * sum_DHW
    mean_DHW = total / people
    of_sizes = sum(size**2 for size in sizes.values())
    variance_DHW = squares - 2 * mean_DHW * weighted + np.square(mean_DHW) * of_sizes
    error_DHW = np.sqrt(np.maximum(variance_DHW, 0) * families / (families - 1)) / people
    certain_DHW = error_DHW <= 1e-7 * np.abs(mean_DHW)  # the difference of squares rounds at 1e-16 of them
    t_DHW = np.divide(mean_DHW, error_DHW, out=np.zeros_like(mean_DHW), where=~certain_DHW)
    return GroupMap(mean_DHW, t_DHW, people, families)


def write_map(map_DHW: np.ndarray, run: StoredRun, path: str | Path) -> Path:
    """Write a map as a 3-D float32 NIfTI image in the run's own place, in one step; a run in MNI space gives a map there.

    The store's grid (D, H, W) is (Y, X, Z) of the oriented array, so the image is its (X, Y, Z) under the run's affine. Where
    the file that the run was stored from says a space of MNI (`space-MNI…`), so does the header; otherwise it says "aligned".

    Args:
        map_DHW: any real numbers on the run's grid.
        run: that the map, or everybody's in the group, belongs to.
        path: ends in .nii or .nii.gz; its folder exists.

    Returns:
        `path`.

    Raises:
        ValueError: a map of another grid or with values that are not finite, or another ending.
    """
    path, map_DHW = Path(path), np.asarray(map_DHW)
    if map_DHW.shape != run.volume_shape or not np.isfinite(map_DHW).all():
        raise ValueError(
            f"Map: finite values on the run's grid {run.volume_shape} were expected, got {map_DHW.shape} with "
            f"{int((~np.isfinite(map_DHW)).sum())} that are not finite.\n  file: {run.path}\n"
            "  fix: give a run on the grid that the map was made on."
        )
    if not path.name.endswith(NIFTI_ENDINGS):
        raise ValueError(
            f"Map: a file name that ends in {' or '.join(NIFTI_ENDINGS)} was expected, got {path.name}.\n  file: {path}\n"
            "  fix: correct the ending."
        )
    code = "mni" if "space-MNI" in Path(run.header["sources"]["bold"]["path"]).name else "aligned"
    affine = np.array(run.header["affine"])
    image = nib.Nifti1Image(map_DHW.transpose(1, 0, 2).astype(np.float32), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)  # the same map gives the same file
    return write_atomically(path, lambda partial: partial.write_bytes(content))


def _paired(maps: Iterable[np.ndarray], groups_N: Sequence[Hashable]) -> Iterator[tuple[Hashable, np.ndarray]]:
    maps, missing = iter(maps), object()
    for group in groups_N:
        each = next(maps, missing)
        if each is missing:
            break
        yield group, each
    else:
        each = next(maps, missing)
        if each is missing:
            return
    raise ValueError(
        f"Group map: one map for each of {len(groups_N)} families given was expected, got more or fewer.\n"
        "  fix: pass maps and families of the same people in one order."
    )

"""BOLD values: the in-mask array (T, V) of a run flows in; each voxel's moments, or what no working scan would hold, flow out."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

VALUES_PER_BLOCK = 2**22
# A voxel whose SD is within the rounding of float32 around its mean does not vary.
ROUNDING = 4 * float(np.finfo(np.float32).eps)
# Share of the voxels in the mask that may be constant over time, zeros outside the field of view included.
MAX_CONSTANT_VOXELS = 0.25
# Share of the frames that may be wholly zero in the mask or equal, to the last bit, to an earlier frame.
MAX_DEAD_FRAMES = 0.05
# SD of the median voxel in steps of float16 at its mean; rounding to one step adds 1/12 to the variance.
MIN_FLOAT16_STEPS = 1.0


class Moments(NamedTuple):
    """Of each voxel over time."""

    mean_V: np.ndarray  # float64
    sd_V: np.ndarray  # float64, of the population
    minimum_V: np.ndarray
    maximum_V: np.ndarray


def fault(expected_and_got: str, file: str | Path, fix: str) -> ValueError:
    """The one form of a complaint about a file."""
    return ValueError(f"{expected_and_got}\n  file: {file}\n  fix: {fix}")


def frame_slices(raw_TV: np.ndarray) -> Iterator[slice]:
    """Some frames at a time, so that what is computed of them stays small."""
    step = max(1, VALUES_PER_BLOCK // raw_TV.shape[1])
    return (slice(start, start + step) for start in range(0, len(raw_TV), step))


def moments_of(raw_TV: np.ndarray) -> Moments:
    """Two passes in float64, some frames at a time."""
    with np.errstate(invalid="ignore"):
        mean_V = sum(raw_TV[part].sum(0, dtype=np.float64) for part in frame_slices(raw_TV)) / len(raw_TV)
        squares_V = sum(np.square(raw_TV[part] - mean_V).sum(0) for part in frame_slices(raw_TV))
        return Moments(mean_V, np.sqrt(squares_V / len(raw_TV)), raw_TV.min(0), raw_TV.max(0))


def is_constant(moments: Moments) -> np.ndarray:
    """(V,) bool."""
    return moments.sd_V <= ROUNDING * np.abs(moments.mean_V)


def check_values(
    raw_TV: np.ndarray, moments: Moments, rows_V: np.ndarray, shape: tuple[int, int, int], path: Path, where: str
) -> None:
    """Refuse a run that is not finite, does not vary, or holds too many constant voxels or dead frames.

    Args:
        raw_TV: values before normalisation.
        moments: of raw_TV.
        rows_V: where each voxel lies in the file's own (Fortran) order.
        shape: of the file's array, without time.
        path: of the run.
        where: which voxels these are, for the messages.

    Raises:
        ValueError: see above; the limits are this room's constants.
    """
    if not np.isfinite(moments.mean_V).all():
        broken_TV = ~np.isfinite(raw_TV)
        frame, column = (int(first) for first in np.argwhere(broken_TV)[0])
        voxel = tuple(int(i) for i in np.unravel_index(rows_V[column], shape, order="F"))
        got = (
            f"BOLD: finite values {where} were expected, got {broken_TV.sum()} NaN or infinite ones, "
            f"the first in frame {frame} at voxel {voxel} (x, y, z in the file, from 0)."
        )
        raise fault(got, path, "repair the run, or give a mask that leaves these voxels out.")
    constant = int(is_constant(moments).sum())
    if constant == len(rows_V):
        got = f"BOLD: a signal that varies over time was expected, got {len(rows_V)} voxels constant in {len(raw_TV)} frames."
        raise fault(got, path, "drop the run or check its preprocessing.")
    if constant > MAX_CONSTANT_VOXELS * len(rows_V):
        got = (
            f"BOLD: at most {MAX_CONSTANT_VOXELS:.0%} of the voxels {where} were expected to be constant over time, "
            f"got {constant} of {len(rows_V)}."
        )
        raise fault(got, path, "drop the run, check its preprocessing, or give a mask that fits its field of view.")
    dead = _dead_frames(raw_TV)
    if len(dead) > MAX_DEAD_FRAMES * len(raw_TV):
        got = (
            f"BOLD: at most {MAX_DEAD_FRAMES:.0%} of the frames were expected to be wholly zero {where} or exactly equal to an "
            f"earlier frame, got {len(dead)} of {len(raw_TV)}, the first of them frame {dead[0]} (from 0)."
        )
        raise fault(got, path, "cut these frames off, or drop the run.")


def _dead_frames(raw_TV: np.ndarray) -> list[int]:
    seen, dead = set(), []
    for frame, values_V in enumerate(raw_TV):
        content = hashlib.sha256(values_V).digest()
        if content in seen or not values_V.any():
            dead.append(frame)
        seen.add(content)
    return dead


def check_resolution(moments: Moments, shift: float, scale: float, normalisation: str, path: Path) -> None:
    """Refuse a run whose fluctuations (value - shift) / scale would vanish in the rounding to float16, as beside a huge spike.

    Raises:
        ValueError: the median varying voxel has an SD below MIN_FLOAT16_STEPS.
    """
    varies_V = ~is_constant(moments)
    level_V = (np.abs(moments.mean_V[varies_V] - shift) / scale).astype(np.float16)
    steps = float(np.median(moments.sd_V[varies_V] / scale / np.spacing(level_V).astype(np.float64)))
    if steps < MIN_FLOAT16_STEPS:
        got = (
            f"BOLD: an SD over time of at least {MIN_FLOAT16_STEPS:g} float16 step was expected of the median voxel under "
            f"normalisation={normalisation}, got {steps:.3g} in values from {moments.minimum_V.min():g} to "
            f"{moments.maximum_V.max():g}."
        )
        raise fault(got, path, "take spikes out of the run, or set data.normalisation=voxel.")

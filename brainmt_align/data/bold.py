"""BOLD files: a 4-D NIfTI run and its mask flow in; the normalised in-mask array (T, V) and each voxel's place flow out."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.openers import ImageOpener
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError
from numpy.typing import ArrayLike

from brainmt_align.data import bold_values
from brainmt_align.data.bids import find_runs, sidecar_repetition_time
from brainmt_align.data.bold_values import Moments, check_resolution, check_values, fault, frame_slices, is_constant, moments_of

__all__ = ["MASK_FILE", "NON_ZERO", "NORMALISATIONS", "BoldRun", "find_runs", "read_bold"]

NORMALISATIONS = ("global", "voxel", "none")
MASK_FILE = "mask file"
NON_ZERO = "voxels that are non-zero in any frame"
SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
PLAUSIBLE_TR_S = (0.01, 100.0)
TR_TOLERANCE = 0.01
GRID_TOLERANCE_VOXELS = 0.01
FLOAT16_MAX = float(np.finfo(np.float16).max)


class BoldRun(NamedTuple):
    """One run, oriented and normalised."""

    data_TV: np.ndarray  # float16
    voxels: np.ndarray  # (V,) int32, ascending flat C-order indices into the grid
    grid: tuple[int, int, int]  # (D, H, W) = (Y, X, Z) of the oriented array
    affine: np.ndarray  # (4, 4) float64, millimetres, of the oriented (X, Y, Z) array
    tr_s: float
    background: float  # the value outside the mask
    statistics: dict[str, float]  # of the values before normalisation
    mask_rule: str  # MASK_FILE or NON_ZERO


class _Grid(NamedTuple):
    shape: tuple[int, int, int]  # oriented (X, Y, Z)
    affine: np.ndarray  # of the oriented (X, Y, Z) array
    index_DHW: np.ndarray  # where each voxel lies in the file's own (Fortran) order


class BoldSize(NamedTuple):
    """What a run's header tells of its size."""

    volume_shape: tuple[int, int, int]  # oriented (D, H, W)
    num_frames: int


class _Normalised(NamedTuple):
    data_TV: np.ndarray
    background: float
    statistics: dict[str, float]


def read_bold(
    bold: str | Path,
    mask: str | Path | None = None,
    orientation: str = "RAS",
    normalisation: str = "global",
    min_frames: int = 1,
    tr_s: float | None = None,
) -> BoldRun:
    """Reads one run: oriented by flips and permutations of axes (nothing is resampled), masked, normalised, float16.

    The file's array, brought to `orientation`, is (X, Y, Z, T) and enters as D, H, W = Y, X, Z. Statistics are
    two-pass in float64.

    Which zeros count: voxels inside the mask that are zero in every frame (outside the field of view) are left out of
    the statistics and get the background value; any other zero inside the mask is a measurement. Without a mask, the
    voxels that are non-zero in any frame are the mask.

    Args:
        bold: 4-D .nii or .nii.gz of any real data type and byte order, further axes of length 1 aside; scl_slope and scl_inter
            are applied.
        mask: NIfTI on the same grid, its axes perhaps stored otherwise; values above 0.5 are inside. None: see above.
        orientation: towards what X, Y and Z grow, e.g. "RAS"; "LAS" for weights of the published BrainMT.
        normalisation: "global": one z-score over all in-mask voxels and frames, background = minimum of the result, as
            published (it keeps the static image: a fluctuation of 1 % of it spans few float16 steps); "voxel": z-score
            of each voxel over time, 0 where it does not vary, background 0; "none": values as they are, background 0,
            refused beyond the range of float16. Z-scores cannot leave that range: |z| < √(T·V).
        min_frames: fewer frames are an error.
        tr_s: repetition time in seconds, overriding header and sidecar. None: that of the header, or, where it says 0,
            `RepetitionTime` of its BIDS sidecars, the nearest first; if they differ by more than 1 % it is an error.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a setting, the file or its values (see `bold_values`) are unfit; the message names the file and the remedy.

    Reference:
        Normalisation "global": BrainMT (MICCAI 2025), preprocessing of UK Biobank and HCP.
    """
    path = Path(bold)
    _check_settings(orientation, normalisation, path)
    image = _open(path)
    _check_image(image, min_frames, path)
    seconds = _repetition_time(image, path, tr_s)
    grid = _orient(image, orientation, path)
    if mask is None:
        inside_DHW = _non_zero(image, path)[grid.index_DHW]
    else:
        inside_DHW = _read_mask(Path(mask), grid, orientation, path)
    if not inside_DHW.any():
        raise fault("BOLD mask: at least one voxel inside was expected, got none.", mask or path, "check the mask.")
    rows_V = grid.index_DHW[inside_DHW]
    raw_TV = _read_rows(image, rows_V, path)
    moments = moments_of(raw_TV)
    where = "inside the mask" if mask is not None else "in the voxels that are ever non-zero (no mask was given)"
    check_values(raw_TV, moments, rows_V, image.shape[:3], path, where)
    normalised = _normalise(raw_TV, moments, normalisation, path)
    return BoldRun(
        data_TV=normalised.data_TV,
        voxels=np.flatnonzero(inside_DHW).astype(np.int32),
        grid=inside_DHW.shape,
        affine=grid.affine,
        tr_s=seconds,
        background=normalised.background,
        statistics=normalised.statistics,
        mask_rule=NON_ZERO if mask is None else MASK_FILE,
    )


def _check_settings(orientation: str, normalisation: str, path: Path) -> None:
    if sorted(orientation.translate(str.maketrans("LPI", "RAS"))) != sorted("RAS"):
        got = f"orientation: one letter of each of L/R, A/P and S/I was expected, got {orientation!r}."
        raise fault(got, path, "set data.orientation=RAS, or LAS for official BrainMT weights.")
    if normalisation not in NORMALISATIONS:
        got = f"normalisation: one of {', '.join(NORMALISATIONS)} was expected, got {normalisation!r}."
        raise fault(got, path, "set data.normalisation=global.")


def read_size(bold: str | Path, orientation: str = "RAS") -> BoldSize:
    """The size that `read_bold` would give a run; no value is read.

    Raises:
        FileNotFoundError, ValueError: as `read_bold`, as far as the header tells.
    """
    path = Path(bold)
    image = _open(path)
    _check_image(image, 1, path)
    return BoldSize(_orient(image, orientation, path).index_DHW.shape, image.shape[3])


def _open(path: Path) -> nib.Nifti1Image:
    """The header; the values stay on disk."""
    if not path.is_file():
        raise FileNotFoundError(f"NIfTI: a file was expected, got none.\n  file: {path}\n  fix: correct the path.")
    try:
        image = nib.load(path)
        got = type(image).__name__
    except (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError) as error:
        image, got = None, str(error)
    if not isinstance(image, nib.Nifti1Image):
        raise fault(f"NIfTI: a .nii or .nii.gz volume was expected, got: {got}.", path, "convert or fetch it again.")
    if image.get_data_dtype().kind not in "iuf":
        got = f"NIfTI: real numbers were expected, got {image.get_data_dtype()}."
        raise fault(got, path, "give the magnitude as one number a voxel.")
    return image


def _check_image(image: nib.Nifti1Image, min_frames: int, path: Path) -> None:
    if len(image.shape) < 4 or any(size != 1 for size in image.shape[4:]):
        got = f"BOLD: 4 dimensions (X, Y, Z, T) were expected, got {image.shape}."
        raise fault(got, path, "give the run, not a single volume and not several values a voxel and frame.")
    frames = image.shape[3]
    if frames < min_frames:
        got = f"BOLD has {frames} frames; at least {min_frames} are needed."
        raise fault(got, path, f"set train.window={frames} or drop the run.")
    _check_orientation_told(image, "BOLD", path)


def _check_orientation_told(image: nib.Nifti1Image, what: str, path: Path) -> None:
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        got = f"{what}: an sform or qform was expected, got neither, so left and right are unknown."
        raise fault(got, path, "write its affine into the file (nibabel: image.set_sform(affine, code=1)).")


def _repetition_time(image: nib.Nifti1Image, path: Path, tr_s: float | None) -> float:
    """Seconds; a time unit that the header leaves unknown counts as seconds."""
    header_s = float(image.header.get_zooms()[3]) * SECONDS_PER_UNIT.get(image.header.get_xyzt_units()[1], 0.0)
    sidecar_s, sidecar = sidecar_repetition_time(path)
    if tr_s is None and header_s > 0 and sidecar_s > 0 and abs(header_s / sidecar_s - 1) > TR_TOLERANCE:
        got = f"BOLD: one TR was expected, got {header_s:g} s in the header and {sidecar_s:g} s in {sidecar.name}."
        raise fault(got, f"{path}\n  file: {sidecar}", "correct one of them or set data.tr_s.")
    seconds = tr_s if tr_s is not None else header_s or sidecar_s
    low, high = PLAUSIBLE_TR_S
    if not low <= seconds <= high:
        got = f"BOLD: a TR of {low:g} to {high:g} s was expected, got {seconds:g} s."
        raise fault(got, path, "set data.tr_s, or give RepetitionTime in a .json beside the file.")
    return round(float(seconds), 6)  # the header holds float32


def _orient(image: nib.Nifti1Image, orientation: str, path: Path) -> _Grid:
    """Turns an index of the voxels instead of the values: cheap, and the same for run and mask."""
    found = io_orientation(image.affine)
    if np.isnan(found).any():
        got = f"NIfTI: an invertible affine was expected, got {image.affine.tolist()}."
        raise fault(got, path, "repair the header.")
    stored = image.shape[:3]
    turn = ornt_transform(found, axcodes2ornt(orientation))
    index_XYZ = apply_orientation(np.arange(np.prod(stored), dtype=np.int32).reshape(stored, order="F"), turn)
    affine = image.affine @ inv_ornt_aff(turn, stored)
    return _Grid(index_XYZ.shape, affine, np.ascontiguousarray(index_XYZ.transpose(1, 0, 2)))


def _read_mask(path: Path, run: _Grid, orientation: str, bold: Path) -> np.ndarray:
    """(D, H, W) bool; the mask is oriented first, so that it may be stored with other axes than the run."""
    image = _open(path)
    if len(image.shape) < 3 or any(size != 1 for size in image.shape[3:]):
        got = f"BOLD mask: 3 dimensions were expected, got {image.shape}."
        raise fault(got, path, "give a 3-D brain mask.")
    _check_orientation_told(image, "BOLD mask", path)
    own = _orient(image, orientation, path)
    away = voxels_apart(run.shape, run.affine, own.affine) if run.shape == own.shape else np.inf
    if away > GRID_TOLERANCE_VOXELS:
        got = f"{own.shape}" if own.shape != run.shape else f"affines that lie {away:.3g} voxels apart"
        raise fault(
            f"BOLD mask: the grid of the run, {run.shape} in {orientation}, was expected, got {got}.",
            f"{path}\n  run: {bold}",
            "give the run's own mask, or resample it (nilearn.image.resample_to_img, interpolation='nearest').",
        )
    with _damage_named(path):
        return np.asanyarray(image.dataobj).reshape(-1, order="F")[own.index_DHW] > 0.5


def voxels_apart(shape: tuple[int, int, int], affine: ArrayLike, other_affine: ArrayLike) -> float:
    """The largest distance between the same corner of two grids of one shape, in voxels of the first.

    Args:
        shape: (X, Y, Z) of both.
        affine: (4, 4) of the first, voxel indices to millimetres.
        other_affine: of the second.
    """
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    there = apply_affine(np.asarray(other_affine), corners)
    return float(np.abs(apply_affine(np.linalg.inv(affine), there) - corners).max())


def _non_zero(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    inside = np.zeros(np.prod(image.shape[:3]), bool)
    for block in _blocks(image, path):
        inside |= (block != 0).any(0)
    return inside


def _read_rows(image: nib.Nifti1Image, rows_V: np.ndarray, path: Path) -> np.ndarray:
    raw_TV = np.empty((image.shape[3], len(rows_V)), np.float32)
    start = 0
    for block in _blocks(image, path):
        with np.errstate(over="ignore"):
            raw_TV[start : start + len(block)] = block[:, rows_V]
        start += len(block)
    return raw_TV


def _blocks(image: nib.Nifti1Image, path: Path) -> Iterator[np.ndarray]:
    """Yields (some frames, X·Y·Z), scaled, voxels in the file's order; reads to the end, so that gzip's sum is checked."""
    voxels = int(np.prod(image.shape[:3]))
    step = max(1, bold_values.VALUES_PER_BLOCK // voxels)
    with _damage_named(path), ImageOpener(path) as stream:
        values = type(image).from_file_map({"image": FileHolder(fileobj=stream)}).dataobj
        for start in range(0, image.shape[3], step):
            yield np.asanyarray(values[:, :, :, start : start + step]).reshape(voxels, -1, order="F").T
        while stream.read(2**20):
            pass


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, zlib.error, ValueError) as error:
        got = f"NIfTI: a whole, readable file was expected, got: {' '.join(str(error).split())}."
        raise fault(got, path, "fetch or write the file again.") from error


def _normalise(raw_TV: np.ndarray, moments: Moments, normalisation: str, path: Path) -> _Normalised:
    zero_V = (moments.minimum_V == 0) & (moments.maximum_V == 0)
    mean_V, sd_V, minimum_V, maximum_V = (moment[~zero_V] for moment in moments)
    mean, minimum, maximum = float(mean_V.mean()), float(minimum_V.min()), float(maximum_V.max())
    sd = float(np.sqrt((np.square(sd_V) + np.square(mean_V - mean)).mean()))
    if normalisation == "none" and max(-minimum, maximum) > FLOAT16_MAX:
        got = f"BOLD: values within ±65504 (float16) were expected unnormalised, got {minimum:g} to {maximum:g}."
        raise fault(got, path, "set data.normalisation=global or voxel.")
    if normalisation != "voxel":  # that one gives every voxel an SD of 1
        shift, scale = (mean, sd) if normalisation == "global" else (0.0, 1.0)
        check_resolution(moments, shift, scale, normalisation, path)
    constant_V = is_constant(moments)
    shift, scale = {
        "global": (mean, sd),
        "voxel": (moments.mean_V, np.where(constant_V, np.inf, moments.sd_V)),
        "none": (0.0, 1.0),
    }[normalisation]
    data_TV = np.empty(raw_TV.shape, np.float16)
    for part in frame_slices(raw_TV):
        data_TV[part] = (raw_TV[part] - shift) / scale
    background = float(np.float16((minimum - mean) / sd)) if normalisation == "global" else 0.0
    data_TV[:, zero_V] = background
    counts = {"zero_voxels": int(zero_V.sum()), "constant_voxels": int(constant_V.sum())}
    return _Normalised(data_TV, background, {"mean": mean, "sd": sd, "minimum": minimum, "maximum": maximum, **counts})

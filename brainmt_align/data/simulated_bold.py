"""Simulated scans: parameters and latent traits flow in; spatial maps and BOLD runs as BIDS derivatives flow out."""

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.signal import lfilter

from brainmt_align.atomic import write_atomically
from brainmt_align.data.simulated_parameters import NOISE_SD, CohortParameters, generator

SPACE = "MNI152NLin2009cAsym"
MNI_CENTRE_MM = (0.0, -18.0, 8.0)  # centre of the MNI152 template's bounding box
BRAIN_RADIUS = 0.46  # of the volume's size along each axis
BLOB_DISTANCE = 0.62  # of a map's centre from the brain's centre, in brain radii
BLOB_RADIUS = 0.4  # of a map, in brain radii, for up to eight maps
HEAD_MM = 50.0  # radius at which a rotation counts as displacement (Power et al. 2012)
MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")  # millimetres and radians, as in fMRIPrep


class Brain(NamedTuple):
    """What all runs of a cohort share.

    Attributes:
        affine: (4, 4) voxel to millimetres, RAS.
        mask_XYZ: bool, the ellipsoid brain in the NIfTI's axes.
        maps_VK: (V, K) map of each trait, peak 1, in-mask voxels in C order of `mask_XYZ`.
        edge_V: (V,) motion artefact: 0 in the brain's core, 1 at its edge, of opposite sign left and right.
        waves_VC: (V, C) smooth patterns of unit variance: the static image and its shifts are made of them.
    """

    affine: np.ndarray
    mask_XYZ: np.ndarray
    maps_VK: np.ndarray
    edge_V: np.ndarray
    waves_VC: np.ndarray


class Person(NamedTuple):
    """What a scan depends on beside its noise: person's number, latent traits (K,), and covariates in units of their effect."""

    index: int
    latent_K: np.ndarray
    population: int
    site: int
    age: float
    sex: str


def make_brain(parameters: CohortParameters) -> Brain:
    """Mask, maps and patterns of a cohort; they depend on the volume and the number of traits, not on the seed."""
    y, x, z = parameters.volume_shape
    shape = (x, y, z)
    grid_XYZ3 = np.stack(
        np.meshgrid(*[(np.arange(size) - (size - 1) / 2) / (BRAIN_RADIUS * size) for size in shape], indexing="ij"), -1
    )
    mask_XYZ = (grid_XYZ3**2).sum(-1) <= 1
    place_V3 = grid_XYZ3[mask_XYZ]
    affine = np.diag([parameters.voxel_mm] * 3 + [1.0])
    affine[:3, 3] = np.array(MNI_CENTRE_MM) - parameters.voxel_mm * (np.array(shape) - 1) / 2
    radius_V = np.sqrt((place_V3**2).sum(1))
    edge_V = np.clip((radius_V - 0.6) / 0.4, 0, 1) * np.where(place_V3[:, 0] < 0, -1, 1)
    return Brain(affine, mask_XYZ, _blobs(place_V3, parameters.traits), edge_V.astype(np.float32), _waves(place_V3))


def _blobs(place_V3: np.ndarray, count: int) -> np.ndarray:
    """(V, count) flat-topped blobs (1 - (r/radius)^4)^2: one an octant for up to eight, else spread over a spiral on a shell."""
    if count <= 8:
        corners = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) / np.sqrt(3)
        directions, radius = corners[[0, 7, 3, 4, 5, 2, 6, 1][:count]], BLOB_RADIUS
    else:
        z = 1 - (2 * np.arange(count) + 1) / count
        turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
        directions = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)
        radius = BLOB_RADIUS * np.sqrt(8 / count)
    distance_VK = np.linalg.norm(place_V3[:, None] - BLOB_DISTANCE * directions[None], axis=2) / radius
    blobs_VK = np.clip(1 - distance_VK**4, 0, None) ** 2
    return (blobs_VK / blobs_VK.max(axis=0)).astype(np.float32)


def _waves(place_V3: np.ndarray) -> np.ndarray:
    """(V, 26) products of half-waves along the axes, standardised over the brain."""
    orders = [(i, j, k) for i in range(3) for j in range(3) for k in range(3) if i + j + k]
    waves_VC = np.stack([np.cos(np.pi / 2 * (place_V3 + 1) * order).prod(axis=1) for order in np.array(orders)], axis=1)
    return ((waves_VC - waves_VC.mean(0)) / waves_VC.std(0)).astype(np.float32)


def ar1(rng: np.random.Generator, shape: tuple[int, ...], autocorrelation: float) -> np.ndarray:
    """Stationary first-order autoregressive courses of unit variance along the first axis, float32."""
    steps = rng.standard_normal(shape, dtype=np.float32)
    steps[1:] *= np.float32(np.sqrt(1 - autocorrelation**2))
    return lfilter(np.float32([1]), np.float32([1, -autocorrelation]), steps, axis=0)


def draw_courses(parameters: CohortParameters, index: int) -> np.ndarray:
    """(T, K) time courses s_k of a person: unit variance, independent of each other and of everybody else's."""
    return ar1(
        generator(parameters.seed, "bold", index, 0), (parameters.frames, parameters.traits), parameters.signal_autocorrelation
    )


def draw_motion(parameters: CohortParameters, index: int) -> np.ndarray:
    """(T, 6) rigid-body motion of a person as in `MOTION_COLUMNS`: a slow walk with a few jerks, in the person's own size."""
    if parameters.motion_mm == 0:
        return np.zeros((parameters.frames, 6))
    rng = generator(parameters.seed, "motion", index)
    mean_mm = parameters.motion_mm * np.exp(0.5 * rng.standard_normal() - 0.125)  # of mean motion_mm over people
    steps_T6 = rng.standard_normal((parameters.frames, 6))
    steps_T6 *= np.where(rng.random(parameters.frames) < 0.1, 4.0, 1.0)[:, None]
    mean_step = 6 * np.sqrt(2 / np.pi) * 1.3  # expected displacement of one unscaled frame
    return np.cumsum(steps_T6 * (mean_mm / mean_step) / np.array([1, 1, 1, HEAD_MM, HEAD_MM, HEAD_MM]), axis=0)


def framewise_displacement(motion_T6: np.ndarray) -> np.ndarray:
    """(T,) sum of absolute steps, millimetres; the first frame, which has no step, is NaN.

    Reference: Power et al. (2012), NeuroImage 59, 2142.
    """
    steps = np.abs(np.diff(motion_T6, axis=0)) @ np.array([1, 1, 1, HEAD_MM, HEAD_MM, HEAD_MM])
    return np.concatenate([[np.nan], steps])


def site_scales(parameters: CohortParameters) -> np.ndarray:
    """(sites,) gain of each scanner; 1 where there is only one."""
    if parameters.sites == 1:
        return np.ones(1)
    draws = [generator(parameters.seed, "sites", site).standard_normal() for site in range(parameters.sites)]
    return np.exp(parameters.site_scale_sd * np.array(draws))


def compose_run(parameters: CohortParameters, brain: Brain, person: Person) -> np.ndarray:
    """The BOLD run of one person.

    Args:
        parameters: checked parameters.
        brain: maps of the cohort.
        person: latent traits and covariates of the person.

    Returns:
        (T, V) float32 in intensity units.
    """
    courses_TK = draw_courses(parameters, person.index) * (parameters.signal_sd * np.exp(parameters.amplitude * person.latent_K))
    rng = generator(parameters.seed, "bold", person.index, 1)
    data_TV = NOISE_SD * ar1(rng, (parameters.frames, len(brain.maps_VK)), parameters.noise_autocorrelation)
    data_TV += courses_TK.astype(np.float32) @ brain.maps_VK.T
    data_TV += _static(parameters, brain, person)
    if parameters.motion_mm > 0:
        displacement = np.nan_to_num(framewise_displacement(draw_motion(parameters, person.index))) / parameters.motion_mm
        data_TV += np.outer(parameters.motion_effect * parameters.signal_sd * displacement, brain.edge_V).astype(np.float32)
    return data_TV * np.float32(site_scales(parameters)[person.site])


def _static(parameters: CohortParameters, brain: Brain, person: Person) -> np.ndarray:
    """(V,) static image: one anatomy for all, a tenth of it own to the person, and the shifts that covariates plant."""
    rng = generator(parameters.seed, "static", person.index)
    waves = brain.waves_VC
    own_V = waves @ rng.standard_normal(waves.shape[1], dtype=np.float32) / np.sqrt(waves.shape[1])
    anatomy_V = 0.8 + 0.1 * (waves[:, 1] + waves[:, 5]) + 0.1 * own_V
    shift_V = np.zeros(len(waves))
    if parameters.populations == 2:
        shift_V += (2 * person.population - 1) * waves[:, 0]
    if parameters.sites > 1:
        shift_V += (
            waves @ generator(parameters.seed, "sites", person.site, 0).standard_normal(waves.shape[1]) / np.sqrt(waves.shape[1])
        )
    if parameters.age:
        shift_V += (person.age - 62.5) / 10 * waves[:, 2]
    if parameters.sex:
        shift_V += (1 if person.sex == "M" else -1) * waves[:, 8]
    scale = parameters.signal_sd
    return (scale * (parameters.static_to_signal * anatomy_V + parameters.confound_effect * shift_V)).astype(np.float32)


def run_stem(sample_id: str) -> str:
    """First part of the names of a person's files, up to `desc-`."""
    return f"sub-{sample_id}_task-rest_space-{SPACE}"


def bold_path(folder: Path, sample_id: str) -> Path:
    """Where a person's run lies in a cohort's folder."""
    return run_paths(folder, sample_id)[0]


def run_paths(folder: Path, sample_id: str) -> list[Path]:
    """Where a person's run, its mask and its confounds table lie in a cohort's folder."""
    func, stem = folder / "bold" / f"sub-{sample_id}" / "func", run_stem(sample_id)
    confounds = f"sub-{sample_id}_task-rest_desc-confounds_timeseries.tsv"
    return [func / f"{stem}_desc-preproc_bold.nii.gz", func / f"{stem}_desc-brain_mask.nii.gz", func / confounds]


def shared_paths(folder: Path) -> list[Path]:
    """Where the BIDS files that stand for all runs lie: the data set's description and the sidecar that all runs inherit."""
    return [folder / "bold" / "dataset_description.json", folder / "bold" / f"task-rest_space-{SPACE}_desc-preproc_bold.json"]


def write_run(folder: Path, parameters: CohortParameters, brain: Brain, person: Person) -> None:
    """Write mask, confounds table and, last, the run of a person; a run that lies there is whole and is left as it is."""
    path, mask, confounds = run_paths(folder, parameters.sample_ids[person.index])
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    save_volume(mask, brain.mask_XYZ.astype(np.uint8), brain.affine)
    motion_T6 = draw_motion(parameters, person.index)
    table = pd.DataFrame(motion_T6, columns=list(MOTION_COLUMNS))
    table.insert(0, "framewise_displacement", framewise_displacement(motion_T6))
    table.to_csv(confounds, sep="\t", index=False, na_rep="n/a", float_format="%.6g")

    data_TV = compose_run(parameters, brain, person)
    slope = float(np.abs(data_TV).max()) / 32767
    volume_XYZT = np.zeros((*brain.mask_XYZ.shape, parameters.frames), dtype=np.int16)
    volume_XYZT[brain.mask_XYZ] = np.rint(data_TV / slope).T
    save_volume(path, volume_XYZT, brain.affine, slope=slope, tr_s=parameters.tr_s)


def save_volume(path: Path, data: np.ndarray, affine: np.ndarray, slope: float | None = None, tr_s: float | None = None) -> None:
    """Write an array as compressed NIfTI in MNI space: beside its place first, then moved there, the same bytes every time."""
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"simulated by brainmt-align"
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    if tr_s is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    content = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
    write_atomically(path, lambda partial: partial.write_bytes(content))


def write_description(folder: Path, tr_s: float) -> None:
    """Write the BIDS files that stand for all runs."""
    description = {
        "Name": "Simulated cohort: no real brains",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "brainmt-align", "Description": "Simulated BOLD with planted signal; nobody was scanned."}],
    }
    (folder / "bold").mkdir(exist_ok=True)
    dataset_path, sidecar_path = shared_paths(folder)
    dataset_path.write_text(json.dumps(description, indent=2) + "\n")
    sidecar = {"TaskName": "rest", "RepetitionTime": tr_s, "SkullStripped": True, "Description": "simulated"}
    sidecar_path.write_text(json.dumps(sidecar, indent=2) + "\n")

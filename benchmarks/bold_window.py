"""Claim: a window read from the BOLD store costs a fraction of reading it from NIfTI. In: nothing. Out: times, bytes, ratios.

Each way ends with the array (frames, 1, D, H, W) in float16. Bytes: what the process asked the system for (Linux), without the
voxel indices of the store, which are memory-mapped (4 bytes a voxel of the mask).
Run: python benchmarks/bold_window.py
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch

from brainmt_align.data.bold_store import build_run, open_run

SHAPE_XYZ, FRAMES, WINDOW, START, TRIALS = (46, 55, 46), 240, 40, 120, 5


class Cost(NamedTuple):
    seconds: float
    bytes_read: int


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        bold, mask = write_run(folder)
        stored = open_run(build_run(bold, mask, folder))
        np.save(folder / "dense.npy", stored.volume(0, FRAMES).numpy())
        nib.save(nib.load(bold), folder / "x_bold.nii")
        ways = {
            "BOLD store": lambda: open_run(stored.path).volume(START, WINDOW),
            "dense float16, whole scan then slice": lambda: read_dense(folder / "dense.npy"),
            ".nii, nibabel, the window": lambda: read_nifti(folder / "x_bold.nii"),
            ".nii.gz, nibabel, the window": lambda: read_nifti(bold),
            ".nii.gz, nibabel, get_fdata then slice": lambda: as_volumes(nib.load(bold).get_fdata()[..., window()]),
        }
        costs = {name: measure(read) for name, read in ways.items()}
    ours = costs["BOLD store"]
    print(f"{WINDOW} of {FRAMES} frames of {SHAPE_XYZ}, {stored.num_voxels} voxels in the mask, warm cache, median of {TRIALS}")
    print(f"{'':40}{'ms':>9}{'MB':>9}{'time ×':>9}{'bytes ×':>9}")
    for name, cost in costs.items():
        times = f"{cost.seconds / ours.seconds:9.1f}{cost.bytes_read / ours.bytes_read:9.1f}"
        print(f"{name:40}{cost.seconds * 1e3:9.2f}{cost.bytes_read / 1e6:9.1f}{times}")


def window() -> slice:
    return slice(START, START + WINDOW)


def write_run(folder: Path) -> tuple[Path, Path]:
    """An int16 run with a static image and noise, and an ellipsoid as its mask: about a quarter of the grid, as in a head."""
    generator = np.random.default_rng(0)
    axes = [np.linspace(-1, 1, size) for size in SHAPE_XYZ]
    inside = sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij")) < 0.6
    static = 8000 + 2000 * generator.random((*SHAPE_XYZ, 1), np.float32)
    data = (static + 100 * generator.standard_normal((*SHAPE_XYZ, FRAMES), np.float32)) * inside[..., None]
    image = nib.Nifti1Image(data.astype(np.int16), np.diag([-4.0, 4, 4, 1]))
    image.header.set_zooms((4, 4, 4, 2))
    nib.save(image, folder / "x_bold.nii.gz")
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), image.affine), folder / "mask.nii.gz")
    return folder / "x_bold.nii.gz", folder / "mask.nii.gz"


def read_nifti(path: Path) -> torch.Tensor:
    return as_volumes(nib.load(path).dataobj[..., window()])


def read_dense(path: Path) -> torch.Tensor:
    """As loaders do that keep a scan as one dense array file: all of it, then the window."""
    return torch.from_numpy(np.load(path)[window()])


def as_volumes(data_XYZT: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(data_XYZT.transpose(3, 1, 0, 2)[:, None], np.float16))


def measure(read: Callable[[], torch.Tensor]) -> Cost:
    read()
    counter = Path("/proc/self/io")
    before = int(counter.read_text().split()[1])
    seconds = []
    for _ in range(TRIALS):
        start = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - start)
    return Cost(float(np.median(seconds)), (int(counter.read_text().split()[1]) - before) // TRIALS)


if __name__ == "__main__":
    main()

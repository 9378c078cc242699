"""Small NIfTI runs and masks for the tests of the BOLD rooms."""

import nibabel as nib
import numpy as np

SHAPE = (5, 6, 4)
FRAMES = 12
LAS = np.array([[-2.0, 0, 0, 8], [0, 3, 0, 4], [0, 0, 4, 11], [0, 0, 0, 1]])


def save(path, seed=0, frames=FRAMES, mask=False, shape=SHAPE):
    generator = np.random.default_rng(seed)
    if mask:
        image = nib.Nifti1Image((generator.random(shape) < 0.6).astype(np.uint8), LAS)
    else:
        data = generator.normal(1000, 200, (*shape, 1)) + generator.normal(0, 50, (*shape, frames))
        image = nib.Nifti1Image(np.rint(data).astype(np.int16), LAS)
        image.header.set_slope_inter(0.5, 3)
        image.header.set_zooms((2, 3, 4, 2.0))
        image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path

"""Room under test: brainmt_align/data/bold_values.py. In: runs with dead voxels, dead frames or spikes. Out: refusals."""

import nibabel as nib
import numpy as np
import pytest

from brainmt_align.data.bold import read_bold
from brainmt_align.data.bold_values import MAX_CONSTANT_VOXELS, MAX_DEAD_FRAMES, MIN_FLOAT16_STEPS, check_resolution, moments_of
from tests.bold_files import LAS

SHAPE = (5, 6, 4)
FRAMES = 40


@pytest.fixture
def read(tmp_path):
    """read(data, …) -> the run that read_bold makes of this array and a mask that holds all voxels."""
    mask = tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), LAS), mask)

    def through_a_file(data, **settings):
        image = nib.Nifti1Image(data.astype(np.float32), LAS)
        image.header.set_zooms((2, 3, 4, 2.0))
        nib.save(image, tmp_path / "x_bold.nii")
        return read_bold(tmp_path / "x_bold.nii", mask, **settings)

    return through_a_file


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.normal(1000, 200, (*SHAPE, 1)) + generator.normal(0, 10, (*SHAPE, FRAMES))


@pytest.mark.parametrize("value", [0.0, 55.5])
def test_read_bold_refuses_a_run_whose_voxels_are_constant_beyond_a_share(read, data, value):
    flat = data.reshape(-1, FRAMES)
    limit = int(MAX_CONSTANT_VOXELS * len(flat))
    flat[:limit] = value
    assert read(data).statistics["constant_voxels"] == limit
    flat[: limit + 1] = value
    message = (
        r"at most 25% of the voxels inside the mask were expected to be constant over time, got 31 of 120\.\n"
        r"  file: .*x_bold\.nii\n  fix: drop the run, check its preprocessing, or give a mask that fits"
    )
    with pytest.raises(ValueError, match=message):
        read(data)


@pytest.mark.parametrize("fill", ["zero", "frozen", "copied"])
def test_read_bold_refuses_a_run_whose_frames_are_dead_beyond_a_share(read, data, fill):
    limit = int(MAX_DEAD_FRAMES * FRAMES)

    def kill(count):
        killed = data.copy()
        last = slice(FRAMES - count, FRAMES)
        content = {"zero": 0, "frozen": data[..., FRAMES - count - 1, None], "copied": data[..., 3 : 3 + count]}
        killed[..., last] = content[fill]
        return killed

    read(kill(limit))
    message = (
        r"at most 5% of the frames were expected to be wholly zero inside the mask or exactly equal to an earlier frame, "
        r"got 3 of 40, the first of them frame 37 \(from 0\)\.\n  file: .*\n  fix: cut these frames off, or drop the run"
    )
    with pytest.raises(ValueError, match=message):
        read(kill(limit + 1))


def test_read_bold_refuses_a_spike_that_leaves_no_distinct_values(read, data):
    assert len(np.unique(read(data).data_TV)) > 500
    data[2, 3, 1, 7] = 3e38
    message = (
        r"at least 1 float16 step was expected of the median voxel under normalisation=global, got \S+ in values from "
        r"\S+ to 3e\+38\.\n  file: .*\n  fix: take spikes out of the run, or set data\.normalisation=voxel"
    )
    with pytest.raises(ValueError, match=message):
        read(data)
    assert len(np.unique(read(data, normalisation="voxel").data_TV)) > 500


def test_check_resolution_counts_the_steps_of_float16_at_the_mean(data):
    raw_TV = np.random.default_rng(0).normal(1500, 1, (400, 9)).astype(np.float32)  # float16 is spaced by 1 there
    moments = moments_of(raw_TV)
    median = np.median(moments.sd_V)
    check_resolution(moments._replace(sd_V=moments.sd_V * (1.02 * MIN_FLOAT16_STEPS / median)), 0.0, 1.0, "none", "x.nii")
    with pytest.raises(ValueError, match=r"under normalisation=none, got 0\.98 in values"):
        check_resolution(moments._replace(sd_V=moments.sd_V * (0.98 / median)), 0.0, 1.0, "none", "x.nii")


def test_read_bold_refuses_a_mask_that_does_not_tell_left_from_right(read, data, tmp_path):
    read(data)
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), None), tmp_path / "bare.nii")
    with pytest.raises(ValueError, match=r"BOLD mask: an sform or qform was expected, got neither.*\n  file: .*bare\.nii\n"):
        read_bold(tmp_path / "x_bold.nii", tmp_path / "bare.nii")

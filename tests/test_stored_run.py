"""Room under test: brainmt_align/data/stored_run.py. In: files of the BOLD store. Out: windows, volumes, and every refusal."""

import json
import os
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from brainmt_align.data.bold import read_bold
from brainmt_align.data.bold_store import build_run
from brainmt_align.data.stored_run import FORMAT, FORMAT_VERSION, open_run
from tests.bold_files import FRAMES, save


@pytest.fixture
def run(tmp_path):
    return save(tmp_path / "sub-1_bold.nii.gz"), save(tmp_path / "mask.nii.gz", seed=7, mask=True)


@pytest.mark.parametrize("orientation", ["RAS", "LAS"])
@pytest.mark.parametrize("normalisation", ["global", "voxel"])
def test_volume_equals_the_dense_array_of_nibabel(tmp_path, run, orientation, normalisation):
    path = build_run(*run, tmp_path / "store", orientation=orientation, normalisation=normalisation)
    assert path == tmp_path / "store" / f"{orientation}_{normalisation}" / "sub-1.safetensors"
    data, inside = (nib.as_closest_canonical(nib.load(file)).get_fdata() for file in run)
    inside = inside > 0
    axes = None if normalisation == "global" else -1
    z = (data[inside] - data[inside].mean(axes, keepdims=True)) / data[inside].std(axes, keepdims=True)
    filled = np.full(data.shape, z.min() if normalisation == "global" else 0.0)
    filled[inside] = z
    if orientation == "LAS":
        filled = filled[::-1]
    expected = filled.transpose(3, 1, 0, 2)[3:8, None]
    volume = open_run(path).volume(3, 5)
    assert (volume.dtype, volume.shape) == (torch.float16, (5, 1, 6, 5, 4))
    np.testing.assert_allclose(volume.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_window_equals_the_frames_of_read_bold(tmp_path, run):
    stored = open_run(build_run(*run, tmp_path))
    whole = read_bold(*run)
    for start, frames in [(0, FRAMES), (0, 1), (4, 5), (FRAMES - 1, 1)]:
        np.testing.assert_array_equal(stored.window(start, frames), whole.data_TV[start : start + frames])
    np.testing.assert_array_equal(stored.voxels(), whole.voxels)


def test_window_reads_no_other_frame(tmp_path):
    bold = save(tmp_path / "x_bold.nii.gz", frames=200, shape=(20, 20, 10))
    stored = open_run(build_run(bold, None, tmp_path))
    expected = read_bold(bold).data_TV[50:53]
    window_bytes = expected.nbytes
    content = bytearray(stored.path.read_bytes())
    begin = stored.data_start + 50 * stored.num_voxels * 2
    content[stored.data_start : begin] = b"\xff" * (begin - stored.data_start)
    stored.path.write_bytes(content[: begin + window_bytes])
    np.testing.assert_array_equal(stored.window(50, 3), expected)
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("this system does not count the bytes that a process reads")
    before = int(counter.read_text().split()[1])
    overhead = int(counter.read_text().split()[1]) - before
    stored.window(50, 3)
    read = int(counter.read_text().split()[1]) - before - 2 * overhead
    assert window_bytes <= read <= window_bytes + 8192


def test_stored_run_goes_through_pickle(tmp_path, run):
    stored = open_run(build_run(*run, tmp_path))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stored)).window(2, 3), stored.window(2, 3))


@pytest.mark.gpu
def test_volume_is_the_same_on_the_gpu(tmp_path, run):
    stored = open_run(build_run(*run, tmp_path))
    there = stored.volume(1, 4, device="cuda")
    assert there.is_cuda
    assert torch.equal(there.cpu(), stored.volume(1, 4))


@pytest.mark.parametrize(("start", "frames"), [(-1, 2), (0, 0), (0, FRAMES + 1), (FRAMES, 1), (8, 5)])
def test_window_refuses_to_leave_the_run(tmp_path, run, start, frames):
    stored = open_run(build_run(*run, tmp_path))
    with pytest.raises(ValueError, match=rf"frames within 0 … 12 were expected, got {start} … {start + frames}"):
        stored.window(start, frames)


def test_window_refuses_a_file_that_was_cut_after_opening(tmp_path, run):
    stored = open_run(build_run(*run, tmp_path))
    os.truncate(stored.path, stored.path.stat().st_size - 2)
    with pytest.raises(ValueError, match=r"a whole file was expected, got: \d+ of \d+ values of the window"):
        stored.window(0, FRAMES)


def test_volume_refuses_voxels_that_changed(tmp_path, run):
    stored = open_run(build_run(*run, tmp_path))
    content = bytearray(stored.path.read_bytes())
    content[stored.data_start - 4] ^= 1
    stored.path.write_bytes(content)
    with pytest.raises(ValueError, match="voxels that do not fit the mask's hash"):
        stored.volume(0, 1)


def test_open_run_refuses_what_is_not_a_whole_file_of_the_store(tmp_path, run):
    path = build_run(*run, tmp_path)
    content, tensors = path.read_bytes(), load_file(path)
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION}
    with pytest.raises(FileNotFoundError, match="BOLD store: a file was expected, got none"):
        open_run(tmp_path / "absent.safetensors")
    for damaged in (content[:-100], content[:20], b"", b"\xff" * 200):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a whole file was expected, got: .*\n  file: .*\n  fix: delete it"):
            open_run(path)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"brainmt_align.bold 1 was expected, got a foreign file\."):
        open_run(path)
    save_file(tensors, path, metadata | {"format_version": "0"})
    with pytest.raises(ValueError, match=r"brainmt_align.bold 1 was expected, got brainmt_align.bold 0\."):
        open_run(path)
    save_file(tensors, path, metadata | {"header": json.dumps({"num_frames": 3, "num_voxels": 4})})
    with pytest.raises(ValueError, match="that do not fit the header"):
        open_run(path)

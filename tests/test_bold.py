"""Room under test: brainmt_align/data/bold.py. In: small NIfTI files of every kind. Out: the array, against nibabel and numpy."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from brainmt_align.data import bold_values
from brainmt_align.data.bold import MASK_FILE, NON_ZERO, read_bold, read_size, voxels_apart

SHAPE = (5, 6, 4)
FRAMES = 9
RAS = np.array([[2.0, 0, 0, -7], [0, 3, 0, 4], [0, 0, 4, 11], [0, 0, 0, 1]])
LAS = RAS @ np.diag([-1.0, 1, 1, 1])
PERMUTED = RAS[:, [2, 0, 1, 3]] @ np.diag([1.0, -1, 1, 1])
ANGLE = np.deg2rad(20)
TILT = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0, 0], [np.sin(ANGLE), np.cos(ANGLE), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
AFFINES = {"RAS": RAS, "LAS": LAS, "permuted": PERMUTED, "oblique": TILT @ LAS}


def values(seed=0, shape=SHAPE, frames=FRAMES):
    generator = np.random.default_rng(seed)
    return generator.normal(100, 20, (*shape, 1)) + generator.normal(0, 5, (*shape, frames))


def ball(shape=SHAPE):
    return (np.random.default_rng(7).random(shape) < 0.6).astype(np.uint8)


def save(path, array, affine=RAS, tr=2.0, unit="sec", kind=nib.Nifti1Image, dtype=np.float32):
    image = kind(array.astype(dtype) if dtype else array, affine)
    if array.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        image.header.set_xyzt_units("mm", unit)
    nib.save(image, path)
    return path


@pytest.fixture
def run(tmp_path):
    """The paths of an ordinary run and its mask."""
    return save(tmp_path / "x_bold.nii.gz", values()), save(tmp_path / "mask.nii.gz", ball())


def dense(run):
    """The in-mask array back in its grid, (D, H, W, T)."""
    filled = np.full((np.prod(run.grid), len(run.data_TV)), run.background, np.float16)
    filled[run.voxels] = run.data_TV.T
    return filled.reshape(*run.grid, -1)


def naive(bold, mask, normalisation):
    """The same by nibabel's canonical (RAS) images and plain float64, (D, H, W, T)."""
    data = nib.as_closest_canonical(nib.load(bold)).get_fdata()
    inside = nib.as_closest_canonical(nib.load(mask)).get_fdata() > 0 if mask else (data != 0).any(3)
    if normalisation == "global":
        z = (data - data[inside].mean()) / data[inside].std()
        background = z[inside].min()
    elif normalisation == "voxel":
        z, background = (data - data.mean(3, keepdims=True)) / data.std(3, keepdims=True), 0
    else:
        z, background = data, 0
    return np.where(inside[..., None], z, background).transpose(1, 0, 2, 3)


@pytest.mark.parametrize("stored", AFFINES)
@pytest.mark.parametrize("normalisation", ["global", "voxel", "none"])
def test_read_bold_equals_the_canonical_dense_array(tmp_path, stored, normalisation):
    shape = SHAPE if stored != "permuted" else (4, 5, 6)
    bold = save(tmp_path / "bold.nii.gz", values(shape=shape), AFFINES[stored])
    mask = save(tmp_path / "mask.nii.gz", ball(shape), AFFINES[stored], dtype=np.uint8)
    found = read_bold(bold, mask, normalisation=normalisation)
    expected = naive(bold, mask, normalisation)
    assert found.data_TV.dtype == np.float16
    assert found.mask_rule == MASK_FILE
    assert found.grid == expected.shape[:3]
    np.testing.assert_allclose(dense(found), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.affine, nib.as_closest_canonical(nib.load(bold)).affine, atol=1e-5)


@pytest.mark.parametrize("stored", AFFINES)
def test_read_size_is_that_of_the_run_read(tmp_path, stored):
    path = save(tmp_path / "run.nii", values(), AFFINES[stored])
    for orientation in ("RAS", "ASL"):
        run = read_bold(path, orientation=orientation)
        assert read_size(path, orientation) == (run.grid, len(run.data_TV))
    with pytest.raises(ValueError, match=r"4 dimensions \(X, Y, Z, T\) were expected"):
        read_size(save(tmp_path / "mask.nii", ball()))
    with pytest.raises(FileNotFoundError, match="a file was expected, got none"):
        read_size(tmp_path / "none.nii")


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "LPI", "PSR", "IRP"])
def test_read_bold_keeps_every_value_at_its_place_in_the_scanner(tmp_path, orientation):
    data, affine = values(), AFFINES["oblique"]
    bold = save(tmp_path / "bold.nii", data, affine)
    found = read_bold(bold, save(tmp_path / "mask.nii", ball(), affine), orientation=orientation, normalisation="none")
    assert "".join(nib.aff2axcodes(found.affine)) == orientation
    y, x, z = np.unravel_index(found.voxels, found.grid)
    where = np.linalg.inv(affine) @ found.affine @ np.array([x, y, z, np.ones(len(x))])
    stored = np.rint(where[:3]).astype(int)
    np.testing.assert_allclose(stored, where[:3], atol=1e-4)
    np.testing.assert_array_equal(found.data_TV, data[tuple(stored)].T.astype(np.float32).astype(np.float16))


@pytest.mark.parametrize("dtype", [np.int16, ">i2", ">f4", np.uint8, np.float64, np.int32])
def test_read_bold_reads_any_real_type_and_byte_order(tmp_path, dtype):
    data = np.rint(values())
    header = nib.Nifti1Header(endianness=">" if str(dtype).startswith(">") else "<")
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(data, RAS, header), tmp_path / "bold.nii.gz")
    stored = nib.load(tmp_path / "bold.nii.gz")
    assert stored.get_data_dtype() == np.dtype(dtype)
    found = read_bold(tmp_path / "bold.nii.gz", normalisation="none")
    np.testing.assert_array_equal(dense(found), stored.get_fdata().transpose(1, 0, 2, 3).astype(np.float16))


def test_read_bold_applies_slope_and_intercept(tmp_path):
    image = nib.Nifti1Image(np.rint(values()).astype(np.int16), LAS)
    image.header.set_slope_inter(0.25, -10)
    nib.save(image, tmp_path / "bold.nii.gz")
    assert nib.load(tmp_path / "bold.nii.gz").dataobj.slope == 0.25
    found = read_bold(tmp_path / "bold.nii.gz", normalisation="global")
    np.testing.assert_allclose(dense(found), naive(tmp_path / "bold.nii.gz", None, "global"), rtol=1e-3, atol=1e-3)


def test_read_bold_reads_nifti2(tmp_path, run):
    twin = save(tmp_path / "two.nii.gz", values(), kind=nib.Nifti2Image)
    np.testing.assert_array_equal(read_bold(twin, run[1]).data_TV, read_bold(*run).data_TV)


def test_read_bold_is_the_same_in_blocks_of_one_frame(run, monkeypatch):
    whole = read_bold(*run)
    monkeypatch.setattr(bold_values, "VALUES_PER_BLOCK", 1)
    pieces = read_bold(*run)
    np.testing.assert_array_equal(pieces.data_TV, whole.data_TV)
    np.testing.assert_array_equal(read_bold(run[0]).voxels, np.arange(np.prod(SHAPE)))


def test_read_bold_records_the_statistics_before_normalisation(run):
    found = read_bold(*run)
    inside = values().astype(np.float32)[ball() > 0].astype(np.float64)
    expected = {"mean": inside.mean(), "sd": inside.std(), "minimum": inside.min(), "maximum": inside.max()}
    assert found.statistics == pytest.approx(expected | {"zero_voxels": 0, "constant_voxels": 0}, rel=1e-12)
    assert found.background == found.data_TV.min()


def test_read_bold_statistics_survive_a_large_mean(tmp_path):
    bold = save(tmp_path / "bold.nii", 30_000 + values() / 100, dtype=np.float64)
    found = read_bold(bold, normalisation="voxel").data_TV.astype(np.float64)
    np.testing.assert_allclose(found.std(0), 1, atol=0.01)
    np.testing.assert_allclose(found.mean(0), 0, atol=0.01)


def test_read_bold_without_mask_takes_voxels_that_are_ever_non_zero(tmp_path):
    data = values()
    data[:2] = 0
    data[0, 0, 0, 3] = 50
    found = read_bold(save(tmp_path / "bold.nii.gz", data), normalisation="global")
    assert found.mask_rule == NON_ZERO
    assert len(found.voxels) == np.prod(SHAPE) - 2 * 24 + 1
    np.testing.assert_allclose(dense(found), naive(tmp_path / "bold.nii.gz", None, "global"), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("normalisation", ["global", "voxel", "none"])
def test_read_bold_gives_background_to_voxels_of_the_mask_that_are_always_zero(tmp_path, normalisation):
    data, everywhere = values(), np.ones(SHAPE)
    data[1] = 0
    bold = save(tmp_path / "bold.nii", data)
    found, alone = (read_bold(bold, m, normalisation=normalisation) for m in (save(tmp_path / "m.nii", everywhere), None))
    np.testing.assert_array_equal(dense(found), dense(alone))
    assert found.data_TV.shape[1] == everywhere.size
    assert (found.statistics["zero_voxels"], alone.statistics["zero_voxels"]) == (24, 0)
    assert found.statistics["sd"] == pytest.approx(alone.statistics["sd"], rel=1e-12)


def test_read_bold_sets_a_constant_voxel_to_zero_when_normalised_by_voxel(tmp_path):
    data = values()
    data[2, 3, 1] = 77.7
    data[3, 3, 1] = 5000 * (1 + 1e-8 * np.arange(FRAMES))
    found = read_bold(save(tmp_path / "bold.nii", data), normalisation="voxel")
    assert not dense(found)[3, 2:4, 1].any()
    assert found.statistics["constant_voxels"] == 2


def test_read_bold_takes_a_mask_stored_with_other_axes(tmp_path):
    bold = save(tmp_path / "bold.nii", values(), LAS)
    same = save(tmp_path / "same.nii", ball(), LAS)
    nib.save(nib.as_closest_canonical(nib.load(same)), tmp_path / "other.nii")
    assert nib.aff2axcodes(nib.load(tmp_path / "other.nii").affine) == ("R", "A", "S")
    np.testing.assert_array_equal(read_bold(bold, tmp_path / "other.nii").data_TV, read_bold(bold, same).data_TV)


def test_read_bold_takes_a_mask_with_one_frame_and_an_affine_that_differs_by_rounding(tmp_path, run):
    mask = save(tmp_path / "m.nii", ball()[..., None] * 255, RAS + 1e-4, dtype=np.uint8)
    np.testing.assert_array_equal(read_bold(run[0], mask).data_TV, read_bold(*run).data_TV)


def test_read_bold_refuses_unknown_settings(run):
    for orientation in ("RAR", "RA", "RASS", "ras", "XYZ"):
        with pytest.raises(ValueError, match=f"one letter of each of L/R, A/P and S/I was expected, got '{orientation}'"):
            read_bold(*run, orientation=orientation)
    with pytest.raises(ValueError, match="one of global, voxel, none was expected, got 'zscore'"):
        read_bold(*run, normalisation="zscore")


def test_read_bold_refuses_a_single_volume_and_several_values_a_frame(tmp_path):
    with pytest.raises(ValueError, match=r"4 dimensions \(X, Y, Z, T\) were expected, got \(5, 6, 4\)"):
        read_bold(save(tmp_path / "t1.nii.gz", values()[..., 0]))
    with pytest.raises(ValueError, match=r"4 dimensions \(X, Y, Z, T\) were expected, got \(5, 6, 4, 9, 2\)"):
        read_bold(save(tmp_path / "vectors.nii.gz", np.repeat(values()[..., None], 2, axis=4)))


def test_read_bold_takes_a_last_axis_of_length_one(tmp_path, run):
    image = nib.Nifti1Image(values()[..., None].astype(np.float32), RAS)
    image.header.set_zooms((2, 3, 4, 2.0, 1))
    nib.save(image, tmp_path / "five.nii.gz")
    assert nib.load(tmp_path / "five.nii.gz").shape == (*SHAPE, FRAMES, 1)
    np.testing.assert_array_equal(read_bold(tmp_path / "five.nii.gz", run[1]).data_TV, read_bold(*run).data_TV)


def test_read_bold_refuses_too_few_frames(run):
    with pytest.raises(ValueError, match=r"BOLD has 9 frames; at least 200 are needed\.\n  file: .*\n  fix: set train.window=9"):
        read_bold(*run, min_frames=200)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_read_bold_counts_and_places_values_that_are_not_finite(tmp_path, bad):
    data = values()
    data[3, 1, 2, 4:] = data[0, 5, 3, 6] = bad
    bold = save(tmp_path / "bold.nii.gz", data, LAS)
    got = r"were expected, got 6 NaN or infinite ones, the first in frame 4 at voxel \(3, 1, 2\)"
    with pytest.raises(ValueError, match=rf"finite values in the voxels that are ever non-zero \(no mask was given\) {got}"):
        read_bold(bold)
    mask = np.ones(SHAPE)
    with pytest.raises(ValueError, match=f"finite values inside the mask {got}"):
        read_bold(bold, save(tmp_path / "mask.nii", mask, LAS))
    mask[3, 1, 2] = mask[0, 5, 3] = 0
    assert np.isfinite(read_bold(bold, save(tmp_path / "mask.nii", mask, LAS)).data_TV).all()


@pytest.mark.parametrize("normalisation", ["global", "voxel", "none"])
def test_read_bold_refuses_a_run_that_never_varies(tmp_path, normalisation):
    static = np.repeat(values()[..., :1], FRAMES, axis=3)
    with pytest.raises(ValueError, match="a signal that varies over time was expected, got 120 voxels constant in 9 frames"):
        read_bold(save(tmp_path / "bold.nii", static), normalisation=normalisation)


def test_read_bold_refuses_a_mask_on_another_grid(tmp_path, run):
    small = save(tmp_path / "small.nii", np.ones((4, 6, 5)))
    with pytest.raises(ValueError, match=r"the grid of the run, \(5, 6, 4\) in RAS, was expected, got \(4, 6, 5\)"):
        read_bold(run[0], small)
    shifted = save(tmp_path / "shifted.nii", ball(), RAS + np.eye(4)[:, [3, 2, 1, 0]] * [0, 0, 0, 1])
    with pytest.raises(ValueError, match=r"got affines that lie 0.5 voxels apart\.\n  file: .*shifted.nii\n  run: .*x_bold"):
        read_bold(run[0], shifted)
    with pytest.raises(ValueError, match=r"3 dimensions were expected, got \(5, 6, 4, 9\)"):
        read_bold(run[0], run[0])


def test_read_bold_refuses_an_empty_mask(tmp_path, run):
    with pytest.raises(ValueError, match="at least one voxel inside was expected, got none"):
        read_bold(run[0], save(tmp_path / "empty.nii", np.zeros(SHAPE)))
    with pytest.raises(ValueError, match="at least one voxel inside was expected, got none"):
        read_bold(save(tmp_path / "zeros.nii", np.zeros((*SHAPE, FRAMES))))


@pytest.mark.parametrize("kept", [0.5, 0.9, -4])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_read_bold_refuses_a_truncated_file(tmp_path, kept, suffix):
    bold = save(tmp_path / f"bold.{suffix}", values(frames=40))
    content = bold.read_bytes()
    bold.write_bytes(content[: kept if kept < 0 else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"a whole, readable file was expected, got: .*\n  file: .*\n  fix: fetch or write"):
        read_bold(bold)


def test_read_bold_refuses_a_file_whose_checksum_is_wrong(run):
    content = bytearray(run[0].read_bytes())
    content[-8] ^= 1
    run[0].write_bytes(content)
    with pytest.raises(ValueError, match="a whole, readable file was expected, got: CRC check failed"):
        read_bold(*run)


def test_read_bold_refuses_a_truncated_mask(tmp_path, run):
    mask = save(tmp_path / "mask.nii", ball())
    mask.write_bytes(mask.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a whole, readable file was expected, got: Expected 480 bytes.*\n  file: .*mask.nii\n"):
        read_bold(run[0], mask)


def test_read_bold_refuses_what_is_no_nifti(tmp_path):
    with pytest.raises(FileNotFoundError, match="NIfTI: a file was expected, got none"):
        read_bold(tmp_path / "absent.nii.gz")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"not an image" * 100))
    with pytest.raises(ValueError, match=r"a .nii or .nii.gz volume was expected, got: .*\n  file: .*text"):
        read_bold(tmp_path / "text.nii.gz")
    nib.save(nib.MGHImage(values().astype(np.float32), RAS), tmp_path / "surfer.mgz")
    with pytest.raises(ValueError, match="volume was expected, got: MGHImage"):
        read_bold(tmp_path / "surfer.mgz")
    with pytest.raises(ValueError, match="real numbers were expected, got complex64"):
        read_bold(save(tmp_path / "bold.nii", values(), dtype=np.complex64))


def test_read_bold_refuses_a_file_that_does_not_tell_left_from_right(tmp_path):
    nib.save(nib.Nifti1Image(values().astype(np.float32), None), tmp_path / "bold.nii")
    with pytest.raises(ValueError, match="an sform or qform was expected, got neither"):
        read_bold(tmp_path / "bold.nii")


def test_read_bold_refuses_a_singular_affine(tmp_path):
    bold = save(tmp_path / "bold.nii", values())
    content = bytearray(bold.read_bytes())
    content[296:312] = bytes(16)  # srow_y
    bold.write_bytes(content)
    with pytest.raises(ValueError, match="an invertible affine was expected"):
        read_bold(bold)


def test_read_bold_refuses_values_beyond_float16_when_not_normalised(tmp_path):
    bold = save(tmp_path / "bold.nii", 65_519 * values() / values().max())
    with pytest.raises(ValueError, match=r"values within ±65504 \(float16\) were expected unnormalised"):
        read_bold(bold, normalisation="none")
    assert np.isfinite(read_bold(bold, normalisation="global").data_TV).all()


def test_read_bold_reads_the_real_runs_as_nibabel_does(real_dir):
    folder = real_dir / "haxby2001_25mm"
    runs = sorted(folder.glob("*_bold_25mm.nii.gz"))
    assert len(runs) == 12
    for path in runs:
        found = read_bold(path, folder / "brain_mask.nii.gz")
        assert (found.data_TV.shape, found.grid, found.tr_s) == ((121, 129), (10, 6, 10), 2.5)
        np.testing.assert_allclose(dense(found), naive(path, folder / "brain_mask.nii.gz", "global"), rtol=1e-3, atol=1e-3)
        mirrored = dense(read_bold(path, folder / "brain_mask.nii.gz", orientation="LAS"))
        np.testing.assert_array_equal(mirrored[:, ::-1], dense(found))


def test_read_bold_reads_a_real_resting_state_run_without_mask(real_dir):
    path = real_dir / "pumi_unittest" / "sub-001" / "func" / "sub-001_task-rest_bold.nii.gz"
    found = read_bold(path)
    assert (found.grid, found.tr_s, found.mask_rule) == ((46, 46, 26), 2.52, NON_ZERO)
    np.testing.assert_allclose(dense(found), naive(path, None, "global"), rtol=1e-3, atol=1e-3)


def test_voxels_apart_is_the_farthest_corner_in_voxels_of_the_first_grid():
    affine, other = np.diag([2.0, 2, 4, 1]), np.diag([2.0, 2, 4, 1])
    assert voxels_apart((3, 4, 5), affine, other) == 0
    other[2, 3] = -6
    assert voxels_apart((3, 4, 5), affine, other) == pytest.approx(1.5)
    other[2, 2] = 5  # the last of five slices moves by 4 mm more
    assert voxels_apart((3, 4, 5), affine, other) == pytest.approx(1.5)
    other[2, 3] = 0
    assert voxels_apart((3, 4, 5), affine.tolist(), other.tolist()) == pytest.approx(1.0)

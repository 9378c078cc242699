"""Room under test: brainmt_align/evaluation/brain_maps.py. In: maps of people. Out: a group's map, and NIfTI files in place."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from brainmt_align.data.bold_store import build_run, open_run
from brainmt_align.evaluation.brain_maps import average_maps, write_map
from tests.bold_files import LAS

SHAPE, FRAMES, MARKED = (6, 7, 5), 12, (4, 1, 3)
RAS = np.array([[2.0, 0, 0, -8], [0, 3, 0, -4], [0, 0, 4, 11], [0, 0, 0, 1]])
PSL = np.array([[0.0, 0, -4, 9], [-2, 0, 0, 5], [0, 3, 0, -7], [0, 0, 0, 1]])  # axes run to the back, up and to the left


def stored(folder, affine=LAS, orientation="RAS", name="sub-1_bold"):
    """A run of noise in which one voxel is loud."""
    values = np.random.default_rng(0).normal(100, 5, (*SHAPE, FRAMES))
    values[MARKED] += np.linspace(-900, 900, FRAMES)
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    image.header.set_zooms((*np.abs(affine[:3, :3]).sum(0), 2.0))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, folder / f"{name}.nii.gz")
    return open_run(build_run(folder / f"{name}.nii.gz", None, folder / "store", orientation=orientation, normalisation="none"))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("orientation", ["RAS", "LAS", "SPR"])
@pytest.mark.parametrize("affine", [RAS, LAS, PSL], ids=["RAS", "LAS", "PSL"])
def test_write_map_puts_a_voxel_back_where_the_scanned_file_has_it(tmp_path, affine, orientation, ending):
    run = stored(tmp_path, affine, orientation)
    loudness = run.volume(0, FRAMES).double().std(0)[0].numpy()
    path = write_map(loudness, run, tmp_path / f"map{ending}")
    image = nib.load(path)
    values = image.get_fdata()
    found = np.unravel_index(values.argmax(), values.shape)
    np.testing.assert_allclose(apply_affine(image.affine, found), apply_affine(affine, MARKED), atol=1e-4)
    # And so does every other voxel.
    source = nib.load(tmp_path / "sub-1_bold.nii.gz")
    expected = source.get_fdata().std(-1, ddof=1)
    there = np.rint(apply_affine(np.linalg.inv(source.affine) @ image.affine, np.indices(values.shape).reshape(3, -1).T))
    np.testing.assert_allclose(values.ravel(), expected[tuple(there.astype(int).T)], rtol=0.01, atol=0.05)
    assert "".join(nib.aff2axcodes(image.affine)) == orientation
    assert image.header.get_data_dtype() == np.float32 and image.header.get_xyzt_units()[0] == "mm"


def test_write_map_says_mni_of_runs_that_do_and_nothing_of_others(tmp_path):
    for name, code in (("sub-1_space-MNI152NLin2009cAsym_bold", 4), ("sub-1_bold", 2)):
        run = stored(tmp_path, name=name)
        header = nib.load(write_map(np.ones(run.volume_shape), run, tmp_path / "map.nii.gz")).header
        assert (header["sform_code"], header["qform_code"]) == (code, code)


def test_write_map_gives_the_same_file_again_and_leaves_no_other(tmp_path):
    run = stored(tmp_path)
    (tmp_path / "maps").mkdir()
    values = np.random.default_rng(0).normal(size=run.volume_shape)
    first = write_map(values, run, tmp_path / "maps" / "map.nii.gz").read_bytes()
    assert write_map(values, run, str(tmp_path / "maps" / "map.nii.gz")).read_bytes() == first
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["map.nii.gz"]


def test_write_map_refuses_other_grids_values_and_endings(tmp_path):
    run = stored(tmp_path)
    assert run.volume_shape == (7, 6, 5)
    with pytest.raises(ValueError, match=r"the run's grid \(7, 6, 5\) were expected, got \(6, 7, 5\) with 0 that are not finite"):
        write_map(np.zeros(SHAPE), run, tmp_path / "map.nii")
    with pytest.raises(ValueError, match="with 210 that are not finite"):
        write_map(np.full((7, 6, 5), np.nan), run, tmp_path / "map.nii")
    with pytest.raises(ValueError, match=r"ends in \.nii or \.nii\.gz was expected, got map\.mgz"):
        write_map(np.zeros((7, 6, 5)), run, tmp_path / "map.mgz")


def test_average_maps_of_unrelated_people_is_the_one_sample_t():
    maps = np.random.default_rng(0).normal(1, 2, (12, 3, 4, 5))
    maps[:, 0] = 0
    found = average_maps(iter(maps), range(12))
    np.testing.assert_allclose(found.mean_DHW, maps.mean(0))
    expected = maps[:, 1:].mean(0) / (maps[:, 1:].std(0, ddof=1) / np.sqrt(12))
    np.testing.assert_allclose(found.t_DHW[1:], expected)
    assert (found.t_DHW[0] == 0).all() and (found.people, found.families) == (12, 12)


def test_average_maps_takes_a_family_for_one_unit_whatever_the_order_of_its_members():
    rng = np.random.default_rng(1)
    families = np.array([0, 1, 0, 2, 3, 1, 0, 4])
    maps = rng.normal(5, 1, (8, 2, 2, 2)) + rng.normal(0, 3, (5, 2, 2, 2))[families]
    found = average_maps(maps, families.tolist())
    residual = np.stack([(maps - maps.mean(0))[families == family].sum(0) for family in range(5)])
    np.testing.assert_allclose(found.t_DHW, maps.mean(0) / (np.sqrt(np.square(residual).sum(0) * 5 / 4) / 8))
    twice = average_maps(np.repeat(maps, 2, 0), np.repeat(families, 2).tolist())
    np.testing.assert_allclose(twice.t_DHW, found.t_DHW)
    assert (average_maps(np.full((3, 1, 1, 1), 0.1), "abc").t_DHW == 0).all()


@pytest.mark.parametrize(
    ("maps", "families", "message"),
    [
        (np.zeros((3, 2, 2, 2)), "aaa", "2 families or more were expected, got 1"),
        (np.zeros((2, 2, 2, 2)), "abc", "one map for each of 3 families given was expected, got more or fewer"),
        (np.zeros((4, 2, 2, 2)), "abc", "got more or fewer"),
        (
            [np.zeros((2, 2, 2)), np.zeros((2, 2, 3))],
            "ab",
            r"got \(2, 2, 3\) for person 1 beside \(2, 2, 2\), 0 values not finite",
        ),
        (np.full((2, 1, 1, 1), np.inf), "ab", r"got \(1, 1, 1\) for person 0, 1 values not finite"),
    ],
)
def test_average_maps_refuses_what_does_not_pair(maps, families, message):
    with pytest.raises(ValueError, match=message):
        average_maps(maps, families)

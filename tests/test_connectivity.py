"""Room under test: brainmt_align/evaluation/connectivity.py. In: stored runs. Out: regions where they belong, and Fisher z."""

import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.bold_store import build_run, open_run
from brainmt_align.evaluation.connectivity import (
    atlas_regions,
    cohort_connectivity,
    cohort_regions,
    connectivity,
    grid_regions,
    people_connectivity,
    region_series,
)
from tests.bold_files import LAS

SHAPE, FRAMES = (6, 7, 5), 30
REGIONS_XYZ = 1 + (np.arange(6) >= 3)[:, None, None] + 2 * (np.arange(7) >= 4)[None, :, None] * np.ones((6, 7, 5), int)


def stored(folder, name="a", seed=0, shape=SHAPE, affine=LAS, values=None, inside=None, orientation="RAS"):
    """One run of noise, or of the values given, on an oblong grid whose x axis runs to the left."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 5, (*shape, FRAMES)) if values is None else values
    image = nib.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_zooms((2, 3, 4, 2.0))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, folder / f"{name}_bold.nii.gz")
    mask = None
    if inside is not None:
        mask = folder / f"{name}_mask.nii.gz"
        nib.save(nib.Nifti1Image(inside.astype(np.uint8), affine), mask)
    return open_run(
        build_run(folder / f"{name}_bold.nii.gz", mask, folder / "store", orientation=orientation, normalisation="voxel")
    )


def save_atlas(path, values, affine=LAS):
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def test_grid_regions_are_compact_and_cover_the_voxels_that_all_runs_share(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((2, *SHAPE)) < 0.8
    runs = [stored(tmp_path, f"m{at}", at, inside=mask) for at, mask in enumerate(masks)]
    labels = grid_regions(runs, 6, seed=0)
    shared = np.intersect1d(runs[0].voxels(), runs[1].voxels())
    assert labels.dtype == np.int32 and labels.shape == (np.prod(SHAPE),)
    np.testing.assert_array_equal(np.flatnonzero(labels), shared)
    assert set(labels[shared]) == set(range(1, 7))
    np.testing.assert_array_equal(labels, grid_regions(runs, 6, seed=0))
    # Voxels are 2 x 3 x 4 mm; D, H, W = Y, X, Z. Each is nearest to the centre of its own region, in millimetres.
    millimetres = np.column_stack(np.unravel_index(shared, runs[0].volume_shape)) * (3, 2, 4)
    centres = np.stack([millimetres[labels[shared] == region].mean(0) for region in range(1, 7)])
    nearest = np.linalg.norm(millimetres[:, None] - centres, axis=2).argmin(1) + 1
    np.testing.assert_array_equal(nearest, labels[shared])


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "SPR"])
def test_atlas_regions_lie_where_the_atlas_says_whatever_the_stored_orientation(tmp_path, orientation):
    """Every voxel's series is the atlas' number at its place plus a signal, so that region means give the numbers back."""
    rng = np.random.default_rng(1)
    values = 100.0 * REGIONS_XYZ[..., None] + rng.normal(0, 5, (*SHAPE, 1)) + rng.normal(0, 1, (*SHAPE, FRAMES))
    image = nib.Nifti1Image(values.astype(np.float32), LAS)
    image.header.set_zooms((2, 3, 4, 2.0))
    nib.save(image, tmp_path / "x_bold.nii.gz")
    run = open_run(build_run(tmp_path / "x_bold.nii.gz", None, tmp_path, orientation=orientation, normalisation="none"))
    # The atlas is stored with other axes and half the voxel size.
    fine = np.repeat(np.repeat(np.repeat(REGIONS_XYZ, 2, 0), 2, 1), 2, 2).astype(np.int16)
    halved = LAS @ np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])
    atlas = nib.as_closest_canonical(nib.Nifti1Image(fine, halved))
    nib.save(atlas, tmp_path / "atlas.nii.gz")
    labels = atlas_regions(tmp_path / "atlas.nii.gz", [run])
    assert set(labels) == {1, 2, 3, 4}
    np.testing.assert_allclose(region_series(run, labels).mean(0), [100, 200, 300, 400], atol=5)
    assert [np.sum(labels == region) for region in (1, 2, 3, 4)] == [60, 60, 45, 45]


def test_atlas_regions_number_what_is_left_in_order_and_name_what_is_lost(tmp_path):
    inside = np.ones(SHAPE, bool)
    inside[:3, :4] = False  # region 1
    run = stored(tmp_path, inside=inside)
    atlas = save_atlas(tmp_path / "atlas.nii.gz", (10 * REGIONS_XYZ).astype(np.float32))
    with pytest.warns(UserWarning, match=r"without a voxel in all runs are left out: 10\.\n  file: .*atlas.nii.gz"):
        labels = atlas_regions(atlas, [run])
    assert set(labels[run.voxels()]) == {1, 2, 3}
    assert (labels == 0).sum() == 60


def test_cohort_regions_are_the_atlas_where_one_is_named_and_the_grid_otherwise(tmp_path):
    run = stored(tmp_path)
    atlas = save_atlas(tmp_path / "atlas.nii.gz", REGIONS_XYZ.astype(np.int16))
    np.testing.assert_array_equal(cohort_regions([run.path], 5, 1), grid_regions([run], 5, seed=1))
    np.testing.assert_array_equal(cohort_regions([run.path], 5, 1, atlas), atlas_regions(atlas, [run]))


def test_region_series_equal_the_means_of_a_loop(tmp_path, monkeypatch):
    inside = np.random.default_rng(2).random(SHAPE) < 0.8
    run = stored(tmp_path, inside=inside)
    labels = grid_regions([run], 5, seed=1)
    whole = run.window(0, FRAMES).astype(np.float64)
    expected = np.column_stack([whole[:, labels[run.voxels()] == region].mean(1) for region in range(1, 6)])
    series = region_series(run, labels)
    assert series.dtype == np.float32
    np.testing.assert_allclose(series, expected, rtol=1e-6, atol=1e-7)
    monkeypatch.setattr("brainmt_align.evaluation.connectivity.VALUES_PER_BLOCK", 7 * run.num_voxels)
    np.testing.assert_array_equal(region_series(run, labels), series)


def test_connectivity_is_the_fisher_z_of_the_correlations():
    rng = np.random.default_rng(3)
    series = [rng.standard_normal((frames, 4)).astype(np.float32) for frames in (20, 35)]
    z = connectivity(series)
    assert z.shape == (2, 6) and z.dtype == np.float32
    for row, each in zip(z, series, strict=True):
        r = np.corrcoef(each.astype(np.float64).T)
        np.testing.assert_allclose(row, [np.arctanh(r[i, j]) for i in range(4) for j in range(i)], rtol=1e-5, atol=1e-6)


def test_connectivity_of_equal_regions_is_large_and_finite():
    series = np.random.default_rng(4).standard_normal((20, 1)).astype(np.float32)
    z = connectivity([np.column_stack([series, series, -series])])[0]
    np.testing.assert_allclose(z, [7.254, -7.254, -7.254], atol=0.03)


def test_connectivity_finds_a_planted_coupling():
    rng = np.random.default_rng(5)
    driver = rng.standard_normal(5000)
    series = np.column_stack([0.6 * driver + 0.8 * rng.standard_normal(5000), driver, rng.standard_normal(5000)])
    np.testing.assert_allclose(np.tanh(connectivity([series])[0]), [0.6, 0, 0], atol=0.05)


def test_people_connectivity_averages_the_z_of_a_persons_runs(tmp_path):
    runs = [stored(tmp_path, name, seed) for seed, name in enumerate("abc")]
    labels = grid_regions(runs, 4, seed=0)
    paths = [str(run.path) for run in runs]
    found = people_connectivity([paths[:2], paths[2:]], labels)
    z = connectivity(region_series(run, labels) for run in runs)
    assert found.shape == (2, 6) and found.dtype == np.float32
    np.testing.assert_allclose(found, [z[:2].mean(0), z[2]], rtol=1e-6)


def test_connectivity_rooms_warn_of_nothing(tmp_path):
    run = stored(tmp_path)
    atlas = save_atlas(tmp_path / "atlas.nii.gz", REGIONS_XYZ.astype(np.int32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people_connectivity([[str(run.path)]], atlas_regions(atlas, [run]))


def test_people_connectivity_names_run_and_region_that_do_not_vary(tmp_path):
    values = np.random.default_rng(6).normal(100, 5, (*SHAPE, FRAMES))
    values[3:, 4:] = 100
    runs = [stored(tmp_path, "still", values=values), stored(tmp_path, "fine")]
    labels = atlas_regions(save_atlas(tmp_path / "atlas.nii.gz", REGIONS_XYZ.astype(np.int16)), runs)
    with pytest.raises(ValueError, match=r"got 1 constant, the first region 4\.\n  run: .*still\.safetensors"):
        people_connectivity([[str(runs[1].path), str(runs[0].path)]], labels)


def test_regions_refuse_runs_of_different_grids(tmp_path):
    one, smaller = stored(tmp_path, "one"), stored(tmp_path, "smaller", shape=(5, 7, 5))
    shifted = LAS.copy()
    shifted[1, 3] += 6  # two voxels of 3 mm
    away = stored(tmp_path, "away", affine=shifted)
    with pytest.raises(
        ValueError, match=r"grid \(7, 6, 5\) of one.safetensors was expected, got \(7, 5, 5\)\.\n  file: .*smaller"
    ):
        grid_regions([one, smaller], 3, seed=0)
    with pytest.raises(ValueError, match="got a grid 2 voxels away"):
        grid_regions([one, away], 3, seed=0)
    with pytest.raises(ValueError, match=r"labels of the run's grid \(7, 5, 5\) were expected, got \(210,\)"):
        region_series(smaller, grid_regions([one], 3, seed=0))


def test_regions_refuse_too_few_voxels(tmp_path):
    half = np.arange(6)[:, None, None] * np.ones(SHAPE) < 3
    left, right = stored(tmp_path, "left", inside=half), stored(tmp_path, "right", inside=~half)
    with pytest.raises(ValueError, match="voxels that all of 2 runs share were expected, got none"):
        grid_regions([left, right], 3, seed=0)
    for count in (1, 106):
        with pytest.raises(ValueError, match=f"expected 2 to 105 of them, as many as 1 runs share voxels, got {count}"):
            grid_regions([left], count, seed=0)
    with pytest.raises(ValueError, match="one run or more was expected"):
        grid_regions([], 3, seed=0)
    with pytest.raises(ValueError, match=r"voxel in each of 3 regions was expected, got none in region \d\.\n  file: .*right"):
        region_series(right, grid_regions([left], 3, seed=0))


def test_atlas_regions_refuse_what_is_no_atlas(tmp_path):
    run = stored(tmp_path)
    with pytest.raises(FileNotFoundError, match="Atlas: a NIfTI file was expected, got none"):
        atlas_regions(tmp_path / "none.nii.gz", [run])
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(ValueError, match="Atlas: a readable NIfTI file was expected"):
        atlas_regions(tmp_path / "text.nii.gz", [run])
    for values in (np.full((4, 4, 4), 0.5, np.float32), np.zeros((4, 4, 4, 2), np.int16), -np.ones((4, 4, 4), np.int16)):
        with pytest.raises(ValueError, match="a 3-D image of whole numbers of 0 or more was expected"):
            atlas_regions(save_atlas(tmp_path / "odd.nii.gz", values), [run])
    elsewhere = LAS.copy()
    elsewhere[:3, 3] += 500
    atlas = save_atlas(tmp_path / "far.nii.gz", REGIONS_XYZ.astype(np.int16), elsewhere)
    with pytest.raises(ValueError, match="2 regions or more within the voxels that 1 runs share, got 0"):
        atlas_regions(atlas, [run])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: connectivity([]), "one run or more was expected, got none"),
        (lambda: connectivity([np.ones((2, 4))]), r"3 frames or more of 2 regions or more were expected, got \(2, 4\)"),
        (lambda: connectivity([np.ones((9, 1))]), r"got \(9, 1\)"),
        (
            lambda: connectivity([np.array([[1, 2], [np.nan, 3], [2, 2.0]])]),
            "finite values were expected, got others in region 1",
        ),
        (lambda: connectivity([np.array([[1, 2], [3, 2], [2, 2.0]])], ["a"]), r"first region 2\.\n  run: a"),
        (lambda: connectivity([np.eye(3), np.eye(4)]), r"3 regions were expected as in the run before, got 4\.\n  run: 1"),
        (lambda: people_connectivity([["a"], []], np.ones(4)), "got 2 people of whom 1 have none"),
        (lambda: people_connectivity([], np.ones(4)), "got 0 people"),
    ],
)
def test_connectivity_refuses_what_has_none(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_cohort_connectivity_is_that_of_each_persons_runs_in_the_order_asked_for(tmp_path):
    paths = [str(stored(tmp_path, f"r{at}", at).path) for at in range(4)]
    runs = pd.DataFrame({"subject_id": ["b", "a", "b", "c"], "store_path": paths})
    found = cohort_connectivity(runs, ["a", "b"], 5, seed=3)
    labels = grid_regions([open_run(paths[row]) for row in (1, 0, 2)], 5, seed=3)
    np.testing.assert_array_equal(found.edges_NF, people_connectivity([[paths[1]], [paths[0], paths[2]]], labels))
    assert found.regions == 5
    atlas = save_atlas(tmp_path / "atlas.nii.gz", REGIONS_XYZ.astype(np.int16))
    assert cohort_connectivity(runs, ["a"], 5, seed=3, atlas=atlas).regions == 4


def test_cohort_connectivity_names_people_without_runs(tmp_path):
    runs = pd.DataFrame({"subject_id": ["a"], "store_path": [str(stored(tmp_path).path)]})
    with pytest.raises(ValueError, match="stored runs of 3 people were expected, got none of 2: b, c"):
        cohort_connectivity(runs, ["a", "b", "c"], 5, seed=0)

"""Room under test: brainmt_align/data/bids.py. In: folders of empty files with BIDS names. Out: the table of runs."""

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.bids import mean_displacement, run_id_of, sidecar_repetition_time, sidecars_of
from brainmt_align.data.bold import find_runs

MNI = "space-MNI152NLin2009cAsym"


@pytest.fixture
def make(tmp_path):
    """make("sub-01/func/name.nii.gz", …) -> folder that holds these empty files."""

    def touch(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return touch


def test_find_runs_joins_mask_and_confounds_of_the_same_entities(make):
    session = "sub-01/ses-b/func/sub-01_ses-b_task-rest"
    for stem in ("sub-02/func/sub-02_task-rest", f"{session}_run-2", f"{session}_run-1"):
        make(f"{stem}_{MNI}_desc-preproc_bold.nii.gz", f"{stem}_{MNI}_desc-preproc_bold.json", f"{stem}_{MNI}_boldref.nii.gz")
        make(f"{stem}_{MNI}_desc-brain_mask.nii.gz", f"{stem}_desc-confounds_timeseries.tsv")
    folder = make("sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    runs = find_runs(folder)
    assert list(runs.columns) == ["subject_id", "run_id", "bold_path", "mask_path", "confounds_path"]
    assert list(runs["subject_id"]) == ["01", "01", "02"]
    assert list(runs["run_id"].str.removesuffix(f"_{MNI}")) == [
        "sub-01_ses-b_task-rest_run-1",
        "sub-01_ses-b_task-rest_run-2",
        "sub-02_task-rest",
    ]
    for run in runs.itertuples():
        stem = run.run_id.removesuffix(f"_{MNI}")
        assert run.bold_path.endswith(f"/{run.run_id}_desc-preproc_bold.nii.gz")
        assert run.mask_path.endswith(f"/{run.run_id}_desc-brain_mask.nii.gz")
        assert run.confounds_path.endswith(f"/{stem}_desc-confounds_timeseries.tsv")


def test_find_runs_prefers_preprocessed_when_the_raw_run_is_there_too(make):
    folder = make(
        "raw/sub-01/func/sub-01_task-rest_echo-1_bold.nii.gz",
        "raw/sub-01/func/sub-01_task-rest_echo-2_bold.nii.gz",
        "derivatives/sub-01/func/sub-01_task-rest_desc-preproc_bold.nii.gz",
        "raw/sub-02/func/sub-02_task-rest_bold.nii",
    )
    runs = find_runs(folder)
    assert list(runs["run_id"]) == ["sub-01_task-rest", "sub-02_task-rest"]
    assert "derivatives" in runs["bold_path"][0]
    assert runs[["mask_path", "confounds_path"]].isna().all(axis=None)


def test_find_runs_takes_the_named_desc_when_there_are_others(make):
    stem = f"sub-01/func/sub-01_task-rest_{MNI}"
    folder = make(f"{stem}_desc-preproc_bold.nii.gz", f"{stem}_desc-denoised_bold.nii.gz", f"{stem}_desc-brain_mask.nii.gz")
    assert find_runs(folder)["bold_path"][0].endswith("_desc-preproc_bold.nii.gz")
    denoised = find_runs(folder, desc="denoised")
    assert denoised["bold_path"][0].endswith("_desc-denoised_bold.nii.gz")
    assert denoised["mask_path"].notna().all()


def test_find_runs_lists_the_spaces_when_there_are_several(make):
    stem = "sub-01/func/sub-01_task-rest"
    folder = make(*(f"{stem}{space}_desc-preproc_bold.nii.gz" for space in ("", f"_{MNI}", "_space-T1w", "_space-MNI6_res-2")))
    listing = r"MNI152NLin2009cAsym \(1 runs\), MNI6_res-2 \(1 runs\), T1w \(1 runs\), native \(1 runs\)"
    with pytest.raises(ValueError, match=f"one space was expected, got {listing}"):
        find_runs(folder)
    with pytest.raises(ValueError, match=f"space=Talairach was expected, got {listing}"):
        find_runs(folder, space="Talairach")
    assert find_runs(folder, space="T1w")["run_id"].tolist() == ["sub-01_task-rest_space-T1w"]
    assert find_runs(folder, space="MNI6")["run_id"].tolist() == ["sub-01_task-rest_space-MNI6_res-2"]
    assert find_runs(folder, space="native")["run_id"].tolist() == ["sub-01_task-rest"]


def test_find_runs_prefers_the_exact_space_when_a_resolution_begins_with_its_name(make):
    stem = "sub-01/func/sub-01_task-rest_space-MNI6"
    folder = make(*(f"{stem}{finer}_desc-preproc_bold.nii.gz" for finer in ("", "_res-1", "_res-2")))
    assert find_runs(folder, space="MNI6")["run_id"].tolist() == ["sub-01_task-rest_space-MNI6"]
    assert find_runs(folder, space="MNI6_res-2")["run_id"].tolist() == ["sub-01_task-rest_space-MNI6_res-2"]
    listing = r"MNI6 \(1 runs\), MNI6_res-1 \(1 runs\), MNI6_res-2 \(1 runs\)"
    with pytest.raises(ValueError, match=rf"got {listing}\.\n  file: .*\n  fix: set data\.space to one of these names"):
        find_runs(folder)


def test_find_runs_passes_over_phase_real_and_imaginary_parts(make):
    stem = "sub-01/func/sub-01_task-rest_part"
    folder = make(*(f"{stem}-{part}_bold.nii.gz" for part in ("mag", "phase", "real", "imag")))
    assert find_runs(folder)["run_id"].tolist() == ["sub-01_task-rest_part-mag"]


def test_find_runs_takes_the_combined_run_when_its_echoes_lie_beside_it(make):
    stem = "sub-01/func/sub-01_task-rest"
    folder = make(*(f"{stem}{part}_desc-preproc_bold.nii.gz" for part in ("_echo-1", "_echo-2", f"_{MNI}")))
    assert find_runs(folder)["run_id"].tolist() == [f"sub-01_task-rest_{MNI}"]


def test_find_runs_refuses_several_echoes_of_one_acquisition(make):
    stem = "sub-01/func/sub-01_task-rest"
    folder = make(f"{stem}_echo-1_bold.nii.gz")
    assert find_runs(folder)["run_id"].tolist() == ["sub-01_task-rest_echo-1"]
    make(f"{stem}_echo-2_bold.nii.gz", f"{stem}_echo-3_bold.nii.gz", "sub-02/func/sub-02_task-rest_bold.nii.gz")
    message = r"single echoes of 1, such as sub-01_task-rest_echo-1_bold.nii.gz and 2 more\.\n  file: .*\n  fix: give the com"
    with pytest.raises(ValueError, match=message):
        find_runs(folder)


def test_find_runs_refuses_two_files_with_one_run_id(make):
    name = "sub-01_task-rest_desc-preproc_bold.nii"
    folder = make(f"old/{name}.gz", f"new/{name}")
    with pytest.raises(ValueError, match="got 2 files that share their run_id"):
        find_runs(folder)


def test_find_runs_shows_what_is_there_when_nothing_fits(make, tmp_path):
    with pytest.raises(FileNotFoundError, match="none in 0 files: an empty folder"):
        find_runs(tmp_path)
    folder = make("a.txt", "b.nii.gz", "c.tsv", "d.json")
    with pytest.raises(FileNotFoundError, match=r"sub-\*_desc-preproc_bold.nii.*none in 4 files: a.txt, b.nii.gz, c.tsv\."):
        find_runs(folder)
    with pytest.raises(FileNotFoundError, match="a BIDS folder was expected, got no folder"):
        find_runs(tmp_path / "absent")


def test_find_runs_reads_a_real_raw_dataset(real_dir):
    runs = find_runs(real_dir / "pumi_unittest")
    assert runs[["subject_id", "run_id"]].to_numpy().tolist() == [["001", "sub-001_task-rest"]]
    assert pd.isna(runs["mask_path"][0])


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        ("sub-1_task-rest_space-MNI_desc-preproc_bold.nii.gz", "sub-1_task-rest_space-MNI"),
        ("sub-1_task-rest_bold.nii", "sub-1_task-rest"),
        ("filtered_func_data_clean.nii.gz", "filtered_func_data_clean"),
    ],
)
def test_run_id_of_is_the_name_without_its_suffix(name, run_id):
    assert run_id_of(f"/somewhere/{name}") == run_id


def test_sidecars_of_are_those_of_the_entities_of_the_run_nearest_first(make, tmp_path):
    name = f"sub-1_ses-2_task-rest_{MNI}_desc-preproc_bold"
    folder = make(f"set/sub-1/ses-2/func/{name}.nii.gz", "set/dataset_description.json")
    run = folder / "set" / "sub-1" / "ses-2" / "func" / f"{name}.nii.gz"
    assert sidecars_of(run) == []
    fit = [
        f"set/sub-1/ses-2/func/{name}.json",
        "set/sub-1/ses-2/func/sub-1_ses-2_task-rest_bold.json",
        "set/sub-1/ses-2/sub-1_ses-2_bold.json",
        "set/sub-1/sub-1_task-rest_bold.json",
        f"set/task-rest_{MNI}_desc-preproc_bold.json",
        "set/task-rest_bold.json",
        "set/bold.json",
    ]
    make(*fit, "task-rest_bold.json", "set/task-nback_bold.json", "set/sub-2_bold.json", "set/task-rest_sbref.json")
    assert sidecars_of(run) == [tmp_path / each for each in fit]


def test_sidecars_of_stop_above_the_subject_where_no_data_set_is_described(make):
    folder = make("sub-1/func/sub-1_task-rest_bold.nii", "task-rest_bold.json", "plain/x_bold.nii", "bold.json")
    folder.with_name("task-rest_bold.json").touch()
    run = folder / "sub-1" / "func" / "sub-1_task-rest_bold.nii"
    assert sidecars_of(run) == [folder / "task-rest_bold.json", folder / "bold.json"]
    assert sidecars_of(folder / "plain" / "x_bold.nii") == []
    folder.with_name("task-rest_bold.json").unlink()
    make("plain/x_bold.json")
    assert sidecars_of(folder / "plain" / "x_bold.nii") == [folder / "plain" / "x_bold.json"]


def test_sidecar_repetition_time_is_that_of_the_nearest_file_that_says_one(make):
    folder = make("dataset_description.json", "sub-1/func/sub-1_task-rest_bold.nii.gz")
    run, own, root = folder / "sub-1/func/sub-1_task-rest_bold.nii.gz", folder / "sub-1/func/sub-1_task-rest_bold.json", folder
    assert sidecar_repetition_time(run) == (0.0, None)
    own.write_text('{"TaskName": "rest"}')
    (root / "bold.json").write_text('{"RepetitionTime": 9}')
    (root / "task-rest_bold.json").write_text('{"RepetitionTime": 1.5}')
    assert sidecar_repetition_time(run) == (1.5, root / "task-rest_bold.json")
    own.write_text('{"RepetitionTime": 0.8}')
    assert sidecar_repetition_time(run) == (0.8, own)


@pytest.mark.parametrize("content", ["{", "[1]", '{"RepetitionTime": "soon"}'])
def test_sidecar_repetition_time_refuses_what_is_no_number(make, content):
    folder = make("dataset_description.json", "sub-1/func/sub-1_task-rest_bold.nii.gz")
    (folder / "bold.json").write_text(content)
    message = r"a JSON object with RepetitionTime in seconds was expected, got: .*\n  file: .*/bold\.json\n  fix: repair or"
    with pytest.raises(ValueError, match=message):
        sidecar_repetition_time(folder / "sub-1/func/sub-1_task-rest_bold.nii.gz")


def test_find_runs_goes_through_symbolic_links_to_folders(make, tmp_path):
    make(f"elsewhere/sub-01/func/sub-01_task-rest_{MNI}_desc-preproc_bold.nii.gz")
    make(f"elsewhere/sub-01/func/sub-01_task-rest_{MNI}_desc-brain_mask.nii.gz", "set/dataset_description.json")
    (tmp_path / "set" / "sub-01").symlink_to(tmp_path / "elsewhere" / "sub-01")
    runs = find_runs(tmp_path / "set")
    assert runs["bold_path"][0].startswith(f"{tmp_path}/set/sub-01/func/") and runs["mask_path"].notna().all()


def test_find_runs_counts_a_folder_once_when_links_circle_or_show_it_twice(make, tmp_path):
    folder = make("set/v1/sub-01/func/sub-01_task-rest_bold.nii.gz") / "set"
    (folder / "v1" / "sub-01" / "up").symlink_to(folder)
    (folder / "latest").symlink_to(folder / "v1")
    assert find_runs(folder)["bold_path"].tolist() == [str(folder / "v1/sub-01/func/sub-01_task-rest_bold.nii.gz")]


def test_mean_displacement_is_that_of_the_frames_that_have_one(tmp_path):
    path = tmp_path / "sub-1_desc-confounds_timeseries.tsv"
    path.write_text("csf\tframewise_displacement\n1.0\tn/a\n2.0\t0.1\n3.0\t0.3\n")
    assert mean_displacement(path) == pytest.approx(0.2)
    path.write_text("csf\n1.0\n")
    assert all(np.isnan(mean_displacement(each)) for each in (path, tmp_path / "none.tsv", None, float("nan")))


@pytest.mark.parametrize("content", ["", "framewise_displacement\nfar\n"])
def test_mean_displacement_refuses_what_is_no_table_of_numbers(tmp_path, content):
    path = tmp_path / "sub-1_desc-confounds_timeseries.tsv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"Confounds: a table with framewise_displacement in mm was expected, got: .*\n  file: "):
        mean_displacement(path)

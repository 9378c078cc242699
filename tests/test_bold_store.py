"""Room under test: brainmt_align/data/bold_store.py. In: small NIfTI runs. Out: files of the store, and what is stored again."""

import errno
import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmt_align.data import bold_store
from brainmt_align.data.bold import read_bold
from brainmt_align.data.bold_store import build, build_run, check_orientation, open_run
from tests.bold_files import FRAMES, LAS, save


@pytest.fixture
def run(tmp_path):
    return save(tmp_path / "sub-1_bold.nii.gz"), save(tmp_path / "mask.nii.gz", seed=7, mask=True)


@pytest.fixture
def table(tmp_path):
    """Three runs; the last has no mask."""
    mask = str(save(tmp_path / "mask.nii.gz", seed=7, mask=True))
    paths = [str(save(tmp_path / f"sub-{i}_bold.nii.gz", seed=i)) for i in range(3)]
    runs = pd.DataFrame({"run_id": ["a", "b", "c"], "bold_path": paths, "mask_path": [mask, mask, None]})
    return runs.assign(subject_id=["1", "2", "3"])


def read_only(**_):
    raise OSError(errno.EROFS, "Read-only file system")


def test_open_run_tells_what_it_holds(tmp_path, run):
    stored = open_run(build_run(*run, tmp_path, run_id="one", orientation="LAS"))
    whole = read_bold(*run, orientation="LAS")
    assert (stored.num_frames, stored.num_voxels, stored.tr_s, stored.volume_shape) == (FRAMES, len(whole.voxels), 2.0, (6, 5, 4))
    header = stored.header
    assert {key: header[key] for key in ("run_id", "orientation", "normalisation", "mask_rule", "background")} == {
        "run_id": "one",
        "orientation": "LAS",
        "normalisation": "global",
        "mask_rule": "mask file",
        "background": whole.background,
    }
    np.testing.assert_allclose(header["affine"], LAS)
    assert header["statistics"] == whole.statistics
    assert header["sources"]["bold"]["size"] == run[0].stat().st_size
    assert header["sources"].keys() == {"bold", "mask"}
    assert len(header["mask_sha256"]) == 64
    assert header["versions"]["nibabel"] == nib.__version__


def test_build_run_leaves_a_finished_file_alone(tmp_path, run, monkeypatch):
    path = build_run(*run, tmp_path / "store")
    monkeypatch.setattr(bold_store, "read_bold", lambda *_: pytest.fail("read again"))
    assert build_run(*run, tmp_path / "store") == path
    os.utime(run[0], ns=(1, 1))
    assert build_run(*run, tmp_path / "store") == path


@pytest.mark.parametrize("change", ["source", "mask", "no mask", "sidecar", "tr_s", "damage"])
def test_build_run_stores_again_what_is_out_of_date(tmp_path, run, change):
    path = build_run(*run, tmp_path / "store")
    before = path.stat().st_ino
    bold, mask, settings = *run, {}
    if change == "source":
        save(bold, seed=9)
    elif change == "mask":
        save(mask, seed=8, mask=True)
    elif change == "no mask":
        mask = None
    elif change == "sidecar":
        (tmp_path / "sub-1_bold.json").write_text('{"RepetitionTime": 2.01}')
    elif change == "tr_s":
        settings = {"tr_s": 1.5}
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert build_run(bold, mask, tmp_path / "store", **settings) == path
    assert path.stat().st_ino != before
    stored = open_run(path)
    np.testing.assert_array_equal(stored.window(0, FRAMES), read_bold(bold, mask).data_TV)
    assert stored.tr_s == settings.get("tr_s", 2.0)


def test_build_run_stores_again_when_an_inherited_sidecar_changes(tmp_path):
    func = tmp_path / "sub-1" / "func"
    func.mkdir(parents=True)
    bold, inherited = save(func / "sub-1_task-rest_bold.nii.gz"), tmp_path / "task-rest_bold.json"
    func.joinpath("sub-1_task-rest_bold.json").write_text("{}")
    inherited.write_text('{"RepetitionTime": 2.01}')
    path = build_run(bold, None, tmp_path / "store")
    assert open_run(path).header["sources"].keys() == {"bold", "sidecar", "sidecar_2"}
    before = path.stat().st_ino
    inherited.write_text('{"RepetitionTime": 1.99 }')
    assert build_run(bold, None, tmp_path / "store").stat().st_ino != before


def test_build_run_refuses_a_finished_file_with_too_few_frames(tmp_path, run):
    build_run(*run, tmp_path)
    with pytest.raises(ValueError, match="BOLD has 12 frames; at least 13 are needed"):
        build_run(*run, tmp_path, min_frames=13)


def test_build_run_refuses_a_run_id_that_is_taken(tmp_path, run):
    build_run(*run, tmp_path / "store")
    other = tmp_path / "other" / "sub-1_bold.nii.gz"
    other.parent.mkdir()
    with pytest.raises(FileNotFoundError, match="NIfTI: a file was expected"):
        build_run(other, None, tmp_path / "store")
    other.write_bytes(run[0].read_bytes())
    path = build_run(other, run[1], tmp_path / "store")
    save(other, seed=9)
    before = path.read_bytes()
    message = (
        r"run_id: a name of its own was expected, got sub-1, which stores .*sub-1_bold.nii.gz\.\n  file: .*other.*\n"
        r"  fix: give this cohort a store of its own \(stores\.bold\), or the run another run_id; .*, delete .*sub-1\.safetensors"
    )
    with pytest.raises(ValueError, match=message):
        build_run(other, run[1], tmp_path / "store")
    assert path.read_bytes() == before


@pytest.mark.parametrize("run_id", ["../x", "a/b", "", ".", ".."])
def test_build_run_refuses_a_run_id_that_is_no_file_name(tmp_path, run, run_id):
    with pytest.raises(ValueError, match=rf"a plain file name was expected, got '{run_id}'\.\n  file: .*\n  fix: give a name"):
        build_run(*run, tmp_path / "store", run_id=run_id)
    assert not (tmp_path / "store").exists()


def test_build_run_leaves_nothing_behind_when_it_is_broken_off(tmp_path, run, monkeypatch):
    path = build_run(*run, tmp_path / "store")
    before = path.read_bytes()

    def break_off(_tensors, target, _metadata):
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(bold_store, "save_file", break_off)
    with pytest.raises(KeyboardInterrupt):
        build_run(*run, tmp_path / "store", tr_s=1.0)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_build_adds_where_each_run_is_and_its_size(tmp_path, table):
    stored = build(table, tmp_path / "store", progress=False)
    pd.testing.assert_frame_equal(stored[table.columns], table)
    assert list(stored.columns[-7:]) == ["store_path", "tr_s", "voxels", "num_frames", "depth", "height", "width"]
    assert (stored[["num_frames", "depth", "height", "width"]] == [FRAMES, 6, 5, 4]).all(axis=None)
    runs = [open_run(path) for path in stored["store_path"]]
    assert [(run.tr_s, run.num_voxels) for run in runs] == list(zip(stored["tr_s"], stored["voxels"], strict=True))
    assert [run.header["run_id"] for run in runs] == ["a", "b", "c"]
    assert [run.header["mask_rule"] == "mask file" for run in runs] == [True, True, False]
    assert runs[0].header["mask_sha256"] == runs[1].header["mask_sha256"] != runs[2].header["mask_sha256"]


def test_build_tells_motion_where_confounds_do(tmp_path, table):
    confounds = tmp_path / "sub-1_desc-confounds_timeseries.tsv"
    confounds.write_text("framewise_displacement\nn/a\n0.1\n0.3\n")
    named = table.assign(confounds_path=[str(confounds), None, str(tmp_path / "absent.tsv")])
    told = build(named, tmp_path / "store", progress=False)["mean_fd_mm"]
    np.testing.assert_allclose(told, [0.2, np.nan, np.nan])
    assert build(table, tmp_path / "store", progress=False)["mean_fd_mm"].isna().all()
    own = build(named.assign(mean_fd_mm=[1.0, 2.0, 3.0]), tmp_path / "store", progress=False)
    assert own["mean_fd_mm"].tolist() == [1.0, 2.0, 3.0]


def test_build_reports_all_bad_runs_at_once_and_keeps_the_good_ones(tmp_path, table):
    content = Path(table["bold_path"][0]).read_bytes()
    Path(table["bold_path"][0]).write_bytes(content[: len(content) // 2])
    table.loc[2, "bold_path"] = str(tmp_path / "absent.nii.gz")
    with pytest.raises(
        ValueError, match=r"(?s)all 3 runs .*got 2 that cannot be .*\n  - a: NIfTI: a whole.*\n  - c: NIfTI: a file was"
    ):
        build(table, tmp_path / "store", progress=False)
    good = tmp_path / "store" / "RAS_global" / "b.safetensors"
    assert list(good.parent.iterdir()) == [good]
    before = good.stat().st_mtime_ns
    Path(table["bold_path"][0]).write_bytes(content)
    assert len(build(table[:2], tmp_path / "store", progress=False)) == 2
    assert good.stat().st_mtime_ns == before


def test_build_shows_ten_bad_runs_and_counts_the_others(tmp_path):
    names = [f"r{i:02d}" for i in range(41)]
    runs = pd.DataFrame({"run_id": names, "bold_path": [str(tmp_path / f"{name}.nii.gz") for name in names]})
    with pytest.raises(ValueError, match="got 41 that cannot be") as caught:
        build(runs, tmp_path / "store", progress=False)
    lines = str(caught.value).splitlines()
    assert [line[4:].split(":")[0] for line in lines if line.startswith("  - r")] == names[:10]
    assert "  - … and 31 more" in lines


def test_build_refuses_a_store_that_cannot_be_written_to_before_it_reads_a_scan(tmp_path, table, monkeypatch):
    build(table[:2], tmp_path / "store", progress=False)
    monkeypatch.setattr(bold_store, "read_bold", lambda *_: pytest.fail("a scan is read"))
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)
    assert len(build(table[:2], tmp_path / "store", progress=False)) == 2  # complete, so it may be read-only
    with pytest.raises(PermissionError, match=r"refuses: Read-only file system\.\n  file: .*store.*\n  fix: set stores\.bold="):
        build(table, tmp_path / "store", progress=False)
    os.truncate(tmp_path / "store" / "RAS_global" / "a.safetensors", 10)
    with pytest.raises(ValueError, match=r"a: A place to write to was expected"):
        build(table[:2], tmp_path / "store", progress=False)


def test_build_shows_a_bar(tmp_path, table, capsys):
    build(table, tmp_path / "store")
    assert "3/3" in capsys.readouterr().err


def test_build_lists_the_faults_of_the_table(tmp_path, table):
    with pytest.raises(ValueError, match="one row a run_id was expected, got 2 run_ids more than once: a, b"):
        build(pd.concat([table, table[:2]]), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"run_id and bold_path were expected, got subject_id; at least one run was expected"):
        build(table[["subject_id"]][:0], tmp_path, progress=False)


@pytest.mark.slow
def test_build_gives_the_same_with_two_workers(tmp_path, table):
    alone = build(table, tmp_path / "alone", progress=False)
    shared = build(table, tmp_path / "shared", workers=2, progress=False)
    for one, other in zip(alone["store_path"], shared["store_path"], strict=True):
        np.testing.assert_array_equal(open_run(one).window(0, FRAMES), open_run(other).window(0, FRAMES))


def test_check_orientation_names_the_runs_that_differ(tmp_path, run):
    stored = [open_run(build_run(*run, tmp_path, orientation=orientation)) for orientation in ("LAS", "RAS")]
    check_orientation(stored[:1], "LAS", "checkpoint.pt")
    with pytest.raises(ValueError, match=r"LAS was expected by checkpoint.pt, got RAS in 1 stored runs.\n  file: .*RAS_global"):
        check_orientation(stored, "LAS", "checkpoint.pt")


def test_build_stores_the_real_runs(tmp_path, real_dir):
    folder = real_dir / "haxby2001_25mm"
    paths = sorted(map(str, folder.glob("*_bold_25mm.nii.gz")))
    pumi = str(real_dir / "pumi_unittest" / "sub-001" / "func" / "sub-001_task-rest_bold.nii.gz")
    masks = [str(folder / "brain_mask.nii.gz")] * 12 + [None]
    runs = pd.DataFrame({"run_id": [f"run{i:03d}" for i in range(13)], "bold_path": [*paths, pumi], "mask_path": masks})
    stored = build(runs, tmp_path, orientation="LAS", progress=False)
    assert stored["num_frames"].tolist() == [121] * 12 + [20]
    assert stored.loc[12, ["depth", "height", "width"]].tolist() == [46, 46, 26]
    for row in stored.itertuples():
        data = nib.load(row.bold_path).get_fdata()
        inside = (nib.load(row.mask_path).get_fdata() if isinstance(row.mask_path, str) else data.any(3)) > 0
        z = (data - data[inside].mean()) / data[inside].std()
        expected = np.where(inside[..., None], z, z[inside].min()).transpose(3, 1, 0, 2)[5:15, None]
        np.testing.assert_allclose(open_run(row.store_path).volume(5, 10).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_common_volume_shape_is_the_grid_of_all_runs(table, tmp_path):
    assert bold_store.common_volume_shape(build(table, tmp_path / "store", progress=False)) == (6, 5, 4)


def test_common_volume_shape_lists_every_grid_when_they_differ(table, tmp_path):
    other = str(save(tmp_path / "sub-9_bold.nii.gz", shape=(4, 4, 4)))
    table = pd.concat([table, pd.DataFrame({"run_id": ["d"], "bold_path": [other], "mask_path": [None], "subject_id": ["9"]})])
    runs = build(table, tmp_path / "store", progress=False)
    with pytest.raises(ValueError, match=r"got 2 grids .*\n    4 x 4 x 4: 1 runs, such as d\n    6 x 5 x 4: 3 runs, such as a"):
        bold_store.common_volume_shape(runs)


def test_sources_hash_changes_with_any_scan_and_not_with_their_order(table, tmp_path):
    paths = build(table, tmp_path / "store", progress=False)["store_path"].tolist()
    whole = bold_store.sources_hash(paths)
    assert bold_store.sources_hash(paths[::-1]) == whole
    assert bold_store.sources_hash(paths[:2]) != whole
    save(Path(table["bold_path"][0]), seed=9)
    assert bold_store.sources_hash(build(table, tmp_path / "store", progress=False)["store_path"]) != whole

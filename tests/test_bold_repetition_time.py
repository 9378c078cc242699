"""Room under test: brainmt_align/data/bold.py. In: NIfTI headers and sidecars that tell the TR. Out: seconds, or a complaint."""

import json

import nibabel as nib
import numpy as np
import pytest

from brainmt_align.data.bold import read_bold


def save(path, tr, unit="sec"):
    image = nib.Nifti1Image(np.random.default_rng(0).normal(100, 5, (5, 6, 4, 9)).astype(np.float32), np.diag([2.0, 3, 4, 1]))
    image.header.set_zooms((2, 3, 4, tr))
    image.header.set_xyzt_units("mm", unit)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(("tr", "unit"), [(0.735, "sec"), (735, "msec"), (735_000, "usec"), (0.735, "unknown")])
def test_read_bold_gives_the_repetition_time_in_seconds(tmp_path, tr, unit):
    assert read_bold(save(tmp_path / "bold.nii", tr=tr, unit=unit)).tr_s == 0.735


def test_read_bold_takes_the_repetition_time_of_the_sidecar_when_the_header_has_none(tmp_path):
    bold = save(tmp_path / "x_bold.nii.gz", tr=0)
    with pytest.raises(ValueError, match=r"a TR of 0.01 to 100 s was expected, got 0 s"):
        read_bold(bold)
    with pytest.raises(ValueError, match=r"a TR of 0.01 to 100 s was expected, got 2000 s"):
        read_bold(save(tmp_path / "wrong_unit.nii", tr=2000))
    (tmp_path / "x_bold.json").write_text(json.dumps({"RepetitionTime": 2.52}))
    assert read_bold(bold).tr_s == 2.52
    assert read_bold(bold, tr_s=3).tr_s == 3


def test_read_bold_refuses_a_repetition_time_that_the_sidecar_contradicts(tmp_path):
    bold = save(tmp_path / "x_bold.nii.gz", tr=2.0)
    sidecar = tmp_path / "x_bold.json"
    sidecar.write_text('{"RepetitionTime": 2.01}')
    assert read_bold(bold).tr_s == 2.0
    sidecar.write_text('{"RepetitionTime": 0.8}')
    with pytest.raises(
        ValueError, match=r"got 2 s in the header and 0\.8 s in x_bold\.json\.\n  file: .*nii\.gz\n  file: .*\.json\n"
    ):
        read_bold(bold)
    assert read_bold(bold, tr_s=0.8).tr_s == 0.8
    sidecar.write_text('{"RepetitionTime": ')
    with pytest.raises(ValueError, match="a JSON object with RepetitionTime in seconds was expected"):
        read_bold(bold)


def test_read_bold_takes_the_repetition_time_that_a_run_inherits(tmp_path):
    func = tmp_path / "sub-1" / "func"
    func.mkdir(parents=True)
    bold = save(func / "sub-1_task-rest_bold.nii.gz", tr=0)
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 2.52}))
    assert read_bold(bold).tr_s == 2.52
    bold.with_name("sub-1_task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 1.1}))
    assert read_bold(bold).tr_s == 1.1

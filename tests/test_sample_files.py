"""Tests of the room `sample_files`: small `.sample` files flow in; their ids and every refusal are checked."""

import pytest

from brainmt_align.data.sample_files import read_sample_file


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("ID_1 ID_2 missing sex\n0 0 0 D\n0 anna 0 1\n0 ben 0 2\n", ["anna", "ben"]),
        ("ID_1 ID_2 missing\n0 0 0\n12 12 0\n-1 -1 0\n-1 -1 0\n", ["12", "-1", "-1"]),
        ("ID\tage\n0\tC\n007\t5\n\n", ["007"]),
    ],
)
def test_read_sample_file_takes_id_2_or_the_first_column(tmp_path, text, ids):
    (tmp_path / "a.sample").write_text(text)
    assert read_sample_file(tmp_path / "a.sample") == ids


@pytest.mark.parametrize("text", ["", "ID_1 ID_2 missing\n", "1 1 0 0 1 -9\n2 2 0 0 1 -9\n", "ID_1 ID_2 missing\n0 0\n1 1 0\n"])
def test_read_sample_file_refuses_other_forms(tmp_path, text):
    (tmp_path / "a.sample").write_text(text)
    with pytest.raises(ValueError, match=r"an Oxford \.sample is expected(.|\n)*file: .*a\.sample\n  fix: give the \.sample"):
        read_sample_file(tmp_path / "a.sample")


def test_read_sample_file_names_the_first_line_that_is_too_short(tmp_path):
    (tmp_path / "a.sample").write_text("ID_1 ID_2 missing\n0 0 0\n1 1 0\n2\n")
    with pytest.raises(ValueError, match=r"3 columns are expected, got fewer in 1 lines, e\.g\. line 4"):
        read_sample_file(tmp_path / "a.sample")


def test_read_sample_file_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got no such file(.|\n)*fix: correct sample_file"):
        read_sample_file(tmp_path / "a.sample")

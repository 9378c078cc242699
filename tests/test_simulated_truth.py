"""Room under test: brainmt_align/data/simulated_truth.py. In: a truth.json. Out: its content, or who is not in it."""

import json

import pytest

from brainmt_align.data.simulated_truth import read_truth, require_simulated


def test_read_truth_gives_what_the_file_says(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps({"people": {"0001": {}}}))
    assert read_truth(tmp_path / "truth.json") == read_truth(str(tmp_path / "truth.json")) == {"people": {"0001": {}}}
    with pytest.raises(FileNotFoundError, match=r"truth\.json of a simulated cohort was expected(.|\n)*none\.json\n  fix"):
        read_truth(tmp_path / "none.json")


def test_require_simulated_names_each_stranger_once():
    known = {"people": {"0001": {}, "0002": {}}}
    require_simulated("truth.json", known, ["0002", "0001", "0002"])
    with pytest.raises(ValueError, match=r"such as 0001, 0002\), got 2 that are not: 9, sub-0001\.\n  file: truth"):
        require_simulated("truth.json", known, ["9", "0001", "sub-0001", "9"])

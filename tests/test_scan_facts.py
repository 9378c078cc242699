"""Room under test: brainmt_align/data/scan_facts.py. In: stored runs. Out: what a checkpoint records; what differs."""

import pytest

from brainmt_align.data.bold_store import sources_hash
from brainmt_align.data.scan_facts import compare_scans, describe_scans, require_official

GRID = [5, 4, 6]  # of the runs of the tests' own store, whose TR is 2 s


def test_describe_scans_gives_the_hash_of_all_sources_and_every_repetition_time_once(runs):
    assert describe_scans(runs) == {"bold_sha256": sources_hash(runs["store_path"]), "tr_s": [2.0]}
    assert describe_scans(runs[::-1]) == describe_scans(runs) != describe_scans(runs[1:])


def test_compare_scans_notes_another_repetition_time(runs):
    assert compare_scans(runs, {"volume_shape": GRID, "tr_s": [0.8, 2.0]}) is None
    assert compare_scans(runs, {"volume_shape": GRID}) is None  # older alignments do not tell
    note = compare_scans(runs, {"volume_shape": GRID, "tr_s": [0.72, 0.8]})
    assert note == "7 of 7 runs have another TR, such as 2.0 s; those of the training: 0.72, 0.8 s"


def test_compare_scans_refuses_another_grid(runs):
    with pytest.raises(ValueError, match=r"Scans of \(8, 8, 8\) voxels .* got \(5, 4, 6\)\.\n  file: .*\n  fix: resample"):
        compare_scans(runs, {"volume_shape": [8, 8, 8], "tr_s": [2.0]})


def test_require_official_refuses_another_orientation(runs):
    require_official(runs, "RAS", "official.pt")
    with pytest.raises(ValueError, match=r"LAS was expected by the official weights official\.pt, got RAS in 7 stored runs"):
        require_official(runs, "LAS", "official.pt")

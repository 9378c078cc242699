"""What a run left: which ids are hidden in a text, and which files are read."""

import pytest

from brainmt_align.reporting.run_files import hider, read_run
from tests.report_files import full_alignment, old_alignment


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("sub-0042 has 96 frames", "(a person) has 96 frames"),
        ("run sub-0042_ses-1_bold.nii.gz", "run (a person)_ses-1_bold.nii.gz"),
        ("0042, 00421 and 10042", "(a person), 00421 and 10042"),
        ("NDAR_INV7 and NDAR_INV70", "(a person) and (a person)"),
        ("7 regions, but sub-7 has none", "7 regions, but (a person) has none"),
        ("nobody", "nobody"),
    ],
)
def test_hider_replaces_whole_ids_alone(text, hidden):
    assert hider({"0042", "NDAR_INV7", "NDAR_INV70", "7", ""})(text) == hidden


def test_read_run_reads_what_is_there_and_nothing_else(tmp_path):
    old = read_run(old_alignment(tmp_path / "old"))
    assert old.embeddings is None and old.nulls is None and old.voxels is None and old.notes == [] and list(old.epochs) == [""]
    full = read_run(full_alignment(tmp_path / "full"))
    assert full.embeddings["fmri"].shape == (30, 8) and len(full.embeddings["people"]) == 30 and len(full.notes) == 3
    assert full.voxels.shape == (20, 24, 20) and list(full.nulls) == ["test", "statistic"]

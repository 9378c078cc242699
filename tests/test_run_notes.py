"""Tests of the notes of a run: said once, in order, and written as the report reads them."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from brainmt_align.training.run_notes import RunNotes


def test_say_prints_and_keeps_every_line_once_in_order(tmp_path):
    printed = []
    notes = RunNotes(printed.append)
    for line in ("two runs are short", "one site", "two runs are short"):
        notes.say(line)
    notes.write(tmp_path)
    assert printed == ["two runs are short", "one site"]
    assert json.loads((tmp_path / "notes.json").read_text()) == {"notes": printed}


def test_say_keeps_no_ids_and_of_paths_the_last_part(tmp_path):
    printed = []
    notes = RunNotes(printed.append)
    notes.say_of_people("Left out: no row in participants for 3 of 360 people: 0358, 0359, 0360")
    notes.say_of_people("one mask for all")
    notes.say("/home/alice/runs/best.safetensors: an alignment, C:\\users\\bob\\x.vcf")
    notes.say("Left out, voxels: no room for 0358", kept="Left out, voxels")
    assert "0358" in printed[0] and "/home/alice" in printed[2] and "0358" in printed[3]
    assert notes.lines == [
        "Left out: no row in participants for 3 of 360 people",
        "one mask for all",
        "best.safetensors: an alignment, x.vcf",
        "Left out, voxels",
    ]


def test_attempt_gives_what_the_work_gives_and_a_note_without_details_where_it_is_refused():
    printed = []
    notes = RunNotes(printed.append)
    assert notes.attempt("sums", lambda: 1 + 1) == 2 and printed == []

    def refuse():
        raise ValueError("CCA: 20 people were expected, got 0358 alone.\n  fix: bring more")

    assert notes.attempt("CCA", refuse) is None
    assert printed[0].startswith("Traceback") and "in refuse" in printed[0]
    assert printed[1:] == ["Left out, CCA: CCA: 20 people were expected, got 0358 alone.\n  fix: bring more"]
    assert notes.lines == ["Left out, CCA: CCA: 20 people were expected"]
    with pytest.raises(ZeroDivisionError, match="zero"):
        notes.attempt("faults of ours", lambda: 1 / 0)


def test_attempt_keeps_the_whole_reason_but_for_what_holds_an_id():
    notes = RunNotes(lambda line: None)
    notes.hide(["0358", "NA12"])

    def refuse(reason):
        def work():
            raise ValueError(reason)

        return work

    notes.attempt("regions", refuse("3 families expected, got 2 families.\n  fix: bring more"))
    notes.attempt("CCA", refuse("20 people were expected, got 4, the first sub-0358."))
    notes.attempt("doses", refuse("No genome of NA12"))
    assert notes.lines == [
        "Left out, regions: 3 families expected, got 2 families.",
        "Left out, CCA: 20 people were expected",
        "Left out, doses: No genome of",
    ]


def test_attempt_takes_a_missing_file_for_a_refusal_and_lets_all_that_may_be_a_fault_of_the_machine_end_the_run():
    notes = RunNotes(lambda line: None)

    def fail(error):
        raise error

    assert notes.attempt("atlas", lambda: fail(FileNotFoundError("Atlas: none.\n  file: a.nii"))) is None
    for error in (RuntimeError("CUDA out of memory"), OSError(28, "No space left on device"), KeyError("bug")):
        with pytest.raises(type(error), match=r"memory|space|bug"):
            notes.attempt("voxels", lambda error=error: fail(error))
    assert notes.lines == ["Left out, atlas: Atlas: none."]


def test_say_of_genotypes_keeps_the_table_and_no_ids(tmp_path):
    regions = pd.DataFrame({"name": ["A"], "variants": [3]})
    printed: list[str] = []
    notes = RunNotes(printed.append)
    told = {"notes": ["No variant: 1 of 2 regions: B."], "people_notes": ["No call: 1 of 2: anna"]}
    notes.say_of_genotypes(SimpleNamespace(**told, regions=regions))
    notes.write(tmp_path)
    assert printed == ["No variant: 1 of 2 regions: B.", "No call: 1 of 2: anna"]
    assert json.loads((tmp_path / "notes.json").read_text()) == {"notes": ["No variant: 1 of 2 regions: B.", "No call: 1 of 2"]}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "genotype_checks.tsv", sep="\t"), regions)

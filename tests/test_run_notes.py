"""Tests of the notes of a run: said once, in order, and written as the report reads them."""

import json

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

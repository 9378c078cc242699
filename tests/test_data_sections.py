"""Sections on the data: what each recipe's report says was checked, which scans stand out, what was simulated."""

import json

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.reporting.data_sections import checks_passed, data_checks, stand_out, summarise_columns, what_was_made
from brainmt_align.reporting.page import Table, Text
from brainmt_align.reporting.report_sections import phenotypes, what_is_read, what_was_run
from brainmt_align.reporting.run_files import read_run
from brainmt_align.training.run_notes import RunNotes
from tests.report_files import PEOPLE, SETTINGS, phenotype_run, write_basics

RULES = {"unmatched": "drop", "unphased": "skip", "missing": "N", "bold": "bold", "genotypes": "phased.vcf.gz", "mask": "m.nii"}


def run_of(folder, metrics, **settings):
    return read_run(write_basics(folder, metrics, {"data": RULES, **settings}))


@pytest.mark.parametrize(
    ("recipe", "metrics", "settings", "reads"),
    [
        ("contrastive", {"retrieval": {}}, {"train": {"window": 16}}, (True, True, True)),
        ("evaluate", {"retrieval": {}}, {}, (True, True, True)),
        ("phenotype", {"phenotype": {}}, {"phenotype": {"inputs": "fmri"}}, (True, False, True)),
        ("phenotype", {"phenotype": {}}, {"phenotype": {"inputs": "dna"}}, (False, True, True)),
        ("prepare_fmri", {"frames": 1}, {}, (True, False, False)),
        ("embed_dna", {"bases_per_second": 1}, {}, (False, True, False)),
        ("simulate_cohort", {"parameters": {}}, {}, (False, False, False)),
    ],
)
def test_checks_passed_speak_of_what_the_recipe_reads(tmp_path, recipe, metrics, settings, reads):
    run = run_of(tmp_path / "run", metrics, **settings)
    assert tuple(what_is_read(run, recipe)) == reads
    told = " ".join(checks_passed(run, recipe))
    assert ("mask" in told, "REF" in told, "tables" in told) == reads
    assert ("unphased=skip" in told) == reads[1] and ("16 frames or more" in told) == (recipe == "contrastive")
    shown = {row[0] for block in what_was_run(run, recipe, None).blocks[1:2] for row in block.rows}
    if recipe != "simulate_cohort":
        assert ("data.mask" in shown, "data.genotypes" in shown) == reads[:2]


def test_what_is_read_asks_the_checkpoint_when_a_phenotype_model_is_evaluated(tmp_path):
    run = run_of(tmp_path / "run", {"phenotype": {}})
    record = {"checkpoint_description": {"inputs": "dna"}}
    assert tuple(what_is_read(run._replace(provenance=record), "evaluate")) == (False, True, True)


def test_checks_passed_name_what_a_split_keeps_together(tmp_path):
    run = run_of(tmp_path / "run", {"retrieval": {}}, split={"groups": "household"})
    assert checks_passed(run, "contrastive")[-1] == "Nobody is in two parts of the split, and no household either."
    torn = run_of(tmp_path / "run", {"retrieval": {}}, split={"groups": "family_id", "torn_families": True})
    assert checks_passed(torn, "contrastive")[-1] == (
        "Nobody is in two parts of the split, but relatives may be in different parts (split.torn_families=true)."
    )
    run = run_of(tmp_path / "run", {"retrieval": {}, "people": {"evaluated": 9, "seen": 3}})
    assert "trained or chosen on" in checks_passed(run, "evaluate")[-1]
    assert "trained or chosen on" not in " ".join(checks_passed(run._replace(metrics={"people": {"seen": None}}), "evaluate"))
    assert checks_passed(run, "") == []


def test_stand_out_counts_short_runs_empty_masks_grids_and_repetition_times():
    runs = pd.DataFrame({"num_frames": [200, 200, 90], "voxels": [9000, 4000, 9000], "tr_s": [2.0, 2.0, 0.8]})
    runs = runs.assign(depth=4, height=4, width=[4, 4, 5])
    told = "1 have less than half the median frames, 1 have less than half the median in-mask voxels, grids: 2, TRs: 2."
    assert stand_out(runs) == f"Of 3 stored runs {told}"
    assert stand_out(pd.DataFrame({"subject_id": ["a"]})) == ""


def test_data_checks_show_frames_repetition_time_and_voxels_of_the_stored_runs(tmp_path):
    folder = write_basics(tmp_path / "run", {"frames": 240})
    rows = {"subject_id": [f"p{row}" for row in range(12)], "tr_s": 2.0, "voxels": range(80, 92), "num_frames": [40] + [200] * 11}
    rows |= {"mean_fd_mm": [0.1] * 4 + [0.2] * 7 + [np.nan], "depth": 24}
    pd.DataFrame(rows).to_csv(folder / "runs.tsv", sep="\t", index=False)
    (table,) = [block for block in data_checks(read_run(folder), "prepare_fmri").blocks if block.kind == "table"]
    assert table.caption.endswith("12 runs of 12 people.")
    assert {row[0]: row[1:] for row in table.rows} == {
        "TR in s (tr_s)": ["2 (2 to 2); least 2, most 2", "0"],
        "in-mask voxels (voxels)": ["85.5 (82.8 to 88.2)", "0"],
        "frames (num_frames)": ["200 (200 to 200); least 40, most 200", "0"],
        "mean framewise displacement in mm (mean_fd_mm)": ["0.2 (0.1 to 0.2)", "fewer than 5"],
        "depth": ["24 (24 to 24); least 24, most 24", "0"],
    }
    few = summarise_columns(pd.DataFrame({"num_frames": [200, 40], "voxels": [90, 80]}), read_run(folder))
    assert [row[1] for row in few] == ["least 40, most 200", "fewer than 10 values"]


def test_data_checks_show_what_the_genotypes_are_like(tmp_path, real_dir):
    folder = write_basics(tmp_path / "run", {"bases_per_second": 1}, {"data": RULES})
    files = real_dir / "genotypes_chr20_b37"
    notes = RunNotes(lambda line: None)
    notes.say_of_genotypes(
        check_genotypes(files / "cohortA_300.phased.vcf.gz", files / "chr20_1-2Mb.padded.fa.gz", files / "genes.b37.bed")
    )
    notes.write(folder)
    blocks = data_checks(read_run(folder), "embed_dna").blocks
    told = [block.words for block in blocks if isinstance(block, Text)]
    refs = "REF is what the FASTA has in 100.00% of 4,178"
    assert f"4,178 records in 19 regions, {refs}, regions in which all haplotypes are alike: 1." in told
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert table.rows[0][:2] == ["PSMF1", "20"] and table.rows[0][-1] == "253"


def test_summarise_columns_counts_no_family_by_its_label(tmp_path):
    run = run_of(tmp_path / "run", {}, split={"groups": "household", "relatives": ["mother"]})
    people = pd.DataFrame({"household": ["h1", "h1"] * 6, "mother": ["m", None] * 6, "sex": ["F", "M"] * 6})
    assert summarise_columns(people, run) == [["sex", "F: 6, M: 6", "0"]]


def of_thirty() -> pd.DataFrame:
    """People with columns that tell them apart and columns that do not."""
    rng, rows = np.random.default_rng(0), np.arange(30)
    born = pd.date_range("1950-03-01", periods=30, freq="97D").strftime("%Y-%m-%d")
    people = {"mrn": rng.permutation(30) + 7300, "initials": [f"{'ABCDEF'[row % 6]}{'UVWXYZ'[row // 6]}" for row in rows]}
    people |= {"date_of_birth": born, "born": [int(day.replace("-", "")) for day in born], "visits": [7_000_001, *rows[1:]]}
    people |= {"age": [60.0, 91] * 2 + list(range(61, 87)), "site": ["north"] * 14 + ["south"] * 13 + ["islet"] * 3}
    return pd.DataFrame(people | {"height_cm": rng.normal(170, 8, 30), "case": [1] * 4 + [0] * 26, "wave": [1, 2] * 15})


def test_summarise_columns_shows_nobodys_own_value(tmp_path):
    people = of_thirty()
    told = {row[0]: row[1:] for row in summarise_columns(people, run_of(tmp_path / "run", {}))}
    quartiles = [f"{value:.3g}" for value in people["height_cm"].quantile([0.5, 0.25, 0.75])]
    assert told == {
        "age": ["73.5 (66.2 to 80.8)", "0"],
        "site": ["north: 14, south: 13, 1 other level of fewer than 5", "0"],
        "height_cm": ["{} ({} to {})".format(*quartiles), "0"],
        "case": ["0: 26, 1 other level of fewer than 5", "0"],
        "wave": ["1: 15, 2: 15", "0"],
    }


@pytest.mark.parametrize("repeated", [False, True])
def test_summarise_columns_leaves_ids_out_when_some_are_missing_or_stand_twice(tmp_path, repeated):
    mrn = pd.Series([*range(7_300_001, 7_300_030), 7_300_001 if repeated else np.nan], name="mrn")
    words = mrn.map(lambda value: f"R{value}")
    assert summarise_columns(pd.DataFrame({"mrn": mrn, "record": words}), run_of(tmp_path / "run", {})) == []


def test_summarise_columns_tells_parts_apart(tmp_path):
    table = of_thirty()[["age", "site"]].assign(part=["train"] * 25 + ["test"] * 5, subject_id=range(30))
    rows = summarise_columns(table, run_of(tmp_path / "run", {}), "part")
    assert [row[:2] for row in rows] == [["age", "train"], ["age", "test"], ["site", "train"], ["site", "test"]]
    assert rows[1][2:] == ["fewer than 10 values", "0"] and rows[3][2] == "2 levels of fewer than 5"
    assert rows[2][2] == "north: 14, south: 11"


def test_data_checks_sum_up_the_people_of_a_run_by_part(tmp_path):
    folder = write_basics(tmp_path / "run", {"retrieval": {}})
    people = of_thirty()[["age", "mrn"]].assign(part=["train"] * 20 + ["test"] * 10, subject_id=[f"p{row}" for row in range(30)])
    people.to_csv(folder / "people.tsv", sep="\t", index=False)
    (table,) = [block for block in data_checks(read_run(folder), "contrastive").blocks if block.kind == "table"]
    assert table.head[1] == "part" and [row[:2] for row in table.rows] == [["age", "train"], ["age", "test"]]
    assert table.caption.startswith("People of the cohort: 30.")


def test_what_was_made_says_what_was_planted_when_the_cohort_is_simulated(tmp_path):
    folder = write_basics(tmp_path / "run", {"scans": 9, "parameters": {"people": 9, "coupling": 0.5}})
    (folder / "notes.json").write_text(json.dumps({"notes": ["9 people, one run each"]}))
    run = read_run(folder)
    section = what_was_made(run, "simulate_cohort")
    assert section.title == "What was simulated" and section.blocks[0].items == ["9 people, one run each"]
    assert section.blocks[-1].rows == [["people", "9"], ["coupling", "0.5"]]
    assert data_checks(run, "simulate_cohort") is None


def evaluated_phenotype(folder, observed, columns, **entry):
    phenotype_run(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    comparison = metrics["phenotype"].pop("cognition score")["comparison"] | entry
    metrics["phenotype"]["score"] = {"comparison": comparison}
    write_basics(folder, metrics, {"data": SETTINGS["data"]})
    seen = np.arange(PEOPLE) < 5
    table = {"subject_id": map(str, range(PEOPLE)), "seen_in_training": seen, "score (observed)": observed, **columns}
    pd.DataFrame(table).to_csv(folder / "predictions.csv", index=False)
    (section,) = phenotypes(read_run(folder))
    return [block.alt for block in section.blocks if block.kind == "picture"]


def test_phenotypes_are_drawn_from_the_predictions_when_a_checkpoint_is_evaluated(tmp_path):
    values = np.linspace(1, 2, PEOPLE)
    drawn = evaluated_phenotype(tmp_path / "numbers", values, {"score": values / 2})
    assert drawn == ["predicted plot of score", "residuals plot of score"]
    assert evaluated_phenotype(tmp_path / "freed", values, {"score": values}, residualised_on=["age"]) == []


def test_phenotypes_of_classes_are_drawn_from_the_predictions_unless_they_are_coded_otherwise(tmp_path):
    share = np.linspace(0.1, 0.9, PEOPLE)
    columns = {"score: p(no)": 1 - share, "score: p(yes)": share}
    figure = {"value": 0.4, "low": 0.2, "high": 0.5, "p": 0.004}
    figures = {"BrainMT": dict.fromkeys(("auroc", "balanced_accuracy", "auprc", "brier"), figure)}
    entry = {"task": "binary", "figures": figures, "differences": {}, "positive_class": "yes"}
    drawn = evaluated_phenotype(tmp_path / "words", np.where(share > 0.4, "yes", "no"), columns, **entry)
    assert sorted(drawn) == ["calibration plot of score", "confusion plot of score", "roc plot of score"]
    assert evaluated_phenotype(tmp_path / "codes", np.where(share > 0.4, 1, 0), columns, **entry) == []

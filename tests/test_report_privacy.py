"""The report names nobody: every id of every file in a run folder of every recipe flows in, none may be found in report.html."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainmt_align.reporting import report
from brainmt_align.reporting.report import recipe_of, write_report
from brainmt_align.reporting.run_files import read_run
from tests.report_files import FAMILIES, IDS, SETTINGS, full_alignment, phenotype_run, write_basics

NAMES = re.compile(r"(?:NDARINV|FAMZ|HOUSE)\w+")  # of people and families, and of nothing else in these folders
ROWS = len(IDS)


def names_in_folder(folder: Path) -> set[str]:
    """Ids of people and families in any file but the report, and in the files' own names."""
    found = set(NAMES.findall("\n".join(map(str, folder.rglob("*")))))
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            found |= set(NAMES.findall(pd.read_parquet(path).to_csv()))
        elif path.is_file() and path.name != "report.html":
            found |= set(NAMES.findall(path.read_bytes().decode("utf-8", errors="ignore")))
    return found


def text_of_report(folder: Path) -> str:
    """The page and whatever its pictures hold as text: an SVG keeps the words it draws."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    drawn = [base64.b64decode(each).decode("utf-8", errors="ignore") for each in re.findall(r"base64,([A-Za-z0-9+/=]+)", page)]
    return "\n".join([re.sub(r"base64,[A-Za-z0-9+/=]+", "", page), *drawn])


def leaks(folder: Path) -> list[str]:
    text = text_of_report(folder)
    return [name for name in sorted(names_in_folder(folder)) if name in text]


def say(folder: Path, *more: str) -> None:
    """Notes that name people."""
    words = [f"sub-{IDS[0]} moved", f"run {IDS[1]}_task-rest has another TR", f"{IDS[3]}, {IDS[4]}", *more]
    (folder / "notes.json").write_text(json.dumps({"notes": words}))


def scans_table(folder: Path) -> None:
    """runs.tsv of few runs: so few distinct values that each would be counted by its name."""
    ids = IDS[:5]
    runs = {"subject_id": ids, "run_id": [f"{each}_run-1" for each in ids], "confounds": [f"/x/{each}.tsv" for each in ids]}
    runs |= {"store_path": [f"st/{each}.safetensors" for each in ids], "tr_s": 2.0, "voxels": 90, "num_frames": 40}
    pd.DataFrame(runs).to_csv(folder / "runs.tsv", sep="\t", index=False)


def people_table(folder: Path, parts: dict[str, int], families: str = "family_id") -> None:
    """people.tsv with columns of ids that no setting calls ids, of values that one person alone has, of relatives."""
    part = [name for name, count in parts.items() for _ in range(count)]
    people = {"subject_id": IDS, "part": part, families: [f"HOUSE{row // 10}" for row in range(ROWS)]}
    people |= {"mrn": np.arange(ROWS) * 7 + 48_211_903, "initials": [f"NDARINVi{row}" for row in range(ROWS)]}
    people |= {"born": [f"NDARINV1950d{row}" for row in range(ROWS)], "ward": ["NDARINVward"] * 4 + ["north"] * (ROWS - 4)}
    people |= {"age": [97.53125] + [60.5, 61.5] * 14 + [18.28125], "sex": ["F", "M"] * 15}
    pd.DataFrame(people).to_csv(folder / "people.tsv", sep="\t", index=False)


def contrastive(folder: Path) -> Path:
    full_alignment(folder)
    people_table(folder, {"train": 15, "validation": 4, "test": 11})
    say(folder, f"{FAMILIES[2]} is torn")
    scans_table(folder)
    return folder


def evaluated(folder: Path) -> Path:
    """An alignment on people whose families stand in a column of another name, which is a stratum as well."""
    full_alignment(folder)
    people_table(folder, {"evaluated": 20, "seen": 10}, "household")
    say(folder, f"{FAMILIES[2]} is torn")
    scans_table(folder)
    house = [f"HOUSE{index // 10}" for index in range(ROWS)]
    people = pd.read_parquet(folder / "embeddings.parquet").assign(household=house)
    people.to_parquet(folder / "embeddings.parquet")
    export = pd.DataFrame({"FID": FAMILIES, "IID": people["sample_id"], "fmri_pc1": np.arange(ROWS)})
    export.to_csv(folder / "fmri.pheno.txt", sep="\t", index=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["strata"] |= {"columns": ["household"], "people": {f"household={each}": 10 for each in sorted(set(house))}}
    metrics["strata"]["notes"] = ["HOUSE2 is small"]
    metrics["left_out"] = [f"{IDS[5]} has no age"]
    settings = {"data": SETTINGS["data"], "groups": "household", "evaluation": {"strata": ["household"]}}
    write_basics(folder, metrics, settings)
    return folder


def evaluated_phenotypes(folder: Path) -> Path:
    phenotype_run(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    write_basics(folder, metrics | {"people": {"predicted": ROWS, "seen": 0}}, {"data": SETTINGS["data"], "checkpoint": "x"})
    pd.DataFrame({"subject_id": IDS, "score": 1.0}).to_csv(folder / "predictions.csv", index=False)
    say(folder)
    return folder


def phenotype(folder: Path) -> Path:
    phenotype_run(folder)
    people_table(folder, {"test of seed0_fold0": 15, "test of seed0_fold1": 15})
    say(folder)
    scans_table(folder)
    (folder / "fmri_seed0_fold0" / "split.json").write_text(json.dumps({"train": IDS[:9], "validation": [], "test": IDS[9:]}))
    return folder


def prepared(folder: Path) -> Path:
    write_basics(folder, {"runs": 5, "people": 5, "frames": 200})
    say(folder)
    scans_table(folder)
    return folder


def embedded(folder: Path) -> Path:
    figures = {"folder": "/secret/store", "regions": 1, "sequences_embedded": 9, "sequences_reused": 1, "bases_per_second": 1e6}
    write_basics(folder, figures)
    table = {"region": ["GENE1"], "signal": [0.5], "verdict": ["above noise"]}
    pd.DataFrame(table).to_csv(folder / "variant_sensitivity.tsv", sep="\t", index=False)
    (folder / "notes.json").write_text(json.dumps({"notes": ["3 people were left out"]}))  # no file of such a run names anybody
    return folder


def simulated(folder: Path) -> Path:
    write_basics(folder, {"simulated": True, "scans": ROWS, "parameters": {"people": ROWS}})
    people = {"participant_id": [f"sub-{each}" for each in IDS[:6]], "family_id": FAMILIES[:6], "sex": list("FMFMFM")}
    pd.DataFrame(people).to_csv(folder / "participants.tsv", sep="\t", index=False)
    (folder / "truth.json").write_text(json.dumps({"people": {each: {"latent": [0.1]} for each in IDS}}))
    scan = folder / "bold" / f"sub-{IDS[0]}" / "func"
    scan.mkdir(parents=True)
    (scan / f"sub-{IDS[0]}_desc-preproc_bold.nii.gz").write_bytes(b"")
    say(folder, f"{FAMILIES[2]} is torn")
    return folder


MAKERS = {
    "contrastive": contrastive, "evaluate": evaluated, "evaluate of phenotypes": evaluated_phenotypes, "phenotype": phenotype,
    "prepare_fmri": prepared, "embed_dna": embedded, "simulate_cohort": simulated,
}  # fmt: skip


@pytest.mark.parametrize("kind", MAKERS)
def test_write_report_names_nobody_of_any_file_of_the_folder(tmp_path, kind):
    folder = MAKERS[kind](tmp_path / "run")
    assert recipe_of(read_run(folder)) == kind.split(" of ")[0]
    write_report(folder)
    assert kind == "embed_dna" or len(names_in_folder(folder)) >= 5
    assert leaks(folder) == []
    assert kind == "embed_dna" or "(a person)" in text_of_report(folder)


@pytest.mark.parametrize("kind", ["contrastive", "evaluate", "phenotype"])
def test_write_report_sums_people_up_without_anybodys_own_value(tmp_path, kind):
    folder = MAKERS[kind](tmp_path / "run")
    write_report(folder)
    text = text_of_report(folder)
    people = pd.read_csv(folder / "people.tsv", sep="\t")
    assert "60.5 to 61.5" in text and "1 other level of fewer than 5" in text
    alone = [*people["mrn"], *people["initials"], *people["born"], "NDARINVward", "97.53125", "18.28125"]
    assert [each for each in map(str, alone) if each in text] == []
    words = text.split("</html>", 1)[0]  # pictures hold coordinates
    assert not re.search(r">[^<>]*\b(97\.5|18\.3)\b[^<>]*<", words)


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "embed_dna"])
def test_leaks_are_found_when_ids_are_not_hidden(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(report, "read_run", lambda folder: read_run(folder)._replace(hide=lambda text: text, families=[]))
    folder = MAKERS[kind](tmp_path / "run")
    write_report(folder)
    assert {IDS[0], IDS[4]} <= set(leaks(folder))


def test_leaks_are_found_in_the_words_of_a_picture(tmp_path):
    folder = evaluated(tmp_path / "run")
    regions = pd.read_csv(folder / "region_attribution.tsv", sep="\t").assign(region=[IDS[0], "GENE2", "GENE3", "QUIET"])
    regions.to_csv(folder / "region_attribution.tsv", sep="\t", index=False)
    write_report(folder)
    svg = text_of_report(folder).split("</html>", 1)[1]
    assert IDS[0] in svg and IDS[0] in leaks(folder)

"""The report: which sections a folder gets, what they say, whom they never name, and what damaged folders are told."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest
import yaml

from brainmt_align.reporting.report import ARTIFICIAL, SIMULATED, write_report
from brainmt_align.reporting.report_sections import system_of
from tests.report_files import IDS, SETTINGS, full_alignment, old_alignment, phenotype_run, write_basics


def headings(text: str) -> list[str]:
    return re.findall(r'<h2 id="section-\d+">(.*?)</h2>', text)


def without_pictures(text: str) -> str:
    return re.sub(r"data:image/[^\"]+", "", text)


def whole(cell: str) -> str:
    """An interval as the page has it: a narrow screen breaks the line before its bracket, not in it."""
    return cell.replace(", ", ",\u00a0")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return full_alignment(tmp_path_factory.mktemp("runs") / "full")


@pytest.fixture(scope="module")
def full_text(full):
    return write_report(full).read_text(encoding="utf-8")


def test_write_report_has_every_section_in_order_when_everything_is_there(full_text):
    assert headings(full_text) == [
        "What was run, and on what", "Data checks and quality", "Training", "Retrieval", "Within strata and among matched people",
        "Against simpler models", "Permutation tests", "What the towers share", "Similarity of scans and genomes",
        "Attribution: which regions, which voxels", "Provenance",
    ]  # fmt: skip


def test_write_report_leaves_out_sections_without_data_when_the_run_is_old(tmp_path):
    text = write_report(old_alignment(tmp_path / "old")).read_text(encoding="utf-8")
    assert headings(text) == ["What was run, and on what", "Data checks and quality", "Training", "Retrieval", "Provenance"]
    assert "scan → genome: recall@5 0.6 (chance 0.17, p 0.01)" in text and "not examined" in text and "MRR" not in text


def test_write_report_opens_with_the_verdict_and_what_kind_of_people_these_are(full_text, tmp_path):
    head = full_text.split("<h2")[0]
    assert "Above chance overall and within strata." in head and SIMULATED in head and ARTIFICIAL in head
    text = write_report(phenotype_run(tmp_path / "phenotype")).read_text(encoding="utf-8")
    assert SIMULATED not in text and ARTIFICIAL not in text and 'class="banner"' not in text


def test_write_report_shows_the_figures_of_metrics_with_their_intervals(full_text):
    for cell in ("0.6 [0.5, 0.7]", "0.4 [0.3, 0.5]", "0.5 [0.4, 0.6]", "0.3 [0.1, 0.5]", "0.4 [0.2, 0.6]"):
        assert f"<td>{whole(cell)}</td>" in full_text
    row = re.search(r"within families</th>(.*?)</tr>", full_text)[1]
    assert "n/a" in row  # nothing to permute
    assert "0.0101" in re.search(r"overall</th>(.*?)</tr>", full_text)[1]


def test_write_report_tells_with_the_strata_what_was_left_out_of_them(tmp_path):
    folder = full_alignment(tmp_path / "full")
    metrics = json.loads((folder / "metrics.json").read_text())
    told = "motion: left out, as 3 people have no value"
    (folder / "metrics.json").write_text(json.dumps(metrics | {"left_out": [told]}))
    section = write_report(folder).read_text(encoding="utf-8").split(">Within strata and among matched people</h2>")[1]
    assert f"<li>{told}</li>" in section.split("</section>")[0]
    old = old_alignment(tmp_path / "old")
    metrics = json.loads((old / "metrics.json").read_text())
    (old / "metrics.json").write_text(json.dumps(metrics | {"left_out": [told]}))
    assert f"<li>{told}</li>" in write_report(old).read_text(encoding="utf-8")  # nothing else was examined


@pytest.mark.parametrize(
    ("platform", "shown"),
    [
        ("Linux-6.18.44-fc-v769-x86_64-with-glibc2.36", "Linux x86_64"),
        ("macOS-14.5-arm64-arm-64bit", "macOS 14.5 arm64"),
        ("Windows-10-10.0.19045-SP0", "Windows 10"),
        ("Haiku", "Haiku"),
    ],
)
def test_system_of_keeps_what_a_reader_needs(platform, shown):
    assert system_of(platform) == shown


def test_write_report_names_no_kernel(full):
    record = json.loads((full / "provenance.json").read_text())
    (full / "provenance.json").write_text(json.dumps(record | {"platform": "Linux-6.18.44-fc-v769-x86_64-with-glibc2.36"}))
    text = write_report(full).read_text(encoding="utf-8")
    (full / "provenance.json").write_text(json.dumps(record))
    assert "<td>Linux x86_64</td>" in text and "6.18.44" not in text


def test_write_report_draws_one_histogram_a_test_that_has_draws(full_text):
    assert full_text.count('alt="Histogram') == 2 and "what 99 re-pairings" in full_text


def test_write_report_shows_of_a_path_only_its_name(full_text):
    assert "mycohort" in full_text and "secret" not in full_text


def test_write_report_is_one_small_file_without_script_or_address(full, full_text):
    bare = without_pictures(full_text)
    assert "<script" not in bare and not re.search(r"https?:|//|url\(|@import", bare)
    assert not re.search(r'src="(?!data:image/)', full_text)
    assert (full / "report.html").stat().st_size < 8e6


def test_write_report_lists_settings_that_differ_only_where_the_default_is_known(full, full_text, tmp_path):
    assert "differ from the default" not in full_text
    usual = {**SETTINGS, "train": {"epochs": 24, "learning_rate": 0.002}, "out": "elsewhere"}
    folder = old_alignment(tmp_path / "old")
    text = write_report(folder, yaml.safe_dump(usual)).read_text(encoding="utf-8")
    table = text.split("Settings that differ from the default.")[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', table) == [("train.epochs", "3", "24")]
    assert "All settings are the default." in write_report(folder, yaml.safe_dump(SETTINGS)).read_text(encoding="utf-8")


def test_write_report_tells_of_a_phenotype_run_target_by_target(tmp_path):
    text = write_report(phenotype_run(tmp_path / "run")).read_text(encoding="utf-8")
    assert headings(text) == [
        "What was run, and on what",
        "Data checks and quality",
        "Training",
        "Phenotype: cognition score",
        "Provenance",
    ]
    assert f"<td>{whole('0.40 [0.20, 0.50]')}</td>" in text and "residuals plot of cognition score" in text
    assert "beats its strongest rival" in text


def test_write_report_sums_up_what_a_recipe_prepared(tmp_path):
    folder = write_basics(tmp_path / "scans", {"runs": 3, "people": 2, "frames": 300})
    rows = {
        "subject_id": [IDS[0], IDS[1], IDS[1]],
        "store_path": ["/secret/a", "/secret/b", "/secret/c"],
        "tr_s": [2.0, 2.0, 1.5],
        "site": list("aab"),
    }
    pd.DataFrame(rows).to_csv(folder / "runs.tsv", sep="\t", index=False)
    text = write_report(folder).read_text(encoding="utf-8")
    assert headings(text) == ["What was run, and on what", "What was made", "Data checks and quality", "Provenance"]
    assert "3 runs of 2 people, 300 frames" in text and "secret" not in text and not any(name in text for name in IDS)
    assert re.search(r"TR in s \(tr_s\)</th><td>least 1.5, most 2</td><td>0</td>", text)
    assert "a: 2" not in text
    assert "Stored scans, all runs together: 3 runs of 2 people." in text and "Of 3 stored runs TRs: 2." in text


def test_write_report_shows_which_regions_an_encoder_tells_apart(tmp_path):
    figures = {"folder": "/secret/store", "regions": 2, "sequences_embedded": 9, "sequences_reused": 1, "bases_per_second": 1e6}
    folder = write_basics(tmp_path / "genomes", figures)
    table = pd.DataFrame({"region": ["GENE1", "GENE2"], "signal": [0.5, np.nan], "verdict": ["above noise", "no variation"]})
    table.to_csv(folder / "variant_sensitivity.tsv", sep="\t", index=False)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "2 regions: 9 sequences were embedded, 1 were there before." in text
    assert re.search(r"GENE2</th><td>n/a</td><td>no variation</td>", text) and "secret" not in text


def test_write_report_leaves_large_pictures_to_the_folder(tmp_path):
    folder = phenotype_run(tmp_path / "run")
    drawn = folder / "residuals_cognition_score.png"
    drawn.write_bytes(drawn.read_bytes() + bytes(5_000_000))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "in the run folder: residuals_cognition_score.png" in text and len(text) < 1e6


def test_write_report_is_the_same_twice_and_leaves_nothing_beside(full, full_text):
    assert write_report(full).read_text(encoding="utf-8") == full_text
    assert not list(full.glob("*.partial-*"))


def test_write_report_takes_seconds_when_the_cohort_is_large(tmp_path):
    folder, n = full_alignment(tmp_path / "large"), 3000
    from safetensors.numpy import save_file

    rows = np.random.default_rng(0).normal(size=(n, 512)).astype(np.float32)
    save_file({"fmri": rows, "dna": rows}, folder / "embeddings.safetensors")
    people = pd.DataFrame({"subject_id": [f"P{index:07d}" for index in range(n)], "site": np.arange(n) % 3})
    people.to_parquet(folder / "embeddings.parquet")
    began = time.process_time()
    path = write_report(folder)
    assert time.process_time() - began < 10 and path.stat().st_size < 8e6
    assert "400 of 3,000 people" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json"])
def test_write_report_says_what_is_lacking_when_the_run_has_not_ended(tmp_path, name):
    folder = old_alignment(tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"without {name}.*\n  file: .*run\n  fix: "):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", [
    "metrics.json", "config.yaml", "provenance.json", "notes.json", "epochs.csv", "embeddings.safetensors", "embeddings.parquet",
    "nulls.parquet", "voxel_attribution.nii.gz", "split.json",
])  # fmt: skip
def test_write_report_names_the_damaged_file_and_keeps_the_old_report(tmp_path, name):
    folder = full_alignment(tmp_path / "run")
    (folder / "report.html").write_text("old")
    (folder / name).write_bytes(b"[1" if name != "epochs.csv" else b"")
    with pytest.raises(ValueError, match=rf"{name} of a finished run was expected(.|\n)*file: .*{name}\n  fix: "):
        write_report(folder)
    assert (folder / "report.html").read_text() == "old"


@pytest.mark.parametrize("content", ["[1, 2]", '"words"'])
def test_write_report_refuses_json_that_is_no_mapping(tmp_path, content):
    folder = old_alignment(tmp_path / "run")
    (folder / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=r"keys and values were expected, got (list|str)"):
        write_report(folder)


def test_write_report_refuses_embeddings_of_other_people(tmp_path):
    folder = full_alignment(tmp_path / "run")
    pd.read_parquet(folder / "embeddings.parquet").iloc[:7].to_parquet(folder / "embeddings.parquet")
    with pytest.raises(ValueError, match=r"one row a person of embeddings.parquet \(7\).*fmri.*30"):
        write_report(folder)


def test_write_report_says_how_many_voxels_pass_against_the_control(full_text, tmp_path):
    assert "Mean of the absolute maps of 8 people; maps that miss completeness: 1." in full_text
    assert "41 of 300 voxels have a larger share with the own genome (one-sided, false discovery rate 0.05)" in full_text
    folder = full_alignment(tmp_path / "old")
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["voxels"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "voxel_attribution.nii.gz" in text and "voxel_attribution_t.nii.gz" not in text and "absolute maps" not in text


def test_write_report_refuses_a_map_that_is_not_one_value_a_voxel(tmp_path):
    import nibabel as nib

    folder = full_alignment(tmp_path / "run")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 2), np.float32), np.eye(4)), folder / "voxel_attribution.nii.gz")
    with pytest.raises(ValueError, match=r"one value a voxel, three axes, were expected, got the shape \(4, 4, 4, 2\)"):
        write_report(folder)


def test_write_report_refuses_a_picture_that_is_none(tmp_path):
    folder = phenotype_run(tmp_path / "run")
    (folder / "residuals_cognition_score.png").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match="A PNG image was expected, got 6 bytes"):
        write_report(folder)


def test_write_report_reads_metrics_with_nothing_in_them(tmp_path):
    assert headings(write_report(write_basics(tmp_path / "run", {}, {})).read_text(encoding="utf-8"))[-1] == "Provenance"
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {}

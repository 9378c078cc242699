"""The recipes that write a cohort and fill the stores ahead of training."""

import errno
import gzip
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pysam
import pytest

from brainmt_align.data import simulate
from brainmt_align.data.bold_store import open_run
from brainmt_align.data.dna_store import open_store
from recipes import contrastive, embed_dna, prepare_fmri, simulate_cohort

SMALL = [
    "simulation.people=12", "simulation.regions=2", "simulation.region_bases=512", "simulation.traits=2",
    "simulation.volume_shape=[16,16,16]", "simulation.frames=12",
]  # fmt: skip


def test_simulate_cohort_writes_a_cohort_that_says_it_is_simulated(tmp_path):
    out = simulate_cohort.main([*SMALL, f"out={tmp_path / 'cohort'}"])
    assert json.loads((out / "metrics.json").read_text())["scans"] == 12
    assert json.loads((out / "provenance.json").read_text())["simulated"] is True
    assert (out / "config.yaml").exists() and "12 simulated scans" in (out / "report.html").read_text()
    notes = json.loads((out / "notes.json").read_text())["notes"]
    assert notes[0].startswith("12 people, one run each: 12 frames of 2 s on 16 x 16 x 16 voxels")
    assert "genes make up 100% of the variance" in notes[1] and notes[-1] == "nothing confounds scans and genomes"
    assert all(f"<li>{note}</li>" in (out / "report.html").read_text() for note in notes)
    before = (out / "genotypes.vcf.gz").read_bytes()
    simulate_cohort.main([*SMALL, f"out={tmp_path / 'cohort'}"])
    assert (out / "genotypes.vcf.gz").read_bytes() == before


def test_describe_simulation_names_all_that_confounds():
    told = simulate.CohortParameters(
        coupling=0, populations=2, sites=3, age=True, motion_mm=0.2, family_size=2, phenotypes=True, brain_share=0.4
    )
    words = list(simulate_cohort.describe_simulation(told))
    assert words[1].endswith("genes have no part in them") and words[2] == "families of 2 siblings"
    assert words[3] == "beside the traits the scans show 2 populations, 3 scanners, age, 0.2 mm of motion a frame"
    assert words[4].startswith("phenotypes are made 40% by the brain")


def test_simulate_cohort_keeps_the_cohort_when_the_report_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(simulate_cohort, "write_report", fail)
    with pytest.raises(MemoryError):
        simulate_cohort.main([*SMALL, f"out={tmp_path / 'cohort'}"])
    assert {"metrics.json", "provenance.json", "config.yaml"} <= {path.name for path in (tmp_path / "cohort").iterdir()}


def test_simulate_cohort_leaves_the_default_cohorts_place_to_the_default_cohort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = simulate_cohort.main(SMALL)
    assert out.name.startswith("simulated_cohort-") and [folder.name for folder in Path("runs").iterdir()] == [out.name]


def test_simulate_cohort_refuses_other_parameters_in_the_same_place(tmp_path):
    out = tmp_path / "cohort"
    simulate_cohort.main([*SMALL, f"out={out}"])
    with pytest.raises(ValueError, match="coupling"):
        simulate_cohort.main([*SMALL, f"out={out}", "simulation.coupling=0.5"])


def test_prepare_fmri_and_embed_dna_fill_the_stores_that_contrastive_reads(words, cohort, tmp_path):
    stores = [f"data.root={cohort}", f"stores.bold={tmp_path / 'bold'}", f"stores.dna={tmp_path / 'dna'}", "threads=1"]
    scans = prepare_fmri.main([*stores, f"out={tmp_path / 'scans'}"])
    genomes = embed_dna.main([*stores, f"out={tmp_path / 'genomes'}"])

    runs = pd.read_csv(scans / "runs.tsv", sep="\t", dtype={"subject_id": str})
    assert len(runs) == 30 and open_run(runs["store_path"][0]).num_frames == 12
    scanned = json.loads((scans / "provenance.json").read_text())["bold_sha256"]
    assert not (scans / ".lock").exists() and not (genomes / ".lock").exists()
    figures = json.loads((genomes / "metrics.json").read_text())
    assert figures["regions"] == 2 and figures["sequences_embedded"] > 4
    assert (scans / "report.html").exists() and (genomes / "report.html").exists()
    assert open_store(figures["folder"]).regions == ["GENE1", "GENE2"]
    audit = pd.read_csv(genomes / "variant_sensitivity.tsv", sep="\t")
    assert (audit["ratio"] > 100).all() and (audit["below_noise"] == 0).all()

    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    contrastive.main([*words["training"], *stores, f"out={tmp_path / 'run'}", "train.epochs=1"])
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["bold_sha256"] == scanned
    after = {file: file.stat().st_mtime_ns for file in before}
    assert after == before
    assert (
        json.loads((embed_dna.main([*stores, f"out={tmp_path / 'genomes'}"]) / "metrics.json").read_text())["sequences_embedded"]
        == 0
    )


@pytest.mark.parametrize("recipe", [simulate_cohort, prepare_fmri, embed_dna, contrastive])
def test_recipes_refuse_a_place_that_cannot_be_written_to_before_any_work(tmp_path, monkeypatch, recipe):
    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)
    monkeypatch.setattr(recipe, "start_processes", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(PermissionError, match=r"refuses: Read-only file system\.\n  file: .*run\n  fix: set out="):
        recipe.main([f"out={tmp_path / 'run'}"])


@pytest.mark.parametrize("recipe", [prepare_fmri, embed_dna])
def test_preparation_refuses_a_foreign_place_before_it_reads_anything(tmp_path, recipe):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(FileExistsError, match="got a folder with thesis"):
        recipe.main([f"data.root={tmp_path / 'nowhere'}", f"out={tmp_path}"])


@pytest.mark.parametrize(("recipe", "room"), [(prepare_fmri, "bold_store"), (embed_dna, "dna_store")])
def test_preparation_lets_go_of_its_place_when_it_fails(cohort, tmp_path, monkeypatch, recipe, room):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(getattr(recipe, room), "build", fail)
    out = tmp_path / "run"
    with pytest.raises(MemoryError):
        recipe.main([f"data.root={cohort}", f"stores.bold={tmp_path / 'b'}", f"stores.dna={tmp_path / 'd'}", f"out={out}"])
    assert [path.name for path in out.iterdir()] == ["config.yaml"]


def test_preparation_takes_only_the_people_of_a_pair_table(words, cohort, tmp_path, capsys):
    bold = sorted(cohort.rglob("*desc-preproc_bold.nii.gz"))[:3]
    ids = ["sub-0004", "0005", "0006"]  # matched as the cohort does
    table = pd.DataFrame({"participant_id": ["a", "b", "c"], "sample_id": ids, "bold_path": bold})
    table.to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    common = [
        f"data.root={cohort}",
        f"data.pairs={tmp_path / 'pairs.tsv'}",
        f"stores.bold={tmp_path / 'b'}",
        f"stores.dna={tmp_path / 'd'}",
    ]
    with pytest.raises(ValueError, match="scans: no brain mask for 3 of 3 runs"):
        prepare_fmri.main([*common, f"out={tmp_path / 'scans'}"])
    scans = prepare_fmri.main([*common, "data.mask_rule=nonzero", f"out={tmp_path / 'scans'}"])
    assert "No brain mask for 3 of 3 runs: their voxels that are non-zero in any frame count." in capsys.readouterr().out
    assert pd.read_csv(scans / "runs.tsv", sep="\t")["subject_id"].tolist() == ["a", "b", "c"]
    genomes = embed_dna.main([*common, f"out={tmp_path / 'genomes'}"])
    folder = json.loads((genomes / "metrics.json").read_text())["folder"]
    assert open_store(folder).sample_ids == ["0004", "0005", "0006"]


@pytest.fixture
def faulty(cohort, tmp_path):
    """The cohort without its genotypes."""
    folder = tmp_path / "faulty"
    folder.mkdir()
    for name in ("participants.tsv", "bold", "truth.json", "reference.fa", "reference.fa.fai", "regions.bed"):
        (folder / name).symlink_to(cohort / name)
    return folder


def write_genotypes(cohort: Path, folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """The cohort's VCF with its records changed, as lists of columns."""
    with gzip.open(cohort / "genotypes.vcf.gz", "rt") as file:
        lines = file.read().splitlines()
    changed = [line if line.startswith("#") else "\t".join(change(line.split("\t"))) for line in lines]
    (folder / "genotypes.vcf").write_text("\n".join([*changed, ""]))
    pysam.tabix_compress(str(folder / "genotypes.vcf"), str(folder / "genotypes.vcf.gz"), force=True)
    pysam.tabix_index(str(folder / "genotypes.vcf.gz"), preset="vcf", force=True)


@pytest.mark.parametrize("recipe", [contrastive, embed_dna])
def test_genotype_faults_of_all_regions_come_before_scans_are_stored_and_the_encoder_is_loaded(
    words, cohort, faulty, tmp_path, monkeypatch, recipe
):
    write_genotypes(cohort, faulty, lambda columns: [*columns[:9], "0/1", *columns[10:]])
    monkeypatch.setattr(recipe, "load_dna_encoder", lambda *_, **__: pytest.fail("the encoder is loaded"))
    training = words["training"] if recipe is contrastive else []
    places = [f"data.root={faulty}", f"stores.bold={tmp_path / 'b'}", f"stores.dna={tmp_path / 'd'}", f"out={tmp_path / 'o'}"]
    with pytest.raises(ValueError, match=r"in all 2 regions, got:\n  - GENE1 .* without phase; .*\n  - GENE2 .* without phase"):
        recipe.main([*training, *places])
    assert not (tmp_path / "b").exists() and not (tmp_path / "d").exists()


@pytest.mark.parametrize("recipe", [contrastive, embed_dna])
def test_recipes_say_which_alleles_stand_in_no_sequence(words, cohort, faulty, tmp_path, capsys, recipe):
    def insert(columns: list[str]) -> list[str]:
        return columns if int(columns[1]) % 2 else [*columns[:4], "<INS>", *columns[5:9], "0|1", *columns[10:]]

    write_genotypes(cohort, faulty, insert)
    training = [*words["training"], "train.epochs=1", "data.truth=null"] if recipe is contrastive else []
    places = [f"data.root={faulty}", f"stores.bold={tmp_path / 'b'}", f"stores.dna={tmp_path / 'd'}", f"out={tmp_path / 'o'}"]
    recipe.main([*training, *places])
    assert re.search(r"ALT alleles left out, as bcftools consensus does: [\d,]+ symbolic\.\n", capsys.readouterr().out)

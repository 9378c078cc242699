"""A finished run opened for queries: new files give the rows that the run itself made; honest refusal."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from brainmt_align.data.dna_store import open_store
from brainmt_align.data.simulate import CohortParameters, write_cohort
from brainmt_align.evaluation.querying import open_alignment
from brainmt_align.evaluation.retrieval import EmbeddingIndex
from brainmt_align.model.rebuilding import model_fingerprint
from encoders import load_dna_encoder
from recipes import contrastive
from tests.dna_files import CountingEncoder

pytestmark = pytest.mark.filterwarnings("ignore:Index")  # few variants: some people share a genome


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """14 people, two regions of 512 bases, (D, H, W) = (20, 16, 24), 10 frames: two windows that overlap."""
    parameters = CohortParameters(
        people=14,
        regions=2,
        region_bases=512,
        common_variants=2,
        causal_variants=2,
        traits=2,
        volume_shape=(20, 16, 24),
        frames=10,
        seed=5,
    )
    return write_cohort(tmp_path_factory.mktemp("simulated") / "cohort", parameters, progress=False)


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    """One epoch of the recipe."""
    folder = tmp_path_factory.mktemp("runs")
    small = ["fmri.embed_dim=8", "fmri.stem_channels=[2,2]", "fmri.d_state=2", "train.epochs=1", "train.batch_size=4"]
    stores = [f"stores.bold={folder / 'bold'}", f"stores.dna={folder / 'dna'}"]
    words = [f"data.root={cohort}", f"out={folder / 'run'}", "train.window=6", "evaluation.permutations=20", "threads=1"]
    return contrastive.main([*words, *small, *stores])


@pytest.fixture(scope="module")
def run(finished):
    return open_alignment(finished, "cpu")


@pytest.fixture(scope="module")
def encoder():
    return load_dna_encoder("caduceus", device="cpu")


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


def scan_of(cohort, subject, what="desc-preproc_bold"):
    return next((cohort / "bold" / f"sub-{subject}" / "func").glob(f"*{what}.nii.gz"))


def genome_of(cohort):
    return cohort / "genotypes.vcf.gz", cohort / "reference.fa"


def test_open_alignment_needs_the_run_folder_alone(copied, run):
    (copied / "config.yaml").unlink()
    again = open_alignment(copied, "cpu")
    assert again.fingerprint == run.fingerprint == model_fingerprint(load_file(copied / "best.safetensors"))
    assert again.regions() == again.regions("caduceus") == ["GENE1", "GENE2"]
    assert not again.model.training and again.device.type == "cpu"
    assert again.fmri_NE.shape == again.dna_NE.shape == (len(again.people), 512)


def test_embed_scan_of_raw_files_equals_the_runs_own_rows(run, cohort):
    for row, subject in enumerate(run.people["subject_id"]):
        z_E = run.embed_scan(scan_of(cohort, subject), scan_of(cohort, subject, "brain_mask"))
        torch.testing.assert_close(z_E, run.fmri_NE[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(run.embed_scan(scan_of(cohort, subject), windows_at_once=2), z_E, atol=1e-5, rtol=0)
    assert not torch.allclose(run.fmri_NE[0], run.fmri_NE[1], atol=1e-3)


def test_embed_scan_averages_the_windows_of_all_runs(run, cohort):
    paths = [scan_of(cohort, subject) for subject in run.people["subject_id"][:2]]
    both_E = run.embed_scan(paths)
    assert both_E.norm() == pytest.approx(1.0, abs=1e-5)
    each = [float(both_E @ run.embed_scan(path)) for path in paths]
    apart = float(run.embed_scan(paths[0]) @ run.embed_scan(paths[1]))
    assert min(each) > apart
    torch.testing.assert_close(run.embed_scan([paths[0], paths[0]]), run.embed_scan(paths[0]), atol=1e-5, rtol=0)


def test_embed_scan_refuses_another_grid_too_few_frames_and_no_run(run, cohort, tmp_path):
    image = nib.load(scan_of(cohort, run.people["subject_id"][0]))
    nib.save(image.slicer[:, :, :-2], tmp_path / "small.nii.gz")
    nib.save(image.slicer[..., :5], tmp_path / "short.nii.gz")
    with pytest.raises(ValueError, match=r"\(20, 16, 24\) voxels .* got \(20, 16, 22\)\.\n  file: .*small.*\n  fix: resample"):
        run.embed_scan(tmp_path / "small.nii.gz")
    with pytest.raises(ValueError, match=r"one window of 6 frames was expected, .*; got 5\.\n  file: .*short.*\n  fix: give"):
        run.embed_scan(tmp_path / "short.nii.gz")
    with pytest.raises(ValueError, match="At least one run was expected, got none"):
        run.embed_scan([])
    with pytest.raises(FileNotFoundError):
        run.embed_scan(tmp_path / "none.nii.gz")


def test_embed_genome_of_raw_files_equals_the_runs_own_rows(run, cohort, encoder):
    for row, sample in enumerate(run.people["sample_id"]):
        z_E = run.embed_genome(*genome_of(cohort), cohort / "regions.bed" if row else None, sample, encoder)
        torch.testing.assert_close(z_E, run.dna_NE[row], atol=1e-4, rtol=0)
    assert run.dna_NE.std(0).max() > 1e-2  # people differ


def test_embed_genome_refuses_another_encoder_and_another_build(run, cohort, encoder, tmp_path):
    sample = run.people["sample_id"][0]
    for other in (CountingEncoder(), load_dna_encoder("caduceus", device="cpu", seed=1)):
        with pytest.raises(ValueError, match=r"DNA encoder of the training was expected: Caduceus.*\n.*\n  fix: load it as"):
            run.embed_genome(*genome_of(cohort), None, sample, other)
    shifted = [(contig, 1 + start, 1 + end, name) for contig, start, end, name in places_of(cohort)]
    with pytest.raises(ValueError, match=r"(?s)in 2 of 2 regions:\n  - region GENE1: expected chr1:.*where: .*fix: lift"):
        run.embed_genome(*genome_of(cohort), shifted, sample, encoder)
    with pytest.raises(ValueError, match="nobody"):
        run.embed_genome(*genome_of(cohort), None, "nobody", encoder)


def places_of(cohort):
    table = pd.read_csv(cohort / "regions.bed", sep="\t", header=None)
    return [(row[0], int(row[1]), int(row[2]), row[3]) for row in table.itertuples(index=False)]


def test_embed_regions_of_all_regions_is_the_genomes_row(run, cohort, encoder, finished):
    sample = run.people["sample_id"][1]
    features_RHD = run.genome_features(*genome_of(cohort), None, sample, encoder)
    stored = open_store(next((finished.parent / "dna").iterdir()), run.regions()).features([sample])[0]
    np.testing.assert_allclose(features_RHD.numpy(), stored, atol=1e-6)
    kept = [name for name in run.regions() if name not in run.model.dna["caduceus"].dropped(run.regions())]
    whole_E = run.embed_regions(stored, dict.fromkeys(kept, 1.0))
    assert torch.equal(whole_E, run.embed_features(stored)) and whole_E.device.type == "cpu"
    torch.testing.assert_close(whole_E, run.dna_NE[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="GENE9 is not among them; the nearest are GENE"):
        run.embed_regions(stored, {"GENE9": 1.0})


def test_open_alignment_names_the_files_of_an_unfinished_run(copied):
    (copied / "embeddings.parquet").unlink()
    (copied / "provenance.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"got one without embeddings\.parquet, provenance\.json\.\n  file: .*\n  fix"):
        open_alignment(copied)
    (copied / "best.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="A checkpoint of this project was expected"):
        open_alignment(copied)


def test_open_alignment_refuses_a_provenance_of_another_model(copied):
    record = json.loads((copied / "provenance.json").read_text()) | {"window": 5}
    (copied / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"got one that differs in window\.\n  file"):
        open_alignment(copied)


@pytest.mark.parametrize(
    "rows, message",
    [
        ({"fmri": 3, "dna": 4}, r"one row of dna a person, 3 of them, got an array of \(4, 512\)"),
        ({"fmri": 4}, "expected tensors fmri and dna of version 1"),
        ({"fmri": 5, "dna": 5}, r"one row of fmri a person, 3 of them, got an array of \(5, 512\)"),
    ],
)
def test_open_alignment_refuses_embeddings_that_do_not_fit_their_table(copied, rows, message):
    save_file({name: torch.ones(count, 512) for name, count in rows.items()}, copied / "embeddings.safetensors")
    with pytest.raises(ValueError, match=message):
        open_alignment(copied)


def test_open_alignment_refuses_a_table_in_another_order(copied):
    people = pd.read_parquet(copied / "embeddings.parquet")
    people[::-1].to_parquet(copied / "embeddings.parquet", index=False)
    with pytest.raises(ValueError, match="the people that the embeddings were saved with, in their order"):
        open_alignment(copied)


def test_open_alignment_opens_people_of_several_windows(copied, run):
    persons = np.repeat(np.arange(len(run.people)), 2)
    windows = EmbeddingIndex(
        run.fmri_NE[persons], run.dna_NE, run.people, fmri_person=persons, model=run.fingerprint, source="windows"
    )
    windows.save(copied)
    again = open_alignment(copied, "cpu")
    assert len(again.people) == len(run.people) and torch.equal(again.fmri_NE, run.fmri_NE[persons])
    pd.testing.assert_frame_equal(again.ask(run.dna_NE, k=2), run.ask(run.dna_NE, k=2))


def test_rows_of_an_alignment_are_views_of_its_index(run):
    assert np.shares_memory(run.fmri_NE.numpy(), run.index.fmri) and np.shares_memory(run.dna_NE.numpy(), run.index.dna)


@pytest.mark.parametrize("name", ["embeddings.safetensors", "embeddings.parquet", "provenance.json"])
def test_open_alignment_refuses_damaged_files(copied, name):
    (copied / name).write_bytes((copied / name).read_bytes()[:50])
    with pytest.raises(ValueError, match=r"damaged file \(.*\n  file: .*\n  fix: copy"):
        open_alignment(copied)


def test_ask_finds_the_person_whose_row_it_is_and_the_best_first(run):
    found = run.ask(run.fmri_NE[1], side="fmri", k=2)
    assert found["subject_id"].iloc[0] == run.people["subject_id"].iloc[1]
    assert found["score"].iloc[0] == pytest.approx(1.0, abs=1e-5)
    scores = run.fmri_NE @ run.dna_NE[0]
    best = run.ask(run.dna_NE[:1], k=len(scores), names=["new"])
    assert list(best["query"].unique()) == ["new"]
    np.testing.assert_allclose(best["score"], scores.sort(descending=True).values, atol=1e-5)


def test_open_alignment_refuses_embeddings_of_another_model(copied, run):
    rows = load_file(copied / "embeddings.safetensors")
    save_file(rows, copied / "embeddings.safetensors", {"model": "ab" * 32})
    with pytest.raises(ValueError, match=rf"expected embeddings of model {run.fingerprint}, got those of another model, abab"):
        open_alignment(copied, "cpu")
    save_file(rows, copied / "embeddings.safetensors")
    with pytest.warns(UserWarning, match="do not say which model made them"):
        open_alignment(copied, "cpu")

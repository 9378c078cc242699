"""Tests of recipes/evaluate.py on an alignment: one command beside a finished run, its products, and what it refuses."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from brainmt_align.model.rebuilding import model_fingerprint
from brainmt_align.training.checkpoints import read_description, save_weights
from recipes import contrastive, evaluate

SMALL = [
    "evaluation.permutations=100",
    "evaluation.resamples=100",
    "attribution.draws=2",
    "attribution.people=2",
    "attribution.steps=8",
    "attribution.max_steps=16",
]
SMALL += [
    "attribution.connectivity_regions=6",
    "attribution.components=2",
    "attribution.permutations=50",
    "evaluation.min_stratum=2",
    "evaluation.pool_size=3",
]


@pytest.fixture(scope="module")
def aligned(words, cohort, tmp_path_factory):
    """A run of one epoch on 30 people, seven of them tested, with a sex in the table."""
    folder = tmp_path_factory.mktemp("aligned")
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")[["participant_id"]].assign(sex=["F", "M"] * 15)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    columns = [f"data.participants={folder / 'participants.tsv'}", "evaluation.strata=[sex]", "evaluation.min_stratum=2"]
    return contrastive.main([*words["training"], *columns, "train.epochs=1", f"out={folder / 'run'}"])


@pytest.fixture(scope="module")
def evaluated(aligned, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "run"
    return evaluate.main([f"checkpoint={aligned / 'best.safetensors'}", *SMALL, "threads=1", f"out={out}"])


def test_evaluate_needs_the_checkpoint_alone_and_finds_the_embeddings_of_its_run(aligned, evaluated):
    there, here = load_file(aligned / "embeddings.safetensors"), load_file(evaluated / "embeddings.safetensors")
    for side in ("fmri", "dna"):
        torch.testing.assert_close(here[side], there[side], rtol=0, atol=1e-5)
    people = [pd.read_parquet(run / "embeddings.parquet") for run in (aligned, evaluated)]
    pd.testing.assert_frame_equal(*people)
    with safe_open(evaluated / "embeddings.safetensors", framework="pt") as file:
        assert file.metadata()["model"] == model_fingerprint(load_file(aligned / "best.safetensors"))


def test_evaluate_writes_all_that_it_promises(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["people"] == {"evaluated": 7, "seen": 23} and metrics["simulated"]
    people = pd.read_csv(evaluated / "people.tsv", sep="\t", dtype=str)
    assert list(people) == ["subject_id", "part", "sex"] and people["part"].tolist() == ["evaluated"] * 7 + ["seen"] * 23
    assert pd.read_csv(evaluated / "runs.tsv", sep="\t")["mean_fd_mm"].notna().all()
    assert set(metrics["rivals"]) == {"covariates only", "CCA of connectivity and dosages"}
    assert metrics["strata"]["columns"] == ["sex"] and metrics["matched"]["pool_size"] == 3
    assert metrics["verdict"]["words"] and "overall" in metrics["tests"]
    for direction in metrics["retrieval"].values():
        low, high = direction["intervals"]["mrr"]
        assert low <= direction["mrr"] <= high and direction["oracle_recall@1"] is not None
    nulls = pd.read_parquet(evaluated / "nulls.parquet")
    assert set(metrics["tests"]) == set(nulls["test"])
    regions = pd.read_csv(evaluated / "region_attribution.tsv", sep="\t")
    assert len(regions) == 2 and regions.loc[regions["kept"], "p"].between(0, 1).all()
    assert (evaluated / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert not any(note.startswith("Left out") for note in json.loads((evaluated / "notes.json").read_text())["notes"])


def test_evaluate_writes_voxel_maps_on_the_grid_of_the_scans(evaluated, cohort):
    for name in ("voxel_attribution_t", "voxel_attribution_control"):
        assert np.isfinite(nib.load(evaluated / f"{name}.nii.gz").get_fdata()).all()
    image = nib.load(evaluated / "voxel_attribution.nii.gz")
    scan = nib.load(sorted((cohort / "bold").rglob("*_bold.nii.gz"))[0])
    assert image.shape == scan.shape[:3]
    np.testing.assert_allclose(image.affine, scan.affine)
    assert np.isfinite(image.get_fdata()).all() and image.get_fdata().any() and image.get_fdata().min() == 0
    told = json.loads((evaluated / "metrics.json").read_text())["voxels"]
    assert told["people"] == 2 and 0 <= told["passing"] <= told["voxels"] <= image.get_fdata().size
    assert any(
        f"{told['passing']} of {told['voxels']} voxels" in each
        for each in json.loads((evaluated / "notes.json").read_text())["notes"]
    )


def test_evaluate_exports_phenotypes_that_are_free_of_the_covariates(evaluated):
    sex = pd.read_parquet(evaluated / "embeddings.parquet")["sex"]
    for side in ("fmri", "dna"):
        table = pd.read_csv(evaluated / f"{side}.pheno.txt", sep=r"\s+", dtype={"FID": str, "IID": str})
        assert list(table.columns[:2]) == ["FID", "IID"] and len(table) == 7
        means = table.iloc[:, 2:].groupby(sex.to_numpy()).mean()
        np.testing.assert_allclose(means.loc["F"], means.loc["M"], atol=1e-5)


def test_evaluate_leaves_no_subject_id_outside_the_tables(aligned, evaluated):
    ids = pd.read_parquet(evaluated / "embeddings.parquet")["subject_id"]
    for run in (aligned, evaluated):
        for name in ("metrics.json", "provenance.json", "notes.json"):
            text = (run / name).read_text()
            assert not any(f'"{subject}"' in text or f"sub-{subject}" in text for subject in ids)


def test_evaluate_leaves_cca_out_when_nothing_tells_whom_the_checkpoint_learned_from(aligned, tmp_path):
    for name in ("best.safetensors", "config.yaml"):
        shutil.copy(aligned / name, tmp_path / name)
    words = [f"checkpoint={tmp_path / 'best.safetensors'}", *SMALL, "attribution.draws=0", "attribution.people=0", "threads=1"]
    out = evaluate.main([*words, f"out={tmp_path / 'out'}"])
    metrics, notes = json.loads((out / "metrics.json").read_text()), json.loads((out / "notes.json").read_text())["notes"]
    assert metrics["people"] == {"evaluated": 30, "seen": None} and set(metrics["rivals"]) == {"covariates only"}
    assert metrics["verdict"]["words"].startswith("whether the checkpoint was trained on these people cannot be told")
    assert any("No split.json lies beside" in note for note in notes) and any("Left out, CCA of" in note for note in notes)
    assert not (out / "region_attribution.tsv").exists() and not (out / "voxel_attribution.nii.gz").exists()


def test_evaluate_refuses_people_whom_the_checkpoint_has_seen_all(aligned, tmp_path):
    split = json.loads((aligned / "split.json").read_text())
    split["train"] += split.pop("test")
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("participant_id\tsample_id\n" + "".join(f"{each}\t{each}\n" for each in split["validation"]))
    words = [f"checkpoint={aligned / 'best.safetensors'}", f"data.pairs={pairs}", "data.unmatched=drop", *SMALL, "threads=1"]
    with pytest.raises(ValueError, match="At least 2 people whom the checkpoint has not seen were expected, got 0"):
        evaluate.main([*words, f"out={tmp_path / 'out'}"])


@pytest.mark.parametrize("word", ["evaluation.strata=[nonsense]", "export.family_ids=nonsense"])
def test_evaluate_refuses_unknown_columns_before_any_work(word, aligned, tmp_path):
    words = [f"checkpoint={aligned / 'best.safetensors'}", *SMALL, word, f"stores.bold={tmp_path / 'bold'}", "threads=1"]
    with pytest.raises(ValueError, match="nonsense"):
        evaluate.main([*words, f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "bold").exists() and not (tmp_path / "out" / "config.yaml").exists()


def test_evaluate_keeps_ids_out_of_notes_and_report(aligned, tmp_path):
    table = pd.read_csv(aligned.parent / "participants.tsv", sep="\t", dtype=str)
    split = json.loads((aligned / "split.json").read_text())
    gone = [f"sub-{each}" for each in split["train"][:2]]
    table[~table["participant_id"].isin(gone)].to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    words = [f"checkpoint={aligned / 'best.safetensors'}", f"data.participants={tmp_path / 'participants.tsv'}"]
    words += ["data.unmatched=drop", *SMALL, "attribution.draws=0", "attribution.people=0", "threads=1"]
    out = evaluate.main([*words, f"out={tmp_path / 'out'}"])
    notes = json.loads((out / "notes.json").read_text())["notes"]
    assert any("2 of 30" in note for note in notes)
    for name in ("notes.json", "report.html"):
        text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (out / name).read_text())
        people = [person for part in ("train", "validation", "test") for person in split[part]]
        assert not [person for person in people if re.search(rf"(?<![0-9A-Za-z.]){person}(?![0-9A-Za-z])", text)]


def test_evaluate_refuses_genomes_embedded_by_another_encoder(aligned, tmp_path):
    words = [f"checkpoint={aligned / 'best.safetensors'}", "dna.seed=1", f"stores.dna={tmp_path / 'dna'}", *SMALL, "threads=1"]
    with pytest.raises(ValueError, match="fingerprint"):
        evaluate.main([*words, f"out={tmp_path / 'out'}"])


def test_evaluate_refuses_a_grid_that_the_checkpoint_was_not_trained_on(aligned, tmp_path):
    state, path = load_file(aligned / "best.safetensors"), tmp_path / "best.safetensors"
    recorded = read_description(aligned / "best.safetensors") | {"volume_shape": [8, 8, 8]}

    class Weights(torch.nn.Module):
        def state_dict(self):
            return state

    save_weights(path, Weights(), recorded)
    shutil.copy(aligned / "config.yaml", tmp_path / "config.yaml")
    with pytest.raises(ValueError, match=r"Scans of \(8, 8, 8\) voxels"):
        evaluate.main([f"checkpoint={path}", *SMALL, "threads=1", f"out={tmp_path / 'out'}"])

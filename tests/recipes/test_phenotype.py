"""The phenotype job on files: products, folds, resume, fusion, checkpoints, honest failure, two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import r2_score, roc_auc_score

from brainmt_align.config import PhenotypeConfig, load_config
from brainmt_align.data.simulate import CohortParameters, write_cohort
from brainmt_align.training import checkpoints
from encoders import BrainMT, BrainMTConfig
from recipes import contrastive, evaluate, phenotype

ROOT = Path(__file__).parents[2]
MODEL, LINEAR, MEAN = "BrainMT", "connectivity + linear", "mean of the training people"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """48 people in families of two with phenotypes, (D, H, W) = (16, 16, 16), 12 frames, two regions of 512 bases."""
    sizes = {
        "regions": 2,
        "region_bases": 512,
        "traits": 2,
        "causal_variants": 2,
        "volume_shape": (16, 16, 16),
        "frames": 12,
        "seed": 3,
    }
    known = {"phenotypes": True, "age": True, "sex": True, "family_size": 2, "sites": 4}
    return write_cohort(
        tmp_path_factory.mktemp("phenotypes") / "cohort", CohortParameters(people=48, **sizes, **known), progress=False
    )


@pytest.fixture(scope="module")
def words(cohort, tmp_path_factory):
    """Command-line words of a run of a few steps."""
    stores = tmp_path_factory.mktemp("stores")
    return [
        f"data.root={cohort}", "data.truth=truth.json", f"stores.bold={stores / 'bold'}", f"stores.dna={stores / 'dna'}",
        "threads=1",
        "phenotype.targets.cognition=regression", "phenotype.targets.diagnosis=binary", "phenotype.residualise=[age,sex]",
        "split.groups=family_id",
        "split.strata=[diagnosis]", "fmri.embed_dim=8", "fmri.stem_channels=[2,2]", "fmri.d_state=2", "train.epochs=3",
        "train.batch_size=8", "train.window=4", "evaluation.regions=8", "evaluation.resamples=200",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory, words):
    """One run of the recipe from files to figures."""
    return phenotype.main([*words, f"out={tmp_path_factory.mktemp('runs') / 'finished'}"])


def only_cognition(words: list[str]) -> list[str]:
    """The words of a run of one target; a dealing by diagnosis is none of its business."""
    return [word for word in words if not word.startswith(("phenotype.targets.diagnosis", "split.strata"))]


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())["phenotype"]


def test_phenotype_leaves_every_product(finished):
    names = {file.name for file in finished.iterdir()}
    plots = {
        "predicted_cognition.png",
        "residuals_cognition.png",
        "roc_diagnosis.png",
        "calibration_diagnosis.png",
        "confusion_diagnosis.png",
    }
    files = {
        "config.yaml",
        "folds.json",
        "metrics.json",
        "notes.json",
        "people.tsv",
        "runs.tsv",
        "predictions_cognition.csv",
        "predictions_diagnosis.csv",
        "provenance.json",
        "report.html",
    }
    assert names == files | plots | {"fmri_seed0_fold0"}
    fit = {file.name for file in (finished / "fmri_seed0_fold0").iterdir()}
    assert fit == {
        "best.safetensors", "epochs.csv", "last.safetensors", "last.state.pt", "split.json", "steps.csv", "training_curve.png",
    }  # fmt: skip
    assert all((finished / name).read_bytes().startswith(b"\x89PNG") for name in plots)


def test_phenotype_figures_follow_from_its_predictions(finished, cohort):
    figures, split = metrics_of(finished), json.loads((finished / "fmri_seed0_fold0" / "split.json").read_text())
    scores, cases = (
        pd.read_csv(finished / f"predictions_{name}.csv", dtype={"subject_id": str}) for name in ("cognition", "diagnosis")
    )
    assert sorted(scores["subject_id"]) == sorted(cases["subject_id"]) == split["test"]
    assert figures["cognition"]["r2"] == pytest.approx(r2_score(scores["observed"], scores[MODEL]), abs=1e-6)
    area = roc_auc_score(cases["observed"] == "control", cases[f"{MODEL}: p(control)"])
    assert figures["diagnosis"]["auroc"] == pytest.approx(area, abs=1e-6)
    table = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype={"participant_id": str})
    raw = table.set_index(table["participant_id"].str.removeprefix("sub-"))["cognition"]
    np.testing.assert_allclose(scores["value"], raw[scores["subject_id"]])
    everywhere = {MODEL, LINEAR, "covariates only", MEAN, "connectivity, permuted labels", "planted (oracle)"}
    # Freed of the covariates, or told by them as well: then a rival that sees them and the scan.
    for target, more in (("cognition", set()), ("diagnosis", {"connectivity + covariates"})):
        entry = figures[target]["comparison"]
        assert set(entry["figures"]) == everywhere | more
        assert set(entry["differences"]) == set(entry["figures"]) - {MODEL}
    assert figures["diagnosis"]["comparison"]["positive_class"] == "control"


def test_phenotype_keeps_families_together_in_every_part(finished, cohort):
    table = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype=str)
    family = dict(zip(table["participant_id"].str.removeprefix("sub-"), table["family_id"], strict=True))
    split = json.loads((finished / "fmri_seed0_fold0" / "split.json").read_text())
    parts = [{family[subject] for subject in split[part]} for part in ("train", "validation", "test")]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_phenotype_writes_no_subject_into_what_may_be_shared(finished):
    shared = ("metrics.json", "provenance.json", "fmri_seed0_fold0/epochs.csv", "fmri_seed0_fold0/steps.csv", "folds.json")
    text = "".join((finished / name).read_text() for name in shared)
    assert "sub-" not in text and '"0001"' not in text


def test_phenotype_is_deterministic_and_goes_on_where_it_was_interrupted(finished, words, tmp_path, monkeypatch):
    out, original = tmp_path / "interrupted", checkpoints.save_progress

    def interrupted(folder, parts, history, description, criterion):
        original(folder, parts, history, description, criterion)
        if len(history.epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        phenotype.main([*words, f"out={out}"])
    monkeypatch.setattr(checkpoints, "save_progress", original)
    phenotype.main([*words, f"out={out}"])
    straight, resumed = (load_file(run / "fmri_seed0_fold0" / "last.safetensors") for run in (finished, out))
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    assert metrics_of(out) == metrics_of(finished)


def test_phenotype_tests_everyone_once_a_seed_in_k_folds(words, tmp_path):
    folds = ["split.folds=2", "split.repeats=2", "train.epochs=1", "evaluation.baselines=[mean]"]
    out = phenotype.main([*words, *folds, f"out={tmp_path / 'run'}"])
    table = pd.read_csv(out / "predictions_cognition.csv", dtype={"subject_id": str})
    assert sorted(table["fold"].unique()) == ["seed0_fold0", "seed0_fold1", "seed1_fold0", "seed1_fold1"]
    assert (table.assign(seed=table["fold"].str[:5]).groupby("seed")["subject_id"].nunique() == 48).all() and len(table) == 96
    frozen = json.loads((out / "folds.json").read_text())
    assert len(set(frozen.values())) == 4
    assert metrics_of(out)["cognition"]["comparison"]["folds"] == 4


def test_phenotype_predicts_unseen_sites(words, tmp_path, cohort):
    sites = [
        "split.sites=site",
        "split.folds=2",
        "split.parts=[1,1,1]",
        "split.groups=null",
        "train.epochs=1",
        "evaluation.baselines=[mean]",
    ]
    with pytest.raises(ValueError, match=r"(?s)groups in two parts.*split.torn_families=true"):
        phenotype.main([*only_cognition(words), *sites, f"out={tmp_path / 'off'}"])
    out = phenotype.main([*only_cognition(words), *sites, "split.torn_families=true", f"out={tmp_path / 'run'}"])
    table = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype=str)
    site = dict(zip(table["participant_id"].str.removeprefix("sub-"), table["site"], strict=True))
    split = json.loads((out / "fmri_seed0_fold0" / "split.json").read_text())
    assert not {site[each] for each in split["test"]} & {site[each] for each in split["train"]}


def test_phenotype_accumulates_batches_into_the_step_of_the_whole_batch(words, tmp_path):
    same = ["phenotype.readout=published", "train.epochs=2", "phenotype.adapt=full", "evaluation.baselines=[mean]"]
    whole = phenotype.main([*words, *same, "train.batch_size=8", f"out={tmp_path / 'whole'}"])
    parts = phenotype.main([*words, *same, "train.batch_size=4", "train.accumulate=2", f"out={tmp_path / 'parts'}"])
    first, second = (pd.read_csv(run / "fmri_seed0_fold0" / "steps.csv") for run in (whole, parts))
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=1e-3)
    np.testing.assert_allclose(second["loss"][:3], first["loss"][:3], rtol=1e-5)
    assert second["learning_rate"].tolist() == first["learning_rate"].tolist()


def test_phenotype_stops_early_when_validation_no_longer_improves(words, tmp_path):
    patient = ["train.epochs=40", "train.patience=1", "train.learning_rate=0.05", "evaluation.baselines=[mean]"]
    out = phenotype.main([*words, *patient, f"out={tmp_path / 'run'}"])
    assert len(pd.read_csv(out / "fmri_seed0_fold0" / "epochs.csv")) < 40


def test_phenotype_compares_the_fusion_with_each_input_alone(words, tmp_path):
    both = ["phenotype.inputs=both", "train.epochs=1", "evaluation.baselines=[mean]"]
    out = phenotype.main([*words, *both, f"out={tmp_path / 'run'}"])
    entry = metrics_of(out)["diagnosis"]["comparison"]
    assert entry["reference"] == "BrainMT + DNA"
    assert {"BrainMT", "DNA"} <= set(entry["differences"])
    assert {folder.name for folder in out.iterdir() if folder.is_dir()} == {
        "both_seed0_fold0",
        "fmri_seed0_fold0",
        "dna_seed0_fold0",
    }
    predicted = evaluate.main(
        [
            *words[:5],
            f"checkpoint={out / 'both_seed0_fold0' / 'best.safetensors'}",
            "evaluation.resamples=100",
            f"out={tmp_path / 'eval'}",
        ]
    )
    assert np.isfinite(pd.read_csv(predicted / "predictions.csv")["cognition"]).all()


@pytest.mark.parametrize("adapt", ["probe", "lora", "full"])
def test_phenotype_starts_from_an_alignment(words, tmp_path, adapt):
    aligned = align(words, tmp_path)
    start = [f"checkpoint={aligned / 'best.safetensors'}", f"split.file={aligned / 'split.json'}", "split.strata=[]"]
    tuned = [f"phenotype.adapt={adapt}", "train.epochs=1", "evaluation.baselines=[mean]", "phenotype.lora_rank=2"]
    out = phenotype.main([*words, *start, *tuned, f"out={tmp_path / 'run'}"])
    before, after = load_file(aligned / "best.safetensors"), load_file(out / "fmri_seed0_fold0" / "best.safetensors")
    shared = [name for name in before if name in after and name.startswith("fmri.") and before[name].is_floating_point()]
    moved = [name for name in shared if not torch.equal(before[name], after[name])]
    assert shared and (moved == [] if adapt == "probe" else moved != [])
    if adapt == "lora":
        assert not [name for name in moved if name.startswith("fmri.encoder")] and any("lora" in name for name in after)


def align(words: list[str], tmp_path: Path) -> Path:
    """An alignment of a step or two on the same stores."""
    kept = [word for word in words if not word.startswith(("phenotype.", "evaluation.", "split.strata"))]
    return contrastive.main([*kept, "train.epochs=1", "evaluation.permutations=50", f"out={tmp_path / 'aligned'}"])


def test_phenotype_starts_from_official_weights_with_their_head(words, tmp_path):
    config = BrainMTConfig(volume_shape=(16, 16, 16), num_frames=6, embed_dim=8, depth=(1, 1), stem_channels=(2, 2), d_state=2)
    official = BrainMT(config).to_official()
    torch.save({"model_state_dict": {f"module.{key}": value for key, value in official.items()}}, tmp_path / "official.pt")
    weights = [f"fmri.checkpoint={tmp_path / 'official.pt'}", "data.orientation=LAS"]
    start = [*weights, "phenotype.readout=published", "phenotype.official_head=true"]
    still = ["train.epochs=1", "train.learning_rate=1e-12", "evaluation.baselines=[mean]"]
    out = phenotype.main([*only_cognition(words), *start, *still, f"out={tmp_path / 'run'}"])
    trained = load_file(out / "fmri_seed0_fold0" / "best.safetensors")
    for key, value in official.items():
        name = f"head.{key.removeprefix('head.')}" if key.startswith("head.") else f"fmri.encoder.{key}"
        matching = [each for each in trained if each == name or each.endswith(name)]
        torch.testing.assert_close(trained[matching[0]], value, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("own_precision")
def test_phenotype_published_configuration_runs_at_reduced_size(words, tmp_path):
    small = [word for word in words if not word.startswith("train.batch_size")]
    shrunk = ["fmri.depth=[1,1]", "train.epochs=3", "train.batch_size=2", "train.accumulate=2"]
    published = f"config={ROOT / 'recipes' / 'configs' / 'phenotype_published.yaml'}"
    out = phenotype.main([published, *small, *shrunk, "evaluation.baselines=[mean]", f"out={tmp_path / 'run'}"])
    steps = pd.read_csv(out / "fmri_seed0_fold0" / "steps.csv")
    assert np.isfinite(steps["loss"]).all()
    rises = np.flatnonzero(np.diff(np.sign(np.diff(steps["learning_rate"]))) > 0)
    assert len(rises) == 2  # three cycles of the learning rate, each an epoch here


def test_evaluate_predicts_new_scans_with_and_without_their_values(finished, words, cohort, tmp_path):
    data, checkpoint = words[:5], f"checkpoint={finished / 'fmri_seed0_fold0' / 'best.safetensors'}"
    out = evaluate.main([*data, checkpoint, "evaluation.resamples=100", "groups=family_id", f"out={tmp_path / 'with'}"])
    rows = pd.read_csv(out / "predictions.csv", dtype={"subject_id": str}).set_index("subject_id")
    assert len(rows) == 48
    tested = pd.read_csv(finished / "predictions_cognition.csv", dtype={"subject_id": str}).set_index("subject_id")
    np.testing.assert_allclose(rows.loc[tested.index, "cognition"], tested[MODEL], rtol=1e-4)
    assert not rows.loc[tested.index, "seen_in_training"].any() and rows["seen_in_training"].sum() == 48 - len(tested)
    figures = metrics_of(out)
    assert figures["cognition"]["r2"] == pytest.approx(metrics_of(finished)["cognition"]["r2"], abs=1e-4)

    alone = evaluate.main([*data, checkpoint, "data.participants=null", "data.truth=null", f"out={tmp_path / 'without'}"])
    bare = pd.read_csv(alone / "predictions.csv", dtype={"subject_id": str}).set_index("subject_id")
    np.testing.assert_allclose(bare["cognition"], rows["cognition"], rtol=1e-6)
    assert metrics_of(alone) == {}
    assert list(bare) == ["seen_in_training", "cognition", "diagnosis: p(case)", "diagnosis: p(control)"]


def changed_table(cohort: Path, tmp_path: Path, **columns) -> str:
    """The word that names a participants table with these columns in place of its own."""
    table = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype={"participant_id": str}).assign(**columns)
    table.to_csv(tmp_path / "changed.tsv", sep="\t", index=False, na_rep="n/a")
    return f"data.participants={tmp_path / 'changed.tsv'}"


def test_evaluate_predicts_whatever_the_table_lacks_and_says_why_it_scores_nobody(finished, words, cohort, tmp_path, capsys):
    checkpoint = f"checkpoint={finished / 'fmri_seed0_fold0' / 'best.safetensors'}"
    table = changed_table(cohort, tmp_path, age=np.nan, diagnosis="healthy")
    out = evaluate.main([*words[:5], table, checkpoint, "evaluation.resamples=100", f"out={tmp_path / 'out'}"])
    assert np.isfinite(pd.read_csv(out / "predictions.csv")["cognition"]).all() and metrics_of(out) == {}
    said = capsys.readouterr().out
    assert "cognition is predicted, but not scored" in said and "diagnosis is predicted, but not scored" in said


def test_evaluate_does_not_score_relatives_of_training_people(finished, words, cohort, tmp_path):
    split = json.loads((finished / "fmri_seed0_fold0" / "split.json").read_text())
    table = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype={"participant_id": str})
    ids = table["participant_id"].str.removeprefix("sub-")
    twin = split["test"][0]
    family = table["family_id"].where(ids != twin, table.loc[ids == split["train"][0], "family_id"].iloc[0])
    words = [*words[:5], changed_table(cohort, tmp_path, family_id=family), "groups=family_id", "evaluation.resamples=100"]
    checkpoint = f"checkpoint={finished / 'fmri_seed0_fold0' / 'best.safetensors'}"
    out = evaluate.main([*words, checkpoint, f"out={tmp_path / 'out'}"])
    rows = pd.read_csv(out / "predictions.csv", dtype={"subject_id": str}).set_index("subject_id")
    assert rows.loc[twin, "seen_in_training"] and not rows.loc[split["test"][2:], "seen_in_training"].any()


def test_phenotype_goes_on_only_with_the_folds_it_began_with(words, cohort, tmp_path, monkeypatch):
    out, original = tmp_path / "run", checkpoints.save_progress

    def interrupted(*arguments):
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_progress", interrupted)
    words = [*words, changed_table(cohort, tmp_path), "evaluation.baselines=[mean]", f"out={out}"]
    with pytest.raises(KeyboardInterrupt):
        phenotype.main(words)
    before = (out / "folds.json").read_text(), (out / "fmri_seed0_fold0" / "split.json").read_text()
    changed_table(cohort, tmp_path, family_id=[f"G{row // 4}" for row in range(48)])
    with pytest.raises(ValueError, match="the people and folds that it began with, got others in seed0_fold0"):
        phenotype.main(words)
    assert before == ((out / "folds.json").read_text(), (out / "fmri_seed0_fold0" / "split.json").read_text())


def test_phenotype_trains_every_task_at_once_with_missing_values_and_class_weights(words, cohort, tmp_path):
    rng = np.random.default_rng(0)
    score = pd.Series(rng.standard_normal(48)).where(rng.random(48) > 0.3)
    grade = pd.Series(np.resize(["low", "mid", "high"], 48)).where(rng.random(48) > 0.2)
    table = changed_table(
        cohort, tmp_path, score=score, grade=grade, colour=np.resize(["red", "green", "blue"], 48), site=np.resize([11, 12], 48)
    )
    targets = ["phenotype.targets.score=regression", "phenotype.targets.grade=ordinal", "phenotype.targets.colour=multiclass"]
    more = [
        "phenotype.classes.grade=[low,mid,high]",
        "phenotype.balanced=true",
        "phenotype.regression_loss=huber",
        "train.epochs=1",
    ]
    covariates = ["evaluation.covariates=[age,sex,site]", "phenotype.categories=[site]", "phenotype.residualise=[]"]
    out = phenotype.main([*words, table, *targets, *more, *covariates, f"out={tmp_path / 'run'}"])
    figures = metrics_of(out)
    assert set(figures) == {"cognition", "diagnosis", "score", "grade", "colour"}
    assert figures["score"]["comparison"]["n"] < figures["cognition"]["comparison"]["n"]
    assert all("connectivity + covariates" in entry["comparison"]["figures"] for entry in figures.values())
    assert figures["cognition"]["comparison"]["figures"]["covariates only"]["pearson"]["value"] is not None


def test_phenotype_keeps_to_an_alignments_split_with_the_people_who_have_a_value(words, cohort, tmp_path):
    aligned = align(words, tmp_path)
    blank = pd.read_csv(cohort / "participants.tsv", sep="\t")[["cognition", "diagnosis"]]
    table = changed_table(cohort, tmp_path, **{name: blank[name].mask(blank.index % 8 == 0) for name in blank})
    (tmp_path / "rel.dat").write_text("ID1 ID2 HetHet IBS0 Kinship\n0001 0002 0.1 0.01 0.25\n")
    start = [f"checkpoint={aligned / 'best.safetensors'}", f"split.file={aligned / 'split.json'}", "phenotype.adapt=probe"]
    more = [f"data.kinship={tmp_path / 'rel.dat'}", "train.epochs=1", "evaluation.baselines=[mean]", "train.batch_size=4"]
    out = phenotype.main([*words, table, *start, *more, f"out={tmp_path / 'run'}"])
    theirs, ours = (json.loads(path.read_text()) for path in (aligned / "split.json", out / "fmri_seed0_fold0" / "split.json"))
    for part in ("train", "validation", "test"):
        assert set(ours[part]) < set(theirs[part]) or set(ours[part]) == set(theirs[part])
    assert len(ours["train"] + ours["validation"] + ours["test"]) == 42


def test_phenotype_and_evaluate_refuse_what_does_not_fit(finished, words, cohort, tmp_path):
    checkpoint = finished / "fmri_seed0_fold0" / "best.safetensors"
    aligned = align(words, tmp_path)
    off = f"out={tmp_path / 'off'}"
    with pytest.raises(ValueError, match="checkpoint of an alignment was expected, got one of a phenotype model"):
        phenotype.main(
            [*words, f"checkpoint={checkpoint}", f"split.file={checkpoint.parent / 'split.json'}", "split.strata=[]", off]
        )
    with pytest.raises(ValueError, match="test people must be new to the checkpoint"):
        phenotype.main([*words, f"checkpoint={aligned / 'best.safetensors'}", "split.seed=5", off])
    with pytest.raises(ValueError, match="cognition"):
        phenotype.main([*words, "phenotype.targets.cognitoin=regression", off])
    lacking = shutil.copytree(cohort, tmp_path / "lacking")
    shutil.rmtree(lacking / "bold" / "sub-0007")
    with pytest.raises(ValueError, match=r"no scan for 1 of 48 people: 0007"):
        phenotype.main([*words, f"data.root={lacking}", off])
    window = [f"checkpoint={aligned / 'best.safetensors'}", f"split.file={aligned / 'split.json'}", "train.window=5", off]
    with pytest.raises(ValueError, match="windows of at most 4 frames were expected"):
        phenotype.main([*words, *window])
    for word, message in {
        "train.accumulate=99": "train.accumulate must be at most 3",
        "train.cycles=99": "train.cycles must be at most 9",
        "train.batch_size=99": "got 28 training people",
        "split.sites=scanner": "scanner",
        "phenotype.residualise=[cognition]": "cognition as both",
    }.items():
        with pytest.raises(ValueError, match=message):
            phenotype.main([*words, word, off])
    assert not (tmp_path / "off").exists()


def test_phenotype_configuration_refuses_what_contradicts_itself():
    for word, message in {
        "phenotype.readout=published phenotype.inputs=both": "needs the projected readout",
        "phenotype.official_head=true": "needs fmri.checkpoint and the published readout",
        "split.file=a.json split.folds=5": "holds one split",
        "phenotype.targets.a=regresion": "must be one of regression, binary",
        "phenotype.classes.a=low": "must be a list",
        "evaluation.baselines=[fc]": "evaluation.baselines must be one of",
        "checkpoint=a fmri.checkpoint=b data.orientation=LAS": "starts from one checkpoint",
        "checkpoint=a split.folds=3": "it goes with its own split",
        "phenotype.classes.a=[no,yes]": "must hold text; YAML reads yes, no",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_config(PhenotypeConfig, word.split(" "))


def test_two_processes_take_the_steps_of_one_with_the_doubled_batch(words, tmp_path, unused_tcp_port):
    same = ["train.epochs=2", "train.projector_dropout=0", "evaluation.baselines=[mean]", "train.learning_rate=1e-3"]
    one = phenotype.main([*words, *same, "train.batch_size=8", f"out={tmp_path / 'one'}"])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={unused_tcp_port}"]
    command = [*launcher, str(ROOT / "recipes" / "phenotype.py"), *words, *same, "train.batch_size=4", f"out={tmp_path / 'two'}"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    first, second = (pd.read_csv(run / "fmri_seed0_fold0" / "steps.csv") for run in (one, tmp_path / "two"))
    assert second["loss"][0] == pytest.approx(first["loss"][0], abs=1e-6)
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=1e-4)
    for name in ("cognition", "diagnosis"):
        a, b = (pd.read_csv(run / f"predictions_{name}.csv") for run in (one, tmp_path / "two"))
        numbers = a.select_dtypes("number").columns
        np.testing.assert_allclose(b[numbers], a[numbers], rtol=1e-3, atol=1e-3)

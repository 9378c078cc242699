"""The main job on files: products, resume, honest failure, two processes."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest
import torch
from safetensors.torch import load_file

from brainmt_align.evaluation.metrics import recall_at_k
from brainmt_align.evaluation.retrieval import rank_both_ways
from brainmt_align.training import checkpoints
from encoders import BrainMT, BrainMTConfig
from recipes import contrastive

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, words):
    """One run of the recipe from files to figures."""
    return contrastive.main([*words["training"], f"out={tmp_path_factory.mktemp('runs') / 'finished'}"])


def test_contrastive_leaves_every_product(finished):
    names = {file.name for file in finished.iterdir()}
    assert names == {
        "best.safetensors", "config.yaml", "embeddings.parquet", "embeddings.safetensors", "epochs.csv", "genotype_checks.tsv",
        "last.safetensors", "last.state.pt", "metrics.json", "notes.json", "nulls.parquet", "people.tsv", "provenance.json",
        "report.html", "runs.tsv", "split.json", "steps.csv", "training_curve.png",
    }  # fmt: skip
    assert (finished / "training_curve.png").read_bytes().startswith(b"\x89PNG")


def test_contrastive_figures_follow_from_its_embeddings(finished):
    rows, table = load_file(finished / "embeddings.safetensors"), pd.read_parquet(finished / "embeddings.parquet")
    split = json.loads((finished / "split.json").read_text())
    assert sorted(table["subject_id"]) == sorted(split["test"])
    assert rows["fmri"].shape == rows["dna"].shape == (len(split["test"]), 512)
    for each in rows.values():
        torch.testing.assert_close(each.norm(dim=1), torch.ones(len(each)))
    ranks = rank_both_ways(rows["fmri"], rows["dna"])
    figures = json.loads((finished / "metrics.json").read_text())["retrieval"]
    assert figures["fmri_to_dna"]["recall@5"] == pytest.approx(recall_at_k(ranks.fmri_to_dna, 5, ranks.ties_fmri_to_dna))
    assert figures["dna_to_fmri"]["median_rank"] == pytest.approx(np.median(ranks.dna_to_fmri))
    for direction in figures.values():
        assert direction["chance_recall@5"] == pytest.approx(5 / len(table))
        assert direction["recall@10"] is None and direction["chance_recall@10"] is None
        assert 0 < direction["p_value"] <= 1
        assert direction["oracle_recall@1"] >= 0.5


def test_contrastive_records_where_its_figures_come_from(finished, cohort):
    record = json.loads((finished / "provenance.json").read_text())
    assert record["processes"] == 1
    assert len(record["bold_sha256"]) == len(record["split_sha256"]) == 64
    assert set(record["inputs"]) == {"participants", "genotypes", "genotypes.index", "reference", "regions", "truth", "split"}
    assert "random weights" in record["dna"]["caduceus"]["description"]
    assert record["encoder"]["embed_dim"] == 8 and record["volume_shape"] == [16, 16, 16]
    assert f"root: {cohort}" in (finished / "config.yaml").read_text()
    text = "".join((finished / name).read_text() for name in ("metrics.json", "provenance.json", "epochs.csv", "steps.csv"))
    assert "sub-" not in text and '"0001"' not in text


def test_contrastive_is_deterministic_under_a_seed_and_starts_from_the_stores(finished, words, stores, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in stores.rglob("*.safetensors")}
    again = contrastive.main([*words["training"], f"out={tmp_path / 'again'}"])
    first, second = load_file(finished / "best.safetensors"), load_file(again / "best.safetensors")
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert {file: file.stat().st_mtime_ns for file in stores.rglob("*.safetensors")} == before


def test_contrastive_goes_on_where_it_was_interrupted(finished, words, tmp_path, monkeypatch):
    out = tmp_path / "interrupted"
    original = checkpoints.save_progress

    def interrupted(folder, parts, history, description, criterion):
        original(folder, parts, history, description, criterion)
        if len(history.epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        contrastive.main([*words["training"], f"out={out}"])
    monkeypatch.setattr(checkpoints, "save_progress", original)
    assert not (out / "metrics.json").exists()
    contrastive.main([*words["training"], f"out={out}"])
    straight, resumed = load_file(finished / "last.safetensors"), load_file(out / "last.safetensors")
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    assert pd.read_csv(out / "steps.csv").equals(pd.read_csv(finished / "steps.csv"))


def test_contrastive_keeps_an_earlier_run_beside_the_new_one(finished, words, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    contrastive.main([*words["training"], f"out={out}", "seed=1", "train.epochs=1"])
    earlier = [folder for folder in tmp_path.iterdir() if folder.name.startswith("run-")]
    assert len(earlier) == 1
    assert (earlier[0] / "metrics.json").read_text() == (finished / "metrics.json").read_text()


def test_contrastive_starts_from_a_checkpoint_and_refuses_one_of_another_shape_or_input(finished, words, tmp_path):
    checkpoint = f"checkpoint={finished / 'best.safetensors'}"
    tuned = ["train.epochs=1", "fmri.drop_path_rate=0.1", "fmri.activation_checkpointing=true"]
    contrastive.main([*words["training"], f"out={tmp_path / 'on'}", checkpoint, *tuned])
    refused = {
        "fmri.embed_dim=16": r"fmri\.encoder\.cls_token: \(1, 1, 16\) expected, \(1, 1, 8\) found",
        "fmri.pooling=mean": "fmri_pooling",
    }
    for word, message in refused.items():
        with pytest.raises(ValueError, match=message):
            contrastive.main([*words["training"], f"out={tmp_path / 'off'}", checkpoint, word])
    assert not (tmp_path / "off").exists()


def test_contrastive_starts_the_sigmoid_loss_anew_from_a_checkpoint_of_the_clip_loss(finished, words, tmp_path):
    start = [f"checkpoint={finished / 'best.safetensors'}", "alignment.loss=siglip", "train.epochs=1"]
    out = contrastive.main([*words["training"], *start, "train.learning_rate=1e-9", f"out={tmp_path / 'run'}"])
    assert load_file(finished / "best.safetensors")["logit_bias"] == 0
    assert load_file(out / "best.safetensors")["logit_bias"].item() == pytest.approx(-10)


def test_contrastive_refuses_to_score_people_whom_its_checkpoint_has_seen(finished, words, tmp_path, capsys):
    checkpoint = f"checkpoint={finished / 'best.safetensors'}"
    with pytest.raises(ValueError, match="test people must be new to the checkpoint"):
        contrastive.main([*words["training"], f"out={tmp_path / 'off'}", checkpoint, "seed=1"])
    shutil.copy(finished / "best.safetensors", tmp_path / "alone.safetensors")
    contrastive.main(
        [*words["training"], f"out={tmp_path / 'on'}", f"checkpoint={tmp_path / 'alone.safetensors'}", "train.epochs=1"]
    )
    assert "cannot be told" in capsys.readouterr().out


def test_contrastive_starts_from_official_brainmt_weights_on_las_scans(words, tmp_path):
    config = BrainMTConfig(volume_shape=(16, 16, 16), num_frames=6, embed_dim=8, depth=(1, 1), stem_channels=(2, 2), d_state=2)
    official = BrainMT(config).to_official()
    torch.save({"model_state_dict": {f"module.{key}": value for key, value in official.items()}}, tmp_path / "official.pt")
    start = [f"fmri.checkpoint={tmp_path / 'official.pt'}", "data.orientation=LAS", "train.epochs=1", "train.learning_rate=1e-12"]
    out = contrastive.main([*words["training"], *start, f"out={tmp_path / 'run'}"])
    trained = load_file(out / "best.safetensors")
    assert trained["fmri.encoder.temporal_pos_embedding"].shape == (1, 6, 8)
    for key, value in official.items():
        torch.testing.assert_close(trained[f"fmri.encoder.{key}"], value, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="need scans in LAS orientation"):
        contrastive.main([*words["training"], start[0], f"out={tmp_path / 'other'}"])


def test_contrastive_tells_a_tracker_figures_but_nothing_of_the_people_or_their_files(words, cohort, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    command = [sys.executable, str(ROOT / "recipes" / "contrastive.py"), *words["training"]]
    run = tmp_path / "run"
    subprocess.run([*command, "train.epochs=1", "tracker=wandb", f"out={run}"], cwd=tmp_path, env=environment, check=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    written = {file: file.read_bytes() for file in (run / "wandb").rglob("*") if file.is_file()}
    assert any(b"mean_rank" in content for content in written.values())
    for private in (*(f"sub-{number:04d}" for number in range(1, 31)), str(cohort), "genotypes", "truth.json"):
        assert not [file for file, content in written.items() if private.encode() in content], private
    # A machine's name may be two letters, which occur anywhere: a word of its own in text, after its length in W&B's records.
    host = socket.gethostname().encode()
    word, field = re.compile(rb"(?<!\w)" + re.escape(host) + rb"(?!\w)"), bytes([len(host)]) + host
    told = [file for file, content in written.items() if (field in content if file.suffix == ".wandb" else word.search(content))]
    assert told == []


@pytest.mark.usefixtures("own_precision")
def test_contrastive_sees_the_same_with_loader_workers(finished, words, tmp_path):
    out = contrastive.main([*words["training"], "train.workers=2", f"out={tmp_path / 'run'}"])
    assert pd.read_csv(out / "steps.csv").equals(pd.read_csv(finished / "steps.csv"))


@pytest.mark.usefixtures("own_precision")
def test_contrastive_trains_and_scores_in_mixed_precision(finished, words, tmp_path):
    out = contrastive.main([*words["training"], "train.mixed_precision=bf16", f"out={tmp_path / 'run'}"])
    first, whole = (pd.read_csv(folder / "steps.csv")["loss"][0] for folder in (out, finished))
    assert first == pytest.approx(whole, abs=0.05) and first != whole
    rows = load_file(out / "embeddings.safetensors")["fmri"]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))


def test_contrastive_trains_with_every_choice_of_pooling_and_loss(words, tmp_path):
    choices = [
        "fmri.pooling=mean",
        "dna.region_pooling=mean",
        "alignment.loss=siglip",
        "train.epochs=1",
        "data.normalisation=voxel",
    ]
    out = contrastive.main([*words["training"], *choices, f"out={tmp_path / 'run'}"])
    assert np.isfinite(pd.read_csv(out / "steps.csv")["loss"]).all()


def test_contrastive_keeps_to_a_frozen_split(finished, words, tmp_path):
    out = contrastive.main(
        [*words["training"], f"out={tmp_path / 'a'}", f"split.file={finished / 'split.json'}", "train.epochs=1", "seed=1"]
    )
    assert (out / "split.json").read_text() == (finished / "split.json").read_text()
    assert pd.read_csv(out / "steps.csv")["loss"][0] != pd.read_csv(finished / "steps.csv")["loss"][0]


def test_contrastive_deals_people_out_by_a_seed_of_its_own(finished, words, tmp_path):
    out = contrastive.main([*words["training"], f"out={tmp_path / 'a'}", "split.seed=0", "seed=1", "train.epochs=1"])
    assert (out / "split.json").read_text() == (finished / "split.json").read_text()


def test_contrastive_keeps_families_together_and_permutes_within_strata(words, cohort, tmp_path, capsys):
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")[["participant_id"]]
    table = table.assign(family_id=[f"F{i // 3}" for i in range(30)], site=["a", "b"] * 15)
    table.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    columns = [f"data.participants={tmp_path / 'participants.tsv'}", "split.groups=family_id", "evaluation.strata=[site]"]
    with pytest.raises(ValueError, match="one stratum of 10 people or more was expected, got 6 people"):
        contrastive.main([*words["training"], *columns, f"out={tmp_path / 'run'}"])
    columns += ["evaluation.min_stratum=2"]
    out = contrastive.main([*words["training"], *columns, f"out={tmp_path / 'run'}", "train.epochs=1"])
    split = json.loads((out / "split.json").read_text())
    assert "split.groups=null lets relatives" not in capsys.readouterr().out
    families = {part: {(int(person) - 1) // 3 for person in split[part]} for part in ("train", "validation", "test")}
    assert not families["train"] & families["test"] and not families["validation"] & families["test"]
    assert set(pd.read_parquet(out / "embeddings.parquet").columns) == {"subject_id", "sample_id", "family_id", "site"}
    strata = json.loads((out / "metrics.json").read_text())["strata"]
    assert strata["columns"] == ["site"] and sum(strata["people"].values()) + strata["left_out"] == 6
    for column in ("split.groups=clan", "evaluation.strata=[clan]"):
        with pytest.raises(ValueError, match="unknown columns: clan"):
            contrastive.main([*words["training"], f"out={tmp_path / 'other'}", column])
    contrastive.main([*words["training"], columns[0], f"out={tmp_path / 'apart'}", "train.epochs=1"])
    assert "30 of 30 people share a family_id" in capsys.readouterr().out


def test_contrastive_says_whom_it_left_out_and_which_regions_it_dropped(words, cohort, tmp_path, capsys):
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")[["participant_id"]][:-2]
    table.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    bed = (cohort / "regions.bed").read_text()
    contig, start = bed.split()[0], int(bed.split()[1])
    with pysam.VariantFile(cohort / "genotypes.vcf.gz") as file:
        taken = {record.start for record in file.fetch(contig)}
    quiet = next(base for base in range(start, start + 500) if not taken & set(range(base - 6, base + 12)))
    (tmp_path / "regions.bed").write_text(f"{bed}{contig}\t{quiet}\t{quiet + 4}\tQUIET\n")
    files = [
        f"data.participants={tmp_path / 'participants.tsv'}",
        f"data.regions={tmp_path / 'regions.bed'}",
        "data.unmatched=drop",
    ]
    out = contrastive.main([*words["training"], *files, f"out={tmp_path / 'run'}", "train.epochs=1"])
    said = capsys.readouterr().out
    assert "no row in participants for 2 of 30 people: 0029, 0030" in said
    assert "1 of 3 regions do not vary among the training people and are dropped: QUIET" in said
    record = json.loads((out / "metrics.json").read_text())
    assert record["dropped_regions"] == {"caduceus": ["QUIET"]} and sum(record["people"].values()) == 28


def test_contrastive_without_a_data_root_simulates_its_cohort_once(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    cohort = ["people=30", "regions=2", "region_bases=512", "traits=2", "volume_shape=[16,16,16]", "frames=12"]
    small = [
        *(f"simulation.{word}" for word in cohort),
        *(word for word in words["training"] if word.startswith(("train.", "fmri."))),
    ]
    out = contrastive.main([*small, "train.epochs=1", "threads=1"])
    assert out == Path("runs/contrastive") and json.loads((out / "metrics.json").read_text())["simulated"] is True
    (truth,) = Path("runs").glob("simulated_cohort-*/truth.json")
    written = truth.stat().st_mtime_ns
    contrastive.main([*small, "train.epochs=1", "threads=1"])
    assert truth.stat().st_mtime_ns == written and len(list(Path("runs").glob("contrastive*"))) == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.truth=missing.json", r"data\.truth must name a file, got no file"),
        ("split.file=nowhere.json", "nowhere.json"),
        ("train.window=13", r"has 12 frames; at least 13 are needed"),
        ("train.window=1", "window"),
        ("train.batch_size=100", "100 people x 1 processes = 100, got 20 training people"),
        ("checkpoint=nowhere.safetensors", "got no file"),
        ("fmri.checkpoint=nowhere.pt", "nowhere.pt"),
        ("dna.checkpoint=no/where", "no/where"),
        ("split.parts=[28,1,1]", "at least 2 people to validate"),
        ("data.reference=nowhere.fa", "nowhere.fa"),
        ("data.genotypes=nowhere.vcf.gz", "nowhere.vcf.gz"),
    ],
)
def test_contrastive_refuses_what_does_not_fit_before_it_touches_the_run_folder(finished, words, tmp_path, word, message):
    shutil.copytree(finished, tmp_path / "run")
    orientation = ["data.orientation=LAS"] if word.startswith("fmri.checkpoint") else []
    with pytest.raises((ValueError, OSError), match=message):
        contrastive.main([*words["training"], *orientation, f"out={tmp_path / 'run'}", word])
    assert [folder.name for folder in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "metrics.json").read_text() == (finished / "metrics.json").read_text()


def test_contrastive_refuses_a_place_that_holds_something_else(words, tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(FileExistsError, match="got a folder with thesis"):
        contrastive.main([*words["training"], f"out={tmp_path}"])


def test_contrastive_stops_before_training_when_a_table_is_wrong_and_loses_nothing(finished, words, cohort, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    ids = [*table["participant_id"][1:], "sub-9998", "sub-0002"]
    (tmp_path / "participants.tsv").write_text("participant_id\n" + "\n".join(ids) + "\n")
    with pytest.raises(ValueError, match="9998") as caught:
        contrastive.main([*words["training"], f"out={out}", f"data.participants={tmp_path / 'participants.tsv'}"])
    for fault in ("0001", "0002", "9998"):
        assert fault in str(caught.value)
    assert (out / "metrics.json").read_text() == (finished / "metrics.json").read_text()
    assert [folder.name for folder in tmp_path.iterdir() if folder.is_dir()] == ["run"]


def test_contrastive_refuses_a_diverged_loss(words, tmp_path, monkeypatch):
    monkeypatch.setattr(contrastive, "contrastive_loss", lambda config, outputs: outputs.fmri_BE.sum() * float("nan"))
    with pytest.raises(FloatingPointError, match="A finite loss was expected, got nan at step 0"):
        contrastive.main([*words["training"], f"out={tmp_path / 'run'}"])


def test_contrastive_refuses_to_start_with_fewer_processes_than_launched(words, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="promised 2 processes"):
        contrastive.main([*words["training"], f"out={tmp_path / 'run'}"])


def test_two_processes_take_the_first_step_of_one_process_with_the_doubled_batch(words, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    still = ["train.projector_dropout=0", "fmri.drop_path_rate=0", "train.epochs=1"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/configs/accelerate/cpu2.yaml"]
    two = [*words["training"], *still, "train.batch_size=4", f"out={tmp_path / 'two'}"]
    result = subprocess.run(
        [*launch, "recipes/contrastive.py", *two], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    contrastive.main([*words["training"], *still, "train.batch_size=8", f"out={tmp_path / 'one'}"])
    steps = {name: pd.read_csv(tmp_path / name / "steps.csv") for name in ("one", "two")}
    assert json.loads((tmp_path / "two" / "provenance.json").read_text())["processes"] == 2
    assert len(steps["one"]) == len(steps["two"])
    assert steps["two"]["loss"][0] == pytest.approx(steps["one"]["loss"][0], abs=1e-6)
    np.testing.assert_allclose(steps["two"]["loss"], steps["one"]["loss"], atol=1e-4)
    first, second = (pd.read_parquet(tmp_path / name / "embeddings.parquet")["subject_id"].tolist() for name in ("one", "two"))
    assert first == second


def test_contrastive_report_sums_up_the_scans_and_says_what_was_embedded(finished):
    text = (finished / "report.html").read_text()
    assert "Stored scans, all runs together" in text and "num_frames" in text and "voxels" in text
    assert any("sequences" in note for note in json.loads((finished / "notes.json").read_text())["notes"])


def test_contrastive_keeps_people_of_a_kinship_table_together_and_refuses_a_split_that_tears_them(finished, words, tmp_path):
    earlier = json.loads((finished / "split.json").read_text())
    pairs = [(earlier["train"][0], earlier["test"][0]), (earlier["validation"][0], earlier["test"][0])]
    pairs += [(earlier["train"][row], earlier["test"][row]) for row in range(1, 4)]
    table = "ID1 ID2 HetHet IBS0 Kinship\n" + "".join(f"{one} {other} 0.1 0.01 0.25\n" for one, other in pairs)
    (tmp_path / "rel.dat").write_text(table)
    related = [*words["training"], f"data.kinship={tmp_path / 'rel.dat'}", "train.epochs=1"]
    torn = [*related, f"split.file={finished / 'split.json'}"]
    with pytest.raises(ValueError, match=r"(?s)groups in two parts: .*\(train, validation, test\).*split.torn_families=true"):
        contrastive.main([*torn, f"out={tmp_path / 'off'}"])
    out = contrastive.main([*related, f"out={tmp_path / 'run'}"])
    split = json.loads((out / "split.json").read_text())
    part_of = {person: part for part in ("train", "validation", "test") for person in split[part]}
    assert all(part_of[one] == part_of[other] for one, other in pairs) and split["settings"]["kinship"]
    assert "kinship" in json.loads((out / "provenance.json").read_text())["inputs"]
    tested = {person for pair in pairs for person in pair if part_of[person] == "test"}
    assert ("within families" in json.loads((out / "metrics.json").read_text())["tests"]) == bool(tested)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.dat"):
        contrastive.main([*related, "data.kinship=nowhere.dat", f"out={tmp_path / 'off'}"])
    assert not (tmp_path / "off" / "config.yaml").exists()


def test_contrastive_lets_a_split_tear_families_where_it_may_and_blocks_them_in_its_tests(finished, words, tmp_path):
    earlier = json.loads((finished / "split.json").read_text())
    pairs = [(earlier["train"][0], earlier["test"][0]), (earlier["test"][1], earlier["test"][2])]
    (tmp_path / "rel.dat").write_text("ID1 ID2 Kinship\n" + "".join(f"{one} {other} 0.25\n" for one, other in pairs))
    torn = [f"data.kinship={tmp_path / 'rel.dat'}", f"split.file={finished / 'split.json'}", "split.torn_families=true"]
    started = f"checkpoint={finished / 'best.safetensors'}"
    with pytest.raises(ValueError, match=rf"or whose relatives were: {earlier['test'][0]}\."):
        contrastive.main([*words["training"], *torn, started, f"out={tmp_path / 'off'}"])
    out = contrastive.main([*words["training"], *torn, "train.epochs=1", f"out={tmp_path / 'run'}"])
    assert (out / "split.json").read_text() == (finished / "split.json").read_text()
    metrics = json.loads((out / "metrics.json").read_text())
    told = f"1 of {len(earlier['test'])} test people have relatives in training or validation"
    assert "within families" in metrics["tests"] and metrics["people"]["torn"] == 1
    assert metrics["verdict"]["words"].startswith(f"{told}: the result may be theirs; ")
    assert any(note.startswith(told) for note in json.loads((out / "notes.json").read_text())["notes"])
    assert "within families" not in json.loads((finished / "metrics.json").read_text())["tests"]

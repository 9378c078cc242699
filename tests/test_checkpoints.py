"""The run folder: nothing is lost, nothing unfit is loaded, an interrupted run goes on."""

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from brainmt_align.atomic import write_atomically
from brainmt_align.training import checkpoints
from brainmt_align.training.checkpoints import (
    History,
    check_run_folder,
    close_run_folder,
    load_progress,
    load_weights,
    open_run_folder,
    provenance,
    read_description,
    read_weights,
    save_progress,
    save_weights,
    write_json,
)
from brainmt_align.training.optimisation import adamw, one_cycle


def trained(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimiser = adamw(model, 1e-2, 0.1)
    return model, optimiser, one_cycle(optimiser, 10, 0.3)


def step(model, optimiser, schedule, x):
    model(x).square().sum().backward()
    optimiser.step()
    schedule.step()
    optimiser.zero_grad()


def test_open_run_folder_archives_a_finished_run(tmp_path):
    out = tmp_path / "run"
    open_run_folder(out, "a: 1\n")
    (out / "metrics.json").write_text("{}")
    again = open_run_folder(out, "a: 1\n")
    assert not again.resumed
    assert (again.archived / "metrics.json").exists() and str(again.archived) in again.note
    assert sorted(file.name for file in out.iterdir()) == [".lock", "config.yaml"]
    assert not (again.archived / ".lock").exists()
    close_run_folder(out)
    assert [file.name for file in out.iterdir()] == ["config.yaml"]


def test_open_run_folder_continues_only_the_same_configuration(tmp_path):
    out = tmp_path / "run"
    open_run_folder(out, "a: 1\n")
    (out / "last.state.pt").write_text("state")
    (out / "last.state.pt.partial-12").write_text("torn by a kill")
    again = open_run_folder(out, "a: 1\n")
    assert again.resumed and again.note == f"The interrupted run in {out} goes on"
    assert not (out / "last.state.pt.partial-12").exists()
    other = open_run_folder(out, "a: 2\nb: {c: [3]}\n")
    assert not other.resumed
    assert other.note.endswith("but cannot go on with other settings: a was 1, is 2; b.c was None, is [3]")
    assert (other.archived / "last.state.pt").read_text() == "state"


def test_open_run_folder_continues_when_only_keys_that_change_no_result_differ(tmp_path):
    text = "threads: {0}\ntracker: {1}\nout: {2}\nstores: {{bold: {3}, dna: {3}}}\ntrain: {{workers: {0}, epochs: 2}}\n"
    open_run_folder(tmp_path / "run", text.format(1, "null", "run", "a"))
    (tmp_path / "run" / "last.state.pt").write_text("state")
    assert open_run_folder(tmp_path / "run", text.format(2, "wandb", "./run", "b")).resumed
    assert (tmp_path / "run" / "config.yaml").read_text() == text.format(2, "wandb", "./run", "b")


@pytest.mark.parametrize("content", ["thesis/a.txt", "notes.txt"])
def test_open_run_folder_refuses_a_folder_that_is_no_run_and_leaves_it_alone(tmp_path, content):
    (tmp_path / "home" / content).parent.mkdir(parents=True)
    (tmp_path / "home" / content).write_text("mine")
    with pytest.raises(FileExistsError, match=r"that of an earlier run was expected, got a folder with (thesis|notes)"):
        open_run_folder(tmp_path / "home", "a: 1\n")
    assert (tmp_path / "home" / content).read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="got a file"):
        check_run_folder(tmp_path / "file")


def test_check_run_folder_refuses_places_that_a_run_cannot_have_to_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_run_folder(tmp_path / "run", "a: 1\n")
    (tmp_path / "run" / ".ipynb_checkpoints").mkdir()
    check_run_folder(tmp_path / "run", None, tmp_path / "elsewhere.safetensors")
    with pytest.raises(FileExistsError, match=r"got one that holds .*best\.safetensors"):
        check_run_folder(tmp_path / "run", Path("run/best.safetensors"))
    (tmp_path / "file").write_text("mine")
    for place in (Path(), tmp_path / "file" / "x"):
        with pytest.raises(FileExistsError, match="the working folder, or a place under a file"):
            check_run_folder(place)


def test_open_run_folder_refuses_a_run_that_holds_other_folders(tmp_path):
    open_run_folder(tmp_path / "run", "a: 1\n")
    (tmp_path / "run" / "bold").mkdir()
    with pytest.raises(FileExistsError, match="got a folder with bold"):
        open_run_folder(tmp_path / "run", "a: 1\n")


def test_open_run_folder_never_reuses_an_archive_name(tmp_path):
    out = tmp_path / "run"
    archives = set()
    for _ in range(3):
        archives.add(open_run_folder(out, "a: 1\n").archived)
    assert len(archives) == 3


HOLD = """
import sys, time
from pathlib import Path
from brainmt_align.training.run_folder import open_run_folder
out = Path(sys.argv[1])
open_run_folder(out, "a: 1")
(out / "last.state.pt").write_text("state")
print("open", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that works in tmp_path / "run"."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_open_run_folder_refuses_a_folder_in_which_another_process_works_until_that_is_killed(tmp_path, other_process):
    out = tmp_path / "run"
    for refuse in (check_run_folder, lambda place: open_run_folder(place, "a: 1"), lambda place: open_run_folder(place, "a: 2")):
        with pytest.raises(RuntimeError, match=r"got one in which another process works\.\n  file: .*run\n  fix: wait"):
            refuse(out)
    assert [folder.name for folder in tmp_path.iterdir()] == ["run"]
    other_process.kill()
    other_process.wait()
    assert open_run_folder(out, "a: 1").resumed


def test_check_run_folder_refuses_a_place_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    check_run_folder(tmp_path / "new" / "run")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(PermissionError, match=r"refuses: Read-only file system\.\n  file: .*run\n  fix: set out= to another"):
        check_run_folder(tmp_path / "new" / "run")


def test_write_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


def test_save_weights_returns_weights_and_description(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(tmp_path / "w.safetensors", model, {"orientation": "RAS"})
    load_weights(tmp_path / "w.safetensors", other)
    torch.testing.assert_close(other.weight, model.weight, rtol=0, atol=0)
    assert read_description(tmp_path / "w.safetensors") == {"orientation": "RAS"}


def test_load_weights_lists_every_difference(tmp_path):
    save_weights(tmp_path / "w.safetensors", nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), {})
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2, bias=False), nn.Linear(1, 1))
    with pytest.raises(ValueError, match="got 4 differences") as caught:
        load_weights(tmp_path / "w.safetensors", model)
    for fault in ("0.weight: (2, 4) expected, (2, 3) found", "1.bias: unexpected, (2,) found", "2.bias: missing, (1,) expected"):
        assert fault in str(caught.value)


def test_load_weights_compares_the_description_of_the_data(tmp_path):
    save_weights(tmp_path / "w.safetensors", nn.Linear(3, 2), {"orientation": "LAS", "regions": ["A", "B"], "epoch": 3})
    load_weights(tmp_path / "w.safetensors", nn.Linear(3, 2), {"orientation": "LAS", "regions": ("A", "B")})
    with pytest.raises(
        ValueError, match=r"got 2 differences:\n  - orientation: expected RAS, got LAS\n  - regions: expected \['A'\]"
    ):
        load_weights(tmp_path / "w.safetensors", nn.Linear(3, 2), {"orientation": "RAS", "regions": ["A"]})


def test_read_description_says_what_is_wrong_with_a_file(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="got no file"):
        read_description(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match="cannot be read as one"):
        read_description(tmp_path / "broken.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"official BrainMT weights go under fmri\.checkpoint"):
        read_description(tmp_path / "foreign.safetensors")


def parts_of(state):
    return dict(zip(("model", "optimiser", "schedule"), state, strict=True))


def test_load_progress_continues_exactly_where_save_progress_left(tmp_path):
    x = torch.randn(5, 3)
    straight, interrupted = trained(), trained()
    for _ in range(4):
        step(*straight, x)
    for _ in range(2):
        step(*interrupted, x)
    history = History([{"step": 0, "loss": 1.0}], [{"epoch": 0, "rank": 2.0}])
    save_progress(tmp_path, parts_of(interrupted), history, {"processes": 1}, criterion="rank")
    fresh = trained(seed=9)
    assert load_progress(tmp_path, parts_of(fresh), {"processes": 1}) == history
    for _ in range(2):
        step(*fresh, x)
    torch.testing.assert_close(fresh[0].weight, straight[0].weight, rtol=0, atol=0)
    assert pd.read_csv(tmp_path / "steps.csv")["loss"].tolist() == [1.0]


@pytest.mark.parametrize("killed_at", ["best.safetensors", "last.safetensors", "steps.csv", "epochs.csv", "last.state.pt"])
def test_load_progress_finds_the_last_whole_epoch_wherever_a_save_was_cut(tmp_path, monkeypatch, killed_at):
    state, x = trained(), torch.randn(5, 3)
    step(*state, x)
    save_progress(tmp_path, parts_of(state), History([], [{"epoch": 0, "rank": 2.0}]), {}, criterion="rank")
    whole = state[0].weight.detach().clone()
    step(*state, x)

    def cut(path, write):
        if path.name == killed_at:
            raise KeyboardInterrupt
        return write_atomically(path, write)

    monkeypatch.setattr(checkpoints, "write_atomically", cut)
    with pytest.raises(KeyboardInterrupt):
        epochs = [{"epoch": 0, "rank": 2.0}, {"epoch": 1, "rank": 1.0}]
        save_progress(tmp_path, parts_of(state), History([], epochs), {}, criterion="rank")
    fresh = trained(seed=9)
    assert len(load_progress(tmp_path, parts_of(fresh), {}).epochs) == 1
    torch.testing.assert_close(fresh[0].weight, whole, rtol=0, atol=0)


def test_load_progress_refuses_to_go_on_under_other_facts(tmp_path):
    save_progress(tmp_path, parts_of(trained()), History([], [{"rank": 2.0}]), {"processes": 1, "bold": "a"}, criterion="rank")
    with pytest.raises(ValueError, match="processes: expected 2, got 1"):
        load_progress(tmp_path, parts_of(trained()), {"processes": 2, "bold": "a"})


@pytest.mark.parametrize("name", ["last.state.pt", "best.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "away"])
def test_load_progress_names_a_damaged_or_missing_file_and_the_fix(tmp_path, name, damage):
    save_progress(tmp_path, parts_of(trained()), History([], [{"rank": 2.0}]), {}, criterion="rank")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "noise": b"no state" * 20, "away": b""}[damage])
    if damage == "away":
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"missing or damaged \(.*\n  file: .*{name}\n  fix: .* delete .*last\.state\.pt"):
        load_progress(tmp_path, parts_of(trained()), {})


def test_save_progress_keeps_the_first_of_equally_good_epochs_as_best(tmp_path):
    state = trained()
    epochs = []
    for epoch, rank in enumerate([3.0, 2.0, 2.0, 5.0]):
        epochs.append({"epoch": epoch, "rank": rank})
        save_progress(tmp_path, parts_of(state), History([], epochs), {}, criterion="rank")
    assert read_description(tmp_path / "best.safetensors")["epoch"] == 1
    assert read_description(tmp_path / "last.safetensors")["epoch"] == 3


def test_provenance_hashes_files_and_names_versions(tmp_path):
    (tmp_path / "a.txt").write_text("abc")
    record = provenance({"a": tmp_path / "a.txt", "b": None, "c": tmp_path}, {"seed": 3})
    assert record["inputs"] == {
        "a": {"name": "a.txt", "bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    }
    assert record["versions"]["torch"] == torch.__version__
    assert record["seed"] == 3


def test_provenance_names_no_commit_of_a_repository_that_merely_contains_the_package(tmp_path, monkeypatch):
    own = provenance({}, {})["git_commit"]
    assert own is None or len(own.removesuffix("+changes")) == 40
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "another project"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    installed = tmp_path / "venv" / "checkpoints.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr(checkpoints, "__file__", str(installed))
    assert provenance({}, {})["git_commit"] is None
    subprocess.run([*git, "add", "."], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "tracked"], cwd=tmp_path, check=True)
    assert len(provenance({}, {})["git_commit"]) == 40


def test_open_run_folder_takes_the_folders_of_several_models_for_its_own(tmp_path):
    out = tmp_path / "run"
    open_run_folder(out, "a: 1\n", resumable="folds.json")
    (out / "fmri_seed0_fold3").mkdir()
    (out / "fmri_seed0_fold3" / "best.safetensors.partial-1").touch()
    (out / "folds.json").write_text("{}")
    close_run_folder(out)
    assert open_run_folder(out, "a: 1\n", resumable="folds.json").resumed
    assert list((out / "fmri_seed0_fold3").iterdir()) == []
    close_run_folder(out)


def test_read_weights_gives_tensors_and_description_of_the_wanted_kind(tmp_path):
    model = nn.Linear(3, 2)
    save_weights(tmp_path / "a.safetensors", model, {"orientation": "RAS"})
    save_weights(tmp_path / "p.safetensors", model, {"orientation": "RAS", "targets": {}})
    weights = read_weights(tmp_path / "a.safetensors", {"orientation": "RAS"})
    assert torch.equal(weights.state["weight"], model.weight) and weights.description == {"orientation": "RAS"}
    assert "targets" in read_weights(tmp_path / "p.safetensors", {}, kind="a phenotype model").description
    with pytest.raises(ValueError, match="checkpoint of an alignment was expected, got one of a phenotype model"):
        read_weights(tmp_path / "p.safetensors", {})
    with pytest.raises(ValueError, match="orientation: expected LAS, got RAS"):
        read_weights(tmp_path / "a.safetensors", {"orientation": "LAS"})

"""Published weights on disk: found, read without executing anything, and fitted tensor for tensor."""

import json
import os

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from encoders.published import list_faults, load_weights, read_index, read_tensors, refuse_misfits, state_faults, weights_file


class TiedPair(nn.Module):
    """Two linear maps with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)
        self.second.weight = self.first.weight


class Payload:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {key: tensor.clone() for key, tensor in TiedPair().state_dict().items()}


def write(path, *names):
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).write_bytes(b"")
    return path


def test_weights_file_prefers_safetensors_and_takes_a_file_as_it_is(tmp_path):
    folder = write(tmp_path, "config.json", "pytorch_model.bin")
    assert weights_file(folder) == folder / "pytorch_model.bin"
    write(folder, "model.safetensors", "other.bin")
    assert weights_file(str(folder)) == folder / "model.safetensors"
    assert weights_file(folder / "other.bin") == folder / "other.bin"


@pytest.mark.parametrize("names", [[], ["config.json"], ["model.safetensors"]])
def test_weights_file_says_what_a_folder_lacks(tmp_path, names):
    with pytest.raises(FileNotFoundError, match=f"this one holds {''.join(names) or 'nothing'}") as caught:
        weights_file(write(tmp_path, *names))
    assert "must hold config.json and model.safetensors or pytorch_model.bin" in str(caught.value)


def test_weights_file_asks_the_hub_only_when_no_such_path_exists(tmp_path, monkeypatch):
    asked = []

    def snapshot(repository, allow_patterns):
        asked.append((repository, *allow_patterns))
        return str(write(tmp_path / "snapshot", *[name for name in allow_patterns if name != "model.safetensors"]))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    local = write(tmp_path / "local", "config.json", "model.safetensors")
    assert weights_file(local).parent == local
    assert asked == []
    assert weights_file("owner/model") == tmp_path / "snapshot" / "pytorch_model.bin"
    assert asked == [("owner/model", "config.json", "model.safetensors"), ("owner/model", "config.json", "pytorch_model.bin")]


def test_weights_file_says_how_to_get_a_local_folder_when_the_hub_is_out_of_reach(monkeypatch):
    def offline(repository, allow_patterns):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match="no path 'owner/model' exists") as caught:
        weights_file("owner/model")
    assert "hf download owner/model --local-dir FOLDER" in str(caught.value)
    assert "checkpoint=FOLDER (dna.checkpoint in the recipes)" in str(caught.value)


def test_weights_file_explains_a_path_that_does_not_exist_without_asking_the_network(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is nothing at this path, and it is no hub id\.\n  fix: pass"):
        weights_file(tmp_path / "missing")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
@pytest.mark.parametrize("absent", [(), ("first.weight",), ("second.weight",)])
def test_load_weights_fills_tied_tensors_that_the_file_left_out(tmp_path, tensors, name, absent):
    stored = {key: tensor for key, tensor in tensors.items() if key not in absent}
    (save_file if name.endswith("safetensors") else torch.save)(stored, tmp_path / name)
    model = TiedPair()
    load_weights(model, tmp_path / name)
    assert model.first.weight is model.second.weight
    assert all(tensor.equal(tensors[key]) for key, tensor in model.state_dict().items())


def test_load_weights_lists_every_tensor_that_does_not_fit(tmp_path, tensors):
    tensors["second.weight"] = tensors["first.weight"] + 1
    tensors["first.bias"] = torch.zeros(5)
    tensors["extra"] = tensors.pop("second.bias")
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="tensor for tensor; faults: 4") as caught:
        load_weights(TiedPair(), tmp_path / "weights.safetensors")
    message = str(caught.value)
    assert "second.bias: missing, (2,) expected" in message
    assert "extra: unexpected, (2,) found" in message
    assert "first.bias: (2,) expected, (5,) found" in message
    assert "tied: second.weight differs from first.weight" in message


def test_load_weights_says_how_many_more_do_not_fit(tmp_path):
    save_file({f"extra{i}": torch.zeros(1) for i in range(40)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"faults: 44(.|\n)*and 24 more"):
        load_weights(TiedPair(), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("write_file", [save_file, torch.save])
def test_read_tensors_gives_what_was_written(tmp_path, tensors, write_file):
    path = tmp_path / f"weights{'.safetensors' if write_file is save_file else '.bin'}"
    write_file(tensors, path)
    read = read_tensors(str(path))
    assert read.keys() == tensors.keys()
    assert all(tensor.equal(tensors[key]) for key, tensor in read.items())


@pytest.mark.parametrize("number", [np.float64(3), np.float32(3), np.int64(3), np.bool_(True), 3.0])
def test_read_tensors_reads_a_training_checkpoint_that_holds_numbers_too(tmp_path, tensors, number):
    torch.save({"model": tensors, "loss": number}, tmp_path / "best.pth")
    assert read_tensors(tmp_path / "best.pth", wrapper="model").keys() == tensors.keys()


def test_read_tensors_reads_a_number_that_numpy_1_pickled(tmp_path, tensors):
    path = tmp_path / "best.pth"
    torch.save({"model": tensors, "loss": np.float64(3)}, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    assert b"numpy._core.multiarray" in written
    path.write_bytes(written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_tensors(path, wrapper="model").keys() == tensors.keys()


def test_read_tensors_leaves_the_list_of_trusted_types_as_it_was(tmp_path, tensors):
    before = set(torch.serialization.get_safe_globals())  # torch keeps a set: its order means nothing
    torch.save(tensors, tmp_path / "weights.bin")
    read_tensors(tmp_path / "weights.bin")
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("content", [[torch.ones(1)], {}, {"epoch": 3}, {"model": {"epoch": 3}}])
def test_read_tensors_fails_when_there_is_more_or_less_than_named_tensors(tmp_path, content):
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(
        ValueError, match=r"named tensors were expected by themselves or under 'model'; got a (.|\n)*file: .*weights.bin\n"
    ):
        read_tensors(tmp_path / "weights.bin", wrapper="model")


@pytest.mark.parametrize(("name", "what"), [("missing.bin", "nothing"), ("missing.safetensors", "nothing"), ("", "a folder")])
def test_read_tensors_fails_when_there_is_no_file(tmp_path, name, what):
    with pytest.raises(FileNotFoundError, match=rf"there is {what} at this path\.\n  file: {tmp_path / name}\n  fix:"):
        read_tensors(tmp_path / name)


def test_load_weights_refuses_truncated_files_and_other_contents(tmp_path, tensors):
    save_file(tensors, tmp_path / "whole.safetensors")
    torch.save(tensors, tmp_path / "whole.bin")
    torch.save(tensors, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    for name in ("whole.safetensors", "whole.bin", "legacy.bin"):
        (tmp_path / f"cut_{name}").write_bytes((tmp_path / name).read_bytes()[:-40])
    for name, content in {"empty.bin": b"", "text.bin": b"not weights", "bytes.bin": b"\x80\x02X\xff", "stop.bin": b"."}.items():
        (tmp_path / name).write_bytes(content)
    for path in set(tmp_path.iterdir()) - {tmp_path / name for name in ("whole.safetensors", "whole.bin", "legacy.bin")}:
        with pytest.raises(ValueError, match=rf"torch file of tensors and numbers; this file is not: .+\.\n  file: {path}\n"):
            load_weights(TiedPair(), path)


@pytest.mark.parametrize(("content", "named"), [(Payload(), "posix.system"), (nn.Linear(1, 1), "torch.nn.modules.linear.Linear")])
def test_read_tensors_names_what_needs_code_and_does_not_advise_to_run_it(tmp_path, content, named):
    torch.save({"model": content}, tmp_path / "code.bin")
    with pytest.raises(ValueError, match=rf"this file is not: it needs {named}\.\n") as caught:
        read_tensors(tmp_path / "code.bin")
    assert str(caught.value).count("\n") == 2
    assert not any(word in str(caught.value) for word in ("False", "safe_globals", "\x1b", "http"))


def test_read_tensors_quotes_one_sentence_of_the_reader(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError(
            "Cannot read TorchScript archives. Re-running with `weights_only` set to `False` will succeed.\nDo it."
        )

    (tmp_path / "script.bin").write_bytes(b"")
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(ValueError, match=r"this file is not: RuntimeError: Cannot read TorchScript archives\.\n  file:"):
        read_tensors(tmp_path / "script.bin")


def test_state_faults_lists_missing_unexpected_and_misshapen_tensors():
    expected = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(())}
    assert state_faults(expected, expected) == []
    faults = state_faults({"b": torch.zeros(4), "c": torch.ones(()), "d": torch.zeros(1)}, expected)
    assert faults == ["a: missing, (2,) expected", "d: unexpected, (1,) found", "b: (3,) expected, (4,) found"]


def test_list_faults_counts_all_and_shows_the_first_ones():
    assert list_faults(["one", "two"]) == "faults: 2\n  one\n  two"
    assert list_faults(["x"] * 23).splitlines()[0] == "faults: 23"
    assert list_faults(["x"] * 23).endswith("x\n  … and 3 more")


def write_index(folder, weight_map):
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return path


def test_read_tensors_gathers_the_shards_that_an_index_names(tmp_path, tensors):
    shard_of = {key: f"part-{i % 2}.safetensors" for i, key in enumerate(sorted(tensors))}
    for shard in set(shard_of.values()):
        save_file({key: tensors[key] for key in tensors if shard_of[key] == shard}, tmp_path / shard)
    read = read_tensors(write_index(tmp_path, shard_of))
    assert read.keys() == tensors.keys()
    assert all(tensor.equal(tensors[key]) for key, tensor in read.items())
    load_weights(TiedPair(), write_index(tmp_path, shard_of))
    elsewhere = {**shard_of, "first.bias": shard_of["first.weight"]}
    with pytest.raises(ValueError, match=r"faults: 1\n  first.bias: missing"):
        load_weights(TiedPair(), write_index(tmp_path, elsewhere))


def test_read_tensors_lists_shards_that_are_not_there(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    path = write_index(tmp_path, {"first.weight": "a.safetensors", "x": "c.safetensors", "y": "b.safetensors"})
    with pytest.raises(FileNotFoundError, match=rf"All 3 files .*; 2 do not: b.safetensors, c.safetensors\.\n  file: {path}\n"):
        read_tensors(path)


@pytest.mark.parametrize("weight_map", [None, {}, [], "a.safetensors", {"a": 1}, {"a": "../a.safetensors"}, {"a": "a.bin"}])
def test_read_index_refuses_what_names_no_shards_of_its_folder(tmp_path, weight_map):
    path = write_index(tmp_path, weight_map)
    with pytest.raises(ValueError, match=rf"must be JSON whose weight_map .* is not\.\n  file: {path}\n  fix:"):
        read_index(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_read_index_refuses_what_is_no_index(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match="An index of weights must be JSON"):
        read_index(tmp_path / "model.safetensors.index.json")


def test_refuse_misfits_is_silent_where_all_fits(tmp_path):
    refuse_misfits([], tmp_path)
    with pytest.raises(
        ValueError, match=rf"faults: 1\n  one\n  file: {tmp_path}\n  fix: .*; copy or download a partial file again"
    ):
        refuse_misfits(["one"], tmp_path)

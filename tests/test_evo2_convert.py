"""A converted checkpoint equals its source, loads by itself, and is there whole or not at all."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import encoders.evo2_convert as room
from encoders.evo2 import Evo2Encoder, random_model
from encoders.evo2_checkpoint import find_source
from encoders.evo2_config import PUBLISHED
from encoders.evo2_convert import convert
from encoders.evo2_weights import open_checkpoint
from tests.evo2_files import TINY, read_tiny, write_tiny


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("parts", [1, 2])
def test_convert_keeps_every_tensor_and_the_settings(shared_dir, tmp_path, kind, parts):
    source = write_tiny(shared_dir, tmp_path / "source", kind, parts)
    target = convert(source, tmp_path / "new" / "target", shard_bytes=100_000)
    files, config = find_source(target)
    assert len(files) > 5
    assert {oct(file.stat().st_mode & 0o777) for file in target.iterdir()} == {"0o644"}
    assert config == find_source(source).config
    checkpoint, expected = open_checkpoint(files), read_tiny(shared_dir, kind)
    assert checkpoint.shapes.keys() == open_checkpoint(find_source(source).files).shapes.keys()
    for key in checkpoint.shapes:
        assert checkpoint.read(key).equal(expected[key])
        assert checkpoint.read(key).dtype == expected[key].dtype
    first, second = (Evo2Encoder.load(each, device="cpu") for each in (source, target))
    assert first.fingerprint == second.fingerprint


def test_convert_writes_down_which_model_it_is(tmp_path, monkeypatch):
    small = {"hidden_size": 64, "num_layers": 8, "num_attention_heads": 4, "inner_mlp_size": 176, "attn_layer_idxs": (3, 7)}
    like_262k = replace(PUBLISHED["evo2_7b_262k"], **small, hcs_filter_groups=8, hcm_filter_groups=4)
    monkeypatch.setitem(PUBLISHED, "evo2_7b_262k", like_262k)
    torch.save(random_model(0, "norm", like_262k).state_dict(), tmp_path / "evo2_7b_262k.pt")
    target = convert(tmp_path / "evo2_7b_262k.pt", tmp_path / "anything")
    _, config = find_source(target)
    assert (config.published_name, config.rotary_emb_scaling_factor) == ("evo2_7b_262k", 32)


def test_convert_leaves_nothing_when_it_is_interrupted(shared_dir, tmp_path, monkeypatch):
    source = write_tiny(shared_dir, tmp_path / "source", "base")
    written = []

    def stop_at_the_third(tensors, path, metadata):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        Path(path).write_bytes(b"")

    monkeypatch.setattr(room, "save_file", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "target", shard_bytes=100_000)
    assert written[0].parent.name != "target"
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_convert_refuses_a_target_that_exists(shared_dir, tmp_path):
    source = write_tiny(shared_dir, tmp_path / "source", "base")
    with pytest.raises(FileExistsError, match="writes a new folder; this one exists"):
        convert(source, source)


def test_convert_refuses_a_checkpoint_that_does_not_fit(shared_dir, tmp_path):
    source = write_tiny(shared_dir, tmp_path / "source", "base")
    (source / "tiny.pt").unlink()
    torch.save({"norm.scale": torch.ones(64)}, source / "tiny.pt")
    with pytest.raises(ValueError, match=r"embedding_layer\.weight: missing"):
        convert(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_module_converts_from_the_command_line(shared_dir, tmp_path):
    source = write_tiny(shared_dir, tmp_path / "source", "base")
    command = [sys.executable, "-m", "encoders.evo2_convert"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([*command, source, tmp_path / "target"], env=environment, capture_output=True, text=True, check=True)
    assert f"converted: {tmp_path / 'target'}" in done.stdout
    assert json.loads((tmp_path / "target" / "config.json").read_text())["hidden_size"] == 64
    wrong = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "usage: python -m encoders.evo2_convert SOURCE TARGET [MODEL]" in wrong.stderr

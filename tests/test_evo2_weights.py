"""Evo 2's weights: every form of a file gives the same tensors, and no other file passes."""

import io
import os
from dataclasses import replace

import pytest
import torch

from encoders.evo2_config import PUBLISHED, Evo2Config
from encoders.evo2_network import Evo2
from encoders.evo2_weights import Checkpoint, Parts, cast, fill, open_checkpoint, told_by_shapes
from tests.evo2_files import TINY, read_tiny, write_tiny

CPU = torch.device("cpu")


class Payload:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.fixture
def filled(shared_dir):
    """A network filled from the given files with the fixture's settings."""

    def build(files, layer=None, dtype=torch.float32, kind="base"):
        config = Evo2Config.from_file(shared_dir / "golden" / "evo2" / f"evo2_tiny_{kind}_config.json")
        with torch.device("meta"):
            model = Evo2(config, layer)
        fill(model, open_checkpoint(files), CPU, dtype)
        return model

    return build


@pytest.fixture
def save(shared_dir, tmp_path):
    """Saves the fixture with changed entries (None drops one)."""

    def write(**changed):
        content = {key: value for key, value in {**read_tiny(shared_dir, "base"), **changed}.items() if value is not None}
        torch.save(content, tmp_path / "changed.pt")
        return [tmp_path / "changed.pt"]

    return write


def of_shapes(tmp_path, config):
    """A checkpoint without data that has the shapes of a published model."""
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in Evo2(config).state_dict().items()}
    return Checkpoint(tmp_path, shapes, None, None, [])


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_open_checkpoint_reads_a_file_whole_or_in_parts(shared_dir, tmp_path, kind, parts):
    folder = write_tiny(shared_dir, tmp_path / "files", kind, parts)
    files = sorted(folder.glob("tiny.pt*"))
    before = {file: file.read_bytes() for file in folder.iterdir()}
    checkpoint, expected = open_checkpoint(files), read_tiny(shared_dir, kind)
    for key in checkpoint.shapes:
        assert checkpoint.read(key).equal(expected[key])
        assert checkpoint.read(key).dtype == expected[key].dtype
    extras = {key for key in expected if "_extra_state" in key or "filter.t" in key or key == "unembed.weight"}
    assert checkpoint.shapes.keys() == expected.keys() - extras
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_parts_are_read_one_tensor_at_a_time(tmp_path, monkeypatch):
    tensors = {f"blocks.{i}": torch.full((250_000,), float(i)) for i in range(20)}  # 1 MB each
    torch.save(tensors, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    files = [tmp_path / "x.pt.part0", tmp_path / "x.pt.part1"]
    for file, piece in zip(files, (content[:9_500_001], content[9_500_001:]), strict=True):
        file.write_bytes(piece)
    read, readinto = [], Parts.readinto
    monkeypatch.setattr(Parts, "readinto", lambda self, buffer: read.append(readinto(self, buffer)) or read[-1])
    checkpoint = open_checkpoint(files)
    assert sum(read) < 500_000  # the index alone
    for key, tensor in tensors.items():
        read.clear()
        assert checkpoint.read(key).equal(tensor)
        assert sum(read) == tensor.nbytes


def test_parts_are_one_file(tmp_path):
    for i, piece in enumerate((b"abc", b"", b"defg")):
        (tmp_path / str(i)).write_bytes(piece)
    parts = Parts([tmp_path / str(i) for i in range(3)])
    assert io.BufferedReader(parts).read() == b"abcdefg"
    parts = Parts([tmp_path / str(i) for i in range(3)])
    assert (parts.seek(-5, io.SEEK_END), parts.read(1), parts.seek(1, io.SEEK_CUR), parts.read(9)) == (2, b"c", 4, b"defg"[1:])


def test_open_checkpoint_refuses_a_part_that_was_cut_off(shared_dir, tmp_path):
    folder = write_tiny(shared_dir, tmp_path / "files", "base", 2)
    files = sorted(folder.glob("tiny.pt*"))
    files[1].write_bytes(files[1].read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"must be a safetensors file or a torch file .*\n  file: .*tiny\.pt\.part0"):
        open_checkpoint(files)
    parts = Parts(files)
    placeholder = torch.empty(8, device="meta")
    placeholder.untyped_storage()._checkpoint_offset = parts.seek(0, io.SEEK_END) - 8
    with pytest.raises(ValueError, match=r"end at byte \d+, before its last tensor\.\n  file: .*part1"):
        parts.tensor(placeholder)


def test_open_checkpoint_runs_no_code(save, tmp_path):
    for files in (save(payload=Payload()), [tmp_path / "a.pt.part0", tmp_path / "a.pt.part1"]):
        if len(files) == 2:
            content = (tmp_path / "changed.pt").read_bytes()
            files[0].write_bytes(content[:1000])
            files[1].write_bytes(content[1000:])
        with pytest.raises(ValueError, match=r"this file is not: it needs posix\.system"):
            open_checkpoint(files)


def test_open_checkpoint_refuses_what_is_no_published_content(save, tmp_path):
    with pytest.raises(ValueError, match=r"metadata under known names alone; faults: 1\n  optimiser: a BytesIO"):
        open_checkpoint(save(optimiser=io.BytesIO(b"x")))
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"Named tensors were expected; got list\.\n  file: .*list\.pt"):
        open_checkpoint([tmp_path / "list.pt"])
    (tmp_path / "bad.pt").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="must be a safetensors file or a torch file"):
        open_checkpoint([tmp_path / "bad.pt"])


def test_fill_casts_all_but_poles_residues_and_frequencies(shared_dir, save, filled):
    stored = read_tiny(shared_dir, "base")["blocks.1.projections.weight"]
    files = save(**{"blocks.1.projections.weight": stored.float(), "blocks.0.pre_norm.scale": torch.ones(64)})
    model = filled(files, dtype=torch.bfloat16)
    kinds = {tensor.dtype for key, tensor in model.state_dict().items() if key.endswith(("log_poles", "residues", "inv_freq"))}
    others = {
        tensor.dtype for key, tensor in model.state_dict().items() if not key.endswith(("log_poles", "residues", "inv_freq"))
    }
    assert kinds == {torch.float32}
    assert others == {torch.bfloat16}
    assert model.blocks[1].projections.weight.equal(stored)
    as_bfloat16 = cast(filled(files), torch.bfloat16).state_dict()
    assert all(tensor.equal(as_bfloat16[key]) for key, tensor in model.state_dict().items())


def test_fill_reads_only_what_the_layer_needs(shared_dir, tmp_path, filled, monkeypatch):
    folder = write_tiny(shared_dir, tmp_path / "files", "base", 2)
    read, tensor = [], Parts.tensor
    monkeypatch.setattr(Parts, "tensor", lambda self, placeholder: read.append(placeholder) or tensor(self, placeholder))
    model = filled(sorted(folder.glob("tiny.pt*")), "blocks.1")
    assert len(read) == len(model.state_dict()) < 30


def test_fill_lists_the_first_missing_keys_and_says_what_shapes_differ(save, filled):
    missing = {"blocks.0.filter.h": None, "norm.scale": None}
    with pytest.raises(ValueError, match=r"faults: 2\n  blocks\.0\.filter\.h: missing.*\n  norm\.scale: missing"):
        filled(save(**missing), "blocks.0")
    with pytest.raises(ValueError, match=r"blocks\.9\.mlp\.l1\.weight: unexpected"):
        filled(save(**{"blocks.9.mlp.l1.weight": torch.zeros(2)}))
    with pytest.raises(ValueError, match=r"norm\.scale: \(64,\) expected, \(65,\) found\n.*\n  fix: use the published file"):
        filled(save(**{"norm.scale": torch.ones(65)}))


def test_fill_says_which_published_model_the_shapes_are_of(tmp_path):
    with torch.device("meta"):
        model = Evo2(PUBLISHED["evo2_7b"], "blocks.0")
    checkpoint = of_shapes(tmp_path, PUBLISHED["evo2_7b_base"])
    with pytest.raises(
        ValueError, match=r"must fit evo2_7b tensor(.*\n)*.*of evo2_7b_base and evo2_7b_262k and evo2_7b_microviridae: name"
    ):
        fill(model, checkpoint, CPU, torch.float32)


def test_fill_warns_of_rotary_frequencies_of_another_base(save, filled):
    other = 1e6 ** -(torch.arange(8) / 8)
    with pytest.warns(UserWarning, match=r"blocks\.3\..*\.inv_freq differs from base\^\(-2j/d\) with base 10000"):
        model = filled(save(**{"blocks.3.inner_mha_cls.rotary_emb.inv_freq": other}))
    assert model.blocks[3].inner_mha_cls.rotary_emb.inv_freq.equal(other)


@pytest.mark.filterwarnings("error")
def test_fill_does_not_warn_of_frequencies_that_were_rounded_to_bfloat16(shared_dir, save, filled):
    key = "blocks.3.inner_mha_cls.rotary_emb.inv_freq"
    rounded = read_tiny(shared_dir, "base")[key].bfloat16()
    assert filled(save(**{key: rounded})).blocks[3].inner_mha_cls.rotary_emb.inv_freq.equal(rounded.float())


def test_told_by_shapes_demands_a_name_where_several_models_have_them(tmp_path):
    assert told_by_shapes(of_shapes(tmp_path, PUBLISHED["evo2_7b"])) is PUBLISHED["evo2_7b"]
    with pytest.raises(ValueError, match="fit evo2_7b_base and evo2_7b_262k and evo2_7b_microviridae alike, and neither"):
        told_by_shapes(of_shapes(tmp_path, PUBLISHED["evo2_7b_262k"]))
    with pytest.raises(ValueError, match=r"fit no published model, and neither(.*\n)*.*fix: put a config\.json"):
        told_by_shapes(of_shapes(tmp_path, replace(PUBLISHED["evo2_7b"], num_layers=31)))

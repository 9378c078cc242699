"""The frozen Evo 2: layers, precision, FP8 and long input of the encoder."""

import io
import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

import encoders.evo2 as room
import encoders.evo2_checkpoint as files
from encoders import load_dna_encoder
from encoders.evo2 import Evo2Encoder, random_model
from encoders.evo2_convert import convert
from encoders.evo2_fp8 import FP8Linear
from tests.evo2_files import deviation, random_dna, read_outputs, read_tiny, write_tiny

SCALES = torch.tensor([25.0, 300.0, 1.0])


@pytest.fixture
def folder(shared_dir, tmp_path):
    return write_tiny(shared_dir, tmp_path / "tiny", "interp")


@pytest.fixture
def fp8_folder(shared_dir, tmp_path):
    """The fixture as if it had been trained in FP8: metadata with scales, and settings that say so."""
    folder = write_tiny(shared_dir, tmp_path / "fp8", "base")
    content = read_tiny(shared_dir, "base")
    for key in content:
        if key.endswith(".projections._extra_state"):
            content[key] = io.BytesIO()
            torch.save({"scale_fwd": SCALES, "scale_inv_fwd": 1 / SCALES, "amax_history_fwd": torch.zeros(16, 3)}, content[key])
    torch.save(content, folder / "tiny.pt")
    change_settings(folder, use_fp8_input_projections=True)
    return folder


def rounded_to_e4m3(x, scale):
    return (x.bfloat16() * scale).clamp(-448, 448).to(torch.float8_e4m3fn).double() / scale


def change_settings(folder, **changed):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **changed}))


# ---- layers and vectors


def test_hidden_states_equal_the_published_code(shared_dir, folder):
    expected = read_outputs(shared_dir, "interp", 77)
    rows = [bytes(row.tolist()).decode() for row in expected["input_ids"]]
    row = next(i for i, text in enumerate(rows) if set(text) <= set("ACGTN"))
    for layer in ("embedding_layer", "blocks.2", "blocks.5.mlp.l3", "norm"):
        encoder = Evo2Encoder.load(folder, layer=layer, device="cpu")
        assert deviation(encoder.hidden_states(rows[row]), expected[f"hidden/{layer}"][row]) < 1e-5
        assert f", {layer}, float32" in encoder.description


def test_layer_defaults_to_the_depth_of_the_recommended_one_and_decides_the_fingerprint(folder):
    by_default, by_name = (Evo2Encoder.load(folder, layer=layer, device="cpu") for layer in (None, "blocks.7.mlp.l3"))
    assert by_default.fingerprint == by_name.fingerprint
    others = {Evo2Encoder.load(folder, layer=layer, device="cpu").fingerprint for layer in ("blocks.7", "blocks.7.mlp", "norm")}
    assert len(others | {by_name.fingerprint}) == 4


def test_unknown_layer_is_refused_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(room, "fetch", lambda name: pytest.fail("fetched"))
    for layer in ("blocks.32", ""):
        with pytest.raises(ValueError, match="must be a published module of 4096 channels a base"):
            load_dna_encoder("evo2", "evo2_7b", layer=layer, device="cpu")


def test_fingerprint_changes_with_weights_settings_and_the_revision_of_the_code(shared_dir, folder, tmp_path, monkeypatch):
    other = write_tiny(shared_dir, tmp_path / "other", "interp")
    change_settings(other, rotary_emb_scaling_factor=32)
    encoders = [Evo2Encoder.load(folder, device="cpu"), Evo2Encoder.load(other, device="cpu")]
    encoders += [Evo2Encoder.load(folder, device="cpu", dtype="bfloat16"), load_dna_encoder("evo2", device="cpu")]
    monkeypatch.setattr(room, "FORWARD_REVISION", room.FORWARD_REVISION + 1)
    encoders.append(Evo2Encoder.load(folder, device="cpu"))
    assert len({encoder.fingerprint for encoder in encoders}) == 5


def test_max_bases_is_the_context_of_the_model(folder):
    assert Evo2Encoder.load(folder, device="cpu").max_bases == 2048


def test_long_input_runs_in_chunks_and_gives_the_same(folder, monkeypatch):
    chunked, whole = (Evo2Encoder.load(folder, layer="blocks.4", device="cpu", chunk_bases=n) for n in (37, None))
    lengths = []
    for module in (chunked.model.blocks[4], whole.model.blocks[4]):
        module.register_forward_hook(lambda module, inputs, output: lengths.append(output.shape[1]))
    sequence = random_dna(200)
    assert deviation(chunked.hidden_states(sequence), whole.hidden_states(sequence)) < 1e-5
    assert lengths == [37, 37, 37, 37, 37, 15, 200]
    assert chunked.fingerprint == whole.fingerprint


@pytest.mark.parametrize("chunk_bases", [0, -1, 2.0, True])
def test_chunk_bases_must_be_a_whole_number(chunk_bases):
    with pytest.raises(ValueError, match="chunk_bases must be a whole number of at least 1"):
        Evo2Encoder.load(None, device="cpu", chunk_bases=chunk_bases)


def test_bfloat16_is_close_to_float32_and_keeps_poles_in_float32():
    single, half = (load_dna_encoder("evo2", device="cpu", dtype=dtype) for dtype in (None, "bfloat16"))
    sequence = random_dna(200)
    difference = (single.embed([sequence]) - half.embed([sequence])).norm() / single.embed([sequence]).norm()
    assert 0 < difference < 0.2
    assert half.model.blocks[2].filter.log_poles.dtype == torch.float32
    assert half.model.blocks[2].filter.D.dtype == torch.bfloat16


def test_lora_reaches_every_projection(folder):
    encoder = Evo2Encoder.load(folder, device="cpu", chunk_bases=20)
    before = encoder._tokens([random_dna(50)])
    inject_adapter_in_model(LoraConfig(r=2, target_modules=list(encoder.lora_targets)), encoder.model)
    torch.testing.assert_close(encoder._tokens([random_dna(50)]), before)  # B starts at zero
    trained = {name: weight for name, weight in encoder.model.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * (6 * 5 + 2 * 5)
    for name, weight in trained.items():
        weight.data.add_(0.01 if "lora_B" in name else 0)
    encoder._tokens([random_dna(50)]).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())


# ---- the random network


def test_random_network_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (load_dna_encoder("evo2", device="cpu", seed=seed) for seed in (7, 7, 8))
    assert torch.rand(1) == expected
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert "random weights (seed 7)" in first.description


def test_random_network_sees_a_single_base_among_thousands():
    encoder = load_dna_encoder("evo2", device="cpu")
    sequence = random_dna(2048)
    other = sequence[:700] + ("A" if sequence[700] != "A" else "C") + sequence[701:]
    first, second = encoder.embed([sequence, other])
    assert (first - second).norm() / first.norm() > 1e-3


def test_options_of_a_checkpoint_are_refused_without_one():
    for option in ({"model": "evo2_7b"}, {"fp8": "emulated"}):
        with pytest.raises(ValueError, match="belongs to a checkpoint; got none"):
            Evo2Encoder.load(None, device="cpu", **option)


# ---- FP8


@pytest.mark.parametrize("name", ["evo2_20b", "evo2_40b", "arcinstitute/evo2_40b_base"])
@pytest.mark.parametrize("fp8", [None, "off", "emulated", "transformer_engine"])
def test_models_that_need_hardware_for_fp8_are_refused_with_the_reason(monkeypatch, name, fp8):
    monkeypatch.setattr(room, "fetch", lambda name: pytest.fail("fetched"))
    with pytest.raises(ValueError, match=r"without FP8 hardware and Transformer Engine(.*\n)*.*finetuned for bfloat16"):
        Evo2Encoder.load(name, device="cpu", fp8=fp8)


def test_models_that_need_hardware_for_fp8_run_by_transformer_engine_where_it_is(monkeypatch):
    def fetch(name):
        raise FileNotFoundError(f"{name} is offline")

    monkeypatch.setattr(room, "engine_refusal", lambda device: None)
    monkeypatch.setattr(room, "fetch", fetch)
    with pytest.raises(ValueError, match=r"FP8 hardware and Transformer Engine(.*\n)*.*fp8='off' was asked for"):
        Evo2Encoder.load("evo2_20b", device="cpu", fp8="off")
    with pytest.raises(FileNotFoundError, match="evo2_20b is offline"):
        Evo2Encoder.load("evo2_20b", device="cpu")


def test_transformer_engine_runs_the_projections_of_hyena_blocks_alone(monkeypatch, fp8_folder):
    with pytest.raises(ValueError, match=r"needs Transformer Engine on a GPU with FP8; it is not installed\.\n  fix: choose"):
        Evo2Encoder.load(fp8_folder, device="cpu", fp8="transformer_engine")
    monkeypatch.setattr(room, "engine_refusal", lambda device: None)
    monkeypatch.setitem(room.FP8, "transformer_engine", FP8Linear)  # in the place of the engine, which is not here
    by_engine, emulated = (Evo2Encoder.load(fp8_folder, device="cpu", fp8=fp8) for fp8 in ("transformer_engine", "emulated"))
    assert by_engine.embed(["ACGT" * 8]).equal(emulated.embed(["ACGT" * 8]))
    assert "FP8 transformer engine" in by_engine.description and by_engine.fingerprint != emulated.fingerprint


def test_1b_base_must_be_loaded_by_choice(monkeypatch):
    monkeypatch.setattr(room, "fetch", lambda name: pytest.fail("fetched"))
    with pytest.raises(
        ValueError, match=r'evo2_1b_base was trained with projections in FP8(.*\n)*.*fp8="emulated".*or fp8="off"'
    ):
        Evo2Encoder.load("evo2_1b_base", device="cpu")
    with pytest.raises(ValueError, match="fp8 must be one of off, emulated, transformer_engine; got 'on'"):
        Evo2Encoder.load("evo2_1b_base", device="cpu", fp8="on")


def test_7b_models_run_without_fp8_by_default(monkeypatch):
    asked = []

    def fetch(name):
        asked.append(name)
        raise FileNotFoundError("offline")

    monkeypatch.setattr(room, "fetch", fetch)
    for name in ("evo2_7b", "evo2_7b_base", "evo2_7b_262k", "evo2_7b_microviridae"):
        with pytest.raises(FileNotFoundError, match="offline"):
            Evo2Encoder.load(name, device="cpu")
    assert len(asked) == 4


def test_emulated_fp8_rounds_the_projections_of_hyena_blocks_alone(fp8_folder):
    with pytest.raises(ValueError, match="This Evo 2 was trained with projections in FP8"):
        Evo2Encoder.load(fp8_folder, device="cpu")
    off, emulated = (Evo2Encoder.load(fp8_folder, layer="norm", device="cpu", fp8=fp8) for fp8 in ("off", "emulated"))
    rounded = [name for name, module in emulated.model.named_modules() if isinstance(module, FP8Linear)]
    assert rounded == [f"blocks.{i}.projections" for i in (0, 1, 2, 4, 5, 6)]
    assert off.fingerprint != emulated.fingerprint
    assert "FP8 emulated" in emulated.description

    expected = Evo2Encoder.load(fp8_folder, layer="norm", device="cpu", fp8="off")
    for block in expected.model.blocks:  # a naive oracle: round what goes in and the weight, then multiply
        if not block.attends:
            weight = rounded_to_e4m3(block.projections.weight, SCALES[1])
            block.projections.register_forward_hook(
                lambda module, inputs, output, weight=weight: (rounded_to_e4m3(inputs[0], SCALES[0]) @ weight.T).float()
            )
    sequence = random_dna(60)
    # what lies between two numbers of e4m3 may fall either way, and does so in few places
    found, oracle = emulated.hidden_states(sequence), expected.hidden_states(sequence)
    assert ((found - oracle).norm() / oracle.norm()) < 0.3 * ((off.hidden_states(sequence) - oracle).norm() / oracle.norm())


def test_emulated_fp8_survives_the_conversion(fp8_folder, tmp_path):
    target = convert(fp8_folder, tmp_path / "converted")
    first, second = (Evo2Encoder.load(path, device="cpu", fp8="emulated") for path in (fp8_folder, target))
    assert first.fingerprint == second.fingerprint


def test_emulated_fp8_needs_the_scales_of_the_checkpoint(folder, tmp_path):
    with pytest.raises(ValueError, match=r"must hold scale_fwd.*; got scale\.\n  file: .*tiny\.pt, blocks\.0\.projections"):
        Evo2Encoder.load(folder, device="cpu", fp8="emulated")
    target = convert(folder, tmp_path / "converted")
    with pytest.raises(ValueError, match="FP8 needs the scales of every projection; there are none here"):
        Evo2Encoder.load(target, device="cpu", fp8="emulated")


# ---- which model


def test_a_file_that_nothing_names_must_be_named(folder, tmp_path):
    shutil.copy(folder / "tiny.pt", tmp_path / "unnamed.pt")
    with pytest.raises(ValueError, match="must say which model it is: its shapes fit no published model"):
        Evo2Encoder.load(tmp_path / "unnamed.pt", device="cpu")
    with pytest.raises(ValueError, match="must fit evo2_7b_262k tensor for tensor"):
        Evo2Encoder.load(tmp_path / "unnamed.pt", device="cpu", model="evo2_7b_262k")


def test_the_name_picks_the_rope_scale_where_shapes_are_the_same(shared_dir, tmp_path, monkeypatch):
    folder = write_tiny(shared_dir, tmp_path / "tiny", "interp")
    config = files.find_source(folder).config
    (folder / "config.json").unlink()
    for name, scale in (("evo2_7b_base", 1), ("evo2_7b_262k", 32)):
        published = replace(config, published_name=name, rotary_emb_scaling_factor=scale)
        monkeypatch.setitem(files.PUBLISHED, name, published)
    first, second = (Evo2Encoder.load(folder / "tiny.pt", device="cpu", model=name) for name in ("evo2_7b_base", "evo2_7b_262k"))
    assert first.fingerprint != second.fingerprint
    assert deviation(first.hidden_states(random_dna(80)), second.hidden_states(random_dna(80))) > 0.01
    with pytest.raises(ValueError, match="fit evo2_7b_base and evo2_7b_262k alike"):
        Evo2Encoder.load(folder / "tiny.pt", device="cpu")


def test_random_model_draws_every_weight():
    drawn = {name: weight for name, weight in random_model(0).named_parameters() if "norm" not in name}
    assert all(weight.isfinite().all() and weight.std() > 0 for weight in drawn.values())

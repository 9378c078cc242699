"""Caduceus against the published code's numbers, and its published files on disk."""

import json
import random

import pytest
import torch
from safetensors.torch import save_file

import encoders.caduceus as room
from encoders import load_dna_encoder
from encoders.caduceus import (
    RANDOM_CONFIG,
    VOCABULARY,
    BiMamba,
    Caduceus,
    base_ids,
    encode,
    join_strands,
    load_published,
)
from encoders.caduceus_config import CaduceusConfig
from encoders.dna_sequences import reverse_complement

CASES = ["ph_fused", "ph_unfused", "ps_fused", "ps_unfused"]
ATOL = 1e-4
GRAD_TOLERANCE = 5e-5  # of a gradient's largest entry


@pytest.fixture(params=CASES)
def case(request, golden):
    return golden(f"caduceus/caduceus_{request.param}")


@pytest.fixture
def write_folder(tmp_path):
    """Writes a fixture as a published folder: config.json and its weights under the given file name; returns the folder."""

    def write(case, weights="model.safetensors", drop=(), **changed):
        tensors = {key[2:]: tensor.clone() for key, tensor in case.tensors.items() if key.startswith("w.")}
        tensors = {key: tensor for key, tensor in {**tensors, **changed}.items() if key not in drop}
        (tmp_path / "config.json").write_text(json.dumps(case.meta["constructor"], sort_keys=True))
        if weights.endswith(".safetensors"):
            save_file(tensors, tmp_path / weights)
        else:
            torch.save(tensors, tmp_path / weights)
        return tmp_path

    return write


@pytest.fixture
def model(case, write_folder):
    return load_published(write_folder(case) / "model.safetensors")


def random_dna(length, seed=0):
    return "".join(random.Random(seed).choices("ACGT", k=length))


def test_forward_equals_the_published_code(case, model):
    output = model(case.tensors["x"])
    assert len(output.hidden_states) == case.meta["n_hidden_states"]
    torch.testing.assert_close(output.last_hidden_state, case.tensors["last_hidden_state"], atol=ATOL, rtol=0)
    torch.testing.assert_close(output.logits, case.tensors["logits"], atol=ATOL, rtol=0)
    for i, state in enumerate(output.hidden_states):
        torch.testing.assert_close(state, case.tensors[f"hidden_states.{i}"], atol=ATOL, rtol=0)


def test_forward_equals_the_published_code_on_the_reverse_complement(case, model):
    output = model(case.tensors["x_rc"])
    torch.testing.assert_close(output.last_hidden_state, case.tensors["rc.last_hidden_state"], atol=ATOL, rtol=0)
    torch.testing.assert_close(output.logits, case.tensors["rc.logits"], atol=ATOL, rtol=0)


def test_every_block_equals_the_published_code(case, model):
    outputs = []
    for layer in model.backbone.layers:
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    model(case.tensors["x"])
    for i, block in enumerate(outputs):
        for name, tensor in zip(("hidden", "residual"), block, strict=True):
            tensor = join_strands(tensor) if model.config.rcps else tensor
            torch.testing.assert_close(tensor, case.tensors[f"layer{i}.{name}"], atol=ATOL, rtol=0)


def test_gradients_equal_the_published_code(case, model):
    (model(case.tensors["x"]).logits * case.tensors["g"]).sum().backward()
    gradients = {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    expected = {key: tensor for key, tensor in case.tensors.items() if key.startswith("grad.")}
    assert gradients.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(gradients[key], tensor, atol=GRAD_TOLERANCE * tensor.abs().max().item(), rtol=0)


def test_state_dict_has_the_published_keys_and_shapes(case, model):
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == case.meta["state_dict"]


def test_tied_parameters_are_those_of_the_published_code(case, model):
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for first, second in case.meta["tied_state_dict_keys"]:
        assert parameters[first] is parameters[second]
    assert len({id(parameter) for parameter in parameters.values()}) == len(parameters) - len(case.meta["tied_state_dict_keys"])


def test_ps_is_equivariant_to_the_reverse_complement(golden, write_folder):
    for name in ("ps_fused", "ps_unfused"):
        case = golden(f"caduceus/caduceus_{name}")
        model = load_published(write_folder(case) / "model.safetensors")
        forward, reverse = (model(case.tensors[x]).last_hidden_state for x in ("x", "x_rc"))
        torch.testing.assert_close(reverse, forward.flip(1, 2), atol=1e-5, rtol=0)


def test_bimamba_multiplies_the_directions_when_told_to():
    torch.manual_seed(0)
    mixer = BiMamba(CaduceusConfig(d_model=8, n_layer=1, d_state=2, bidirectional_strategy="ew_multiply"))
    x = torch.randn(2, 9, 8)
    expected = mixer.mamba_fwd(x) * mixer.mamba_rev(x.flip(1)).flip(1)
    torch.testing.assert_close(mixer(x), expected)


def test_bimamba_ties_projections_only_when_told_to():
    for tie in (True, False):
        mixer = BiMamba(CaduceusConfig(d_model=8, n_layer=1, bidirectional_weight_tie=tie))
        assert (mixer.mamba_fwd.in_proj.weight is mixer.mamba_rev.in_proj.weight) == tie
        assert (mixer.mamba_fwd.out_proj.weight is mixer.mamba_rev.out_proj.weight) == tie


def test_block_keeps_the_residual_in_float32_only_when_told_to():
    ids = torch.tensor([[7, 8, 9, 10]])
    for in_fp32, expected in ((True, torch.float32), (False, torch.bfloat16)):
        model = Caduceus(CaduceusConfig(d_model=8, n_layer=2, d_state=2, residual_in_fp32=in_fp32)).bfloat16()
        residuals = []
        model.backbone.layers[1].register_forward_hook(lambda m, i, output, kept=residuals: kept.append(output[1]))
        model(ids)
        assert residuals[0].dtype == expected


# ---- tokenizer


def test_encode_equals_the_published_tokenizer(golden):
    for entry in golden("caduceus/caduceus_tokenizer").meta["single"]:
        assert encode(entry["text"]) == entry["input_ids"]
        assert encode(entry["text"], specials=False) == entry["no_special"]


def test_vocabulary_is_the_published_one_and_padding_goes_to_the_left(golden):
    meta = golden("caduceus/caduceus_tokenizer").meta
    assert meta["vocab"] == VOCABULARY
    ids = [encode(text) for text in meta["batch"]["texts"]]
    for length, padded in ((9, meta["batch"]["padding_longest"]), (12, meta["batch"]["padding_max_length_12"])):
        assert [[VOCABULARY["[PAD]"]] * (length - len(row)) + row for row in ids] == padded


def test_base_ids_equal_the_tokenizer_on_every_letter_that_embed_accepts():
    sequences = ["ACGTN", "RYSWK", "MBDHV"]
    assert base_ids(sequences).tolist() == [encode(sequence, specials=False) for sequence in sequences]


# ---- published folders


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_load_dna_encoder_reads_a_published_folder_or_its_weights_file(case, write_folder, weights):
    folder = write_folder(case, weights)
    by_folder = load_dna_encoder("caduceus", str(folder), device="cpu")
    by_file = load_dna_encoder("caduceus", folder / weights, device="cpu")
    assert by_folder.fingerprint == by_file.fingerprint
    dna = random_dna(40) + "NR"
    read = dna.replace("R", "N")
    expected = by_folder.model(torch.tensor([encode(read, specials=False)])).last_hidden_state[0]
    if by_folder.strand_symmetric:
        width = expected.shape[1] // 2
        expected = (expected[:, :width] + expected[:, width:].flip(1)) / 2
    torch.testing.assert_close(by_folder.hidden_states(dna), expected, atol=1e-6, rtol=0)
    assert str(folder) in by_folder.description


def test_load_published_accepts_a_file_without_the_tied_tensors(case, write_folder):
    whole = load_published(write_folder(case) / "model.safetensors").state_dict()
    for one_of_pair in (0, 1):
        dropped = [pair[one_of_pair] for pair in case.meta["tied_state_dict_keys"]]
        loaded = load_published(write_folder(case, drop=dropped) / "model.safetensors").state_dict()
        assert loaded.keys() == whole.keys()
        assert all(tensor.equal(whole[key]) for key, tensor in loaded.items())


def test_load_published_leaves_the_global_random_state_alone(case, write_folder):
    folder = write_folder(case)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_published(folder / "model.safetensors")
    assert torch.rand(1) == expected


def test_load_published_refuses_a_complement_map_that_is_not_its_own_inverse(golden, write_folder):
    key = "caduceus.backbone.embeddings.word_embeddings.complement_map"
    for wrong in (torch.arange(16).roll(1), torch.full((16,), 99)):
        folder = write_folder(golden("caduceus/caduceus_ps_fused"), **{key: wrong})
        with pytest.raises(ValueError, match="complement of a complement must be the token itself"):
            load_published(folder / "model.safetensors")


# ---- the frozen encoder


def test_fingerprint_changes_with_the_revision_of_the_forward_code(monkeypatch):
    before = load_dna_encoder("caduceus", device="cpu").fingerprint
    monkeypatch.setattr(room, "FORWARD_REVISION", room.FORWARD_REVISION + 1)
    assert load_dna_encoder("caduceus", device="cpu").fingerprint != before


def test_layer_k_is_entry_k_of_the_published_hidden_states(golden, write_folder):
    case = golden("caduceus/caduceus_ph_fused")
    folder = write_folder(case)
    dna = random_dna(50)
    states = load_published(folder / "model.safetensors")(torch.tensor([encode(dna, specials=False)])).hidden_states
    encoders = [load_dna_encoder("caduceus", folder, layer=layer, device="cpu") for layer in (0, 1, 2, 3, None)]
    for encoder, state in zip(encoders, [*states, states[-1]], strict=True):
        torch.testing.assert_close(encoder.hidden_states(dna), state[0], atol=1e-6, rtol=0)
    assert len({encoder.fingerprint for encoder in encoders}) == 4  # the last one is what no layer reads too


@pytest.mark.parametrize(("name", "last"), [("ph_fused", 3), ("ps_unfused", 2)])
def test_layer_must_be_an_entry_of_the_published_hidden_states(golden, write_folder, name, last):
    folder = write_folder(golden(f"caduceus/caduceus_{name}"))
    load_dna_encoder("caduceus", folder, layer=last, device="cpu")
    for layer in (last + 1, -1, "backbone", True, 1.0):
        with pytest.raises(ValueError, match=f"entry of the published hidden states, 0 to {last}"):
            load_dna_encoder("caduceus", folder, layer=layer, device="cpu")


@pytest.mark.parametrize("layer", [None, 0, 1])
@pytest.mark.parametrize("name", ["ps_fused", "ps_unfused"])
def test_ps_gives_both_strands_one_vector_of_width_d_model(golden, write_folder, name, layer):
    encoder = load_dna_encoder("caduceus", write_folder(golden(f"caduceus/caduceus_{name}")), layer=layer, device="cpu")
    sequence = random_dna(300) + "NRA"
    other_strand = reverse_complement(sequence)
    assert encoder.width == 32
    torch.testing.assert_close(encoder.embed([sequence]), encoder.embed([other_strand]), atol=1e-5, rtol=0)
    site = [[17]], [[len(sequence) - 18]]
    forward, reverse = (encoder.embed([s], "variant", positions=p) for s, p in zip((sequence, other_strand), site, strict=True))
    torch.testing.assert_close(forward, reverse, atol=1e-5, rtol=0)
    mirrored = encoder.hidden_states(other_strand).flip(0)
    torch.testing.assert_close(encoder.hidden_states(sequence), mirrored, atol=1e-5, rtol=0)


def test_ph_averages_the_two_strands(golden, write_folder):
    encoder = load_dna_encoder("caduceus", write_folder(golden("caduceus/caduceus_ph_fused")), device="cpu")
    sequence = random_dna(200)
    forward = encoder.hidden_states(sequence).mean(0)
    reverse = encoder.hidden_states(reverse_complement(sequence)).mean(0)
    assert not forward.allclose(reverse, atol=1e-3)
    torch.testing.assert_close(encoder.embed([sequence])[0], (forward + reverse) / 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.embed([sequence], strands="reverse")[0], reverse, atol=1e-6, rtol=0)


def test_embed_does_not_depend_on_the_company_a_sequence_is_in():
    encoder = load_dna_encoder("caduceus", device="cpu")
    sequences = [random_dna(length, seed) for seed, length in enumerate([300, 301, 300, 300, 120])]
    together = encoder.embed(sequences)
    for sequence, vector in zip(sequences, together, strict=True):
        torch.testing.assert_close(encoder.embed([sequence])[0], vector, atol=1e-6, rtol=0)


def test_bfloat16_is_close_to_float32_and_has_a_fingerprint_of_its_own(golden, write_folder):
    folder = write_folder(golden("caduceus/caduceus_ps_fused"))
    single, half = (load_dna_encoder("caduceus", folder, device="cpu", dtype=dtype) for dtype in (None, "bfloat16"))
    sequence = random_dna(200)
    difference = (single.embed([sequence]) - half.embed([sequence])).norm() / single.embed([sequence]).norm()
    assert 0 < difference < 0.1
    assert single.fingerprint != half.fingerprint
    assert "bfloat16" in half.description


def test_random_network_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_dna_encoder("caduceus", device="cpu", seed=7)
    assert torch.rand(1) == expected


def test_random_network_is_initialised_as_the_published_code_does():
    weights = load_dna_encoder("caduceus", device="cpu").model.state_dict()
    embedding = weights["caduceus.backbone.embeddings.word_embeddings.weight"]
    assert 0.017 < embedding.std() < 0.023
    bound = (1 / (2 * RANDOM_CONFIG.d_model)) ** 0.5 / RANDOM_CONFIG.n_layer**0.5
    for i in range(RANDOM_CONFIG.n_layer):
        projection = weights[f"caduceus.backbone.layers.{i}.mixer.mamba_fwd.out_proj.weight"]
        assert 0.95 * bound < projection.abs().max() <= bound


def test_random_network_sees_a_single_base_among_thousands():
    encoder = load_dna_encoder("caduceus", device="cpu")
    sequence = random_dna(2048)
    variants = [sequence[:at] + reverse_complement(sequence[at]) + sequence[at + 1 :] for at in (5, 700, 2040)]
    reference, *others = encoder.embed([sequence, *variants])
    encoder.batch_tokens = 1
    alone = encoder.embed([sequence])[0]
    noise = (alone - reference).norm() / reference.norm()
    for other in others:
        assert (other - reference).norm() / reference.norm() > max(1e-4, 100 * noise)


@pytest.mark.gpu
def test_embed_on_a_gpu_equals_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    sequences = [random_dna(length, seed) for seed, length in enumerate([60, 61, 60])]
    on_gpu, on_cpu = (load_dna_encoder("caduceus", device=device).embed(sequences) for device in ("cuda", "cpu"))
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-5, rtol=0)

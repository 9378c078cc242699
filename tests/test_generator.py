"""GENERator against transformers' hidden states of the published layout, its files on disk, its frames and its options."""

import json
import random
import shutil

import huggingface_hub
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import encoders.generator as room
from encoders import load_dna_encoder
from encoders.generator import RANDOM_CONFIG, GeneratorEncoder
from encoders.generator_tokenizer import encode

TOLERANCE = 1e-5  # of the largest value
SEQUENCES = ["ACGTACGTACGTTTGACCATGCAT", "GAATTCCATGAGGCTATAGAATAATCTAAGAGAAAT", "ACGTNAAAAAAATTTTTT"]


@pytest.fixture(scope="session")
def published(shared_dir):
    return shared_dir / "golden" / "generator_tiny"


@pytest.fixture(scope="session")
def states(published):
    return load_file(published / "golden.safetensors")


@pytest.fixture
def write_folder(published, tmp_path):
    """Writes the published folder, in `shards` files, with some tensors dropped or changed; returns it."""

    def write(shards=1, drop=(), **changed):
        for name in ("config.json", "vocab.txt"):
            shutil.copyfile(published / name, tmp_path / name)
        tensors = {**load_file(published / "model.safetensors"), **changed}
        keys = [key for key in sorted(tensors) if key not in drop]
        if shards == 1:
            save_file({key: tensors[key] for key in keys}, tmp_path / "model.safetensors")
            return tmp_path
        shard_of = {key: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, key in enumerate(keys)}
        for shard in set(shard_of.values()):
            save_file({key: tensors[key] for key in keys if shard_of[key] == shard}, tmp_path / shard)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
        return tmp_path

    return write


def load(checkpoint=None, **options):
    return GeneratorEncoder.load(checkpoint, **{"device": "cpu", **options})


def random_dna(length, seed=0):
    return "".join(random.Random(seed).choices("ACGT", k=length))


def assert_near(actual, expected):
    torch.testing.assert_close(actual, expected, atol=TOLERANCE * expected.abs().max().item(), rtol=0)


# ---- parity


@pytest.mark.parametrize("layer", [0, 1, 2, 3, None])
@pytest.mark.parametrize("specials", ["bos", "bos_sep"])
def test_hidden_states_equal_the_published_ones(published, states, specials, layer):
    encoder = load(published, layer=layer)
    expected = states[f"{specials}/last_hidden_state" if layer is None else f"{specials}/hidden_states.{layer}"]
    real = states[f"{specials}/attention_mask"].bool()
    with torch.no_grad():
        assert_near(encoder.model(input_ids=states[f"{specials}/input_ids"]).last_hidden_state[real], expected[real])
    for sequence, row in zip(SEQUENCES, expected, strict=True):  # what stands behind the sequence does not reach its 6-mers
        assert_near(encoder._tokens([sequence])[0], row[1 : 1 + len(sequence) // 6])
        assert_near(encoder.hidden_states(sequence), row[1 : 1 + len(sequence) // 6])


def test_golden_sequences_are_written_with_one_bos_in_front(states):
    for sequence, ids, real in zip(SEQUENCES, states["bos/input_ids"], states["bos/attention_mask"].bool(), strict=True):
        assert ids[real].tolist() == [1, *encode(sequence)]


def test_layers_above_the_chosen_one_are_neither_kept_nor_run(published):
    kept = [len(load(published, layer=layer).model.layers) for layer in (0, 1, 2, 3, None)]
    assert kept == [0, 1, 2, 3, 3]
    assert load(published, layer=3).fingerprint == load(published).fingerprint


def test_an_n_is_fed_as_oov_and_leaves_what_lies_before_it_as_it_was():
    encoder = load()
    whole, holed = "ACGTAC" * 4, "ACGTAC" * 2 + "ACGNAC" + "ACGTAC"
    tokens, with_n = encoder._tokens([whole])[0], encoder._tokens([holed])[0]
    assert tokens.shape == with_n.shape == (4, 32)
    torch.testing.assert_close(with_n[:2], tokens[:2])
    assert not with_n[3].allclose(tokens[3])
    embedding = load(layer=0)
    assert embedding._tokens([holed])[0, 2].equal(embedding.model.embed_tokens.weight[0])


def test_tokens_of_a_batch_equal_those_of_its_sequences_alone():
    encoder = load()
    sequences = [random_dna(120, seed) for seed in range(5)]
    together = encoder._tokens(sequences)
    for sequence, tokens in zip(sequences, together, strict=True):
        torch.testing.assert_close(encoder._tokens([sequence])[0], tokens, atol=1e-6, rtol=0)
    assert together.equal(encoder._tokens(sequences))


def test_attention_needs_no_written_out_mask():
    encoder, masks = load(), []
    encoder.model.layers[0].register_forward_pre_hook(
        lambda module, inputs, named: masks.append(named["attention_mask"]), with_kwargs=True
    )
    encoder._tokens([random_dna(60), random_dna(60, 1)])
    assert masks == [None]
    assert encoder.model.config._attn_implementation == "sdpa"


# ---- precision, gradients, random weights


def test_bfloat16_is_close_to_float32_and_keeps_exact_positions(published):
    single, half = load(published), load(published, dtype="bfloat16")
    sequence = random_dna(600)
    expected, rounded = single._tokens([sequence]), half._tokens([sequence])
    assert rounded.dtype == torch.bfloat16
    assert 0 < (rounded.float() - expected).norm() / expected.norm() < 0.05
    for encoder in (half, load(dtype="bfloat16")):
        pairs = encoder.model.config.head_dim // 2
        exact = 5e5 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        assert encoder.model.rotary_emb.inv_freq.dtype == torch.float32
        torch.testing.assert_close(encoder.model.rotary_emb.inv_freq.double(), exact, atol=0, rtol=1e-6)
    assert single.fingerprint != half.fingerprint
    assert "bfloat16" in half.description


def test_encoder_is_frozen_and_adapters_on_its_targets_get_gradients():
    encoder = load()
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    encoder.model = get_peft_model(encoder.model, LoraConfig(r=2, target_modules=list(encoder.lora_targets)))
    encoder._tokens([random_dna(60)]).square().sum().backward()
    trained = {name: p for name, p in encoder.model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * RANDOM_CONFIG.num_hidden_layers
    assert all(parameter.grad is not None for parameter in trained.values())


def test_random_network_is_told_by_its_seed_and_leaves_the_global_random_state_alone(published):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (load(seed=seed) for seed in (0, 0, 1))
    load(published)
    assert torch.rand(1) == expected
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert "random weights (seed 1)" in other.description
    whole, lower = load().model.state_dict(), load(layer=1).model.state_dict()
    assert all(tensor.equal(whole[key]) for key, tensor in lower.items())


def test_fingerprint_changes_with_all_that_decides_the_vectors(published, write_folder, monkeypatch):
    bias = {"model.norm.weight": load_file(published / "model.safetensors")["model.norm.weight"] + 1}
    encoders = [
        load(published),
        load(write_folder(**bias)),
        *(load(published, layer=layer) for layer in (0, 1, 2)),
        load(published, frames=6),
        load(published, truncation="left"),
        load(published, dtype="bfloat16"),
    ]
    monkeypatch.setattr(room, "FORWARD_REVISION", room.FORWARD_REVISION + 1)
    encoders.append(load(published))
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)


def test_encoder_says_what_the_contract_needs_to_know(published):
    encoder = load_dna_encoder("generator", published, layer=2, device="cpu")
    assert (encoder.width, encoder.max_bases) == (64, (16384 - 1) * 6)
    assert (encoder.bases_per_token, encoder.masks_n, encoder.strand_symmetric) == (6, True, False)
    assert f"3 layers, weights {published}/model.safetensors, hidden state 2, frames 1, right truncation" in encoder.description


# ---- frames and options


def test_frames_start_at_the_first_base_unless_told_otherwise():
    lengths = (6, 7, 11, 12, 100)
    assert [load()._frames(length) for length in lengths] == [(0,)] * 5
    left = load(truncation="left")
    assert [left._frames(length) for length in lengths] == [(0,), (1,), (5,), (0,), (4,)]


def test_six_frames_are_those_that_leave_a_whole_6_mer():
    encoder = load(frames=6)
    assert [encoder._frames(length) for length in (6, 8, 10)] == [(0,), (0, 1, 2), (0, 1, 2, 3, 4)]
    assert all(encoder._frames(length) == (0, 1, 2, 3, 4, 5) for length in (11, 12, 100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 2}, r"frames must be one of 1, 6; got 2\.\n  fix: frames=1"),
        ({"frames": True}, r"frames must be one of 1, 6; got True"),
        ({"frames": "6"}, r"frames must be one of 1, 6; got '6'"),
        ({"truncation": "centre"}, r"truncation must be one of right, left; got 'centre'\.\n  fix: truncation=right"),
        ({"frames": 6, "truncation": "left"}, r"truncation=left chooses one frame; frames=6 reads all of them"),
    ],
)
def test_load_refuses_unknown_frames_and_truncations(options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)


@pytest.mark.parametrize("layer", [4, -1, "norm", True, 1.0])
def test_layer_must_be_an_entry_of_the_hidden_states(published, layer):
    with pytest.raises(ValueError, match=r"None or an entry of transformers' hidden_states, 0 to 3; got"):
        load(published, layer=layer)


# ---- published folders


def test_load_reads_shards_through_their_index(published, write_folder):
    folder = write_folder(shards=3)
    whole = load(published)
    assert load(folder).fingerprint == load(folder / "model.safetensors.index.json").fingerprint == whole.fingerprint
    assert load(published / "model.safetensors").fingerprint == whole.fingerprint


@pytest.mark.parametrize("shards", [1, 2])
def test_load_lists_the_tensors_that_a_partial_checkpoint_lacks(write_folder, shards):
    absent = ["model.layers.2.mlp.up_proj.weight", "model.norm.weight"]
    folder = write_folder(shards, drop=absent)
    with pytest.raises(ValueError, match=r"tensor for tensor; faults: 2") as caught:
        load(folder, layer=1)  # even where the missing ones would not be run
    assert "model.layers.2.mlp.up_proj.weight: missing, (176, 64) expected" in str(caught.value)
    assert "model.norm.weight: missing, (64,) expected" in str(caught.value)
    assert "copy or download a partial file again" in str(caught.value)


def test_load_lists_tensors_of_another_network(write_folder):
    folder = write_folder(**{"model.norm.weight": torch.ones(65), "model.layers.3.input_layernorm.weight": torch.ones(64)})
    with pytest.raises(ValueError, match=r"faults: 2(.|\n)*layernorm.weight: unexpected(.|\n)*\(64,\) expected, \(65,\) found"):
        load(folder)


def test_load_does_not_need_the_head_of_the_language_model(published, write_folder):
    assert load(write_folder(drop=["lm_head.weight"])).fingerprint == load(published).fingerprint


@pytest.mark.parametrize("absent", ["config.json", "vocab.txt", "model.safetensors"])
def test_load_says_which_file_a_folder_lacks(write_folder, absent):
    folder = write_folder()
    (folder / absent).unlink()
    needed = r"must hold config.json, vocab.txt and model.safetensors or model.safetensors.index.json with its shards"
    with pytest.raises(FileNotFoundError, match=rf"{needed}; this one holds .*\n  file: {folder}\n  fix:"):
        load(folder)


def test_load_refuses_a_vocabulary_in_another_order(write_folder):
    folder = write_folder()
    lines = (folder / "vocab.txt").read_text().replace("AAAAAT 33", "AAAAAT 34").replace("AAAAAC 34", "AAAAAC 33")
    (folder / "vocab.txt").write_text(lines)
    with pytest.raises(ValueError, match=r"AAAAAT has id 34, not 33"):
        load(folder)


def test_load_says_which_files_to_place_where_when_the_hub_is_out_of_reach(monkeypatch):
    def offline(repository, allow_patterns):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"no path 'owner/model' exists, and the hub did not give it") as caught:
        load("owner/model")
    files = "config.json, vocab.txt and model.safetensors or model.safetensors.index.json with its shards"
    assert f"or place {files} in a FOLDER; then pass checkpoint=FOLDER" in str(caught.value)


def test_load_asks_the_hub_for_the_needed_files_alone(write_folder, monkeypatch):
    folder, asked = write_folder(shards=2), []

    def snapshot(repository, allow_patterns):
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    load("owner/model")
    beside, index = ["config.json", "vocab.txt"], "model.safetensors.index.json"
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert asked == [[*beside, "model.safetensors"], [*beside, index], [*beside, index, *shards]]


@pytest.mark.gpu
def test_tokens_on_a_gpu_equal_the_cpu(published):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    on_gpu, on_cpu = (load(published, device=device)._tokens([random_dna(600)]).cpu() for device in ("cuda", "cpu"))
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-4, rtol=0)

"""What holds for every frozen DNA encoder alike; small networks with random weights, each through its own tokenizer."""

import doctest
import importlib
import random
from typing import ClassVar

import huggingface_hub
import pytest
import torch

from encoders import DNA_ENCODERS, load_dna_encoder
from encoders.dna_sequences import reverse_complement


def random_dna(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


@pytest.mark.parametrize("room", ["", ".dna_network", *(f".{name}" for name in DNA_ENCODERS)])
def test_examples_of_the_rooms_run(room):
    ran = doctest.testmod(importlib.import_module(f"encoders{room}"))
    assert ran.attempted and not ran.failed


def test_load_refuses_an_empty_checkpoint_and_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="checkpoint must be a path or a hub id, or None for random weights; got an empty one"):
        load_dna_encoder("caduceus", " ")
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ValueError, match=rf"device of a DNA encoder must be one that PyTorch has here: .*; got '{device}'"):
            load_dna_encoder("caduceus", device=device)


def test_load_says_that_nothing_lies_at_a_path_that_is_no_hub_id():
    with pytest.raises(FileNotFoundError, match=r"got '/no/such': there is nothing at this path, and it is no hub id"):
        load_dna_encoder("caduceus", "/no/such")


@pytest.mark.parametrize("name", DNA_ENCODERS)
class TestEveryEncoder:
    """The contract of `encoders.dna`, held against each network."""

    sequences: ClassVar[list[str]] = [random_dna(length, seed) for seed, length in enumerate((66, 66, 71, 30, 66))]

    def encoder(self, name, **settings):
        return load_dna_encoder(name, device="cpu", **settings)

    def test_embed_gives_one_finite_float32_row_a_sequence(self, name):
        encoder = self.encoder(name)
        for dtype in ("float32", "bfloat16"):
            vectors = self.encoder(name, dtype=dtype).embed(self.sequences)
            assert vectors.shape == (5, encoder.width) and vectors.dtype is torch.float32 and vectors.device.type == "cpu"
            assert vectors.isfinite().all()
            assert vectors.unique(dim=0).shape[0] == 5

    def test_embed_is_the_mean_of_the_hidden_states(self, name):
        encoder = self.encoder(name)
        vectors = encoder.embed(self.sequences[:3], strands="forward")
        tokens = [encoder.hidden_states(sequence) for sequence in self.sequences[:3]]
        assert [len(each) for each in tokens] == [len(s) // encoder.bases_per_token for s in self.sequences[:3]]
        if not encoder.strand_symmetric:
            torch.testing.assert_close(vectors, torch.stack([each.mean(0) for each in tokens]), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("pooling", ["mean", "last", "variant"])
    def test_embed_of_both_strands_does_not_know_which_was_given(self, name, pooling):
        encoder = self.encoder(name)
        sites = [[5, 40]] if pooling == "variant" else None
        there = [[len(self.sequences[2]) - 1 - site for site in (5, 40)]] if pooling == "variant" else None
        given = encoder.embed(self.sequences[2:3], pooling, positions=sites)
        turned = encoder.embed([reverse_complement(self.sequences[2])], pooling, positions=there)
        torch.testing.assert_close(given, turned, atol=1e-6, rtol=0)

    def test_embed_runs_a_distinct_string_once_a_strand(self, name):
        encoder = self.encoder(name)
        encoder.embed([*self.sequences, *self.sequences, self.sequences[0].lower()])
        assert encoder.counts["passes"] == 5 * (1 if encoder.strand_symmetric else 2)

    def test_embed_tells_one_base_from_another(self, name):
        encoder = self.encoder(name)
        sequence = self.sequences[0]
        changed = sequence[:30] + ("A" if sequence[30] != "A" else "C") + sequence[31:]
        for pooling, sites in (("mean", None), ("variant", [[30], [30]])):
            one, other = encoder.embed([sequence, changed], pooling, positions=sites)
            assert (one - other).norm() > 1e-4 * one.norm()

    def test_embed_gives_the_same_bits_again(self, name):
        vectors = self.encoder(name).embed(self.sequences)
        assert self.encoder(name).embed(self.sequences).equal(vectors)
        assert not self.encoder(name, seed=1).embed(self.sequences).equal(vectors)

    def test_embed_does_not_depend_on_the_size_of_batches(self, name):
        encoder = self.encoder(name)
        vectors = encoder.embed(self.sequences)
        encoder.batch_tokens = 1
        torch.testing.assert_close(encoder.embed(self.sequences), vectors, atol=1e-5, rtol=0)

    def test_embed_reads_windows_beyond_the_longest_text_and_one_text_below_it(self, name):
        encoder = self.encoder(name)
        short = encoder.embed(self.sequences)
        assert encoder.embed(self.sequences, overlap=12).equal(short)
        encoder.max_bases = 48
        sequence = random_dna(84)
        windows = [sequence[:48], sequence[36:84]]
        torch.testing.assert_close(
            encoder.embed([sequence], strands="forward", overlap=12)[0],
            encoder.embed(windows, strands="forward").mean(0), atol=1e-6, rtol=0,
        )  # fmt: skip
        with pytest.raises(ValueError, match="sequence 0 has 84 bases; at most 48 fit"):
            encoder.embed([sequence])

    def test_embed_reads_lower_case_and_other_letters(self, name):
        encoder = self.encoder(name)
        given, read = self.sequences[0][:60] + "acgtrc", self.sequences[0][:60] + "ACGTNC"
        assert encoder.embed([given]).equal(self.encoder(name).embed([read]))
        assert encoder.counts["replaced_letters"] == 1

    def test_no_parameter_of_a_frozen_encoder_receives_a_gradient(self, name):
        encoder = self.encoder(name)
        assert not any(weight.requires_grad for weight in encoder.model.parameters())
        vectors = encoder.embed(self.sequences)
        head = torch.nn.Linear(encoder.width, 2)
        head(vectors).sum().backward()
        assert not vectors.requires_grad and head.weight.grad is not None
        assert all(weight.grad is None for weight in encoder.model.parameters())

    def test_adapters_start_as_no_change_and_they_alone_are_trained(self, name):
        encoder = self.encoder(name)
        before = encoder.embed(self.sequences)
        adapters = encoder.adapt(rank=2)
        frozen = [weight for weight in encoder.model.parameters() if not any(weight is each for each in adapters)]
        vectors = encoder.embed(self.sequences)
        torch.testing.assert_close(vectors.detach(), before, atol=1e-6, rtol=0)
        vectors.square().sum().backward()
        assert all(weight.grad is not None for weight in adapters)
        reached = {key: weight.grad.any().item() for key, weight in encoder.model.named_parameters() if "lora_B" in key}
        assert reached and all(reached.values())
        assert all(weight.grad is None and not weight.requires_grad for weight in frozen)

    def test_in_precision_gives_the_other_precisions_vectors_and_the_weights_back(self, name):
        encoder, other = self.encoder(name), self.encoder(name, dtype="bfloat16")
        before, rounded = encoder.embed(self.sequences), other.embed(self.sequences)
        assert encoder.dtype is torch.float32 and other.dtype is torch.bfloat16
        with encoder.in_precision("bfloat16"):
            torch.testing.assert_close(encoder.embed(self.sequences), rounded, atol=1e-6, rtol=0)
        assert encoder.embed(self.sequences).equal(before)
        fingerprint = other.fingerprint
        with other.in_precision("float32"):
            assert other.fingerprint != fingerprint
            widened = other.embed(self.sequences)
        assert other.fingerprint == fingerprint and not widened.equal(rounded)
        for key, weight in encoder.model.named_parameters():  # an oracle: weights rounded, arithmetic not
            if not key.endswith(encoder.float32_weights or ("nothing",)):
                weight.data = weight.data.bfloat16().float()
        torch.testing.assert_close(widened, encoder.embed(self.sequences), atol=1e-6, rtol=0)
        assert other.embed(self.sequences).equal(rounded)

    def test_adapters_can_be_kept_and_put_on_again(self, name):
        encoder, again = self.encoder(name), self.encoder(name)
        for weight in encoder.adapt(rank=2):
            weight.data += 0.01
        again.adapt(rank=2, weights=encoder.adapter_weights())
        assert again.embed(self.sequences).equal(encoder.embed(self.sequences))
        assert again.fingerprint == encoder.fingerprint != self.encoder(name).fingerprint
        with pytest.raises(ValueError, match=r"(?s)must fit .* faults: .*file: the weights of the adapters"):
            self.encoder(name).adapt(rank=3, weights=encoder.adapter_weights())

    def test_fingerprint_tells_weights_and_precision_apart(self, name):
        kinds = [{}, {"seed": 1}, {"dtype": "bfloat16"}]
        fingerprints = {self.encoder(name, **kind).fingerprint for kind in kinds}
        assert len(fingerprints) == 3
        assert self.encoder(name).fingerprint in fingerprints

    def test_embed_refuses_what_it_cannot_read(self, name):
        encoder = self.encoder(name)
        for wrong, message in [("", "is empty"), ("MKVLAAGIVGLCAK", "other letters"), ("N" * 24, "holds no A, C, G or T")]:
            with pytest.raises(ValueError, match=f"sequence 1 .*{message}"):
                encoder.embed(["ACGTACGTACGT", wrong])
        with pytest.raises(ValueError, match="pooling must be one of mean, last, variant; got 'cls'"):
            encoder.embed(["ACGTACGTACGT"], pooling="cls")

    def test_load_refuses_unknown_options_and_lists_the_known_ones(self, name):
        with pytest.raises(ValueError, match=rf"Options of {name} are .*; got flames, wings"):
            self.encoder(name, wings=2, flames=6)

    def test_load_says_that_the_weights_are_random(self, name):
        assert "random weights (seed 3)" in self.encoder(name, seed=3).description

    def test_load_says_which_files_to_place_where_when_the_hub_is_out_of_reach(self, name, monkeypatch, tmp_path):
        published = {"evo2": "arcinstitute/evo2_7b"}.get(name, "nobody/nothing-at-all")  # Evo 2 knows its published models
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(FileNotFoundError, match=rf"(?s)did not give it: .*fix: .*hf download {published} .*dna\.checkpoint"):
            self.encoder(name, checkpoint=published)

"""Reading frames and windows of the contract of DNA encoders."""

import pytest
import torch

from encoders.dna import VARIANT_RADIUS
from encoders.dna_sequences import reverse_complement
from tests.toy_encoders import KmerEncoder, SymmetricToyEncoder, ToyEncoder


def test_embed_variant_averages_the_window_around_a_position():
    sequence = "A" * 60
    vector = ToyEncoder().embed([sequence], pooling="variant", strands="forward", positions=[[30]])[0]
    assert vector[1] == 30
    left = ToyEncoder().embed([sequence], pooling="variant", strands="forward", positions=[[0]])[0]
    assert left[1] == VARIANT_RADIUS / 2
    right = ToyEncoder().embed([sequence], pooling="variant", strands="forward", positions=[[59]])[0]
    assert right[1] == 59 - VARIANT_RADIUS / 2


def test_embed_variant_counts_a_token_once_when_windows_overlap():
    near = set(range(20 - VARIANT_RADIUS, 23 + VARIANT_RADIUS + 1)) | set(range(50 - VARIANT_RADIUS, 50 + VARIANT_RADIUS + 1))
    vector = ToyEncoder().embed(["A" * 60], pooling="variant", strands="forward", positions=[[50, 20, 23, 20]])[0]
    torch.testing.assert_close(vector[1], torch.tensor(sum(near) / len(near)))


def test_embed_reads_long_sequences_in_windows_weighted_by_their_tokens():
    encoder = ToyEncoder()
    sequence = "A" * 150 + "C" * 20  # windows at 0, 60 and, flush with the end, 70
    vector = encoder.embed([sequence], strands="forward", overlap=40)[0]
    assert [len(text) for batch in encoder.ran for text in batch] == [100, 100, 100]
    torch.testing.assert_close(vector, torch.tensor([(0 + 10 / 100 + 20 / 100) / 3, 49.5]))
    near_the_end = encoder.embed([sequence], "variant", "forward", [[169]], radius=9, overlap=40)[0]
    assert near_the_end.tolist() == [1, (90 + 99) / 2]
    assert encoder.embed([sequence], pooling="last", strands="forward", overlap=40)[0].tolist() == [1, 99]


def test_embed_weights_windows_by_the_tokens_pooled_in_each():
    near = ToyEncoder().embed(["A" * 150], "variant", "forward", [[99]], radius=3, overlap=20)[0]
    first, second = range(96, 100), range(99 - 3 - 50, 99 + 4 - 50)  # windows at 0 and 50
    torch.testing.assert_close(near[1], torch.tensor((sum(first) + sum(second)) / (len(first) + len(second))))


def test_embed_gives_short_sequences_the_same_vector_with_and_without_windows():
    sequences = ["ACGTT" * 20, "ACC"]
    assert ToyEncoder().embed(sequences, overlap=10).equal(ToyEncoder().embed(sequences))


@pytest.mark.parametrize("pooling", ["mean", "last", "variant"])
@pytest.mark.parametrize("kind", [ToyEncoder, SymmetricToyEncoder])
def test_embed_of_both_strands_does_not_know_which_was_given_when_windows_are_needed(kind, pooling):
    torch.manual_seed(0)
    sequence = "".join("ACGT"[i] for i in torch.randint(4, (257,)))
    sites = [3, 120, 200] if pooling == "variant" else None
    there = [256 - site for site in sites] if sites else None
    given = kind().embed([sequence], pooling, positions=sites and [sites], overlap=30)
    turned = kind().embed([reverse_complement(sequence)], pooling, positions=there and [there], overlap=30)
    torch.testing.assert_close(given, turned, atol=1e-6, rtol=0)


@pytest.mark.parametrize("settings", [{"overlap": -1}, {"overlap": 100}, {"overlap": 2.5}, {"radius": -1}, {"radius": True}])
def test_embed_refuses_windows_and_radii_that_are_no_bases(settings):
    with pytest.raises(ValueError, match=r"must be a whole number of bases, at least 0.*; got .*\n  fix:"):
        ToyEncoder().embed(["ACGT"], **settings)


def test_embed_cuts_a_strand_to_whole_tokens_of_each_frame():
    encoder = KmerEncoder(frames=(0, 1, 2))
    vector = encoder.embed(["AAACCCAG"], strands="forward")[0]
    assert encoder.ran == ["AAACCC", "AACCCA", "ACCCAG"]
    torch.testing.assert_close(vector, torch.tensor([0.5, (3 / 2 + 3 / 2 + 2 / 2) / 3]))


def test_embed_tokenises_the_reverse_complement_anew():
    encoder = KmerEncoder()
    encoder.embed(["AAACCCAG"])
    assert sorted(encoder.ran) == ["AAACCC", "CTGGGT"]


def test_embed_leaves_tokens_with_an_n_out_of_the_pooling_and_counts_them():
    encoder = KmerEncoder()
    vector = encoder.embed(["AAAACNAAC"], strands="forward")[0]
    assert vector.tolist() == [1, 2.5]
    assert encoder.counts["masked_tokens"] == 1
    assert encoder.embed(["AAAACNCCN"], pooling="last", strands="forward")[0].tolist() == [0, 3]
    assert encoder.hidden_states("AAAACN").tolist() == [[0, 3], [1, 1]]


def test_embed_refuses_sequences_without_a_token_to_pool():
    with pytest.raises(ValueError, match=r"needs a token to pool on each strand .*; 1 of 2 have none: 1\.\n  fix:"):
        KmerEncoder().embed(["AAACCC", "ANACNC"])
    with pytest.raises(ValueError, match=r"sequence 0 has 2 bases; a token needs 3"):
        KmerEncoder().embed(["AC"])


def test_embed_leaves_a_frame_out_when_none_of_its_tokens_can_be_pooled():
    assert KmerEncoder(frames=(0, 1)).embed(["ANAACC"], strands="forward")[0].tolist() == [1, 1]  # ANA ACC; NAA is masked


@pytest.mark.parametrize(
    ("site", "radius", "tokens"), [(4, 0, [1]), (4, 1, [1]), (4, 2, [0, 1, 2]), (11, 3, [2, 3]), (0, 3, [0, 1])]
)
def test_embed_variant_takes_every_token_with_a_base_within_the_radius(site, radius, tokens):
    vector = KmerEncoder().embed(["C" * 12], "variant", "forward", [[site]], radius=radius)[0]
    torch.testing.assert_close(vector[0], torch.tensor(sum(tokens) / len(tokens)))


def test_embed_keeps_the_frame_in_every_window():
    torch.manual_seed(0)
    sequence = "".join("ACGT"[i] for i in torch.randint(4, (80,)))
    encoder = KmerEncoder(frames=(1,))
    encoder.embed([sequence], strands="forward", overlap=7)
    assert [(sequence.index(text), len(text)) for text in encoder.ran] == [(1, 30), (22, 30), (43, 30), (49, 30)]

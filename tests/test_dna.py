"""The contract of frozen DNA encoders, on a toy network whose every vector can be written down."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from encoders import dna
from encoders.dna import VARIANT_RADIUS
from encoders.dna_sequences import reverse_complement
from tests.toy_encoders import LETTERS, SymmetricToyEncoder, ToyEncoder


def mean_letter(sequence):
    return sum(LETTERS.index(letter) for letter in sequence) / len(sequence)


@pytest.mark.parametrize("strands", ["forward", "reverse", "both"])
def test_embed_mean_is_the_mean_over_tokens_of_the_chosen_strands(strands):
    sequence = "AACGTAN"
    forward, reverse = mean_letter(sequence), mean_letter(reverse_complement(sequence))
    expected = {"forward": forward, "reverse": reverse, "both": (forward + reverse) / 2}[strands]
    vector = ToyEncoder().embed([sequence], strands=strands)[0]
    torch.testing.assert_close(vector, torch.tensor([expected, 3.0]))
    assert vector.dtype == torch.float32


def test_embed_runs_every_distinct_string_once_in_batches_of_equal_length_and_bounded_size():
    encoder = ToyEncoder(batch_tokens=8)
    sequences = ["ACGTA", "AC", "CC", "ac", "AAAC", "AC", "GG", "TTTT", "CGCG", "AAAA"]
    vectors = encoder.embed(sequences)
    ran = [sequence for batch in encoder.ran for sequence in batch]
    assert sorted(ran) == sorted({s.upper() for s in sequences} | {reverse_complement(s.upper()) for s in sequences})
    for batch in encoder.ran:
        assert len({len(sequence) for sequence in batch}) == 1
        assert sum(map(len, batch)) <= 8
    for sequence, vector in zip(sequences, vectors, strict=True):
        torch.testing.assert_close(vector, ToyEncoder().embed([sequence])[0])


def test_embed_runs_a_sequence_alone_when_it_exceeds_the_budget():
    encoder = ToyEncoder(batch_tokens=3)
    assert encoder.embed(["ACGTA", "CCCCC"], strands="forward").shape == (2, 2)
    assert encoder.ran == [["ACGTA"], ["CCCCC"]]


def test_embed_of_no_sequence_is_an_empty_matrix():
    assert ToyEncoder().embed([]).shape == (0, 2)
    assert ToyEncoder().embed([], pooling="variant", positions=[]).shape == (0, 2)


def test_embed_variant_mirrors_positions_on_the_reverse_strand():
    sequence = "A" * 30 + "C" + "A" * 20  # the C becomes the only G (number 2) among T (number 3)
    vector = ToyEncoder().embed([sequence], pooling="variant", strands="reverse", positions=[[30]])[0]
    window = 2 * VARIANT_RADIUS + 1
    torch.testing.assert_close(vector, torch.tensor([(3 * (window - 1) + 2) / window, 20.0]))


def test_embed_variant_runs_a_string_once_when_it_comes_with_different_positions():
    encoder = ToyEncoder()
    vectors = encoder.embed(["A" * 60] * 2, pooling="variant", strands="forward", positions=[[20], [40]])
    assert encoder.ran == [["A" * 60]]
    assert vectors[:, 1].tolist() == [20, 40]


@pytest.mark.parametrize("strands", ["forward", "reverse", "both"])
def test_embed_runs_one_pass_when_the_network_reads_both_strands_alike(strands):
    encoder = SymmetricToyEncoder()
    vector = encoder.embed(["AACCC"], strands=strands)[0]
    assert encoder.ran == [["AACCC"]]
    torch.testing.assert_close(vector[0], torch.tensor(mean_letter("AACCC")))


def test_embed_keeps_its_precision_when_the_caller_is_under_autocast():
    class Product(ToyEncoder):
        def _tokens(self, sequences):
            factor = torch.full((1, 1), 1.001)
            return (factor @ factor).expand(len(sequences), len(sequences[0]), 2)

    outside = Product().embed(["AC"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Product().embed(["AC"]).equal(outside)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_embed_gives_the_same_vectors_on_many_threads_and_leaves_their_number_alone(three_threads):
    class Watched(ToyEncoder):
        threads: ClassVar[set[int]] = set()

        def _tokens(self, sequences):
            self.threads.add(torch.get_num_threads())
            return super()._tokens(sequences)

    sequences = ["ACGT" * n for n in range(1, 20)]
    together = Watched().embed(sequences)
    assert Watched.threads == {1}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert ToyEncoder().embed(sequences).equal(together)


def test_embed_passes_on_an_error_of_the_network_and_leaves_the_number_of_threads_alone(three_threads):
    class Broken(ToyEncoder):
        def _tokens(self, sequences):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Broken().embed(["A" * n for n in range(1, 10)])
    assert torch.get_num_threads() == 3


def test_embed_keeps_no_graph_when_the_network_has_trainable_weights(three_threads):
    class Weighted(ToyEncoder):
        weight = nn.Parameter(torch.ones(()))

        def _tokens(self, sequences):
            return super()._tokens(sequences) * self.weight

    assert not Weighted().embed(["A" * n for n in range(1, 10)]).requires_grad
    assert not Weighted().hidden_states("ACGT").requires_grad


def test_embed_gives_plain_tensors_that_training_can_use():
    vectors = ToyEncoder().embed(["ACG", "T"])
    weight = torch.ones(2, 1, requires_grad=True)
    (vectors @ weight).sum().backward()
    torch.testing.assert_close(weight.grad.squeeze(), vectors.sum(0))


def test_hidden_states_are_all_tokens_of_the_forward_strand():
    tokens = ToyEncoder().hidden_states("acT")
    assert tokens.dtype == torch.float32
    assert tokens.tolist() == [[0, 0], [1, 1], [3, 2]]


def test_embed_lists_every_sequence_that_is_no_dna_with_its_index():
    with pytest.raises(ValueError, match="4 of 5 are not") as caught:
        ToyEncoder().embed(["ACGT", "", "A" * 101, "AC*T", "<NON>"])
    message = str(caught.value)
    assert "sequence 1 is empty" in message
    assert "sequence 2 has 101 bases; at most 100 fit" in message
    assert "sequence 3 holds 1 other letters ('*' at base 2); at most 5% of it are read as N" in message
    assert "sequence 4 holds 3 other letters ('<' at base 0)" in message


def test_embed_says_how_many_more_sequences_are_wrong():
    with pytest.raises(ValueError, match="and 15 more"):
        ToyEncoder().embed([""] * 25)


def test_embed_refuses_what_is_no_list_of_strings():
    with pytest.raises(TypeError, match="one string of 4 letters"):
        ToyEncoder().embed("ACGT")
    with pytest.raises(TypeError, match="sequence 1 is NoneType, not a string"):
        ToyEncoder().embed(["ACGT", None])
    with pytest.raises(TypeError, match="sequence 0 is int"):
        ToyEncoder().hidden_states(3)


def test_embed_lists_the_known_poolings_and_strands():
    with pytest.raises(ValueError, match="pooling must be one of mean, last, variant; got 'max'"):
        ToyEncoder().embed(["ACGT"], pooling="max")
    with pytest.raises(ValueError, match="strands must be one of forward, reverse, both; got '-'"):
        ToyEncoder().embed(["ACGT"], strands="-")


def test_embed_reads_other_letters_as_n_and_counts_them():
    encoder = ToyEncoder()
    sequence = "ACGT" * 10
    with_codes, with_n = sequence + "ry", sequence + "NN"
    assert encoder.embed([with_codes, with_codes]).equal(ToyEncoder().embed([with_n, with_n]))
    assert encoder.counts["replaced_letters"] == 2
    assert encoder.hidden_states(with_codes).equal(encoder.hidden_states(with_n))


def test_embed_reads_letters_beyond_ascii_as_one_n_each():
    encoder = ToyEncoder()
    assert encoder.embed(["ß" + "A" * 60], "variant", positions=[[60]]).equal(
        ToyEncoder().embed(["N" + "A" * 60], "variant", positions=[[60]])
    )
    assert encoder.counts["replaced_letters"] == 1
    with pytest.raises(ValueError, match="positions of a sequence must be"):
        encoder.embed(["ß" + "A" * 60], "variant", positions=[[61]])


def test_embed_runs_long_sequences_one_at_a_time_and_short_ones_beside_each_other(three_threads, monkeypatch):
    class Counting(ToyEncoder):
        threads: ClassVar[list[tuple[int, int]]] = []

        def _tokens(self, sequences):
            self.threads.append((len(sequences[0]), torch.get_num_threads()))
            return super()._tokens(sequences)

    monkeypatch.setattr(dna, "IN_FLIGHT_BASES", 3 * 40)
    Counting(batch_tokens=30).embed(["A" * n for n in (20, 30, 25, 41, 80)], strands="forward")
    assert sorted(Counting.threads) == [(20, 1), (25, 1), (30, 1), (41, 3), (80, 3)]


def test_embed_refuses_a_sequence_without_a_base():
    with pytest.raises(ValueError, match=r"sequence 1 holds no A, C, G or T"):
        ToyEncoder().embed(["ACGT", "NNNN"])


def test_embed_takes_more_other_letters_when_told_to():
    encoder = ToyEncoder()
    encoder.max_replaced = 0.5
    assert encoder.embed(["AURA"]).equal(ToyEncoder().embed(["ANNA"]))


def test_counts_tell_the_passes_and_bases_of_distinct_strings_a_strand():
    encoder = ToyEncoder()
    encoder.embed(["AAAC", "AAAC", "CCAT"])
    assert (encoder.counts["passes"], encoder.counts["bases"]) == (4, 16)
    encoder.embed(["AAAC"], strands="forward")
    encoder.hidden_states("AC")
    assert (encoder.counts["passes"], encoder.counts["bases"]) == (6, 22)
    symmetric = SymmetricToyEncoder()
    symmetric.embed(["AAAC", "AAAC", "CCAT"])
    assert symmetric.counts["passes"] == 2


def test_embed_last_is_the_last_token_of_each_strand():
    forward = ToyEncoder().embed(["ACGTT"], pooling="last", strands="forward")[0]
    reverse = ToyEncoder().embed(["ACGTT"], pooling="last", strands="reverse")[0]  # AACGT
    assert forward.tolist() == [3, 4] == reverse.tolist()
    assert ToyEncoder().embed(["CCGTA"], pooling="last", strands="both")[0].tolist() == [(0 + 2) / 2, 4]


def test_embed_last_takes_the_first_token_for_the_other_strand_when_the_network_reads_both_alike():
    encoder = SymmetricToyEncoder()
    both = [encoder.embed(["CCGTA"], pooling="last", strands=strands)[0].tolist() for strands in ("forward", "reverse", "both")]
    assert both == [[0, 4], [1, 0], [0.5, 2]]
    assert {sequence for batch in encoder.ran for sequence in batch} == {"CCGTA"}


def test_embed_shows_a_progress_bar_when_asked_to(capsys):
    ToyEncoder().embed(["ACGT", "AC"], progress=True)
    assert "8.00/8.00" in capsys.readouterr().err
    ToyEncoder().embed(["ACGT"])
    assert not capsys.readouterr().err


def test_batches_hold_every_distinct_sequence_and_some_of_them_make_up_the_same_batches_again():
    encoder = ToyEncoder(batch_tokens=8)
    sequences = ["ACGT", "AC", "CC", "AG", "TTTT", "CG", "GGGG", "AT", "ACGT"]
    batches = encoder.batches(sequences)
    assert batches == [["AC", "CC", "AG", "CG"], ["AT"], ["ACGT", "TTTT"], ["GGGG"]]
    for dealt in (batches[::2], batches[1::2]):
        assert encoder.batches([sequence for batch in dealt for sequence in batch]) == dealt


def test_embed_refuses_positions_that_do_not_belong_to_the_sequences():
    encoder = ToyEncoder()
    with pytest.raises(ValueError, match='positions belong to pooling="variant"'):
        encoder.embed(["ACGT"], positions=[[1]])
    with pytest.raises(ValueError, match="one list a sequence; got None"):
        encoder.embed(["ACGT"], pooling="variant")
    with pytest.raises(ValueError, match="got 1 for 2 sequences"):
        encoder.embed(["ACGT", "A"], pooling="variant", positions=[[1]])
    with pytest.raises(ValueError, match="one list a sequence; got 3"):
        encoder.embed(["ACGT"], pooling="variant", positions=3)


@pytest.mark.parametrize("wrong", [[], [-1], [4], [3.7], [1.0], ["3"], "3", 3, None, [True], [[1]], [0, None]])
def test_embed_refuses_positions_that_are_no_bases_of_their_sequence(wrong):
    with pytest.raises(ValueError, match="must be a list of one or more of its bases, 0-based integers; 2 are not") as caught:
        ToyEncoder().embed(["ACGT", "AC", "ACGTA"], pooling="variant", positions=[wrong, [0], [9]])
    assert f"sequence 0 has 4 bases; got {wrong!r}\n  sequence 2 has 5 bases; got [9]\n  fix:" in str(caught.value)


def test_embed_says_how_many_more_positions_are_wrong():
    with pytest.raises(ValueError, match=r"25 are not(.|\n)*and 15 more"):
        ToyEncoder().embed(["A"] * 25, pooling="variant", positions=[[1]] * 25)


@pytest.mark.parametrize("given", [[30], (30,), np.array([30]), [np.int32(30)], torch.tensor([30])])
def test_embed_takes_integer_positions_of_every_kind(given):
    vector = ToyEncoder().embed(["A" * 60], pooling="variant", strands="forward", positions=[given])[0]
    assert vector[1] == 30

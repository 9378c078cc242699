"""The contract of frozen DNA encoders, on a toy network whose every vector can be written down."""

import random
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from encoders.dna import (
    IUPAC_DNA,
    VARIANT_RADIUS,
    DNAEncoder,
    fingerprint,
    resolve_device_and_dtype,
    reverse_complement,
)


class ToyEncoder(DNAEncoder):
    """Token t of a sequence is (its letter's number, t): mean vectors and mirrored positions are known by arithmetic."""

    def __init__(self, batch_tokens: int = 1000) -> None:
        super().__init__(
            width=2,
            max_bases=100,
            fingerprint="toy",
            description="toy",
            device=torch.device("cpu"),
            batch_tokens=batch_tokens,
        )
        self.batches: list[list[str]] = []

    def _tokens(self, sequences):
        self.batches.append(list(sequences))
        letters = torch.tensor([[IUPAC_DNA.index(letter) for letter in sequence] for sequence in sequences])
        return torch.stack([letters, torch.arange(letters.shape[1]).expand_as(letters)], dim=-1).bfloat16()


class SymmetricToyEncoder(ToyEncoder):
    strand_symmetric = True


def mean_letter(sequence):
    return sum(IUPAC_DNA.index(letter) for letter in sequence) / len(sequence)


def test_reverse_complement_reads_the_other_strand_and_keeps_case():
    assert reverse_complement("AACGTn") == "nACGTT"
    assert reverse_complement("") == ""


def test_reverse_complement_complements_every_iupac_code_to_the_code_of_the_complementary_bases():
    bases = {"A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"}
    bases |= {"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"}
    assert set(bases) == set(IUPAC_DNA)
    complement = dict(zip("ACGT", "TGCA", strict=True))
    for code, stands_for in bases.items():
        assert set(bases[reverse_complement(code)]) == {complement[base] for base in stands_for}
        assert reverse_complement(code.lower()) == reverse_complement(code).lower()


def test_reverse_complement_is_its_own_inverse():
    sequence = "".join(random.Random(0).choices(IUPAC_DNA + IUPAC_DNA.lower(), k=200))
    assert reverse_complement(reverse_complement(sequence)) == sequence


def test_reverse_complement_refuses_other_letters_and_other_types():
    with pytest.raises(ValueError, match="holds 'U' at base 2"):
        reverse_complement("ACUX")
    with pytest.raises(TypeError, match="is bytes, not a string"):
        reverse_complement(b"ACGT")


@pytest.mark.parametrize("strands", ["forward", "reverse", "both"])
def test_embed_mean_is_the_mean_over_tokens_of_the_chosen_strands(strands):
    sequence = "AACGTRN"
    forward, reverse = mean_letter(sequence), mean_letter(reverse_complement(sequence))
    expected = {"forward": forward, "reverse": reverse, "both": (forward + reverse) / 2}[strands]
    vector = ToyEncoder().embed([sequence], strands=strands)[0]
    torch.testing.assert_close(vector, torch.tensor([expected, 3.0]))
    assert vector.dtype == torch.float32


def test_embed_runs_every_distinct_string_once_in_batches_of_equal_length_and_bounded_size():
    encoder = ToyEncoder(batch_tokens=8)
    sequences = ["ACGTA", "AC", "CC", "ac", "AAAC", "AC", "GG", "TTTT", "CGCG", "AAAA"]
    vectors = encoder.embed(sequences)
    ran = [sequence for batch in encoder.batches for sequence in batch]
    assert sorted(ran) == sorted({s.upper() for s in sequences} | {reverse_complement(s.upper()) for s in sequences})
    for batch in encoder.batches:
        assert len({len(sequence) for sequence in batch}) == 1
        assert sum(map(len, batch)) <= 8
    for sequence, vector in zip(sequences, vectors, strict=True):
        torch.testing.assert_close(vector, ToyEncoder().embed([sequence])[0])


def test_embed_runs_a_sequence_alone_when_it_exceeds_the_budget():
    encoder = ToyEncoder(batch_tokens=3)
    assert encoder.embed(["ACGTA", "CCCCC"], strands="forward").shape == (2, 2)
    assert encoder.batches == [["ACGTA"], ["CCCCC"]]


def test_embed_of_no_sequence_is_an_empty_matrix():
    assert ToyEncoder().embed([]).shape == (0, 2)
    assert ToyEncoder().embed([], pooling="variant", positions=[]).shape == (0, 2)


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


def test_embed_variant_mirrors_positions_on_the_reverse_strand():
    sequence = "A" * 30 + "C" + "A" * 20  # the C becomes the only G (number 2) among T (number 3)
    vector = ToyEncoder().embed([sequence], pooling="variant", strands="reverse", positions=[[30]])[0]
    window = 2 * VARIANT_RADIUS + 1
    torch.testing.assert_close(vector, torch.tensor([(3 * (window - 1) + 2) / window, 20.0]))


def test_embed_variant_runs_a_string_once_when_it_comes_with_different_positions():
    encoder = ToyEncoder()
    vectors = encoder.embed(["A" * 60] * 2, pooling="variant", strands="forward", positions=[[20], [40]])
    assert encoder.batches == [["A" * 60]]
    assert vectors[:, 1].tolist() == [20, 40]


@pytest.mark.parametrize("strands", ["forward", "reverse", "both"])
def test_embed_runs_one_pass_when_the_network_reads_both_strands_alike(strands):
    encoder = SymmetricToyEncoder()
    vector = encoder.embed(["AACCC"], strands=strands)[0]
    assert encoder.batches == [["AACCC"]]
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
        ToyEncoder().embed(["ACGT", "", "A" * 101, "AC*T", "<DEL>"])
    message = str(caught.value)
    assert "sequence 1 is empty" in message
    assert "sequence 2 has 101 bases; at most 100 fit" in message
    assert "sequence 3 holds '*' at base 2" in message
    assert "sequence 4 holds '<' at base 0" in message


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
    with pytest.raises(ValueError, match="pooling must be one of mean, variant; got 'max'"):
        ToyEncoder().embed(["ACGT"], pooling="max")
    with pytest.raises(ValueError, match="strands must be one of forward, reverse, both; got '-'"):
        ToyEncoder().embed(["ACGT"], strands="-")


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


def test_fingerprint_changes_with_weights_config_layer_and_precision_alone():
    def model(seed):
        torch.manual_seed(seed)
        return nn.Linear(3, 2)

    base = fingerprint({"name": "toy"}, None, model(0))
    assert base == fingerprint({"name": "toy"}, None, model(0))
    touched = model(0)
    touched.weight.data[0, 0] += 1e-6
    others = [
        fingerprint({"name": "toy"}, None, touched),
        fingerprint({"name": "other"}, None, model(0)),
        fingerprint({"name": "toy"}, 1, model(0)),
        fingerprint({"name": "toy"}, None, model(0).bfloat16()),
    ]
    assert len({base, *others}) == 5
    assert len(base) == 64


def test_resolve_device_and_dtype_takes_names_and_torch_types():
    cpu = torch.device("cpu")
    assert resolve_device_and_dtype("cpu", None) == (cpu, torch.float32)
    assert resolve_device_and_dtype(cpu, "bfloat16") == (cpu, torch.bfloat16)
    assert resolve_device_and_dtype(cpu, torch.float32) == (cpu, torch.float32)
    assert resolve_device_and_dtype(None, None)[0].type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_resolve_device_and_dtype_lists_the_known_precisions():
    with pytest.raises(ValueError, match="must be one of float32, bfloat16; got 'float16'"):
        resolve_device_and_dtype("cpu", "float16")

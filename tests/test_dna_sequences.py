"""DNA strings on their way to a network."""

import random

import pytest

from encoders.dna_sequences import IUPAC_DNA, equal_length_batches, masked_tokens, reverse_complement


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


def test_equal_length_batches_are_bounded_and_of_one_length():
    batches = list(equal_length_batches(["AAAA", "C", "GG", "TTTT", "CCCC", "G"], 8))
    assert batches == [["C", "G"], ["GG"], ["AAAA", "TTTT"], ["CCCC"]]
    assert list(equal_length_batches(["AAAA", "CCCC"], 3)) == [["AAAA"], ["CCCC"]]


def test_masked_tokens_are_those_with_an_n():
    assert masked_tokens("ACNACGNNN", 3) == [0, 2]

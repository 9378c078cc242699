"""Tests of the room `genome_builds`: known lengths are told apart, whatever the contigs are called."""

import itertools

from brainmt_align.data.genome_builds import CHROMOSOMES, LENGTHS, name_build


def test_name_build_tells_every_chromosome_of_every_build_by_its_length_alone():
    for build, lengths in LENGTHS.items():
        for chromosome, length in zip(CHROMOSOMES, lengths, strict=True):
            assert name_build({f"chr{chromosome}": length}) == name_build({chromosome: length}) == f"{build} by contig lengths"
    for a, b in itertools.combinations(LENGTHS.values(), 2):
        assert not set(zip(CHROMOSOMES, a, strict=True)) & set(zip(CHROMOSOMES, b, strict=True))


def test_name_build_repeats_what_a_header_says_and_admits_not_to_know():
    assert name_build({"20": 2_000_000, "MT": 16569}) == "of unknown build"
    assert name_build({}, ["assembly=b37", "reference=hs37d5.fa"]) == "of unknown build (assembly=b37, reference=hs37d5.fa)"
    assert name_build({"20": 63025520}, ["assembly=b37"]) == "GRCh37 by contig lengths (assembly=b37)"
    assert name_build({"20": 63025520, "21": 46709983}) == "GRCh37 and GRCh38 by contig lengths"

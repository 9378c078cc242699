"""Tests of the room `haplotypes`: what each kind of record does to a sequence, what is counted, and every refusal."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest

from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.genotypes_vcf import VCFReader
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.haplotypes import (
    HaplotypeSettings,
    describe_counts,
    list_regions,
    read_haplotypes,
    reverse_complement,
    spell_reference,
)
from brainmt_align.data.region_shapes import RegionShape
from brainmt_align.data.regions import Region
from tests.gtf_files import exon, gene, write_gtf
from tests.haplotype_files import HEADER, SAMPLES, Variant, read_one, sequence_of, write_files

REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"


@pytest.mark.parametrize(
    ("variants", "expected", "key"),
    [
        ([(4, "A", ("*", "T"), "1|2")], "ACGTACGTAGGCCTTAACGA", "symbolic_skipped"),
        ([(4, "A", ("<INS>",), "1|0")], "ACGTACGTAGGCCTTAACGA", "symbolic_skipped"),
        ([(4, "A", ("A[1:20[",), "1|0")], "ACGTACGTAGGCCTTAACGA", "symbolic_skipped"),
        ([(1, "CGTA", ("C",), "1|0"), (3, "T", ("G",), "1|0")], "ACCGTAGGCCTTAACGA", "overlapping_skipped"),
    ],
)
def test_read_haplotypes_skips_and_counts_what_has_no_bases_or_overlaps(tmp_path, variants, expected, key):
    files = write_files(tmp_path, REFERENCE, [Variant(p, ref, alts, (call, "0|0")) for p, ref, alts, call in variants])
    region = read_one(files, 0, 20)
    assert sequence_of(region, "anna", 0) == expected
    assert region.counts[key] == 1


def test_read_haplotypes_skips_and_counts_a_deletion_that_does_not_say_where_it_ends(tmp_path):
    variants = [Variant(4, "A", ("<DEL>",), ("1|0", "0|0"), end) for end in (None, 5)]
    region = read_one(write_files(tmp_path, REFERENCE, variants), 0, 20)
    assert sequence_of(region, "anna", 0) == region.reference
    assert (region.counts["symbolic_skipped"], region.counts["alts_applied"]) == (2, 0)
    region = read_one(write_files(tmp_path, REFERENCE, [Variant(4, "A", ("<DEL>",), ("1|0", "0|0"), 7)]), 0, 20)
    assert sequence_of(region, "anna", 0) == REFERENCE[:5] + REFERENCE[7:20]
    assert (region.counts["symbolic_skipped"], region.counts["alts_applied"]) == (0, 1)


@pytest.mark.parametrize(("version", "length"), [("4.2", -3), ("4.4", 3)])
def test_read_haplotypes_takes_the_end_of_a_deletion_from_end_and_not_from_its_length(tmp_path, version, length):
    header = HEADER.replace("v4.2", f"v{version}") + '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="Length">\n'
    variants = [Variant(4, "A", ("<DEL>",), ("1|0", "0|0"), f".;SVLEN={length}")]
    lone = write_files(tmp_path, REFERENCE, variants, header=header)
    pysam_file = lone.genotypes.with_name("genotypes.vcf")
    pysam_file.write_text(pysam_file.read_text().replace("END=.;", ""))
    pysam.tabix_compress(str(pysam_file), str(lone.genotypes), force=True)
    pysam.tabix_index(str(lone.genotypes), preset="vcf", force=True)
    region = read_one(lone, 0, 20)
    assert (region.sequences, region.counts["symbolic_skipped"]) == ([REFERENCE[:20]], 1)
    assert read_one(lone, 6, 20).counts["variants"] == 0
    both = write_files(tmp_path, REFERENCE, [variants[0]._replace(end=f"7;SVLEN={length}")], header=header)
    assert sequence_of(read_one(both, 0, 20), "anna", 0) == REFERENCE[:5] + REFERENCE[7:20]


def test_read_haplotypes_skips_and_counts_symbolic_deletions_when_asked(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("<DEL>",), ("1|0", "1|1"), 7)])
    region = read_one(files, 0, 20, settings=HaplotypeSettings(symbolic="skip"))
    assert region.sequences == [REFERENCE[:20]]
    assert (region.counts["symbolic_skipped"], region.counts["alts_applied"]) == (3, 0)


def test_read_haplotypes_reverses_regions_on_the_minus_strand_when_asked(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("TR",), ("1|0", "0|0"))])
    with pytest.raises(ValueError, match=r"entry 0: region bare: a strand is needed, \+ or -, to read it in the direction"):
        read_haplotypes(*files, [("1", 2, 8, "bare")], settings=HaplotypeSettings(oriented="gene"))
    regions = [("1", 2, 8, "plus", "+"), ("1", 2, 8, "minus", "-")]
    plus, minus = read_haplotypes(*files, regions, settings=HaplotypeSettings(oriented="gene"))
    assert (plus.reference, sequence_of(plus, "anna", 0)) == ("GTACGT", "GTTRCGT")
    assert (minus.reference, sequence_of(minus, "anna", 0)) == ("ACGTAC", "ACGYAAC")
    np.testing.assert_array_equal(minus.index, plus.index)
    number = minus.index[0, 0]
    assert minus.lift_sites(number).tolist() == [len(minus.sequences[number]) - 1 - 2]


def test_read_haplotypes_joins_the_parts_of_a_region(tmp_path):
    variants = [
        Variant(3, "TACG", ("T",), ("1|0", "0|0")),  # runs over the first part's end
        Variant(9, "G", ("C",), ("1|1", "0|0")),  # between the parts
        Variant(14, "T", ("TAA",), ("0|1", "0|1")),
    ]
    files = write_files(tmp_path, REFERENCE, variants)
    exons = Region("1", 2, 18, "A", "-", ((2, 6), (12, 18)))
    (joined,) = read_haplotypes(*files, [exons])
    first, second = read_haplotypes(*files, [("1", 2, 6, "first"), ("1", 12, 18, "second")])
    for sample in SAMPLES:
        for h in (0, 1):
            assert sequence_of(joined, sample, h) == sequence_of(first, sample, h) + sequence_of(second, sample, h)
    assert joined.reference == REFERENCE[2:6] + REFERENCE[12:18]
    assert (joined.start, joined.end, joined.counts["alts_applied"]) == (2, 18, 3)
    assert len(joined.sequences) == len(set(joined.sequences)) == 3
    assert joined.sites.tolist() == [3, 14]
    assert joined.lift_sites(joined.index[0, 0]).tolist() == [1, 4 - 2 + 2]
    (reversed_,) = read_haplotypes(*files, [exons], settings=HaplotypeSettings(oriented="gene"))
    assert reversed_.reference == "GTTAAGGTAC"


def test_lift_sites_finds_the_reference_base_of_every_site_on_every_haplotype(tmp_path):
    variants = [
        Variant(2, "GTAC", ("G",), ("1|0", "0|0")),
        Variant(8, "A", ("T",), ("1|1", "1|0")),
        Variant(9, "G", ("GCC",), ("0|1", "0|0")),
        Variant(15, "A", ("C",), ("0|0", "0|0")),
    ]
    region = read_one(write_files(tmp_path, REFERENCE, variants), 1, 20)
    assert region.sites.tolist() == [2, 8, 9, 15]
    for number, sequence in enumerate(region.sequences):
        lifted = region.lift_sites(number)
        assert sequence[lifted[0]] == "G"
        assert sequence[lifted[3] - 1 : lifted[3] + 2] == REFERENCE[14:17]
        assert sequence[lifted[2]] == "G"
        np.testing.assert_array_equal(region.map_of(number).to_contig(lifted), region.sites)


def test_read_haplotypes_keeps_every_iupac_base(tmp_path):
    region = read_one(write_files(tmp_path, REFERENCE, [Variant(4, "A", ("acgtRYSWKMBDHVN",), ("1|0", "0|0"))]), 0, 6)
    assert sequence_of(region, "anna", 0) == "ACGTACGTRYSWKMBDHVNC"


@pytest.mark.parametrize("reference", ["CCACGTACGTACGTACGTAC", "ccacgtacgtacgtacgtac"])
def test_read_haplotypes_spells_a_touching_indel_alike_on_lower_and_upper_case_bases(tmp_path, reference):
    variants = [Variant(0, "CC", ("G",), ("1|0", "0|0")), Variant(1, "CA", ("CAAG",), ("1|0", "0|0"))]
    region = read_one(write_files(tmp_path, reference, variants), 0, 20)
    assert sequence_of(region, "anna", 0) == "GAAG" + reference[3:].upper()


def test_read_haplotypes_counts_alts_of_all_haplotypes(tmp_path):
    variants = [
        Variant(2, "GTAC", ("G",), ("1|0", "0|0")),
        Variant(8, "A", ("T",), ("1|1", "1|0")),
        Variant(9, "G", ("C",), ("0|0", "0|0")),
    ]
    region = read_one(write_files(tmp_path, REFERENCE, variants), 4, 20)
    counts = {key: number for key, number in region.counts.items() if number}
    assert counts == {"variants": 3, "alts_applied": 3, "outside_skipped": 1, "allele_vectors": 2}


def test_read_haplotypes_joins_allele_vectors_that_spell_one_string(tmp_path):
    reference = "GATTTACA" + "C" * 12
    variants = [Variant(1, "AT", ("A",), ("1|0", "0|0")), Variant(3, "TT", ("T",), ("0|1", "0|0"))]
    region = read_one(write_files(tmp_path, reference, variants), 0, 12)
    assert region.sequences == ["GATTACA" + "C" * 4, "GATTTACA" + "C" * 4]
    assert region.index.tolist() == [[0, 0], [1, 1]]
    assert region.index.dtype == np.int32


def test_read_haplotypes_puts_a_haploid_call_on_both_haplotypes(tmp_path):
    region = read_one(write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("1", "0|1"))]), 0, 6)
    assert [sequence_of(region, "anna", h) for h in (0, 1)] == ["ACGTTC", "ACGTTC"]
    assert [sequence_of(region, "ben", h) for h in (0, 1)] == ["ACGTAC", "ACGTTC"]


def test_read_haplotypes_upper_cases_reference_and_alleles(tmp_path):
    region = read_one(write_files(tmp_path, REFERENCE.lower(), [Variant(4, "a", ("t",), ("1|0", "0|0"))]), 0, 6)
    assert region.reference == "ACGTAC"
    assert sequence_of(region, "anna", 0) == "ACGTTC"


def test_read_haplotypes_follows_the_policies(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("0/1", ".|1")), Variant(5, "C", ("G",), ("1/1", "0|0"))])

    def sequences(**policies):
        region = read_one(files, 2, 6, **policies)
        return [sequence_of(region, sample, h) for sample in SAMPLES for h in (0, 1)]

    assert sequences(unphased="as_written", missing="reference") == ["GTAG", "GTTG", "GTAC", "GTTC"]
    assert sequences(unphased="skip", missing="N") == ["GTAG", "GTAG", "GTNC", "GTTC"]


def test_read_haplotypes_carries_strand_window_and_order_of_samples(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("1|0", "0|0"))])
    (region,) = read_haplotypes(*files, [("1", 2, 8, "A", "-")], samples=["ben", "anna"], window=4)
    assert (region.name, region.contig, region.start, region.end, region.strand) == ("A", "1", 3, 7, "-")
    assert region.samples == ["ben", "anna"]
    assert sequence_of(region, "anna", 0) == "TTCG"


def test_read_haplotypes_cuts_the_window_at_the_contigs_end(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("1|0", "0|0"))])
    (region,) = read_haplotypes(*files, [("1", 22, 30, "A")], window=16)
    assert (region.start, region.end, region.reference) == (18, 30, REFERENCE[18:])


def test_list_regions_names_what_read_haplotypes_reads(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("1|0", "0|0"))])
    for regions, window in (([("1", 22, 30, "A"), ("1", 2, 8, "B", "-")], 16), ([("1", 0, 8, "A")], None)):
        read = list(read_haplotypes(*files, regions, window=window))
        assert [region[:5] for region in list_regions(*files, regions, window=window)] == [
            (each.contig, each.start, each.end, each.name, each.strand) for each in read
        ]
    with pytest.raises(ValueError, match="unphased must be one of"):
        list_regions(*files, regions, unphased="guess")


def test_read_haplotypes_exchanges_chr_and_logs_it(tmp_path, caplog):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("1|0", "0|0"))], contigs=("chr1", "1"))
    with caplog.at_level(logging.INFO):
        assert sequence_of(read_one(files, 2, 6), "anna", 0) == "GTTC"
    assert "Contig 1 is read as chr1 of" in caplog.text


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        (
            "AGC",
            r"at 2 of 3 variants: 1:6 \(REF G, FASTA C\), 1:7 \(REF C, FASTA G\)(.|\n)*fix: give the FASTA of the genome build",
        ),
        (
            "ACC",
            r"at 1 of 3 variants: 1:7 \(REF C, FASTA G\)(.|\n)*fix: make sure that .* build .*; if it is, repair these "
            r"records.*or leave them out with data\.mismatch=skip\.",
        ),
    ],
)
def test_read_haplotypes_refuses_refs_that_differ_from_the_fasta(tmp_path, refs, message):
    variants = [Variant(4 + i, ref, ("T",), ("0|0", "0|0")) for i, ref in enumerate(refs)]
    with pytest.raises(ValueError, match=f"REF differs from the FASTA {message}"):
        read_one(write_files(tmp_path, REFERENCE, variants), 2, 20)


def test_read_haplotypes_leaves_records_of_other_ref_out_when_asked(tmp_path):
    sites = [Variant(4, "A", ("T",), ("1|0", "0|0")), Variant(6, "G", ("A",), ("0|0", "0|1"))]
    damaged = [Variant(5, "G", ("GG",), ("1|1", "0|1")), Variant(7, "TC", ("T",), ("1/0", "0|."))]
    settings = HaplotypeSettings(mismatch="skip")
    expected = read_one(write_files(tmp_path, REFERENCE, sites), 2, 20)
    region = read_one(write_files(tmp_path, REFERENCE, sorted(sites + damaged)), 2, 20, settings=settings)
    assert (region.sequences, region.index.tolist()) == (expected.sequences, expected.index.tolist())
    assert region.counts == expected.counts | {"mismatch_skipped": 2}
    assert describe_counts(region.counts) == "Records left out, since their REF is not the FASTA's: 2."


def test_read_haplotypes_refuses_another_build_also_where_single_records_are_skipped(tmp_path):
    variants = [Variant(at, "A", ("T",), ("1|0", "0|0")) for at in range(30)] + [Variant(30, "C", ("T",), ("1|0", "0|0"))]
    files, settings = write_files(tmp_path, "C" * 40, variants), HaplotypeSettings(mismatch="skip")
    assert read_one(files, 0, 30, settings=settings).counts["mismatch_skipped"] == 30
    regions = read_haplotypes(*files, [("1", 0, 20, "A"), ("1", 20, 31, "B")], settings=settings)
    next(regions)
    with pytest.raises(
        ValueError, match=r"up to region B \(1:21-31\), got:\n  - REF is the FASTA's at 1 of 31 variants; at least 50"
    ):
        next(regions)


def test_read_haplotypes_takes_half_calls_for_missing_on_the_haplotype_that_lacks_its_allele(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("1|.", ".|0"))])
    with pytest.raises(ValueError, match=r"2 of 2 genotypes are missing in whole or part; the first is 1\|\. of anna at 1:5"):
        read_one(files, 2, 8)
    for missing, spelled in (("reference", "A"), ("N", "N")):
        region = read_one(files, 2, 8, missing=missing)
        letters = [sequence_of(region, sample, haplotype)[2] for sample in SAMPLES for haplotype in (0, 1)]
        assert letters == ["T", spelled, spelled, "A"]
        assert region.counts["missing"] == 2


@pytest.mark.parametrize(("missing", "spelled"), [("N", "N"), ("reference", "A")])
def test_read_haplotypes_skips_the_called_allele_of_a_half_call_without_phase_and_not_the_missing_one(tmp_path, missing, spelled):
    files = write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("./1", "1/."))])
    region = read_one(files, 2, 8, missing=missing, unphased="skip")
    letters = [sequence_of(region, sample, haplotype)[2] for sample in SAMPLES for haplotype in (0, 1)]
    assert letters == [spelled, "A", "A", spelled]
    assert (region.counts["unphased"], region.counts["missing"]) == (2, 2)


def test_read_haplotypes_refuses_alts_of_other_letters_than_bases(tmp_path):
    variants = [Variant(4, "A", ("T", "<INS>", "GQ"), ("1|0", "0|0")), Variant(5, "C", ("X",), ("0|0", "0|0"))]
    message = (
        r"ALT holds other letters than IUPAC bases in 2 of 3 alleles; the first is GQ at 1:5(.|\n)*fix: repair or drop these"
    )
    with pytest.raises(ValueError, match=message):
        read_one(write_files(tmp_path, REFERENCE, variants), 2, 20)


def test_read_haplotypes_lists_all_faults_of_a_region_together(tmp_path):
    calls = (("0/1", "1/0"), ("0|0", "1|."), ("0|0", "1/1"))
    variants = [Variant(4 + i, ref, ("T",), calls[i]) for i, ref in enumerate("ACC")]
    with pytest.raises(ValueError, match=r"in region A \(1:3-20\), got:") as caught:
        read_one(write_files(tmp_path, REFERENCE, variants), 2, 20)
    assert "set data.unphased=as_written or skip" in str(caught.value)
    for line in (
        "  - REF differs from the FASTA at 1 of 3 variants",
        "  - 2 of 6 genotypes are heterozygous without phase; the first is 0/1 of anna at 1:5",
        "  - 1 of 6 genotypes are missing in whole or part; the first is 1|. of ben at 1:6",
    ):
        assert line in str(caught.value)


def test_read_haplotypes_takes_calls_of_another_phase_set_for_unphased(tmp_path):
    calls = (("0|1:5", "0|1:5"), ("1|0:5", "1|0:7"), ("0|1:9", "1|1:9"), ("0/1:.", "0|0:."))
    variants = [Variant(4 + i, ref, ("T",), calls[i]) for i, ref in enumerate("ACGG")]
    reference = REFERENCE.replace("ACGTACGT", "ACGTACGG")
    files = write_files(tmp_path, reference, variants)
    what = r"2 of 8 genotypes are of another phase set \(FORMAT/PS\) .*; the first is 0\|1 of anna at 1:7\n(.|\n)*fix: .*join the"
    with pytest.raises(ValueError, match=what):
        read_one(files, 2, 10)
    skipped = read_one(files, 2, 10, unphased="skip")
    assert [sequence_of(skipped, "anna", h) for h in (0, 1)] == ["GTATGGAG", "GTTCGGAG"]
    assert [sequence_of(skipped, "ben", h) for h in (0, 1)] == ["GTACTGAG", "GTTCTGAG"]
    assert skipped.counts["unphased"] == 3
    assert sequence_of(read_one(files, 2, 10, unphased="as_written"), "anna", 1) == "GTTCTTAG"


def test_read_haplotypes_does_not_ask_for_the_phase_set_of_records_from_before_the_region(tmp_path):
    variants = [Variant(3, "TAC", ("T",), ("0|1:4", "0|0:.")), Variant(6, "G", ("T",), ("1|0:7", "0|0:."))]
    region = read_one(write_files(tmp_path, REFERENCE, variants), 5, 8)
    assert sequence_of(region, "anna", 0) == "CTT"
    assert (region.counts["unphased"], region.counts["outside_skipped"]) == (0, 1)


def test_read_haplotypes_takes_one_phase_set_for_all_joined_parts(tmp_path):
    calls = (("0|1:4", "0|1:4"), ("1|0:13", "1|1:13"), ("0|1:13", "1|0:4"))
    variants = [Variant(at, REFERENCE[at], ("N",), own) for at, own in zip((3, 12, 14), calls, strict=True)]
    files, exons = write_files(tmp_path, REFERENCE, variants), Region("1", 2, 18, "A", "+", ((2, 6), (12, 18)))
    what = r"in region A \(1:3-6\), got:\n  - 1 of 2 genotypes are of another phase set .*; the first is 0\|1 of anna at 1:4\n"
    with pytest.raises(ValueError, match=what):
        list(read_haplotypes(*files, [exons]))
    with pytest.raises(ValueError, match=r"A \(1:3-6\): 1 of 2 genotypes are of another phase set"):
        check_genotypes(*files, [exons])
    settings = HaplotypeSettings(cache=tmp_path / "alleles")
    apart = [("1", 2, 6, "first"), ("1", 12, 18, "second")]
    for _ in range(2):
        (joined,) = read_haplotypes(*files, [exons], unphased="skip", settings=settings)
        assert [sequence_of(joined, "anna", h) for h in (0, 1)] == ["GTACNTTAAC", "GTACCTNAAC"]
        assert [sequence_of(joined, "ben", h) for h in (0, 1)] == ["GTACNTNAAC", "GNACNTTAAC"]
        assert joined.counts["unphased"] == 1
        (row,) = check_genotypes(*files, [exons], unphased="skip", settings=settings).regions.to_dict("records")
        assert (row["heterozygous"], row["phase_rate"]) == (5, 4 / 5)
        first, _ = read_haplotypes(*files, apart, unphased="skip", settings=settings)  # of the same bases, each by itself
        assert [sequence_of(first, "anna", h) for h in (0, 1)] == ["GTAC", "GNAC"]


def test_read_haplotypes_asks_nothing_of_calls_from_before_the_region(tmp_path):
    variants = [Variant(3, "TAC", ("T", "TX"), ("0/1", ".|0")), Variant(6, "G", ("T",), ("1|0", "0|0"))]
    files = write_files(tmp_path, REFERENCE, variants)
    region = read_one(files, 5, 8)
    assert [sequence_of(region, "anna", h) for h in (0, 1)] == ["CTT", "CGT"]
    counted = {key: region.counts[key] for key in ("variants", "unphased", "missing", "outside_skipped")}
    assert counted == {"variants": 2, "unphased": 0, "missing": 0, "outside_skipped": 1}
    assert read_one(files, 5, 8, missing="N").sequences == region.sequences
    report = check_genotypes(*files, [("1", 5, 8, "A")])
    assert report.regions[["genotypes", "heterozygous", "phase_rate", "missing_rate"]].to_numpy().tolist() == [[2, 1, 1, 0]]
    assert report.people.to_numpy().tolist() == [["anna", 1, 0, 0.0], ["ben", 1, 0, 0.0]]


def test_describe_counts_names_what_is_left_out_and_only_that(tmp_path):
    variants = [
        Variant(2, "GTAC", ("G",), ("1|1", "0|1")),
        Variant(7, "T", ("<INS>",), ("1|0", "0|0")),
        Variant(8, "AGG", ("A",), ("1|0", "0|0")),
        Variant(9, "G", ("C",), ("1|0", "0|0")),
    ]
    files = write_files(tmp_path, REFERENCE, variants)
    assert describe_counts(read_one(files, 4, 20).counts) == (
        "ALT alleles left out, as bcftools consensus does: 3 of records that begin before their region, even where they reach "
        "into it; 1 symbolic; 1 overlapping one before them."
    )
    assert describe_counts(read_one(files, 12, 20).counts) is None


def test_read_haplotypes_says_what_made_a_region(tmp_path):
    files = write_files(tmp_path, "NNNN" + REFERENCE[4:], [Variant(5, "C", ("T",), ("1|0", "0|0"))])
    (region,) = read_haplotypes(*files, [("1", 0, 8, "A")], unphased="skip", missing="N", window=6)
    assert (region.unphased, region.missing, region.window) == ("skip", "N", 6)
    assert region.counts["unknown_bases"] == 3


def test_read_haplotypes_refuses_unknown_policies():
    with pytest.raises(ValueError, match="unphased must be one of error, as_written, skip, got 'ignore'"):
        read_haplotypes("a", "b", [], unphased="ignore")
    with pytest.raises(ValueError, match="missing must be one of error, reference, N, got 'ignore'"):
        read_haplotypes("a", "b", [], missing="ignore")


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path, REFERENCE, [Variant(4, "A", ("T",), ("1|0", "0|0"))])


def test_read_haplotypes_checks_everything_but_genotypes_at_the_call(files):
    with pytest.raises(ValueError, match=r"1:25-31 runs over the contig's end at 30(.|\n)*file: the list of regions"):
        read_haplotypes(*files, [("1", 25, 31, "A")])
    bed = files.reference.with_name("genes.bed")
    bed.write_text("# mine\n1\t2\t3\n1\t25\t31\n")
    with pytest.raises(ValueError, match=r"  - line 3: 1:25-31 runs over the contig's end(.|\n)*  file: .*genes\.bed"):
        read_haplotypes(*files, bed)
    with pytest.raises(ValueError, match=r"  - contig 2 \(regions: A\) is not in the FASTA\n(.|\n)*  file: .*reference.fa"):
        read_haplotypes(*files, [("2", 2, 3, "A")])
    with pytest.raises(FileNotFoundError, match=r"a FASTA is expected, got no such file(.|\n)*fix: set data.reference"):
        read_haplotypes(files.genotypes, files.reference.with_name("absent.fa"), [("1", 2, 3, "A")])
    with pytest.raises(ValueError, match=r"1 of 1 samples are not in the file, e\.g\. zoe"):
        read_haplotypes(*files, [("1", 2, 3, "A")], samples=["zoe"])


def test_read_haplotypes_never_makes_an_index_in_the_users_folder(files):
    index = Path(f"{files.reference}.fai")
    index.unlink()
    with pytest.raises(FileNotFoundError, match=r"got none \(.fai\) beside it(.|\n)*fix: samtools faidx .*reference.fa"):
        read_haplotypes(*files, [("1", 2, 3, "A")])
    assert not index.exists()


def test_read_haplotypes_refuses_a_gzipped_reference(files, tmp_path):
    plain_gzip = tmp_path / "reference.fa.gz"
    with gzip.open(plain_gzip, "wt") as file:
        file.write(files.reference.read_text())
    for suffix in (".fai", ".gzi"):
        Path(f"{plain_gzip}{suffix}").write_bytes(Path(f"{files.reference}.fai").read_bytes())
    with pytest.raises(ValueError, match="a FASTA, plain or bgzipped, is expected, got a file that cannot be opened"):
        read_haplotypes(files.genotypes, plain_gzip, [("1", 2, 3, "A")])


def test_read_haplotypes_reads_genotypes_once_where_there_is_a_cache(files, tmp_path, monkeypatch):
    settings = HaplotypeSettings(cache=tmp_path / "alleles")
    regions = [("1", 0, 20, "A"), Region("1", 2, 18, "B", "-", ((2, 6), (12, 18)))]
    first = check_genotypes(*files, regions, settings=settings)
    pd.testing.assert_frame_equal(first.regions, check_genotypes(*files, regions).regions)
    plain = list(read_haplotypes(*files, regions))
    monkeypatch.setattr(VCFReader, "read", lambda *_: pytest.fail("genotypes are read"))
    for a, b in zip(read_haplotypes(*files, regions, settings=settings), plain, strict=True):
        assert (a.sequences, a.index.tolist(), a.counts) == (b.sequences, b.index.tolist(), b.counts)
        assert [a.lift_sites(i).tolist() for i in range(len(a.sequences))] == [
            b.lift_sites(i).tolist() for i in range(len(b.sequences))
        ]
    again = check_genotypes(*files, regions, settings=settings)
    assert again.notes == first.notes
    pd.testing.assert_frame_equal(again.regions, first.regions)
    pd.testing.assert_frame_equal(again.people, first.people)


@pytest.mark.parametrize("key", ["symbolic", "oriented", "mismatch", "undecided"])
def test_read_haplotypes_refuses_unknown_settings(files, key):
    with pytest.raises(ValueError, match=rf"Haplotypes: {key} must be one of .*, got 'guess'"):
        read_haplotypes(*files, [("1", 0, 9, "A")], settings=HaplotypeSettings(**{key: "guess"}))


def test_read_haplotypes_joins_exons_of_a_gtf_in_the_direction_of_their_genes(tmp_path):
    variants = [
        Variant(3, "T", ("C",), ("1|0", "0|0")),  # in the first exon
        Variant(8, "A", ("G",), ("1|1", "1|1")),  # in the intron
        Variant(14, "T", ("TAA",), ("0|1", "1|0")),  # in the last exon
        Variant(18, "G", ("C",), ("0|1", "0|0")),  # right of it, in a flank
    ]
    files = write_files(tmp_path, REFERENCE, variants)
    parts = ((3, 6), (13, 18))  # 1-based, both ends in them
    lines = [exon(name, f"T{name}", *part, strand=strand) for name, strand in (("P", "+"), ("M", "-")) for part in parts]
    gtf = write_gtf(tmp_path / "a.gtf", gene("P", "PLUS", 2, 20), gene("M", "MINUS", 2, 20, "-"), *lines)
    settings = HaplotypeSettings(oriented="gene", shape=RegionShape("exons", (2, 1)))
    assert [region.bases for region in list_regions(*files, gtf, settings=settings)] == [13, 13]
    assert check_genotypes(*files, gtf, settings=settings).regions["bases"].tolist() == [13, 13]
    plus, minus = read_haplotypes(*files, gtf, settings=settings)
    assert (plus.parts, minus.parts) == (((0, 6), (12, 19)), ((1, 6), (12, 20)))
    assert plus.reference == "ACGTAC" + "CTTAACG"  # two bases upstream, one downstream
    assert minus.reference == "TCGTTAAG" + "GTACG"  # from the right: CTTAACGA and CGTAC of the plus strand
    own = {(sample, h): sequence_of(plus, sample, h) for sample in SAMPLES for h in (0, 1)}
    assert own == {
        ("anna", 0): "ACGCACCTTAACG",
        ("anna", 1): "ACGTACCTTAAAACC",
        ("ben", 0): "ACGTACCTTAAAACG",
        ("ben", 1): "ACGTACCTTAACG",
    }
    own = {(sample, h): sequence_of(minus, sample, h) for sample in SAMPLES for h in (0, 1)}
    assert own == {
        ("anna", 0): "TCGTTAAGGTGCG",
        ("anna", 1): "TGGTTTTAAGGTACG",
        ("ben", 0): "TCGTTTTAAGGTACG",
        ("ben", 1): "TCGTTAAGGTACG",
    }


@pytest.mark.parametrize("oriented", ["plus", "gene"])
def test_spell_reference_gives_the_reference_that_haplotypes_have(files, oriented):
    regions = [("1", 2, 9, "A", "-"), Region("1", 2, 18, "B", "-", ((2, 6), (12, 18))), ("1", 1, 5, "C", "+")]
    read = read_haplotypes(*files, regions, settings=HaplotypeSettings(oriented=oriented))
    with HaplotypeSources(*files, regions) as sources:
        assert [spell_reference(region, sources, oriented) for region in sources.regions] == [each.reference for each in read]


def test_reverse_complement_is_its_own_inverse():
    assert reverse_complement("ACGTRYSWKMBDHVN") == "NBDHVKMWSRYACGT"
    assert reverse_complement(reverse_complement("ACGTRYSWKMBDHVN")) == "ACGTRYSWKMBDHVN"


def test_read_haplotypes_reads_upstream_of_a_real_gene_on_the_minus_strand(real_dir, tmp_path):
    folder = real_dir / "genotypes_chr20_b37"
    files = folder / "cohortA_300.phased.vcf.gz", folder / "chr20_1-2Mb.padded.fa.gz"
    gtf = write_gtf(tmp_path / "a.gtf", gene("ENSG00000101327.4", "PDYN", 1_959_401, 1_974_931, "-", contig="chr20"))
    fetched = pysam.FastaFile(str(files[1])).fetch("20", 1_974_931 - 30, 1_974_931 + 500).upper()
    by_hand = "".join({"A": "T", "C": "G", "G": "C", "T": "A"}[base] for base in reversed(fetched))
    settings = HaplotypeSettings(oriented="gene", shape=RegionShape("tss", (500, 30)))
    (region,) = read_haplotypes(*files, gtf, settings=settings)
    assert (region.start, region.end, region.reference) == (1_974_901, 1_975_431, by_hand)
    whole = settings._replace(shape=RegionShape(flanks=(500, 0)))
    (region,) = read_haplotypes(*files, gtf, ["HG00096"], settings=whole)
    assert (region.start, region.end, region.reference[:530]) == (1_959_400, 1_975_431, by_hand)

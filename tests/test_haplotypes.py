"""Tests of the room `haplotypes`: what each kind of record does to a sequence, what is counted, and every refusal."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from brainmt_align.data.haplotypes import describe_counts, list_regions, read_haplotypes
from tests.haplotype_files import SAMPLES, Variant, read_one, sequence_of, write_files

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
    assert counts == {"variants": 3, "alts_applied": 3, "outside_skipped": 1}


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
        assert [tuple(region) for region in list_regions(*files, regions, window=window)] == [
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
            r"at 1 of 3 variants: 1:7 \(REF C, FASTA G\)(.|\n)*fix: make sure that .* build .*; if it is, repair these records",
        ),
    ],
)
def test_read_haplotypes_refuses_refs_that_differ_from_the_fasta(tmp_path, refs, message):
    variants = [Variant(4 + i, ref, ("T",), ("0|0", "0|0")) for i, ref in enumerate(refs)]
    with pytest.raises(ValueError, match=f"REF differs from the FASTA {message}"):
        read_one(write_files(tmp_path, REFERENCE, variants), 2, 20)


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

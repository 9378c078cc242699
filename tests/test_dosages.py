"""Room under test: brainmt_align/data/dosages.py. Counts equal those of a loop over calls; gaps are filled and counted."""

import numpy as np
import pysam
import pytest

from brainmt_align.data.dosages import read_dosages
from brainmt_align.data.genotypes_vcf import VCFReader
from brainmt_align.data.region_shapes import RegionShape
from tests.gtf_files import exon, gene, write_gtf
from tests.haplotype_files import SAMPLES, Variant, write_files

REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"
VARIANTS = [
    Variant(2, "G", ("A",), ("0|1", "1|1")),
    Variant(5, "C", ("T", "CA"), ("1|2", "2|2")),
    Variant(8, "AG", ("A",), ("0/1", "0|0")),
    Variant(12, "C", ("G",), ("./1", "1|1")),
    Variant(20, "T", ("A",), ("1", "0|1")),
    Variant(25, "T", ("C",), (".|.", ".|.")),
]


def by_hand(path, start, end):
    """name → ALT counts by pysam alone, NaN where a call lacks an allele; a single allele counts twice."""
    counts = {}
    with pysam.VariantFile(str(path)) as file:
        for record in file.fetch("1", start, end):
            for number, alt in enumerate(record.alts, 1):
                calls = [record.samples[name]["GT"] for name in SAMPLES]
                counts[f"1:{record.pos}:{record.ref}:{alt}"] = [
                    np.nan if None in call else call.count(number) * 2 / len(call) for call in calls
                ]
    return counts


@pytest.mark.parametrize(("start", "end"), [(0, 24), (2, 3), (9, 30), (4, 13)])
def test_read_dosages_counts_alt_alleles_as_a_loop_over_calls_does(tmp_path, start, end):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    expected = {name: each for name, each in by_hand(files.genotypes, start, end).items() if not np.isnan(each).all()}
    got = read_dosages(files.genotypes, [("1", start, end, "A")], max_missing=0.5, min_frequency=0)
    assert got.left_out_rare == 0
    assert got.variants == list(expected) and got.samples == list(SAMPLES) and got.dosage_NV.dtype == np.float32
    for at, values in enumerate(expected.values()):
        np.testing.assert_array_equal(got.dosage_NV[:, at], np.where(np.isnan(values), np.nanmean(values), values))
        assert got.missing_V[at] == np.isnan(values).sum()


def test_read_dosages_leaves_out_and_counts_alleles_with_too_many_gaps(tmp_path):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    got = read_dosages(files.genotypes, [("1", 0, 30, "A")])
    assert got.left_out == 2 and got.left_out_rare == 0 and not got.missing_V.any()
    assert not {"1:13:C:G", "1:26:T:C"} & set(got.variants)


FIFTY = tuple(f"s{number}" for number in range(50))


def copies(number):
    """Calls of fifty people with that many copies of the ALT allele among them."""
    return tuple(f"{int(at < number)}|{int(at + 50 < number)}" for at in range(50))


@pytest.mark.parametrize(
    ("least", "kept"), [(0, [0, 1, 7, 50, 99, 100]), (0.01, [1, 7, 50, 99]), (0.07, [7, 50]), (0.0701, [50]), (0.5, [50])]
)
def test_read_dosages_leaves_out_alleles_rarer_than_the_least_frequency_among_the_samples(tmp_path, monkeypatch, least, kept):
    monkeypatch.setattr("tests.haplotype_files.SAMPLES", FIFTY)
    number_of = {2: 0, 3: 1, 4: 7, 5: 50, 6: 99, 7: 100}
    variants = [Variant(at, REFERENCE[at], ("N",), copies(number)) for at, number in number_of.items()]
    files = write_files(tmp_path, REFERENCE, variants)
    got = read_dosages(files.genotypes, [("1", 0, 30, "A"), ("1", 1, 20, "B")], min_frequency=least)
    np.testing.assert_array_equal(got.dosage_NV.sum(0), kept)
    assert got.left_out_rare == 6 - len(kept) and got.left_out == 0 and len(got.variants) == len(got.missing_V) == len(kept)
    # One copy is 0.01 of fifty people's alleles, but a quarter of two people's.
    two = read_dosages(files.genotypes, [("1", 3, 4, "A")], samples=["s0", "s1"], min_frequency=0.25)
    assert two.variants == ["1:4:T:N"]


def test_read_dosages_counts_a_record_of_two_regions_once_and_keeps_the_order_of_samples(tmp_path):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    bed = tmp_path / "regions.bed"
    bed.write_text("chr1\t0\t9\tA\nchr1\t4\t24\tB\n")
    got = read_dosages(files.genotypes, bed, samples=["ben", "anna"])
    assert got.variants == ["1:3:G:A", "1:6:C:T", "1:6:C:CA", "1:9:AG:A", "1:21:T:A"]
    np.testing.assert_array_equal(got.dosage_NV, [[2, 0, 2, 0, 1], [1, 1, 1, 1, 2]])


def test_read_dosages_takes_expected_copies_where_a_file_holds_them(tmp_path, monkeypatch):
    files = write_files(tmp_path, REFERENCE, VARIANTS[:3])
    expected = np.array([[0.25, 1.5, np.nan], [1.75, 0.5, 0.125]], dtype=np.float32)
    read = VCFReader.read
    monkeypatch.setattr(VCFReader, "read", lambda *args: read(*args)._replace(dosages=expected))
    got = read_dosages(files.genotypes, [("1", 0, 30, "A")], max_missing=0.5)
    assert got.variants == ["1:3:G:A", "1:6:C:T", "1:6:C:CA", "1:9:AG:A"]
    np.testing.assert_array_equal(got.dosage_NV, np.float32([[0.25, 1, 1, 0.125], [1.75, 0, 2, 0.125]]))
    assert got.missing_V.tolist() == [0, 0, 0, 1]
    assert read_dosages(files.genotypes, [("1", 0, 9, "A")], max_missing=0.5, min_frequency=0.1).left_out_rare == 1


def test_read_dosages_refuses_what_leaves_nothing_to_count(tmp_path):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    with pytest.raises(ValueError, match=r"expected ALT alleles in the regions, got none \(1 left out for more than 10%"):
        read_dosages(files.genotypes, [("1", 24, 30, "A")])
    with pytest.raises(ValueError, match=r"got none \(0 left out for .* missing calls, 1 for a minor allele below 0\.01\)"):
        read_dosages(files.genotypes, [("1", 12, 13, "A")], max_missing=0.5)
    with pytest.raises(ValueError, match=r"least frequency of the minor allele from 0 to 0\.5, got 1"):
        read_dosages(files.genotypes, [("1", 0, 30, "A")], min_frequency=1)
    with pytest.raises(ValueError, match=r"share of missing calls from 0 to below 1, got 1\.5"):
        read_dosages(files.genotypes, [("1", 0, 30, "A")], max_missing=1.5)
    with pytest.raises(ValueError, match="Contig 7 is not in the file"):
        read_dosages(files.genotypes, [("7", 0, 30, "A")])


def test_describe_counts_what_was_read_and_left_out(tmp_path):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    got = read_dosages(files.genotypes, [("1", 0, 30, "A")])
    told = f"{len(got.variants)} dosages; {got.left_out_rare} of rare alleles and {got.left_out} of others are left out"
    assert got.describe() == told and got.left_out > 0


def test_read_dosages_counts_what_the_shape_reads_alone(tmp_path):
    files = write_files(tmp_path, REFERENCE, VARIANTS)
    gtf = write_gtf(tmp_path / "a.gtf", gene("E", "A", 1, 30), exon("E", "T", 1, 6), exon("E", "T", 13, 18))
    settings = {"max_missing": 0.5, "min_frequency": 0}
    joined = read_dosages(files.genotypes, gtf, shape=RegionShape("exons"), **settings)
    pieces = read_dosages(files.genotypes, [("1", 0, 6, "first"), ("1", 12, 18, "second")], **settings)
    np.testing.assert_array_equal(joined.dosage_NV, pieces.dosage_NV)
    assert joined.variants == pieces.variants
    assert len(joined.variants) < len(read_dosages(files.genotypes, gtf, **settings).variants)

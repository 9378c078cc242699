"""Tests of the room `genotype_tally`: records of each kind and calls of each kind are counted."""

import numpy as np
import pysam

from brainmt_align.data.genotype_tally import tally_calls
from brainmt_align.data.genotypes_vcf import VCFReader
from brainmt_align.data.regions import Region
from tests.haplotype_files import Variant, write_files

REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"


def tally(folder, *variants: Variant):
    with VCFReader(write_files(folder, REFERENCE, list(variants)).genotypes) as reader:
        return tally_calls(Region("1", 0, 30, "A"), reader.read("1", 0, 30))


def test_tally_calls_counts_records_by_kind(tmp_path):
    calls = ("0|0", "0|0")
    kinds = [("A", ("T",)), ("CG", ("TA",)), ("C", ("T", "CA")), ("G", ("<DEL>",)), ("T", ("A", "*")), ("ACG", ("A",))]
    found = tally(tmp_path, *(Variant(4 * at, ref, alts, calls) for at, (ref, alts) in enumerate(kinds)))
    expected = {"variants": 6, "snps": 3, "indels": 2, "multiallelic": 2, "symbolic": 2}
    assert {key: found.counts[key] for key in expected} == expected


def test_tally_calls_counts_half_calls_as_missing_and_phase_of_heterozygotes_alone(tmp_path):
    calls = [("0|1", "0|."), ("0/1", "./."), ("1/1", "1"), ("1|0", ".|1"), ("0/.", "0/0")]
    found = tally(tmp_path, *(Variant(4 * at, REFERENCE[4 * at], ("T",), each) for at, each in enumerate(calls)))
    expected = {"genotypes": 10, "heterozygous": 3, "phased": 2, "missing": 4}
    assert {key: found.counts[key] for key in expected} == expected
    assert found.missing_S.tolist() == [1, 3] and found.missing_S.dtype == np.int32


def test_tally_calls_takes_other_phase_sets_for_unphased(tmp_path):
    calls = ("0|1:7", "0|1:7", "1|0:9")
    found = tally(tmp_path, *(Variant(4 * at, REFERENCE[4 * at], ("T",), (call, "0|0:.")) for at, call in enumerate(calls)))
    assert (found.counts["heterozygous"], found.counts["phased"]) == (3, 2)


def test_tally_calls_equals_pysams_own_genotypes_of_real_people(real_dir):
    path = real_dir / "genotypes_chr20_b37" / "cohortA_300.phased.vcf.gz"
    with VCFReader(path) as reader:
        found = tally_calls(Region("20", 1_161_213, 1_188_918, "A"), reader.read("20", 1_161_213, 1_188_918))
    with pysam.VariantFile(str(path)) as file:
        records = list(file.fetch("20", 1_161_213, 1_188_918))
        calls = [call for record in records for call in record.samples.values()]
        heterozygous = [call for call in calls if call["GT"][0] != call["GT"][1]]
        assert found.counts["variants"] == len(records)
        assert found.counts["snps"] == sum(len(record.ref) == len(record.alts[0]) == 1 for record in records)
        assert found.counts["heterozygous"] == len(heterozygous) == found.counts["phased"]

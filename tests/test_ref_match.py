"""Tests of the room `ref_match`: records that are shifted, swapped, of the other strand or another build are told apart."""

import random

import numpy as np
import pytest

from brainmt_align.data.alleles import Alleles
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.ref_match import SHIFTS, compare_refs, count_refs, likely_cause
from brainmt_align.data.regions import Region
from tests.haplotype_files import Files, Variant, read_one, write_files

CALLS = ("0|1", "0|0")
OTHER = {"A": "C", "C": "A", "G": "T", "T": "G"}  # not the complement
COMPLEMENT = {"A": "T", "T": "A", "C": "G", "G": "C"}
REFERENCE = "".join(random.Random(0).choices("ACGT", k=400))
SITES = range(10, 390, 7)  # 55 of them


def make_alleles(positions: list[int], refs: list[str], alts: list[tuple[str, ...]]) -> Alleles:
    flags = np.ones((1, len(refs)), dtype=bool)
    numbers = np.zeros((1, 2, len(refs)), dtype=np.int8)
    at = np.array(positions, dtype=np.int64)
    stops = at + [len(ref) for ref in refs]
    return Alleles(at, stops, refs, alts, ["."] * len(refs), numbers, flags, ~flags, ["anna"])


def write_faulty(folder, shift: int = 0, letters=lambda base: (base, OTHER[base]), sites=SITES) -> Files:
    """Records at true sites, each position raised by `shift` and its REF and ALT as `letters` gives them."""
    variants = []
    for site in sites:
        ref, alt = letters(REFERENCE[site])
        variants.append(Variant(site + shift, ref, (alt,), CALLS))
    return write_files(folder, REFERENCE, variants)


def test_count_refs_equals_a_naive_count_and_is_a_sum_over_regions():
    draw = random.Random(1)
    fasta = "".join(draw.choices("ACGTN", [9, 9, 9, 9, 1], k=300))
    positions = sorted(draw.sample(range(299), 120))
    refs = [fasta[at : at + 2] if draw.random() < 0.2 else draw.choice("ACGT") for at in positions]
    alts = [(draw.choice("ACGT"), "<DEL>") for _ in positions]
    whole, padded = make_alleles(positions, refs, alts), f"NNN{fasta}NNN"

    def count(start: int, end: int) -> dict[str, int]:
        region = Region("1", start, end, "A")
        inside = [n for n, (at, ref) in enumerate(zip(positions, refs, strict=True)) if at < end and at + len(ref) > start]
        part = make_alleles([positions[n] for n in inside], [refs[n] for n in inside], [alts[n] for n in inside])
        compared = compare_refs(region, part, fasta[start : end + 9])
        return count_refs(region, part, compared, padded[start : end + 6])

    naive = {"ref_compared": len(positions), "ref_matches": 0, "base_compared": 0}
    naive |= {"base_differing": 0, "base_complement": 0, "base_swapped": 0} | {f"base_shift{k:+d}": 0 for k in SHIFTS}
    for at, ref, alt in zip(whole.positions.tolist(), refs, alts, strict=True):
        naive["ref_matches"] += fasta[at : at + len(ref)] == ref
        if len(ref) > 1 or ref == "N" or "N" in padded[at : at + 7]:
            continue
        here = fasta[at]
        naive["base_compared"] += 1
        naive["base_differing"] += ref != here
        naive["base_complement"] += ref != here == COMPLEMENT[ref]
        naive["base_swapped"] += ref != here == alt[0]
        for k in SHIFTS:
            naive[f"base_shift{k:+d}"] += padded[at + 3 + k] == ref
    assert naive["base_swapped"] and naive["base_complement"] and naive["ref_matches"]
    assert count(0, 300) == naive
    parts = [count(0, 100), count(100, 170), count(170, 300)]
    assert {key: sum(part[key] for part in parts) for key in naive} == naive


def test_compare_refs_leaves_out_records_from_before_the_region_and_knows_ambiguous_bases():
    alleles = make_alleles([3, 5, 6, 7, 9], ["ACG", "C", "G", "TA", "GT"], [("T",)] * 5)
    compared = compare_refs(Region("1", 5, 10, "A"), alleles, "CANAG")
    assert compared.records.tolist() == [1, 2, 3, 4]
    assert compared.bases == ["C", "A", "NA", "G"]
    assert compared.equal_n.tolist() == [True, False, False, False]
    assert compared.ambiguous_n.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("shift", "told"),
    [
        (-1, r"shifting all positions by \+1 fits: 55 of 55 single-base REFs; a 0-based file written as 1-based\n"),
        (1, r"shifting all positions by -1 fits: 55 of 55 single-base REFs; positions that were 1-based already, raised by one"),
        (3, r"shifting all positions by -3 fits: 55 of 55 single-base REFs\n"),
    ],
)
def test_check_genotypes_names_the_shift_of_positions_that_fits_over_all_regions(tmp_path, shift, told):
    files = write_faulty(tmp_path, shift)
    regions = [("1", start, start + 20, f"R{start}") for start in range(0, 400, 20)]  # few records in each
    with pytest.raises(ValueError, match=f"  likely: {told}") as caught:
        check_genotypes(*files, regions)
    assert f"fix: write the file anew with {-shift:+d} on all positions, and make its index anew." in str(caught.value)


def test_read_haplotypes_names_what_explains_the_faults_of_its_region(tmp_path):
    with pytest.raises(ValueError, match=r"in region A \(1:1-400\), got:\n(.|\n)*  likely: shifting all positions by \+1 fits"):
        read_one(write_faulty(tmp_path, -1), 0, 400)


def test_check_genotypes_names_no_shift_that_leaves_more_than_one_in_a_thousand(tmp_path):
    _, *rest = (Variant(site - 1, REFERENCE[site], (OTHER[REFERENCE[site]],), CALLS) for site in SITES)
    damaged = Variant(9, "ACGT".replace(REFERENCE[9], "").replace(REFERENCE[10], "")[0], ("<DEL>",), CALLS)
    files = write_files(tmp_path, REFERENCE, [damaged, *rest])
    with pytest.raises(ValueError, match="REF differs from the FASTA") as caught:
        check_genotypes(*files, [("1", 0, 400, "A")])
    assert "shifting" not in str(caught.value) and "likely: another genome build" in str(caught.value)


def test_check_genotypes_names_the_other_strand(tmp_path):
    files = write_faulty(tmp_path, letters=lambda base: (COMPLEMENT[base], COMPLEMENT[OTHER[base]]))
    told = "  likely: the other strand fits: the complement is the FASTA's base at 55 of 55 REFs that differ\n"
    with pytest.raises(ValueError, match=told) as caught:
        check_genotypes(*files, [("1", 0, 400, "A")])
    assert str(caught.value).endswith("fix: bring the alleles to the FASTA's strand, e.g. `bcftools +fixref -- -m flip`.")


def test_check_genotypes_names_swapped_alleles_of_some_records(tmp_path):
    swapped = iter([True, True, False] * len(SITES))
    files = write_faulty(tmp_path, letters=lambda base: (OTHER[base], base) if next(swapped) else (base, OTHER[base]))
    told = "  likely: REF and ALT are swapped: an ALT is the FASTA's base at 37 of 37 records that differ\n"
    with pytest.raises(ValueError, match=told) as caught:
        check_genotypes(*files, [("1", 0, 400, "A")])
    assert str(caught.value).endswith("fix: swap them by the FASTA, e.g. `plink2 --ref-from-fa force --fa FASTA`.")


def test_check_genotypes_names_another_build_when_nothing_else_fits(tmp_path):
    draw = random.Random(2)
    files = write_faulty(tmp_path, letters=lambda _: tuple(draw.sample("ACGT", 2)))
    told = r"  likely: another genome build, since no shift .* fits; the genotypes are of unknown build, the FASTA is"
    with pytest.raises(ValueError, match=told) as caught:
        check_genotypes(*files, [("1", 0, 400, "A")])
    assert "fix: give the FASTA of the genome build" in str(caught.value)


def test_likely_cause_says_nothing_of_few_records_and_of_files_that_fit(tmp_path):
    with pytest.raises(ValueError, match="REF differs from the FASTA") as caught:
        check_genotypes(*write_faulty(tmp_path, -1, sites=SITES[:30]), [("1", 0, 400, "A")])
    assert "likely: " not in str(caught.value)
    zero = {f"base_shift{k:+d}": 0 for k in SHIFTS} | {"base_complement": 0, "base_swapped": 0}
    assert likely_cause(zero | {"base_compared": 5000, "base_differing": 0, "base_shift+1": 5000}, "") is None
    assert likely_cause(zero | {"base_compared": 5000, "base_differing": 200}, "") is None

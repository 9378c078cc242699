"""Tests of the room `genotype_checks`: faults of all regions in one list before anything is built, and the notes."""

import numpy as np
import pytest

from brainmt_align.data import haplotypes
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotype_settings import HaplotypeSettings
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.haplotypes import read_haplotypes
from tests.bed_files import Triple, write_triple
from tests.haplotype_files import HEADER, Variant, write_files
from tests.pgen_files import write_pgen

REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"
REGIONS = [("1", 0, 5, "A"), ("1", 5, 10, "B"), ("1", 10, 15, "C"), ("1", 15, 20, "D")]


def make_files(folder, *variants: tuple[int, str, tuple[str, str]], reference: str = REFERENCE, header: str = HEADER):
    return write_files(folder, reference, [Variant(at, ref, ("T",), calls) for at, ref, calls in variants], header=header)


def test_check_genotypes_lists_the_faults_of_all_regions(tmp_path):
    files = make_files(
        tmp_path,
        (4, "A", ("0/1", "0|0")), (5, "G", ("0|0", "0|0")), (6, "G", ("0|0", ".|1")), (16, "G", ("0|0", "0|1|1")),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"are expected in all 4 regions, got:\n") as caught:
        check_genotypes(*files, REGIONS)
    message = str(caught.value).split("\n")
    assert message[1:5] == [
        "  - A (1:1-5): 1 of 2 genotypes are heterozygous without phase (no genotype here has phase, as in an unphased file); "
        "the first is 0/1 of anna at 1:5",
        "  - B (1:6-10): REF differs from the FASTA at 1 of 2 variants: 1:6 (REF G, FASTA C); "
        "the genotypes are of unknown build, the FASTA is of unknown build",
        "  - B (1:6-10): 1 of 4 genotypes are missing in whole or part; the first is .|1 of ben at 1:7",
        "  - D (1:16-20): Genotypes: ploidy 1 or 2 is expected at 1:17, got 1 other calls, e.g. 0|1|1 of ben",
    ]
    assert message[5].startswith("  file: ")
    for fix in ("phase the genotypes", "impute the genotypes", "`bcftools norm --check-ref x", "`bcftools +fixploidy`"):
        assert fix in message[6]


def test_check_genotypes_shows_one_fault_of_each_kind_when_there_are_many(tmp_path):
    unphased = [(at, REFERENCE[at], ("0/1", "0|0")) for at in range(28)]
    files = make_files(tmp_path, *unphased, (28, "C", ("0|0", ".|.")))
    with pytest.raises(ValueError, match=r"… and 19 more") as caught:
        check_genotypes(*files, [("1", at, at + 1, f"R{at}") for at in range(29)])
    lines = str(caught.value).split("\n")
    assert "R28 (1:29-29): 1 of 2 genotypes are missing" in lines[2]


def test_check_genotypes_follows_policies_samples_and_window(tmp_path):
    files = make_files(tmp_path, (2, "G", ("0/1", ".|.")), (12, "C", ("0|1", "0|1")))
    check_genotypes(*files, REGIONS, unphased="skip", missing="N")
    check_genotypes(*files, REGIONS, window=2, samples=["ben"], missing="reference")
    with pytest.raises(ValueError, match=r"heterozygous without phase"):
        check_genotypes(*files, REGIONS, samples=["anna"])
    with pytest.raises(ValueError, match="unphased must be one of error, as_written, skip, got 'ignore'"):
        check_genotypes(*files, REGIONS, unphased="ignore")


def test_check_genotypes_builds_no_sequence(tmp_path, monkeypatch):
    files = make_files(tmp_path, (2, "G", ("0|1", "1|1")))
    monkeypatch.setattr(haplotypes, "_build", lambda *_: pytest.fail("a sequence is built"))
    check_genotypes(*files, REGIONS)


def test_check_genotypes_notes_regions_of_n_and_regions_without_variants(tmp_path):
    files = make_files(tmp_path, (4, "A", ("0|1", "0|0")), reference="NNNTACGTNN" + REFERENCE[10:15] + "N" * 15)
    assert check_genotypes(*files, REGIONS).notes == [
        "Half or more N in the FASTA: 2 of 4 regions: A (60%), D (100%).",
        "No variant: 3 of 4 regions: B, C, D.",
    ]
    assert check_genotypes(*files, [("1", 2, 8, "E")]).notes == []


@pytest.mark.parametrize("letter", ["N", "M"])
def test_faults_tell_an_ambiguous_fasta_from_a_wrong_build(tmp_path, letter):
    reference = REFERENCE[:5] + letter + REFERENCE[6:]
    files = make_files(tmp_path, (4, "AC", ("0|1", "0|0")), (5, "C", ("0|0", "0|0")), reference=reference)
    message = (
        rf"N or another ambiguous base at the REF of 2 of 2 variants: 1:5 \(REF AC, FASTA A{letter}\), 1:6 \(REF C, "
        rf"FASTA {letter}\)\n  file: .*\n  fix: give a FASTA that knows these bases"
    )
    with pytest.raises(ValueError, match=message) as caught:
        check_genotypes(*files, [("1", 0, 9, "A")])
    assert "build" not in str(caught.value)


def test_faults_of_ref_name_positions_and_builds(tmp_path):
    header = HEADER.replace("##contig=<ID=1>", "##contig=<ID=1>\n##contig=<ID=20,length=63025520,assembly=b37>")
    variants = [(at, "T", ("0|0", "0|0")) for at in (0, 1, 2)] + [(4, REFERENCE[4:9] + "A" * 30, ("0|0", "0|0"))]
    files = make_files(tmp_path, *variants, reference=REFERENCE + "C" * 60, header=header)
    message = (
        r"at 4 of 4 variants: 1:1 \(REF T, FASTA A\), 1:2 \(REF T, FASTA C\), 1:3 \(REF T, FASTA G\), … \(4 in all\); "
        r"the genotypes are GRCh37 by contig lengths \(assembly=b37\), the FASTA is of unknown build"
    )
    with pytest.raises(ValueError, match=message):
        check_genotypes(*files, REGIONS[:1])
    cut = r"1:5 \(REF ACGTAAAAAAAAAAAAAAAA… \(35 bases\), FASTA ACGTAGGCCTTAACGATCGA… \(35 bases\)\)"
    with pytest.raises(ValueError, match=cut):
        check_genotypes(*files, [("1", 3, 5, "A")])


def test_check_genotypes_passes_what_read_haplotypes_reads(real_dir):
    folder = real_dir / "genotypes_chr20_b37"
    arguments = (folder / "cohortA_300.phased.vcf.gz", folder / "chr20_1-2Mb.padded.fa.gz", folder / "genes.b37.bed")
    report = check_genotypes(*arguments)
    assert report.notes == [
        "No variant: 1 of 19 regions: MIR6869.",
        "Overlapping another region, so that records count in both: 7 of 19 regions: SDCBP2, FKBP1A-SDCBP2, SDCBP2-AS1, FKBP1A, "
        "MIR6869, SIRPG, LOC101929010.",
    ]
    assert (report.regions["ref_match_rate"].dropna() == 1).all() and report.regions["ref_matches"].sum() == 4178
    assert (report.regions["phase_rate"].dropna() == 1).all() and (report.regions["missing_rate"].dropna() == 0).all()
    assert (report.regions["haplotypes"] == 600).all() and report.people["missing"].sum() == 0 and not report.people_notes
    assert len(list(read_haplotypes(*arguments, samples=["HG00096"]))) == 19


LONG = REFERENCE * 40
SKIP = HaplotypeSettings(mismatch="skip")


def make_long_files(folder, sites: int, damaged: int = 0):
    """As many records of one base as sites, the last of them with another REF than the FASTA."""
    other = {"A": "C", "C": "A", "G": "T", "T": "G"}
    variants = [Variant(at, LONG[at], (other[LONG[at]],), ("0|1", "0|0")) for at in range(sites)]
    for number in range(sites - damaged, sites):
        base = LONG[number]
        variants[number] = variants[number]._replace(ref=other[base], alts=("N",))
    return write_files(folder, LONG, variants)


@pytest.mark.parametrize("cached", [False, True])
def test_check_genotypes_skips_and_counts_one_damaged_record_of_a_thousand(tmp_path, cached):
    files, regions = make_long_files(tmp_path, 1000, damaged=1), [("1", 0, 500, "A"), ("1", 500, 1200, "B")]
    with pytest.raises(ValueError, match=r"REF differs from the FASTA at 1 of 500 variants"):
        check_genotypes(*files, regions)
    settings = SKIP._replace(cache=tmp_path / "alleles") if cached else SKIP
    for _ in range(2):
        report = check_genotypes(*files, regions, settings=settings)
        assert report.notes == ["Left out, since their REF is not the FASTA's: 1 of 1,000 records, in: 1 of 2 regions: B."]
        counted = ("variants", "ref_compared", "ref_matches", "mismatch_skipped", "heterozygous")
        assert report.regions[list(counted)].to_numpy().tolist() == [[500, 500, 500, 0, 500], [499, 500, 499, 1, 499]]
        assert report.regions["ref_match_rate"].tolist() == [1, 499 / 500]


@pytest.mark.parametrize("cached", [False, True])
def test_check_genotypes_skips_no_more_than_one_in_a_thousand(tmp_path, cached):
    files, regions = make_long_files(tmp_path, 1000, damaged=2), [("1", 0, 500, "A"), ("1", 500, 1200, "B")]
    settings = SKIP._replace(cache=tmp_path / "alleles") if cached else SKIP
    message = r"REF is the FASTA's at 998 of 1000 variants; at least 99\.9% are expected, also with mismatch=skip(.|\n)*fix: give"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            check_genotypes(*files, regions, settings=settings)


def test_check_genotypes_counts_an_ambiguous_fasta_against_the_records_that_may_be_skipped(tmp_path):
    files = make_files(tmp_path, *((at, REFERENCE[at], ("0|0", "0|0")) for at in range(20)), reference="N" * 30)
    with pytest.raises(ValueError, match=r"REF is the FASTA's at 0 of 20 variants"):
        check_genotypes(*files, [("1", 0, 30, "A")], settings=SKIP)


def test_check_genotypes_tells_people_without_calls_apart_from_what_may_be_reported(tmp_path):
    files = make_files(tmp_path, (2, "G", ("0|1", ".|.")), (4, "A", ("0|.", "./.")), (12, "C", ("1|1", ".")))
    report = check_genotypes(*files, REGIONS, missing="N", unphased="skip")
    assert report.people_notes == ["Without any called genotype: 1 of 2 people: ben."]
    assert report.people.to_numpy().tolist() == [["anna", 3, 1, 1 / 3], ["ben", 3, 3, 1.0]]
    assert report.regions["missing_rate"].iloc[0] == 3 / 4
    assert not any(name in str(part) for name in ("anna", "ben") for part in (report.notes, report.regions))
    assert check_genotypes(*files, [("1", 20, 25, "E")]).people_notes == []


def test_check_genotypes_describes_each_region_in_a_row(tmp_path):
    variants = [
        Variant(1, "C", ("T",), ("0|1", "1|0")),
        Variant(2, "GTA", ("G", "A"), ("1|2", "0|0")),
        Variant(6, "G", ("A",), ("1|1", "1|1")),
        Variant(15, "A", ("<DEL>",), ("0|0", "0|1")),
    ]
    files = write_files(tmp_path, "N" + REFERENCE[1:], variants)
    regions = [("1", 0, 5, "A"), ("1", 5, 10, "B"), ("1", 0, 18, "C", "-", ((0, 5), (8, 18)))]
    table = check_genotypes(*files, regions).regions
    assert table["name"].tolist() == ["A", "B", "C"]
    assert table[["start", "end", "bases", "variants"]].to_numpy().tolist() == [[0, 5, 5, 2], [5, 10, 5, 1], [0, 18, 15, 3]]
    assert table[["snps", "indels", "multiallelic", "symbolic"]].to_numpy().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert table["unknown_bases"].tolist() == [1 / 5, 0, 1 / 15]
    assert table["heterozygous"].tolist() == [3, 0, 4]
    assert table["haplotypes"].tolist() == [4, 4, 4]
    assert table["distinct_allele_vectors"].tolist() == [4, 1, 4]  # of C: of both of its parts together
    assert table["monomorphic"].tolist() == [False, True, False]
    assert np.isnan(table["phase_rate"][1]) and table["phase_rate"].dropna().tolist() == [1, 1]
    assert table[["swapped", "undecided", "mismatch_skipped"]].to_numpy().sum() == 0


def test_check_genotypes_notes_regions_without_difference_and_regions_that_overlap(tmp_path):
    files = make_files(tmp_path, (2, "G", ("1|1", "1|1")), (7, "T", ("0|1", "0|0")))
    regions = [("1", 0, 5, "A"), ("1", 5, 9, "B"), ("1", 8, 20, "C"), ("1", 10, 12, "D"), ("1", 20, 25, "E")]
    assert check_genotypes(*files, regions).notes == [
        "No variant: 3 of 5 regions: C, D, E.",
        "Variants, but all haplotypes alike (monomorphic): 1 of 5 regions: A.",
        "Overlapping another region, so that records count in both: 3 of 5 regions: B, C, D.",
    ]


def test_check_genotypes_finds_no_overlap_in_a_region_that_lies_between_the_parts_of_another(tmp_path):
    files = make_files(tmp_path, (2, "G", ("0|1", "1|1")), (7, "T", ("0|1", "0|0")), (15, "A", ("0|1", "0|0")))
    assert check_genotypes(*files, [("1", 0, 18, "A", "+", ((0, 5), (12, 18))), ("1", 5, 12, "B")]).notes == []


def test_check_genotypes_says_how_many_refs_the_fasta_settled(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(9, "G", ("C",), ("0|0", "0|0"))])
    triple = Triple([1, 6, 9], [("A", "G"), ("C", "T"), ("A", "AG")], [[0, 0, 1], [1, 0, 2]])
    path = write_triple(tmp_path / "other.bed", triple)
    report = check_genotypes(
        path, files.reference, [("1", 0, 20, "A")], unphased="skip", settings=HaplotypeSettings(undecided="file")
    )
    assert report.regions[["swapped", "undecided"]].to_numpy().tolist() == [[2, 1]]
    assert report.regions["phase_rate"].tolist() == [0]
    assert report.notes == [
        "REF settled by the FASTA, since the file does not say it: 2 of 3 records were the other way round; "
        "1 fit it either way and stay in the file's order."
    ]


def test_check_genotypes_says_what_mends_a_record_that_cannot_be_read(tmp_path, monkeypatch):
    files = make_files(tmp_path, (4, "A", ("0|1", "0|0")))

    def fail(*arguments):
        raise ValueError("error in the library")

    monkeypatch.setattr(HaplotypeSources, "read", fail)
    with pytest.raises(ValueError, match=r"A \(1:1-9\): error in the library\n.*\n  fix: repair or drop what cannot be read\."):
        check_genotypes(*files, [("1", 0, 9, "A")])


def test_check_genotypes_notes_variants_without_a_place(tmp_path):
    files = make_files(tmp_path, (4, "A", ("0|1", "0|0")))
    bed = write_triple(tmp_path / "a.bed", Triple([5, 0], [("T", "A"), ("C", "G")], [[0, 0], [2, 0]]))
    report = check_genotypes(bed, files.reference, [("1", 0, 9, "A")])
    assert report.notes[0] == "Without a place, so in no region: 1 of 2 variants of a.bed."


@pytest.mark.parametrize("table", ["psam", "pvar"])
def test_read_haplotypes_reads_anew_when_a_table_beside_the_genotypes_is_corrected(tmp_path, table):
    reference = make_files(tmp_path, (4, "A", ("0|1", "0|0"))).reference
    path = write_pgen(tmp_path, ["1:5 A C . 1|1 0|0 0|0"], header="##contig=<ID=1>\n")
    changes = {"psam": ("anna\tNA\nben\tNA", "ben\tNA\nanna\tNA"), "pvar": ("\tA\tC\t", "\tA\tG\t")}

    def read(cache):
        settings = HaplotypeSettings(cache=cache)
        (region,) = read_haplotypes(path, reference, [("1", 0, 9, "A")], ["anna", "ben"], settings=settings)
        return [region.sequences[number] for number in region.index[:, 0]]

    before = read(tmp_path / "cache")
    assert read(tmp_path / "cache") == before
    beside = path.with_suffix(f".{table}")
    text = beside.read_text()
    assert changes[table][0] in text
    beside.write_text(text.replace(*changes[table]))
    assert read(tmp_path / "cache") == read(None) != before

"""Tests of the room `genotype_checks`: faults of all regions in one list before anything is built, and the notes."""

import pytest

from brainmt_align.data import haplotypes
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import read_haplotypes
from tests.haplotype_files import HEADER, Variant, write_files

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
        "  - A (1:1-5): 1 of 2 genotypes are heterozygous without phase; the first is 0/1 of anna at 1:5",
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
    monkeypatch.setattr(haplotypes, "_build_region", lambda *_: pytest.fail("a sequence is built"))
    check_genotypes(*files, REGIONS)


def test_check_genotypes_notes_regions_of_n_and_regions_without_variants(tmp_path):
    files = make_files(tmp_path, (4, "A", ("0|1", "0|0")), reference="NNNTACGTNN" + REFERENCE[10:15] + "N" * 15)
    assert check_genotypes(*files, REGIONS) == [
        "Half or more N in the FASTA: 2 of 4 regions: A (60%), D (100%).",
        "No variant: 3 of 4 regions: B, C, D.",
    ]
    assert check_genotypes(*files, [("1", 2, 8, "E")]) == []


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
    assert check_genotypes(*arguments) == ["No variant: 1 of 19 regions: MIR6869."]
    assert len(list(read_haplotypes(*arguments, samples=["HG00096"]))) == 19

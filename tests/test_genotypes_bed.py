"""Tests of the room `genotypes_bed`: PLINK 1 files, real and small, flow in; alleles and every refusal are checked."""

import sys
from pathlib import Path

import numpy as np
import pytest
from bed_reader import open_bed, to_bed

from brainmt_align.data.alleles import Alleles, GenotypeOptions
from brainmt_align.data.dosages import read_dosages
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.genotypes import list_samples, open_genotypes
from brainmt_align.data.genotypes_bed import BEDReader
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.haplotypes import HaplotypeSettings, describe_counts, read_haplotypes
from tests.bed_files import Triple, write_triple
from tests.haplotype_files import Files, Variant, read_one, sequence_of, write_files

AS_FILED = HaplotypeSettings(undecided="file")


def read(path: Path, contig: str, start: int, end: int, samples: list[str] | None = None) -> Alleles:
    with BEDReader(path, samples) as genotypes:
        return genotypes.read(contig, start, end)


@pytest.fixture
def bed(tmp_path):
    """Positions out of order, one of them twice; lower case, an absent A1, an absent A2, an insertion, a missing call."""
    triple = Triple(
        [120, 101, 110, 110, 130],
        [("ACG", "A"), ("t", "c"), ("0", "G"), ("T", "0"), ("G", "A")],
        [[1, 0, 0, 2, -127], [2, 1, 0, 2, 0]],
        "20",
    )
    return write_triple(tmp_path / "small.bed", triple)


@pytest.fixture
def real(real_dir):
    """The folder of real genotypes."""
    return real_dir / "genotypes_chr20_b37"


def test_read_gives_numbers_and_alleles_sorted_by_position(bed):
    found = read(bed, "20", 0, 1000)
    assert found.samples == ["anna", "ben"] and not found.ref_known.any() and found.phase_sets is None and found.dosages is None
    assert found.positions.dtype == np.int64 and found.positions.tolist() == [100, 109, 109, 119, 129]
    assert found.stops.tolist() == [101, 110, 110, 120, 130]
    assert found.refs == ["C", "G", "T", "A", "A"]
    assert found.alts == [("T",), (), (), ("ACG",), ("G",)]
    assert found.ids == ["v1", "v2", "v3", "v0", "v4"]
    assert found.alleles.dtype == np.int8
    assert found.alleles.transpose(2, 0, 1).tolist() == [
        [[0, 0], [0, 1]],
        [[0, 0], [0, 0]],
        [[0, 0], [0, 0]],
        [[0, 1], [1, 1]],
        [[-1, -1], [0, 0]],
    ]
    assert found.phased.T.tolist() == [[True, False], [True, True], [True, True], [False, True], [False, True]]
    assert not found.haploid.any() and found.haploid.shape == (2, 5)


def test_read_takes_records_that_overlap_by_the_longer_allele(bed):
    assert read(bed, "20", 101, 109).alleles.shape == (2, 2, 0)
    assert read(bed, "20", 109, 110).ids == ["v2", "v3"]
    assert read(bed, "20", 121, 125).ids == ["v0"]
    assert read(bed, "20", 122, 125).ids == []
    assert read(bed, "20", 118, 119).ids == []


def test_read_finds_what_a_loop_over_the_file_finds(tmp_path):
    rng = np.random.default_rng(2)
    positions = rng.integers(-2, 60, 80).tolist()
    alleles = [("A" * rng.integers(1, 9), "A" * rng.integers(1, 9)) for _ in positions]
    contigs = rng.choice(["1", "2", "0", "23", "XY"], 80).tolist()
    path = write_triple(tmp_path / "many.bed", Triple(positions, alleles, rng.integers(0, 3, (2, 80)).tolist(), contigs))
    letters = {"1": "1", "2": "2", "23": "X", "XY": "X", "0": None}
    with BEDReader(path) as genotypes:
        assert genotypes.unplaced == sum(p < 1 or c == "0" for p, c in zip(positions, contigs, strict=True)) > 10
        for contig in ("1", "2", "X"):
            for start in range(0, 65, 3):
                overlapping = [
                    (position, i)
                    for i, position in enumerate(positions)
                    if letters[contigs[i]] == contig
                    and position > 0
                    and position - 1 < start + 4
                    and position - 1 + max(map(len, alleles[i])) > start
                ]
                assert genotypes.read(contig, start, start + 4).ids == [f"v{i}" for _, i in sorted(overlapping)]


def test_read_keeps_the_order_of_the_request(tmp_path):
    people = tuple(f"{i:02}" for i in range(9))
    count_SV = np.random.default_rng(3).integers(0, 3, (9, 7))
    path = write_triple(tmp_path / "nine.bed", Triple(list(range(1, 8)), [("A", "C")] * 7, count_SV.tolist(), samples=people))
    found = read(path, "1", 0, 10, ["07", "00", "05"])
    assert found.samples == ["07", "00", "05"]
    np.testing.assert_array_equal(found.alleles.sum(1), count_SV[[7, 0, 5]])


def test_reader_names_contigs_by_letters(tmp_path, caplog):
    contigs = ["23", "24", "25", "26", "22", "0", "22"]
    path = write_triple(tmp_path / "a.bed", Triple([5, 5, 3, 5, 5, 5, 0], [("A", "C")] * 7, [[2] * 7, [1] * 7], contigs))
    with BEDReader(path) as genotypes:
        assert genotypes.contigs == ["X", "Y", "MT", "22"]
        assert genotypes.lengths == {} and genotypes.build_words == [] and genotypes.unplaced == 2
        assert "2 of 7 variants" in caplog.text
        assert genotypes.find_contig("chrX") == "X" and genotypes.find_contig("chrM") is None
        assert genotypes.read("chrX", 0, 10).ids == ["v2", "v0"]
        assert genotypes.read("chr22", 0, 10).ids == ["v4"]
        with pytest.raises(ValueError, match=r"Contig chrM is not in the file; known are: X, Y, MT, 22"):
            genotypes.read("chrM", 0, 10)


def test_reader_takes_a_fam_of_another_name(bed, tmp_path):
    Path(bed.with_suffix(".fam")).rename(tmp_path / "people.fam")
    assert list_samples(bed, GenotypeOptions(sample_file=tmp_path / "people.fam")) == ["anna", "ben"]


def test_open_genotypes_reads_real_people_of_all_genes_as_the_vcf_has_them(real):
    variants = both = 0
    files = real / "cohortA_300.chr20_1-2Mb.bed", real / "cohortA_300.phased.vcf.gz"
    rest = real / "chr20_1-2Mb.padded.fa.gz", real / "genes.b37.bed"
    with HaplotypeSources(files[0], *rest) as bed, HaplotypeSources(files[1], *rest) as vcf:
        assert isinstance(open_genotypes(files[0]), BEDReader) and len(bed.regions) == 19
        for region in bed.regions:
            found, expected = bed.read(region), vcf.read(region)
            for key in ("refs", "alts", "ids", "samples"):
                assert getattr(found.alleles, key) == getattr(expected.alleles, key)
            for key in ("positions", "stops"):
                np.testing.assert_array_equal(getattr(found.alleles, key), getattr(expected.alleles, key))
            np.testing.assert_array_equal(found.alleles.alleles.sum(1), expected.alleles.alleles.sum(1))
            offsets = found.alleles.positions - region.start
            assert all(found.bases.startswith(ref, at) for at, ref in zip(offsets, found.alleles.refs, strict=True) if at >= 0)
            assert found.swapped == 0
            variants, both = variants + len(found.alleles.refs), both + int(found.undecided_V.sum())
    assert (variants, both) == (4178, 181)


def test_sources_undo_swapped_alleles_of_real_people_wherever_the_fasta_decides(real, tmp_path):
    path = real / "cohortA_300.chr20_1-2Mb.bed"
    with open_bed(path) as file:
        names = {key: getattr(file, key) for key in ("fid", "iid", "chromosome", "sid", "bp_position")}
        names |= {"allele_1": file.allele_2, "allele_2": file.allele_1}
        to_bed(tmp_path / "turned.bed", file.read(dtype="int8"), properties=names, count_A1=False)
    rest = real / "chr20_1-2Mb.padded.fa.gz", [("20", 1_246_958, 1_289_971, "SNPH")]
    with HaplotypeSources(path, *rest) as one, HaplotypeSources(tmp_path / "turned.bed", *rest) as two:
        found, other = one.read(one.regions[0]), two.read(two.regions[0])
    assert (found.swapped, found.undecided_V.sum()) == (0, 23)
    assert (other.swapped, other.undecided_V.sum()) == (361 - 23, 23)
    same = np.array([a == b for a, b in zip(found.alleles.refs, other.alleles.refs, strict=True)])
    assert same.sum() == 361 - 23
    np.testing.assert_array_equal(found.alleles.alleles[:, :, same], other.alleles.alleles[:, :, same])
    np.testing.assert_array_equal(found.alleles.alleles.sum(1)[:, ~same], 2 - other.alleles.alleles.sum(1)[:, ~same])


def test_read_dosages_counts_the_files_own_alt_of_real_people(real):
    regions = [("20", 1_161_213, 1_165_117, "TMEM74B")]
    bed, vcf = (read_dosages(real / f"cohortA_300.{name}", regions) for name in ("chr20_1-2Mb.bed", "phased.vcf.gz"))
    assert bed.variants == vcf.variants and bed.samples == vcf.samples
    np.testing.assert_array_equal(bed.dosage_NV, vcf.dosage_NV)


@pytest.mark.parametrize("unphased", ["skip", "as_written"])
def test_read_haplotypes_builds_real_sequences_from_a_bed_by_policy(real, unphased):
    regions = [("20", 1_161_213, 1_165_117, "TMEM74B")]
    reference = real / "chr20_1-2Mb.padded.fa.gz"
    (bed,) = read_haplotypes(real / "cohortA_300.chr20_1-2Mb.bed", reference, regions, unphased=unphased, settings=AS_FILED)
    (vcf,) = read_haplotypes(real / "cohortA_300.phased.vcf.gz", reference, regions)
    assert bed.samples == vcf.samples and bed.reference == vcf.reference and bed.counts["unphased"] > 0
    with BEDReader(real / "cohortA_300.chr20_1-2Mb.bed") as genotypes:
        phased_S = genotypes.read("20", 1_161_213, 1_165_117).phased.all(axis=1)
    assert 0 < phased_S.sum() < 300
    for s in range(300):
        ours, theirs = ([found.sequences[i] for i in found.index[s]] for found in (bed, vcf))
        assert ours == theirs if phased_S[s] else unphased == "as_written" or ours[0] == ours[1]


def test_read_haplotypes_refuses_heterozygotes_of_a_bed_and_says_that_it_holds_no_phase(real):
    files = real / "cohortA_300.chr20_1-2Mb.bed", real / "chr20_1-2Mb.padded.fa.gz"
    message = (
        r"(?s)heterozygous without phase \(no genotype here has phase, as in an unphased file\); the first is 0/1 of HG.*"
        r"fix: phase the genotypes, into a file that can hold phase, or set data\.unphased=as_written or skip\."
    )
    with pytest.raises(ValueError, match=message):
        list(read_haplotypes(*files, [("20", 1_161_213, 1_165_117, "TMEM74B")], settings=AS_FILED))
    with pytest.raises(ValueError, match=message):
        check_genotypes(*files, real / "genes.b37.bed", settings=AS_FILED)


def test_read_haplotypes_gives_a_male_the_same_x_twice_and_leaves_his_heterozygote_to_the_policy(tmp_path):
    files = write_files(tmp_path, "ACGTACGTAC", [Variant(9, "C", ("G",), ("0|0", "0|0"))], contigs=("1", "X"))
    path = write_triple(tmp_path / "x.bed", Triple([2, 6], [("T", "C"), ("A", "C")], [[2, 0], [0, 1]], "23"))
    (region,) = read_haplotypes(path, files.reference, [("X", 0, 10, "A")], unphased="skip")
    assert [[region.sequences[i] for i in row] for row in region.index] == [["ATGTACGTAC"] * 2, ["ACGTACGTAC"] * 2]
    with pytest.raises(ValueError, match=r"1 of 4 genotypes are heterozygous without phase.*the first is 0/1 of ben at X:6"):
        list(read_haplotypes(path, files.reference, [("X", 0, 10, "A")]))


def test_check_genotypes_refuses_a_record_of_which_the_fasta_spells_no_allele(tmp_path):
    files = write_files(tmp_path, "ACGTACGTAC", [Variant(9, "C", ("G",), ("0|0", "0|0"))])
    path = write_triple(tmp_path / "other.bed", Triple([1, 2], [("G", "T"), ("0", "T")], [[0, 0], [0, 0]]))
    with pytest.raises(ValueError, match=r"REF differs from the FASTA at 2 of 2 variants: 1:1 \(REF T, FASTA A\)"):
        check_genotypes(path, files.reference, [("1", 0, 10, "A")])


@pytest.fixture
def turned(tmp_path):
    """A FASTA and a .bed of an insertion that most people carry, so that PLINK 1.9 makes it A2, beside a plain record."""
    reference = write_files(tmp_path, "ACGTTGCAACGG", [Variant(9, "C", ("G",), ("0|0", "0|0"))]).reference
    return Files(write_triple(tmp_path / "a.bed", Triple([2, 4], [("T", "C"), ("T", "TT")], [[2, 0], [0, 2]])), reference)


@pytest.mark.parametrize("cached", [False, True])
def test_read_haplotypes_leaves_out_or_takes_as_filed_what_the_fasta_spells_both_ways(turned, tmp_path, cached):
    settings = HaplotypeSettings(cache=tmp_path / "alleles" if cached else None)
    for _ in range(2):
        skipped = read_one(turned, 0, 10, settings=settings._replace(undecided="skip"))
        assert [sequence_of(skipped, sample, 0) for sample in ("anna", "ben")] == ["ATGTTGCAAC", "ACGTTGCAAC"]
        assert (skipped.counts["variants"], skipped.counts["undecided_skipped"], skipped.undecided) == (1, 1, "skip")
        assert describe_counts(skipped.counts) == (
            "Records left out, since neither the file nor the FASTA says which allele is the reference's: 1."
        )
        filed = read_one(turned, 0, 10, settings=settings._replace(undecided="file"))
        assert [sequence_of(filed, sample, 0) for sample in ("anna", "ben")] == ["ATGTTGCAAC", "ACGTGCAAC"]
        assert (filed.counts["variants"], filed.counts["undecided_skipped"]) == (2, 0)
    report = check_genotypes(*turned, [("1", 0, 10, "A")], settings=settings._replace(undecided="skip"))
    assert report.regions[["variants", "undecided", "undecided_skipped", "genotypes"]].to_numpy().tolist() == [[1, 1, 1, 2]]
    assert report.notes[-1].endswith("0 of 2 records were the other way round; 1 fit it either way and are left out.")


def test_read_haplotypes_refuses_what_the_fasta_spells_both_ways_unless_told_what_becomes_of_it(turned):
    message = (
        r"the reference's at 1 of 2 variants where the FASTA spells several, as of most indels: 1:4 \(TT/T\)(.|\n)*fix: .*skip"
    )
    with pytest.raises(ValueError, match=message):
        read_one(turned, 0, 10)
    with pytest.raises(ValueError, match=message):
        check_genotypes(*turned, [("1", 0, 10, "A")])
    assert read_one(turned, 5, 10).counts["variants"] == 0
    (region,) = read_haplotypes(turned.genotypes, turned.reference, [("1", 3, 10, "A")], settings=AS_FILED)
    assert region.counts["variants"] == 1


def test_read_haplotypes_does_not_ask_how_records_from_before_the_region_are_spelled(tmp_path):
    reference = write_files(tmp_path, "ACGTTGCAACGG", [Variant(9, "C", ("G",), ("0|0", "0|0"))]).reference
    path = write_triple(tmp_path / "a.bed", Triple([4], [("T", "TT")], [[2], [2]]))  # its REF as filed reaches into the region
    assert read_one(Files(path, reference), 4, 10).counts["variants"] == 1


@pytest.mark.parametrize("pair", [("I", "D"), ("D", "I"), ("0", "D"), ("I", "0"), ("0", "0"), ("1", "2"), ("-", "A"), ("R", "A")])
def test_read_refuses_alleles_that_are_no_bases(tmp_path, pair):
    path = write_triple(tmp_path / "a.bed", Triple([5, 9], [("A", "C"), pair], [[0, 0], [0, 0]]))
    message = rf"spelled in A, C, G, T or N are expected, got 1 of 2 records otherwise, e\.g\. {'/'.join(pair)} at 1:9 \(v1\)\."
    with pytest.raises(ValueError, match=message + r"\n  file: .*a\.bim\n  fix: write their bases .*plink2 --bfile"):
        read(path, "1", 0, 20)
    assert read(path, "1", 0, 8).refs == ["C"]


def test_check_genotypes_lists_records_without_bases_with_the_other_faults(tmp_path):
    files = write_files(tmp_path, "ACGTACGTAC", [Variant(9, "C", ("G",), ("0|0", "0|0"))])
    path = write_triple(tmp_path / "a.bed", Triple([5, 9], [("I", "D"), ("G", "A")], [[0, 0], [0, 1]]))
    with pytest.raises(ValueError, match=r"- A \(1:1-6\): Genotypes: alleles spelled in .*\n  - B \(1:7-10\): .* without phase"):
        check_genotypes(path, files.reference, [("1", 0, 6, "A"), ("1", 6, 10, "B")])


@pytest.mark.parametrize(("pair", "count"), [(("0", "A"), 1), (("A", "0"), 1)])
def test_read_refuses_carriers_of_an_allele_without_letters(tmp_path, pair, count):
    path = write_triple(tmp_path / "a.bed", Triple([5], [pair], [[count], [-127]]))
    with pytest.raises(ValueError, match=r"nobody is expected to carry an allele written as 0, got .* 1 records, .* 1:5 \(v0\)"):
        read(path, "1", 0, 20)


def test_reader_refuses_a_file_that_was_cut_after_it_was_opened(tmp_path):
    path = write_triple(tmp_path / "a.bed", Triple([5, 9], [("A", "C")] * 2, [[0, 0], [0, 0]]))
    with BEDReader(path) as genotypes:
        path.write_bytes(path.read_bytes()[:4])
        with pytest.raises(ValueError, match=r"the file as it was when it was opened is expected, got: .*\n  file: .*a\.bed"):
            genotypes.read("1", 0, 20)


def test_reader_refuses_absent_files(bed, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a PLINK 1 \.bed is expected, got no such file"):
        BEDReader(tmp_path / "absent.bed")
    with pytest.raises(FileNotFoundError, match=r"with its \.bim and \.fam, got no .*other\.fam"):
        BEDReader(bed, options=GenotypeOptions(sample_file=tmp_path / "other.fam"))
    bed.with_suffix(".bim").unlink()
    bed.with_suffix(".fam").unlink()
    with pytest.raises(FileNotFoundError, match=r"got no .*small\.bim and no .*small\.fam\.\n  file: .*small\.bed\n  fix: put"):
        BEDReader(bed)


def test_reader_refuses_a_file_that_goes_sample_by_sample(tmp_path):
    path = write_triple(tmp_path / "a.bed", Triple([5, 9], [("A", "C")] * 2, [[0, 0], [0, 0]]), major="individual")
    with pytest.raises(
        ValueError, match=r"goes variant by variant is expected, got one that goes sample by sample\.(?s:.*)--make-bed"
    ):
        BEDReader(path)


@pytest.mark.parametrize(("content", "got"), [(b"20\t5\t9\n", "32 30 09"), (b"", "none at all"), (b"\x6c\x1b\x02", "6c 1b 02")])
def test_reader_refuses_what_is_no_plink_file(bed, content, got):
    bed.write_bytes(content)
    with pytest.raises(ValueError, match=rf"begins with bytes 6c 1b 01, is expected, got {got}\.(?s:.*)goes into data\.regions"):
        BEDReader(bed)


@pytest.mark.parametrize("change", [-1, 1])
def test_reader_refuses_a_bed_that_does_not_fit_its_tables(bed, change):
    content = bed.read_bytes()
    bed.write_bytes(content[:change] if change < 0 else content + b"\0")
    with pytest.raises(ValueError, match=rf"8 bytes are expected for 5 variants of the .bim and 2 samples .* got {8 + change}\."):
        BEDReader(bed)


def test_reader_refuses_iids_of_several_families(tmp_path):
    people = ("1", "2", "1")
    triple = Triple([5], [("A", "C")], [[0], [0], [0]], samples=people, families=("f", "f", "g"))
    with pytest.raises(ValueError, match=r"an IID that tells people apart .*, got 1 under several FIDs, e\.g\. 1 under f, g\."):
        BEDReader(write_triple(tmp_path / "a.bed", triple))
    with pytest.raises(ValueError, match=r"every sample is expected once in the file, got 1 of them more often, e\.g\. 1"):
        BEDReader(write_triple(tmp_path / "b.bed", triple._replace(families=("f", "f", "f"))))


def test_reader_refuses_unknown_samples(bed):
    with pytest.raises(ValueError, match=r"1 of 2 samples are not in the file, e\.g\. carl; it holds 2, e\.g\. anna, ben"):
        BEDReader(bed, ["anna", "carl"])


def test_reader_says_how_to_install_its_library(bed, monkeypatch):
    monkeypatch.setitem(sys.modules, "bed_reader", None)
    with pytest.raises(ImportError, match=r'got no such library\.\n  file: .*\n  fix: pip install "brainmt-align\[genotypes\]"'):
        BEDReader(bed)

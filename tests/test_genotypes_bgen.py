"""Tests of the room `genotypes_bgen`: BGEN files flow in; alleles, dosages, samples, contigs and every refusal are checked."""

import logging
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from bgen import BgenWriter

from brainmt_align.data.alleles import GenotypeOptions
from brainmt_align.data.genotypes import list_samples, open_genotypes
from brainmt_align.data.genotypes_bgen import BGENReader
from brainmt_align.data.genotypes_vcf import VCFReader
from brainmt_align.data.haplotypes import HaplotypeSettings, read_haplotypes
from brainmt_align.data.regions import read_regions
from tests.bgen_files import NAN, Site, change_index, index_bgen, write_bgen
from tests.haplotype_files import HEADER, Variant, write_files
from tests.programs import require_programs

NAMES = ["anna", "ben", "carl"]
MISSING = [NAN] * 4
PHASED = Site(101, "c t", [[1, 0, 0, 1], [0.02, 0.98, 1, 0], MISSING])
UNPHASED = Site(110, "ACGT A", [[0, 1, 0], [0.02, 0.03, 0.95], [0.5, 0.5, 0]], phased=False)


def read(path, contig="20", start=0, end=1000, samples=None, **options):
    with BGENReader(path, samples, GenotypeOptions(**options)) as genotypes:
        return genotypes.read(contig, start, end)


@pytest.fixture
def path(tmp_path):
    return write_bgen(tmp_path / "a.bgen", [PHASED, UNPHASED], NAMES)


def test_read_calls_haplotypes_and_genotypes(path):
    found = read(path)
    assert found.samples == NAMES
    assert found.positions.tolist() == [100, 109] and found.stops.tolist() == [101, 113]
    assert found.refs == ["C", "ACGT"] and found.alts == [("T",), ("A",)] and found.ids == ["rs0", "rs1"]
    assert found.alleles.dtype == np.int8
    assert found.alleles.transpose(2, 0, 1).tolist() == [[[0, 1], [1, 0], [-1, -1]], [[0, 1], [1, 1], [-1, -1]]]
    assert found.phased.T.tolist() == [[True] * 3, [False] * 3]
    assert not found.haploid.any() and not found.ref_known.any() and found.phase_sets is None
    assert found.dosages.dtype == np.float32
    np.testing.assert_allclose(found.dosages.T, [[1, 0.98, NAN], [1, 1.93, 0.5]], atol=0.005)


def test_read_takes_less_probable_alleles_when_asked_to(tmp_path):
    site = Site(5, "A C", [[0.3, 0.7, 0.95, 0.05]])
    path = write_bgen(tmp_path / "a.bgen", [site], ["anna"])
    assert read(path).alleles[:, :, 0].tolist() == [[-1, 0]]
    assert read(path, min_probability=0.6).alleles[:, :, 0].tolist() == [[1, 0]]
    assert read(path, min_probability=1.0).alleles[:, :, 0].tolist() == [[-1, -1]]


def test_read_orders_the_genotypes_of_multiallelic_sites_as_the_format_does(tmp_path):
    pairs = [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    unphased = Site(5, "A C <DEL>", np.eye(6).tolist(), phased=False)
    phased = Site(6, "A C G", [[*np.eye(3)[high], *np.eye(3)[low]] for low, high in pairs])
    found = read(write_bgen(tmp_path / "a.bgen", [unphased, phased], list("abcdef")))
    assert found.alts == [("C", "<DEL>"), ("C", "G")]
    assert found.alleles[:, :, 0].tolist() == [list(pair) for pair in pairs]
    assert found.alleles[:, :, 1].tolist() == [[high, low] for low, high in pairs]
    assert found.dosages.T.tolist() == [[0, 1, 2, 1, 2, 2]] * 2


def test_read_marks_haploid_calls_and_counts_them_twice(tmp_path):
    phased = Site(5, "A C", [[0, 1, NAN, NAN], [0, 1, 1, 0], [NAN] * 4], ploidy=[1, 2, 1])
    unphased = Site(6, "A C", [[0, 1, NAN], [0, 1, 0], [NAN] * 3], False, [1, 2, 1])
    males = Site(7, "A C G", [[0, 0, 1], [1, 0, 0], [0, 1, 0]], ploidy=1)
    found = read(write_bgen(tmp_path / "x.bgen", [phased, unphased, males], NAMES, "X"), "chrX")
    assert found.alleles.transpose(2, 0, 1).tolist() == [
        [[1, 1], [1, 0], [-1, -1]],
        [[1, 1], [0, 1], [-1, -1]],
        [[2, 2], [0, 0], [1, 1]],
    ]
    assert found.haploid.T.tolist() == [[True, False, True], [True, False, True], [True] * 3]
    assert found.phased.T.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    np.testing.assert_array_equal(found.dosages.T, [[2, 1, NAN], [2, 1, NAN], [2, 0, 2]])


def test_read_keeps_the_order_of_the_request(path):
    everyone, some = read(path), read(path, samples=["carl", "anna"])
    assert some.samples == ["carl", "anna"]
    for a, b in ((some.alleles, everyone.alleles), (some.phased, everyone.phased), (some.dosages, everyone.dosages)):
        np.testing.assert_array_equal(a, b[[2, 0]])


def test_read_takes_records_that_overlap_the_region_only(path):
    assert read(path, start=101, end=109).alleles.shape == (3, 2, 0)
    assert read(path, start=112, end=120).positions.tolist() == [109]
    assert read(path, start=113, end=120).dosages.shape == (3, 0)


def test_read_leaves_out_records_between_two_that_reach_into_the_region(tmp_path):
    row = [[1, 0, 0, 1]]
    sites = [Site(10, "ACGTACGTAC A", row), Site(12, "A C", row), Site(18, "A C", row)]
    assert read(write_bgen(tmp_path / "a.bgen", sites, ["anna"]), start=17, end=30).positions.tolist() == [9, 17]


def test_read_widens_when_a_site_has_many_alts(tmp_path):
    alleles, eye = " ".join("A" * k for k in range(1, 202)), np.eye(201)
    site = Site(5, alleles, [[*eye[200], *eye[0]], [*eye[127], *eye[128]]])
    found = read(write_bgen(tmp_path / "a.bgen", [PHASED._replace(values=[[1, 0, 0, 1]] * 2), site], ["anna", "ben"]))
    assert found.alleles.dtype == np.int16
    assert found.alleles[:, :, found.positions.tolist().index(4)].tolist() == [[200, 0], [127, 128]]


def test_blank_chromosome_is_named_by_the_option(tmp_path, caplog):
    path = write_bgen(tmp_path / "ukb22438_c20_b0_v2.bgen", [PHASED], NAMES, "")
    with caplog.at_level(logging.INFO), open_genotypes(path, options=GenotypeOptions(contig="20")) as genotypes:
        assert isinstance(genotypes, BGENReader)
        assert genotypes.contigs == ["20"] and genotypes.lengths == {} and genotypes.build_words == []
        assert genotypes.find_contig("chr20") == "20" and genotypes.find_contig("21") is None
        assert genotypes.read("chr20", 0, 1000).positions.tolist() == [100]
    assert "a blank one as 20" in caplog.text and "a blank one as 20" in genotypes.notes[0]
    with pytest.raises(ValueError, match=r"a BGEN whose chromosome field is blank\.\n  file: .*\n  fix: set contig"):
        BGENReader(path)
    change_index(path, "INSERT INTO Variant SELECT '7', position, rsid, 2, 'A', 'C', file_start_position, 9 FROM Variant;")
    with pytest.raises(ValueError, match=r"chromosome field is blank beside 7\."):
        BGENReader(path, options=GenotypeOptions(contig="20"))


def test_padded_chromosomes_are_read_under_their_usual_names(tmp_path, caplog):
    path = write_bgen(tmp_path / "a.bgen", [PHASED], NAMES, "07")
    with caplog.at_level(logging.INFO):
        assert read(path, "7").positions.tolist() == [100]
    assert "07 as 7" in caplog.text
    with BGENReader(path) as genotypes:
        assert genotypes.notes == ["Contigs of the BGEN under another name: 07 as 7."]
    assert read(path, "chr7").positions.tolist() == [100]


def test_samples_come_from_the_bgen_the_file_beside_it_or_the_one_that_is_named(tmp_path):
    header = "ID_1 ID_2 missing sex\n0 0 0 D\n"
    path = write_bgen(tmp_path / "a.bgen", [PHASED])
    with pytest.raises(
        FileNotFoundError, match=r"expected in the BGEN or in a\.sample beside it, got neither(.|\n)*set sample_file"
    ):
        BGENReader(path)
    (tmp_path / "a.sample").write_text(header + "1 1 0 1\n2 2 0 1\n3 3 0 2\n")
    (tmp_path / "b.sample").write_text(header + "4 4 0 1\n5 5 0 1\n6 6 0 2\n")
    assert list_samples(path) == ["1", "2", "3"]
    assert list_samples(path, GenotypeOptions(sample_file=tmp_path / "b.sample")) == ["4", "5", "6"]
    write_bgen(path, [PHASED], NAMES)
    assert list_samples(path) == NAMES
    assert list_samples(path, GenotypeOptions(sample_file=tmp_path / "b.sample")) == ["4", "5", "6"]
    (tmp_path / "b.sample").write_text(header + "4 4 0 1\n")
    with pytest.raises(
        ValueError, match=r"3 ids are expected, one a sample of the BGEN, got 1\.\n  file: .*a\.bgen, .*b\.sample"
    ):
        BGENReader(path, options=GenotypeOptions(sample_file=tmp_path / "b.sample"))


def test_redacted_people_cannot_be_asked_for_however_often_their_id_stands_there(tmp_path, caplog):
    path = write_bgen(tmp_path / "a.bgen", [PHASED._replace(values=[MISSING, [1, 0, 0, 1], MISSING, [0, 1, 1, 0]])])
    (tmp_path / "a.sample").write_text("ID_1 ID_2 missing sex\n0 0 0 D\n-1 -1 0 0\n12 12 0 1\n-1 -1 0 0\n13 13 0 2\n")
    with caplog.at_level(logging.INFO):
        found = read(path)
    assert found.samples == ["12", "13"]
    assert found.alleles[:, :, 0].tolist() == [[0, 1], [1, 0]]
    assert "2 of 4 samples" in caplog.text
    with BGENReader(path) as genotypes:
        assert genotypes.notes == ["Redacted, with negative ids, and not read: 2 of 4 samples."]
    with pytest.raises(ValueError, match=r"1 of 1 samples are not in the file, e\.g\. -1; it holds 2, e\.g\. 12, 13"):
        BGENReader(path, ["-1"])
    (tmp_path / "a.sample").write_text("ID_1 ID_2 missing sex\n0 0 0 D\n-1 -1 0 0\n12 12 0 1\n-1 -1 0 0\n12 12 0 2\n")
    with pytest.raises(ValueError, match=r"every sample is expected once in the file"):
        BGENReader(path)


def test_haplotypes_of_an_unsorted_bgen_are_those_of_a_sorted_one(tmp_path):
    reference = write_files(tmp_path, "ACGTACGTAGG", [], ("20", "20"), HEADER.replace("ID=1>", "ID=20>")).reference
    sites = [Site(8, "T A", [[0, 1, 0, 1], [1, 0, 1, 0]]), Site(3, "G C", [[0, 1, 0, 1], [1, 0, 0, 1]])]

    def sequences(name, sites):
        path = write_bgen(tmp_path / name, sites, ["anna", "ben"])
        (region,) = read_haplotypes(path, reference, [("20", 0, 10, "A")])
        return [[region.sequences[number] for number in numbers] for numbers in region.index]

    expected = [["ACCTACGAAG", "ACCTACGAAG"], ["ACGTACGTAG", "ACCTACGTAG"]]
    assert sequences("unsorted.bgen", sites) == sequences("sorted.bgen", sites[::-1]) == expected


def test_haplotypes_of_an_unphased_bgen_are_refused_with_its_name(tmp_path):
    calls = Variant(4, "A", ("T",), ("0|1", "0|0"))
    files = write_files(tmp_path, "ACGTACGTAGG", [calls], header=HEADER)
    site = Site(5, "A T", [[0, 1, 0], [1, 0, 0]], phased=False)
    path = write_bgen(tmp_path / "a.bgen", [site], ["anna", "ben"], "1")
    what = r"heterozygous without phase \(no genotype here has phase, as in an unphased file\); the first is 0/1 of anna"
    with pytest.raises(ValueError, match=what + r"(.|\n)*file: .*a\.bgen\n  fix: phase the genotypes.*, or set data\.unphased"):
        list(read_haplotypes(path, files.reference, [("1", 0, 8, "A")]))


def test_read_takes_the_first_allele_for_the_reference_when_told(tmp_path):
    reference = write_files(tmp_path, "ACGTTGCAACGG", [Variant(9, "C", ("G",), ("0|0", "0|0"))]).reference
    path = write_bgen(tmp_path / "a.bgen", [Site(4, "T TT", [[0, 1, 0, 1], [1, 0, 1, 0]])], ["anna", "ben"], "1")
    assert read(path, "1", first_allele="ref").ref_known is None
    with pytest.raises(ValueError, match=r"1:4 \(T/TT\)(.|\n)*fix: .*data\.first_allele=ref if the first"):
        list(read_haplotypes(path, reference, [("1", 0, 8, "A")]))
    settings = HaplotypeSettings(options=GenotypeOptions(first_allele="ref"))
    (region,) = read_haplotypes(path, reference, [("1", 0, 8, "A")], settings=settings)
    assert region.sequences == ["ACGTTTGCA", "ACGTTGCA"]


def test_read_refuses_another_reference_than_the_fastas_when_the_first_allele_is_said_to_be_it(tmp_path):
    reference = write_files(tmp_path, "ACGTTGCAACGG", [Variant(9, "C", ("G",), ("0|0", "0|0"))]).reference
    path = write_bgen(tmp_path / "a.bgen", [Site(4, "C T", [[0, 1, 0, 1], [1, 0, 1, 0]])], ["anna", "ben"], "1")
    assert len(list(read_haplotypes(path, reference, [("1", 0, 8, "A")]))) == 1
    settings = HaplotypeSettings(options=GenotypeOptions(first_allele="ref"))
    with pytest.raises(ValueError, match=r"REF differs from the FASTA at 1 of 1 variants"):
        list(read_haplotypes(path, reference, [("1", 0, 8, "A")], settings=settings))


def test_reader_refuses_an_unknown_word_for_its_first_allele(path):
    with pytest.raises(
        ValueError, match=r"first_allele must be one of unknown, ref, got 'alt'(.|\n)*fix: set data\.first_allele"
    ):
        BGENReader(path, options=GenotypeOptions(first_allele="alt"))


@pytest.mark.parametrize("least", [0.5, 1.01, NAN])
def test_reader_refuses_probabilities_out_of_range(path, least):
    with pytest.raises(ValueError, match=r"min_probability above 0\.5 and up to 1 is expected"):
        read(path, min_probability=least)


def test_read_refuses_an_unknown_contig(path):
    with pytest.raises(ValueError, match=r"Contig 7 is not in the file; known are: 20\.\n  file: .*a\.bgen"):
        read(path, "7")


def test_read_refuses_another_ploidy(tmp_path):
    site = Site(5, "A C", [[0, 1, NAN, NAN], [1, 0, 0, 0], [0, 1, 0, NAN]], False, [1, 3, 2])
    path = write_bgen(tmp_path / "a.bgen", [site], NAMES)
    with pytest.raises(ValueError, match=r"ploidy 1 or 2 is expected at 20:5, got 1 other calls, e\.g\. 3 of ben\.\n  file"):
        read(path)
    assert read(path, samples=["carl"]).alleles.shape == (1, 2, 1)


def test_reader_refuses_layout_1(tmp_path):
    path = write_bgen(tmp_path / "a.bgen", [UNPHASED], layout=1)
    with pytest.raises(
        ValueError, match=r"layout 2 \(version 1\.2 or later\) is expected, got layout 1\.\n  file: .*\n  fix: plink2 --bgen"
    ):
        BGENReader(path)


def test_reader_refuses_files_that_are_absent_or_no_bgen(path):
    with pytest.raises(FileNotFoundError, match=r"a BGEN is expected, got no such file"):
        BGENReader(path.parent / "none.bgen")
    change_index(path, "DROP TABLE Metadata;")
    path.write_text("no such thing " * 20)
    with pytest.raises(ValueError, match=r"a BGEN is expected, got a file that cannot be opened as one \(.*\)\.\n  file"):
        BGENReader(path)


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    change_index(path, "DROP TABLE IF EXISTS Metadata;")


def test_read_refuses_a_damaged_record(path):
    flip(path, -12)
    with pytest.raises(
        ValueError, match=r"20:110 cannot be read \(.*\); the file is damaged\.\n  file: .*\n  fix: copy it again"
    ):
        read(path)
    assert read(path, end=105).positions.tolist() == [100]


def test_read_never_gives_other_alleles_when_a_bit_is_flipped(path):
    content, expected = path.read_bytes(), read(path)
    refused = 0
    for at in range(24, len(content)):
        path.write_bytes(content)
        flip(path, at)
        try:
            found = read(path)
        except ValueError:
            refused += 1
            continue
        assert found.positions.tolist() == expected.positions.tolist()
        assert (found.refs, found.alts) == (expected.refs, expected.alts)
        np.testing.assert_array_equal(found.alleles, expected.alleles)
    assert refused > 100


def test_read_refuses_an_index_that_points_between_records(path):
    change_index(
        path, "DROP TABLE Metadata; UPDATE Variant SET file_start_position = file_start_position + 30, size_in_bytes = 1;"
    )
    with pytest.raises(ValueError, match=r"20:101-110 cannot be read|is expected by the index"):
        read(path)


@pytest.mark.parametrize("change", ["allele1 = 'G'", "allele2 = 'G'", "number_of_alleles = 3", "rsid = 'rs9'"])
def test_read_refuses_an_index_of_other_records(path, change):
    change_index(path, f"DROP TABLE Metadata; UPDATE Variant SET {change} WHERE position = 101;")
    what = (
        r"rs\d at 101 with alleles \w, \w \(\d in all\) is expected by the index, got rs0 at 101 with alleles c, t \(2 in all\)\."
    )
    with pytest.raises(ValueError, match=what + r"\n  file: .*\n  fix: renew the index"):
        read(path)


def test_read_refuses_probabilities_above_one(tmp_path):
    path = tmp_path / "a.bgen"
    with BgenWriter(path, 1, samples=["anna"], compression=None) as file:
        file.add_variant("", "rs0", "20", 5, ["A", "C"], np.array([[0.2, 0.7, 0.1]]))
    content = bytearray(path.read_bytes())
    content[-2:] = bytes([255, 200])
    path.write_bytes(content)
    index_bgen(path)
    with pytest.raises(ValueError, match=r"20:5 cannot be read \(probabilities that do not sum to 1\)"):
        read(path)


def test_open_genotypes_names_the_extra_where_the_library_is_absent(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bgen", None)
    monkeypatch.delitem(sys.modules, "brainmt_align.data.genotypes_bgen")
    with pytest.raises(ImportError, match=re.escape('fix: pip install "brainmt-align[genotypes]"')):
        open_genotypes(path)


def test_read_holds_eight_bytes_a_sample_and_variant(tmp_path):
    names = [f"s{i}" for i in range(2000)]
    path = write_bgen(tmp_path / "a.bgen", [Site(at, "A C", [[1, 0, 0, 1]] * 2000) for at in range(1, 151)], names)
    with BGENReader(path, names[::-1]) as genotypes:
        genotypes.read("20", 0, 5)
        tracemalloc.start()
        found = genotypes.read("20", 0, 1000)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    arrays = (found.alleles, found.phased, found.haploid, found.dosages)
    assert sum(array.nbytes for array in arrays) == 8 * 2000 * 150
    assert kept < 9 * 2000 * 150 and peak < 10 * 2000 * 150


@pytest.fixture(scope="session")
def plink2():
    """Tests skip without the program, except in CI, where that is a failure."""
    require_programs("plink2")


@pytest.mark.parametrize("form", ["bgen-1.2", "bgen-1.3"])
def test_read_equals_the_vcf_of_real_people(plink2, real_dir, tmp_path, form):
    folder = real_dir / "genotypes_chr20_b37"
    vcf, path = folder / "cohortA_300.phased.vcf.gz", tmp_path / "cohort.bgen"
    export = ["--export", form, "bits=8", "ref-first", "--threads", "1", "--silent", "--out", tmp_path / "cohort"]
    subprocess.run(["plink2", "--vcf", vcf, *export], check=True, capture_output=True)
    index_bgen(path)
    regions = read_regions(folder / "genes.b37.bed")
    assert len(regions) == 19
    variants = 0
    with BGENReader(path) as ours, VCFReader(vcf) as theirs:
        assert ours.samples == theirs.samples
        for region in regions:
            found, expected = (file.read(region.contig, region.start, region.end) for file in (ours, theirs))
            for field in ("positions", "stops", "refs", "alts", "ids", "alleles", "haploid"):
                np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
            heterozygous_SV = expected.alleles[:, 0] != expected.alleles[:, 1]
            assert found.phased[heterozygous_SV].all()
            np.testing.assert_array_equal(found.dosages, (expected.alleles > 0).sum(axis=1))
            variants += len(found.refs)
    assert variants > 3000

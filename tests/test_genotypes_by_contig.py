"""Tests of the room `genotypes_by_contig`: files of single contigs flow in; they read as one file would."""

import shutil
from pathlib import Path

import numpy as np
import pysam
import pytest

from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.genotypes import list_samples, open_genotypes
from brainmt_align.data.genotypes_by_contig import name_files
from brainmt_align.data.haplotypes import read_haplotypes
from tests.haplotype_files import HEADER, Variant, write_files

REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"


@pytest.fixture
def files(tmp_path):
    """chr1 and chr2 in files of their own, and the FASTA of both."""
    sequences = {"chr1": REFERENCE, "chr2": REFERENCE[::-1]}
    for contig, bases in sequences.items():
        folder = tmp_path / contig
        folder.mkdir()
        header = HEADER.replace("ID=1>", f"ID={contig},length=30>")
        found = write_files(folder, bases, [Variant(4, bases[4], ("N",), ("1|0", "0|1"))], (contig, contig), header)
        for ending in ("", ".tbi"):
            shutil.move(f"{found.genotypes}{ending}", tmp_path / f"cohort_c{contig[3:]}_v1.vcf.gz{ending}")
    fasta = tmp_path / "both.fa"
    fasta.write_text("".join(f">{contig}\n{bases}\n" for contig, bases in sequences.items()))
    pysam.faidx(str(fasta))
    return tmp_path / "cohort_c{contig}_v1.vcf.gz", fasta


def test_files_of_single_contigs_read_as_one(files):
    regions = [("chr2", 2, 10, "B"), ("1", 0, 8, "A")]
    second, first = read_haplotypes(*files, regions)
    assert first.samples == second.samples == ["anna", "ben"]
    assert first.sequences == [REFERENCE[:4] + "N" + REFERENCE[5:8], REFERENCE[:8]]
    assert second.reference == REFERENCE[::-1][2:10]
    with open_genotypes(files[0], ["ben", "anna"]) as found:
        assert (found.contigs, found.samples, found.lengths) == (["1", "2"], ["ben", "anna"], {"1": 30})
        assert found.find_contig("chr2") == "2" and found.find_contig("3") is None
        assert found.lengths == {"1": 30, "2": 30}
        assert [file.name for file in found.files_of("chr2")] == ["cohort_c2_v1.vcf.gz", "cohort_c2_v1.vcf.gz.tbi"]
        np.testing.assert_array_equal(found.read("2", 0, 8).alleles[:, :, 0], [[0, 1], [1, 0]])


def test_list_samples_asks_the_first_file(files):
    assert list_samples(files[0]) == ["anna", "ben"]


def test_a_file_that_lacks_a_sample_is_named(files, tmp_path):
    source, target = (tmp_path / f"cohort_c{name}_v1.vcf.gz" for name in ("2", "3"))
    with pysam.VariantFile(str(source)) as old:
        old.subset_samples(["anna"])
        with pysam.VariantFile(str(target), "wz", header=old.header) as new:
            for record in old:
                new.write(record)
    pysam.tabix_index(str(target), preset="vcf", force=True)
    with (
        open_genotypes(files[0], ["anna", "ben"]) as found,
        pytest.raises(ValueError, match=r"1 of 2 samples are not in the file, e\.g\. ben(?s:.*)_c3_"),
    ):
        found.read("3", 0, 8)


def test_no_file_at_all_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"files with a contig's name in the place of \{contig\} are expected, got none"):
        open_genotypes(tmp_path / "c{contig}.bcf")


def test_the_same_name_is_wanted_wherever_contig_stands(files, tmp_path):
    for contig in ("1", "2"):
        (tmp_path / f"by{contig}").mkdir()
        for ending in ("", ".tbi"):
            shutil.copy(tmp_path / f"cohort_c{contig}_v1.vcf.gz{ending}", tmp_path / f"by{contig}" / f"c{contig}.vcf.gz{ending}")
    shutil.copy(tmp_path / "by1" / "c1.vcf.gz", tmp_path / "by2" / "c9.vcf.gz")
    with open_genotypes(Path(tmp_path) / "by{contig}" / "c{contig}.vcf.gz") as found:
        assert found.contigs == ["1", "2"]


def test_samples_are_those_of_a_file_that_a_region_asks_for_and_never_of_a_stray_one(files, tmp_path):
    stray = tmp_path / "cohort_c1_old_v1.vcf.gz"
    with pysam.VariantFile(str(tmp_path / "cohort_c1_v1.vcf.gz")) as old:
        old.subset_samples(["ben"])
        with pysam.VariantFile(str(stray), "wz", header=old.header) as new:
            for record in old:
                new.write(record)
    pysam.tabix_index(str(stray), preset="vcf", force=True)
    (tmp_path / "cohort_c0-old_v1.vcf.gz").touch()
    assert list_samples(files[0]) == ["anna", "ben"]
    with open_genotypes(files[0]) as found:
        assert found.contigs == ["1", "2", "0-old", "1_old"]
        assert found.find_contig("chr2") == "2" and found.samples == ["anna", "ben"] and list(found.lengths) == ["2"]
        names = "cohort_c0-old_v1.vcf.gz, cohort_c1_old_v1.vcf.gz"
        assert found.notes == [f"Left alone, since what stands for {{contig}} is no contig of a region: {names}."]
    report = check_genotypes(*files, [("chr2", 2, 10, "B")])
    assert report.notes == ["Contigs of the regions are read under another name: chr2 as 2 of the genotypes.", *found.notes]
    assert report.regions[["contig", "contig_in_file"]].values.tolist() == [["chr2", "2"]]


def test_a_file_whose_contig_has_a_dot_is_read_when_a_region_asks_for_it(files, tmp_path):
    for ending in ("", ".tbi"):
        shutil.copy(tmp_path / f"cohort_c1_v1.vcf.gz{ending}", tmp_path / f"cohort_cGL.1_v1.vcf.gz{ending}")
    with open_genotypes(files[0]) as found:
        assert "cGL.1_v1" in found.notes[0]
        assert found.find_contig("GL.1") is None  # its records are of contig 1
        assert found.contigs[-1] == "GL.1" and found.samples == ["anna", "ben"] and found.notes == []


def test_name_files_lists_each_contigs_files_and_those_beside_them(tmp_path):
    for name in ("c1.bgen", "c1.bgen.bgi", "c1.sample", "c2.bgen", "of1.sample", "all.sample"):
        (tmp_path / name).touch()

    def name(sample_file):
        return {key: path.name for key, path in name_files(tmp_path / "c{contig}.bgen", sample_file).items()}

    genotypes = {" 1": "c1.bgen", " 1.bgi": "c1.bgen.bgi", " 2": "c2.bgen"}
    assert name(None) == genotypes | {" 1.sample": "c1.sample"}
    assert name(tmp_path / "of{contig}.sample") == genotypes | {" 1.sample": "of1.sample"}
    assert name(tmp_path / "all.sample") == genotypes
    assert list(name_files(tmp_path / "c1.bgen", None)) == ["", ".bgi", ".sample"]

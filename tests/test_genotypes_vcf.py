"""Tests of the room `genotypes_vcf`: small VCF and BCF files flow in; allele numbers and every refusal are checked."""

import gzip
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pysam
import pytest

from brainmt_align.data import genotypes_vcf
from brainmt_align.data.alleles import Alleles
from brainmt_align.data.genotype_records import read_text
from brainmt_align.data.genotypes_vcf import VCFReader

HEADER = """##fileformat=VCFv4.2
##contig=<ID=20,length=1000>
##INFO=<ID=END,Number=1,Type=Integer,Description="End">
##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="Length">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DS,Number=1,Type=Float,Description="Dosage">
##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">
"""


def write_vcf(
    path: Path, records: list[str], samples: tuple[str, ...] = ("anna", "ben", "carl"), info: list[str] | None = None
) -> Path:
    """Records as `POS REF ALT FORMAT CALL…`, separated by blanks → bgzipped VCF with its index."""
    lines = ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples])]
    for record, text in zip(records, info or ["."] * len(records), strict=True):
        position, ref, alt, *calls = record.split()
        lines.append("\t".join(["20", position, ".", ref, alt, ".", ".", text, *calls]))
    plain = path.with_suffix("")
    plain.write_text(HEADER + "\n".join(lines) + "\n")
    pysam.tabix_compress(str(plain), str(path), force=True)
    pysam.tabix_index(str(path), preset="vcf", force=True)
    plain.unlink()
    return path


def write_bcf(vcf: Path, path: Path) -> Path:
    """The same records as an indexed BCF."""
    with pysam.VariantFile(str(vcf)) as source, pysam.VariantFile(str(path), "wb", header=source.header) as target:
        for record in source:
            target.write(record)
    pysam.tabix_index(str(path), preset="bcf", csi=True, force=True)
    return path


def read(path: Path, contig: str, start: int, end: int, samples: list[str] | None = None) -> Alleles:
    with VCFReader(path, samples) as genotypes:
        return genotypes.read(contig, start, end)


@pytest.fixture
def vcf(tmp_path):
    """Plain diploid calls, two-digit alleles, other FORMAT keys, haploid and missing calls."""
    many = ",".join("A" * n for n in range(2, 13))
    return write_vcf(
        tmp_path / "small.vcf.gz",
        [
            "101 c t GT 0|1 1/0 .|.",
            f"110 A {many} GT 10|2 0|11 0|0",
            "120 ACGT A DS:GT 0.1:0|1 0.2:1|1 0.3:0/0",
            "130 G T,C GT 1 2|0 .",
        ],
    )


def test_read_gives_numbers_phase_and_ploidy(vcf):
    found = read(vcf, "20", 0, 1000)
    assert found.samples == ["anna", "ben", "carl"]
    assert found.positions.tolist() == [100, 109, 119, 129]
    assert found.stops.tolist() == [101, 110, 123, 130]
    assert found.refs == ["C", "A", "ACGT", "G"]
    assert found.alts[0] == ("T",)
    assert len(found.alts[1]) == 11
    assert found.alleles.dtype == np.int8
    assert found.alleles.transpose(2, 0, 1).tolist() == [
        [[0, 1], [1, 0], [-1, -1]],
        [[10, 2], [0, 11], [0, 0]],
        [[0, 1], [1, 1], [0, 0]],
        [[1, 1], [2, 0], [-1, -1]],
    ]
    assert found.phased.T.tolist() == [[True, False, True], [True] * 3, [True, True, False], [True] * 3]
    assert found.haploid.T.tolist() == [[False] * 3, [False] * 3, [False] * 3, [True, False, True]]


def test_read_keeps_the_order_of_the_request(vcf):
    everyone = read(vcf, "20", 0, 1000)
    some = read(vcf, "20", 0, 1000, ["carl", "anna"])
    assert some.samples == ["carl", "anna"]
    np.testing.assert_array_equal(some.alleles, everyone.alleles[[2, 0]])
    np.testing.assert_array_equal(some.phased, everyone.phased[[2, 0]])
    np.testing.assert_array_equal(some.haploid, everyone.haploid[[2, 0]])


def test_read_takes_records_that_overlap_the_region_only(vcf):
    assert read(vcf, "20", 101, 109).positions.tolist() == []
    assert read(vcf, "20", 101, 109).alleles.shape == (3, 2, 0)
    assert read(vcf, "20", 109, 110).positions.tolist() == [109]
    assert read(vcf, "20", 122, 125).positions.tolist() == [119]


def test_read_is_the_same_from_bcf(vcf, tmp_path):
    bcf = write_bcf(vcf, tmp_path / "small.bcf")
    for a, b in zip(read(vcf, "20", 0, 1000), read(bcf, "20", 0, 1000), strict=True):
        np.testing.assert_array_equal(np.asarray(a, dtype=object), np.asarray(b, dtype=object))


def test_read_widens_when_a_site_has_many_alts(tmp_path):
    alts = ",".join("C" * n for n in range(2, 202))
    found = read(write_vcf(tmp_path / "many.vcf.gz", [f"5 C {alts} GT 200|0 0|0 1|127"]), "20", 0, 10)
    assert found.alleles.dtype == np.int16
    assert found.alleles[:, :, 0].tolist() == [[200, 0], [0, 0], [1, 127]]


def test_read_keeps_what_it_has_read_when_a_later_site_has_many_alts(tmp_path):
    alts = ",".join("C" * n for n in range(2, 202))
    records = ["5 C T GT 0|1 .|. 1|0", f"6 C {alts} GT 200|0 0|0 1|127", "7 A G GT 1|1 0|1 0"]
    found = read(write_vcf(tmp_path / "late.vcf.gz", records), "20", 0, 10)
    assert found.alleles.transpose(2, 0, 1).tolist() == [
        [[0, 1], [-1, -1], [1, 0]],
        [[200, 0], [0, 0], [1, 127]],
        [[1, 1], [0, 1], [0, 0]],
    ]
    assert found.haploid.T.tolist() == [[False] * 3, [False] * 3, [False, False, True]]


def test_read_numbers_phase_sets_where_records_have_them(tmp_path):
    assert read(write_vcf(tmp_path / "none.vcf.gz", ["5 A C GT 0|1 0|1 0|0"]), "20", 0, 10).phase_sets is None
    records = ["5 A C GT 0|1 0|1 0|0", "6 A C GT:PS 0|1:6 0|1:5 0|1", "7 A C GT:PS:DS 0|1:6:0 1|0:7:1 0/0:.:0", "8 A C GT 0 0 0"]
    path = write_vcf(tmp_path / "sets.vcf.gz", records)
    found = read(path, "20", 0, 10, ["ben", "carl", "anna"])
    assert found.phase_sets.T.tolist() == [[0, 0, 0], [2, 0, 1], [3, 0, 1], [0, 0, 0]]
    assert found.alleles[:, :, 2].tolist() == [[1, 0], [0, 0], [0, 1]]
    again = read(write_bcf(path, tmp_path / "sets.bcf"), "20", 0, 10, ["ben", "carl", "anna"])
    np.testing.assert_array_equal(again.phase_sets, found.phase_sets)


@pytest.mark.parametrize("form", ["vcf.gz", "bcf"])
def test_genotype_file_knows_contigs_lengths_and_build_of_its_header(tmp_path, monkeypatch, form):
    more = "##contig=<ID=7,length=70,assembly=b37>\n##contig=<ID=chr20>\n##reference=file:///data/hs37d5.fa\n"
    monkeypatch.setattr("tests.test_genotypes_vcf.HEADER", HEADER + more)
    path = write_vcf(tmp_path / "small.vcf.gz", ["5 A C GT 0|1 0|1 0|0"])
    path = path if form == "vcf.gz" else write_bcf(path, tmp_path / "small.bcf")
    with VCFReader(path) as genotypes:
        assert set(genotypes.contigs) == {"20", "7", "chr20"}
        assert genotypes.lengths == {"20": 1000, "7": 70}
        assert genotypes.build_words == ["assembly=b37", "reference=hs37d5.fa"]
        assert genotypes.read("chr7", 0, 10).positions.tolist() == []
        assert genotypes.read("20", 0, 10).positions.tolist() == [4]


def test_genotype_file_prefers_the_contig_name_that_holds_records(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_genotypes_vcf.HEADER", HEADER + "##contig=<ID=chr20>\n")
    assert read(write_vcf(tmp_path / "renamed.vcf.gz", ["5 A C GT 0|1 0|1 0|0"]), "chr20", 0, 10).positions.tolist() == [4]


def test_read_holds_four_bytes_a_sample_and_variant_and_little_more_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(genotypes_vcf, "BLOCK", 500)
    names = tuple(f"s{i}" for i in range(500))
    records = [f"{i + 1} A C GT {' '.join(['0|1'] * 500)}" for i in range(400)]
    path = write_vcf(tmp_path / "many.vcf.gz", records, names)
    with VCFReader(path, names[::-1]) as genotypes:
        genotypes.read("20", 0, 5)
        tracemalloc.start()
        found = genotypes.read("20", 0, 1000)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found.alleles.nbytes + found.phased.nbytes + found.haploid.nbytes == 4 * 500 * 400
    assert kept < 5 * 500 * 400
    assert peak < 6 * 500 * 400


def test_read_equals_pysams_own_genotypes_on_real_people(real_dir):
    path = real_dir / "genotypes_chr20_b37" / "cohortA_300.phased.vcf.gz"
    found = read(path, "20", 1_500_000, 1_520_000)
    with pysam.VariantFile(str(path)) as source:
        expected = [[call.allele_indices for call in r.samples.values()] for r in source.fetch("20", 1_500_000, 1_520_000)]
    assert found.alleles.shape[:2] == (300, 2)
    np.testing.assert_array_equal(found.alleles, np.array(expected).transpose(1, 2, 0))
    assert found.phased.all()


def test_read_refuses_a_contig_without_records(vcf):
    with pytest.raises(ValueError, match=r"Contig 7 is not in the file; known are: 20\.\n  file: .*small.vcf.gz\n  fix: "):
        read(vcf, "7", 0, 10)


def test_genotype_file_counts_absent_samples_and_shows_three_of_each_side(vcf):
    with pytest.raises(ValueError, match=r"4 of 5 samples are not in the file, e.g. w, x, y; it holds 3, e.g. anna, ben, carl"):
        VCFReader(vcf, ["z", "y", "anna", "x", "w"])


def test_genotype_file_refuses_repeated_samples(vcf):
    with pytest.raises(ValueError, match=r"each sample is expected once, got 1 of them more often, e.g. ben"):
        VCFReader(vcf, ["ben", "anna", "ben"])


def test_genotype_file_refuses_an_empty_list_of_samples(vcf):
    message = (
        r"at least one sample is expected, got an empty list; the file holds 3, e\.g\. anna, .*\n.*\n  fix: .*pass None for all"
    )
    with pytest.raises(ValueError, match=message):
        VCFReader(vcf, [])


def test_genotype_file_refuses_ids_that_are_not_text(vcf):
    message = r"sample ids are expected as text, got 2 of 3 otherwise, e\.g\. 1001 \(int\)\.\n.*\n  fix: read the ids as text"
    with pytest.raises(ValueError, match=message):
        VCFReader(vcf, ["anna", 1001, 1002])


def test_genotype_file_refuses_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="got no such file"):
        VCFReader(tmp_path / "absent.vcf.gz")


def test_genotype_file_says_how_to_compress_and_index_plain_text(tmp_path):
    (tmp_path / "plain.vcf").write_text(HEADER)
    with pytest.raises(FileNotFoundError, match=r"fix: bgzip -k .*plain\.vcf && tabix -p vcf .*plain\.vcf\.gz"):
        VCFReader(tmp_path / "plain.vcf")


@pytest.mark.parametrize(("name", "command"), [("a.vcf.gz", "tabix -p vcf .*a.vcf.gz"), ("a.bcf", "bcftools index .*a.bcf")])
def test_genotype_file_says_how_to_index(tmp_path, name, command):
    (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=rf"an index \(.tbi or .csi\) is expected .*\n.*\n  fix: {command}"):
        VCFReader(tmp_path / name)


def test_genotype_file_refuses_what_is_no_vcf(vcf, tmp_path):
    other = tmp_path / "other.vcf.gz"
    other.write_text("no variants here\n")
    shutil.copy(f"{vcf}.tbi", f"{other}.tbi")
    with pytest.raises(ValueError, match="a bgzipped VCF or a BCF with its index is expected, got a file that cannot be opened"):
        VCFReader(other)


def test_genotype_file_names_the_samples_that_its_header_repeats(tmp_path):
    path = write_vcf(tmp_path / "twice.vcf.gz", ["5 A C GT 0|1 0|1 0|0 0|0 0|0"], ("anna", "ben", "anna", "carl", "ben"))
    message = r"every sample is expected once in the header, got 2 of them more often, e\.g\. anna, ben\.\n.*\n  fix: rename"
    with pytest.raises(ValueError, match=message):
        VCFReader(path)


def test_genotype_file_refuses_a_damaged_index(vcf):
    Path(f"{vcf}.tbi").write_text("damaged")
    with pytest.raises(ValueError, match=r"cannot be opened \(its index cannot be loaded\)"):
        VCFReader(vcf)


def test_genotype_file_refuses_a_file_of_sites(tmp_path):
    path = tmp_path / "sites.vcf.gz"
    (tmp_path / "sites.vcf").write_text(HEADER + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n20\t5\t.\tA\tC\t.\t.\t.\n")
    pysam.tabix_compress(str(tmp_path / "sites.vcf"), str(path))
    pysam.tabix_index(str(path), preset="vcf")
    with pytest.raises(ValueError, match="sample columns with GT are needed, got a file of sites only"):
        VCFReader(path)


def test_read_refuses_records_without_gt(tmp_path):
    path = write_vcf(tmp_path / "dosage.vcf.gz", ["5 A C DS 0.1 0.2 0.3"])
    with pytest.raises(ValueError, match="FORMAT with GT is expected at 20:5, got DS"):
        read(path, "20", 0, 10)


def test_read_refuses_other_ploidy(tmp_path):
    path = write_vcf(tmp_path / "triploid.vcf.gz", ["5 A C GT 0|1 0|1|1 0|0"])
    with pytest.raises(ValueError, match=r"ploidy 1 or 2 is expected at 20:5, got 1 other calls, e.g. 0\|1\|1 of ben"):
        read(path, "20", 0, 10)


def test_read_refuses_numbers_without_an_alt(tmp_path):
    path = write_vcf(tmp_path / "renumbered.vcf.gz", ["5 A C GT 0|1 0|2 0|0"])
    with pytest.raises(ValueError, match="allele numbers up to 1 are expected at 20:5, which has 1 ALT alleles, got 2"):
        read(path, "20", 0, 10)


@pytest.fixture
def copied_vcf(real_dir, tmp_path):
    """A real file that may be damaged."""
    source = real_dir / "genotypes_chr20_b37" / "cohortA_300.phased.vcf.gz"
    copy = tmp_path / "copy.vcf.gz"
    copy.write_bytes(source.read_bytes())
    Path(f"{copy}.tbi").write_bytes(Path(f"{source}.tbi").read_bytes())
    return copy


def test_genotype_file_refuses_a_truncated_file(copied_vcf):
    copied_vcf.write_bytes(copied_vcf.read_bytes()[:200_000])
    with pytest.raises(ValueError, match=r"cannot be opened \(no BGZF EOF marker; .*\n.*\n  fix: copy it again"):
        VCFReader(copied_vcf)


def test_read_refuses_a_damaged_file(copied_vcf):
    content = bytearray(copied_vcf.read_bytes())
    content[208_000:209_000] = bytes(1_000)  # within a block
    copied_vcf.write_bytes(content)
    with pytest.raises(ValueError, match=r"20:1000001-1999000 cannot be read to its end .*; the file is damaged"):
        read(copied_vcf, "20", 1_000_000, 1_999_000)


def test_genotype_file_refuses_an_index_of_another_file(vcf, copied_vcf):
    Path(f"{vcf}.tbi").write_bytes(Path(f"{copied_vcf}.tbi").read_bytes())
    with pytest.raises(ValueError, match=r"the index of this very file is expected, got one that names byte"):
        VCFReader(vcf)


def test_genotype_file_notes_an_index_that_is_older_than_the_file(vcf):
    with VCFReader(vcf) as genotypes:
        assert genotypes.notes == []
    os.utime(f"{vcf}.tbi", (1, 1))
    with VCFReader(vcf) as genotypes:
        assert genotypes.notes == ["The index of small.vcf.gz is older than the file itself; it fits where it was looked up."]


def test_read_names_the_file_and_the_place_of_a_malformed_record(tmp_path):
    path = write_vcf(tmp_path / "short.vcf.gz", ["5 A C GT 0|1 0|1 0|0", "7 A C GT 0|1"])
    with pytest.raises(
        ValueError, match=r"a call of each of 3 samples is expected at 20:7, got 1\.\n  file: .*short\.vcf\.gz\n  fix"
    ):
        read(path, "20", 0, 10)
    message = (
        r"a call a sample, are expected at 20:1-10, got one that cannot be read \(.*\)\.\n  file: .*short\.vcf\.gz\n  fix: repair"
    )
    with pytest.raises(ValueError, match=message):
        read(path, "20", 0, 10, ["ben"])


def test_read_refuses_a_record_without_a_position(tmp_path):
    path = write_vcf(tmp_path / "odd.vcf.gz", ["5 A C GT 0|1 0|1 0|0"])
    with (
        VCFReader(path) as genotypes,
        pytest.raises(ValueError, match=r"a whole position are expected, got '20:x' at the beginning"),
    ):
        read_text("20\tx\t.\tA\tC\t.\t.\t.\tGT\t0|1", genotypes.path)


def test_read_gives_everyone_as_it_gives_some(vcf):
    everyone, turned = read(vcf, "20", 0, 1000), read(vcf, "20", 0, 1000, ["carl", "ben", "anna"])
    np.testing.assert_array_equal(everyone.alleles[::-1], turned.alleles)
    assert (everyone.refs, everyone.alts, everyone.ids) == (turned.refs, turned.alts, turned.ids)
    np.testing.assert_array_equal(everyone.stops, turned.stops)


def index_csi(path: Path) -> None:
    pysam.tabix_index(str(path), preset="vcf", csi=True, force=True)


def test_read_takes_the_index_that_was_checked(vcf, tmp_path):
    expected = read(vcf, "20", 0, 1000)
    other = write_vcf(tmp_path / "other.vcf.gz", [f"{at} A C GT 0|1 0|1 0|0" for at in range(1, 900, 3)])
    alone = tmp_path / "alone.vcf.gz"
    shutil.copy(vcf, alone)
    index_csi(alone)
    assert not Path(f"{alone}.tbi").exists()
    np.testing.assert_array_equal(read(alone, "20", 0, 1000).alleles, expected.alleles)
    shutil.copy(f"{other}.tbi", f"{alone}.tbi")  # of another file, and not the one that htslib takes
    np.testing.assert_array_equal(read(alone, "20", 0, 1000).alleles, expected.alleles)


def test_read_takes_letters_of_every_language_and_refuses_other_bytes(tmp_path):
    path = write_vcf(tmp_path / "a.vcf.gz", ["5 A C GT 0|1 0|1 0|0"])
    for text, told in (
        ("Zürich".encode(), None),
        ("Zürich".encode("latin1"), r"UTF-8 text is expected at 20:1-10(?s:.*)a\.vcf\.gz"),
    ):
        plain = gzip.decompress(path.read_bytes()).replace(b"\t5\t.\t", b"\t5\t" + text + b"\t")
        (tmp_path / "b.vcf").write_bytes(plain)
        pysam.tabix_compress(str(tmp_path / "b.vcf"), str(tmp_path / "b.vcf.gz"), force=True)
        pysam.tabix_index(str(tmp_path / "b.vcf.gz"), preset="vcf", force=True)
        if told is None:
            assert read(tmp_path / "b.vcf.gz", "20", 0, 10).ids == ["Zürich"]
        else:
            with pytest.raises(ValueError, match=told.replace("a\\.vcf", "b\\.vcf")):
                read(tmp_path / "b.vcf.gz", "20", 0, 10)


def test_read_takes_a_bcf_under_the_name_of_a_vcf(vcf, tmp_path):
    bcf = write_bcf(vcf, tmp_path / "small.bcf")
    bcf.rename(tmp_path / "odd.vcf.gz")
    Path(f"{bcf}.csi").rename(tmp_path / "odd.vcf.gz.csi")
    np.testing.assert_array_equal(read(tmp_path / "odd.vcf.gz", "20", 0, 1000).alleles, read(vcf, "20", 0, 1000).alleles)


def test_read_takes_a_cell_without_its_genotype_for_a_missing_one(tmp_path):
    path = write_vcf(tmp_path / "a.vcf.gz", ["5 A C DS:GT 1:0|1 0.5 0:0|0"])
    assert read(path, "20", 0, 10).alleles[:, :, 0].tolist() == [[0, 1], [-1, -1], [0, 0]]


def test_read_refuses_an_empty_allele(tmp_path):
    path = write_vcf(tmp_path / "a.vcf.gz", ["5 A T,,G GT 0|1 0|0 0|0"])
    with pytest.raises(ValueError, match=r"alleles with letters are expected at 20:5, got REF 'A' and ALT 'T,,G'"):
        read(path, "20", 0, 10)


def test_read_takes_an_empty_phase_set_for_none(tmp_path):
    path = write_vcf(tmp_path / "a.vcf.gz", ["5 A T GT:PS 0|1: 0|1:7 0|0:."])
    assert (read(path, "20", 0, 10).phase_sets[:, 0] == 0).tolist() == [True, False, True]

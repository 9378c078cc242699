"""Tests of the room `gtf`: both spellings, names that are shared, canonical exons, plain and gzipped; every refusal."""

import gzip

import pysam
import pytest

from brainmt_align.data.gtf import Gene, is_gtf, read_genes
from brainmt_align.data.region_shapes import WHOLE, RegionShape
from tests.gtf_files import exon, gene, line, write_gtf

EXONS = RegionShape("exons")
THREE = (
    gene("ENSG01.2", "AAA", 11, 40),
    gene("ENSG02.7", "BBB", 51, 90, "-"),
    gene("ENSG03.1", "LNC", 61, 70, kind="lncRNA"),
)


def test_read_genes_reads_protein_coding_genes_as_half_open_places(tmp_path):
    genes = read_genes(write_gtf(tmp_path / "a.gtf", *THREE), WHOLE)
    assert genes == (Gene("1", 10, 40, "AAA", "+"), Gene("1", 50, 90, "BBB", "-"))


def test_read_genes_reads_the_spelling_of_ensembl(tmp_path):
    attributes = 'gene_id "ENSG01"; gene_version "2"; gene_name "AAA"; gene_source "ensembl"; gene_biotype "protein_coding";'
    nameless = 'gene_id "ENSG02"; gene_version "1"; gene_source "havana"; gene_biotype "protein_coding";'
    path = tmp_path / "a.gtf"
    path.write_text("#!genome-build GRCh38\n" + line("gene", 11, 40, attributes, "-", "X") + line("gene", 1, 9, nameless))
    assert read_genes(path, WHOLE) == (Gene("X", 10, 40, "AAA", "-"), Gene("1", 0, 9, "ENSG02", "+"))


def test_read_genes_is_not_led_astray_by_other_attributes_and_marks(tmp_path):
    attributes = (
        'havana_gene_id "no"; gene_id "ENSG01"; note "it\'s a #1; gene_type"; gene_type "protein_coding"; gene_name "A#B";'
    )
    path = write_gtf(tmp_path / "a.gtf", line("gene", 11, 40, attributes), "# a remark\n", "\n", gene("ENSG02", "B", 1, 5))
    assert [each.name for each in read_genes(path, WHOLE)] == ["A#B", "B"]


@pytest.mark.parametrize("pack", [gzip.compress, "bgzip"])
@pytest.mark.parametrize("name", ["a.gtf.gz", "a.gtf"])
def test_read_genes_reads_gzipped_files_by_whatever_name(tmp_path, pack, name):
    plain = write_gtf(tmp_path / "plain", *(gene(f"ENSG{i}", f"G{i}", 10 * i + 1, 10 * i + 9) for i in range(3000)))
    if pack == "bgzip":
        pysam.tabix_compress(str(plain), str(tmp_path / name), force=True)
    else:
        (tmp_path / name).write_bytes(pack(plain.read_bytes()))
    assert len(read_genes(tmp_path / name, WHOLE)) == 3000


def test_read_genes_keeps_every_line_over_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("brainmt_align.data.gtf.BLOCK", 4096)
    lines = [gene(f"E{i}", f"G{i}", i + 1, i + 9) + exon(f"E{i}", f"T{i}", i + 2, i + 4, contig="1") for i in range(500)]
    genes = read_genes(write_gtf(tmp_path / "a.gtf", *lines), EXONS)
    assert genes == tuple(Gene("1", i, i + 9, f"G{i}", "+", ((i + 1, i + 4),)) for i in range(500))


def test_read_genes_reads_a_file_anew_once_it_has_changed(tmp_path):
    path = write_gtf(tmp_path / "a.gtf", *THREE)
    assert len(read_genes(path, WHOLE)) == 2
    write_gtf(path, THREE[0])
    assert len(read_genes(path, WHOLE)) == 1


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        (RegionShape(genes=("LNC", "AAA")), ["LNC", "AAA"]),
        (RegionShape(genes=["ENSG02", "ENSG01.2", "AAA"]), ["BBB", "AAA"]),
        (RegionShape(gene_types=("lncRNA",)), ["LNC"]),
        (RegionShape(gene_types=()), ["AAA", "BBB", "LNC"]),
    ],
)
def test_read_genes_takes_names_in_their_order_and_types_otherwise(tmp_path, shape, names):
    assert [each.name for each in read_genes(write_gtf(tmp_path / "a.gtf", *THREE), shape)] == names


def test_read_genes_tells_shared_names_apart_by_id_and_says_so(tmp_path, caplog):
    x, y = gene("ENSG09.4", "CD99", 1, 9, contig="X"), gene("ENSG09.4_PAR_Y", "CD99", 1, 9, contig="Y")
    path = write_gtf(tmp_path / "a.gtf", THREE[0], x, y)
    names = ["CD99|ENSG09.4", "CD99|ENSG09.4_PAR_Y"]
    assert [each.name for each in read_genes(path, WHOLE)] == ["AAA", *names]
    assert "2 genes share their names with others and are told apart by ids: CD99|ENSG09.4, CD99|" in caplog.text
    assert [each.name for each in read_genes(path, RegionShape(genes=("CD99",)))] == names
    for asked, contig in (("ENSG09", "X"), ("ENSG09_PAR_Y", "Y"), (names[1], "Y")):
        (found,) = read_genes(path, RegionShape(genes=(asked,)))
        assert (found.contig, found.name) == (contig, names[contig == "Y"])


def test_read_genes_joins_the_exons_of_the_canonical_transcript_else_of_all(tmp_path):
    path = write_gtf(
        tmp_path / "a.gtf",
        *THREE,
        exon("ENSG01.2", "T1", 11, 20, "basic"),
        line("transcript", 11, 40, 'gene_id "ENSG01.2"; transcript_id "T2"; tag "basic"; tag "Ensembl_canonical";'),
        exon("ENSG01.2", "T2", 31, 40),  # tagged by the line of its transcript alone
        exon("ENSG01.2", "T2", 13, 22),
        exon("ENSG01.2", "T3", 15, 16, "MANE_Select"),
        exon("ENSG02.7", "T4", 51, 60, strand="-"),
        exon("ENSG02.7", "T5", 55, 64, strand="-"),
        exon("ENSG02.7", "T5", 65, 70, strand="-"),  # touches the one before
        exon("ENSG02.7", "T5", 81, 90, strand="-"),
        exon("ENSG03.1", "T6", 61, 64),
        exon("ENSG03.1", "T7", 66, 70, "MANE_Select"),
    )
    exons = {each.name: each.exons for each in read_genes(path, EXONS._replace(gene_types=()))}
    assert exons == {"AAA": ((12, 22), (30, 40)), "BBB": ((50, 70), (80, 90)), "LNC": ((65, 70),)}


def test_read_genes_refuses_genes_and_types_that_are_not_there_with_the_nearest(tmp_path):
    path = write_gtf(tmp_path / "a.gtf", *THREE)
    with pytest.raises(
        ValueError, match=r"genes of the file are expected, got 1 that it lacks: AAB \(nearest: AAA\)\.\n  file: "
    ):
        read_genes(path, RegionShape(genes=("BBB", "AAB")))
    with pytest.raises(ValueError, match=r"gene_types of .* lacks: lncRNAs \(nearest: lncRNA\)(.|\n)*fix: set data.gene_types"):
        read_genes(path, RegionShape(gene_types=("protein_coding", "lncRNAs")))


def test_read_genes_refuses_an_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a GTF is expected, got no such file(.|\n)*fix: set data.regions"):
        read_genes(tmp_path / "a.gtf", WHOLE)


GFF3_LINE = line("gene", 11, 40, "ID=gene:ENSG01;Name=AAA;biotype=protein_coding")
LONG = "".join(gene(f"ENSG{i}", f"G{i}", 10 * i + 1, 10 * i + 9) for i in range(3000)).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got: nothing.*fix: give one with genes"),
        (b"# nothing\n", "got: (nothing|0 lines and no gene).*fix: give"),
        (exon("E", "T", 1, 5).encode(), "got: 1 lines and no gene among them.*fix: give GENCODE's or Ensembl's"),
        (("##gff-version 3\n" + GFF3_LINE).encode(), "got: GFF3.*fix: give the GTF of the same release, or convert it: gffread"),
        (GFF3_LINE.encode(), "got: GFF3.*gffread"),
        (line("gene", 1, 5, 'gene_name "A";').encode(), 'got: 1 genes without gene_id, e.g. `gene_name "A";`'),
        (LONG[:-90], "got: 1 other lines.*  - [1-8] columns in `1\tHAV.*fix: give a whole GTF; this one is cut short"),
        (b"1\t10\t20\tAAA\n", "got: 1 other lines.*  - 4 columns in `1\t10\t20\tAAA`"),
        (gzip.compress(LONG)[:-300], "got: .*fix: copy it again; it is cut short or damaged"),
        (gzip.compress(LONG)[:200] + b"\xff" * 60 + gzip.compress(LONG)[260:], "got: .*fix: copy it again"),
        (gene("E", "GÈNE", 1, 5).encode("latin-1"), "got: .*UTF8.*fix: .*its text is not UTF-8"),
        (line("gene", 1, 5, 'gene_id "A";').replace("\t1\t", "\tone\t").encode(), "got: .*'one'.*fix: copy"),
        (
            (gene("E1", "A", 0, 5) + gene("E2", "B", 9, 8) + gene("E3", "C", 1, 5, ".")).encode() + THREE[0].encode() * 2,
            "got: 4 faulty of 5 genes.*gene E1: 1:0-5 on.*gene E2: 1:9-8 on.*gene E3: 1:1-5 on strand .\n.*in more than one",
        ),
    ],
)
def test_read_genes_says_what_keeps_a_file_from_being_a_gtf(tmp_path, content, message):
    path = tmp_path / "a.gtf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)Regions: a GTF \(9 columns .* is expected, {message}") as caught:
        read_genes(path, WHOLE)
    assert f"  file: {path}\n" in str(caught.value)


def test_read_genes_refuses_genes_without_exons_and_exons_elsewhere(tmp_path):
    astray = [exon("ENSG01.2", "T", 39, 41), exon("ENSG01.2", "T", 11, 20, contig="2")]
    path = write_gtf(tmp_path / "a.gtf", *THREE, *astray)
    message = (
        r"(?s)got: 2 of 2 genes with other exons.*  - gene ENSG01.2: exons outside the gene\n  - gene BBB \(ENSG02.7\): no exon"
    )
    with pytest.raises(ValueError, match=message):
        read_genes(path, EXONS)


@pytest.mark.parametrize(
    ("name", "told"), [("a.gtf", True), ("a.GTF.gz", True), ("a.gff3", True), ("a.bed", False), ("gtf", False)]
)
def test_is_gtf_tells_by_the_name(tmp_path, name, told):
    assert is_gtf(tmp_path / name) is told

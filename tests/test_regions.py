"""Tests of the room `regions`: BED, GTF and tuples flow in; places, names, windows, shapes and the list of faults are checked."""

import gzip

import numpy as np
import pytest

from brainmt_align.data.region_shapes import RegionShape
from brainmt_align.data.regions import Region, read_place, read_regions
from tests.gtf_files import exon, gene, write_gtf


def test_read_regions_reads_bed_columns_and_skips_comments(tmp_path):
    bed = tmp_path / "genes.bed"
    bed.write_text(
        "# mine\ntrack name=genes\n20\t9\t30\tGENE A\t0\t-\textra\n\nchrX 0 5 B\n7\t1\t2\n8\t1\t2\tC\t0\t.\n9\t0\t4\t.\t0\t-\n"
    )
    assert read_regions(bed) == [
        Region("20", 9, 30, "GENE A", "-"),
        Region("chrX", 0, 5, "B", "+"),
        Region("7", 1, 2, "7:2-2", "+"),
        Region("8", 1, 2, "C", "+"),
        Region("9", 0, 4, "9:1-4", "-"),
    ]


def test_read_regions_reads_gzipped_bed(tmp_path):
    with gzip.open(tmp_path / "genes.bed.gz", "wt") as file:
        file.write("20\t9\t30\tA\n")
    assert read_regions(str(tmp_path / "genes.bed.gz")) == [Region("20", 9, 30, "A", "+")]


def test_read_regions_takes_tuples_and_its_own_result():
    regions = read_regions([("20", 9, 30, "A"), ("20", 40, 50, "B", "-"), ("20", 60, 70)])
    assert regions == [Region("20", 9, 30, "A", "+"), Region("20", 40, 50, "B", "-"), Region("20", 60, 70, "20:61-70", "+")]
    assert read_regions(regions) == regions
    assert read_regions([("20", np.int64(9), 30.0, ".")]) == [Region("20", 9, 30, "20:10-30", "+")]


@pytest.mark.parametrize(("start", "end"), [(1.7, 5.2), (0, 5.2), (float("nan"), 5), (0, float("inf")), (None, 5), ("1.0", "5")])
def test_read_regions_refuses_places_between_bases(start, end):
    with pytest.raises(
        ValueError, match=r"entry 0: start and end must be whole numbers, got .* and .*\n  file: the list of regions"
    ):
        read_regions([("20", start, end)])


def test_read_regions_passes_over_a_byte_order_mark(tmp_path):
    (tmp_path / "genes.bed").write_text("20\t9\t30\tA\n", encoding="utf-8-sig")
    assert read_regions(tmp_path / "genes.bed") == [Region("20", 9, 30, "A", "+")]


WHOLE = gzip.compress("".join(f"20\t{i}\t{i + 9}\tA{i}\n" for i in range(500)).encode())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.bed.gz", WHOLE[:-20], "got: Compressed file ended .*  fix: copy it again; it is cut short"),
        ("damaged.bed.gz", WHOLE[:200] + b"\xff" * 60 + WHOLE[260:], "got: .*  fix: copy it again; it is cut short or damaged"),
        ("plain.bed.gz", b"20\t9\t30\tA\n", "got: Not a gzipped file .*  fix: take .gz from its name"),
        ("sum.bed.gz", WHOLE[:-8] + b"1234" + WHOLE[-4:], "got: CRC check failed .*  fix: .*or gzip it again"),
        ("latin.bed", "20\t9\t30\tGÈNE\n".encode("latin-1"), "got: 'utf-8' codec .*  fix: save it as UTF-8"),
        ("hidden.bed", WHOLE, "got: 'utf-8' codec .*  fix: .*end its name in .gz if it is gzipped"),
    ],
)
def test_read_regions_says_how_to_mend_a_file_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)Regions: UTF-8 text, .* is expected, {message}") as caught:
        read_regions(tmp_path / name)
    assert f"  file: {tmp_path / name}\n" in str(caught.value)


@pytest.mark.parametrize(
    ("start", "end", "window", "expected"),
    [
        (100, 200, 50, (125, 175)),
        (100, 201, 51, (125, 176)),
        (100, 110, 40, (85, 125)),
        (0, 10, 40, (0, 25)),
        (480, 500, 60, (460, 500)),
    ],
)
def test_read_regions_centres_the_window_and_cuts_it_at_the_contigs_ends(start, end, window, expected):
    (region,) = read_regions([("1", start, end, "A")], window=window, lengths={"1": 500})
    assert (region.start, region.end) == expected


def test_read_regions_lists_every_fault_with_its_line(tmp_path):
    bed = tmp_path / "genes.bed"
    bed.write_text(
        "1\t5\n1\tx\t9\tA\n1\t9\t9\tB\n1\t-1\t9\tC\n1\t0\t9\tD\n1\t3\t8\tD\n1\t0\t9\tE\t0\tforward\n1\t0\t99\tF\n1\t1\t2\t \n"
    )
    expected = [
        "got 8 faulty of 9:",
        "  - line 1: 3 to 6 values are expected (contig, start, end, name, strand, parts), got 2",
        "  - line 2: start and end must be whole numbers, got 'x' and '9'",
        "  - line 3: 0 <= start < end is expected, got 9 and 9",
        "  - line 4: 0 <= start < end is expected, got -1 and 9",
        "  - line 6: name D is taken by line 5",
        "  - line 7: strand must be +, - or ., got 'forward'",
        "  - line 8: 1:0-99 runs over the contig's end at 50; is the FASTA of the same build?",
        "  - line 9: the name is empty",
        f"  file: {bed}",
    ]
    with pytest.raises(ValueError, match="Regions: rows of contig, start, end, name") as caught:
        read_regions(bed, lengths={"1": 50})
    for line in expected:
        assert line in str(caught.value)


def test_read_regions_refuses_an_empty_table(tmp_path):
    (tmp_path / "empty.bed").write_text("# nothing\n")
    with pytest.raises(
        ValueError, match=r"at least one row .* is expected, got none\.\n  file: .*empty.bed\n  fix: give the reg"
    ):
        read_regions(tmp_path / "empty.bed")
    with pytest.raises(ValueError, match=r"got none\.\n  file: the list of regions"):
        read_regions([])


def test_read_regions_refuses_an_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a BED file is expected, got no such file(.|\n)*fix: set data.regions"):
        read_regions(tmp_path / "genes.bed")


def test_read_regions_refuses_a_window_without_bases():
    with pytest.raises(ValueError, match=r"a window of at least 1 base is expected, got 0.\n  fix: set data.region_window"):
        read_regions([("1", 0, 5, "A")], window=0)


def test_read_regions_takes_regions_in_parts():
    (region,) = read_regions([Region("1", 2, 18, "A", "-", ((2, 6), (12, 18)))])
    assert region.bases == 10
    assert region.pieces() == [Region("1", 2, 6, "A", "-"), Region("1", 12, 18, "A", "-")]
    assert Region("1", 2, 18, "A").pieces() == [Region("1", 2, 18, "A")]


@pytest.mark.parametrize("parts", [((2, 6), (6, 18)), ((3, 6), (12, 18)), ((2, 6), (5, 18)), ((12, 18), (2, 6))])
def test_read_regions_refuses_parts_that_do_not_follow_one_another(parts):
    with pytest.raises(ValueError, match="parts must follow one another from 2 to 18 with bases between them"):
        read_regions([Region("1", 2, 18, "A", "+", parts)])


def test_read_regions_refuses_a_window_of_parts():
    with pytest.raises(ValueError, match="a window is expected of a region in one piece"):
        read_regions([Region("1", 2, 18, "A", "+", ((2, 6), (12, 18)))], window=4)


TSS = RegionShape("tss", (4, 2))


def test_read_regions_reads_genes_of_a_gtf_as_it_reads_the_same_bed(tmp_path):
    genes = [("AAA", 10, 40, "+"), ("BBB", 50, 90, "-")]
    lines = [gene(f"ENSG{name}.1", name, start + 1, end, strand) for name, start, end, strand in genes]
    bed = tmp_path / "genes.bed"
    bed.write_text("".join(f"1\t{start}\t{end}\t{name}\t0\t{strand}\n" for name, start, end, strand in genes))
    gtf = write_gtf(tmp_path / "genes.gtf", *lines)
    for shape in (RegionShape(), RegionShape(flanks=(20, 5)), TSS, RegionShape(genes=("BBB",))):
        for lengths in (None, {"1": 95}):
            assert read_regions(gtf, lengths=lengths, shape=shape) == read_regions(str(bed), lengths=lengths, shape=shape)
    assert read_regions(gtf, window=10) == read_regions(bed, window=10)


def test_read_regions_reads_the_real_genes_of_a_bed_alike_from_a_gtf(real_dir, tmp_path):
    regions = read_regions(real_dir / "genotypes_chr20_b37" / "genes.b37.bed")
    lines = [
        gene(f"ENSG{i:011d}.1", each.name, each.start + 1, each.end, each.strand, contig="chr20")
        for i, each in enumerate(regions)
    ]
    gtf = tmp_path / "genes.gtf.gz"
    gtf.write_bytes(gzip.compress("".join(lines).encode()))
    assert read_regions(gtf) == [each._replace(contig="chr20") for each in regions]


def test_read_regions_shapes_by_strand_and_cuts_at_the_contigs_ends():
    rows = [("1", 10, 40, "A", "+"), ("1", 50, 90, "B", "-")]
    plus, minus = read_regions(rows, lengths={"1": 95}, shape=RegionShape(flanks=(20, 6)))
    assert (plus, minus) == (Region("1", 0, 46, "A", "+"), Region("1", 44, 95, "B", "-"))
    assert read_regions(rows, shape=TSS) == [Region("1", 6, 12, "A", "+"), Region("1", 88, 94, "B", "-")]


def test_read_regions_keeps_the_name_of_the_place_in_the_file(tmp_path):
    (tmp_path / "a.bed").write_text("1\t10\t40\t.\t0\t-\n")
    assert read_regions(tmp_path / "a.bed", shape=TSS) == [Region("1", 38, 44, "1:11-40", "-")]


def test_read_regions_joins_exons_and_gives_one_exon_as_one_piece(tmp_path):
    exons = [exon("E1", "T", 11, 20), exon("E1", "T", 31, 40), exon("E2", "T", 55, 90, strand="-")]
    gtf = write_gtf(tmp_path / "a.gtf", gene("E1", "A", 5, 44), gene("E2", "B", 51, 90, "-"), *exons)
    regions = read_regions(gtf, lengths={"1": 91}, shape=RegionShape("exons", (4, 2)))
    assert regions == [Region("1", 6, 42, "A", "+", ((6, 20), (30, 42))), Region("1", 52, 91, "B", "-")]
    assert read_regions(regions) == regions
    (region,) = read_regions(gtf, shape=RegionShape("exons", genes=("A",)))
    assert (region.start, region.end, region.bases) == (10, 40, 20)


@pytest.mark.parametrize("strand", ["", "\t0\t."])
@pytest.mark.parametrize("shape", [TSS, RegionShape("tss", (5, 5)), RegionShape(flanks=(5, 0))])
def test_read_regions_refuses_a_shape_by_strand_where_there_is_none(tmp_path, strand, shape):
    (tmp_path / "a.bed").write_text(f"1\t10\t40\tA{strand}\n")
    with pytest.raises(ValueError, match="line 1: region A: a strand is needed, \\+ or -, to tell upstream from downstream"):
        read_regions(tmp_path / "a.bed", shape=shape)
    assert read_regions(tmp_path / "a.bed", shape=RegionShape(flanks=(5, 5))) == [Region("1", 5, 45, "A")]


def test_read_regions_names_regions_without_strand_where_each_is_read_in_its_own_direction(tmp_path):
    bed = tmp_path / "a.bed"
    bed.write_text("1\t10\t40\tA\n1\t50\t60\tB\t0\t.\n1\t70\t80\tC\t0\t-\n1\t90\t99\tD\t-\n")
    message = r"got 3 faulty of 4:\n  - line 1: region A: a strand .*data\.oriented=plus\n  - line 2: region B"
    with pytest.raises(ValueError, match=message):
        read_regions(bed, shape=RegionShape(directed=True))
    with pytest.raises(ValueError, match="entry 0: region A: a strand is needed"):
        read_regions([("1", 10, 40, "A")], shape=RegionShape(directed=True))
    stranded = [Region("1", 10, 40, "A", "+"), Region("1", 50, 60, "B", "-")]
    assert read_regions(stranded, shape=RegionShape(directed=True)) == stranded


def test_read_regions_takes_named_regions_in_their_order_and_refuses_others(tmp_path):
    (tmp_path / "a.bed").write_text("1\t10\t40\tAAA\n1\t20\t40\tBBB\n1\t30\t40\tCCC\n")
    chosen = read_regions(tmp_path / "a.bed", shape=RegionShape(genes=("CCC", "AAA", "CCC")))
    assert [region.name for region in chosen] == ["CCC", "AAA"]
    with pytest.raises(ValueError, match=r"genes of the file .*lacks: AAB \(nearest: AAA\)\.\n  file: .*a.bed"):
        read_regions(tmp_path / "a.bed", shape=RegionShape(genes=("AAB",)))


def test_read_regions_refuses_shapes_that_nothing_comes_of(tmp_path):
    with pytest.raises(ValueError, match=r"exons are read of a GTF, got a list of regions\.\n  fix: set data.regions to a file"):
        read_regions([("1", 10, 40)], shape=RegionShape("exons"))
    with pytest.raises(ValueError, match=r"entry 0: no base of its flanks lies on the contig 1"):
        read_regions([("1", 0, 40, "A", "+")], shape=RegionShape("tss", (5, 0)))
    with pytest.raises(ValueError, match="a window around the centre is of whole regions"):
        read_regions([("1", 10, 40)], window=5, shape=RegionShape(flanks=(1, 1)))
    with pytest.raises(ValueError, match="gene A: 1:0-9 runs over the contig's end at 8"):
        read_regions(write_gtf(tmp_path / "a.gtf", gene("E", "A", 1, 9)), lengths={"1": 8})


@pytest.mark.parametrize(
    ("region", "place"),
    [
        (Region("HLA:01:02", 5, 9, "X"), "HLA:01:02:5-9"),
        (Region("1", 5, 9, "X", "-"), "1:5-9(-)"),
        (Region("1", 2, 18, "X", "-", ((2, 6), (12, 18))), "1:2-6,12-18(-)"),
    ],
)
def test_read_place_reads_what_place_says(region, place):
    assert region.place == place
    assert read_place("X", place) == region

"""Tests of the room `regions`: BED files and tuples flow in; coordinates, names, windows and the list of faults are checked."""

import gzip

import numpy as np
import pytest

from brainmt_align.data.regions import Region, read_regions


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
        "  - line 1: 3 to 5 values are expected (contig, start, end, name, strand), got 2",
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

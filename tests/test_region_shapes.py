"""Tests of the room `region_shapes`: words that go together, and the stretches that each shape reads, against bases by hand."""

import itertools

import pytest

from brainmt_align.data.region_shapes import WHOLE, RegionShape, check_shape, merge_spans, place_spans, refuse_unknown


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (RegionShape("promoter"), "region_kind must be one of gene, tss, exons, got 'promoter'.\n  fix: set data.region_kind"),
        (RegionShape(flanks=(-1, 0)), r"two flanks of at least 0 bases, .* got \(-1, 0\).\n  fix: set data.flanks"),
        (RegionShape(flanks=(1.5, 0)), "two flanks of at least 0 bases"),
        (RegionShape(flanks=(1, 2, 3)), "two flanks of at least 0 bases"),
        (RegionShape(flanks=5), "two flanks of at least 0 bases"),
        (RegionShape("tss"), "bases around the transcription start site are expected, got flanks of 0 and 0"),
        (RegionShape(genes="SIRPA"), "genes must be a list of names, got 'SIRPA'.\n  fix: set data.genes"),
        (RegionShape(genes=()), r"genes must be a list of names, got \(\)"),
        (RegionShape(gene_types="lncRNA"), "gene_types must be a list of names, got 'lncRNA'"),
    ],
)
def test_check_shape_refuses_what_is_no_shape(shape, message):
    with pytest.raises(ValueError, match=message):
        check_shape(shape)


@pytest.mark.parametrize("shape", [RegionShape("exons"), RegionShape("tss", (5, 5)), RegionShape(flanks=(0, 5))])
def test_check_shape_refuses_a_window_of_other_than_whole_regions(shape):
    check_shape(shape)
    check_shape(WHOLE, 100)
    with pytest.raises(ValueError, match=rf"whole regions without flanks, got region_kind {shape.kind} with flanks of \d and \d"):
        check_shape(shape, 100)


@pytest.mark.parametrize(
    ("strand", "shape", "expected"),
    [
        ("+", RegionShape(flanks=(20, 5)), ((80, 205),)),
        ("-", RegionShape(flanks=(20, 5)), ((95, 220),)),
        ("+", RegionShape("tss", (20, 5)), ((80, 105),)),
        ("-", RegionShape("tss", (20, 5)), ((195, 220),)),
        ("+", RegionShape("tss", (0, 1)), ((100, 101),)),
        ("-", RegionShape("tss", (0, 1)), ((199, 200),)),
        ("+", RegionShape(flanks=(200, 900)), ((0, 1000),)),
        ("-", RegionShape("tss", (900, 300)), ((0, 1000),)),
    ],
)
def test_place_spans_counts_upstream_by_strand_and_stays_on_the_contig(strand, shape, expected):
    assert place_spans(((100, 200),), strand, shape, 1000) == expected


def test_place_spans_extends_the_first_and_the_last_exon():
    spans = ((100, 110), (120, 130), (150, 200))
    assert place_spans(spans, "-", RegionShape("exons", (7, 3))) == ((97, 110), (120, 130), (150, 207))
    assert place_spans(spans, "-", RegionShape("tss", (7, 3))) == ((197, 207),)


def test_place_spans_is_empty_beyond_the_contig():
    assert place_spans(((0, 10),), "+", RegionShape("tss", (5, 0))) == ()
    assert place_spans(((0, 10),), "-", RegionShape("tss", (5, 0)), 10) == ()


def test_merge_spans_covers_the_same_bases_with_gaps_between():
    ends = range(5)
    every = [(start, end) for start in ends for end in ends if start < end]
    for spans in itertools.combinations(every, 3):
        merged = merge_spans(spans)
        assert {i for span in spans for i in range(*span)} == {i for span in merged for i in range(*span)}
        assert all(left[1] < right[0] for left, right in itertools.pairwise(merged))


def test_refuse_unknown_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"genes of the file are expected, got 1 .*: sirpb \(nearest: SIRPB1\).\n  file: a.bed\n"
    ):
        refuse_unknown(["sirpb"], ["SIRPB1", "PDYN"], "genes", "a.bed")

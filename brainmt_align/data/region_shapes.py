"""Region shapes: what of a gene is wanted and where it lies flow in; the stretches of the contig to read flow out."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

from brainmt_align.listing import some_with_nearest

KINDS = ("gene", "tss", "exons")

Spans = tuple[tuple[int, int], ...]  # 0-based half-open, from left to right


class RegionShape(NamedTuple):
    """What of each gene, or of each region of a BED file, is read.

    Attributes:
        kind: "gene": all of it; "tss": bases around the transcription start site, which is its first base by strand; "exons": the
            exons of its canonical transcript, of all transcripts where none is tagged so, joined.
        flanks: bases upstream and downstream by strand, so that upstream of a gene on "-" is to its right. They are added to
            what is read; of "tss" they are all of it, the site itself the first base downstream.
        genes: names or ids to read, in this order; of a GTF also `NAME|ID`. None: all.
        gene_types: of a GTF without `genes`: the types to read; none named: of any type.
        directed: each is read in its own direction, so that a region without strand is refused.
    """

    kind: str = "gene"
    flanks: tuple[int, int] = (0, 0)
    genes: Sequence[str] | None = None
    gene_types: Sequence[str] = ("protein_coding",)
    directed: bool = False

    @property
    def is_whole(self) -> bool:
        """Each region is read as it lies in its file."""
        return self.kind == "gene" and not any(self.flanks)

    @property
    def needs_strand(self) -> bool:
        """A region without strand cannot take this shape."""
        return self.directed or self.kind == "tss" or self.flanks[0] != self.flanks[1]


WHOLE = RegionShape()


def check_shape(shape: RegionShape, window: int | None = None) -> None:
    """The words are known and go together.

    Args:
        shape: to check.
        window: bases around each region's centre; goes with whole regions alone.

    Raises:
        ValueError: an unknown kind, flanks that are not two numbers from 0, "tss" without any base, genes or types that are no
            list of names, a window of another shape than whole regions.
    """
    if shape.kind not in KINDS:
        raise ValueError(
            f"Regions: region_kind must be one of {', '.join(KINDS)}, got {shape.kind!r}.\n  fix: set data.region_kind."
        )
    flanks = shape.flanks
    if not isinstance(flanks, Sequence) or len(flanks) != 2 or not all(isinstance(f, int) and f >= 0 for f in flanks):
        raise ValueError(
            f"Regions: two flanks of at least 0 bases, upstream and downstream, are expected, got {flanks!r}.\n"
            "  fix: set data.flanks=[2000,500], or any other two."
        )
    if shape.kind == "tss" and not any(flanks):
        raise ValueError(
            "Regions: bases around the transcription start site are expected, got flanks of 0 and 0.\n"
            "  fix: set data.flanks=[upstream,downstream]."
        )
    for key, names in (("genes", shape.genes), ("gene_types", shape.gene_types)):
        if isinstance(names, str) or (key == "genes" and names is not None and not names):
            raise ValueError(f"Regions: {key} must be a list of names, got {names!r}.\n  fix: set data.{key}=[…].")
    if window is not None and not shape.is_whole:
        raise ValueError(
            f"Regions: a window around the centre is of whole regions without flanks, got region_kind {shape.kind} with flanks "
            f"of {flanks[0]} and {flanks[1]}.\n  fix: set data.region_window=null, or data.region_kind=gene data.flanks=[0,0]."
        )


def place_spans(spans: Spans, strand: str, shape: RegionShape, length: int | None = None) -> Spans:
    """The stretches that a shape reads of a region, cut where the contig begins or ends.

    Args:
        spans: of the region, one or, joined, more.
        strand: "+" or "-".
        shape: checked.
        length: bases of the contig, where known.

    Returns:
        As many as before, one of "tss"; none where all of it lies beyond the contig.
    """
    up, down = shape.flanks
    left, right = (down, up) if strand == "-" else (up, down)
    if shape.kind == "tss":
        site = spans[-1][1] if strand == "-" else spans[0][0]
        spans = ((site, site),)
    edges = [edge for span in spans for edge in span]
    edges[0], edges[-1] = max(edges[0] - left, 0), edges[-1] + right
    if length is not None:
        edges[-1] = min(edges[-1], length)
    return tuple(zip(edges[::2], edges[1::2], strict=True)) if edges[0] < edges[-1] else ()


def merge_spans(spans: Iterable[tuple[int, int]]) -> Spans:
    """From left to right, those that overlap or touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def refuse_unknown(absent: Sequence[str], known: Sequence[str], what: str, file: str) -> NoReturn:
    """Names that were asked for, and are not there, with those that look like them.

    Args:
        absent, known: names.
        what: "genes" or "gene_types", the key that they were given by.
        file: where they were looked for.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"Regions: {what} of the file are expected, got {len(absent)} that it lacks: {some_with_nearest(absent, known)}.\n"
        f"  file: {file}\n  fix: set data.{what} to names as this file spells them."
    )

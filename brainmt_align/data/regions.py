"""Regions: a BED file, a GTF or a list of tuples flows in; checked regions, shaped or windowed on request, flow out."""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from brainmt_align.data.gtf import is_gtf, read_genes
from brainmt_align.data.region_shapes import WHOLE, RegionShape, check_shape, place_spans, refuse_unknown
from brainmt_align.listing import list_faults

MINUS = "(-)"  # behind the place of a region on the minus strand


class Region(NamedTuple):
    """A stretch of a contig: 0-based half-open, strand "+" or "-".

    parts: where only some of it counts, as of joined exons: (start, end) each, from left to right, the first and the last at the
        region's ends.
    """

    contig: str
    start: int
    end: int
    name: str
    strand: str = "+"
    parts: tuple[tuple[int, int], ...] = ()

    @property
    def bases(self) -> int:
        """Letters of its reference sequence."""
        return sum(end - start for start, end in self.parts) if self.parts else self.end - self.start

    def pieces(self) -> list["Region"]:
        """One region a part, itself where it has none."""
        return [self._replace(start=start, end=end, parts=()) for start, end in self.parts] or [self]

    @property
    def place(self) -> str:
        """`contig:start-end`, of a region in parts each of them behind a comma, and `(-)` behind one on that strand."""
        spans = ",".join(f"{start}-{end}" for start, end in self.parts or ((self.start, self.end),))
        return f"{self.contig}:{spans}{MINUS if self.strand == '-' else ''}"


def read_regions(
    regions: str | Path | Sequence[tuple],
    window: int | None = None,
    lengths: Mapping[str, int] | None = None,
    shape: RegionShape = WHOLE,
) -> list[Region]:
    """Regions of a BED file, of the genes of a GTF or of tuples, checked as a whole.

    Args:
        regions: BED path (0-based half-open; columns contig, start, end and, if present, name and the sixth, strand; may be
            gzipped), GTF path (ending in .gtf or .gtf.gz, see `gtf.read_genes`) or tuples (contig, start, end[, name[, strand[,
            parts]]]), see `Region`. A region without a name, or with the name `.`, is called `contig:first-last`, 1-based, of
            its place in the file.
        window: that many bases around the centre of each region instead of the region; cut where the contig begins or ends.
        lengths: contig → number of bases, where known: regions must lie inside, windows and flanks are cut there.
        shape: what of each region is read, and which of them, see `RegionShape`. Regions that this function returned have their
            shape already: read them again as WHOLE.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not UTF-8 text or not gzipped whole, faulty rows (the first listed, the others counted), no
            region at all, a window of less than one base, a shape that is none or that the regions cannot take, genes that are
            not there; what `gtf.read_genes` refuses.
    """
    if window is not None and window < 1:
        raise ValueError(f"Regions: a window of at least 1 base is expected, got {window}.\n  fix: set data.region_window.")
    check_shape(shape, window)
    rows, source = _rows(regions, shape)
    parsed: list[Region] = []
    faults: list[str] = []
    first_place: dict[str, str] = {}
    for place, row in rows:
        found = _parse_region(row, lengths, window is not None, shape)
        if isinstance(found, Region) and found.name in first_place:
            found = f"name {found.name} is taken by {first_place[found.name]}"
        if isinstance(found, Region):
            first_place[found.name] = place
            parsed.append(found)
        else:
            faults.append(f"{place}: {found}")
    if not rows:
        raise ValueError(
            f"Regions: at least one row of contig, start, end, name is expected, got none.\n  file: {source}\n"
            "  fix: give the regions, in a BED file one a line."
        )
    if faults:
        raise ValueError(
            "Regions: rows of contig, start, end, name (0-based half-open) are expected, "
            f"got {len(faults)} faulty of {len(rows)}:\n{list_faults(faults)}"
            f"  file: {source}\n  fix: correct these rows; every region needs a name of its own."
        )
    if shape.genes is not None and not _is_gtf(regions):
        parsed = _choose(parsed, shape.genes, source)
    return parsed if window is None else [_centred(region, window, (lengths or {}).get(region.contig)) for region in parsed]


def read_place(name: str, place: str) -> Region:
    """The region of a name and a `Region.place`."""
    contig, _, spans = place.removesuffix(MINUS).rpartition(":")
    edges = [(int(start), int(end)) for start, _, end in (span.partition("-") for span in spans.split(","))]
    parts = tuple(edges) if len(edges) > 1 else ()
    return Region(contig, edges[0][0], edges[-1][1], name, "-" if place.endswith(MINUS) else "+", parts)


def _is_gtf(regions: str | Path | Sequence[tuple]) -> bool:
    return isinstance(regions, str | Path) and is_gtf(Path(regions))


def _rows(regions: str | Path | Sequence[tuple], shape: RegionShape) -> tuple[list[tuple[str, list]], str]:
    """(place, row) each, and where they are from."""
    if _is_gtf(regions):
        genes = [(f"gene {gene.name}", list(gene)) for gene in read_genes(regions, shape)]
        if shape.kind == "exons":
            genes = [(place, [row[0], row[5][0][0], row[5][-1][1], *row[3:]]) for place, row in genes]
        return genes, str(regions)
    if shape.kind == "exons":
        raise ValueError(
            f"Regions: exons are read of a GTF, got {regions if isinstance(regions, str | Path) else 'a list of regions'}.\n"
            "  fix: set data.regions to a file ending in .gtf or .gtf.gz, or data.region_kind=gene."
        )
    if isinstance(regions, str | Path):
        return _bed_rows(Path(regions)), str(regions)
    return [(f"entry {i}", list(row)) for i, row in enumerate(regions)], "the list of regions"


def _choose(regions: list[Region], names: Sequence[str], source: str) -> list[Region]:
    """Those of these names, in this order, each once."""
    named = {region.name: region for region in regions}
    if absent := [name for name in names if name not in named]:
        refuse_unknown(absent, list(named), "genes", source)
    return [named[name] for name in dict.fromkeys(names)]


def _bed_rows(path: Path) -> list[tuple[str, list[str]]]:
    """(line number, [contig, start, end, name, strand]) of each row; shorter where the file's row is shorter."""
    if not path.is_file():
        raise FileNotFoundError(f"Regions: a BED file is expected, got no such file.\n  file: {path}\n  fix: set data.regions.")
    try:  # utf-8-sig drops the mark that spreadsheets put in front
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            lines = [(f"line {number}", line.rstrip("\r\n")) for number, line in enumerate(file, 1)]
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(
            f"Regions: UTF-8 text, plain or in a name ending in .gz gzipped whole, is expected, got: {error}.\n  file: {path}\n"
            f"  fix: {_remedy(error)}"
        ) from error
    rows = [
        (place, line.split("\t") if "\t" in line else line.split())
        for place, line in lines
        if line.strip() and not line.startswith(("#", "track", "browser"))
    ]
    return [(place, row[:4] + row[5:6]) for place, row in rows]


def _remedy(error: Exception) -> str:
    """What makes an unreadable BED file readable."""
    if isinstance(error, UnicodeDecodeError):
        return "save it as UTF-8 (iconv -f latin1 -t utf-8), or end its name in .gz if it is gzipped."
    if isinstance(error, gzip.BadGzipFile):
        return "take .gz from its name if it is plain text, or gzip it again."
    return "copy it again; it is cut short or damaged."


def _parse_region(row: list, lengths: Mapping[str, int] | None, windowed: bool, shape: RegionShape) -> Region | str:
    """A region, or what is wrong with its row."""
    if not 3 <= len(row) <= 6:
        return f"3 to 6 values are expected (contig, start, end, name, strand, parts), got {len(row)}"
    contig, strand = str(row[0]), str(row[4]) if len(row) > 4 else "+"
    try:
        start, end = _whole(row[1]), _whole(row[2])
    except (TypeError, ValueError, OverflowError):
        return f"start and end must be whole numbers, got {row[1]!r} and {row[2]!r}"
    if start < 0 or start >= end:
        return f"0 <= start < end is expected, got {start} and {end}"
    if strand not in ("+", "-", "."):
        return f"strand must be +, - or ., got {strand!r}"
    if lengths is not None and contig in lengths and end > lengths[contig]:
        return f"{contig}:{start}-{end} runs over the contig's end at {lengths[contig]}; is the FASTA of the same build?"
    parts = tuple((part[0], part[1]) for part in row[5]) if len(row) > 5 else ()
    edges = [edge for part in parts for edge in part]
    if parts and (edges != sorted(set(edges)) or (edges[0], edges[-1]) != (start, end)):
        return f"parts must follow one another from {start} to {end} with bases between them, got {parts}"
    if parts and windowed:
        return "a window is expected of a region in one piece, got one in parts"
    name = str(row[3]).strip() if len(row) > 3 and row[3] != "." else f"{contig}:{start + 1}-{end}"
    if not name:
        return "the name is empty"
    if shape.needs_strand and (len(row) < 5 or strand == "."):
        why = "to tell upstream from downstream"
        if shape.directed:
            why = "to read it in the direction of its gene: the sixth column of a BED; without any: data.oriented=plus"
        return f"region {name}: a strand is needed, + or -, {why}"
    return _shaped(Region(contig, start, end, name, "-" if strand == "-" else "+", parts), shape, (lengths or {}).get(contig))


def _shaped(region: Region, shape: RegionShape, length: int | None) -> Region | str:
    """What a shape reads of a region, or what is wrong with that."""
    if shape.is_whole:
        return region
    spans = place_spans(region.parts or ((region.start, region.end),), region.strand, shape, length)
    if not spans:
        return f"no base of its flanks lies on the contig {region.contig}"
    return region._replace(start=spans[0][0], end=spans[-1][1], parts=spans if len(spans) > 1 else ())


def _whole(value: object) -> int:
    """A text or number as int; never rounded."""
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(value)
    return number


def _centred(region: Region, window: int, length: int | None) -> Region:
    """`window` bases around the region's centre, cut at the ends of the contig."""
    start = (region.start + region.end) // 2 - window // 2
    end = start + window
    return region._replace(start=max(start, 0), end=end if length is None else min(end, length))

"""Regions: a BED file or a list of tuples flows in; checked regions, windowed on request, flow out."""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from brainmt_align.listing import list_faults


class Region(NamedTuple):
    """A stretch of a contig: 0-based half-open, strand "+" or "-"."""

    contig: str
    start: int
    end: int
    name: str
    strand: str = "+"


def read_regions(
    regions: str | Path | Sequence[tuple], window: int | None = None, lengths: Mapping[str, int] | None = None
) -> list[Region]:
    """Regions of a BED file or of tuples, checked as a whole.

    Args:
        regions: BED path (0-based half-open; columns contig, start, end and, if present, name and the sixth, strand; may be
            gzipped) or tuples (contig, start, end[, name[, strand]]). A region without a name, or with the name `.`, is called
            `contig:first-last`, 1-based.
        window: that many bases around the centre of each region instead of the region; cut where the contig begins or ends.
        lengths: contig → number of bases, where known: regions must lie inside, windows are cut there.

    Raises:
        FileNotFoundError: no such BED file.
        ValueError: a file that is not UTF-8 text or not gzipped whole, faulty rows (the first listed, the others counted), no
            region at all, a window of less than one base.
    """
    if window is not None and window < 1:
        raise ValueError(f"Regions: a window of at least 1 base is expected, got {window}.\n  fix: set data.region_window.")
    from_file = isinstance(regions, str | Path)
    source = str(regions) if from_file else "the list of regions"
    rows = _bed_rows(Path(regions)) if from_file else [(f"entry {i}", list(row)) for i, row in enumerate(regions)]
    parsed: list[Region] = []
    faults: list[str] = []
    first_place: dict[str, str] = {}
    for place, row in rows:
        found = _parse_region(row, lengths)
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
    return parsed if window is None else [_centred(region, window, (lengths or {}).get(region.contig)) for region in parsed]


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


def _parse_region(row: list, lengths: Mapping[str, int] | None) -> Region | str:
    """A region, or what is wrong with its row."""
    if not 3 <= len(row) <= 5:
        return f"3 to 5 values are expected (contig, start, end, name, strand), got {len(row)}"
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
    name = str(row[3]).strip() if len(row) > 3 and row[3] != "." else f"{contig}:{start + 1}-{end}"
    return Region(contig, start, end, name, "-" if strand == "-" else "+") if name else "the name is empty"


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

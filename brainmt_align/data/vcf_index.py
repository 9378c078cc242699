"""VCF index: a VCF or BCF and its `.csi` or `.tbi` flow in; an error flows out where the two do not belong together.

An index of another file, or a file that was cut at the border of two blocks, reads without complaint, as if nobody carried an ALT
allele there. So the places that the index names are looked up in the file, a few of them and the last one.
"""

import gzip
import shlex
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

SAMPLED = 16  # places that are looked up
BLOCK_START, BLOCK_EXTRA = b"\x1f\x8b\x08\x04", b"BC\x02\x00"  # of a BGZF block: bytes 0 to 3 and 12 to 15
HEAD = 18  # bytes of a block that say its size


class _Block(NamedTuple):
    """One BGZF block: where the next begins, and bytes of text in it."""

    next: int
    text: int


def check_index(path: Path, index: Path) -> None:
    """The index is of this file, and the file ends where the index does.

    Raises:
        ValueError: an index that cannot be read, names places that the file does not have, or ends before the file does.

    Reference: the specifications of BGZF, tabix and CSI, https://samtools.github.io/hts-specs
    """
    offsets = np.unique(_read_offsets(index))
    size = path.stat().st_size
    places = offsets[np.unique(np.linspace(0, len(offsets) - 1, min(SAMPLED, len(offsets))).astype(int))] if len(offsets) else []
    with path.open("rb") as file:
        for place in map(int, places):
            start, inside = place >> 16, place & 0xFFFF
            if start == size and not inside:  # all of a file that lacks the empty block at its end
                continue
            block = _read_block(file, start, size)
            if block is None or inside > block.text:
                got = f"one that names byte {start:,} of a file of {size:,} bytes"
                where = "past its end, so it is cut short" if start >= size else "where no block holds that"
                raise _foreign(path, index, f"{got}, {where}")
        if len(offsets) and _has_text_behind(file, int(offsets[-1]), size):
            raise _foreign(path, index, "one that ends before the file does")


def is_older(path: Path, index: Path) -> bool:
    """The index was last written before the file was; copying alone can do that too."""
    return index.stat().st_mtime_ns < path.stat().st_mtime_ns


def _foreign(path: Path, index: Path, got: str) -> ValueError:
    quoted = shlex.quote(str(path))
    renew = f"tabix -f -p vcf {quoted}" if index.suffix == ".tbi" else f"bcftools index -f {quoted}"
    return ValueError(
        f"Genotypes: the index of this very file is expected, got {got}.\n  file: {path}, {index}\n"
        f"  fix: copy the file again if it was cut short (its source has another size); if it is whole, renew its index: {renew}"
    )


def _read_block(file: BinaryIO, start: int, size: int) -> _Block | None:
    """The block that begins there, None where none does or it runs over the file's end."""
    file.seek(start)
    head = file.read(HEAD)
    if len(head) < HEAD or head[:4] != BLOCK_START or head[12:16] != BLOCK_EXTRA:
        return None
    following = start + int.from_bytes(head[16:18], "little") + 1
    if following > size:
        return None
    file.seek(following - 4)
    return _Block(following, int.from_bytes(file.read(4), "little"))


def _has_text_behind(file: BinaryIO, place: int, size: int) -> bool:
    """Whether the file goes on behind a place; empty blocks do not count."""
    start, inside = place >> 16, place & 0xFFFF
    while start < size and (block := _read_block(file, start, size)) is not None:
        if block.text > inside:
            return True
        start, inside = block.next, 0
    return False


def _read_offsets(index: Path) -> np.ndarray:
    """(n,) uint64 virtual offsets at which chunks of records begin and end: a block's byte << 16 | the byte of its text."""
    try:
        with gzip.open(index, "rb") as file:
            data = file.read()
        if data[:4] == b"TBI\x01":
            num_contigs, *_, names = struct.unpack_from("<8i", data, 4)
            return _walk(data, 36 + names, num_contigs, struct.Struct("<Ii"), 5)
        depth, extra = struct.unpack_from("<2i", data, 8)
        (num_contigs,) = struct.unpack_from("<i", data, 16 + extra)
        return _walk(data, 20 + extra, num_contigs, struct.Struct("<IQi"), depth)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(
            f"Genotypes: an index (.csi or .tbi) is expected, got a file that cannot be read to its end ({error}).\n"
            f"  file: {index}\n  fix: write it anew, e.g. `bcftools index -f`, or copy it again."
        ) from error


def _walk(data: bytes, at: int, num_contigs: int, entry: struct.Struct, depth: int) -> np.ndarray:
    """Bin by bin; `entry` is a bin's number, in a CSI its first offset, and its number of chunks."""
    counted = ((1 << 3 * (depth + 1)) - 1) // 7 + 1  # the bin that holds a contig's span, then numbers of records
    found = bytearray()
    for _ in range(num_contigs):
        (num_bins,) = struct.unpack_from("<i", data, at)
        at += 4
        for _ in range(num_bins):
            number, *_, chunks = entry.unpack_from(data, at)
            at += entry.size
            found += data[at : at + (16 if number == counted else 16 * chunks)]
            at += 16 * chunks
        if entry.size == 8:  # the linear index of a TBI
            at += 4 + 8 * struct.unpack_from("<i", data, at)[0]
    if at > len(data):
        raise EOFError("it ends too soon")
    return np.frombuffer(found, "<u8")

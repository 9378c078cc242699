"""Haplotype coordinates: where a personal sequence was changed flows in; positions mapped between it and its contig flow out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainmt_align.data.haplotype_building import Indels

NOWHERE = -1


class CoordinateMap(NamedTuple):
    """One sequence as blocks of one contig, in the contig's order: within a block, positions advance together.

    A block in which lengths differ is an indel: letter k of the one is letter k of the other as far as both reach, and the
    longer one's rest belongs to the shorter one's last letter (an inserted base to the base in front of it; a deleted base to the
    one that the deletion kept). What has no letter at all on the other side belongs to the letter in front.

    Attributes:
        contig_start, contig_stop: (K,) 0-based half-open, in the contig.
        start, stop: (K,) 0-based half-open, in the sequence as the plus strand spells it.
        length: letters of the sequence.
        reverse: the sequence is the reverse complement; positions in it count from its own first letter.
    """

    contig_start: np.ndarray
    contig_stop: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    length: int
    reverse: bool

    def to_sequence(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Positions of the contig, 0-based → (n,) int64 positions in the sequence; NOWHERE outside its blocks."""
        found = _map(np.asarray(positions, dtype=np.int64), self.contig_start, self.contig_stop, self.start, self.stop)
        return np.where(found == NOWHERE, NOWHERE, self.length - 1 - found) if self.reverse else found

    def to_contig(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Positions in the sequence, 0-based → (n,) int64 positions of the contig; NOWHERE outside the sequence."""
        positions = np.asarray(positions, dtype=np.int64)
        inside = (positions >= 0) & (positions < self.length)
        plus = self.length - 1 - positions if self.reverse else positions
        return np.where(inside, _map(plus, self.start, self.stop, self.contig_start, self.contig_stop), NOWHERE)


class Part(NamedTuple):
    """One stretch of a region: where it lies in the contig, and the indels of the sequence in it, 0-based in the stretch."""

    start: int
    end: int
    indels: Indels


def map_coordinates(parts: Sequence[Part], reverse: bool = False) -> CoordinateMap:
    """The map of the sequence that these stretches, one behind the other, make."""
    blocks, at = [], 0
    for part in parts:
        here = part.start
        for start, stop, bases in zip(*(column.tolist() for column in part.indels), strict=True):
            begin, finish = part.start + start, part.start + stop
            if begin > here:
                blocks.append((here, begin, at, at := at + begin - here))
            blocks.append((begin, finish, at, at := at + bases))
            here = finish
        if part.end > here:
            blocks.append((here, part.end, at, at := at + part.end - here))
    columns = np.array(blocks, dtype=np.int64).reshape(-1, 4).T
    return CoordinateMap(*columns, length=at, reverse=reverse)


def _map(positions: np.ndarray, start: np.ndarray, stop: np.ndarray, to_start: np.ndarray, to_stop: np.ndarray) -> np.ndarray:
    """Positions within blocks start:stop → within blocks to_start:to_stop; NOWHERE outside."""
    block = np.searchsorted(start, positions, side="right") - 1  # the last that begins there: an empty one is never it
    known = block >= 0
    block = np.maximum(block, 0)
    known &= positions < stop[block]
    found = np.minimum(to_start[block] + positions - start[block], to_stop[block] - 1)
    return np.where(known, np.maximum(found, 0), NOWHERE)

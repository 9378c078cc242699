"""Haplotype building: a region's distinct allele vectors and its reference flow in; the strings that they spell flow out.

R distinct allele vectors, V variants; positions are 0-based in the region. Compiled loops, since a region may have ten thousand
vectors of a hundred ALT alleles each. The rules of `haplotypes` for records that overlap or touch are in `_walk`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

CHUNK = 2**21  # letters that are spelled at once: what a processor's cache holds
PRIME = 0x100000001B3  # of FNV-1a
LANES = 32  # letters that the hash takes at a time


class Edit(NamedTuple):
    """One ALT allele: what replaces reference[start:stop] of the region; anchored: a pure indel behind a base that stays."""

    start: int
    stop: int
    alt: str
    anchored: bool


class Indels(NamedTuple):
    """Where lengths change in one sequence: reference[start:stop] of the region became `bases` letters, from left to right."""

    start: np.ndarray  # (I,) int32
    stop: np.ndarray  # (I,) int32
    bases: np.ndarray  # (I,) int32


class Spelled(NamedTuple):
    """What allele vectors spell.

    Attributes:
        sequences: distinct strings, in order of appearance.
        sequence_of_row: (R,) int32 into them.
        indels: of each of them, those of the first vector that spells it.
        skipped_R: (R,) how many edits of each vector were left out because they overlap one before them.
    """

    sequences: list[str]
    sequence_of_row: np.ndarray
    indels: list[Indels]
    skipped_R: np.ndarray


def spell(reference: str, edits: Sequence[Edit], row_starts: np.ndarray, row_edits: np.ndarray) -> Spelled:
    """Apply each vector's edits to the reference, and tell the strings that come of it apart.

    Args:
        reference: of the region, upper case.
        edits: all that any vector holds.
        row_starts: (R + 1,) where each vector's edits begin in `row_edits`.
        row_edits: numbers of edits, those of a vector in the order of the file.
    """
    bases = np.frombuffer(reference.encode(), dtype=np.uint8)
    table = _table(edits)
    row_starts, row_edits = row_starts.astype(np.int64), row_edits.astype(np.int64)
    lengths_R, skipped_R, changes_R = _measure(len(bases), table.numbers, row_starts, row_edits)
    padded_R = -(-lengths_R // LANES) * LANES
    sequences: list[str] = []
    indels: list[Indels] = []
    sequence_of_row = np.empty(len(lengths_R), dtype=np.int32)
    seen: dict[tuple[int, int], list[int]] = {}
    letters = np.empty(max(CHUNK, int(padded_R.max())) // 8, dtype=np.uint64).view(np.uint8)
    text = memoryview(letters)
    for first, last in _chunks(padded_R):
        places = np.concatenate([[0], np.cumsum(padded_R[first:last])])
        changes = np.concatenate([[0], np.cumsum(changes_R[first:last])])
        changed = np.empty((changes[-1], 3), dtype=np.int32)
        rows = row_starts[first : last + 1]
        hashes = _write(bases, table.numbers, table.letters, rows, row_edits, places, letters, changes, changed)
        for row in range(first, last):
            at = row - first
            sequence = str(text[places[at] : places[at] + lengths_R[row]], "ascii")
            alike = seen.setdefault((len(sequence), int(hashes[at])), [])
            number = next((known for known in alike if sequences[known] == sequence), len(sequences))
            if number == len(sequences):
                alike.append(number)
                sequences.append(sequence)
                indels.append(Indels(*changed[changes[at] : changes[at + 1]].T))
            sequence_of_row[row] = number
    return Spelled(sequences, sequence_of_row, indels, skipped_R)


class _Table(NamedTuple):
    """Edits as arrays: (edits, 5) start, stop, where its ALT begins and ends in `letters`, anchored."""

    numbers: np.ndarray
    letters: np.ndarray


def _table(edits: Sequence[Edit]) -> _Table:
    ends = np.cumsum([len(edit.alt) for edit in edits], dtype=np.int64)
    rows = [
        (edit.start, edit.stop, end - len(edit.alt), end, edit.anchored) for edit, end in zip(edits, ends.tolist(), strict=True)
    ]
    letters = np.frombuffer("".join(edit.alt for edit in edits).encode(), dtype=np.uint8)
    return _Table(np.array(rows, dtype=np.int64).reshape(len(edits), 5), letters)


def _chunks(padded_R: np.ndarray) -> list[tuple[int, int]]:
    """Runs of rows of at most CHUNK letters, or of one row."""
    chunks, first, size = [], 0, 0
    for row, letters in enumerate(padded_R.tolist()):
        if size + letters > CHUNK and row > first:
            chunks.append((first, row))
            first, size = row, 0
        size += letters
    return [*chunks, (first, len(padded_R))]


@njit(cache=True)
def _walk(edit, done, after_insertion):
    """What becomes of an edit behind those applied so far: 0 skipped, 1 applied whole, 2 applied without its first letter."""
    if edit[0] >= done:
        return 1
    if edit[0] == done - 1 and edit[4] == 1 and not after_insertion:
        return 2
    return 0


@njit(cache=True)
def _measure(length, edits, row_starts, row_edits):
    """Of each row the length of its sequence, how many edits are skipped, and how many change the length."""
    rows = len(row_starts) - 1
    lengths = np.full(rows, length, dtype=np.int64)
    skipped = np.zeros(rows, dtype=np.int64)
    changes = np.zeros(rows, dtype=np.int64)
    for row in range(rows):
        done, after_insertion = 0, False
        for i in range(row_starts[row], row_starts[row + 1]):
            edit = edits[row_edits[i]]
            how = _walk(edit, done, after_insertion)
            if how == 0:
                skipped[row] += 1
                continue
            grown = (edit[3] - edit[2]) - (edit[1] - edit[0])
            lengths[row] += grown
            changes[row] += grown != 0
            done, after_insertion = edit[1], grown > 0
    return lengths, skipped, changes


@njit(cache=True)
def _write(bases, edits, alts, row_starts, row_edits, places, letters, changes, changed):
    """The letters of each row from its place on, with zeros up to the next one's, and the edits that change its length.

    Returns one 64-bit number a row: rows that differ seldom share it, and whoever asks compares the strings.
    """
    words = letters.view(np.uint64)
    hashes = np.empty(len(row_starts) - 1, dtype=np.uint64)
    for row in range(len(row_starts) - 1):
        at, change = places[row], changes[row]
        done, after_insertion = 0, False
        for i in range(row_starts[row], row_starts[row + 1]):
            edit = edits[row_edits[i]]
            how = _walk(edit, done, after_insertion)
            if how == 0:
                continue
            start, alt = edit[0] + (how == 2), edit[2] + (how == 2)
            letters[at : at + start - done] = bases[done:start]
            at += start - done
            letters[at : at + edit[3] - alt] = alts[alt : edit[3]]
            at += edit[3] - alt
            grown = (edit[3] - edit[2]) - (edit[1] - edit[0])
            if grown != 0:
                changed[change, 0], changed[change, 1], changed[change, 2] = start, edit[1], edit[3] - alt
                change += 1
            done, after_insertion = edit[1], grown > 0
        letters[at : at + len(bases) - done] = bases[done:]
        letters[at + len(bases) - done : places[row + 1]] = 0
        hashes[row] = _hash(words, places[row] // 8, places[row + 1] // 8)
    return hashes


@njit(cache=True)
def _hash(words, first, last):
    """FNV-1a by words, in four lanes, so that one multiplication does not wait for another; `last - first` is a multiple of 4."""
    prime, seed = np.uint64(PRIME), np.uint64(0xCBF29CE484222325)
    a, b, c, d = seed, seed ^ prime, seed + prime, seed - prime
    for i in range(first, last, 4):
        a = (a ^ words[i]) * prime
        b = (b ^ words[i + 1]) * prime
        c = (c ^ words[i + 2]) * prime
        d = (d ^ words[i + 3]) * prime
    value = a
    for lane in (b, c, d):
        value = (value ^ (lane >> np.uint64(29))) * prime + lane
    return value

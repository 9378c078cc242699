"""DNA strings on their way to a network: sequences flow in, the texts that it reads and the tokens to be pooled flow out.

A *text* is a string over A, C, G, T and N whose length is a multiple of the network's bases a token: a sequence's strand, cut to
a reading frame and, where it is longer than the network reads, to windows. A token covers bases_per_token bases of its text.
"""

import operator
import re
from collections.abc import Iterator, Sequence, Sized
from typing import NamedTuple

IUPAC_DNA = "ACGTRYSWKMBDHVN"
_COMPLEMENT = str.maketrans(IUPAC_DNA + IUPAC_DNA.lower(), "TGCAYRSWMKVHDBN" + "tgcayrswmkvhdbn")
_LETTERS = frozenset(IUPAC_DNA + IUPAC_DNA.lower())
_READ = frozenset("ACGTN")

MAX_FAULTS_SHOWN = 10

Selection = tuple[int, ...] | None
"""Numbers of the tokens of a text that are pooled, ascending; None: all."""


class Piece(NamedTuple):
    """One text of a reading, and which of its tokens are pooled; `tokens` is how many those are."""

    text: str
    selection: Selection
    tokens: int


class Reader(NamedTuple):
    """How a network reads: bases a token, bases of the longest text, whether tokens with an N are left out of the pooling."""

    bases_per_token: int
    max_bases: int
    masks_n: bool

    @property
    def window(self) -> int:
        """Bases of the longest text: whole tokens."""
        return self.max_bases // self.bases_per_token * self.bases_per_token


class Wish(NamedTuple):
    """What is pooled of a strand: all tokens ("mean"), the last one, or those within `radius` bases of `sites` ("variant")."""

    pooling: str
    sites: tuple[int, ...] = ()
    radius: int = 0


def reverse_complement(sequence: str) -> str:
    """The same bases as read on the other strand, 5' to 3'; IUPAC codes are complemented too and case is kept.

    Args:
        sequence: letters of ACGTRYSWKMBDHVN, either case; may be empty.

    Raises:
        TypeError: not a string.
        ValueError: a letter outside the IUPAC DNA codes.
    """
    fault = f"is {type(sequence).__name__}, not a string" if not isinstance(sequence, str) else None
    if fault is None and (strange := set(sequence) - _LETTERS):
        at = min(sequence.index(letter) for letter in strange)
        fault = f"holds {sequence[at]!r} at base {at} (0-based)"
    if fault is not None:
        raise (ValueError if isinstance(sequence, str) else TypeError)(
            f"reverse_complement expects one string of IUPAC DNA codes ({IUPAC_DNA}); it {fault}.\n"
            "  fix: pass plain DNA; write RNA's U as T."
        )
    return sequence.translate(_COMPLEMENT)[::-1]


def clean_sequences(sequences: Sequence[str], shortest: int, longest: int | None, max_replaced: float) -> list[str]:
    """Upper-case copies in which every letter besides A, C, G and T is an N, or one error that lists what is wrong with which.

    Args:
        sequences: what a caller gave.
        shortest: bases that a sequence must have.
        longest: bases that it may have; None: any number.
        max_replaced: share of a sequence's letters, 0 to 1, that may be something else than A, C, G, T and N.

    Raises:
        TypeError: one string instead of several, or something that is no string.
        ValueError: sequences that are empty, too short, too long, hold no base or too many other letters.
    """
    if isinstance(sequences, str):
        raise TypeError(
            f"embed expects a list of sequences; it got one string of {len(sequences)} letters.\n  fix: pass [sequence]."
        )
    upper = [upper_case(seq) if isinstance(seq, str) else seq for seq in sequences]
    faults = [f"sequence {i} {fault}" for i, seq in enumerate(upper) if (fault := _fault(seq, shortest, longest, max_replaced))]
    if faults:
        most = "any number" if longest is None else f"at most {longest}"
        raise (ValueError if all(isinstance(seq, str) for seq in upper) else TypeError)(
            f"Sequences are strings of DNA, {shortest} bases or more, {most}; {len(faults)} of {len(upper)} are not:\n"
            f"{_list_faults(faults)}  fix: narrow the region window or read in windows (overlap=…), drop symbolic alleles, write"
            " RNA's U as T."
        )
    return [seq if _READ.issuperset(seq) else _with_n(seq) for seq in upper]


def upper_case(sequence: str) -> str:
    """Letter for letter, what is not ASCII as a question mark: there one letter may become two, which would move what follows."""
    return (sequence if sequence.isascii() else re.sub(r"[^\x00-\x7f]", "?", sequence)).upper()


def count_replaced(sequence: str) -> int:
    """Letters of an unchecked sequence that are read as N although they are none."""
    upper = upper_case(sequence)
    return len(upper) - sum(map(upper.count, _READ))


def checked_positions(sequences: Sequence[str], positions: Sequence[Sequence[int]] | None, pooling: str) -> list[tuple[int, ...]]:
    """Sorted distinct positions, one tuple a sequence; empty tuples where pooling needs none.

    Raises:
        ValueError: positions missing, superfluous, or no bases of their sequence (all listed).
    """
    if pooling != "variant":
        if positions is not None:
            raise ValueError(f'positions belong to pooling="variant"; pooling is {pooling!r}.\n  fix: drop one of the two.')
        return [()] * len(sequences)
    if not isinstance(positions, Sized) or len(positions) != len(sequences):
        got = f"{len(positions)} for {len(sequences)} sequences" if isinstance(positions, Sized) else repr(positions)
        raise ValueError(
            f'pooling="variant" needs positions, one list a sequence; got {got}.\n  fix: pass positions, or pooling="mean".'
        )
    sites = [_bases(given, len(sequence)) for sequence, given in zip(sequences, positions, strict=True)]
    faults = [
        f"sequence {i} has {len(sequence)} bases; got {given!r:.80}"
        for i, (sequence, given, at) in enumerate(zip(sequences, positions, sites, strict=True))
        if not at
    ]
    if faults:
        raise ValueError(
            f"positions of a sequence must be a list of one or more of its bases, 0-based integers; {len(faults)} are not:\n"
            f'{_list_faults(faults)}  fix: give positions in each sequence\'s own coordinates, or use pooling="mean".'
        )
    return sites


def read_strand(strand: str, wish: Wish, frame: int, reader: Reader, overlap: int) -> list[Piece]:
    """The pieces of one reading frame that hold any token to be pooled.

    Args:
        strand: upper case, over A, C, G, T and N, as it is read.
        wish: what is pooled; its sites are bases of this strand.
        frame: the first base that is read; what is left over at the end is not.
        reader: of the network.
        overlap: bases that two neighbouring windows share, where the strand is longer than one.
    """
    k = reader.bases_per_token
    text = cut_to_frame(strand, frame, k)
    pieces = []
    for start in _window_starts(len(text), reader, overlap):
        window = text[start : start + reader.window]
        chosen = _near(wish, frame + start, len(window) // k, k) if wish.pooling == "variant" else range(len(window) // k)
        if reader.masks_n and "N" in window:
            masked = set(masked_tokens(window, k))
            chosen = [t for t in chosen if t not in masked]
        if len(chosen):
            everything = len(chosen) == len(window) // k
            pieces.append(Piece(window, None if everything else tuple(chosen), len(chosen)))
    return [_last_token(pieces[-1], k)] if pieces and wish.pooling == "last" else pieces


def cut_to_frame(strand: str, frame: int, k: int) -> str:
    """The whole tokens of k bases from base `frame` on."""
    return strand[frame : frame + (len(strand) - frame) // k * k]


def masked_tokens(text: str, k: int) -> list[int]:
    """Numbers of a text's tokens of k bases that hold an N."""
    return [t for t in range(len(text) // k) if "N" in text[k * t : k * (t + 1)]]


def equal_length_batches(sequences: Sequence[str], batch_bases: int) -> Iterator[list[str]]:
    """Batches of strings of one length, shorter ones first, at most `batch_bases` letters each unless a single one is longer."""
    by_length: dict[int, list[str]] = {}
    for sequence in sequences:
        by_length.setdefault(len(sequence), []).append(sequence)
    for length in sorted(by_length):
        size = max(1, batch_bases // length)
        for start in range(0, len(by_length[length]), size):
            yield by_length[length][start : start + size]


def _fault(sequence: object, shortest: int, longest: int | None, max_replaced: float) -> str | None:
    """What keeps this from being a sequence that can be read, as the rest of a sentence; None if nothing does."""
    if not isinstance(sequence, str):
        return f"is {type(sequence).__name__}, not a string"
    if not sequence:
        return "is empty"
    if len(sequence) < shortest:
        return f"has {len(sequence)} bases; a token needs {shortest}"
    if longest is not None and len(sequence) > longest:
        return f"has {len(sequence)} bases; at most {longest} fit"
    replaced = count_replaced(sequence)
    if replaced > max_replaced * len(sequence):
        at = next(i for i, letter in enumerate(sequence) if letter not in _READ)
        return f"holds {replaced} other letters ({sequence[at]!r} at base {at}); at most {max_replaced:.0%} of it are read as N"
    if _READ.isdisjoint(sequence.replace("N", "")):
        return "holds no A, C, G or T"
    return None


def _with_n(sequence: str) -> str:
    return "".join(letter if letter in _READ else "N" for letter in sequence)


def _bases(positions: object, length: int) -> tuple[int, ...]:
    """Sorted distinct positions; () unless they are integers, of whatever kind but bool, in [0, length)."""
    try:
        positions = list(positions)
        bases = sorted({operator.index(position) for position in positions})
    except TypeError:
        return ()
    if not bases or bases[0] < 0 or bases[-1] >= length or any(isinstance(position, bool) for position in positions):
        return ()
    return tuple(bases)


def _window_starts(length: int, reader: Reader, overlap: int) -> list[int]:
    """First bases of the windows: whole steps from the left, the last window flush with the end."""
    k, window = reader.bases_per_token, reader.window
    if length <= window:
        return [0]
    step = max(k, (window - overlap) // k * k)
    return [*range(0, length - window, step), length - window]


def _near(wish: Wish, offset: int, tokens: int, k: int) -> list[int]:
    """Tokens with a base at most `radius` away from a site; token t covers bases offset + k·t to offset + k·(t + 1) - 1."""
    near: set[int] = set()
    for site in wish.sites:
        first = -((offset + k - 1 + wish.radius - site) // k)
        near.update(range(max(0, first), min(tokens, (site + wish.radius - offset) // k + 1)))
    return sorted(near)


def _last_token(piece: Piece, k: int) -> Piece:
    last = len(piece.text) // k - 1 if piece.selection is None else piece.selection[-1]
    return piece._replace(selection=(last,), tokens=1)


def _list_faults(faults: list[str]) -> str:
    """A line each, cut short where they are many."""
    more = f"  … and {len(faults) - MAX_FAULTS_SHOWN} more\n" if len(faults) > MAX_FAULTS_SHOWN else ""
    return "".join(f"  {fault}\n" for fault in faults[:MAX_FAULTS_SHOWN]) + more

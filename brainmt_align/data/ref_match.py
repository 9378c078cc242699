"""REF match: a region's records and the FASTA flow in; which REF alleles it has, and what would explain the others, flow out.

Only records that begin in their region are compared. What explains differing ones is asked of single bases, over all regions
together: a shift of all positions, the other strand, or REF and ALT swapped. One region alone may hold too few of them to tell.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import Alleles
from brainmt_align.data.regions import Region

CERTAIN = frozenset("ACGT")
REQUIRED = 0.999  # of all compared records: damaged ones are seldom, those of another build or place are not
ENOUGH = 30  # more records than this are needed before they say anything of a cause or a build
REACH = 3  # bases by which positions may be shifted
SHIFTS = range(-REACH, REACH + 1)
_LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
_COMPLEMENT = np.zeros(256, dtype=np.uint8)
_COMPLEMENT[_LETTERS] = _LETTERS[::-1]
_MEANING = {
    1: "; a 0-based file written as 1-based",
    -1: "; positions that were 1-based already, raised by one once more",
}


class RefComparison(NamedTuple):
    """The REF alleles of the n records that begin in a region, beside the FASTA.

    Attributes:
        records: (n,) int, their numbers among the region's records.
        refs, bases: what the record says and what the FASTA has there; shorter where the contig ends before.
        equal_n: (n,) bool.
        ambiguous_n: (n,) bool: not equal, but only where the FASTA has N or another letter than A, C, G, T.
    """

    records: np.ndarray
    refs: list[str]
    bases: list[str]
    equal_n: np.ndarray
    ambiguous_n: np.ndarray


class Cause(NamedTuple):
    """What explains that REF alleles differ, and what mends it; fix None: what the faults themselves advise."""

    text: str
    fix: str | None


def compare_refs(region: Region, alleles: Alleles, bases: str) -> RefComparison:
    """Each REF beside the FASTA.

    Args:
        region: in one piece.
        alleles: of the records that overlap it.
        bases: the reference from the region's start to its end or past the longest allele of a record, upper case.
    """
    records = np.flatnonzero(alleles.positions >= region.start)
    refs = [alleles.refs[v] for v in records]
    offsets = (alleles.positions[records] - region.start).tolist()
    found = [bases[at : at + len(ref)] for at, ref in zip(offsets, refs, strict=True)]
    equal_n = np.array([ref == base for ref, base in zip(refs, found, strict=True)], dtype=bool)
    vague_n = np.array([_differs_by_ambiguity(ref, base) for ref, base in zip(refs, found, strict=True)], dtype=bool)
    return RefComparison(records, refs, found, equal_n, vague_n & ~equal_n)


def count_refs(region: Region, alleles: Alleles, compared: RefComparison, around: str) -> dict[str, int]:
    """Numbers that `likely_cause` reads, each a sum over records, so that those of many regions may be added.

    Args:
        region: in one piece.
        alleles: of the records that overlap it.
        compared: the same.
        around: the reference from REACH bases before the region to REACH behind it, upper case, N where the contig has none.

    Returns:
        `ref_compared` and `ref_matches` of all records; of those of a single base amid certain ones `base_compared`,
        `base_differing`, of these `base_complement` (the other strand fits) and `base_swapped` (an ALT fits), and
        `base_shift-3` … `base_shift+3`, where position + shift fits.
    """
    single = [v for v, ref in zip(compared.records.tolist(), compared.refs, strict=True) if len(ref) == 1 and ref in CERTAIN]
    single = [v for v in single if alleles.positions[v] < region.end]
    letters = np.frombuffer(around.encode(), dtype=np.uint8)
    windows_n7 = np.lib.stride_tricks.sliding_window_view(letters, len(SHIFTS))[alleles.positions[single] - region.start]
    certain_n = np.isin(windows_n7, _LETTERS).all(axis=1)
    refs_n = np.frombuffer("".join(alleles.refs[v] for v in single).encode(), dtype=np.uint8)[certain_n]
    windows_n7, here_n = windows_n7[certain_n], windows_n7[certain_n, REACH]
    differing_n = here_n != refs_n
    chosen = [v for v, kept in zip(single, certain_n, strict=True) if kept]
    alt_n = np.array([chr(base) in alleles.alts[v] for v, base in zip(chosen, here_n, strict=True)], dtype=bool)
    shifted = (windows_n7 == refs_n[:, None]).sum(axis=0)
    return {
        "ref_compared": len(compared.refs),
        "ref_matches": int(compared.equal_n.sum()),
        "base_compared": len(chosen),
        "base_differing": int(differing_n.sum()),
        "base_complement": int((differing_n & (_COMPLEMENT[refs_n] == here_n)).sum()),
        "base_swapped": int((differing_n & alt_n).sum()),
    } | {_shift_key(k): int(n) for k, n in zip(SHIFTS, shifted, strict=True)}


def likely_cause(counts: Mapping[str, int], builds: str) -> Cause | None:
    """What explains the REF alleles that differ, None where there are too few to tell or nothing does.

    Args:
        counts: as of `count_refs`, or their sum over regions.
        builds: a clause on the builds of both files.
    """
    compared, differing = counts["base_compared"], counts["base_differing"]
    best = max((k for k in SHIFTS if k), key=lambda k: (counts[_shift_key(k)], -abs(k)))
    fitting = counts[_shift_key(best)]
    if compared > ENOUGH and fitting >= REQUIRED * compared > compared - differing:
        text = f"shifting all positions by {best:+d} fits: {fitting} of {compared} single-base REFs{_MEANING.get(best, '')}"
        return Cause(text, f"write the file anew with {best:+d} on all positions, and make its index anew")
    if differing <= ENOUGH:
        return None
    if counts["base_complement"] >= REQUIRED * differing:
        text = f"the other strand fits: the complement is the FASTA's base at {counts['base_complement']} of {differing} REFs"
        return Cause(f"{text} that differ", "bring the alleles to the FASTA's strand, e.g. `bcftools +fixref -- -m flip`")
    if counts["base_swapped"] >= REQUIRED * differing:
        text = f"REF and ALT are swapped: an ALT is the FASTA's base at {counts['base_swapped']} of {differing} records"
        return Cause(f"{text} that differ", "swap them by the FASTA, e.g. `plink2 --ref-from-fa force --fa FASTA`")
    if 2 * differing < compared:
        return None
    text = f"another genome build, since no shift by up to {REACH} bases, no other strand and no swap of alleles fits"
    return Cause(f"{text}; {builds}", None)


def _shift_key(shift: int) -> str:
    return f"base_shift{shift:+d}"


def _differs_by_ambiguity(ref: str, base: str) -> bool:
    """The FASTA spells the REF but for letters other than A, C, G, T."""
    return len(ref) == len(base) and all(a == b or b not in CERTAIN for a, b in zip(ref, base, strict=True))

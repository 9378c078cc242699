"""Allele orientation: alleles of a file that does not say which is the reference's flow in; REF by the FASTA flows out.

PLINK 1 and BGEN only order their alleles, a PGEN may hold a provisional REF. The FASTA settles it wherever it spells one allele
of a record and none of the others. Where it spells several (the shorter allele of an indel begins the longer one, so this is so
of nearly every deletion, and of insertions that repeat what follows) it cannot: the file's order stays, and the record is named.
PLINK 1.9 makes the commoner allele its A2, so that order is no evidence. Where it spells none, the record stays as it is: its REF
then differs from the FASTA, which `genotype_checks` refuses. No strand is guessed: A/T and C/G would read the same on either.
"""

from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import MISSING, Alleles


class Oriented(NamedTuple):
    """Alleles by the FASTA.

    Attributes:
        alleles: as they came, but for the swapped records.
        swapped: records whose REF is another allele than the file's first.
        undecided_V: (variants,) bool, the FASTA spells several alleles, so that the file's order stands.
    """

    alleles: Alleles
    swapped: int
    undecided_V: np.ndarray


def orient(alleles: Alleles, bases: str, start: int) -> Oriented:
    """Make the allele that the FASTA spells number 0 of each record; the others keep their order behind it.

    Unphased calls of swapped records have the lower number first, so that a file and the same file with its alleles the other way
    round give the same calls. Dosages of swapped records become 2 - dosage; NaN where a record has several ALT alleles, since
    their sum does not tell the copies of one. Records whose REF the file knows stay as they are.

    Args:
        alleles: of one region.
        bases: the reference of that contig, upper case, from `start` on; it must reach past the longest allele of each record, or
            to the contig's end. Records that begin before it stay as they are and are not named.
        start: 0-based position of the first of `bases`.
    """
    chosen: dict[int, int] = {}
    undecided_V = np.zeros(len(alleles.refs), dtype=bool)
    unknown = [] if alleles.ref_known is None else np.flatnonzero(~alleles.ref_known & (alleles.positions >= start)).tolist()
    for v in unknown:
        position = int(alleles.positions[v])
        record = (alleles.refs[v], *alleles.alts[v])
        spelled = [number for number, allele in enumerate(record) if bases.startswith(allele, position - start)]
        undecided_V[v] = len(spelled) > 1
        if len(spelled) == 1 and spelled != [0]:
            chosen[v] = spelled[0]
    return Oriented(_swap(alleles, chosen) if chosen else alleles, len(chosen), undecided_V)


def _swap(alleles: Alleles, chosen: dict[int, int]) -> Alleles:
    """Record → the number of the allele that becomes its REF."""
    refs, alts, stops, numbers = list(alleles.refs), list(alleles.alts), alleles.stops.copy(), alleles.alleles.copy()
    dosages = None if alleles.dosages is None else alleles.dosages.copy()
    for v, number in chosen.items():
        spelled = [refs[v], *alts[v]]
        order = [number, *(n for n in range(len(spelled)) if n != number)]
        refs[v], *rest = (spelled[n] for n in order)
        alts[v] = tuple(rest)
        stops[v] = alleles.positions[v] + len(refs[v])
        new_number = np.empty(len(spelled) + 1, dtype=numbers.dtype)
        new_number[order] = np.arange(len(spelled))
        new_number[MISSING] = MISSING  # the last entry, which -1 finds
        calls_S2 = new_number[numbers[:, :, v]]
        loose_S = ~alleles.phased[:, v] & (calls_S2 != MISSING).all(axis=1)
        calls_S2[loose_S] = np.sort(calls_S2[loose_S], axis=1)
        numbers[:, :, v] = calls_S2
        if dosages is not None:
            dosages[:, v] = 2 - dosages[:, v] if len(spelled) == 2 else np.nan
    return alleles._replace(refs=refs, alts=alts, stops=stops, alleles=numbers, dosages=dosages)

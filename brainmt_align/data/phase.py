"""Phase: a region's alleles flow in; which calls are missing, or do not say which haplotype has which allele, flows out.

Only records that begin in the region are looked at: those from before it stand in no sequence.
"""

from collections.abc import Sequence

import numpy as np

from brainmt_align.data.alleles import MISSING, Alleles
from brainmt_align.data.regions import Region


def find_unphased(region: Region, alleles: Alleles, largest_S: np.ndarray | None = None) -> np.ndarray:
    """(samples, variants) bool: the two alleles differ and nothing says which haplotype has which.

    That is so without `|`, and also where `|` holds within another phase set than that of most of the person's heterozygotes
    in the region: two phase sets do not say which haplotype of one goes with which of the other.

    Args:
        region: in one piece.
        alleles: of the records that overlap it.
        largest_S: as of `largest_phase_sets`, where the piece is one of several.
    """
    return without_phase(region, alleles) | in_other_phase_set(region, alleles, largest_S)


def without_phase(region: Region, alleles: Alleles) -> np.ndarray:
    """(samples, variants) bool: heterozygous and written without `|`."""
    if alleles.phased.all():
        return np.zeros(alleles.phased.shape, dtype=bool)
    return ~alleles.phased & _differ_inside(region, alleles)


def in_other_phase_set(region: Region, alleles: Alleles, largest_S: np.ndarray | None = None) -> np.ndarray:
    """(samples, variants) bool: phased heterozygotes of the region outside their person's largest phase set.

    Args:
        region, alleles, largest_S: as of `find_unphased`; without the last the sets of this piece alone count.
    """
    largest_S = largest_phase_sets([region], [alleles]) if largest_S is None else largest_S
    if largest_S is None:
        return np.zeros(alleles.phased.shape, dtype=bool)
    return alleles.phased & _differ_inside(region, alleles) & (_sets_of(alleles) != largest_S[:, None])


def largest_phase_sets(pieces: Sequence[Region], alleles: Sequence[Alleles]) -> np.ndarray | None:
    """(samples,) int32: the phase set of most of each person's phased heterozygotes in all pieces of a region together.

    Of several as large it is the first from left to right. 0, the set of calls without one, stands for people who have no phased
    heterozygote too. None where no record has phase sets: then phase holds from record to record.

    Args:
        pieces: of one region, from left to right.
        alleles: of each of them, from one reader, whose numbers of phase sets mean the same throughout.
    """
    if all(each.phase_sets is None for each in alleles):
        return None
    phased = [each.phased & _differ_inside(piece, each) for piece, each in zip(pieces, alleles, strict=True)]
    largest_S = np.zeros(len(alleles[0].samples), dtype=np.int32)
    for s in np.flatnonzero(sum(each.sum(axis=1) for each in phased)):
        own = np.concatenate([_sets_of(each)[s, phased_SV[s]] for each, phased_SV in zip(alleles, phased, strict=True)])
        sets, firsts, times = np.unique(own, return_index=True, return_counts=True)
        largest_S[s] = sets[np.lexsort((firsts, -times))[0]]
    return largest_S


def find_missing(region: Region, alleles: Alleles) -> np.ndarray:
    """(samples, variants) bool: one allele of the call or both are missing."""
    if not alleles.alleles.size or alleles.alleles.min() >= 0:
        return np.zeros(alleles.phased.shape, dtype=bool)
    return ((alleles.alleles[:, 0] == MISSING) | (alleles.alleles[:, 1] == MISSING)) & (alleles.positions >= region.start)


def _differ_inside(region: Region, alleles: Alleles) -> np.ndarray:
    return (alleles.alleles[:, 0] != alleles.alleles[:, 1]) & (alleles.positions >= region.start)


def _sets_of(alleles: Alleles) -> np.ndarray:
    """(samples, variants) int32; 0 throughout where no record of the piece has phase sets."""
    return np.zeros(alleles.phased.shape, dtype=np.int32) if alleles.phase_sets is None else alleles.phase_sets

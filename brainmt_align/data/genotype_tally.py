"""Genotype tally: a region's alleles flow in; how many records of each kind, heterozygotes, phased and missing calls flow out.

A tally is kept beside the region's alleles in the cache, so that a table of all regions needs no genotypes a second time.
"""

from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import Alleles
from brainmt_align.data.phase import find_missing, find_unphased
from brainmt_align.data.regions import Region

SYMBOLS = frozenset("<>[]*.")  # an ALT that holds one of them is symbolic: it has no bases of its own


class Tally(NamedTuple):
    """Numbers of one region in one piece.

    Attributes:
        counts: of records `variants`, `snps`, `indels`, `multiallelic`, `symbolic`; of genotypes (people × records that begin in
            the region) `genotypes`, `heterozygous` (both alleles called), of these `phased`, and `missing` in whole or part;
            `swapped` and `undecided` as of `haplotype_sources.RegionSource`; those of `ref_match.count_refs`.
        missing_S: (samples,) int32 missing genotypes of each person.
    """

    counts: dict[str, int]
    missing_S: np.ndarray


def tally_calls(region: Region, alleles: Alleles, largest_S: np.ndarray | None = None) -> Tally:
    """Count a region's records and calls, before any policy is applied.

    A record is counted as multiallelic and as of each kind that one of its ALT alleles is; one that exchanges several bases is
    none of them.

    Args:
        region: in one piece.
        alleles: of the records that overlap it.
        largest_S: (samples,) the phase set that counts of each person, as of `phase.largest_phase_sets`.
    """
    inside_V = alleles.positions >= region.start
    first_SV, second_SV = alleles.alleles[:, 0], alleles.alleles[:, 1]
    missing_SV = find_missing(region, alleles)
    heterozygous_SV = (first_SV != second_SV) & ~missing_SV & inside_V
    counts = {
        **_kinds(alleles),
        "genotypes": len(missing_SV) * int(inside_V.sum()),
        "heterozygous": int(np.count_nonzero(heterozygous_SV)),
        "phased": int(np.count_nonzero(heterozygous_SV & ~find_unphased(region, alleles, largest_S))),
        "missing": int(np.count_nonzero(missing_SV)),
    }
    return Tally(counts, missing_SV.sum(axis=1, dtype=np.int32))


def _kinds(alleles: Alleles) -> dict[str, int]:
    """How many records there are, and how many of each kind."""
    kinds = {"variants": len(alleles.refs), "snps": 0, "indels": 0, "multiallelic": 0, "symbolic": 0}
    for ref, alts in zip(alleles.refs, alleles.alts, strict=True):
        spelled = [alt for alt in alts if SYMBOLS.isdisjoint(alt)]
        kinds["snps"] += any(len(alt) == len(ref) == 1 for alt in spelled)
        kinds["indels"] += any(len(alt) != len(ref) for alt in spelled)
        kinds["multiallelic"] += len(alts) > 1
        kinds["symbolic"] += len(spelled) < len(alts)
    return kinds

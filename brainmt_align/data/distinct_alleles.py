"""Distinct alleles: a region's alleles flow in, policies applied; the haplotypes told apart by their allele vectors flow out.

No sequence is built: vectors of 0 and 1 are compared as packed bits, others as bytes.
"""

from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import MISSING, Alleles
from brainmt_align.data.phase import find_missing, find_unphased
from brainmt_align.data.regions import Region


class DistinctAlleles(NamedTuple):
    """The haplotypes of one region.

    Attributes:
        positions, stops, refs, alts: of the V variants, as of `alleles.Alleles`.
        rows: (R, V) int8 or int16, distinct vectors of allele numbers in order of appearance; MISSING stands for an N.
        index: (samples, 2) int32 into `rows`.
        samples: sample ids.
        counts: `variants` records that overlap the region; of those that begin in it `unphased` heterozygous and `missing`
            genotypes (people × records); `outside_skipped` ALT alleles of records that begin before the region (haplotypes ×
            records).
    """

    positions: np.ndarray
    stops: np.ndarray
    refs: list[str]
    alts: list[tuple[str, ...]]
    rows: np.ndarray
    index: np.ndarray
    samples: list[str]
    counts: dict[str, int]


def tell_apart(
    region: Region, alleles: Alleles, unphased: str, missing: str, largest_S: np.ndarray | None = None
) -> DistinctAlleles:
    """Apply the policies, leave out records that begin before the region, and tell haplotypes apart.

    Of a half call without phase (`./1`) the allele that was called becomes the reference under unphased="skip", as a
    heterozygote's two do, and the one that was not follows `missing`, on the haplotype that the file writes it for.

    Args:
        region: after windowing.
        alleles: of all records that overlap it.
        unphased, missing: see `haplotypes.read_haplotypes`; what "error" refuses is refused elsewhere.
        largest_S: (samples,) the phase set that counts of each person, as of `phase.largest_phase_sets`.
    """
    begins_before = alleles.positions < region.start
    unphased_SV = find_unphased(region, alleles, largest_S)
    missing_count = int(np.count_nonzero(find_missing(region, alleles)))
    numbers_SHV = alleles.alleles
    if unphased == "skip" and unphased_SV.any():
        numbers_SHV = np.where(unphased_SV[:, None] & (numbers_SHV != MISSING), 0, numbers_SHV)
    if missing == "reference" and missing_count:
        numbers_SHV = np.maximum(numbers_SHV, 0)
    outside = 0
    if begins_before.any():
        outside = int((numbers_SHV[:, :, begins_before] > 0).sum())
        numbers_SHV = np.where(begins_before, 0, numbers_SHV)
    firsts, index = find_distinct(numbers_SHV)
    rows = numbers_SHV.reshape(2 * len(alleles.samples), -1)[firsts]
    counts = {
        "variants": len(alleles.refs),
        "unphased": int(unphased_SV.sum()),
        "missing": missing_count,
        "outside_skipped": outside,
    }
    return DistinctAlleles(alleles.positions, alleles.stops, alleles.refs, alleles.alts, rows, index, alleles.samples, counts)


def pack(rows: np.ndarray) -> np.ndarray:
    """(n, V) allele numbers → (n, bytes) uint8 that are equal where the vectors are: bits of 0 and 1, bytes of others."""
    if not is_binary(rows):
        return np.ascontiguousarray(rows).view(np.uint8)
    return np.packbits(rows.astype(bool), axis=1)


def is_binary(rows: np.ndarray) -> bool:
    """Nothing but REF and first ALT: one bit an allele is enough."""
    return not rows.size or bool(rows.min() >= 0 and rows.max() <= 1)


class DistinctRows(NamedTuple):
    """The distinct vectors of many: where each first appears, in order of appearance, and (samples, 2) int32, everybody's."""

    firsts: np.ndarray
    index: np.ndarray


def find_distinct(numbers_SHV: np.ndarray) -> DistinctRows:
    """Tell (samples, 2, V) vectors of whole numbers apart."""
    packed = pack(numbers_SHV.reshape(2 * len(numbers_SHV), -1))
    width = packed.shape[1]
    text = memoryview(packed.tobytes())
    numbers: dict[bytes, int] = {}
    firsts: list[int] = []
    row_of = np.empty(len(packed), dtype=np.int32)
    for row in range(len(packed)):
        number = numbers.setdefault(bytes(text[row * width : (row + 1) * width]), len(numbers))
        if number == len(firsts):
            firsts.append(row)
        row_of[row] = number
    return DistinctRows(np.array(firsts, dtype=np.intp), row_of.reshape(-1, 2))

"""BGEN calls: the probabilities of one variant flow in; each sample's called alleles and expected copies of ALT flow out."""

from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import MISSING

ROUNDING = 1e-6  # of a probability held in 32 bits
MALFORMED = 0.01  # a sum of probabilities further from 1 is no rounding


class Probabilities(NamedTuple):
    """What a BGEN says of one variant in S samples.

    Attributes:
        values_SK: (S, K) float32. Phased: of each allele on the first haplotype, then on the second. Unphased: of each genotype,
            ordered by its higher allele and then by the lower: 00, 01, 11, 02, 12, 22 …. A haploid sample has one of each
            allele, and NaN behind them where others are diploid. NaN throughout: missing.
        ploidy_S: (S,) 1 or 2.
        phased: which of the two K is.
        num_alleles: REF and its ALTs.
    """

    values_SK: np.ndarray
    ploidy_S: np.ndarray
    phased: bool
    num_alleles: int


class ProbableCalls(NamedTuple):
    """One variant's calls: (S, 2) alleles, -1 = missing; (S,) whether haploid; (S,) float32 copies of all ALTs together."""

    alleles_S2: np.ndarray
    haploid_S: np.ndarray
    dosage_S: np.ndarray


def call_alleles(given: Probabilities, min_probability: float) -> ProbableCalls:
    """Alleles (phased, haploid) or genotypes (unphased) that are at least so probable; others are missing.

    A haploid call stands on both haplotypes and counts twice in the dosage, 0 to 2, which needs no call: it is NaN for those
    alone that the file has nothing of.

    Args:
        given: of one variant; any ploidy other than 2 counts as haploid.
        min_probability: above 0.5, so that no two can reach it.

    Raises:
        ValueError: probabilities that do not sum to 1.

    Reference:
        Band and Marchini, "BGEN: a binary file format for imputed genotype and haplotype data", bioRxiv 308296 (2018).
    """
    least = np.float32(min_probability - ROUNDING)
    haploid_S = given.ploidy_S != 2
    if given.phased:
        alleles_S2, dosage_S = _call_haplotypes(given, least)
    else:
        alleles_S2, dosage_S = _call_genotypes(given, least)
    if haploid_S.any():
        rows = haploid_S.nonzero()[0]
        values = given.values_SK[rows, : given.num_alleles]
        alleles, dosage = _call(values, np.arange(given.num_alleles)[:, None], least)
        alleles_S2[rows], dosage_S[rows] = alleles, 2 * dosage
    return ProbableCalls(alleles_S2, haploid_S, dosage_S)


def _call_haplotypes(given: Probabilities, least: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """(S, 2) alleles and (S,) dosages, those of haploid samples still to come."""
    n = given.num_alleles
    alleles_S2 = np.full((len(given.values_SK), 2), MISSING, dtype=np.int16)
    dosage_S = np.zeros(len(given.values_SK), dtype=np.float32)
    if given.values_SK.shape[1] == 2 * n:  # otherwise all are haploid
        for haplotype in (0, 1):
            values = given.values_SK[:, haplotype * n : (haplotype + 1) * n]
            alleles, dosage = _call(values, np.arange(n)[:, None], least)
            alleles_S2[:, haplotype] = alleles[:, 0]
            dosage_S += dosage
    return alleles_S2, dosage_S


def _call_genotypes(given: Probabilities, least: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """(S, 2) alleles, the lower first, and (S,) dosages, those of haploid samples still to come."""
    n = given.num_alleles
    genotypes_G2 = np.array([(low, high) for high in range(n) for low in range(high + 1)])
    if given.values_SK.shape[1] != len(genotypes_G2):  # all are haploid
        return np.full((len(given.values_SK), 2), MISSING, dtype=np.int16), np.zeros(len(given.values_SK), dtype=np.float32)
    return _call(given.values_SK, genotypes_G2, least)


def _call(values_SG: np.ndarray, alleles_GA: np.ndarray, least: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """(S, A) int16 alleles of the outcome that is probable enough, and (S,) expected number of ALTs among them.

    Column by column: numpy walks a short last axis ten times slower than a long first one, and a matrix product would wake
    threads for a millisecond's work.
    """
    number_S = np.full(len(values_SG), len(alleles_GA), dtype=np.intp)
    total_S, dosage_S = np.zeros((2, len(values_SG)), dtype=np.float32)
    for number, copies in enumerate((alleles_GA > 0).sum(axis=1).tolist()):
        values_S = values_SG[:, number]
        np.copyto(number_S, number, where=values_S >= least)
        total_S += values_S
        if copies:
            dosage_S += values_S if copies == 1 else copies * values_S
    if (np.abs(total_S - 1) > MALFORMED).any():
        raise ValueError("probabilities that do not sum to 1")
    dosage_S[np.isnan(total_S)] = np.nan
    nothing_1A = np.full((1, alleles_GA.shape[1]), MISSING)
    return np.concatenate([alleles_GA, nothing_1A]).astype(np.int8 if len(alleles_GA) < 128 else np.int16)[number_S], dosage_S

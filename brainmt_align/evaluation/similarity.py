"""Similarity of representations: two feature matrices of the same people flow in; linear CKA and its p flow out.

N people, M rows that may be permuted, P and Q features.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from brainmt_align.evaluation.exchangeability import draw_pairings, exchangeable_rows

SMALLEST_SHARE = 1e-12  # of the largest square in the matrix; a kernel with less left after centring is rounding
SLACK = 1e-12  # a sum in another order differs in its last bits; equal similarities must not count as smaller


class Similarity(NamedTuple):
    """Linear CKA and the permutation test of it."""

    cka: float  # at most 1; about 0 for independent sides when unbiased, and then below 0 half of the time
    p_value: float | None  # None where no permutation was asked for
    permutations: int
    rows: int  # M
    exact: bool  # False: families with nuisance, see `exchangeable_rows`


def linear_cka(
    features_NP: np.ndarray,
    features_NQ: np.ndarray,
    *,
    unbiased: bool = True,
    nuisance_NZ: np.ndarray | None = None,
    groups_N: Sequence[Hashable] | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Similarity:
    """Centred kernel alignment of two towers: do people who are alike on one side look alike on the other.

    Rotation, translation and a common scale of either side play no part. With fewer people than features the biased estimate is
    near 1 for any two sides, independent ones too; hence the unbiased one as the default.

    Residualised CKA: with nuisance both sides are first projected to rows without it (`exchangeable_rows`: N less its rank, for
    families fewer), not merely replaced by their least-squares residuals, whose dependence would bias the unbiased estimate and
    its p-value alike.

    Args:
        features_NP: (N, P) of one tower.
        features_NQ: (N, Q) of the other tower, same people.
        unbiased: HSIC without bias; False is the estimate of Kornblith et al., in [0, 1].
        nuisance_NZ: (N, Z) covariates taken out of both sides; a constant is added.
        groups_N: (N,) family of each person; families move whole, to places of families of the same size.
        permutations: drawn for the one-sided p; 0 for none. p = (1 + #{as large}) / (1 + permutations).
        seed: of the drawing.

    Raises:
        ValueError: a side whose people do not differ, or whose people all differ from each other alike; fewer than 0
            permutations; what `exchangeable_rows` and `draw_pairings` refuse.

    Reference:
        Kornblith et al. 2019 (biased); Song et al. 2012 (unbiased HSIC); Murphy et al. 2024 (debiased
        CKA where features outnumber people).
    """
    if permutations < 0:
        raise ValueError(f"CKA: expected 0 permutations or more, got {permutations}.\n  fix: ask for 1000, or 0 for no p-value.")
    rows = exchangeable_rows((features_NP, features_NQ), nuisance_NZ, groups_N)
    one_MM, other_MM = (_centred_kernel(side, unbiased) for side in rows.features)
    size = np.sqrt(np.vdot(one_MM, one_MM) * np.vdot(other_MM, other_MM))
    observed = np.vdot(one_MM, other_MM) / size
    p_value = None
    if permutations:
        as_large = 0
        for draw in draw_pairings(len(one_MM), rows.groups_M, permutations, seed):
            # A permutation moves rows and columns of a kernel and leaves its size, so the numerator alone is compared.
            as_large += int((_products(one_MM, other_MM, draw) / size >= observed - SLACK).sum())
        p_value = (1 + as_large) / (1 + permutations)
    return Similarity(float(observed), p_value, permutations, len(one_MM), rows.exact)


@njit(cache=True)
def _products(one_MM, other_MM, draw_BM):
    """(B,) sums of one kernel times the other with its people dealt anew; both symmetric, so half of each is read."""
    products = np.zeros(len(draw_BM))
    for b in range(len(draw_BM)):
        order = draw_BM[b]
        for i in range(len(order)):
            row = other_MM[order[i]]  # one row at a time stays in the processor's cache
            half = 0.0
            for j in range(i):
                half += one_MM[i, j] * row[order[j]]
            products[b] += 2 * half + one_MM[i, i] * row[order[i]]
    return products


def _centred_kernel(side_MD: np.ndarray, unbiased: bool) -> np.ndarray:
    """(M, M) kernel whose products with another's sum to HSIC times a number of M alone."""
    side_MD = side_MD - side_MD.mean(0)
    kernel_MM = side_MD @ side_MD.T
    largest = float(np.abs(kernel_MM).max())
    if unbiased:
        m = len(kernel_MM)
        np.fill_diagonal(kernel_MM, 0)
        sums_M = kernel_MM.sum(0) / (m - 2)
        kernel_MM += sums_M.sum() / (m - 1) - sums_M - sums_M[:, None]
        np.fill_diagonal(kernel_MM, 0)
    if np.vdot(kernel_MM, kernel_MM) <= SMALLEST_SHARE * largest**2 or largest <= 0:
        raise ValueError(
            f"CKA: people who differ on both sides were expected, got a side of {side_MD.shape[1]} features in which they do "
            "not, or all alike.\n  fix: leave out the nuisance that tells them, or the side that is constant."
        )
    return kernel_MM

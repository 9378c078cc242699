"""Canonical correlation: two towers' features of the same people flow in; correlations and their corrected p flow out.

N people, M rows that may be permuted, P and Q features of the two sides, K canonical pairs.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from brainmt_align.evaluation.exchangeability import draw_pairings, exchangeable_rows

STATISTICS = ("wilks", "roy")
SMALLEST_RANK = 1e-9  # a principal component with less than this share of the first one's SD is rounding
SLACK = 1e-10  # a sum in another order differs in its last bits; equal statistics must not count as smaller


class CanonicalTest(NamedTuple):
    """Canonical correlations, largest first, and what their p-values rest on."""

    correlations_K: np.ndarray  # in [0, 1], in sample: with components near the rows they are large whatever the truth
    p_fwer_K: np.ndarray  # never falling with k; all pairs with p below 0.05 hold together at family-wise error 0.05
    statistic_K: np.ndarray  # Wilks: -log of lambda of pairs k to K; Roy: r_k²
    weights_PK: np.ndarray  # residualised features times weights are canonical variates of SD 1
    weights_QK: np.ndarray
    components: tuple[int, int]  # principal components that each side kept
    rows: int  # M
    permutations: int
    exact: bool  # False: families with nuisance, see `exchangeable_rows`


class Rotations(NamedTuple):
    """Turns of orthonormal columns into canonical variates; column k of either has correlation k, columns past K have none."""

    rotation_PP: np.ndarray
    rotation_QQ: np.ndarray
    correlations_K: np.ndarray  # largest first, K = min(P, Q); rounding may carry one past 1


class _Reduced(NamedTuple):
    scores_MC: np.ndarray  # orthonormal columns
    weights_DC: np.ndarray  # features times weights are scores


def canonical_correlations(
    features_NP: np.ndarray,
    features_NQ: np.ndarray,
    *,
    nuisance_NZ: np.ndarray | None = None,
    groups_N: Sequence[Hashable] | None = None,
    components: int = 10,
    statistic: str = "wilks",
    permutations: int = 2000,
    seed: int = 0,
) -> CanonicalTest:
    """Test how many canonical pairs two sides share beyond nuisance.

    Both sides lose the nuisance and come to exchangeable rows (`exchangeable_rows` says when the test is exact, near or refused),
    then go down to their leading principal components, which permuting rows does not change. Rows of one side are dealt anew.
    Pair k is tested on what is left when pairs 1 to k-1 are taken out of both sides, complement of the shorter side kept; a
    one-shot permutation that reads all pairs off one fit is not valid for k > 1. Closure: p_k = max of p_1 … p_k.

    People whose pairs trained the towers have correlations that training made: pass held-out people.

    Args:
        features_NP: (N, P) of one tower, features or embeddings.
        features_NQ: (N, Q) of the other tower, same people.
        nuisance_NZ: (N, Z) covariates taken out of both sides; a constant is added.
        groups_N: (N,) family of each person; families move whole, to places of families of the same size.
        components: principal components a side keeps at most.
        statistic: "wilks" gathers what all pairs from k on share; "roy" is the largest alone, stronger for a single sharp pair.
        permutations: drawn; the smallest p is 1 / (1 + permutations).
        seed: of the drawing.

    Raises:
        ValueError: an unknown statistic, components below 1, a side without variance beyond nuisance, so many components that any
            two sides correlate perfectly; and what `exchangeable_rows` and `draw_pairings` refuse.

    Reference:
        Winkler et al. 2020, NeuroImage 220:117065 (stepwise, closure); Phipson and Smyth 2010 (p-values are never zero).
    """
    if statistic not in STATISTICS:
        raise ValueError(
            f"Canonical correlation: the statistic must be one of {', '.join(STATISTICS)}, got {statistic!r}.\n  fix: take wilks."
        )
    if components < 1:
        raise ValueError(f"Canonical correlation: expected 1 component or more, got {components}.\n  fix: take 10.")
    rows = exchangeable_rows((features_NP, features_NQ), nuisance_NZ, groups_N)
    one, other = (_principal(side, components) for side in rows.features)
    kept = one.scores_MC.shape[1], other.scores_MC.shape[1]
    m = len(one.scores_MC)
    free = m - (1 if nuisance_NZ is None or not np.size(nuisance_NZ) else 0)
    if sum(kept) >= free:
        raise ValueError(
            f"Canonical correlation: fewer than {free} components of both sides together were expected on {m} rows, got "
            f"{kept[0]} + {kept[1]}; any two sides would correlate perfectly.\n"
            f"  fix: set components={max(1, free // 10)} or bring more people."
        )
    turned = canonical_rotations(one.scores_MC, other.scores_MC)
    u_MP, v_MQ = one.scores_MC @ turned.rotation_PP, other.scores_MC @ turned.rotation_QQ
    count = len(turned.correlations_K)
    observed_K = _stepwise((u_MP.T @ v_MQ)[None], statistic)[0]
    at_least_K = np.zeros(count, dtype=np.int64)
    for draw in draw_pairings(m, rows.groups_M, permutations, seed):
        crossed = np.stack([u_MP.T @ v_MQ[order] for order in draw])
        at_least_K += (_stepwise(crossed, statistic) >= observed_K * (1 - SLACK)).sum(0)
    p_K = np.maximum.accumulate((1 + at_least_K) / (1 + permutations))
    unit = np.sqrt(free)
    return CanonicalTest(
        np.clip(turned.correlations_K, 0, 1),
        p_K,
        observed_K,
        unit * one.weights_DC @ turned.rotation_PP[:, :count],
        unit * other.weights_DC @ turned.rotation_QQ[:, :count],
        kept,
        m,
        permutations,
        rows.exact,
    )


def canonical_rotations(one_MP: np.ndarray, other_MQ: np.ndarray) -> Rotations:
    """Canonical correlation analysis of two sides whose columns are orthonormal, by singular values.

    Args:
        one_MP: (M, P), whitened principal components, say.
        other_MQ: (M, Q), the same rows.

    Reference:
        Björck and Golub 1973.
    """
    left_PP, correlations_K, right_QQ = np.linalg.svd(np.asarray(one_MP, np.float64).T @ other_MQ)
    return Rotations(left_PP, right_QQ.T, correlations_K)


def _principal(side_MD: np.ndarray, components: int) -> _Reduced:
    scores, sizes, axes = np.linalg.svd(side_MD, full_matrices=False)
    rank = int((sizes > SMALLEST_RANK * sizes[0]).sum())
    if not rank:
        raise ValueError(
            f"Canonical correlation: features that vary beyond the nuisance were expected, got {side_MD.shape[1]} that do not.\n"
            "  fix: leave out the nuisance that tells them, or the side that is constant."
        )
    rank = min(rank, components)
    return _Reduced(scores[:, :rank], axes[:rank].T / sizes[:rank])


def _stepwise(crossed_BPQ: np.ndarray, statistic: str) -> np.ndarray:
    """(B, K) statistic of pairs k to K: canonical variates are orthonormal, so what pairs before k leave is a corner."""
    count = min(crossed_BPQ.shape[1:])
    found = np.empty((len(crossed_BPQ), count))
    for k in range(count):
        squares = np.linalg.svd(crossed_BPQ[:, k:, k:], compute_uv=False) ** 2
        if statistic == "roy":
            found[:, k] = squares[:, 0]
        else:
            found[:, k] = -np.log(np.maximum(1 - squares, np.finfo(float).tiny)).sum(1)
    return found

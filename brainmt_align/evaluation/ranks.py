"""Ranks: embeddings of the same people from scan and genome flow in; where each true partner landed, both ways, flows out."""

from typing import NamedTuple

import numpy as np
import torch

# Scores of one block that are in memory at once: 2²² float64 take 32 MiB.
BLOCK_NUMBERS = 2**22


class RanksBothWays(NamedTuple):
    """Where each query's true partner landed; row i of every array is person i."""

    fmri_to_dna: np.ndarray  # (n,) float64 average rank 1 … n of the own genome, asked by the scan
    dna_to_fmri: np.ndarray  # (n,) float64 average rank 1 … n of the own scan, asked by the genome
    ties_fmri_to_dna: np.ndarray  # (n,) int64 candidates that share the partner's score, the partner included
    ties_dna_to_fmri: np.ndarray
    num_ties: int  # queries of both directions whose partner shares its score with somebody


class RankedPairs(NamedTuple):
    """All ranks of a set of people, computed once for everything that is made of them."""

    own: RanksBothWays
    fmri_to_dna_NN: np.ndarray  # float32 average rank of genome j, asked by scan i
    dna_to_fmri_NN: np.ndarray  # float32 average rank of scan j, asked by genome i


def rank_pairs(z_fmri, z_dna) -> RankedPairs:
    """Rank every candidate both ways; see `rank_both_ways` and `rank_matrix`.

    Args:
        z_fmri: (n, E) embeddings; row i pairs with row i of z_dna.
        z_dna: (n, E) embeddings.

    Raises:
        ValueError: shapes that do not pair, or values that are not finite.
    """
    return RankedPairs(rank_both_ways(z_fmri, z_dna), rank_matrix(z_fmri, z_dna), rank_matrix(z_dna, z_fmri))


def rank_both_ways(z_fmri, z_dna, block: int | None = None) -> RanksBothWays:
    """Rank every person's partner among all candidates by dot product, scan → genome and genome → scan.

    Scores are computed in float64, and two scores closer than the rounding error that such a dot product can have are tied.
    The same row met in two blocks may differ in its last bits, so equality alone would miss ties; on the other side the bound
    (2e-13 for unit rows of 512) lies far below what one step of float32 in an embedding changes: a difference that the
    embeddings hold counts. Tied candidates share their average rank, so that a constant embedding scores exactly chance.

    Args:
        z_fmri: (n, E) embeddings, tensor or array, of unit norm when cosines are meant; row i pairs with row i of z_dna.
        z_dna: (n, E) embeddings.
        block: queries scored at once; never more than block × n scores are in memory. By default 32 MiB of scores.

    Raises:
        ValueError: shapes that do not pair, or values that are not finite.
    """
    a_BE, b_BE = _check_pair(z_fmri, z_dna)
    n = len(a_BE)
    block = block or max(1, BLOCK_NUMBERS // n)
    slack_a_B, slack_b_B = rounding(a_BE, b_BE)
    true_B = np.einsum("be,be->b", a_BE, b_BE)
    better_a, same_a = np.empty(n, np.int64), np.empty(n, np.int64)
    better_b, same_b = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        scores = a_BE[rows] @ b_BE.T
        better_a[rows], same_a[rows] = _count(scores, true_B[rows, None], slack_a_B[rows, None], axis=1)
        better, same = _count(scores, true_B, slack_b_B, axis=0)
        better_b += better
        same_b += same
    return _from_counts(better_a, same_a, better_b, same_b)


def rank_scores(scores_BB) -> RanksBothWays:
    """Rank both ways from a finished score matrix, where larger is better; equal numbers are ties.

    Args:
        scores_BB: (n, n), row i a scan, column j a genome, person i on the diagonal.

    Raises:
        ValueError: not a square, or values that are not finite.
    """
    scores_BB = _check_scores(scores_BB)
    true_B = np.diagonal(scores_BB)
    return _from_counts(*_count(scores_BB, true_B[:, None], 0.0, axis=1), *_count(scores_BB, true_B, 0.0, axis=0))


def rank_matrix(z_query, z_candidate, block: int | None = None) -> np.ndarray:
    """Average rank of every candidate for every query by dot product; ties as in `rank_both_ways`.

    Args:
        z_query: (n, E) embeddings, tensor or array.
        z_candidate: (n, E) embeddings.
        block: queries ranked at once. By default 32 MiB of scores.

    Returns:
        (n, n) float32 ranks, 1 is best: 4 n² bytes.

    Raises:
        ValueError: shapes that do not pair, or values that are not finite.
    """
    q_BE, c_BE = _check_pair(z_query, z_candidate)
    n = len(q_BE)
    block = block or max(1, BLOCK_NUMBERS // n)
    slack_B, _ = rounding(q_BE, c_BE)
    ranks = np.empty((n, n), np.float32)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        ranks[rows] = _average_ranks(q_BE[rows] @ c_BE.T, slack_B[rows, None])
    return ranks


def rank_in_pools(z_query, z_candidate, pools_NM) -> tuple[np.ndarray, np.ndarray]:
    """Rank every query's own candidate within a pool of its own; ties as in `rank_both_ways`.

    Args:
        z_query: (n, E) embeddings, tensor or array.
        z_candidate: (n, E) embeddings; row i belongs to query i.
        pools_NM: (n, m) rows of candidates, the own row first, each row once a pool.

    Returns:
        (n,) float64 average ranks 1 … m, and (n,) int64 candidates of the pool that share the own one's score, itself included.

    Raises:
        ValueError: shapes that do not pair, or values that are not finite.
    """
    q_BE, c_BE = _check_pair(z_query, z_candidate)
    n, m = np.shape(pools_NM)
    slack_B, _ = rounding(q_BE, c_BE)
    better, same = np.empty(n, np.int64), np.empty(n, np.int64)
    block = max(1, BLOCK_NUMBERS // (m * q_BE.shape[1]))
    for start in range(0, n, block):
        rows = slice(start, start + block)
        scores = np.einsum("be,bme->bm", q_BE[rows], c_BE[pools_NM[rows]])
        better[rows], same[rows] = _count(scores, scores[:, :1], slack_B[rows, None], axis=1)
    return better + (same + 1) / 2, same


def _count(scores, true, slack, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """How many scores along an axis beat the true one, and how many equal it (itself included), within the slack."""
    better = (scores > true + slack).sum(axis=axis)
    return better, (scores >= true - slack).sum(axis=axis) - better


def _from_counts(better_a, same_a, better_b, same_b) -> RanksBothWays:
    num_ties = int((same_a > 1).sum() + (same_b > 1).sum())
    return RanksBothWays(better_a + (same_a + 1) / 2, better_b + (same_b + 1) / 2, same_a, same_b, num_ties)


def _average_ranks(scores, slack) -> np.ndarray:
    """Average rank of every score in its row, largest first; neighbours closer than the slack are one tie group."""
    rows, n = scores.shape
    order = np.argsort(-scores, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    opens = np.concatenate([np.ones((rows, 1), bool), ordered[:, :-1] - ordered[:, 1:] > slack], axis=1)
    closes = np.concatenate([opens[:, 1:], np.ones((rows, 1), bool)], axis=1)
    place = np.arange(n)
    first = np.maximum.accumulate(np.where(opens, place, 0), axis=1)
    last = np.minimum.accumulate(np.where(closes, place, n - 1)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty_like(scores)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return ranks


def rounding(a_BE: np.ndarray, b_BE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far two computed dot products of equal value can lie apart: for each row of a against all of b, and the reverse.

    Args:
        a_BE: (n, E) float64.
        b_BE: (m, E) float64.

    Returns:
        (n,) and (m,) scores of a row that differ by no more than this are tied.

    Reference:
        Higham 2002, eq. 3.5: |computed − exact| ≤ E u |x|·|y| with u = eps / 2; two scores, hence E eps.
    """
    norm_a_B, norm_b_B = np.linalg.norm(a_BE, axis=1), np.linalg.norm(b_BE, axis=1)
    # One more factor of 2 covers the second-order terms and the norms' own rounding.
    bound = 2 * a_BE.shape[1] * np.finfo(np.float64).eps
    return bound * norm_a_B * norm_b_B.max(), bound * norm_b_B * norm_a_B.max()


def _check_pair(z_fmri, z_dna) -> tuple[np.ndarray, np.ndarray]:
    pair = [_float64(z_fmri), _float64(z_dna)]
    if pair[0].ndim != 2 or pair[0].shape != pair[1].shape or not pair[0].size:
        raise ValueError(
            f"Retrieval: expected two embeddings of one shape (people, width), got {pair[0].shape} and {pair[1].shape}.\n"
            "  fix: embed the same people in the same order, one row a person."
        )
    for name, z in zip(("first", "second"), pair, strict=True):
        bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
        if bad.size:
            raise ValueError(
                f"Retrieval: expected finite embeddings, got NaN or infinity in {bad.size} of {len(z)} rows of the {name} "
                f"argument, first in row {bad[0]}.\n  fix: look for a diverged training or a broken input of these people."
            )
    return pair[0], pair[1]


def _float64(values) -> np.ndarray:
    return values.detach().double().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, np.float64)


def _check_scores(scores_BB) -> np.ndarray:
    scores_BB = _float64(scores_BB)
    if scores_BB.ndim != 2 or scores_BB.shape[0] != scores_BB.shape[1] or not scores_BB.size or not np.isfinite(scores_BB).all():
        raise ValueError(
            f"Scores: expected a square of finite numbers, got shape {scores_BB.shape} with "
            f"{int((~np.isfinite(scores_BB)).sum())} that are not finite.\n  fix: score every scan against every genome."
        )
    return scores_BB

"""Retrieval: embeddings of the same people from scan and from genome flow in; who finds whom, both ways, flows out."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from brainmt_align.evaluation.metrics import chance_median_rank, chance_recall_at_k, median_rank, recall_at_k
from brainmt_align.evaluation.permutation import permutation_p_value

# Scores of one block that are in memory at once: 2²² float64 take 32 MiB.
BLOCK_NUMBERS = 2**22


class RanksBothWays(NamedTuple):
    """Where each query's true partner landed; row i of every array is person i."""

    fmri_to_dna: np.ndarray  # (n,) float64 average rank 1 … n of the own genome, asked by the scan
    dna_to_fmri: np.ndarray  # (n,) float64 average rank 1 … n of the own scan, asked by the genome
    ties_fmri_to_dna: np.ndarray  # (n,) int64 candidates that share the partner's score, the partner included
    ties_dna_to_fmri: np.ndarray
    num_ties: int  # queries of both directions whose partner shares its score with somebody


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
    slack_a_B, slack_b_B = _rounding(a_BE, b_BE)
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
    slack_B, _ = _rounding(q_BE, c_BE)
    ranks = np.empty((n, n), np.float32)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        ranks[rows] = _average_ranks(q_BE[rows] @ c_BE.T, slack_B[rows, None])
    return ranks


def retrieval_metrics(
    z_fmri,
    z_dna,
    ks: Sequence[int] = (1, 5, 10),
    *,
    oracle_scores=None,
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> dict[str, dict[str, float | int | None]]:
    """Retrieval in both directions with chance, permutation p and, where known, the ceiling; the `retrieval` of metrics.json.

    Args:
        z_fmri: (n, E) embeddings, one row a person; row i pairs with row i of z_dna.
        z_dna: (n, E) embeddings.
        ks: recall is given at these; None where k ≥ n.
        oracle_scores: (n, n) scores of a model that knows what was planted, row a scan, column a genome.
        groups: (n,) families and the like, exchanged as blocks by the permutation.
        strata: (n,) people are permuted only within these.
        permutations: see `permutation_p_value`.
        seed: of the permutations.

    Returns:
        {"fmri_to_dna": {"recall@5", "chance_recall@5", "oracle_recall@5", …, "median_rank", "p_value", …}, "dna_to_fmri": …};
        p_value is None where no re-pairing is admissible

    Raises:
        ValueError: shapes that do not pair, or values that are not finite.
    """
    ranks = rank_both_ways(z_fmri, z_dna)
    oracle = None if oracle_scores is None else rank_scores(oracle_scores)
    if oracle is not None and len(oracle.fmri_to_dna) != len(ranks.fmri_to_dna):
        raise ValueError(
            f"Retrieval: expected oracle scores of {len(ranks.fmri_to_dna)} people, got {len(oracle.fmri_to_dna)}.\n"
            "  fix: score the same people in the same order."
        )
    metrics = {}
    for direction, query, candidate in (("fmri_to_dna", z_fmri, z_dna), ("dna_to_fmri", z_dna, z_fmri)):
        n = len(getattr(ranks, direction))
        test = permutation_p_value(
            rank_matrix(query, candidate), groups=groups, strata=strata, permutations=permutations, seed=seed
        )
        metrics[direction] = {
            "n": n,
            **_rank_metrics(ranks, direction, ks),
            **{f"chance_recall@{k}": chance_recall_at_k(n, k) for k in ks},
            "chance_median_rank": chance_median_rank(n),
            "geometric_mean_rank": test.statistic,
            "p_value": test.p_value,
            "min_p_value": test.min_p_value,
            "permutations": test.permutations,
            "exact": test.exact,
            "ties": int((getattr(ranks, f"ties_{direction}") > 1).sum()),
        }
        if oracle is not None:
            metrics[direction] |= {f"oracle_{name}": value for name, value in _rank_metrics(oracle, direction, ks).items()}
    return metrics


def _rank_metrics(ranks: RanksBothWays, direction: str, ks: Sequence[int]) -> dict[str, float | None]:
    ranks_B, ties_B = getattr(ranks, direction), getattr(ranks, f"ties_{direction}")
    return {f"recall@{k}": recall_at_k(ranks_B, k, ties_B) for k in ks} | {"median_rank": median_rank(ranks_B)}


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


def _rounding(a_BE: np.ndarray, b_BE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far two computed dot products of equal value can lie apart: for each row of a against all of b, and the reverse.

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

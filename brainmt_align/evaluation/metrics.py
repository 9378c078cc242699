"""Metrics: ranks of the true partners flow in; recall, median rank and their chance levels flow out."""

import numpy as np


def recall_at_k(ranks, k: int, ties=None, num_candidates: int | None = None) -> float | None:
    """Share of queries whose true partner is among the k best, in expectation over a random order of tied candidates.

    A query of average rank r whose tie group holds t candidates has b = r - (t - 1) / 2 - 1 better ones, so its partner is
    within k with probability clip(k - b, 0, t) / t: embeddings that are all equal score exactly k / n.

    Args:
        ranks: (n,) average rank of the true partner of each query, 1 is best.
        k: how many candidates are looked at.
        ties: (n,) size of the true partner's tie group, itself included; None means no ties.
        num_candidates: how many candidates each query ranked; as many as queries by default.

    Returns:
        0 … 1, or None where k takes in every candidate and the figure says nothing.

    Raises:
        ValueError: ranks or tie groups that cannot be, or k below 1.
    """
    ranks, ties, num_candidates = _check(ranks, ties, num_candidates)
    if k < 1:
        raise ValueError(f"recall@k: expected k of 1 or more, got {k}.\n  fix: ask for recall at 1 or above.")
    if k >= num_candidates:
        return None
    better = ranks - (ties - 1) / 2 - 1
    return float(np.mean(np.clip(k - better, 0, ties) / ties))


def chance_recall_at_k(n: int, k: int) -> float | None:
    """Recall at k of a ranking that knows nothing, k / n; None where k ≥ n."""
    return None if k >= n else k / n


def median_rank(ranks) -> float:
    """Median rank of the true partners, 1 is best.

    Raises:
        ValueError: no ranks, or ranks that cannot be.
    """
    return float(np.median(_check(ranks)[0]))


def chance_median_rank(n: int) -> float:
    """Expected median rank among n candidates under a ranking that knows nothing, (n + 1) / 2."""
    return (n + 1) / 2


def chance_levels(n: int) -> dict[str, float]:
    """What `summarise` gives for n people under a ranking that knows nothing; recall only where k < n."""
    recall = chance_recall_at_k(n, 5)
    return {"mean_rank": (n + 1) / 2} | ({} if recall is None else {"recall@5": recall})


def _check(ranks, ties=None, num_candidates: int | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """(n,) float64 ranks and tie sizes, and the number of candidates; the one place where they are checked."""
    ranks = np.asarray(ranks, dtype=np.float64)
    ties = np.ones_like(ranks) if ties is None else np.asarray(ties, dtype=np.float64)
    num_candidates = ranks.size if num_candidates is None else num_candidates
    if ranks.ndim != 1 or ranks.size == 0 or not ((ranks >= 1) & (ranks <= num_candidates)).all():
        raise ValueError(
            f"Ranks: expected a non-empty row of numbers between 1 and {num_candidates}, got shape {ranks.shape}"
            + (f" with values {ranks.min():g} … {ranks.max():g}" if ranks.size else "")
            + ".\n  fix: pass the ranks of rank_both_ways, and num_candidates when queries and candidates differ in number."
        )
    if ties.shape != ranks.shape or not ((ties >= 1) & (ties <= num_candidates)).all():
        raise ValueError(
            f"Ties: expected one tie-group size between 1 and {num_candidates} for each of {ranks.size} queries, got shape "
            f"{ties.shape}.\n  fix: pass the ties that came with the ranks."
        )
    return ranks, ties, num_candidates

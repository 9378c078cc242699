"""Metrics: ranks of the true partners flow in; recall, median and reciprocal rank, precision and chance levels flow out."""

import numpy as np
from scipy.special import digamma


def recall_at_k(ranks, k: int, ties=None, num_candidates: int | None = None, positives=None) -> float | None:
    """Share of queries with a true partner among the k best, in expectation over a random order of tied candidates.

    A query of expected rank r whose first tie group holds t candidates, p of them partners, has b = r - (t + 1) / (p + 1)
    better ones; j = clip(k - b, 0, t) places of the group are looked at, and all of them miss with probability
    C(t - j, p) / C(t, p). With one partner a query that is a hit of j / t: embeddings that are all equal score exactly k / n.

    Args:
        ranks: (n,) expected rank of the first true partner of each query, 1 is best; with one partner its average rank.
        k: how many candidates are looked at.
        ties: (n,) size of that partner's tie group, itself included; None means no ties.
        num_candidates: how many candidates each query ranked; as many as queries by default.
        positives: (n,) how many of the tie group are true partners; None means one.

    Returns:
        0 … 1, or None where k takes in every candidate and the figure says nothing.

    Raises:
        ValueError: ranks or tie groups that cannot be, or k below 1.
    """
    ranks, ties, num_candidates = _check(ranks, ties, num_candidates)
    positives = _check_positives(positives, ties)
    if k < 1:
        raise ValueError(f"recall@k: expected k of 1 or more, got {k}.\n  fix: ask for recall at 1 or above.")
    return None if k >= num_candidates else float(np.mean(hits_at_k(ranks, k, ties, positives)))


def hits_at_k(ranks, k: int, ties, positives=1.0) -> np.ndarray:
    """(n,) probability that each query has a true partner among the k best; what `recall_at_k` is the mean of.

    Args:
        ranks, k, ties, positives: as in `recall_at_k`, taken as they are.
    """
    ranks, ties = np.asarray(ranks, np.float64), np.asarray(ties, np.float64)
    positives = np.broadcast_to(positives, ties.shape)
    looked_at = np.clip(k - _better(ranks, ties, positives), 0, ties)
    hit = looked_at / ties
    for each in range(1, int(positives.max())):  # C(t - j, p) / C(t, p) = product of (t - j - i) / (t - i) over i < p
        more = positives > each
        hit[more] += (1 - hit[more]) * np.minimum(looked_at[more] / (ties[more] - each), 1)
    return hit


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


def mean_reciprocal_rank(ranks, ties=None, num_candidates: int | None = None, positives=None) -> float:
    """Mean of 1 / rank of the first true partner, in expectation over a random order of tied candidates.

    Args:
        ranks: (n,) expected rank of the first true partner of each query, 1 is best; with one partner its average rank.
        ties: (n,) size of that partner's tie group, itself included; None means no ties.
        num_candidates: how many candidates each query ranked; as many as queries by default.
        positives: (n,) how many of the tie group are true partners; None means one.

    Returns:
        Above 0 … 1.

    Raises:
        ValueError: ranks, tie groups or numbers of partners that cannot be.
    """
    ranks, ties, _ = _check(ranks, ties, num_candidates)
    return float(np.mean(reciprocal_ranks(ranks, ties, _check_positives(positives, ties))))


def reciprocal_ranks(ranks, ties, positives=1.0) -> np.ndarray:
    """(n,) expected 1 / rank of each query's first partner; what `mean_reciprocal_rank` is the mean of.

    Args:
        ranks, ties, positives: as in `mean_reciprocal_rank`, taken as they are.
    """
    ranks, ties = np.asarray(ranks, np.float64), np.asarray(ties, np.float64)
    positives = np.broadcast_to(positives, ties.shape)
    better = _better(ranks, ties, positives)
    reciprocal = _harmonic(better, ties) / ties
    several = positives > 1
    groups, which = np.unique(np.stack([better, ties, positives], axis=1)[several], axis=0, return_inverse=True)
    reciprocal[several] = np.array([_expected_reciprocal(*group) for group in groups])[which] if len(groups) else []
    return reciprocal


def chance_mean_reciprocal_rank(n: int) -> float:
    """Mean reciprocal rank among n candidates of a ranking that knows nothing, (1 + 1/2 + … + 1/n) / n."""
    return float(np.sum(1 / np.arange(1, n + 1)) / n)


def expected_precision(better, ties, positives_better, positives_tied) -> np.ndarray:
    """Precision at the place of a true partner, in expectation over a random order of tied candidates.

    Of t tied candidates the partner's place j is uniform in 1 … t, and (j - 1) (p - 1) / (t - 1) of the p - 1 other partners
    of the group are expected before it. Average precision is the mean of this over all partners of a query.

    Args:
        better: (…) candidates that score above the partner.
        ties: (…) size of its tie group, itself included.
        positives_better: (…) partners of the query among the better ones.
        positives_tied: (…) partners in the tie group, itself included.

    Returns:
        (…) float64 above 0 … 1.
    """
    better, ties, before, tied = (np.asarray(x, np.float64) for x in (better, ties, positives_better, positives_tied))
    harmonic = _harmonic(better, ties)
    others = (tied - 1) / np.maximum(ties - 1, 1)
    return ((before + 1) * harmonic + others * (ties - (better + 1) * harmonic)) / ties


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


def _check_positives(positives, ties: np.ndarray) -> np.ndarray:
    """(n,) float64 true partners in each tie group."""
    positives = np.ones_like(ties) if positives is None else np.asarray(positives, dtype=np.float64)
    if positives.shape != ties.shape or not ((positives >= 1) & (positives <= ties)).all():
        raise ValueError(
            f"Partners: expected between 1 and the size of the tie group for each of {ties.size} queries, got shape "
            f"{positives.shape}.\n  fix: count the true partners that share the first one's score."
        )
    return positives


def _better(ranks, ties, positives):
    """Candidates before the tie group, from the expected rank of its first partner, b + (t + 1) / (p + 1)."""
    return np.maximum(ranks - (ties + 1) / (positives + 1), 0)


def _expected_reciprocal(better: float, ties: float, positives: float) -> float:
    """1 / rank of the first of several partners in one tie group, over all orders of the group."""
    place = np.arange(1, int(ties) + 1)
    none_yet = np.cumprod(np.append(1.0, (ties - positives - place + 1).clip(0) / (ties - place + 1)))[:-1]
    return float((none_yet * positives / (ties - place + 1) / (better + place)).sum())


def _harmonic(better, ties):
    """1 / (b + 1) + … + 1 / (b + t)."""
    return np.where(ties == 1, 1 / (better + 1), digamma(better + ties + 1) - digamma(better + 1))

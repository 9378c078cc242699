"""Retrieval figures: embeddings of the same people flow in; recall, ranks, chance, ceiling, intervals and p, both ways, flow out.

Q queries, R resamples.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from brainmt_align.evaluation.bootstrap import PERCENTILES, family_weights
from brainmt_align.evaluation.metrics import chance_mean_reciprocal_rank, hits_at_k, reciprocal_ranks
from brainmt_align.evaluation.permutation import permutation_p_value
from brainmt_align.evaluation.ranks import RankedPairs, rank_pairs, rank_scores

DIRECTIONS = ("fmri_to_dna", "dna_to_fmri")


def retrieval_metrics(
    z_fmri,
    z_dna,
    ks: Sequence[int] = (1, 5, 10),
    *,
    oracle_scores=None,
    groups: Sequence[Hashable] | None = None,
    permutations: int = 10_000,
    resamples: int = 0,
    seed: int = 0,
    ranked: RankedPairs | None = None,
) -> dict[str, dict[str, float | int | None]]:
    """Retrieval in both directions with chance, permutation p and, where known, the ceiling; the `retrieval` of metrics.json.

    Args:
        z_fmri: (n, E) embeddings, one row a person; row i pairs with row i of z_dna.
        z_dna: (n, E) embeddings.
        ks: recall is given at these; None where k ≥ n.
        oracle_scores: (n, n) scores of a model that knows what was planted, row a scan, column a genome.
        groups: (n,) families and the like, exchanged as blocks by the permutation and drawn whole by the bootstrap.
        permutations: see `permutation_p_value`.
        resamples: R of the intervals; 0 gives none.
        seed: of the permutations and resamples.
        ranked: of `rank_pairs` for the same embeddings, where the caller has it already.

    Returns:
        {"fmri_to_dna": {"recall@5", "chance_recall@5", "oracle_recall@5", …, "mrr", "median_rank", "p_value", …, "intervals"},
        "dna_to_fmri": …}; p_value is None where no re-pairing is admissible

    Raises:
        ValueError: shapes that do not pair, or values that are not finite.
    """
    ranked = ranked or rank_pairs(z_fmri, z_dna)
    ranks = ranked.own
    oracle = None if oracle_scores is None else rank_scores(oracle_scores)
    if oracle is not None and len(oracle.fmri_to_dna) != len(ranks.fmri_to_dna):
        raise ValueError(
            f"Retrieval: expected oracle scores of {len(ranks.fmri_to_dna)} people, got {len(oracle.fmri_to_dna)}.\n"
            "  fix: score the same people in the same order."
        )
    n = len(ranks.fmri_to_dna)
    weights_RQ = family_weights(groups if groups is not None else range(n), resamples, seed) if resamples else None
    metrics = {}
    for direction in DIRECTIONS:
        ranks_QC = getattr(ranked, f"{direction}_NN")
        test = permutation_p_value(ranks_QC, groups=groups, permutations=permutations, seed=seed)
        ties_Q = getattr(ranks, f"ties_{direction}")
        metrics[direction] = rank_figures(getattr(ranks, direction), ties_Q, n, ks, weights_RQ) | {
            "p_value": test.p_value,
            "min_p_value": test.min_p_value,
            "permutations": test.permutations,
            "exact": test.exact,
        }
        if oracle is not None:
            ceiling = rank_figures(getattr(oracle, direction), getattr(oracle, f"ties_{direction}"), n, ks)
            metrics[direction] |= {f"oracle_{name}": ceiling[name] for name in [*(f"recall@{k}" for k in ks), "median_rank"]}
    return metrics


def rank_figures(ranks_Q, ties_Q, candidates, ks: Sequence[int] = (1, 5, 10), weights_RQ=None) -> dict:
    """All that the ranks of the true partners say, beside what knowing nothing would give.

    Args:
        ranks_Q: (Q,) average rank of each query's true partner, 1 is best.
        ties_Q: (Q,) size of the true partner's tie group, itself included.
        candidates: how many candidates each query ranked: one number, or (Q,).
        ks: recall is given at these; None where k takes in every query's candidates.
        weights_RQ: (R, Q) of `family_weights`; None gives no intervals. The candidates stay as they were.

    Returns:
        n, recall@k, chance_recall@k, mrr, chance_mrr, median_rank, chance_median_rank, geometric_mean_rank, ties, and with
        weights "intervals": recall@k, mrr, median_rank, mean_log_rank → [low, high], 95 % by percentiles.
    """
    sizes_Q = np.broadcast_to(np.asarray(candidates, np.int64), np.shape(ranks_Q))
    largest = int(sizes_Q.max())
    values = _of_queries(ranks_Q, ties_Q, sizes_Q, ks)
    sizes, counts = np.unique(sizes_Q, return_counts=True)
    figures = {
        "n": len(ranks_Q),
        **{f"recall@{k}": _mean(values[f"recall@{k}"]) for k in ks},
        **{f"chance_recall@{k}": None if k >= largest else float(np.minimum(k / sizes, 1) @ counts / len(ranks_Q)) for k in ks},
        "mrr": float(values["mrr"].mean()),
        "chance_mrr": float(np.average([chance_mean_reciprocal_rank(size) for size in sizes], weights=counts)),
        "median_rank": float(np.median(values["median_rank"])),
        "chance_median_rank": _chance_median(sizes, counts),
        "geometric_mean_rank": float(np.exp(values["mean_log_rank"].mean())),
        "ties": int((np.asarray(ties_Q) > 1).sum()),
    }
    if weights_RQ is not None:
        figures["intervals"] = {
            name: None if each is None else np.percentile(resampled(name, each, weights_RQ), PERCENTILES).tolist()
            for name, each in values.items()
        }
    return figures


def leads(model: tuple, rival: tuple, candidates, ks: Sequence[int], weights_RQ) -> dict[str, list[float] | None]:
    """How far a model leads a rival on the same queries and resamples; positive where the model is better.

    Args:
        model: (Q,) ranks and (Q,) ties of the model.
        rival: the same of the rival, the same queries in the same order.
        candidates: as in `rank_figures`.
        ks: as in `rank_figures`.
        weights_RQ: (R, Q) of `family_weights`.

    Returns:
        recall@k (more hits), mrr and mean_log_rank (nats gained a person) → [value, low, high]
    """
    ours, theirs = (_of_queries(*each, candidates, ks) for each in (model, rival))
    found = {}
    for name in [*(f"recall@{k}" for k in ks), "mrr", "mean_log_rank"]:
        if ours[name] is None:
            found[name] = None
            continue
        gain_Q = theirs[name] - ours[name] if name == "mean_log_rank" else ours[name] - theirs[name]
        found[name] = [float(gain_Q.mean()), *np.percentile(resampled(name, gain_Q, weights_RQ), PERCENTILES).tolist()]
    return found


def resampled(name: str, values_Q: np.ndarray, weights_RQ: np.ndarray) -> np.ndarray:
    """(R,) the figure of every resample: the weighted median for median_rank, the weighted mean for all others."""
    if name != "median_rank":
        return weights_RQ @ values_Q / weights_RQ.sum(1)
    order = np.argsort(values_Q, kind="stable")
    sorted_Q = values_Q[order]
    below_RQ = np.cumsum(weights_RQ[:, order], axis=1)
    half_R = below_RQ[:, -1:] / 2
    lower, upper = (below_RQ >= half_R).argmax(1), (below_RQ > half_R).argmax(1)
    return (sorted_Q[lower] + sorted_Q[upper]) / 2


def _of_queries(ranks_Q, ties_Q, candidates, ks: Sequence[int]) -> dict[str, np.ndarray | None]:
    """Each query's part in every figure, in expectation over a random order of tied candidates."""
    ranks_Q, ties_Q = np.asarray(ranks_Q, np.float64), np.asarray(ties_Q, np.float64)
    largest = np.max(candidates)
    hits = {f"recall@{k}": None if k >= largest else hits_at_k(ranks_Q, k, ties_Q) for k in ks}
    return hits | {"mrr": reciprocal_ranks(ranks_Q, ties_Q), "median_rank": ranks_Q, "mean_log_rank": np.log(ranks_Q)}


def _mean(values_Q: np.ndarray | None) -> float | None:
    return None if values_Q is None else float(values_Q.mean())


def _chance_median(sizes: np.ndarray, counts: np.ndarray) -> float:
    """Median of ranks that are uniform on 1 … size, size by size as often as there are queries."""
    share_of_rank = np.zeros(int(sizes.max()))
    for size, count in zip(sizes, counts, strict=True):
        share_of_rank[:size] += count / size
    below = np.cumsum(share_of_rank) / counts.sum()
    return float((below >= 0.5 - 1e-9).argmax() + (below > 0.5 + 1e-9).argmax()) / 2 + 1

"""Retrieval figures: embeddings of the same people flow in; recall, ranks, chance, ceiling and p, both ways, flow out."""

from collections.abc import Hashable, Sequence

from brainmt_align.evaluation.metrics import chance_median_rank, chance_recall_at_k, median_rank, recall_at_k
from brainmt_align.evaluation.permutation import permutation_p_value
from brainmt_align.evaluation.ranks import RanksBothWays, rank_both_ways, rank_matrix, rank_scores


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

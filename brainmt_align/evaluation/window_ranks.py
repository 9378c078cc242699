"""Ranks of windows: embeddings with several rows a person flow in; where each row's own rows landed, and figures, flow out."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainmt_align.evaluation.metrics import (
    chance_mean_reciprocal_rank,
    chance_median_rank,
    chance_recall_at_k,
    expected_precision,
    mean_reciprocal_rank,
    median_rank,
    recall_at_k,
)
from brainmt_align.evaluation.ranks import BLOCK_NUMBERS, rounding


class WindowRanks(NamedTuple):
    """Where the query rows found rows of their own person; one entry a query row whose person has a candidate row."""

    ranks: np.ndarray  # (Q,) float64 expected rank 1 … C of the first own row; with one own row its average rank
    ties: np.ndarray  # (Q,) int64 candidate rows that share that row's score, itself included
    positives: np.ndarray  # (Q,) int64 own rows among those
    average_precision: np.ndarray  # (Q,) float64 over all own rows, in expectation over the order of tied rows
    num_positives: np.ndarray  # (Q,) int64 candidate rows of the own person


def rank_windows(z_query_QE, z_candidate_CE, person_Q, person_C, block: int | None = None) -> WindowRanks:
    """Rank all candidate rows for every query row by dot product; right are all rows of the query's own person.

    Scores are float64 and tie as in `rank_both_ways`. Never more than block × C scores are in memory, beside the candidates in
    float64.

    Args:
        z_query_QE: (Q, E) unit rows; those whose person has no candidate row are left out.
        z_candidate_CE: (C, E) unit rows.
        person_Q: (Q,) int, whose row it is.
        person_C: (C,) int.
        block: queries scored at once. By default 32 MiB of scores.

    Raises:
        ValueError: no query whose person has a candidate row.
    """
    person_Q, person_C = np.asarray(person_Q), np.asarray(person_C)
    by_person = np.argsort(person_C, kind="stable")
    first_Q = np.searchsorted(person_C[by_person], person_Q, side="left")
    count_Q = np.searchsorted(person_C[by_person], person_Q, side="right") - first_Q
    asked = np.flatnonzero(count_Q)
    if not asked.size:
        raise ValueError(
            f"Retrieval: expected people with rows on both sides, got none among {len(person_Q)} queries and {len(person_C)} "
            "candidates.\n  fix: embed the scans and the genomes of the same people."
        )
    candidate_CE = np.asarray(z_candidate_CE, np.float64)
    block = block or max(1, BLOCK_NUMBERS // len(candidate_CE))
    found = []
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        query_BE = np.asarray(z_query_QE[rows], np.float64)
        place_BP = np.arange(count_Q[rows].max())  # own rows are padded to the most that a query of the block has
        own_BP = by_person[(first_Q[rows, None] + place_BP).clip(max=len(by_person) - 1)]
        slack_B1 = rounding(query_BE, candidate_CE[:1])[0][:, None]  # unit rows: any candidate's norm is the largest
        found.append(_locate(query_BE @ candidate_CE.T, own_BP, place_BP < count_Q[rows, None], slack_B1))
    return WindowRanks(*(np.concatenate(column) for column in zip(*found, strict=True)), count_Q[asked])


def window_metrics(found: WindowRanks, num_candidates: int, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float | int | None]:
    """Figures of one direction, each with what a ranking that knows nothing would reach.

    Args:
        found: of the queries.
        num_candidates: rows that each query ranked.
        ks: recall is given at these; None where k takes in every row.

    Returns:
        {"n", "candidates", "recall@k", "chance_recall@k", "mrr", "chance_mrr", "median_rank", "chance_median_rank", "map",
        "chance_map", "ties"}; n and ties are numbers of queries, tied where the first own row shares its score with others.
    """
    own_Q, none_Q = found.num_positives, np.zeros_like(found.num_positives)
    everybody_Q = np.full_like(own_Q, num_candidates)
    tied = (num_candidates + 1) / (own_Q + 1), everybody_Q, num_candidates, own_Q  # a ranking that knows nothing: all tie
    one = bool((own_Q == 1).all())
    seen = found.ranks, found.ties, num_candidates, found.positives
    return {
        "n": len(own_Q),
        "candidates": num_candidates,
        **{f"recall@{k}": _recall(k, *seen) for k in ks},
        **{f"chance_recall@{k}": chance_recall_at_k(num_candidates, k) if one else _recall(k, *tied) for k in ks},
        "mrr": mean_reciprocal_rank(*seen),
        "chance_mrr": chance_mean_reciprocal_rank(num_candidates) if one else mean_reciprocal_rank(*tied),
        "median_rank": median_rank(found.ranks),
        "chance_median_rank": chance_median_rank(num_candidates) if one else _chance_median(*tied),
        "map": float(found.average_precision.mean()),
        "chance_map": float(expected_precision(none_Q, everybody_Q, none_Q, own_Q).mean()),
        "ties": int((found.ties > found.positives).sum()),
    }


def _recall(k: int, ranks, ties, num_candidates: int, positives) -> float | None:
    return recall_at_k(ranks, k, ties, num_candidates, positives)


def _chance_median(ranks, ties, num_candidates: int, own_Q) -> float:
    """The rank within which half of the queries find a row of theirs by chance."""
    within = range(1, num_candidates)
    return float(1 + bisect.bisect_left(within, 0.5, key=lambda k: _recall(k, ranks, ties, num_candidates, own_Q)))


def _locate(scores_BC, own_BP, is_own_BP, slack_B1) -> tuple[np.ndarray, ...]:
    """The first four fields of `WindowRanks` for the queries of one block."""
    own_score_BP = np.where(is_own_BP, np.take_along_axis(scores_BC, own_BP, axis=1), -np.inf)
    better_BP, ties_BP = np.empty(own_BP.shape, np.int64), np.empty(own_BP.shape, np.int64)
    before_BP, tied_BP = np.empty(own_BP.shape, np.int64), np.empty(own_BP.shape, np.int64)
    for place in range(own_BP.shape[1]):
        above, below = own_score_BP[:, [place]] + slack_B1, own_score_BP[:, [place]] - slack_B1
        for scores, better, ties in ((scores_BC, better_BP, ties_BP), (own_score_BP, before_BP, tied_BP)):
            better[:, place] = (scores > above).sum(axis=1)
            ties[:, place] = (scores >= below).sum(axis=1) - better[:, place]
    ties_BP = np.maximum(ties_BP, 1)  # of padding none tie
    precision_BP = np.where(is_own_BP, expected_precision(better_BP, ties_BP, before_BP, tied_BP), 0)
    first = np.arange(len(own_BP)), np.argmax(own_score_BP, axis=1)
    ranks_B = better_BP[first] + (ties_BP[first] + 1) / (tied_BP[first] + 1)
    return ranks_B, ties_BP[first], tied_BP[first], precision_BP.sum(axis=1) / is_own_BP.sum(axis=1)

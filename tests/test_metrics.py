"""Tests of the metrics room: known ranks, known figures."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from brainmt_align.evaluation.metrics import (
    chance_levels,
    chance_mean_reciprocal_rank,
    chance_median_rank,
    chance_recall_at_k,
    expected_precision,
    mean_reciprocal_rank,
    median_rank,
    recall_at_k,
)


def test_recall_at_k_counts_ranks_up_to_k_when_nothing_ties():
    ranks = [1, 2, 3, 4, 5, 1, 9, 8]
    assert recall_at_k(ranks, 1, num_candidates=10) == 2 / 8
    assert recall_at_k(ranks, 5, num_candidates=10) == 6 / 8


@pytest.mark.parametrize("n", [2, 7, 80])
def test_recall_at_k_is_chance_at_every_k_when_all_tie(n):
    ranks, ties = np.full(n, (n + 1) / 2), np.full(n, n)
    for k in range(1, n):
        assert recall_at_k(ranks, k, ties) == pytest.approx(chance_recall_at_k(n, k), abs=1e-15)


def test_recall_at_k_is_the_mean_over_all_orders_of_a_tie_group():
    scores = np.array([5, 4, 4, 4, 1])  # the partner is candidate 2: rank 3 on average, in a tie group of 3
    for k in range(1, 5):
        orders = [sorted(range(5), key=lambda i, o=order: (-scores[i], o[i])) for order in itertools.permutations(range(5))]
        expected = np.mean([2 in order[:k] for order in orders])
        assert recall_at_k([3.0], k, [3], num_candidates=5) == pytest.approx(expected)


@pytest.mark.parametrize("k", [4, 5])
def test_recall_at_k_is_none_when_k_takes_in_every_candidate(k):
    assert recall_at_k([1, 2, 3, 4], k) is None and chance_recall_at_k(4, k) is None


def test_median_rank_of_all_orders_is_its_chance_level():
    assert median_rank([1, 2, 2, 4]) == 2.0
    assert median_rank(np.arange(1, 81)) == chance_median_rank(80) == 40.5


@pytest.mark.parametrize("ranks", [[], [[1, 2]], [0, 1], [1, 3], [1, np.nan]])
def test_recall_at_k_refuses_ranks_that_cannot_be(ranks):
    with pytest.raises(ValueError, match="expected a non-empty row of numbers between 1 and"):
        recall_at_k(ranks, 1)


@pytest.mark.parametrize("ties", [[1], [0, 1], [3, 1]])
def test_recall_at_k_refuses_tie_sizes_that_cannot_be(ties):
    with pytest.raises(ValueError, match="one tie-group size between 1 and 2"):
        recall_at_k([1, 2], 1, ties)


def test_recall_at_k_refuses_k_below_one():
    with pytest.raises(ValueError, match="expected k of 1 or more, got 0"):
        recall_at_k([1, 2], 0)


def test_chance_levels_are_those_of_all_orders():
    assert chance_levels(40) == {"mean_rank": np.mean(np.arange(1, 41)), "recall@5": chance_recall_at_k(40, 5)}
    assert chance_levels(5) == {"mean_rank": 3.0}


def all_orders(scores, is_partner):
    """Rank of the first partner and the average precision under every order of equal scores."""
    firsts, precisions = [], []
    for order in itertools.permutations(range(len(scores))):
        hits = np.array(is_partner)[sorted(range(len(scores)), key=lambda i, o=order: (-scores[i], o[i]))]
        firsts.append(int(np.flatnonzero(hits)[0]) + 1)
        precisions.append(np.mean((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits]))
    return np.array(firsts), np.mean(precisions)


TIED = [
    ([5, 4, 4, 4, 1, 1], [0, 1, 1, 0, 0, 1]),
    ([2, 2, 2, 2, 2, 2], [1, 1, 0, 1, 0, 0]),
    ([3, 3, 2, 2, 2, 0], [0, 0, 0, 1, 0, 0]),
    ([3, 3, 1, 1, 1, 1], [1, 0, 1, 1, 1, 0]),
    ([1, 2, 3, 4, 5, 6], [1, 0, 1, 0, 0, 1]),
]


def counts_around_partners(scores, is_partner):
    """Candidates above and level with each partner, then partners above and level with it."""
    partners = scores[is_partner][:, None]
    return *((scores > partners).sum(1), (scores == partners).sum(1)), *(
        (partners < partners.T).sum(1),
        (partners == partners.T).sum(1),
    )


@pytest.mark.parametrize(("scores", "is_partner"), TIED)
def test_rank_metrics_are_the_mean_over_all_orders_of_a_tie_group_with_several_partners(scores, is_partner):
    scores, is_partner = np.array(scores), np.array(is_partner, bool)
    best = scores[is_partner].max()
    ties, positives = [(scores == best).sum()], [(scores[is_partner] == best).sum()]
    firsts, precision = all_orders(scores, is_partner)
    rank = [(scores > best).sum() + (ties[0] + 1) / (positives[0] + 1)]
    assert rank[0] == pytest.approx(firsts.mean())
    assert mean_reciprocal_rank(rank, ties, 6, positives) == pytest.approx(np.mean(1 / firsts))
    for k in range(1, 6):
        assert recall_at_k(rank, k, ties, 6, positives) == pytest.approx(np.mean(firsts <= k))
    assert expected_precision(*counts_around_partners(scores, is_partner)).mean() == pytest.approx(precision)


def test_expected_precision_averages_to_that_of_sklearn_when_nothing_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        is_partner, scores = rng.permutation(np.arange(50) < 7), rng.standard_normal(50)
        found = expected_precision(*counts_around_partners(scores, is_partner)).mean()
        assert found == pytest.approx(average_precision_score(is_partner, scores))


def test_expected_precision_is_the_reciprocal_rank_of_an_only_partner():
    assert expected_precision(1, 1, 0, 1) == 1 / 2
    assert expected_precision(2, 3, 0, 1) == pytest.approx(mean_reciprocal_rank([4], [3], 10))


def test_mean_reciprocal_rank_averages_over_queries():
    assert mean_reciprocal_rank([1, 2, 4, 4]) == (1 + 1 / 2 + 1 / 4 + 1 / 4) / 4
    assert mean_reciprocal_rank([1, 20], num_candidates=20) == (1 + 1 / 20) / 2


@pytest.mark.parametrize("n", [1, 7, 80])
def test_mean_reciprocal_rank_is_chance_when_all_tie(n):
    ranks, ties = np.full(n, (n + 1) / 2), np.full(n, n)
    assert mean_reciprocal_rank(ranks, ties) == pytest.approx(chance_mean_reciprocal_rank(n), rel=1e-12)
    assert chance_mean_reciprocal_rank(n) == pytest.approx(mean_reciprocal_rank(np.arange(1, n + 1)))


def test_mean_reciprocal_rank_stays_a_number_when_a_large_group_holds_many_partners():
    assert 0.002 < mean_reciprocal_rank([5001 / 201], [5000], 5000, [200]) < 1


@pytest.mark.parametrize("positives", [[0, 1], [1, 3], [1]])
def test_mean_reciprocal_rank_refuses_more_partners_than_tied(positives):
    with pytest.raises(ValueError, match="between 1 and the size of the tie group for each of 2 queries"):
        mean_reciprocal_rank([1.5, 1.5], [2, 2], 2, positives)


def test_mean_reciprocal_rank_is_the_expectation_over_orders_of_the_tied():
    # One better, three tied: ranks 2, 3 or 4 alike.
    assert mean_reciprocal_rank([3.0], [3], num_candidates=4) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert mean_reciprocal_rank([1.0, 4.0], num_candidates=4) == pytest.approx(0.625)


def test_mean_reciprocal_rank_is_chance_when_everything_ties():
    assert mean_reciprocal_rank([5.5] * 10, [10] * 10) == pytest.approx(chance_mean_reciprocal_rank(10))
    assert chance_mean_reciprocal_rank(2) == 0.75


def test_mean_reciprocal_rank_refuses_ranks_below_one():
    with pytest.raises(ValueError, match="expected a non-empty row of numbers between 1"):
        mean_reciprocal_rank([0.5])

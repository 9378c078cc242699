"""Tests of the metrics room: known ranks, known figures."""

import itertools

import numpy as np
import pytest

from brainmt_align.evaluation.metrics import chance_levels, chance_median_rank, chance_recall_at_k, median_rank, recall_at_k


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

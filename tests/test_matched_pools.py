"""Tests of the matched pools: the own row first, then the nearest strangers, against a naive search."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from brainmt_align.evaluation.matched_pools import matched_pools
from brainmt_align.evaluation.ranks import rank_in_pools


def test_matched_pools_are_the_nearest_strangers_by_mahalanobis_distance():
    rng = np.random.default_rng(0)
    covariates_NK = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 3)) * [1, 100, 0.01]
    families = np.arange(40) // 2
    distances = cdist(covariates_NK, covariates_NK, "mahalanobis", VI=np.linalg.inv(np.cov(covariates_NK.T)))
    distances[families[:, None] == families] = np.inf
    pools_NM = matched_pools(covariates_NK, 6, families.tolist())
    assert pools_NM.shape == (40, 6) and (pools_NM[:, 0] == np.arange(40)).all()
    assert (pools_NM[:, 1:] == np.argsort(distances, axis=1)[:, :5]).all()


def test_matched_pools_ignore_what_other_covariates_tell_and_deal_equals_at_random():
    sex = np.repeat([0.0, 1.0], 20)
    pools_NM = matched_pools(np.column_stack([sex, 1 - sex, np.zeros(40)]), 5)
    assert (sex[pools_NM] == sex[:, None]).all()
    assert len(np.unique(pools_NM[:20, 1:])) > 15
    assert all(len(set(pool)) == 5 for pool in pools_NM.tolist())


def test_matched_pools_leave_a_model_that_knows_covariates_at_chance_where_they_are_equal_within_pools():
    rng, hits = np.random.default_rng(3), []
    for seed in range(40):
        cells_N = np.repeat(np.arange(6), 20)
        covariates_NK = np.eye(6)[cells_N]
        known_NE = rng.standard_normal((6, 16))[cells_N]
        pools_NM = matched_pools(covariates_NK, 10, seed=seed)
        ranks_N, _ = rank_in_pools(known_NE, known_NE + rng.standard_normal((120, 16)), pools_NM)
        hits.append((ranks_N == 1).mean())
    assert np.mean(hits) == pytest.approx(0.1, abs=4 * np.std(hits) / np.sqrt(40))


def test_rank_in_pools_counts_better_and_tied_candidates_of_the_pool_alone():
    rng = np.random.default_rng(1)
    z_query, z_candidate = rng.standard_normal((2, 30, 8))
    pools_NM = np.column_stack([np.arange(30), (np.arange(30)[:, None] + np.arange(1, 6)) % 30])
    ranks_N, ties_N = rank_in_pools(z_query, z_candidate, pools_NM)
    scores = z_query @ z_candidate.T
    naive = [1 + sum(scores[i, j] > scores[i, i] for j in pools_NM[i, 1:]) for i in range(30)]
    assert ranks_N.tolist() == naive and (ties_N == 1).all()
    same_N, all_N = rank_in_pools(np.ones((30, 8)), np.ones((30, 8)), pools_NM)
    assert (same_N == 3.5).all() and (all_N == 6).all()


@pytest.mark.parametrize("covariates", [np.ones(4), np.full((4, 1), np.nan), np.ones((0, 1))])
def test_matched_pools_refuse_what_is_no_table_of_numbers(covariates):
    with pytest.raises(ValueError, match="finite covariates \\(people, covariates\\) were expected"):
        matched_pools(covariates, 2)


def test_matched_pools_refuse_constant_covariates():
    with pytest.raises(ValueError, match="a covariate that varies was expected, got 2 constant"):
        matched_pools(np.ones((4, 2)), 2)


@pytest.mark.parametrize("groups", [list("ab"), ["a", "b", None, "c"]])
def test_matched_pools_refuse_families_that_do_not_fit(groups):
    with pytest.raises(ValueError, match="a family for each of 4 people was expected"):
        matched_pools(np.arange(4.0)[:, None], 2, groups)


@pytest.mark.parametrize("size", [1, 4])
def test_matched_pools_refuse_sizes_that_cannot_be(size):
    with pytest.raises(ValueError, match="2 to 3 people a pool were expected for 4 people in families of up to 2"):
        matched_pools(np.arange(4.0)[:, None], size, list("aabc"))

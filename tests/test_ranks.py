"""Tests of the ranks room: both directions against scipy's ranks, ties that rounding must not break."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from brainmt_align.evaluation.metrics import recall_at_k
from brainmt_align.evaluation.ranks import rank_both_ways, rank_matrix, rank_pairs, rank_scores


def unit(n, width, seed):
    z = np.random.default_rng(seed).standard_normal((n, width))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def oracle_ranks(scores):
    return np.diagonal(rankdata(-scores, axis=1)), np.diagonal(rankdata(-scores, axis=0))


@pytest.mark.parametrize("n", [2, 80, 1000])
@pytest.mark.parametrize("block", [None, 1, 7])
def test_rank_both_ways_equals_the_full_ranking(n, block):
    z_fmri, z_dna = unit(n, 33, 0), unit(n, 33, 1)
    ranks = rank_both_ways(z_fmri, z_dna, block=block)
    expected = oracle_ranks(z_fmri @ z_dna.T)
    np.testing.assert_array_equal(ranks.fmri_to_dna, expected[0])
    np.testing.assert_array_equal(ranks.dna_to_fmri, expected[1])
    assert ranks.num_ties == 0 and ranks.fmri_to_dna.dtype == np.float64


def test_rank_both_ways_sees_differences_of_one_float32_step():
    z_dna = torch.from_numpy(unit(80, 512, 2)).float()
    z_dna[1] = z_dna[0]
    z_dna[1, 5] = torch.nextafter(z_dna[0, 5], torch.tensor(2.0))
    ranks = rank_both_ways(z_dna.clone(), z_dna)
    assert ranks.num_ties == 0


def test_rank_both_ways_reads_tensors_of_any_float_type_and_grad():
    z = torch.from_numpy(unit(9, 16, 3)).bfloat16().requires_grad_()
    np.testing.assert_array_equal(rank_both_ways(z, z).fmri_to_dna, np.ones(9))


@pytest.mark.parametrize("n", [80, 1000])
@pytest.mark.parametrize("block", [None, 17])
@pytest.mark.parametrize("which", ["both", "dna", "fmri", "zero"])
def test_rank_both_ways_of_a_constant_embedding_scores_exactly_chance(n, block, which):
    row = torch.from_numpy(unit(1, 512, 4)).float().expand(n, 512) * (which != "zero")
    other = torch.from_numpy(unit(n, 512, 5)).float()
    ranks = rank_both_ways(other if which == "dna" else row, other if which == "fmri" else row, block=block)
    for direction in ("fmri_to_dna", "dna_to_fmri"):
        for k in (1, 5, 10, n - 1):
            found = recall_at_k(getattr(ranks, direction), k, getattr(ranks, f"ties_{direction}"))
            assert found == pytest.approx(k / n, abs=1e-12)
    assert ranks.num_ties == (n if which in ("dna", "fmri") else 2 * n)


@pytest.mark.parametrize("n", [80, 1000])
def test_rank_both_ways_ties_duplicated_people_in_whichever_block_they_stand(n):
    z_fmri, z_dna = unit(n, 512, 6), unit(n, 512, 7)
    z_dna[n // 2 :] = z_dna[: n // 2]
    scores = z_fmri @ z_dna.T
    scores[:, n // 2 :] = scores[:, : n // 2]
    for block in (1, 3, 64, n):
        ranks = rank_both_ways(z_fmri, z_dna, block=block)
        np.testing.assert_array_equal(ranks.fmri_to_dna, oracle_ranks(scores)[0])
        assert (ranks.ties_fmri_to_dna == 2).all() and (ranks.ties_dna_to_fmri == 1).all() and ranks.num_ties == n


def test_rank_both_ways_is_perfect_one_way_only_when_a_hub_wins_the_other():
    z_fmri = np.eye(3)
    z_dna = np.array([[1, 0, 0], [2, 3, 0], [2, 0, 3.0]])
    ranks = rank_both_ways(z_fmri, z_dna)
    assert ranks.dna_to_fmri.tolist() == [1, 1, 1]
    assert ranks.fmri_to_dna.tolist() == [3, 1, 1]


def test_rank_scores_equals_the_full_ranking_with_its_ties():
    scores = np.random.default_rng(8).integers(0, 4, (30, 30)).astype(float)
    ranks = rank_scores(scores)
    expected = oracle_ranks(scores)
    np.testing.assert_array_equal(ranks.fmri_to_dna, expected[0])
    np.testing.assert_array_equal(ranks.dna_to_fmri, expected[1])
    np.testing.assert_array_equal(ranks.ties_fmri_to_dna, (scores == np.diagonal(scores)[:, None]).sum(1))
    np.testing.assert_array_equal(ranks.ties_dna_to_fmri, (scores == np.diagonal(scores)).sum(0))


@pytest.mark.parametrize("block", [None, 7])
def test_rank_matrix_equals_the_full_ranking_with_its_ties(block):
    z_fmri, z_dna = unit(40, 512, 9), unit(40, 512, 10)
    z_dna[30:] = z_dna[3]
    scores = z_fmri @ z_dna.T
    scores[:, 30:] = scores[:, [3]]
    ranks = rank_matrix(z_fmri, z_dna, block=block)
    np.testing.assert_array_equal(ranks, rankdata(-scores, axis=1))
    np.testing.assert_array_equal(np.diagonal(ranks), rank_both_ways(z_fmri, z_dna).fmri_to_dna)


def test_rank_matrix_of_a_constant_embedding_is_all_one_rank():
    assert (rank_matrix(unit(80, 512, 11), np.broadcast_to(unit(1, 512, 12), (80, 512)), block=9) == 40.5).all()


@pytest.mark.parametrize("shapes", [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((3,), (3,)), ((0, 4), (0, 4))])
@pytest.mark.parametrize("function", [rank_both_ways, rank_matrix])
def test_rank_both_ways_refuses_shapes_that_do_not_pair(function, shapes):
    with pytest.raises(ValueError, match=r"two embeddings of one shape \(people, width\), got"):
        function(np.zeros(shapes[0]), np.zeros(shapes[1]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rank_both_ways_names_the_row_that_is_not_finite(value):
    z = unit(5, 4, 15)
    z[3, 1] = value
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 5 rows of the second argument, first in row 3"):
        rank_both_ways(unit(5, 4, 16), z)


@pytest.mark.parametrize("scores", [np.zeros((2, 3)), np.array([[0, np.nan], [0, 0]]), np.zeros(4), np.zeros((0, 0))])
def test_rank_scores_refuses_what_is_no_finite_square(scores):
    with pytest.raises(ValueError, match="expected a square of finite numbers, got shape"):
        rank_scores(scores)


def test_rank_pairs_are_the_ranks_both_ways_and_of_all_candidates():
    z_fmri, z_dna = unit(20, 8, 6), unit(20, 8, 7)
    ranked = rank_pairs(z_fmri, z_dna)
    for found, wanted in zip(ranked.own, rank_both_ways(z_fmri, z_dna), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(ranked.fmri_to_dna_NN, rank_matrix(z_fmri, z_dna))
    np.testing.assert_array_equal(ranked.dna_to_fmri_NN, rank_matrix(z_dna, z_fmri))

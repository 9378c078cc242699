"""Tests of the retrieval room: both directions against scipy's ranks, ties that rounding must not break."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from brainmt_align.evaluation.metrics import recall_at_k
from brainmt_align.evaluation.retrieval import rank_both_ways, rank_matrix, rank_scores, retrieval_metrics


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


def test_retrieval_metrics_has_the_names_of_the_contract_and_survives_json():
    z = unit(20, 8, 13)
    metrics = retrieval_metrics(z, z, (1, 5, 20), oracle_scores=np.eye(20), permutations=99)
    assert json.loads(json.dumps(metrics)) == metrics
    for direction in ("fmri_to_dna", "dna_to_fmri"):
        found = metrics[direction]
        assert found["recall@1"] == found["oracle_recall@1"] == found["median_rank"] == found["oracle_median_rank"] == 1.0
        assert (found["chance_recall@1"], found["chance_recall@5"], found["chance_median_rank"]) == (0.05, 0.25, 10.5)
        assert found["recall@20"] is found["chance_recall@20"] is found["oracle_recall@20"] is None
        assert (found["p_value"], found["permutations"], found["ties"], found["n"]) == (0.01, 99, 0, 20)


def test_retrieval_metrics_of_a_constant_embedding_is_chance_with_p_one():
    z = torch.ones(80, 512) / 512**0.5
    for found in retrieval_metrics(z, z, permutations=200).values():
        assert found["recall@5"] == found["chance_recall@5"] and found["median_rank"] == found["chance_median_rank"]
        assert found["p_value"] == 1.0 and found["ties"] == 80 and "oracle_recall@5" not in found


def test_retrieval_metrics_permutes_families_as_blocks():
    z = unit(6, 8, 14)
    assert retrieval_metrics(z, z, groups=list("aabbcc"))["fmri_to_dna"]["p_value"] == 1 / 6
    assert retrieval_metrics(z, z, strata=list("aaabbb"))["fmri_to_dna"]["permutations"] == 36


@pytest.mark.parametrize("groups, p_value, least, number", [("aabbcc", 1 / 6, 1 / 6, 6), ("abbccc", None, 1.0, 1)])
def test_retrieval_metrics_records_what_its_p_rests_on(groups, p_value, least, number):
    z = unit(6, 8, 14)
    for found in json.loads(json.dumps(retrieval_metrics(z, z, groups=list(groups)))).values():
        recorded = [found[key] for key in ("p_value", "min_p_value", "permutations", "exact")]
        assert recorded == [p_value, least, number, True]
    assert not retrieval_metrics(z, z, permutations=99)["fmri_to_dna"]["exact"]


@pytest.mark.parametrize("shapes", [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((3,), (3,)), ((0, 4), (0, 4))])
@pytest.mark.parametrize("function", [rank_both_ways, rank_matrix, retrieval_metrics])
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


def test_retrieval_metrics_refuses_oracle_scores_of_other_people():
    with pytest.raises(ValueError, match="oracle scores of 5 people, got 4"):
        retrieval_metrics(unit(5, 4, 17), unit(5, 4, 18), oracle_scores=np.eye(4))

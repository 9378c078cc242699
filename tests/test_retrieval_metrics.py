"""Tests of the retrieval figures: their names, their chance levels, and what their p rests on."""

import json

import numpy as np
import pytest
import torch

from brainmt_align.evaluation.bootstrap import family_weights
from brainmt_align.evaluation.ranks import rank_pairs
from brainmt_align.evaluation.retrieval_metrics import leads, rank_figures, resampled, retrieval_metrics


def unit(n, width, seed):
    z = np.random.default_rng(seed).standard_normal((n, width))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


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


@pytest.mark.parametrize("groups, p_value, least, number", [("aabbcc", 1 / 6, 1 / 6, 6), ("abbccc", None, 1.0, 1)])
def test_retrieval_metrics_records_what_its_p_rests_on(groups, p_value, least, number):
    z = unit(6, 8, 14)
    for found in json.loads(json.dumps(retrieval_metrics(z, z, groups=list(groups)))).values():
        recorded = [found[key] for key in ("p_value", "min_p_value", "permutations", "exact")]
        assert recorded == [p_value, least, number, True]
    assert not retrieval_metrics(z, z, permutations=99)["fmri_to_dna"]["exact"]


def test_retrieval_metrics_is_the_same_with_ranks_that_the_caller_has_already():
    pair = unit(30, 8, 15), unit(30, 8, 16)
    assert retrieval_metrics(*pair, permutations=99, ranked=rank_pairs(*pair)) == retrieval_metrics(*pair, permutations=99)


def test_retrieval_metrics_refuses_oracle_scores_of_other_people():
    with pytest.raises(ValueError, match="oracle scores of 5 people, got 4"):
        retrieval_metrics(unit(5, 4, 17), unit(5, 4, 18), oracle_scores=np.eye(4))


def test_retrieval_metrics_refuses_embeddings_that_do_not_pair():
    with pytest.raises(ValueError, match=r"two embeddings of one shape \(people, width\), got"):
        retrieval_metrics(unit(3, 4, 19), unit(2, 4, 20))


def test_rank_figures_of_blind_ranks_are_chance_in_pools_of_several_sizes():
    sizes = np.repeat([3, 8, 20], 20_000)
    ranks = np.random.default_rng(0).integers(1, sizes + 1).astype(float)
    found = rank_figures(ranks, np.ones(len(ranks)), sizes, (1, 5, 20))
    for name in ("recall@1", "recall@5", "mrr"):
        assert found[name] == pytest.approx(found[f"chance_{name}"], abs=0.01)
    assert found["median_rank"] == found["chance_median_rank"] and found["recall@20"] is found["chance_recall@20"] is None


@pytest.mark.parametrize("n", [1, 2, 7, 80])
def test_rank_figures_chance_median_is_the_middle_of_one_pool(n):
    assert rank_figures(np.ones(3), np.ones(3), n)["chance_median_rank"] == (n + 1) / 2


def test_resampled_is_the_figure_of_the_rows_drawn():
    rng = np.random.default_rng(1)
    values, weights = rng.integers(1, 9, 25).astype(float), rng.integers(0, 4, (50, 25))
    drawn = [np.repeat(values, row) for row in weights]
    assert resampled("median_rank", values, weights) == pytest.approx([np.median(each) for each in drawn])
    assert resampled("mrr", values, weights) == pytest.approx([np.mean(each) for each in drawn])


def test_retrieval_metrics_intervals_hold_the_figure_and_draw_families_whole():
    z_fmri, z_dna = unit(60, 8, 1), unit(60, 8, 1) + 0.6 * unit(60, 8, 2)
    found = retrieval_metrics(z_fmri, z_dna, permutations=9, resamples=400)["fmri_to_dna"]
    assert list(found["intervals"]) == ["recall@1", "recall@5", "recall@10", "mrr", "median_rank", "mean_log_rank"]
    for name in ("recall@5", "mrr", "median_rank"):
        low, high = found["intervals"][name]
        assert low <= found[name] <= high
    one = retrieval_metrics(z_fmri, z_dna, permutations=9, resamples=50, groups=[0] * 60)["fmri_to_dna"]
    assert one["intervals"]["mrr"] == pytest.approx([one["mrr"]] * 2)


def test_leads_are_zero_against_oneself_and_positive_against_the_worse():
    weights = family_weights(range(40), 200, 0)
    good, bad = (np.ones(40), np.ones(40)), (np.full(40, 20.0), np.ones(40))
    assert all(lead == [0, 0, 0] for lead in leads(good, good, 40, (1,), weights).values())
    ahead = leads(good, bad, 40, (1, 40), weights)
    assert ahead["recall@1"] == [1, 1, 1] and ahead["recall@40"] is None
    assert ahead["mean_log_rank"] == pytest.approx([np.log(20)] * 3)
    assert leads(bad, good, 40, (1,), weights)["mrr"][0] == pytest.approx(-0.95)

"""Tests of the window ranks' room: figures with several rows a person against a naive oracle and against chance."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from brainmt_align.evaluation.retrieval import EmbeddingIndex
from brainmt_align.evaluation.window_ranks import rank_windows, window_metrics
from tests.embedded_people import partners, people, unit, windows


def oracle_figures(query, candidate, person_Q, person_C, k):
    hits, reciprocal, ranks, precision = [], [], [], []
    for row, person in zip(query.astype(float), person_Q, strict=True):
        own = person_C == person
        if own.any():
            scores = candidate.astype(float) @ row
            order = np.argsort(-scores)
            first = int(np.flatnonzero(own[order])[0]) + 1
            hits.append(first <= k)
            reciprocal.append(1 / first)
            ranks.append(first)
            precision.append(average_precision_score(own, scores))
    return {
        "n": len(ranks),
        f"recall@{k}": np.mean(hits),
        "mrr": np.mean(reciprocal),
        "median_rank": np.median(ranks),
        "map": np.mean(precision),
    }


@pytest.mark.parametrize("block", [None, 1, 7])
def test_metrics_of_several_windows_equal_a_naive_oracle(block):
    index = windows()
    figures = index.metrics((1, 5), block)
    sides = (index.fmri, index.fmri_person), (index.dna, index.dna_person)
    for direction, (query, owner), (candidate, owner_C) in (
        ("fmri_to_dna", *sides),
        ("dna_to_fmri", *sides[::-1]),
    ):
        for k in (1, 5):
            expected = oracle_figures(query, candidate, owner, owner_C, k)
            assert {key: figures[direction][key] for key in expected} == pytest.approx(expected)
        assert figures[direction]["candidates"] == len(candidate) and figures[direction]["ties"] == 0


def test_metrics_of_one_row_a_person_equal_those_of_windows_and_of_the_oracle():
    fmri, dna = partners(70, noise=2)
    index, shuffled = EmbeddingIndex(fmri, dna, people(70)), np.random.default_rng(3).permutation(70)
    windowed = EmbeddingIndex(fmri[shuffled], dna, people(70), fmri_person=shuffled, dna_person=np.arange(70))
    for direction, figures in index.metrics().items():
        assert windowed.metrics()[direction] == pytest.approx(figures)
        assert figures["map"] == pytest.approx(figures["mrr"])
    expected = oracle_figures(fmri, dna, np.arange(70), np.arange(70), 5)
    assert {key: index.metrics()["fmri_to_dna"][key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, 3])
def test_metrics_are_chance_when_all_embeddings_are_equal(rows):
    owner = np.repeat(np.arange(20), rows)
    same = np.repeat(unit(1, 0), len(owner), axis=0)
    with pytest.warns(UserWarning, match="20 of 20 people share 1 vector"):
        index = EmbeddingIndex(same, same, people(20), fmri_person=owner, dna_person=owner)
    for figures in index.metrics().values():
        for key in ("recall@1", "recall@5", "mrr", "map"):
            assert figures[key] == pytest.approx(figures[f"chance_{key}"])
        assert figures["ties"] == len(owner)


def test_metrics_chance_levels_are_those_of_random_windows():
    owner = np.repeat(np.arange(6), 3)
    draws = [window_metrics(rank_windows(unit(18, seed), unit(18, seed + 150), owner, owner), 18, (1, 5)) for seed in range(150)]
    for key in ("recall@1", "recall@5", "mrr", "map"):
        assert np.mean([each[key] for each in draws]) == pytest.approx(draws[0][f"chance_{key}"], abs=0.02)
    assert abs(np.mean([each["median_rank"] for each in draws]) - draws[0]["chance_median_rank"]) < 0.6


@pytest.mark.parametrize(("persons", "half"), [([0, 0, 0], 1), ([0, 0, 1, 2], 2), ([0, 0, 1, 1, 2, 2, 3, 3], 3)])
def test_window_metrics_chance_median_is_where_half_of_the_queries_find_a_row_of_theirs(persons, half):
    owner, z = np.array(persons), unit(len(persons), 0)
    figures = window_metrics(rank_windows(z, z, owner, owner), len(owner), (half - 1 or 1, half))
    assert figures["chance_median_rank"] == half
    if len(owner) > 3:
        assert figures[f"chance_recall@{half - 1}"] < 0.5 <= figures[f"chance_recall@{half}"]


def test_window_metrics_chance_levels_are_the_plain_ones_when_everybody_has_one_row():
    z = unit(80, 0)
    figures = window_metrics(rank_windows(z, z, np.arange(80), np.arange(80)), 80, (5, 80))
    assert figures["chance_recall@5"] == 5 / 80 and figures["recall@80"] is figures["chance_recall@80"] is None
    assert figures["chance_median_rank"] == 40.5 and figures["recall@5"] == figures["mrr"] == figures["map"] == 1


def test_rank_windows_leaves_out_queries_without_a_partner_and_keeps_the_order_of_the_others():
    candidates = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    found = rank_windows(candidates[[2, 0, 1]], candidates, [4, 8, 6], [6, 4, 4])
    np.testing.assert_array_equal(found.ranks, [1, 3])
    np.testing.assert_array_equal(found.num_positives, [2, 1])
    np.testing.assert_allclose(found.average_precision, [1, 1 / 3])


def test_rank_windows_refuses_people_without_partners():
    with pytest.raises(ValueError, match="expected people with rows on both sides, got none among 3 queries and 2 candidates"):
        rank_windows(unit(3, 0), unit(2, 1), [0, 1, 2], [3, 4])

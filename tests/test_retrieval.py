"""Tests of the retrieval room: queries against naive oracles, FAISS against exact search, what cannot be asked."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata

from brainmt_align.evaluation import nearest
from brainmt_align.evaluation.retrieval import EmbeddingIndex, rank_both_ways
from tests.embedded_people import WIDTH, modest, partners, people, unit, windows


def oracle_people(index, query, side):
    """Best score of every person with a row on the side, as a dict."""
    rows, owner = (index.dna, index.dna_person) if side == "dna" else (index.fmri, index.fmri_person)
    scores = (query.astype(float) @ rows.astype(float).T).max(axis=0)
    return {person: scores[owner == person].max() for person in np.unique(owner)}


@pytest.mark.parametrize("direction", ["fmri_to_dna", "dna_to_fmri"])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_query_people_equals_the_full_ranking(direction, k):
    index = EmbeddingIndex(*partners(60), people(60))
    table = index.query_people(["0003", "0059"], direction, k)
    query, candidate = (index.fmri, index.dna) if direction == "fmri_to_dna" else (index.dna, index.fmri)
    for person in (3, 59):
        scores = query[person].astype(float) @ candidate.astype(float).T
        best = np.argsort(-scores)[:k]
        lines = table[table["query"] == f"{person:04}"]
        assert list(lines["subject_id"]) == [f"{each:04}" for each in best]
        np.testing.assert_array_equal(lines["rank"], np.arange(1, len(best) + 1))
        np.testing.assert_allclose(lines["score"], scores[best], atol=1e-14)
        assert list(lines["is_own"]) == list(best == person)
    assert list(table.columns) == ["query", "rank", "subject_id", "score", "is_own"]


def test_query_people_is_the_same_however_rows_are_cut_into_blocks(monkeypatch):
    index = windows()
    ids = index.people["subject_id"].iloc[np.unique(index.fmri_person)]
    expected = index.query_people(ids, k=5)
    monkeypatch.setattr(nearest, "QUERY_NUMBERS", 200)
    monkeypatch.setattr(nearest, "CANDIDATE_NUMBERS", 7 * WIDTH)
    pd.testing.assert_frame_equal(index.query_people(ids, k=5), expected)


def test_query_people_ranks_agree_with_rank_both_ways():
    fmri, dna = partners(50, noise=1.5)
    table = EmbeddingIndex(fmri, dna, people(50)).query_people([f"{each:04}" for each in range(50)], k=50)
    np.testing.assert_array_equal(table.loc[table["is_own"], "rank"], rank_both_ways(fmri, dna).fmri_to_dna)


def test_query_people_scores_a_person_by_the_best_pair_of_rows():
    index = windows()
    for direction, asking, side in (("fmri_to_dna", index.fmri_person, "dna"), ("dna_to_fmri", index.dna_person, "fmri")):
        for person in np.unique(asking):
            query = (index.fmri if side == "dna" else index.dna)[asking == person]
            expected = oracle_people(index, query, side)
            table = index.query_people(f"{person:04}", direction, k=100)
            assert set(table["subject_id"]) == {f"{each:04}" for each in expected}
            np.testing.assert_allclose(table["score"], [expected[int(each)] for each in table["subject_id"]], atol=1e-14)
            np.testing.assert_array_equal(table["rank"], rankdata(-table["score"]))


def test_query_people_gives_tied_people_their_average_rank_also_beyond_k():
    dna = unit(10, 0)
    dna[2:8] = dna[2]
    with pytest.warns(UserWarning, match="6 of 10 people share 1 vector of dna with somebody else"):
        index = EmbeddingIndex(unit(10, 5), dna, people(10))
    table = index.query_vectors(dna[2], "dna", k=3)
    np.testing.assert_array_equal(table["rank"], [3.5, 3.5, 3.5])
    assert len(index.query_vectors(dna[2], k=7)) == 7 and index.query_vectors(dna[2], k=7)["rank"].iloc[-1] == 7


def test_query_vectors_divides_by_the_norm_and_names_the_queries():
    index = EmbeddingIndex(*partners(30), people(30, age=np.arange(30.0), score=1))
    table = index.query_vectors(torch.from_numpy(5 * index.dna[[4, 9]]), "dna", k=2, names=["gene A", "gene B"])
    assert list(table["query"]) == ["gene A", "gene A", "gene B", "gene B"]
    assert list(table["subject_id"][::2]) == ["0004", "0009"] and list(table["age"][::2]) == [4, 9]
    np.testing.assert_allclose(table["score"][::2], 1, atol=1e-6)
    assert list(table.columns) == ["query", "rank", "subject_id", "score", "age", "people.score"]
    assert list(index.query_vectors(index.dna[7], "fmri", k=1)["query"]) == [0]


@pytest.mark.parametrize("search", ["exact", "flat"])
def test_query_people_searches_only_whom_the_filter_lets_through(search):
    table = people(40, sex=["F", "M"] * 20, age=np.arange(40.0), site=list("abcd") * 10)
    index = EmbeddingIndex(*partners(40), table, search=search)
    found = index.query_people(["0007"], k=40, where={"sex": "F", "age": (10, 30), "site": ["a", "b"]})
    assert sorted(found["subject_id"]) == [f"{each:04}" for each in range(12, 31, 4)]
    np.testing.assert_array_equal(found["rank"], np.arange(1, 6))
    assert not found["is_own"].any()


@pytest.mark.parametrize("search", ["flat", "ivf", "hnsw"])
def test_search_by_faiss_finds_what_exact_search_finds(search):
    pair = partners(800)
    exact, faiss = (EmbeddingIndex(*pair, people(800), search=each, nprobe=20) for each in ("exact", search))
    ids = [f"{each:04}" for each in range(0, 800, 40)]
    for direction in ("fmri_to_dna", "dna_to_fmri"):
        found = faiss.query_people(ids, direction, 5).rename(columns={"rank_among_proposed": "rank"})
        pd.testing.assert_frame_equal(found, exact.query_people(ids, direction, 5))


@pytest.mark.parametrize("search", ["exact", "flat", "ivf", "hnsw"])
def test_query_people_names_ranks_for_what_they_are_among(search):
    index = EmbeddingIndex(*partners(100), people(100, sex=["F", "M"] * 50, rank_among_proposed=1), search=search)
    name = "rank_among_proposed" if search in ("ivf", "hnsw") else "rank"
    assert list(index.query_people("0001", k=2).columns[:3]) == ["query", name, "subject_id"]
    assert index.query_vectors(index.fmri[3], k=2).columns[1] == name
    filtered = index.query_people("0001", k=2, where={"sex": "F"})  # searched exactly
    assert filtered.columns[1] == "rank" and "people.rank_among_proposed" in filtered


def test_search_by_faiss_returns_k_people_when_people_have_several_rows():
    fmri_person, dna_person = np.repeat(np.arange(30), 3), np.arange(30)
    arguments = unit(90, 0), unit(30, 1), people(30)
    flat, exact = (
        EmbeddingIndex(*arguments, fmri_person=fmri_person, dna_person=dna_person, search=each) for each in ("flat", "exact")
    )
    pd.testing.assert_frame_equal(flat.query_people(["0002"], "dna_to_fmri", 8), exact.query_people(["0002"], "dna_to_fmri", 8))


def test_embedding_index_refuses_unknown_searches_and_no_cells():
    with pytest.raises(ValueError, match='expected search exact, flat, ivf, hnsw, got "annoy"'):
        EmbeddingIndex(*partners(5), people(5), search="annoy")
    with pytest.raises(ValueError, match="expected nprobe of 1 or more, got 0"):
        EmbeddingIndex(*partners(5), people(5), search="ivf", nprobe=0)


def test_queries_refuse_what_cannot_be_asked():
    index = EmbeddingIndex(*partners(5), people(5, sex="F"))
    with pytest.raises(ValueError, match=r"1 of 2 that are not: 00011 \(nearest: 0001"):
        index.query_people(["0001", "00011"])
    with pytest.raises(ValueError, match="expected subjects among the 5 embedded, got 0 of 0"):
        index.query_people([])
    with pytest.raises(ValueError, match='expected a direction fmri_to_dna or dna_to_fmri, got "up"'):
        index.query_people("0001", "up")
    with pytest.raises(ValueError, match="expected k of 1 or more, got 0"):
        index.query_people("0001", k=0)
    with pytest.raises(ValueError, match=r"expected k of 1 or more, got 2\.5"):
        index.query_people("0001", k=2.5)
    with pytest.raises(ValueError, match="expected a subject's id as text or a list of them, got 1 of type int"):
        index.query_people(1)
    with pytest.raises(ValueError, match='expected a side fmri or dna, got "brain"'):
        index.query_vectors(unit(1, 0), "brain")
    with pytest.raises(ValueError, match="expected 2 names, one a query, got 1"):
        index.query_vectors(unit(2, 0), names=["a"])


@pytest.mark.parametrize(
    "z",
    [
        unit(1, 0, 8),
        [[1.0] * WIDTH, [1.0]],
        ["brain"],
        np.zeros((2, 2, WIDTH)),
        np.zeros((1, WIDTH)),
        np.full((1, WIDTH), np.nan),
        np.zeros((0, WIDTH)),
    ],
)
def test_query_vectors_refuses_vectors_without_a_direction_in_the_space(z):
    with pytest.raises(ValueError, match="expected finite vectors other than 0 of 16 numbers"):
        EmbeddingIndex(*partners(5), people(5)).query_vectors(z)


def test_embedding_index_serves_and_is_asked_with_bfloat16():
    fmri, dna = (torch.from_numpy(z).bfloat16() for z in modest(20, 512, 0.9))
    index = EmbeddingIndex(fmri, dna, people(20))
    table = index.query_vectors(fmri[3].requires_grad_(), k=1)
    assert table["subject_id"].tolist() == ["0003"]
    pd.testing.assert_frame_equal(table, index.query_vectors(fmri[3].detach().float(), k=1))


def test_queries_and_metrics_say_who_has_no_row():
    index = EmbeddingIndex(unit(2, 0), unit(2, 1), people(4, sex=list("FFMM")), fmri_person=[0, 1], dna_person=[2, 3])
    with pytest.raises(ValueError, match="expected subjects with a row of fmri, got 1 without: 0002"):
        index.query_people(["0000", "0002"])
    with pytest.raises(ValueError, match="leaves somebody with a row of dna, got none"):
        index.query_people(["0000"], where={"sex": "F"})
    with pytest.raises(ValueError, match="expected people with rows on both sides, got none among 2 queries"):
        index.metrics()


def test_run_of_queries_keeps_every_subject_apart_when_asked_twice():
    table = EmbeddingIndex(*partners(5), people(5)).query_people(["0001", "0001"], k=2)
    assert Counter(table["query"]) == {"0001": 4}

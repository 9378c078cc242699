"""Tests of the nearest people's room: exact search in any blocks, and what FAISS may miss."""

import sys

import numpy as np
import pandas as pd
import pytest

from brainmt_align.evaluation import nearest
from brainmt_align.evaluation.nearest import FaissSearch, search_exact
from brainmt_align.evaluation.retrieval import EmbeddingIndex
from tests.embedded_people import modest, partners, people, unit


def test_embedding_index_says_how_to_install_faiss_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "brainmt-align\[retrieval\]"'):
        EmbeddingIndex(*partners(5), people(5), search="flat")


def test_search_by_ivf_misses_people_with_one_cell_and_is_completed_where_it_finds_too_few():
    pair = partners(800)
    exact = EmbeddingIndex(*pair, people(800))
    with pytest.warns(
        UserWarning, match=r'(?s)search="ivf" to propose 0\.95 of the 10 best rows of (dna|fmri).*leave nprobe out'
    ):
        narrow = EmbeddingIndex(*pair, people(800), search="ivf", nprobe=1)
    assert narrow.search_agreement["dna"].setting == 1 and narrow.search_agreement["dna"].recall < 0.95
    ids = [f"{each:04}" for each in range(0, 800, 10)]
    assert narrow.query_people(ids, k=20)["subject_id"].tolist() != exact.query_people(ids, k=20)["subject_id"].tolist()
    completed = narrow.query_people(ids, k=700).rename(columns={"rank_among_proposed": "rank"})
    pd.testing.assert_frame_equal(completed, exact.query_people(ids, k=700))


@pytest.mark.parametrize(("search", "target"), [("ivf", 0.95), ("hnsw", 0.98)])
def test_embedding_index_proposes_what_exact_search_finds_across_modalities_of_modest_cosine(search, target, monkeypatch):
    monkeypatch.setattr(nearest, "HNSW_BREADTH", 20)  # so that few people are enough to lose some
    fmri, dna = modest(1200, width=256, cosine=0.2)
    as_found = FaissSearch(search, dna, fmri, target=0).agreement
    assert as_found.recall < (0.95 if search == "hnsw" else 0.5)  # what would go unnoticed
    index = EmbeddingIndex(fmri, dna, people(1200), search=search, target_agreement=target)
    for side, (asking, candidates) in {"dna": (fmri, dna), "fmri": (dna, fmri)}.items():
        agreement = index.search_agreement[side]
        assert agreement.recall >= target and (agreement.k, agreement.queries) == (10, 100)
        assert as_found.setting < agreement.setting and as_found.share < agreement.share <= 1
        others = asking[500:700]
        best = np.argsort(-others @ candidates.T, axis=1)[:, :10]
        proposed = index._faiss[side].propose(others, 10)
        assert np.mean([np.isin(*pair).mean() for pair in zip(best, proposed, strict=True)]) > target - 0.02


def test_embedding_index_has_no_agreement_to_tell_where_nobody_is_missed():
    assert all(not EmbeddingIndex(*partners(50), people(50), search=each).search_agreement for each in ("exact", "flat"))


def test_faiss_search_counts_any_of_tied_rows_as_found():
    same = np.repeat(unit(1, 0), 800, axis=0)
    assert FaissSearch("hnsw", same, unit(20, 1)).agreement.recall == 1


def test_faiss_search_warns_when_everything_is_searched_in_vain(monkeypatch):
    monkeypatch.setattr(FaissSearch, "propose", lambda self, rows, count: np.full((len(rows), count), -1))
    with pytest.warns(
        UserWarning, match=r'got 0\.00 for 30 queries .* efSearch=500 of 500(?s:.*)search="exact" or "flat", .* nobody\.$'
    ):
        FaissSearch("hnsw", unit(500, 0), unit(30, 1))


def test_search_exact_ranks_whole_groups_of_ties_and_skips_no_person():
    candidates = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.6, 0.8], [0, -1]], np.float32)
    (found,) = search_exact([np.array([[0, 1.0]])], candidates, np.array([7, 7, 3, 9, 5]), 4)
    assert list(found.people) == [7, 3, 9, 5]
    np.testing.assert_array_equal(found.ranks, [1, 2.5, 2.5, 4])
    np.testing.assert_allclose(found.scores, [1, 0.8, 0.8, -1], atol=1e-7)


def test_search_exact_ties_scores_that_differ_by_rounding_alone():
    same = np.repeat(unit(1, 0), 33, axis=0)
    for found in search_exact(list(unit(5, 1)[:, None]), same, np.arange(33), 4):
        np.testing.assert_array_equal(found.ranks, np.full(4, 17))


def test_faiss_search_pads_with_minus_one_what_one_cell_does_not_hold():
    rows = FaissSearch("ivf", unit(800, 0), unit(50, 2), nprobe=1, target=0).propose(unit(3, 1), 700)
    assert rows.shape == (3, 700) and (rows[:, -1] == -1).all() and (rows[:, 0] >= 0).all()


def test_faiss_search_refuses_to_look_into_no_cell():
    with pytest.raises(ValueError, match="expected nprobe of 1 or more, got 0"):
        FaissSearch("ivf", unit(100, 0), unit(5, 1), nprobe=0)


@pytest.mark.parametrize("target", [-0.1, 95, "all"])
def test_faiss_search_refuses_a_target_that_is_no_share(target):
    with pytest.raises(ValueError, match="expected a target agreement of 0 … 1, got"):
        FaissSearch("ivf", unit(100, 0), unit(5, 1), target=target)

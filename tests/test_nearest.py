"""Tests of the nearest people's room: exact search in any blocks, and what FAISS may miss."""

import sys

import numpy as np
import pandas as pd
import pytest

from brainmt_align.evaluation.nearest import FaissSearch, search_exact
from brainmt_align.evaluation.retrieval import EmbeddingIndex
from tests.embedded_people import partners, people, unit


def test_embedding_index_says_how_to_install_faiss_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "brainmt-align\[retrieval\]"'):
        EmbeddingIndex(*partners(5), people(5), search="flat")


def test_search_by_ivf_misses_people_with_one_cell_and_is_completed_where_it_finds_too_few():
    pair = partners(800)
    exact, narrow = (EmbeddingIndex(*pair, people(800), search=each, nprobe=1) for each in ("exact", "ivf"))
    ids = [f"{each:04}" for each in range(0, 800, 10)]
    assert not narrow.query_people(ids, k=20).equals(exact.query_people(ids, k=20))
    pd.testing.assert_frame_equal(narrow.query_people(ids, k=700), exact.query_people(ids, k=700))


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
    rows = FaissSearch("ivf", unit(800, 0), nprobe=1).propose(unit(3, 1), 700)
    assert rows.shape == (3, 700) and (rows[:, -1] == -1).all() and (rows[:, 0] >= 0).all()


def test_faiss_search_refuses_to_look_into_no_cell():
    with pytest.raises(ValueError, match="expected nprobe of 1 or more, got 0"):
        FaissSearch("ivf", unit(100, 0), nprobe=0)

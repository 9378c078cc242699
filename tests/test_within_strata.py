"""Tests of retrieval within strata: ranks as if each stratum were alone, and a share that strata at random leave at 1."""

import numpy as np
import pytest

from brainmt_align.evaluation.ranks import rank_both_ways
from brainmt_align.evaluation.within_strata import pair_within, rank_within, surviving_share


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def pair(n, strength, seed, offsets=None):
    rng = np.random.default_rng(seed)
    shared = strength * rng.standard_normal((n, 16)) + (0 if offsets is None else offsets)
    return unit(rng.standard_normal((n, 16)) + shared), unit(rng.standard_normal((n, 16)) + shared)


def share_of(z_fmri, z_dna, labels):
    within = rank_within(z_fmri, z_dna, labels)
    ranks = rank_both_ways(z_fmri, z_dna)
    test = pair_within(within, list(range(len(z_fmri))), 200, 0)
    overall = [ranks.fmri_to_dna[within.rows_S], ranks.dna_to_fmri[within.rows_S]]
    return test, surviving_share(test.statistic, overall, within.sizes_S, len(z_fmri))


def test_rank_within_ranks_each_stratum_as_if_it_were_alone():
    z_fmri, z_dna = pair(30, 1, 0)
    labels = np.array(["a", "b", None] * 10, dtype=object)
    within = rank_within(z_fmri, z_dna, labels)
    assert len(within.rows_S) == 20 and set(within.sizes_S) == {10}
    rows = np.flatnonzero(labels == "b")
    alone = rank_both_ways(z_fmri[rows], z_dna[rows])
    places = np.flatnonzero(np.array(within.labels_S) == "b")
    assert (within.rows_S[places] == rows).all()
    for direction in ("fmri_to_dna", "dna_to_fmri"):
        assert (within.ranks[direction][0][places] == getattr(alone, direction)).all()
        own = np.diagonal(getattr(within, f"log_{direction}_SS"))[places]
        assert own == pytest.approx(np.log(getattr(alone, direction)), rel=1e-6)
    assert (within.log_fmri_to_dna_SS[np.ix_(places, np.flatnonzero(np.array(within.labels_S) == "a"))] == 0).all()


@pytest.mark.parametrize("strength", [0.4, 0.8, 3.0])
def test_surviving_share_is_one_when_strata_are_dealt_at_random_whatever_the_effect(strength):
    shares = [share_of(*pair(200, strength, seed), list(np.arange(200) % 10))[1] for seed in range(5)]
    assert np.mean(shares) == pytest.approx(1, abs=0.08)


def test_surviving_share_is_zero_when_the_stratum_is_all_that_is_shared():
    strata = np.arange(200) % 2
    offsets = 1.5 * np.random.default_rng(9).standard_normal((2, 16))[strata]
    found = [share_of(*pair(200, 0, seed, offsets), strata.tolist()) for seed in range(10)]
    assert np.mean([share for _, share in found]) == pytest.approx(0, abs=0.1)
    assert np.mean([test.p_value <= 0.05 for test, _ in found]) <= 0.3


def test_surviving_share_is_none_when_no_effect_is_expected():
    assert surviving_share(1.0, [np.full(20, 20.0)], np.full(20, 5), 20) is None

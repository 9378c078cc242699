"""Tests of the permutation room: uniform under the null, small when pairs fit, blocks kept whole."""

import itertools

import numpy as np
import pytest
from scipy.stats import kstest, rankdata

from brainmt_align.evaluation.permutation import draw_repairings, exchangeable_blocks, pairing_test, permutation_p_value


def ranks_of(scores):
    return rankdata(-scores, axis=1)


def perfect(n):
    return ranks_of(np.eye(n) + 0.01 * np.random.default_rng(0).random((n, n)))


def test_permutation_p_value_is_uniform_under_the_null_when_drawn():
    generator = np.random.default_rng(1)
    p = [
        permutation_p_value(ranks_of(generator.standard_normal((12, 12))), permutations=199, seed=seed).p_value
        for seed in range(200)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_permutation_p_value_is_uniform_under_the_null_of_families_and_not_when_they_are_torn():
    generator = np.random.default_rng(2)
    torn, whole = [], []
    groups = np.repeat(np.arange(8), 5)
    for seed in range(150):
        # Families resemble each other in both modalities, and family f's scans fit family f's genomes only by chance.
        families = np.repeat(np.repeat(generator.standard_normal((8, 8)), 5, axis=0), 5, axis=1)
        scores = families + 0.1 * generator.standard_normal((40, 40))
        whole.append(permutation_p_value(ranks_of(scores), groups=groups, permutations=199, seed=seed).p_value)
        torn.append(permutation_p_value(ranks_of(scores), permutations=199, seed=seed).p_value)
    assert kstest(whole, "uniform").pvalue > 0.01
    assert np.mean(np.array(torn) <= 0.05) > 0.12


def test_permutation_p_value_stays_uniform_when_strata_explain_all():
    generator = np.random.default_rng(3)
    strata = np.repeat([0, 1], 10)
    same = strata[:, None] == strata
    p, blind = [], []
    for seed in range(100):
        ranks = ranks_of(3 * same + generator.standard_normal((20, 20)))
        p.append(permutation_p_value(ranks, strata=strata, permutations=199, seed=seed).p_value)
        blind.append(permutation_p_value(ranks, permutations=199, seed=seed).p_value)
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.median(blind) < 0.05


def test_permutation_p_value_is_the_smallest_possible_when_pairs_fit_perfectly():
    test = permutation_p_value(perfect(80), permutations=10_000)
    assert (
        test.p_value == test.min_p_value == 1 / 10_001
        and test.statistic == 1.0
        and test.permutations == 10_000
        and not test.exact
    )


def test_permutation_p_value_is_one_when_everything_ties():
    assert permutation_p_value(np.full((40, 40), 20.5), permutations=500).p_value == 1.0


def test_permutation_p_value_lists_every_pairing_when_there_are_few():
    ranks = ranks_of(np.random.default_rng(4).standard_normal((5, 5)))
    logs = np.log(ranks)
    sums = [sum(logs[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(5))]
    test = permutation_p_value(ranks)
    assert test.exact and test.permutations == 120
    assert test.p_value == np.mean(np.array(sums) <= np.trace(logs) + 1e-9)
    assert test.statistic == pytest.approx(np.exp(np.trace(logs) / 5))


def test_permutation_p_value_drawn_agrees_with_listed():
    scores = np.random.default_rng(5).standard_normal((6, 6)) + 0.7 * np.eye(6)
    exact = permutation_p_value(ranks_of(scores))
    drawn = permutation_p_value(ranks_of(scores), permutations=719)
    assert exact.exact and not drawn.exact
    assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * np.sqrt(0.25 / 719))


def test_permutation_p_value_depends_on_the_seed_only():
    ranks = ranks_of(np.random.default_rng(6).standard_normal((20, 20)))
    p = [permutation_p_value(ranks, permutations=300, seed=seed).p_value for seed in (1, 1, 2)]
    assert p[0] == p[1] != p[2]


def test_permutation_p_value_lists_whole_families_only():
    # Three families of two: 3! re-pairings, of which only the true one is perfect.
    test = permutation_p_value(perfect(6), groups=list("aabbcc"))
    assert test.permutations == 6 and test.p_value == test.min_p_value == 1 / 6


@pytest.mark.parametrize("labels", [{"groups": list("abbccc")}, {"strata": list("abcdef")}])
def test_permutation_p_value_is_none_when_the_true_pairing_is_the_only_admissible_one(labels):
    for ranks in (perfect(6), np.full((6, 6), 3.5)):
        test = permutation_p_value(ranks, **labels)
        assert test.p_value is None and test.min_p_value == 1.0 and test.permutations == 1 and test.exact


def test_permutation_p_value_of_two_people_cannot_be_below_a_half():
    assert permutation_p_value(perfect(2)).min_p_value == permutation_p_value(perfect(2)).p_value == 0.5


def test_exchangeable_blocks_swap_only_equal_sizes():
    classes = exchangeable_blocks(6, groups=list("abacbd"))
    assert [blocks.tolist() for blocks in classes] == [[[0, 2], [1, 4]], [[3], [5]]]


def test_exchangeable_blocks_pair_members_of_one_stratum():
    classes = exchangeable_blocks(6, groups=list("aabbcc"), strata=list("fmmfff"))
    assert [blocks.tolist() for blocks in classes] == [[[0, 1], [3, 2]], [[4, 5]]]


def test_draw_repairings_deals_blocks_whole_within_their_class_in_batches_of_bounded_size(monkeypatch):
    monkeypatch.setattr("brainmt_align.evaluation.permutation.BATCH_NUMBERS", 24)
    groups, strata = list("aabbccde"), list("xyxyxxxx")
    batches = list(draw_repairings(8, exchangeable_blocks(8, groups, strata), 400, seed=2))
    assert {len(batch) for batch in batches[:-1]} == {3} and sum(map(len, batches)) == 400
    seen = {tuple(draw) for draw in np.concatenate(batches)}
    assert seen == {(*ab, 4, 5, *de) for ab in [(0, 1, 2, 3), (2, 3, 0, 1)] for de in [(6, 7), (7, 6)]}


def test_exchangeable_blocks_keep_people_in_their_stratum():
    assert [blocks.ravel().tolist() for blocks in exchangeable_blocks(5, strata=list("xyxyx"))] == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize("ranks", [np.ones((2, 3)), np.ones(3), np.zeros((2, 2)), np.full((2, 2), np.nan), np.ones((0, 0))])
def test_permutation_p_value_refuses_what_is_no_rank_matrix(ranks):
    with pytest.raises(ValueError, match="expected a square of ranks of 1 or more"):
        permutation_p_value(ranks)


@pytest.mark.parametrize("name", ["groups", "strata"])
def test_permutation_p_value_refuses_labels_of_another_length(name):
    with pytest.raises(ValueError, match=f"one label of {name} for each of 4 people, got 3"):
        permutation_p_value(perfect(4), **{name: [1, 2, 3]})


@pytest.mark.parametrize("blank", [None, np.nan, ("f", None)])
def test_permutation_p_value_refuses_blank_labels(blank):
    with pytest.raises(ValueError, match="got none for 2 people, first in row 1"):
        permutation_p_value(perfect(4), groups=["a", blank, blank, "b"])


def test_permutation_p_value_refuses_to_draw_nothing():
    with pytest.raises(ValueError, match="expected 1 permutation or more, got 0"):
        permutation_p_value(perfect(4), permutations=0)


def test_pairing_test_of_log_ranks_is_the_p_of_the_ranks_and_returns_its_null():
    ranks = ranks_of(np.random.default_rng(7).standard_normal((20, 20)) + np.eye(20))
    found = pairing_test(np.log(ranks), permutations=300, seed=3)
    known = permutation_p_value(ranks, permutations=300, seed=3)
    assert (found.p_value, found.min_p_value, found.permutations) == (known.p_value, known.min_p_value, 300)
    assert np.exp(found.statistic) == pytest.approx(known.statistic)
    assert found.null_R.shape == (300,) and found.effect_nats == pytest.approx(found.null_R.mean() - found.statistic)
    assert found.p_value == (1 + (found.null_R <= found.statistic + 1e-12).sum()) / 301


def test_pairing_test_gains_power_from_both_directions():
    scores = np.random.default_rng(8).standard_normal((2, 30, 30)) + 1.0 * np.eye(30)
    logs = [np.log(ranks_of(each)) for each in scores]
    effects = [pairing_test(each, permutations=200) for each in (*logs, (logs[0] + logs[1].T) / 2)]
    assert effects[2].effect_nats == pytest.approx((effects[0].effect_nats + effects[1].effect_nats) / 2, abs=0.02)
    spreads = [(test.effect_nats / test.null_R.std()) for test in effects]
    assert spreads[2] > max(spreads[:2])


@pytest.mark.parametrize("logs", [np.ones((2, 3)), -np.ones((2, 2)), np.full((2, 2), np.nan), np.ones((0, 0))])
def test_pairing_test_refuses_what_is_no_square_of_log_ranks(logs):
    with pytest.raises(ValueError, match="expected a square of log ranks of 0 or more"):
        pairing_test(logs)


def test_pairing_test_refuses_labels_of_another_length():
    with pytest.raises(ValueError, match="one label of groups for each of 3 people, got 1"):
        pairing_test(np.zeros((3, 3)), groups=["a"])

"""Tests of the room `similarity`: CKA of known cases, a naive double loop, permutation under families; each refusal."""

import numpy as np
import pytest
from scipy.stats import binom

from brainmt_align.evaluation.exchangeability import draw_pairings
from brainmt_align.evaluation.similarity import linear_cka


def sides(n=30, p=40, q=50, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, p)), generator.standard_normal((n, q))


def naive_hsic(one, other, unbiased):
    """Unbiased: the mean over all ordered sets of four people, summed in closed loops; biased: centred kernels."""
    n = len(one)
    k, l = one @ one.T, other @ other.T  # noqa: E741
    if not unbiased:
        centre = np.eye(n) - 1 / n
        return np.trace(k @ centre @ l @ centre) / (n - 1) ** 2
    pairs = triples = quads = 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            pairs += k[i, j] * l[i, j]
            for a in range(n):
                if a in (i, j):
                    continue
                triples += k[i, j] * l[i, a]
                quads += k[i, j] * sum(l[a, b] for b in range(n) if b not in (i, j, a))
    return pairs / (n * (n - 1)) - 2 * triples / (n * (n - 1) * (n - 2)) + quads / (n * (n - 1) * (n - 2) * (n - 3))


@pytest.mark.parametrize("unbiased", [True, False])
def test_linear_cka_equals_a_naive_loop_over_people(unbiased):
    one, other = sides(9, 3, 4)
    other[:, 0] += one[:, 0]
    expected = naive_hsic(one, other, unbiased)
    expected /= np.sqrt(naive_hsic(one, one, unbiased) * naive_hsic(other, other, unbiased))
    assert linear_cka(one, other, unbiased=unbiased).cka == pytest.approx(expected)


@pytest.mark.parametrize("unbiased", [True, False])
def test_linear_cka_is_one_with_itself_turned_moved_and_scaled(unbiased):
    one, other = sides()
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 40)))
    assert linear_cka(one, 3 * one @ turn + 7, unbiased=unbiased).cka == pytest.approx(1)
    assert linear_cka(one @ turn, other - 2, unbiased=unbiased).cka == pytest.approx(
        linear_cka(one, other, unbiased=unbiased).cka
    )


def test_linear_cka_of_independent_sides_is_about_zero_and_the_biased_one_far_above():
    unbiased = [linear_cka(*sides(seed=seed)).cka for seed in range(200)]
    biased = [linear_cka(*sides(seed=seed), unbiased=False).cka for seed in range(200)]
    assert abs(np.mean(unbiased)) < 3 * np.std(unbiased) / np.sqrt(200) and np.mean(biased) > 0.5


def test_linear_cka_without_nuisance_is_about_zero_when_nuisance_is_all_they_share():
    partial, plain = [], []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        covariates = generator.standard_normal((40, 8))
        one, other = (side + covariates @ generator.standard_normal((8, side.shape[1])) for side in sides(40, seed=seed))
        partial.append(linear_cka(one, other, nuisance_NZ=covariates).cka)
        plain.append(linear_cka(one, other).cka)
    assert abs(np.mean(partial)) < 3 * np.std(partial) / 10 and np.mean(plain) > 0.4


def test_linear_cka_p_value_is_small_when_the_sides_share_something_and_uniform_when_not():
    one, other = sides(60)
    shared = np.random.default_rng(2).standard_normal((60, 1))
    assert linear_cka(one + shared, other + shared, permutations=199).p_value == 1 / 200
    rejected = sum(linear_cka(*sides(seed=seed), permutations=99, seed=seed + 10_000).p_value <= 0.05 for seed in range(200))
    low, high = binom.interval(0.99, 200, 0.05)
    assert low <= rejected <= high


def test_linear_cka_p_value_holds_under_families_and_not_when_they_are_torn():
    groups, whole, torn = np.repeat(np.arange(12), 3), 0, 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        one, other = (
            np.repeat(generator.standard_normal((12, 5)), 3, 0) + 0.3 * generator.standard_normal((36, 5)) for _ in "xy"
        )
        whole += linear_cka(one, other, groups_N=groups, permutations=99, seed=seed + 10_000).p_value <= 0.05
        torn += linear_cka(one, other, permutations=99, seed=seed + 10_000).p_value <= 0.05
    low, high = binom.interval(0.99, 200, 0.05)
    assert low <= whole <= high and torn > 60


@pytest.mark.parametrize("unbiased", [True, False])
def test_linear_cka_p_value_equals_a_naive_loop_that_computes_cka_anew(unbiased):
    one, other = sides(12, 3, 4)
    other[:, 0] += 0.1 * one[:, 0]
    found = linear_cka(one, other, unbiased=unbiased, permutations=100, seed=3)
    draws = np.concatenate(list(draw_pairings(12, None, 100, seed=3)))
    again = [linear_cka(one, other[order], unbiased=unbiased).cka for order in draws]
    assert found.p_value == (1 + sum(value >= found.cka - 1e-12 for value in again)) / 101
    assert 0.01 < found.p_value < 0.9


def test_linear_cka_has_no_p_value_when_none_was_asked_for():
    found = linear_cka(*sides())
    assert found.p_value is None and found.permutations == 0 and found.rows == 30 and found.exact


def test_linear_cka_refuses_fewer_than_no_permutations():
    with pytest.raises(ValueError, match="expected 0 permutations or more, got -1"):
        linear_cka(*sides(), permutations=-1)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_linear_cka_refuses_a_side_in_which_people_do_not_differ(constant, unbiased):
    with pytest.raises(ValueError, match="people who differ on both sides were expected, got a side of 3 features"):
        linear_cka(np.full((10, 3), constant), sides(10)[1], unbiased=unbiased)


def test_linear_cka_refuses_a_side_in_which_all_people_differ_alike():
    with pytest.raises(ValueError, match="people who differ on both sides were expected"):
        linear_cka(np.eye(10), sides(10)[1])

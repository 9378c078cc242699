"""Tests of the room `exchangeability`: nuisance gone, rows uncorrelated, families whole, draws even; each refusal."""

import math
from collections import Counter

import numpy as np
import pytest

from brainmt_align.evaluation.exchangeability import draw_pairings, exchangeable_rows


def residual_former(nuisance_NZ):
    basis, _ = np.linalg.qr(np.column_stack([np.ones(len(nuisance_NZ)), nuisance_NZ]))
    return np.eye(len(nuisance_NZ)) - basis @ basis.T


def nuisance(n=30, columns=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, columns))


def test_exchangeable_rows_are_centred_rows_when_there_is_no_nuisance():
    values = nuisance(9, 3) + 5
    for none in (None, np.empty((9, 0))):
        rows = exchangeable_rows([values], none, list("aabbccdde"))
        assert np.allclose(rows.features[0], values - values.mean(0)) and rows.exact
        assert rows.groups_M == list("aabbccdde")


def test_exchangeable_rows_project_onto_the_whole_residual_space_when_everybody_is_free():
    covariates = nuisance()
    for groups in (None, range(30)):
        rows = exchangeable_rows([np.eye(30)], covariates, groups)
        (projection_MN,) = rows.features
        assert projection_MN.shape == (25, 30) and rows.rank == 5 and rows.exact and rows.groups_M is None
        assert np.allclose(projection_MN @ projection_MN.T, np.eye(25))
        assert np.allclose(projection_MN.T @ projection_MN, residual_former(covariates))


def test_exchangeable_rows_count_dependent_and_constant_nuisance_once():
    covariates = nuisance()
    doubled = np.column_stack([covariates, covariates @ np.ones(4), np.full(30, 7.0), 1e6 * covariates[:, 0]])
    rows = exchangeable_rows([np.eye(30)], doubled)
    assert rows.rank == 5 and np.allclose(rows.features[0].T @ rows.features[0], residual_former(covariates))


def test_exchangeable_rows_are_those_of_theil_when_there_are_families():
    covariates, groups = nuisance(60, 3), np.repeat(np.arange(30), 2)
    rows = exchangeable_rows([np.eye(60)], covariates[:, :2], groups)
    (projection_MN,) = rows.features
    former = residual_former(covariates[:, :2])
    kept = [row for row in range(60) if groups[row] in set(rows.groups_M)]
    values, vectors = np.linalg.eigh(former[np.ix_(kept, kept)])
    assert np.allclose(projection_MN, (vectors / np.sqrt(values)) @ vectors.T @ former[kept])  # the formula, every matrix formed
    assert np.allclose(projection_MN @ projection_MN.T, np.eye(len(kept)))
    assert np.allclose(projection_MN @ np.column_stack([np.ones(60), covariates[:, :2]]), 0)
    assert not rows.exact and rows.rank == 3 and set(Counter(rows.groups_M).values()) == {2} and len(kept) >= 54
    assert (projection_MN[:, kept].argmax(1) == np.arange(len(kept))).all()  # row m stands for its own person


def test_draw_pairings_move_families_whole_and_each_re_pairing_as_often():
    draws = np.concatenate(list(draw_pairings(6, list("aabbcc"), 6000, seed=1)))
    assert draws.shape == (6000, 6)
    counts = Counter(map(tuple, draws))
    assert len(counts) == math.factorial(3) and all(abs(count - 1000) < 5 * math.sqrt(1000) for count in counts.values())
    assert (draws[:, 1::2] == draws[:, ::2] + 1).all()


def test_draw_pairings_depend_on_the_seed_only():
    one, same, other = (np.concatenate(list(draw_pairings(40, None, 20, seed))) for seed in (3, 3, 4))
    assert (one == same).all() and (one != other).any()


def test_draw_pairings_refuse_to_draw_nothing():
    with pytest.raises(ValueError, match="expected 1 permutation or more, got 0"):
        draw_pairings(4, permutations=0)


def test_draw_pairings_refuse_families_of_different_sizes():
    with pytest.raises(ValueError, match="two groups of the same size or more, got 2 of different sizes"):
        draw_pairings(5, list("aabbb"))


@pytest.mark.parametrize(
    ("sides", "covariates", "groups"),
    [
        ((np.ones((5, 2)), np.ones((6, 2))), None, None),
        ((np.ones((5, 2)),), np.ones((4, 1)), None),
        ((np.ones((5, 2)),), None, list("abcd")),
        ((np.ones(5),), None, None),
        ((np.ones((5, 0)),), None, None),
        ((np.ones((3, 2)),), None, None),
    ],
)
def test_exchangeable_rows_refuse_tables_of_other_lengths(sides, covariates, groups):
    with pytest.raises(ValueError, match="tables of the same 4 people or more were expected"):
        exchangeable_rows(sides, covariates, groups)


@pytest.mark.parametrize("place", [0, 1])
def test_exchangeable_rows_refuse_values_that_are_not_finite(place):
    tables = [nuisance(9, 2), nuisance(9, 2)]
    tables[place][4, 1] = np.nan
    with pytest.raises(ValueError, match="got others for 1 people, first in row 4"):
        exchangeable_rows(tables[:1], tables[1])


def test_exchangeable_rows_refuse_blank_groups():
    with pytest.raises(ValueError, match="1 of them blank, first in row 2"):
        exchangeable_rows([nuisance(4, 2)], None, ["a", "b", None, "c"])


def test_exchangeable_rows_refuse_as_much_nuisance_as_people():
    with pytest.raises(ValueError, match="4 or more were expected to be left, got 12 people less nuisance of rank 10"):
        exchangeable_rows([nuisance(12, 2)], nuisance(12, 9))


def test_exchangeable_rows_refuse_families_that_nuisance_would_use_up():
    with pytest.raises(ValueError, match=r"got \d+ of 40 beside \d+ families that go for nuisance of rank 7"):
        exchangeable_rows([nuisance(40, 2)], nuisance(40, 6), np.repeat(np.arange(10), 4))

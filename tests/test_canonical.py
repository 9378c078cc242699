"""Tests of the room `canonical`: closed form, false positives under nuisance and families, planted pairs; each refusal."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import binom
from sklearn.cross_decomposition import CCA

from brainmt_align.evaluation.canonical import canonical_correlations, canonical_rotations

COHORTS = 200
WITHIN_CHANCE = binom.interval(0.99, COHORTS, 0.05)  # how often 0.05 may be rejected in 200 null cohorts


def sides(n=60, p=4, q=6, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, p)), generator.standard_normal((n, q))


def planted(n=200, strengths=(0.9, 0.7), p=6, q=8, seed=0):
    """Pairs that share one factor each, turned so that no column is a factor."""
    generator = np.random.default_rng(seed)
    one, other = generator.standard_normal((n, p)), generator.standard_normal((n, q))
    for at, strength in enumerate(strengths):
        other[:, at] = strength * one[:, at] + np.sqrt(1 - strength**2) * other[:, at]
    turn = [np.linalg.qr(generator.standard_normal((width, width)))[0] for width in (p, q)]
    return one @ turn[0], other @ turn[1]


def test_canonical_correlations_are_cosines_of_the_angles_between_the_centred_sides():
    one, other = sides()
    test = canonical_correlations(one + 3, other * 5, permutations=50)
    angles = subspace_angles(one - one.mean(0), other - other.mean(0))
    assert np.allclose(test.correlations_K, np.sort(np.cos(angles))[::-1]) and test.components == (4, 6) and test.rows == 60


def test_canonical_correlations_are_partial_when_there_is_nuisance():
    one, other = sides()
    covariates = np.random.default_rng(1).standard_normal((60, 5))
    design = np.column_stack([np.ones(60), covariates])
    residuals = [side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in (one, other)]
    test = canonical_correlations(one, other, nuisance_NZ=covariates, permutations=50)
    assert np.allclose(test.correlations_K, np.sort(np.cos(subspace_angles(*residuals)))[::-1]) and test.rows == 54


def test_canonical_weights_make_variates_of_unit_variance_that_correlate_as_told():
    one, other = sides(p=20, q=30)
    test = canonical_correlations(one, other, components=5, permutations=50)
    u = (one - one.mean(0)) @ test.weights_PK
    v = (other - other.mean(0)) @ test.weights_QK
    assert np.allclose(np.cov(u.T), np.eye(5)) and np.allclose(np.cov(v.T), np.eye(5))
    assert np.allclose(u.T @ v / 59, np.diag(test.correlations_K))


@pytest.mark.parametrize("statistic", ["wilks", "roy"])
def test_canonical_correlations_find_the_planted_pairs_and_no_more(statistic):
    test = canonical_correlations(*planted(), statistic=statistic, permutations=500)
    assert (test.p_fwer_K[:2] == 1 / 501).all() and (test.p_fwer_K[2:] > 0.05).all()
    assert (np.diff(test.p_fwer_K) >= 0).all()


@pytest.mark.parametrize("statistic", ["wilks", "roy"])
def test_canonical_p_values_agree_with_a_naive_loop_that_fits_anew_at_every_step(statistic):
    one, other = planted(n=30, strengths=(0.6,), p=3, q=4)
    test = canonical_correlations(one, other, statistic=statistic, permutations=400, seed=2)
    u, _, v = np.linalg.svd(np.linalg.qr(one - one.mean(0))[0].T @ np.linalg.qr(other - other.mean(0))[0])
    u = np.linalg.qr(one - one.mean(0))[0] @ u
    v = np.linalg.qr(other - other.mean(0))[0] @ v.T

    def value(a, b):
        r = np.cos(subspace_angles(a, b))
        return r.max() if statistic == "roy" else -np.log(1 - r**2).sum()

    generator, counts = np.random.default_rng(7), np.ones(3)
    for _ in range(400):
        order = generator.permutation(30)
        counts += [value(u[:, k:], v[order][:, k:]) >= value(u[:, k:], v[:, k:]) for k in range(3)]
    naive = np.maximum.accumulate(counts / 401)
    assert np.allclose(test.p_fwer_K, naive, atol=4 * np.sqrt(0.5 / 400))


def null_p(seed, n=60, nuisance=25, naive=False):
    generator = np.random.default_rng(seed)
    covariates = generator.standard_normal((n, nuisance))
    one, other = (generator.standard_normal((n, 4)) + covariates @ generator.standard_normal((nuisance, 4)) for _ in range(2))
    if naive:
        design = np.column_stack([np.ones(n), covariates])
        one, other = (side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in (one, other))
        covariates = None
    return canonical_correlations(one, other, nuisance_NZ=covariates, permutations=99, seed=seed + 10_000).p_fwer_K[0]


def test_canonical_false_positives_hold_under_much_nuisance_and_not_when_residuals_are_permuted_naively():
    projected = sum(null_p(seed) <= 0.05 for seed in range(COHORTS))
    naive = sum(null_p(seed, naive=True) <= 0.05 for seed in range(COHORTS))
    assert WITHIN_CHANCE[0] <= projected <= WITHIN_CHANCE[1]
    assert naive > 0.3 * COHORTS


def test_canonical_false_positives_hold_under_families_and_not_when_they_are_torn():
    groups, whole, torn = np.repeat(np.arange(20), 4), 0, 0
    for seed in range(COHORTS):
        generator = np.random.default_rng(seed)
        one, other = (
            np.repeat(generator.standard_normal((20, 3)), 4, axis=0) + 0.5 * generator.standard_normal((80, 3)) for _ in range(2)
        )
        whole += canonical_correlations(one, other, groups_N=groups, permutations=99, seed=seed + 10_000).p_fwer_K[0] <= 0.05
        torn += canonical_correlations(one, other, permutations=99, seed=seed + 10_000).p_fwer_K[0] <= 0.05
    assert WITHIN_CHANCE[0] <= whole <= WITHIN_CHANCE[1]
    assert torn > 0.5 * COHORTS


def test_canonical_false_positives_stay_near_under_families_with_nuisance_and_not_when_they_are_torn():
    groups, whole, torn = np.repeat(np.arange(60), 2), 0, 0
    for seed in range(COHORTS):
        generator = np.random.default_rng(seed)
        covariates = generator.standard_normal((120, 5))
        one, other = (
            np.repeat(generator.standard_normal((60, 3)), 2, axis=0)
            + 0.3 * generator.standard_normal((120, 3))
            + covariates @ generator.standard_normal((5, 3))
            for _ in range(2)
        )
        settings = {"nuisance_NZ": covariates, "permutations": 99, "seed": seed + 10_000}
        test = canonical_correlations(one, other, groups_N=groups, **settings)
        whole += test.p_fwer_K[0] <= 0.05
        torn += canonical_correlations(one, other, **settings).p_fwer_K[0] <= 0.05
    assert not test.exact and test.rows >= 105
    assert whole <= WITHIN_CHANCE[1] < torn


def test_canonical_family_wise_error_of_later_pairs_holds_when_the_first_is_planted():
    found = sum(
        canonical_correlations(*planted(60, (0.95,), 4, 4, seed), permutations=99, seed=seed + 10_000).p_fwer_K[1] <= 0.05
        for seed in range(COHORTS)
    )
    assert WITHIN_CHANCE[0] <= found <= WITHIN_CHANCE[1]


def test_canonical_correlations_are_one_when_the_sides_are_the_same():
    one, _ = sides()
    test = canonical_correlations(one, one, permutations=99)
    assert np.allclose(test.correlations_K, 1) and (test.p_fwer_K == 0.01).all()


def test_canonical_correlations_depend_on_the_seed_only():
    p = [canonical_correlations(*sides(), permutations=99, seed=seed + 10_000).p_fwer_K.tolist() for seed in (1, 1, 2)]
    assert p[0] == p[1] != p[2]


def test_canonical_correlations_refuse_an_unknown_statistic():
    with pytest.raises(ValueError, match="must be one of wilks, roy, got 'pillai'"):
        canonical_correlations(*sides(), statistic="pillai")


def test_canonical_correlations_refuse_no_component():
    with pytest.raises(ValueError, match="expected 1 component or more, got 0"):
        canonical_correlations(*sides(), components=0)


def test_canonical_correlations_refuse_as_many_components_as_rows():
    with pytest.raises(ValueError, match=r"fewer than 19 components .* got 10 \+ 10"):
        canonical_correlations(*sides(20, 30, 30))


@pytest.mark.parametrize("constant", [np.zeros((20, 3)), np.full((20, 3), 0.1)])
def test_canonical_correlations_refuse_a_side_without_variance(constant):
    with pytest.raises(ValueError, match="features that vary beyond the nuisance were expected, got 3 that do not"):
        canonical_correlations(constant, sides(20)[1])


def test_canonical_correlations_refuse_a_side_that_the_nuisance_tells():
    covariates = np.random.default_rng(0).standard_normal((30, 3))
    with pytest.raises(ValueError, match="features that vary beyond the nuisance were expected, got 2 that do not"):
        canonical_correlations(covariates[:, :2] * 1e3, sides(30)[1], nuisance_NZ=covariates)


def test_canonical_rotations_make_uncorrelated_variates_of_two_widths():
    rng = np.random.default_rng(3)
    one, other = (np.linalg.qr(rng.standard_normal((30, width)))[0] for width in (4, 6))
    turned = canonical_rotations(one, other)
    crossed = (one @ turned.rotation_PP).T @ (other @ turned.rotation_QQ)
    expected = np.zeros((4, 6))
    expected[:4, :4] = np.diag(turned.correlations_K)
    np.testing.assert_allclose(crossed, expected, atol=1e-12)
    assert (np.diff(turned.correlations_K) <= 0).all()


def test_canonical_rotations_give_the_variates_of_an_iterative_oracle():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((100, 5))
    y = x @ rng.standard_normal((5, 4)) + 2 * rng.standard_normal((100, 4))
    whitened = [np.linalg.svd(side - side.mean(0), full_matrices=False)[0] for side in (x, y)]
    turned = canonical_rotations(*whitened)
    expected = CCA(2, scale=False, max_iter=10_000, tol=1e-12).fit_transform(x, y)
    for ours, theirs in zip((whitened[0] @ turned.rotation_PP, whitened[1] @ turned.rotation_QQ), expected, strict=True):
        agreement = [abs(np.corrcoef(ours[:, k], theirs[:, k])[0, 1]) for k in range(2)]
        np.testing.assert_allclose(agreement, 1, atol=1e-5)
    pairs = [np.corrcoef(expected[0][:, k], expected[1][:, k])[0, 1] for k in range(2)]
    np.testing.assert_allclose(turned.correlations_K[:2], pairs, atol=1e-6)

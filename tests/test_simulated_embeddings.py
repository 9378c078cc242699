"""Room under test: brainmt_align/data/simulated_embeddings.py. Kinds share what they say; the oracle is the likelihood."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from brainmt_align.data import simulated_embeddings as room
from brainmt_align.data.simulated_embeddings import KINDS, simulate_embeddings
from brainmt_align.evaluation.ranks import rank_both_ways, rank_scores


def cross(cohort, same):
    """Mean similarity of scan and genome over the pairs (i, j), i unlike j, that are alike in a column."""
    labels = cohort.people[same].to_numpy()
    pairs = (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
    return (cohort.z_fmri @ cohort.z_dna.T)[pairs].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_simulate_embeddings_gives_unit_rows_people_and_the_same_for_a_seed(kind):
    once, again, other = (simulate_embeddings(kind, 61, seed) for seed in (3, 3, 4))
    assert once.z_fmri.shape == once.z_dna.shape == (61, 64) and once.oracle_scores.shape == (61, 61)
    np.testing.assert_allclose(np.linalg.norm(once.z_dna, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(once.z_fmri, again.z_fmri)
    assert once.people.equals(again.people) and not np.array_equal(once.z_fmri, other.z_fmri)
    assert list(once.people) == ["subject_id", "sex", "age", "site", "ancestry", "family_id"]
    assert (once.people.groupby("family_id")["ancestry"].nunique() == 1).all()
    assert once.people.groupby("family_id").size().value_counts().to_dict() == {2: 30, 1: 1}


def test_simulate_embeddings_shares_nothing_in_a_null_cohort_though_each_side_has_its_structure():
    cohorts = [simulate_embeddings("null", 120, seed) for seed in range(20)]
    assert abs(np.mean([np.diag(each.z_fmri @ each.z_dna.T).mean() for each in cohorts])) < 0.03
    assert all((each.oracle_scores == 0).all() for each in cohorts)
    siblings = np.mean([(each.z_fmri[::2] * each.z_fmri[1::2]).sum(1).mean() for each in cohorts])
    assert siblings > 0.1


@pytest.mark.parametrize(("kind", "column"), [("ancestry", "ancestry"), ("site", "site"), ("family", "family_id")])
def test_simulate_embeddings_couples_people_no_more_than_those_of_their_label(kind, column):
    cohorts = [simulate_embeddings(kind, 120, seed) for seed in range(20)]
    own = np.mean([np.diag(each.z_fmri @ each.z_dna.T).mean() for each in cohorts])
    alike = np.mean([cross(each, column) for each in cohorts])
    assert alike == pytest.approx(0.3, abs=0.05) and own == pytest.approx(alike, abs=0.02)


def test_simulate_embeddings_plants_a_person_s_own_part_that_the_oracle_finds_at_least_as_well():
    ranks = {"rows": [], "oracle": []}
    for seed in range(10):
        cohort = simulate_embeddings("planted", 120, seed, strength=0.3)
        ranks["rows"] += rank_both_ways(cohort.z_fmri, cohort.z_dna).fmri_to_dna.tolist()
        ranks["oracle"] += rank_scores(cohort.oracle_scores).fmri_to_dna.tolist()
        assert np.diag(cohort.z_fmri @ cohort.z_dna.T).mean() > cross(cohort, "ancestry") + 0.15
    assert np.log(ranks["oracle"]).mean() < np.log(ranks["rows"]).mean() < np.log(5)


@pytest.mark.parametrize(("kind", "relatives"), [("planted", 0.0), ("siblings", 0.5), ("twins", 1.0)])
def test_simulate_embeddings_lets_relatives_share_as_much_as_the_kind_says(kind, relatives):
    cohorts = [simulate_embeddings(kind, 120, seed, strength=0.4) for seed in range(20)]
    own, siblings, alike = [], [], []
    for each in cohorts:
        scores_NN = each.z_fmri @ each.z_dna.T
        own.append(np.diag(scores_NN).mean())
        siblings.append(scores_NN[np.arange(120), np.arange(120) ^ 1].mean())
        alike.append(cross(each, "ancestry"))
    assert np.mean(siblings) - np.mean(alike) == pytest.approx(relatives * (np.mean(own) - np.mean(alike)), abs=0.03)
    apart = [np.linalg.norm(each.z_dna[::2] - each.z_dna[1::2], axis=1) for each in cohorts]
    assert all((each > 0).all() for each in apart)  # twins by errors of genotyping alone
    assert all((each < 0.01).all() == (kind == "twins") for each in apart)


def test_simulate_embeddings_of_age_share_a_curve_without_a_slope():
    cohorts = [simulate_embeddings("age", 120, seed) for seed in range(12)]
    middle, youngest, oldest = [], [], []
    for each in cohorts:
        age_N, scores_NN = each.people["age"].to_numpy(), each.z_fmri @ each.z_dna.T
        low, high = age_N < 50, age_N > 75
        youngest.append(scores_NN[np.ix_(low, low)].mean())
        oldest.append(scores_NN[np.ix_(low, high)].mean())
        middle.append(scores_NN[np.ix_(low, abs(age_N - 62.5) < 5)].mean())
    assert np.mean(oldest) == pytest.approx(np.mean(youngest), abs=0.05) and np.mean(youngest) > 0.3 > -0.2 > np.mean(middle)


def test_log_ratios_equal_a_mixture_of_joint_gaussians_pair_by_pair():
    rng = np.random.default_rng(0)
    x, y, centres = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), rng.standard_normal((2, 3))
    shares, correlation, variance, root = np.array([0.25, 0.75]), 0.4, 1 - room.LABEL_SHARE, np.sqrt(room.LABEL_SHARE)
    got = room._log_ratios(x, y, centres, shares, correlation)
    joint = variance * np.kron([[1, correlation], [correlation, 1]], np.eye(3))

    def mixture(rows, mean_of, covariance):
        known = zip(shares, centres, strict=True)
        parts = [np.log(p) + multivariate_normal(mean_of(root * c), covariance).logpdf(rows) for p, c in known]
        return logsumexp(parts)

    for i in range(4):
        for j in range(4):
            both = mixture(np.concatenate([x[i], y[j]]), lambda c: np.concatenate([c, c]), joint)
            alone = sum(mixture(row, lambda c: c, variance * np.eye(3)) for row in (x[i], y[j]))
            assert got[i, j] == pytest.approx(both - alone, abs=1e-9)


def test_simulate_embeddings_refuses_unknown_kinds_and_numbers_out_of_range():
    with pytest.raises(
        ValueError, match="expected a kind of null, ancestry, site, age, family, planted, siblings, twins, got 'nul'"
    ):
        simulate_embeddings("nul", 10, 0)
    with pytest.raises(ValueError, match=r"strength of 0 to 0\.7, got 10, 2, 64 and 0\.8"):
        simulate_embeddings("planted", 10, 0, strength=0.8)
    with pytest.raises(ValueError, match=r"got 1, 2, 64 and 0\.3"):
        simulate_embeddings("null", 1, 0)

"""Room under test: brainmt_align/evaluation/covariate_rival.py. Covariates that tell are used, others score chance, not less."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from brainmt_align.evaluation import covariate_rival
from brainmt_align.evaluation.covariate_rival import PENALTIES, covariates_only
from brainmt_align.evaluation.ranks import rank_both_ways

PEOPLE, WIDTH, DIRECTIONS = 90, 32, ("fmri_to_dna", "dna_to_fmri")


def cohort(seed, told, covariates=6):
    """Families of two; each side carries the covariates through weights of its own, and noise."""
    rng = np.random.default_rng(seed)
    known = rng.standard_normal((PEOPLE, covariates))
    sides = [told * known @ rng.standard_normal((covariates, WIDTH)) + rng.standard_normal((PEOPLE, WIDTH)) for _ in range(2)]
    return *sides, known, [f"family {row // 2}" for row in range(PEOPLE)]


def ranks_of(rival):
    return {direction: rank_both_ways(*rival[direction]).fmri_to_dna for direction in DIRECTIONS}


def test_covariates_only_finds_partners_whom_covariates_tell_apart():
    for ranks in ranks_of(covariates_only(*cohort(0, told=1.0))).values():
        assert np.exp(np.log(ranks).mean()) < 3


def test_covariates_only_scores_chance_and_not_less_when_covariates_tell_nothing():
    """Over many cohorts: a rival that learned from all candidates but the partner has too low a recall."""
    recall, logs = [], []
    for seed in range(60):
        for ranks in ranks_of(covariates_only(*cohort(seed, told=0.0), seed=seed)).values():
            recall.append((ranks <= 10).mean())
            logs.append(np.log(ranks).mean())
    chance = np.log(np.arange(1, PEOPLE + 1)).mean()
    for values, expected in ((recall, 10 / PEOPLE), (logs, chance)):
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - expected) < 3.5 * error
    assert np.std(recall) / np.sqrt(len(recall)) < 0.01


def test_covariates_only_ties_everybody_when_covariates_are_constant():
    z_fmri, z_dna, known, families = cohort(1, told=1.0)
    rival = covariates_only(z_fmri, z_dna, np.ones_like(known), families)
    for ranks in ranks_of(rival).values():
        np.testing.assert_array_equal(ranks, (PEOPLE + 1) / 2)


def test_covariates_only_scores_every_pair_by_models_that_saw_neither_family():
    """A loop over pairs that fits a model for each gives the same scores as the vectors."""
    z_fmri, z_dna, known, families = cohort(2, told=0.3)
    known, families = known * [1, 10, 0.1, 1, 1, 1] + 5, [f"family {row // 3}" for row in range(PEOPLE)]
    query, candidate = covariates_only(z_fmri, z_dna, known, families, folds=4, seed=3)["fmri_to_dna"]
    fold_N = covariate_rival._deal(families, 4, 3)
    assert all(len(set(fold_N[at : at + 3])) == 1 for at in range(0, PEOPLE, 3))
    rng = np.random.default_rng(0)
    for i, j in rng.integers(0, PEOPLE, (40, 2)).tolist() + [[7, 7], [7, 6]]:
        without_query = fold_N != fold_N[i]
        other = (fold_N[i] + 1) % 4 if fold_N[i] == fold_N[j] else fold_N[j]
        learned = without_query & (fold_N != other)
        scaled = StandardScaler().fit(known[without_query]).transform(known)
        penalty = RidgeCV(PENALTIES).fit(scaled[without_query], z_dna[without_query]).alpha_
        predicted = Ridge(penalty).fit(scaled[learned], z_dna[learned]).predict(scaled[[i]])[0] - z_dna[learned].mean(0)
        assert query[i] @ candidate[j] == pytest.approx(predicted @ (z_dna[j] - z_dna.mean(0)), abs=1e-3)


def test_covariates_only_is_the_same_for_a_seed_and_other_for_another():
    parts = cohort(4, told=0.3)
    once, again, other = (covariates_only(*parts, seed=seed)["dna_to_fmri"][0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_covariates_only_refuses_what_it_cannot_learn_from():
    z_fmri, z_dna, known, families = cohort(5, told=0.0)
    with pytest.raises(ValueError, match=r"tables of one row for each of 90 people.*z_dna \(89, 32\)"):
        covariates_only(z_fmri, z_dna[1:], known, families)
    known[4, 1] = np.nan
    with pytest.raises(ValueError, match="got others in covariates, first in row 4"):
        covariates_only(z_fmri, z_dna, known, families)
    with pytest.raises(ValueError, match="got 5 folds of 2 families"):
        covariates_only(z_fmri, z_dna, np.nan_to_num(known), [row % 2 for row in range(PEOPLE)])
    with pytest.raises(ValueError, match="got 2 folds of 45 families"):
        covariates_only(z_fmri, z_dna, np.nan_to_num(known), families, folds=2)

"""Covariates: coding by the training people alone, least squares against known answers, every refusal."""

import json

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.covariates import covariates_from_json, fit_covariates, regress_out


def people(**columns) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    return table.assign(subject_id=[f"p{row}" for row in range(len(table))])


def test_fit_covariates_standardises_numbers_and_centres_categories_over_the_training_people():
    training = people(age=[40.0, 50, 60, 70], site=["a", "a", "a", "b"], female=[True, False, True, False])
    coding = fit_covariates(training, ["age", "site", "female"])
    design_NK = coding.encode(training)
    np.testing.assert_allclose(design_NK.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(design_NK[:, 0].std(), 1)
    np.testing.assert_allclose(design_NK[:, 1], [0.25, 0.25, 0.25, -0.75])
    assert design_NK.shape == (4, 5)


def test_fit_covariates_takes_numbers_for_categories_when_told():
    coding = fit_covariates(people(site=[11025, 11026, 11025, 11027]), ["site"], categories=["site"])
    assert coding.columns[0].levels == ("11025", "11026", "11027")
    assert coding.encode(people(site=[11026])).shape == (1, 3)


def test_encode_uses_nothing_of_the_new_people():
    training = people(age=[40.0, 60], site=["a", "b"])
    coding = fit_covariates(training, ["age", "site"])
    np.testing.assert_allclose(coding.encode(people(age=[70.0], site=["a"])), [[2, 0.5, -0.5]])
    np.testing.assert_allclose(coding.encode(people(age=[70.0, 1e6], site=["a", "c"]))[0], [2, 0.5, -0.5])


def test_encode_takes_a_level_that_training_lacks_for_the_training_mean():
    coding = fit_covariates(people(site=["a", "b"]), ["site"])
    np.testing.assert_array_equal(coding.encode(people(site=["c"])), [[0, 0]])


def test_encode_puts_the_training_mean_for_missing_values_when_asked_to():
    training = people(age=[40.0, 60, np.nan], site=["a", "b", None])
    coding = fit_covariates(training, ["age", "site"], missing="mean")
    np.testing.assert_allclose(coding.encode(training)[2], 0)


def test_coding_survives_json():
    training = people(age=[40.0, 60], site=["a", "b"])
    coding = fit_covariates(training, ["age", "site"])
    again = covariates_from_json(json.loads(json.dumps(coding.to_json())))
    assert again == coding


def test_regress_out_finds_the_planted_slopes_and_ignores_a_repeated_covariate():
    rng = np.random.default_rng(0)
    design_NK = rng.standard_normal((500, 2))
    values_N = 3 + design_NK @ [2.0, -1.0] + 0.1 * rng.standard_normal(500)
    np.testing.assert_allclose(regress_out(values_N, design_NK), [2, -1], atol=0.02)
    doubled = regress_out(values_N, np.concatenate([design_NK, design_NK[:, :1]], axis=1))
    np.testing.assert_allclose([doubled[0] + doubled[2], doubled[1]], [2, -1], atol=0.02)


def test_covariates_refuse_what_cannot_be_coded():
    table = people(age=[40.0, np.nan, 60], empty=[np.nan] * 3, site=["a", None, "b"])
    with pytest.raises(ValueError, match=r"(?s)age: none for 1 of 3: p1.*site: none for 1 of 3"):
        fit_covariates(table, ["age", "site"])
    with pytest.raises(ValueError, match="none at all among 3 training people in empty"):
        fit_covariates(table, ["empty"])
    with pytest.raises(ValueError, match="must be one of error, mean, got 'drop'"):
        fit_covariates(table, ["age"], missing="drop")
    with pytest.raises(ValueError, match="agee"):
        fit_covariates(table, ["agee"])
    coding = fit_covariates(people(age=[40.0, 60]), ["age"])
    with pytest.raises(ValueError, match="numbers were expected in 'age'"):
        coding.encode(people(age=["old", "young"]))
    with pytest.raises(ValueError, match="a value for everyone was expected"):
        coding.encode(people(age=[40.0, np.nan]))


def test_regress_out_refuses_the_target_in_other_words_and_too_many_covariates():
    rng = np.random.default_rng(0)
    values_N = rng.standard_normal(20)
    with pytest.raises(ValueError, match="covariates tell completely"):
        regress_out(values_N, np.stack([5 - 2 * values_N, rng.standard_normal(20)], axis=1))
    with pytest.raises(ValueError, match="fewer than 19 were expected for 20 people, got 19 free ones"):
        regress_out(values_N, rng.standard_normal((20, 30)))

"""Rivals: who sees what, who learns from whom, and what is left out is said."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from brainmt_align.data.splits import Split
from brainmt_align.data.targets import describe_targets, fit_targets
from brainmt_align.evaluation.rivals import RivalInputs, describe_left_out, predict_rivals

COUNT, EDGES = 240, 400


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    age, signal = rng.uniform(40, 80, COUNT), rng.standard_normal(COUNT)
    score = (age - 60) / 10 + signal + 0.3 * rng.standard_normal(COUNT)
    ids = [f"p{row:03d}" for row in range(COUNT)]
    case = np.where(score > 0, "case", "control")
    return pd.DataFrame({"subject_id": ids, "age": age, "signal": signal, "score": score, "case": case, "site": 11})


@pytest.fixture(scope="module")
def edges_NF(people) -> np.ndarray:
    """Connectivity that shows the signal and nothing of age."""
    rng = np.random.default_rng(1)
    return (np.outer(people["signal"], rng.standard_normal(EDGES)) + rng.standard_normal((COUNT, EDGES))).astype(np.float32)


def folds_of(people, tasks, residualise=()):
    ids = people["subject_id"].tolist()
    split = Split(ids[:120], ids[120:150], ids[150:], 0)
    described = describe_targets(people, tasks, {"case": ["control", "case"]} if "case" in tasks else {})
    return {"seed0_fold0": (split, fit_targets(people.iloc[:120], described, residualise), 0)}


def inputs_of(people, edges_NF, covariates=("age",), wanted=("connectivity", "covariates", "mean", "permuted")) -> RivalInputs:
    return RivalInputs(wanted, edges_NF, people["subject_id"].tolist(), covariates, "error", (), False)


def test_predict_rivals_frees_features_of_what_the_target_is_freed_of(people, edges_NF):
    predicted = predict_rivals(
        people, folds_of(people, {"score": "regression"}, ["age"]), inputs_of(people, edges_NF), progress=False
    )
    said = predicted["seed0_fold0"]["score"]
    assert list(said) == [
        "connectivity + linear",
        "covariates only",
        "mean of the training people",
        "connectivity, permuted labels",
    ]
    freed = folds_of(people, {"score": "regression"}, ["age"])["seed0_fold0"][1]
    observed = freed.observed(people, freed.targets[0])[150:]
    assert r2_score(observed, said["connectivity + linear"]) > 0.7
    assert abs(r2_score(observed, said["covariates only"])) < 0.1


def test_predict_rivals_gives_a_target_that_is_not_freed_a_rival_with_scan_and_covariates(people, edges_NF):
    predicted = predict_rivals(
        people, folds_of(people, {"score": "regression", "case": "binary"}), inputs_of(people, edges_NF), False
    )
    score, case = predicted["seed0_fold0"]["score"], predicted["seed0_fold0"]["case"]
    observed = people["score"].to_numpy()[150:]
    alone, both, age = (
        r2_score(observed, score[n]) for n in ("connectivity + linear", "connectivity + covariates", "covariates only")
    )
    assert both > 0.8 and both > alone + 0.2 and both > age + 0.2
    areas = [roc_auc_score(observed > 0, case[n][:, 1]) for n in ("connectivity + linear", "connectivity + covariates")]
    assert areas[1] > areas[0] + 0.05


def test_predict_rivals_never_lets_a_target_be_its_own_covariate(people, edges_NF):
    inputs = inputs_of(people, edges_NF, covariates=("score", "age"))
    said = predict_rivals(people, folds_of(people, {"score": "regression"}), inputs, progress=False)["seed0_fold0"]["score"]
    assert r2_score(people["score"][150:], said["covariates only"]) < 0.9


def test_predict_rivals_says_the_mean_where_covariates_never_change(people, edges_NF):
    inputs = inputs_of(people, None, covariates=("site",))
    said = predict_rivals(people, folds_of(people, {"score": "regression"}), inputs, progress=False)["seed0_fold0"]["score"]
    assert set(said) == {"covariates only", "mean of the training people"}
    np.testing.assert_array_equal(said["covariates only"], said["mean of the training people"])


def test_predict_rivals_names_fold_and_target_of_what_cannot_be_made(people, edges_NF):
    broken = edges_NF.copy()
    broken[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"(?s)finite.*where: baselines of score, seed0_fold0"):
        predict_rivals(people, folds_of(people, {"score": "regression"}), inputs_of(people, broken), progress=False)


def test_describe_left_out_names_the_baselines_that_cannot_be_made(people, edges_NF):
    assert describe_left_out(inputs_of(people, edges_NF)) == []
    notes = " ".join(describe_left_out(inputs_of(people, None, covariates=())))
    assert "connectivity is left out" in notes and "evaluation.covariates=[age,sex]" in notes

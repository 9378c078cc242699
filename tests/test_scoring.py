"""Room under test: brainmt_align/evaluation/scoring.py. In: predictions and people. Out: their table; figures of new people."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from brainmt_align.data.targets import describe_targets, fit_targets
from brainmt_align.evaluation.scoring import MODEL, known_values, score_predictions, tabulate_predictions

N = 60
TASKS = {"score": "regression", "case": "binary"}


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    age = rng.uniform(40, 80, N)
    score = 2 * age + rng.normal(0, 5, N)
    ids = [f"{row:02}" for row in range(N)]
    return pd.DataFrame({"subject_id": ids, "age": age, "score": score, "case": np.resize(["control", "case"], N)})


@pytest.fixture
def targets(people):
    described = describe_targets(people, TASKS, {"case": ["control", "case"]})
    return fit_targets(people, described, ["age"])


@pytest.fixture
def predicted(people, targets):
    rng = np.random.default_rng(1)
    score = targets.observed(people, targets.targets[0]) + rng.normal(0, 3, N)
    p = np.clip(0.5 + 0.2 * np.where(people["case"] == "case", 1, -1) + rng.normal(0, 0.2, N), 0.01, 0.99)
    return {"score": score, "case": np.stack([1 - p, p], axis=1)}


NEW = np.arange(N) >= 20
FAMILIES = [f"F{row // 2}" for row in range(N)]


def test_tabulate_predictions_has_a_row_a_person_and_what_is_known_beside_what_was_said(people, targets, predicted):
    table = tabulate_predictions(people, targets, predicted, NEW)
    assert list(table) == [
        "subject_id", "seen_in_training", "score (observed)", "score", "case (observed)", "case: p(control)", "case: p(case)",
    ]  # fmt: skip
    np.testing.assert_array_equal(table["seen_in_training"], ~NEW)
    np.testing.assert_array_equal(table["case: p(case)"], predicted["case"][:, 1])
    bare = tabulate_predictions(people[["subject_id"]], targets, predicted, NEW)
    assert list(bare) == ["subject_id", "seen_in_training", "score", "case: p(control)", "case: p(case)"]


def test_score_predictions_scores_new_people_with_a_value_alone(people, targets, predicted):
    people.loc[N - 1, "score"] = np.nan
    scores = score_predictions(people, targets, predicted, FAMILIES, NEW, 100, 0)
    rows = np.flatnonzero(NEW)[:-1]
    observed_N = targets.observed(people, targets.targets[0])
    score, case = scores.entries["score"], scores.entries["case"]
    assert score["r2"] == pytest.approx(r2_score(observed_N[rows], predicted["score"][rows]))
    assert case["auroc"] == pytest.approx(roc_auc_score(people["case"][NEW] == "case", predicted["case"][NEW, 1]))
    assert score["comparison"]["n"] == len(rows) and score["comparison"]["residualised_on"] == ["age"]
    assert score["comparison"]["reference"] == MODEL and score["comparison"]["positive_class"] is None
    assert case["comparison"]["positive_class"] == "case" and case["comparison"]["residualised_on"] == []
    assert scores.notes == []


def test_score_predictions_leaves_out_targets_of_fewer_than_two_families(people, targets, predicted):
    one = np.arange(N) >= N - 2
    assert score_predictions(people, targets, predicted, FAMILIES, one, 100, 0) == ({}, [])
    assert set(score_predictions(people.drop(columns="score"), targets, predicted, FAMILIES, NEW, 100, 0).entries) == {"case"}


def test_known_values_are_unknown_where_the_table_does_not_tell_and_say_why(people, targets, predicted):
    for table in (people.drop(columns="score"), people.assign(score=np.nan)):
        known = known_values(table, targets, targets.targets[0])
        assert np.isnan(known.observed_N).all() and known.note is None
    for table, target in ((people.drop(columns="age"), 0), (people.assign(case="healthy"), 1)):
        known = known_values(table, targets, targets.targets[target])
        assert np.isnan(known.observed_N).all() and "is predicted, but not scored: " in known.note
    scores = score_predictions(people.assign(case="healthy"), targets, predicted, FAMILIES, NEW, 100, 0)
    assert set(scores.entries) == {"score"} and len(scores.notes) == 1

"""Target scores: predictions of all folds held against what the test people have, the oracle beside them."""

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.coded_folds import code_folds
from brainmt_align.data.folds import choose_folds
from brainmt_align.data.targets import describe_targets
from brainmt_align.evaluation import target_scores
from brainmt_align.evaluation.target_scores import ORACLE, ScoreSettings, score_targets

SETTINGS = ScoreSettings("model", "fmri", 100, 0)


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ids = [f"{number:03d}" for number in range(40)]
    return pd.DataFrame({"subject_id": ids, "score": rng.normal(100, 15, 40), "case": np.resize(["no", "yes"], 40)})


@pytest.fixture(scope="module")
def folds(people):
    described = describe_targets(people, {"score": "regression", "case": "binary"}, {})
    return code_folds(people, choose_folds(people, 2, (4, 1, 1), 0), 0, described)


def said_of(people: pd.DataFrame, folds) -> dict:
    """A model that says what is so, and a rival that says the same of everybody."""
    said = {}
    for fold in folds:
        test = fold.rows(people, "test")
        certain_NC = np.stack([test["case"] == "no", test["case"] == "yes"], axis=1).astype(float)
        said[fold.name] = {
            "score": {"model": test["score"].to_numpy(), "mean": np.full(len(test), 100.0)},
            "case": {"model": certain_NC, "mean": np.full((len(test), 2), 0.5)},
        }
    return said


def test_score_targets_hold_each_persons_prediction_against_their_own_value(people, folds):
    families = [f"family{row // 2}" for row in range(40)]
    score, case = score_targets(people, families, folds, said_of(people, folds), SETTINGS._replace(residualise=("age",)))
    assert score.metrics()["r2"] == pytest.approx(1) and case.metrics()["auroc"] == pytest.approx(1)
    assert score.metrics()["comparison"] is score.entry and score.entry["reference"] == "model"
    assert (score.entry["positive_class"], case.entry["positive_class"]) == (None, "yes")
    assert (score.entry["residualised_on"], case.entry["residualised_on"]) == (["age"], [])
    assert score.entry["planted"] is None and score.entry["unit"] is None
    family_of = dict(zip(people["subject_id"], families, strict=True))
    for rows, fold in zip(score.folds, folds, strict=True):
        assert sorted(rows.subject_ids) == fold.frozen.split.test and list(rows.predictions) == ["model", "mean"]
        assert rows.groups == [family_of[each] for each in rows.subject_ids]


def test_score_targets_add_the_oracle_last_to_what_was_planted_alone(people, folds, monkeypatch):
    def predicted(truth, ids, target, inputs, classes):
        assert (truth, target, inputs, classes) == ("truth.json", "score", "dna", None)
        return np.arange(len(ids), dtype=float)

    monkeypatch.setattr(target_scores, "planted_targets", lambda truth: ["score"])
    monkeypatch.setattr(target_scores, "planted_predictions", predicted)
    monkeypatch.setattr(target_scores, "planted_truth", lambda truth, target, inputs: {"r2": 0.5})
    settings = SETTINGS._replace(inputs="dna", truth="truth.json")
    score, case = score_targets(people, people["subject_id"], folds, said_of(people, folds), settings)
    assert list(score.entry["figures"]) == ["model", "mean", ORACLE] and score.entry["planted"] == {"r2": 0.5}
    np.testing.assert_array_equal(score.folds[1].predictions[ORACLE], np.arange(20.0))
    assert ORACLE not in case.entry["figures"] and case.entry["planted"] is None


def test_score_targets_refuse_a_truth_that_is_not_there(people, folds, tmp_path):
    settings = SETTINGS._replace(truth=tmp_path / "truth.json")
    with pytest.raises(FileNotFoundError, match=r"truth\.json of a simulated cohort was expected"):
        score_targets(people, people["subject_id"], folds, said_of(people, folds), settings)

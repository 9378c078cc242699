"""Targets: coding by the training people alone, missing values, classes, residualisation, every refusal."""

import json

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.targets import check_parts, class_numbers, describe_targets, fit_targets, targets_from_json

TASKS = {"score": "regression", "case": "binary", "group": "multiclass", "grade": "ordinal"}
ORDER = {"grade": ["low", "mid", "high"]}


@pytest.fixture
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    count = 60
    age = rng.uniform(40, 80, count)
    return pd.DataFrame(
        {
            "subject_id": [f"p{row}" for row in range(count)],
            "age": age,
            "score": 100 + 2 * (age - 60) + rng.normal(0, 5, count),
            "case": np.resize([0.0, 0, 1], count),
            "group": np.resize(["b", "a", "c", "a"], count),
            "grade": np.resize(["low", "mid", "high"], count),
        }
    )


def fitted(people, tasks=TASKS, **words):
    order = {name: labels for name, labels in ORDER.items() if name in tasks}
    return fit_targets(people, describe_targets(people, tasks, order), **words)


def test_encode_standardises_regressions_and_numbers_classes(people):
    people.loc[0, ["score", "case", "group", "grade"]] = [np.nan, np.nan, None, None]
    values_NP, weights_NP = fitted(people, balanced=False).encode(people)
    np.testing.assert_allclose(np.nanmean(values_NP[:, 0]), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(values_NP[:, 0]), 1, atol=1e-5)
    np.testing.assert_array_equal(values_NP[1:5, 1:], [[0, 0, 1], [1, 2, 2], [0, 0, 0], [0, 1, 1]])
    assert np.isnan(values_NP[0]).all() and (weights_NP[0] == 0).all() and (weights_NP[1:] == 1).all()
    assert values_NP.dtype == weights_NP.dtype == np.float32


def test_encode_uses_the_training_peoples_mean_sd_and_slopes_alone(people):
    targets = fitted(people.iloc[:30], {"score": "regression"}, residualise=["age"])
    other = people.iloc[30:].assign(score=lambda table: table["score"] + 1e3)
    alone = targets.encode(other.iloc[:1]).values_NP
    np.testing.assert_allclose(targets.encode(other).values_NP[:1], alone, rtol=1e-6)


def test_balanced_weights_let_every_class_weigh_alike(people):
    targets = fitted(people, {"case": "binary", "group": "multiclass"})
    values_NP, weights_NP = targets.encode(people)
    for column in range(2):
        sums = [weights_NP[values_NP[:, column] == number, column].sum() for number in np.unique(values_NP[:, column])]
        np.testing.assert_allclose(sums, len(people) / len(sums), rtol=1e-5)


def test_residualised_target_does_not_correlate_with_the_covariate_and_keeps_its_mean(people):
    targets = fitted(people, {"score": "regression"}, residualise=["age"])
    freed_N = targets.observed(people, targets.targets[0])
    assert abs(np.corrcoef(freed_N, people["age"])[0, 1]) < 1e-8
    assert freed_N.mean() == pytest.approx(people["score"].mean())
    part_N = targets.covariate_part(people, targets.targets[0])
    np.testing.assert_allclose(freed_N + part_N, people["score"])


def test_in_units_inverts_the_z_score(people):
    targets = fitted(people, {"score": "regression", "case": "binary"})
    z_N = targets.encode(people).values_NP[:, 0].astype(float)
    probabilities = np.full((60, 2), 0.5)
    back = targets.in_units({"score": z_N, "case": probabilities})
    np.testing.assert_allclose(back["score"], people["score"], rtol=1e-5)
    assert back["case"] is probabilities


def test_targets_survive_json(people):
    targets = fitted(people, residualise=["age"])
    assert targets_from_json(json.loads(json.dumps(targets.to_json()))) == targets


def test_describe_targets_names_numeric_classes_as_text_in_order_of_size(people):
    people["grade"] = np.resize([10.0, 2, 9, np.nan], len(people))
    assert describe_targets(people, {"grade": "ordinal"}, {})[0].classes == ("2", "9", "10")
    people["case"] = np.resize([True, False], len(people))
    assert describe_targets(people, {"case": "binary"}, {})[0].classes == ("False", "True")


def test_class_numbers_refuses_labels_that_are_none_of_the_classes(people):
    with pytest.raises(ValueError, match="classes a, b were expected in 'group', got c"):
        class_numbers(people, "group", ["a", "b"])


@pytest.mark.parametrize(
    ("tasks", "order", "message"),
    [
        ({}, {}, "at least one phenotype was expected"),
        ({"score": "regresion"}, {}, "tasks must be of regression, binary, multiclass, ordinal; got score: regresion"),
        ({"scor": "regression"}, {}, "score"),
        ({"group": "regression"}, {}, "group"),
        ({"group": "binary"}, {}, "2 classes were expected of the binary target 'group', got 3"),
        ({"score": "multiclass"}, {}, "2 to 50 classes were expected"),
        ({"grade": "ordinal"}, {}, "needs an order, got none for 'grade'"),
        ({"grade": "ordinal"}, {"grade": ["low", "high"]}, "classes low, high were expected in 'grade', got mid"),
        ({"case": "binary"}, {"grade": ["low"]}, "classes are given to targets, got classes of grade"),
    ],
)
def test_describe_targets_refuses_what_is_no_target(people, tasks, order, message):
    with pytest.raises(ValueError, match=message):
        describe_targets(people, tasks, order)


def test_fit_targets_refuses_what_training_cannot_learn(people):
    described = describe_targets(people, {"score": "regression"}, {})
    with pytest.raises(ValueError, match="score as both"):
        fit_targets(people, described, ["score"])
    assert fit_targets(people, describe_targets(people, {"case": "binary"}, {}), ["case"]).covariates is None
    with pytest.raises(ValueError, match=r"(?s)covariates tell completely.*target: score"):
        fit_targets(people.assign(twin=people["score"] * 3 + 1), described, ["twin"])
    with pytest.raises(ValueError, match="got none of 'score'"):
        fit_targets(people.assign(score=np.nan), described)
    for value in (5.0, 0.1):  # the mean of many 0.1 is not 0.1
        with pytest.raises(ValueError, match=f"got {value:g} for all of 'score'"):
            fit_targets(people.assign(score=value), described)
    with pytest.raises(ValueError, match="none of 'group' c"):
        fit_targets(people[people["group"] != "c"], describe_targets(people, {"group": "multiclass"}, {}))


def test_check_parts_lists_what_each_part_lacks(people):
    described = describe_targets(people, {"score": "regression", "case": "binary"}, {})
    parts = {"train": people.iloc[:40], "validation": people.iloc[40:50], "test": people.iloc[50:]}
    check_parts(parts, described, "fold 0")
    parts["test"] = parts["test"].assign(case=0.0, score=1.0)
    parts["validation"] = parts["validation"].assign(score=np.nan)
    expected = (
        r"(?s)found: 3.*no value among the 10 validation.*same value for all 10 test.*nobody of class 1 among the test.*fold 0"
    )
    with pytest.raises(ValueError, match=expected):
        check_parts(parts, described, "fold 0")


def test_positive_class_is_the_second_of_a_binary_target_alone(people):
    assert [target.positive_class for target in fitted(people).targets] == [None, "1", None, None]

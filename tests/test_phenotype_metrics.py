"""Room under test: brainmt_align/evaluation/phenotype_metrics.py. Each metric equals scikit-learn's on repeated rows."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk

from brainmt_align.evaluation.phenotype_metrics import (
    LARGER_IS_BETTER,
    MAIN_METRIC,
    class_metrics,
    metrics_of,
    regression_metrics,
)

PEOPLE, WEIGHTINGS = 60, 12


def weights(seed=0, n=PEOPLE):
    """The first counts everybody once; the others draw with replacement."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=WEIGHTINGS - 1)
    return np.concatenate([np.ones((1, n), np.int64), drawn])


def probabilities(classes, seed=0, n=PEOPLE):
    """Observed classes and probabilities that know something of them, with ties."""
    rng = np.random.default_rng(seed)
    observed = rng.integers(classes, size=n)
    logits = np.round(rng.standard_normal((n, classes)) + 1.2 * (observed[:, None] == np.arange(classes)), 0)
    p = np.exp(logits)
    return observed, p / p.sum(1, keepdims=True)


def naive_calibration_error(true, promised):
    error = 0.0
    for low in range(10):
        inside = [i for i, p in enumerate(promised) if low <= p * 10 < low + 1 or (low == 9 and p == 1)]
        if inside:
            error += len(inside) / len(promised) * abs(np.mean(true[inside]) - np.mean(promised[inside]))
    return error


def class_oracle(observed, p):
    """What scikit-learn says of rows as they stand, every class among them."""
    classes = p.shape[1]
    chosen = p.argmax(1)
    binary = classes == 2
    one_hot = np.eye(classes)[observed]
    return {
        "accuracy": sk.accuracy_score(observed, chosen),
        "balanced_accuracy": sk.balanced_accuracy_score(observed, chosen),
        "auroc": sk.roc_auc_score(observed, p[:, 1] if binary else p, multi_class="ovr"),
        "auprc": sk.average_precision_score(observed if binary else one_hot, p[:, 1] if binary else p),
        "f1": sk.f1_score(observed, chosen, average="binary" if binary else "macro"),
        "brier": sk.brier_score_loss(observed, p[:, 1]) if binary else np.square(p - one_hot).sum(1).mean(),
        "log_loss": sk.log_loss(observed, p, labels=range(classes)),
        "calibration_error": naive_calibration_error(observed == 1, p[:, 1])
        if binary
        else naive_calibration_error(observed == chosen, p.max(1)),
        "mae_classes": np.abs(observed - chosen).mean(),
        "quadratic_kappa": sk.cohen_kappa_score(observed, chosen, weights="quadratic"),
    }


@pytest.mark.parametrize("decimals", [0, 8])
def test_regression_metrics_equal_those_of_the_repeated_rows(decimals):
    rng = np.random.default_rng(1)
    observed = np.round(50 + rng.standard_normal(PEOPLE), decimals)
    predicted = np.round(0.6 * observed + 20 + rng.standard_normal(PEOPLE), decimals)
    found = regression_metrics(observed, predicted, weights())
    for row, counts in enumerate(weights()):
        y, p = np.repeat(observed, counts), np.repeat(predicted, counts)
        expected = {
            "mae": sk.mean_absolute_error(y, p),
            "mse": sk.mean_squared_error(y, p),
            "r2": sk.r2_score(y, p),
            "pearson": pearsonr(y, p).statistic,
            "spearman": spearmanr(y, p).statistic,
        }
        assert {name: each[row] for name, each in found.items()} == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_class_metrics_equal_those_of_the_repeated_rows(classes):
    observed, p = probabilities(classes)
    found = class_metrics(observed, p, weights(2), ordinal=True)
    for row, counts in enumerate(weights(2)):
        expected = class_oracle(np.repeat(observed, counts), np.repeat(p, counts, axis=0))
        assert {name: each[row] for name, each in found.items()} == pytest.approx(expected, rel=1e-10)


def test_metrics_without_weights_are_those_of_every_row_once():
    observed, p = probabilities(3)
    once = class_metrics(observed, p, np.ones((1, PEOPLE)))
    assert {name: each.tolist() for name, each in class_metrics(observed, p).items()} == {
        name: each.tolist() for name, each in once.items()
    }


def test_regression_metrics_are_undefined_where_values_are_constant():
    found = regression_metrics([3.1, 3.1, 5.0], [1.0, 2.0, 2.0], [[1, 2, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]])
    assert np.isnan(found["r2"]).tolist() == [True, False, False, True]
    assert np.isnan(found["pearson"]).tolist() == np.isnan(found["spearman"]).tolist() == [True, True, False, True]
    assert np.isnan(found["mae"]).tolist() == [False, False, False, True]


def test_regression_r2_of_the_mean_is_zero_and_of_the_truth_one():
    y = np.random.default_rng(0).standard_normal(30)
    assert regression_metrics(y, np.full(30, y.mean()))["r2"] == pytest.approx(0, abs=1e-12)
    assert {name: each.item() for name, each in regression_metrics(y, y).items()} == pytest.approx(
        {"mae": 0, "mse": 0, "r2": 1, "pearson": 1, "spearman": 1}
    )


def test_class_metrics_are_undefined_where_one_class_alone_occurs():
    found = class_metrics([0, 0, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [[2, 1, 0], [0, 0, 3], [1, 1, 1], [0, 0, 0]])
    for name in ("balanced_accuracy", "auroc", "auprc"):
        assert np.isnan(found[name]).tolist() == [True, True, False, True]
    assert np.isnan(found["f1"]).tolist() == [True, False, False, True]
    assert np.isnan(found["accuracy"]).tolist() == [False, False, False, True]
    kappa = class_metrics([0, 0], [[0.9, 0.1], [0.8, 0.2]], ordinal=True)["quadratic_kappa"]
    assert np.isnan(kappa).all()


def test_class_metrics_average_over_the_classes_that_occur():
    observed, p = probabilities(3)
    four = np.column_stack([p, np.zeros(PEOPLE)])
    three, found = class_metrics(observed, p), class_metrics(observed, four)
    assert {name: each.item() for name, each in found.items()} == pytest.approx({name: e.item() for name, e in three.items()})


def test_class_metrics_of_an_impossible_truth_have_a_finite_log_loss():
    assert class_metrics([0, 1], [[0.0, 1.0], [0.0, 1.0]])["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps) / 2)


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 3), ("ordinal", 3), ("ordinal", 2)])
def test_metrics_of_gives_the_metrics_of_the_task(task, classes):
    found = metrics_of(task, *probabilities(classes))
    assert MAIN_METRIC[task] in found and set(found) <= set(LARGER_IS_BETTER)
    assert ("quadratic_kappa" in found) == (task == "ordinal")
    assert metrics_of("regression", [1.0, 2.0], [1.0, 2.0])["r2"] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics_of("ranking", [1.0], [1.0]), "one of the tasks regression, binary, multiclass, ordinal, got 'ranking'"),
        (lambda: metrics_of("binary", *probabilities(3)), "binary target: expected 2 classes, got 3 columns"),
        (lambda: metrics_of("multiclass", *probabilities(2)), "multiclass target: expected 3 or more classes, got 2 columns"),
        (lambda: regression_metrics([1.0, np.nan], [1.0, 1.0]), "finite observed values, got shape .2,. with 1 that are not"),
        (lambda: regression_metrics([1.0, 2.0], [1.0, np.inf]), "finite predicted values"),
        (lambda: regression_metrics([], []), "non-empty row"),
        (lambda: regression_metrics([1.0, 2.0], [1.0]), "one prediction for each of 2 observed values, got 1"),
        (lambda: regression_metrics([1.0, 2.0], [1.0, 2.0], [[1.0]]), r"weights \(R, 2\) of whole numbers"),
        (lambda: regression_metrics([1.0, 2.0], [1.0, 2.0], [[0.5, 1]]), "whole numbers of 0 or more"),
        (lambda: class_metrics([0, 1], [0.5, 0.5]), r"\(N, C\) probabilities of 2 or more classes, got"),
        (lambda: class_metrics([0, 2], [[0.5, 0.5]] * 2), r"class indices of 0 … 1, got int64 \[0, 2\]"),
        (lambda: class_metrics([0.0, 1.0], [[0.5, 0.5]] * 2), "class indices of 0 … 1, got float64"),
        (lambda: class_metrics([0, 1], [[1.5, -0.5]] * 2), "probabilities between 0 and 1 that sum to 1"),
        (lambda: class_metrics([0, 1], [[0.5, 0.4]] * 2), "with sums 0.9 … 0.9"),
        (lambda: class_metrics([0, 1], [[np.nan, 0.4]] * 2), "probabilities between 0 and 1"),
    ],
)
def test_metrics_refuse_what_they_cannot_speak_of(call, message):
    with pytest.raises(ValueError, match=message):
        call()

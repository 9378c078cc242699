"""Room under test: brainmt_align/evaluation/bootstrap.py. Intervals cover the truth, families move as one, rivals are paired."""

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import r2_score, roc_auc_score

from brainmt_align.evaluation.bootstrap import compare, delong, family_weights
from brainmt_align.evaluation.phenotype_metrics import regression_metrics

TRIALS = 200
WITHIN = binom.ppf([0.0005, 0.9995], TRIALS, 0.95) / TRIALS


def columns(scores):
    p = norm.cdf(scores)
    return np.column_stack([1 - p, p])


def test_family_weights_move_a_family_as_one_and_draw_as_many_families_as_there_are():
    groups = ["a", "b", "a", "c", "b", "d"]
    weights = family_weights(groups, 500, seed=3)
    assert weights.shape == (500, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    np.testing.assert_array_equal(weights[:, [0, 1, 3, 5]].sum(1), 4)
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)
    np.testing.assert_array_equal(weights, family_weights(groups, 500, seed=3))
    assert (weights != family_weights(groups, 500, seed=4)).any()


def test_compare_equals_a_loop_that_repeats_rows():
    rng = np.random.default_rng(0)
    groups = rng.integers(15, size=60)
    folds = np.array(["seed 0"] * 20 + ["seed 1"] * 40)
    observed = rng.standard_normal(60)
    ours, other = observed + rng.standard_normal(60), observed + 2 * rng.standard_normal(60)
    found = compare("regression", observed, {"ours": ours, "other": other}, folds, groups, "ours", resamples=300, seed=5)
    weights = family_weights(groups, 300, seed=5)

    def mean_r2(predicted, counts):
        each = []
        for fold in ("seed 0", "seed 1"):
            rows = np.repeat(np.flatnonzero(folds == fold), counts[folds == fold])
            each.append(r2_score(observed[rows], predicted[rows]))
        return np.mean(each)

    ones = np.ones(60, int)
    resampled = {name: [mean_r2(each, counts) for counts in weights] for name, each in (("ours", ours), ("other", other))}
    r2 = found.figures["ours"]["r2"]
    assert r2.value == pytest.approx(mean_r2(ours, ones)) and r2.undefined == 0
    assert (r2.low, r2.high) == pytest.approx(tuple(np.percentile(resampled["ours"], [2.5, 97.5])))
    leads = np.subtract(resampled["ours"], resampled["other"])
    lead = found.differences["other"]["r2"]
    assert lead.value == pytest.approx(mean_r2(ours, ones) - mean_r2(other, ones))
    assert (lead.low, lead.high) == pytest.approx(tuple(np.percentile(leads, [2.5, 97.5])))
    assert lead.p == pytest.approx(min(1, 2 * (1 + min((leads <= 0).sum(), (leads >= 0).sum())) / 301))
    assert set(found.differences) == {"other"} and set(found.figures) == {"ours", "other"}


def test_compare_does_not_depend_on_the_order_of_rows_or_the_size_of_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    observed = np.arange(50) % 2
    predictions = {"a": columns(rng.standard_normal(50) + observed), "b": columns(rng.standard_normal(50))}
    groups = np.repeat(np.arange(25), 2)
    whole = compare("binary", observed, predictions, [0] * 50, groups, "a", resamples=100)
    monkeypatch.setattr("brainmt_align.evaluation.bootstrap.BLOCK_NUMBERS", 128)
    blocks = compare("binary", observed, predictions, [0] * 50, groups, "a", resamples=100)
    for metric, figure in whole.figures["a"].items():
        assert blocks.figures["a"][metric] == pytest.approx(figure, nan_ok=True)
    assert blocks.differences["b"]["auroc"] == pytest.approx(whole.differences["b"]["auroc"])
    swap = np.arange(50).reshape(25, 2)[:, ::-1].ravel()
    swapped = compare(
        "binary", observed[swap], {n: p[swap] for n, p in predictions.items()}, [0] * 50, groups, "a", resamples=100
    )
    assert swapped.figures["a"]["auroc"] == pytest.approx(whole.figures["a"]["auroc"])


def test_compare_of_equal_rivals_finds_no_difference():
    rng = np.random.default_rng(2)
    observed, predicted = rng.standard_normal((2, 40))
    same = compare("regression", observed, {"a": predicted, "b": predicted.copy()}, [0] * 40, range(40), "a", resamples=200)
    assert all(each == (0, 0, 0, 0, 1) for each in same.differences["b"].values())


def test_compare_finds_a_planted_lead():
    rng = np.random.default_rng(3)
    observed = rng.standard_normal(150)
    predictions = {"good": observed + 0.5 * rng.standard_normal(150), "bad": observed + 1.5 * rng.standard_normal(150)}
    lead = compare("regression", observed, predictions, [0] * 150, range(150), "good", resamples=999).differences["bad"]["r2"]
    assert lead.p == pytest.approx(2 / 1000) and lead.low > 0


def test_compare_tells_how_often_a_metric_had_no_value():
    observed = np.array([0, 0, 0, 0, 1, 0, 1, 0, 1, 1])
    predictions = {"a": columns(np.linspace(-1, 1, 10))}
    found = compare("binary", observed, predictions, [0] * 5 + [1] * 5, range(10), "a", resamples=2000).figures["a"]
    # Fold 0 lacks its only case, or everybody else, or everyone; fold 1 all three cases, both controls, or everyone.
    weights = family_weights(range(10), 2000, 0)
    lacking = [(weights[:, fold][:, observed[fold] == one].sum(1) == 0) for fold in (slice(5), slice(5, 10)) for one in (0, 1)]
    expected = np.mean([lacking[0] | lacking[1], lacking[2] | lacking[3]])
    assert found["auroc"].undefined == pytest.approx(expected) and found["auroc"].undefined > 0.15
    assert np.isfinite(found["auroc"]).all()


def test_compare_has_no_value_where_a_fold_has_none():
    constant = compare("regression", [1.0, 2.0, 3.0, 4.0], {"mean": np.full(4, 2.0)}, [0] * 4, range(4), "mean", resamples=50)
    assert np.isnan(constant.figures["mean"]["pearson"][:3]).all() and constant.figures["mean"]["pearson"].undefined == 1
    rivals = {"mean": np.full(4, 2.0), "a": np.arange(4.0)}
    against = compare("regression", [1.0, 2.0, 3.0, 4.0], rivals, [0] * 4, range(4), "a", resamples=50).differences["mean"]
    assert np.isnan(against["pearson"].value) and np.isnan(against["pearson"].p) and np.isfinite(against["mse"].p)


def simulated_r2(rng, families, members):
    """Relatives share most of target and error; the predictor's R² among all people is 0.5."""
    shared = np.repeat(rng.standard_normal((2, families)), members, axis=1)
    own = rng.standard_normal((2, families * members))
    predicted, error = np.sqrt(0.7) * shared + np.sqrt(0.3) * own
    return predicted + error, predicted, np.repeat(np.arange(families), members)


def test_compare_covers_the_true_r2_as_often_as_it_says_and_too_seldom_when_families_are_torn():
    rng = np.random.default_rng(4)
    covered = {"families": 0, "rows": 0}
    for seed in range(TRIALS):
        observed, predicted, groups = simulated_r2(rng, families=80, members=3)
        for name, labels in (("families", groups), ("rows", np.arange(240))):
            r2 = compare("regression", observed, {"a": predicted}, [0] * 240, labels, "a", 300, seed).figures["a"]["r2"]
            covered[name] += r2.low <= 0.5 <= r2.high
    assert WITHIN[0] <= covered["families"] / TRIALS <= WITHIN[1]
    assert covered["rows"] / TRIALS < WITHIN[0]


def test_compare_covers_the_true_difference_of_auroc_and_not_when_rows_are_duplicated_unseen():
    rng = np.random.default_rng(5)
    truth = norm.cdf(1.2 / np.sqrt(2)) - norm.cdf(0.6 / np.sqrt(2))
    covered = {"families": 0, "rows": 0}
    for seed in range(TRIALS):
        observed = np.repeat(np.arange(120) % 2, 3)
        scores = [np.repeat(rng.standard_normal(120), 3) + lead * observed for lead in (1.2, 0.6)]
        predictions = {name: columns(each) for name, each in zip("ab", scores, strict=True)}
        for name, labels in (("families", np.repeat(np.arange(120), 3)), ("rows", np.arange(360))):
            lead = compare("binary", observed, predictions, [0] * 360, labels, "a", 300, seed).differences["b"]["auroc"]
            covered[name] += lead.low <= truth <= lead.high
    assert WITHIN[0] <= covered["families"] / TRIALS <= WITHIN[1]
    assert covered["rows"] / TRIALS < WITHIN[0]


def test_delong_equals_its_definition_over_all_pairs():
    rng = np.random.default_rng(6)
    observed = np.array([1] * 17 + [0] * 23)
    a, b = np.round(rng.standard_normal((2, 40)) + observed, 1)
    found = delong(observed, a, b)
    kernels = []
    for scores in (a, b):
        gap = scores[observed == 1][:, None] - scores[observed == 0]
        kernels.append((gap > 0) + 0.5 * (gap == 0))
    cases, controls = np.cov([k.mean(1) for k in kernels]), np.cov([k.mean(0) for k in kernels])
    covariance = cases / 17 + controls / 23
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert (found.auroc_a, found.auroc_b) == pytest.approx((roc_auc_score(observed, a), roc_auc_score(observed, b)))
    assert (found.low, found.high) == pytest.approx(
        (found.difference - 1.959964 * error, found.difference + 1.959964 * error), rel=1e-6
    )
    assert found.p == pytest.approx(2 * norm.sf(abs(found.difference) / error))
    swapped = delong(observed, b, a)
    assert (swapped.difference, swapped.p) == pytest.approx((-found.difference, found.p))


def test_delong_agrees_with_the_bootstrap_on_independent_people():
    rng = np.random.default_rng(7)
    observed = np.arange(400) % 2
    a, b = rng.standard_normal(400) + 1.0 * observed, rng.standard_normal(400) + 0.6 * observed
    analytic = delong(observed, a, b)
    drawn = compare("binary", observed, {"a": columns(a), "b": columns(b)}, [0] * 400, range(400), "a").differences["b"]["auroc"]
    assert drawn.value == pytest.approx(analytic.difference)
    assert (drawn.low, drawn.high) == pytest.approx((analytic.low, analytic.high), abs=0.006)


def test_delong_p_is_uniform_under_the_null():
    rng = np.random.default_rng(8)
    observed = np.arange(100) % 2
    p = [delong(observed, *(rng.standard_normal((2, 100)) + 0.8 * observed)).p for _ in range(400)]
    assert binom.ppf(0.0005, 400, 0.05) <= np.sum(np.array(p) <= 0.05) <= binom.ppf(0.9995, 400, 0.05)


def test_delong_of_scores_without_variance_tests_nothing():
    observed = np.array([0, 0, 1, 1])
    same = delong(observed, [1, 2, 3, 4], [1, 2, 3, 4])
    assert same[2:] == (0, 0, 0, 1)
    opposite = delong(observed, [1, 2, 3, 4], [4, 3, 2, 1])
    assert opposite.difference == 1 and np.isnan(opposite.p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: family_weights([], 5, 0), "a family for each of 1 people was expected, got 0 labels"),
        (lambda: family_weights(["a", None], 5, 0), "got 2 labels, 1 of them blank, first in row 1"),
        (lambda: family_weights(["a"], 0, 0), "1 resample or more, got 0"),
        (lambda: compare("regression", [1.0], {"a": [1.0]}, [0], [0], "b"), "a reference among the rivals a, got 'b'"),
        (lambda: compare("regression", [1.0], {"a": [1.0, 2.0]}, [0], [0], "a"), "each of 1 observed values, got 2 of a"),
        (lambda: compare("regression", [1.0], {"a": [1.0]}, [], [0], "a"), "got 0 of folds"),
        (lambda: delong([0, 1, 0, 1], [1, 2, 3, 4], [1, 2, 3]), "both scores of the same people, got 4 and 3"),
        (lambda: delong([0, 1, 0], [1, 2, 3, 4], [1, 2, 3, 4]), "two finite scores for each of 3 people, got 4 people"),
        (lambda: delong([0, 1, 0, 1], [1, 2, 3, np.nan], [1, 2, 3, 4]), "1 scores not finite"),
        (lambda: delong([0, 1, 0, 2], [1, 2, 3, 4], [1, 2, 3, 4]), r"classes 0 and 1 with at least 2 .* got \[0, 1, 2\]"),
        (lambda: delong([0, 1, 0, 0], [1, 2, 3, 4], [1, 2, 3, 4]), "with 3 and 1"),
    ],
)
def test_bootstrap_refuses_what_it_cannot_compare(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_compare_of_everyone_agrees_with_the_metrics_themselves():
    rng = np.random.default_rng(9)
    observed, predicted = rng.standard_normal((2, 30))
    found = compare("regression", observed, {"a": predicted}, [0] * 30, range(30), "a", resamples=10).figures["a"]
    assert {name: each.value for name, each in found.items()} == pytest.approx(
        {name: each.item() for name, each in regression_metrics(observed, predicted).items()}
    )

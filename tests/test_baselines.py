"""Room under test: brainmt_align/evaluation/baselines.py. Signal is recovered, noise scores chance, test rows are never seen."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from brainmt_align.evaluation import baselines
from brainmt_align.evaluation.baselines import Fold, constant_predictions, linear_predictions, permute_labels
from brainmt_align.evaluation.phenotype_metrics import metrics_of

TASKS = (("regression", 1), ("binary", 2), ("multiclass", 3), ("ordinal", 4))


@pytest.fixture(autouse=True)
def _warnings_are_errors_and_small_products_run_on_one_thread():
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("error")
        yield


def cohort(task, classes, seed=0, people=160, features=300, signal=1.0):
    """Families of two; features on three factors, equally telling in any number; the target follows the first factor."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((people, 3))
    loadings = np.linalg.qr(rng.standard_normal((features, 3)))[0].T
    x = 6 * factors @ loadings + rng.standard_normal((people, features))
    latent = signal * factors[:, 0] + 0.5 * rng.standard_normal(people)
    if task == "regression":
        y = 100 + 15 * latent
    else:
        y = np.searchsorted(np.quantile(latent, np.arange(1, classes) / classes), latent)
    groups = np.array([f"family {row // 2}" for row in range(people)])
    train = people * 3 // 8 * 2
    return x.astype(np.float32), y, Fold(np.arange(train), np.arange(train, people)), groups


@pytest.mark.parametrize(("task", "classes"), TASKS)
@pytest.mark.parametrize("features", [12, 300])
def test_linear_predictions_recover_a_planted_signal(task, classes, features):
    x, y, fold, groups = cohort(task, classes, features=features)
    predicted = linear_predictions(task, classes, x, y, fold, groups)
    assert predicted.shape == ((40,) if task == "regression" else (40, classes))
    metrics = metrics_of(task, y[fold.test_N], predicted)
    least = {"regression": ("r2", 0.6), "binary": ("auroc", 0.85), "multiclass": ("auroc", 0.75), "ordinal": ("auroc", 0.7)}[task]
    assert metrics[least[0]] > least[1]


@pytest.mark.parametrize(("task", "classes", "seeds"), [("regression", 1, 300), ("binary", 2, 100), ("multiclass", 3, 100)])
def test_linear_predictions_score_chance_on_permuted_labels(monkeypatch, task, classes, seeds):
    """Correlation and AUROC are symmetric around chance when nothing was learned; r2 then lies a little below 0."""
    monkeypatch.setattr(baselines, "LOGISTIC_PENALTIES_A", np.logspace(3, 0, 3))  # many seeds count for more here
    monkeypatch.setattr(baselines, "INNER_FOLDS", 3)
    scores, r2 = [], []
    for seed in range(seeds):
        x, y, fold, groups = cohort(task, classes, seed=seed, people=80, features=20)
        permuted = permute_labels(y, fold, groups, 1000 + seed)
        metrics = metrics_of(task, y[fold.test_N], linear_predictions(task, classes, x, permuted, fold, groups, seed=seed))
        scores.append(metrics["pearson" if task == "regression" else "auroc"].item())
        r2.append(metrics["r2"].item() if task == "regression" else -0.1)
    chance = 0.0 if task == "regression" else 0.5
    assert abs(np.mean(scores) - chance) < 4 * np.std(scores, ddof=1) / np.sqrt(seeds)
    assert -0.3 < np.mean(r2) < 0


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_linear_predictions_never_look_at_test_rows(task, classes):
    x, y, fold, groups = cohort(task, classes)
    covariates = np.random.default_rng(1).standard_normal((len(y), 2))
    expected = linear_predictions(task, classes, x, y, fold, groups, covariates)
    odd_y, odd_x, odd_covariates, one = y.copy(), x.copy(), covariates.copy(), fold.test_N[5]
    odd_y[fold.test_N] = odd_y[fold.test_N][::-1]
    others = np.setdiff1d(fold.test_N, one)
    odd_x[others], odd_covariates[others] = 1e6, -1e3
    found = linear_predictions(task, classes, odd_x, odd_y, fold, groups, odd_covariates)
    np.testing.assert_allclose(found[5], expected[5], rtol=1e-9)
    missing = np.full_like(y, -1) if task != "regression" else np.full_like(y, np.nan)
    missing[fold.train_N] = y[fold.train_N]
    np.testing.assert_array_equal(linear_predictions(task, classes, x, missing, fold, groups, covariates), expected)
    alone = Fold(fold.train_N, np.array([one]))
    np.testing.assert_allclose(linear_predictions(task, classes, x, y, alone, groups, covariates)[0], expected[5], rtol=1e-9)


def naive(task, classes, x, y, fold, seed):
    """Penalty by penalty and without a rotation, as scikit-learn's own folds give it."""
    mean, sd = x[fold.train_N].mean(0), x[fold.train_N].std(0)
    x = (x - mean) / sd / np.sqrt(x.shape[1])
    train, labels = x[fold.train_N], y[fold.train_N]
    numbers = fold.train_N // 2
    penalties = baselines.RIDGE_PENALTIES_A if task == "regression" else baselines.LOGISTIC_PENALTIES_A
    losses = []
    for penalty in penalties:
        loss = 0.0
        for fit, held in GroupKFold(5, shuffle=True, random_state=seed).split(train, groups=numbers):
            model = model_of(task, penalty).fit(train[fit], labels[fit])
            if task == "regression":
                loss += np.square(model.predict(train[held]) - labels[held]).sum()
            else:
                loss -= np.log(model.predict_proba(train[held])[np.arange(len(held)), labels[held]]).sum()
        losses.append(loss)
    model = model_of(task, penalties[np.argmin(losses)]).fit(train, labels)
    return model.predict(x[fold.test_N]) if task == "regression" else model.predict_proba(x[fold.test_N])


def model_of(task, penalty):
    return Ridge(penalty) if task == "regression" else LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=5000)


@pytest.mark.parametrize(("task", "classes"), TASKS[:3])
@pytest.mark.parametrize("features", [10, 100])
def test_linear_predictions_equal_a_naive_search_over_unrotated_features(task, classes, features):
    x, y, fold, groups = cohort(task, classes, people=80, features=features, signal=0.4)
    x = x.astype(np.float64)
    found = linear_predictions(task, classes, x, y, fold, groups, seed=3)
    np.testing.assert_allclose(found, naive(task, classes, x, y, fold, 3), rtol=2e-3, atol=1e-4)


def test_linear_predictions_leave_rows_without_a_target_out():
    x, y, fold, groups = cohort("regression", 1)
    without = y.copy()
    without[:40] = np.nan
    shorter = Fold(fold.train_N[40:], fold.test_N)
    expected = linear_predictions("regression", 1, x, y, shorter, groups)
    np.testing.assert_array_equal(linear_predictions("regression", 1, x, without, fold, groups), expected)
    x[3] = np.nan  # nobody's features are looked at without need
    np.testing.assert_array_equal(linear_predictions("regression", 1, x, without, fold, groups), expected)


def test_linear_predictions_on_covariates_lose_what_the_covariates_explain():
    rng = np.random.default_rng(2)
    age = rng.standard_normal(200)
    x = age[:, None] * rng.standard_normal(50) + rng.standard_normal((200, 50))
    fold, groups = Fold(np.arange(150), np.arange(150, 200)), np.arange(200)

    def r2(**options):
        return metrics_of("regression", age[150:], linear_predictions("regression", 1, x, age, fold, groups, **options))["r2"]

    assert r2() > 0.9
    assert r2(covariates_NK=age[:, None]) < 0.05
    assert r2(covariates_NK=np.column_stack([age, 2 * age, np.ones(200)])) < 0.05  # collinear ones do no harm
    assert r2(covariates_NK=rng.standard_normal((200, 1))) > 0.9


def test_linear_predictions_of_covariates_alone_work_on_one_column():
    rng = np.random.default_rng(3)
    age = rng.standard_normal((100, 1))
    y = 3 * age[:, 0] + 50
    found = linear_predictions("regression", 1, age, y, Fold(np.arange(80), np.arange(80, 100)), np.arange(100))
    np.testing.assert_allclose(found, y[80:], rtol=1e-3)


def test_linear_predictions_give_every_class_a_column_and_absent_ones_zero():
    x, y, fold, groups = cohort("multiclass", 3)
    found = linear_predictions("multiclass", 5, x, y + (y == 2), fold, groups)
    np.testing.assert_array_equal(found[:, [2, 4]], 0)
    np.testing.assert_allclose(found.sum(1), 1)


def test_linear_predictions_outlast_a_class_that_few_families_have():
    x, y, fold, groups = cohort("binary", 2)
    rare = np.zeros_like(y)
    rare[[0, 1, 8]] = 1
    assert linear_predictions("binary", 2, x, rare, fold, groups)[:, 1].mean() < 0.2
    rare[8] = 0  # one family alone: the fold that holds it out has nothing to fit
    assert np.isfinite(linear_predictions("binary", 2, x, rare, fold, groups)).all()


def test_linear_predictions_balanced_find_rare_classes():
    rng = np.random.default_rng(4)
    y = (rng.random(600) < 0.1).astype(int)
    x = rng.standard_normal((600, 5)) + 1.0 * y[:, None]
    fold, groups = Fold(np.arange(400), np.arange(400, 600)), np.arange(600)
    plain, balanced = (
        metrics_of("binary", y[400:], linear_predictions("binary", 2, x, y, fold, groups, balanced=each))
        for each in (False, True)
    )
    assert balanced["balanced_accuracy"] > plain["balanced_accuracy"] + 0.05
    assert balanced["auroc"] == pytest.approx(plain["auroc"], abs=0.03)


def test_linear_predictions_of_separable_classes_converge():
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1, 2, 3], 30)
    x = 20 * np.eye(4)[y] @ rng.standard_normal((4, 500)) + rng.standard_normal((120, 500))
    rows = rng.permutation(120)
    found = linear_predictions("multiclass", 4, x, y, Fold(rows[:90], rows[90:]), np.arange(120))
    assert metrics_of("multiclass", y[rows[90:]], found)["accuracy"] == 1


def test_constant_predictions_are_mean_and_shares_of_the_training_rows():
    fold = Fold(np.array([0, 1, 2, 3]), np.array([4, 5]))
    found = constant_predictions("regression", 1, np.array([1.0, 2, np.nan, 6, 100, 100]), fold)
    np.testing.assert_array_equal(found, [3, 3])
    shares = constant_predictions("multiclass", 4, np.array([0, 2, 2, -1, 1, 1]), fold)
    np.testing.assert_allclose(shares, [[1 / 3, 0, 2 / 3, 0]] * 2)


def test_permute_labels_moves_families_of_one_size_as_blocks_and_leaves_test_rows():
    groups = np.array(["a", "b", "a", "c", "c", "d", "e", "f", "f", "f", "t", "t"])
    y = np.arange(12.0)
    y[2] = np.nan
    fold = Fold(np.arange(10), np.array([10, 11]))
    seen = set()
    for seed in range(3000):
        permuted = permute_labels(y, fold, groups, seed)
        pairs = [frozenset(np.nan_to_num(permuted[rows], nan=-1)) for rows in ([0, 2], [3, 4])]
        assert set(pairs) == {frozenset([0, -1]), frozenset([3, 4])}
        assert sorted(permuted[[1, 5, 6]]) == [1, 5, 6] and sorted(permuted[7:10]) == [7, 8, 9]
        np.testing.assert_array_equal(permuted[10:], y[10:])
        seen.add(str(permuted))
    assert len(seen) == 2 * 2 * 2 * 6 * 6  # pairs and their members, single people, the triple's members
    np.testing.assert_array_equal(y[:2], [0, 1])
    np.testing.assert_array_equal(permute_labels(y, fold, groups, 3), permute_labels(y, fold, groups, 3))


def test_permute_labels_leave_nothing_of_the_order_within_families():
    groups = np.repeat(np.arange(20), 2)
    fold, y = Fold(np.arange(40), np.array([], int)), np.tile([-1.0, 1.0], 20)  # parents first, say
    kept = [np.mean(permute_labels(y, fold, groups, seed) * y) for seed in range(400)]
    assert abs(np.mean(kept)) < 3 * np.std(kept) / 20


def small(**changed):
    """A valid call of 8 people, changed."""
    values = {
        "task": "regression",
        "num_classes": 1,
        "features_NF": np.random.default_rng(0).standard_normal((8, 3)),
        "targets_N": np.arange(8.0),
        "fold": Fold(np.arange(6), np.arange(6, 8)),
        "groups_N": list("abcdefgh"),
    }
    return linear_predictions(**(values | changed))


HOLE = np.where(np.arange(24).reshape(8, 3) == 4, np.nan, np.arange(24).reshape(8, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small(task="rank"), "one of the tasks regression, binary, multiclass, ordinal was expected, got 'rank'"),
        (lambda: small(groups_N=list("abc")), "a family for each of 8 people was expected, got 3 labels"),
        (lambda: small(groups_N=[*"abcdefg", None]), "got 8 labels, 1 of them blank, first in row 7"),
        (lambda: small(groups_N=list("abcdefga")), "families on one side of the fold were expected, got a on both"),
        (lambda: small(groups_N=list("aaaaaabc")), r"2 families or more with a target were expected .* got 1 \(6 rows\)"),
        (lambda: small(targets_N=np.full(8, np.nan)), r"got 0 \(0 rows\)"),
        (lambda: small(targets_N=np.full(8, 3.0)), "two values or classes or more were expected to learn from, got 3.0 alone"),
        (lambda: small(task="binary", num_classes=2, targets_N=np.array([1] * 6 + [0] * 2)), "got 1 alone in 6 training rows"),
        (lambda: small(features_NF=np.ones((7, 3))), r"features \(8, 1 or more\) were expected, got \(7, 3\)"),
        (lambda: small(features_NF=HOLE), "finite features were expected, got nan in row 1, column 1"),
        (lambda: small(covariates_NK=HOLE), "finite covariates were expected, got nan in row 1, column 1"),
        (lambda: small(covariates_NK=np.ones(8)), r"covariates \(8, 1 or more\) were expected, got \(8,\)"),
        (lambda: small(features_NF=np.ones((8, 3))), "a feature that varies .* got 3 constant ones"),
        (
            lambda: small(features_NF=np.arange(8.0)[:, None], covariates_NK=np.arange(8.0)[:, None]),
            "that the covariates explain",
        ),
        (lambda: constant_predictions("rank", 1, np.ones(2), Fold([0], [1])), "one of the tasks"),
        (
            lambda: constant_predictions("binary", 2, np.array([-1, 1]), Fold([0], [1])),
            "with a target was expected, got none of 1",
        ),
        (lambda: permute_labels(np.ones(4), Fold([0, 1, 2], [3]), list("aabc"), 0), "two families of one size or more .* got 2"),
        (lambda: permute_labels(np.ones(4), Fold([0, 1, 2], [3]), list("abc"), 0), "each of 4 people was expected, got 3"),
    ],
)
def test_baselines_refuse_what_teaches_nothing(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Baselines: features, targets and one fold flow in; what linear and constant models predict for its test people flows out.

N people, F features, K covariates, A penalties, C classes.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from brainmt_align.evaluation.families import number_families, require_families
from brainmt_align.evaluation.permutation import exchangeable_blocks
from brainmt_align.evaluation.phenotype_metrics import MAIN_METRIC, SMALLEST_PROBABILITY
from brainmt_align.listing import some

INNER_FOLDS = 5
# Features are scaled so that a person's row has length 1 or so: a penalty then means the same whatever their number.
RIDGE_PENALTIES_A = np.logspace(-4, 6, 21)
LOGISTIC_PENALTIES_A = np.logspace(5, -2, 15)  # from the strongest on, each starts from the last one's solution
LOGISTIC_TOLERANCE, LOGISTIC_ITERATIONS = 1e-6, 20_000
# Thousands of products of a small matrix with a vector: threads wait for each other longer than they compute.
VALUES_WORTH_SHARING = 2**24
# What residualisation leaves of a feature that the covariates explain is rounding, not signal.
SMALLEST_SD_LEFT = 1e-6


class Fold(NamedTuple):
    """Row numbers of one fold; no family is on both sides."""

    train_N: np.ndarray  # rows that a baseline may learn from
    test_N: np.ndarray  # rows to predict


class _Prepared(NamedTuple):
    x_train: np.ndarray  # rows with a target, rotated
    x_test: np.ndarray
    y_train: np.ndarray
    families: np.ndarray  # of the training rows


def linear_predictions(
    task: str,
    num_classes: int,
    features_NF: np.ndarray,
    targets_N: np.ndarray,
    fold: Fold,
    groups_N: Sequence[Hashable],
    covariates_NK: np.ndarray | None = None,
    seed: int = 0,
    balanced: bool = False,
) -> np.ndarray:
    """Ridge regression, or L2-penalised logistic regression, with its penalty chosen within the training people.

    Nested cross-validation: 5 inner folds over the families of the training rows choose among penalties by squared error or log
    loss, and the winner is fitted to all of them. Test rows are only ever predicted. What is fitted without targets, the
    residualisation and the features' means and SDs, is fitted once on all training rows; so the inner folds share it. An inner
    fold that leaves one class alone to fit has no say in the choice; where all do, the strongest penalty is taken. An ordinal
    target is treated as one of several classes.

    Args:
        task: regression, binary, multiclass or ordinal.
        num_classes: C; 1 for regression.
        features_NF: (N, F); constant ones are left out.
        targets_N: (N,) float with NaN, or class index with -1, where missing; such rows are not learned from.
        fold: rows to learn from and rows to predict.
        groups_N: (N,) family of each row.
        covariates_NK: features are residualised on these and a constant by least squares of the training rows.
        seed: of the inner folds.
        balanced: classes weigh alike in fit and choice, as balanced accuracy counts them.

    Returns:
        (n_test,) in the target's unit, or (n_test, C) probabilities; 0 for a class that no training row has.

    Raises:
        ValueError: an unknown task, lengths that differ, families on both sides of the fold or without a label, fewer than 2
            families to learn from, features or covariates that are not finite or all constant, targets of one value or class.

    Reference:
        Varma and Simon 2006 (nested cross-validation); Hastie et al. 2009, section 3.4.1 and 18.3.5 (n rows of F features
        lie in n dimensions, and a penalty on the length of the weights does not see a rotation).
    """
    _check(task, targets_N, fold, groups_N, {"features": features_NF, "covariates": covariates_NK})
    data = _prepare(task, features_NF, targets_N, fold, groups_N, covariates_NK)
    if task == "regression":
        return _ridge(data, seed)
    weights_N = np.ones(len(data.y_train))
    if balanced:
        weights_N /= np.bincount(data.y_train)[data.y_train]
        weights_N /= weights_N.mean()
    return _logistic(data, weights_N, num_classes, seed)


def constant_predictions(task: str, num_classes: int, targets_N: np.ndarray, fold: Fold) -> np.ndarray:
    """The training rows' mean, or the share of each class among them, for everybody.

    Returns:
        (n_test,), or (n_test, C).

    Raises:
        ValueError: an unknown task, or no training row with a target.
    """
    targets_N = np.asarray(targets_N)
    _check_task(task)
    rows = _rows_with_target(task, targets_N, fold)
    if not rows.size:
        raise ValueError(
            f"Baseline: a training row with a target was expected, got none of {len(fold.train_N)}.\n"
            "  fix: leave this target out, or bring more people."
        )
    if task == "regression":
        return np.full(len(fold.test_N), targets_N[rows].mean())
    shares_C = np.bincount(targets_N[rows].astype(np.int64), minlength=num_classes) / len(rows)
    return np.tile(shares_C, (len(fold.test_N), 1))


def permute_labels(targets_N: np.ndarray, fold: Fold, groups_N: Sequence[Hashable], seed: int) -> np.ndarray:
    """Targets of the training rows dealt out anew, so that a model fitted to them knows nothing; test rows keep theirs.

    A family's targets move as a block to a family of the same size and are dealt to its members in any order, missing values
    included: with members in the order of their rows, what that order says (parents first) would survive and be learned. The
    means of families of one size do survive, and a family whose size no other has keeps its targets to itself.

    Returns:
        (N,) a copy.

    Raises:
        ValueError: lengths that differ, a row without a family, or no two families of one size among the training rows.

    Reference:
        Winkler et al. 2015 (exchangeability of whole blocks and within them).
    """
    targets_N = np.array(targets_N)
    _check_families(targets_N, fold, groups_N)
    train_N = np.asarray(fold.train_N)
    classes = exchangeable_blocks(len(train_N), [groups_N[row] for row in train_N])
    if all(len(blocks) < 2 for blocks in classes):
        raise ValueError(
            f"Permuted labels: two families of one size or more were expected among {len(train_N)} training rows, got "
            f"{len(classes)} families of different sizes.\n  fix: check the groups' labels, or bring more people."
        )
    rng = np.random.default_rng(seed)
    permuted_N = targets_N.copy()
    for blocks in classes:
        permuted_N[train_N[blocks]] = targets_N[train_N[rng.permuted(rng.permutation(blocks), axis=1)]]
    return permuted_N


def _prepare(task: str, features_NF, targets_N, fold: Fold, groups_N, covariates_NK) -> _Prepared:
    rows = _rows_with_target(task, np.asarray(targets_N), fold)
    y = np.asarray(targets_N)[rows]
    y = y.astype(np.float64) if task == "regression" else y.astype(np.int64)
    families = np.unique(number_families(groups_N)[rows], return_inverse=True)[1]
    if len(np.unique(families)) < 2:
        raise ValueError(
            f"Baseline: 2 families or more with a target were expected to learn from, got {len(np.unique(families))} "
            f"({len(rows)} rows).\n  fix: bring more people, or leave this target out."
        )
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"Baseline: targets of two values or classes or more were expected to learn from, got {y[0]} alone in {len(rows)} "
            "training rows.\n  fix: leave this target out of the fold, or fold by its classes."
        )
    x_train, x_test = _finite("features", features_NF, rows), _finite("features", features_NF, fold.test_N)
    spread_F = x_train.std(0)
    if covariates_NK is not None:
        design, design_test = (
            np.column_stack([np.ones(len(part)), _finite("covariates", covariates_NK, part)]) for part in (rows, fold.test_N)
        )
        coefficients = np.linalg.lstsq(design, x_train, rcond=None)[0]
        x_train, x_test = x_train - design @ coefficients, x_test - design_test @ coefficients
    return _Prepared(*_rotate(*_standardise(x_train, x_test, spread_F)), y, families)


def _standardise(x_train: np.ndarray, x_test: np.ndarray, spread_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and variance 1 / F a feature among the training rows, those that vary alone."""
    mean_F, sd_F = x_train.mean(0), x_train.std(0)
    largest_F = np.abs(x_train).max(0)
    varies_F = (sd_F > SMALLEST_SD_LEFT * spread_F) & (sd_F > 1e-12 * largest_F)
    if not varies_F.any():
        raise ValueError(
            f"Baseline: a feature that varies among the training rows was expected, got {len(varies_F)} constant ones (or ones "
            f"that the covariates explain) in {len(x_train)} rows.\n  fix: give other features, or fewer covariates."
        )
    scale_F = sd_F[varies_F] * np.sqrt(varies_F.sum())
    return tuple((x[:, varies_F] - mean_F[varies_F]) / scale_F for x in (x_train, x_test))


def _rotate(x_train: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """n rows of F > n features in n coordinates, exactly.

    With Xᵀ = Q R, weights that minimise a loss of X w plus a penalty on |w| lie in the rows' span (any part outside it costs
    length and changes no fitted value), so w = Q v with |w| = |v| and X w = Rᵀ v: the same problem in n unknowns. The same
    holds for any part of the rows, so that the inner folds may use the rotation as well. Test rows enter as x Q. Q R gives the
    same span as a singular value decomposition at a fraction of its time.
    """
    if x_train.shape[1] <= x_train.shape[0]:
        return x_train, x_test
    q, r = np.linalg.qr(x_train.T)
    return np.ascontiguousarray(r.T), x_test @ q


def _inner_folds(data: _Prepared, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit, rows held out), families whole."""
    count = min(INNER_FOLDS, len(np.unique(data.families)))
    return GroupKFold(count, shuffle=True, random_state=seed).split(data.x_train, groups=data.families)


def _ridge(data: _Prepared, seed: int) -> np.ndarray:
    errors_A = np.zeros(len(RIDGE_PENALTIES_A))
    for fit, held in _inner_folds(data, seed):
        # The target once a penalty: all of them share one decomposition.
        copies = np.tile(data.y_train[fit, None], (1, len(RIDGE_PENALTIES_A)))
        model = Ridge(RIDGE_PENALTIES_A, solver="svd").fit(data.x_train[fit], copies)
        errors_A += np.square(model.predict(data.x_train[held]) - data.y_train[held, None]).sum(0)
    best = RIDGE_PENALTIES_A[errors_A.argmin()]
    return Ridge(best, solver="svd").fit(data.x_train, data.y_train).predict(data.x_test)


def _logistic(data: _Prepared, weights_N: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    with threadpool_limits(1 if data.x_train.size < VALUES_WORTH_SHARING else None, user_api="blas"):
        return _search_logistic(data, weights_N, num_classes, seed)


def _search_logistic(data: _Prepared, weights_N: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    losses_A = np.zeros(len(LOGISTIC_PENALTIES_A))
    for fit, held in _inner_folds(data, seed):
        if len(np.unique(data.y_train[fit])) < 2:
            continue
        model = _logistic_model()
        for at, penalty in enumerate(LOGISTIC_PENALTIES_A):
            model.set_params(C=1 / penalty).fit(data.x_train[fit], data.y_train[fit], weights_N[fit])
            own_N = _all_classes(model, data.x_train[held], num_classes)[np.arange(len(held)), data.y_train[held]]
            losses_A[at] -= weights_N[held] @ np.log(np.maximum(own_N, SMALLEST_PROBABILITY))
    model = _logistic_model()
    for penalty in LOGISTIC_PENALTIES_A[: losses_A.argmin() + 1]:
        model.set_params(C=1 / penalty).fit(data.x_train, data.y_train, weights_N)
    return _all_classes(model, data.x_test, num_classes)


def _logistic_model() -> LogisticRegression:
    return LogisticRegression(tol=LOGISTIC_TOLERANCE, max_iter=LOGISTIC_ITERATIONS, warm_start=True)


def _all_classes(model: LogisticRegression, x: np.ndarray, num_classes: int) -> np.ndarray:
    probabilities_NC = np.zeros((len(x), num_classes))
    probabilities_NC[:, model.classes_] = model.predict_proba(x)
    return probabilities_NC


def _rows_with_target(task: str, targets_N: np.ndarray, fold: Fold) -> np.ndarray:
    train_N = np.asarray(fold.train_N, dtype=np.int64)
    targets = targets_N[train_N]
    return train_N[np.isfinite(targets) if task == "regression" else targets >= 0]


def _finite(name: str, values, rows) -> np.ndarray:
    """The rows as float64; only they are looked at."""
    taken = np.asarray(values)[rows].astype(np.float64)
    if not np.isfinite(taken).all():
        row, column = np.argwhere(~np.isfinite(taken))[0]
        raise ValueError(
            f"Baseline: finite {name} were expected, got {taken[row, column]} in row {rows[row]}, column {column}.\n"
            f"  fix: leave the person out, or fill the {name} in."
        )
    return taken


def _check_task(task: str) -> None:
    if task not in MAIN_METRIC:
        raise ValueError(
            f"Baseline: one of the tasks {', '.join(MAIN_METRIC)} was expected, got {task!r}.\n  fix: name the target's task."
        )


def _check(task: str, targets_N, fold: Fold, groups_N, tables: dict[str, np.ndarray | None]) -> None:
    _check_task(task)
    _check_families(targets_N, fold, groups_N)
    for name, table in tables.items():
        if table is not None and (np.ndim(table) != 2 or len(table) != len(targets_N) or not np.shape(table)[1]):
            raise ValueError(
                f"Baseline: {name} ({len(targets_N)}, 1 or more) were expected, got {np.shape(table)}.\n"
                f"  fix: bring {name} and targets into the same rows."
            )


def _check_families(targets_N, fold: Fold, groups_N) -> None:
    require_families("Baseline", groups_N, len(targets_N))
    both = {groups_N[row] for row in fold.train_N} & {groups_N[row] for row in fold.test_N}
    if both:
        raise ValueError(
            f"Baseline: families on one side of the fold were expected, got {some(sorted(map(str, both)))} on both.\n"
            "  fix: fold by families."
        )

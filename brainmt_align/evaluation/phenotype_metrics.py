"""Phenotype metrics: observed and predicted values of people, and how often each counts, flow in; arrays of metrics flow out.

R is the number of weightings (bootstrap resamples), N people, C classes, G groups of equal scores.
"""

from typing import NamedTuple

import numpy as np

LARGER_IS_BETTER = {
    "mae": False,
    "mse": False,
    "r2": True,
    "pearson": True,
    "spearman": True,
    "accuracy": True,
    "balanced_accuracy": True,
    "auroc": True,
    "auprc": True,
    "f1": True,
    "brier": False,
    "log_loss": False,
    "calibration_error": False,
    "mae_classes": False,
    "quadratic_kappa": True,
}
MAIN_METRIC = {"regression": "r2", "binary": "auroc", "multiclass": "balanced_accuracy", "ordinal": "balanced_accuracy"}

CALIBRATION_BINS = 10
SUM_TOLERANCE = 1e-3  # probabilities may come from a half-precision softmax
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


def metrics_of(task: str, observed_N, predicted, weights_RN=None) -> dict[str, np.ndarray]:
    """The metrics of a task: `regression_metrics` or `class_metrics`.

    Args:
        task: regression, binary, multiclass or ordinal.
        observed_N: as there.
        predicted: (N,) values for regression, otherwise (N, C) probabilities.
        weights_RN: as there.

    Raises:
        ValueError: another task, and what the task's own function complains of.
    """
    if task not in MAIN_METRIC:
        raise ValueError(
            f"Metrics: expected one of the tasks {', '.join(MAIN_METRIC)}, got {task!r}.\n  fix: name the target's task."
        )
    if task == "regression":
        return regression_metrics(observed_N, predicted, weights_RN)
    classes = np.shape(predicted)[-1] if np.ndim(predicted) else 0
    if (task == "binary") != (classes == 2) and task != "ordinal":
        raise ValueError(
            f"Metrics of a {task} target: expected {'2' if task == 'binary' else '3 or more'} classes, got {classes} columns.\n"
            "  fix: pass one probability a class, and the task that fits their number."
        )
    return class_metrics(observed_N, predicted, weights_RN, ordinal=task == "ordinal")


def regression_metrics(observed_N, predicted_N, weights_RN=None) -> dict[str, np.ndarray]:
    """Errors, explained variance and correlations; each is what it would be on the rows repeated as often as they weigh.

    r2 = 1 - Σ(y - ŷ)² / Σ(y - ȳ)² with the mean of the same rows: 0 for their mean, negative for worse. Spearman is Pearson of
    average ranks, ranked anew under every weighting.

    Args:
        observed_N: (N,) in the target's unit.
        predicted_N: (N,) in the same unit.
        weights_RN: (R, N) whole numbers of 0 or more; None: every row once, R = 1.

    Returns:
        mae (unit), mse (unit²), r2, pearson, spearman, each (R,) float64. NaN where undefined: no rows; r2 where the observed
        are constant, correlations where either is.

    Raises:
        ValueError: no rows, lengths that differ, values that are not finite, weights that are no counts.
    """
    observed_N, predicted_N = _numbers("observed", observed_N), _numbers("predicted", predicted_N)
    if predicted_N.shape != observed_N.shape:
        raise ValueError(
            f"Metrics: expected one prediction for each of {len(observed_N)} observed values, got {len(predicted_N)}.\n"
            "  fix: leave out the same rows on both sides."
        )
    weights_RN = _weights(weights_RN, len(observed_N))
    total_R = weights_RN.sum(1)
    errors_N = observed_N - predicted_N
    y, p = _deviations(weights_RN, total_R, observed_N), _deviations(weights_RN, total_R, predicted_N)
    ranked_y, y_constant_R = _midranks(weights_RN, total_R, observed_N)
    ranked_p, p_constant_R = _midranks(weights_RN, total_R, predicted_N)
    with np.errstate(divide="ignore", invalid="ignore"):
        mse_R = weights_RN @ np.square(errors_N) / total_R
        r2_R = 1 - mse_R * total_R / np.einsum("rn,rn,rn->r", weights_RN, y, y)
        return {
            "mae": weights_RN @ np.abs(errors_N) / total_R,
            "mse": mse_R,
            "r2": np.where(y_constant_R, np.nan, r2_R),
            "pearson": np.where(y_constant_R | p_constant_R, np.nan, _correlation(weights_RN, y, p)),
            "spearman": np.where(y_constant_R | p_constant_R, np.nan, _correlation(weights_RN, ranked_y, ranked_p)),
        }


def class_metrics(observed_N, probabilities_NC, weights_RN=None, ordinal: bool = False) -> dict[str, np.ndarray]:
    """Hits, ranking and calibration; each is what it would be on the rows repeated as often as they weigh.

    The predicted class is the most probable one, the first of equals. With two classes auroc, auprc, f1, brier and
    calibration_error speak of class 1. With more, auroc and auprc are means of one class against the rest over the classes that
    occur, f1 over those that occur or are predicted, balanced_accuracy over those that occur, brier is summed over classes, and
    calibration_error looks at the predicted class. auprc is the average precision, not interpolated.

    Args:
        observed_N: (N,) class index, 0 … C - 1.
        probabilities_NC: (N, C), rows sum to 1.
        weights_RN: (R, N) whole numbers of 0 or more; None: every row once, R = 1.
        ordinal: adds mae_classes (mean distance of predicted from observed index) and quadratic_kappa.

    Returns:
        accuracy, balanced_accuracy, auroc, auprc, f1, brier, log_loss (nats; probabilities of at least 2e-16),
        calibration_error (10 bins of equal width), each (R,) float64. NaN where undefined: no rows; balanced_accuracy, auroc and
        auprc where one class alone occurs; f1 where class 1 neither occurs nor is predicted; kappa where one class alone does
        both.

    Raises:
        ValueError: no rows, shapes that do not fit, no class indices, no probabilities, weights that are no counts.

    Reference:
        Brier 1950; Cohen 1968 (weighted kappa); Guo et al. 2017, equation 3 (expected calibration error).
    """
    observed_N, probabilities_NC = _classes(observed_N, probabilities_NC)
    weights_RN = _weights(weights_RN, len(observed_N))
    classes = probabilities_NC.shape[1]
    total_R = weights_RN.sum(1)
    chosen_N = probabilities_NC.argmax(1)
    is_class_NC = observed_N[:, None] == np.arange(classes)
    own_N = probabilities_NC[np.arange(len(observed_N)), observed_N]
    squares_NC = np.square(probabilities_NC - is_class_NC)
    brier_N = squares_NC[:, 1] if classes == 2 else squares_NC.sum(1)
    ranking = _ranking(weights_RN, probabilities_NC, is_class_NC)
    with np.errstate(divide="ignore", invalid="ignore"):
        metrics = {
            "accuracy": weights_RN @ (chosen_N == observed_N) / total_R,
            **_hits(weights_RN, is_class_NC, chosen_N),
            "auroc": ranking.auroc_R,
            "auprc": ranking.auprc_R,
            "brier": weights_RN @ brier_N / total_R,
            "log_loss": weights_RN @ -np.log(np.maximum(own_N, SMALLEST_PROBABILITY)) / total_R,
            "calibration_error": _calibration_gaps(weights_RN, probabilities_NC, observed_N, chosen_N) / total_R,
        }
        if ordinal:
            metrics["mae_classes"] = weights_RN @ np.abs(chosen_N - observed_N) / total_R
            metrics["quadratic_kappa"] = _quadratic_kappa(weights_RN, total_R, chosen_N, observed_N)
    return metrics


class _Ranking(NamedTuple):
    auroc_R: np.ndarray
    auprc_R: np.ndarray


def _ranking(weights_RN: np.ndarray, probabilities_NC: np.ndarray, is_class_NC: np.ndarray) -> _Ranking:
    classes = [1] if probabilities_NC.shape[1] == 2 else range(probabilities_NC.shape[1])
    each = [_ranking_of_class(weights_RN, probabilities_NC[:, one], is_class_NC[:, one]) for one in classes]
    return _Ranking(*(_mean_of_defined(np.stack(values, axis=1)) for values in zip(*each, strict=True)))


def _ranking_of_class(weights_RN: np.ndarray, score_N: np.ndarray, inside_N: np.ndarray) -> _Ranking:
    """One against the rest; equal scores count half in auroc and enter the precision together."""
    order, starts = _tie_groups(score_N)
    ordered_RN = weights_RN[:, order]
    all_RG = np.add.reduceat(ordered_RN, starts, axis=1)
    inside_RG = np.add.reduceat(ordered_RN * inside_N[order], starts, axis=1)
    outside_RG = all_RG - inside_RG
    inside_R, outside_R = inside_RG.sum(1), outside_RG.sum(1)
    below_RG = outside_RG.cumsum(1) - outside_RG
    inside_from_here_RG = inside_RG[:, ::-1].cumsum(1)[:, ::-1]
    all_from_here_RG = all_RG[:, ::-1].cumsum(1)[:, ::-1]
    precision_RG = inside_from_here_RG / np.maximum(all_from_here_RG, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc_R = (inside_RG * (below_RG + outside_RG / 2)).sum(1) / (inside_R * outside_R)
        auprc_R = (inside_RG * precision_RG).sum(1) / inside_R
    return _Ranking(auroc_R, np.where(outside_R == 0, np.nan, auprc_R))


def _hits(weights_RN: np.ndarray, is_class_NC: np.ndarray, chosen_N: np.ndarray) -> dict[str, np.ndarray]:
    """balanced_accuracy and f1 from counts a class."""
    chosen_NC = chosen_N[:, None] == np.arange(is_class_NC.shape[1])
    hits_RC = weights_RN @ (is_class_NC & chosen_NC)
    occur_RC, claimed_RC = weights_RN @ is_class_NC, weights_RN @ chosen_NC
    balanced_R = _mean_of_defined(hits_RC / occur_RC)
    f1_RC = 2 * hits_RC / (occur_RC + claimed_RC)
    several_R = (occur_RC > 0).sum(1) > 1
    return {
        "balanced_accuracy": np.where(several_R, balanced_R, np.nan),
        "f1": f1_RC[:, 1] if f1_RC.shape[1] == 2 else _mean_of_defined(f1_RC),
    }


def _calibration_gaps(weights_RN: np.ndarray, probabilities_NC: np.ndarray, observed_N: np.ndarray, chosen_N: np.ndarray):
    """(R,) sum over bins of |number that came true - number that was promised|."""
    if probabilities_NC.shape[1] == 2:
        promised_N, true_N = probabilities_NC[:, 1], observed_N == 1
    else:
        promised_N, true_N = probabilities_NC.max(1), observed_N == chosen_N
    bin_N = np.minimum((promised_N * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    in_bin = bin_N[:, None] == np.arange(CALIBRATION_BINS)
    return np.abs(weights_RN @ (in_bin * (true_N - promised_N)[:, None])).sum(1)


def _quadratic_kappa(weights_RN: np.ndarray, total_R: np.ndarray, chosen_N: np.ndarray, observed_N: np.ndarray) -> np.ndarray:
    """1 - Σ(a - b)² / its expectation when a and b are independent; whole numbers throughout, so 0 is exactly 0."""
    squares_R = weights_RN @ np.square(chosen_N - observed_N) * total_R
    both_R = weights_RN @ (np.square(chosen_N) + np.square(observed_N)) * total_R
    by_chance_R = both_R - 2 * (weights_RN @ chosen_N) * (weights_RN @ observed_N)
    return 1 - np.where(by_chance_R == 0, np.nan, squares_R / by_chance_R)


def _deviations(weights_RN: np.ndarray, total_R: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(R, N) values less their weighted mean; values are (N,) or (R, N)."""
    sums_R = weights_RN @ values if values.ndim == 1 else np.einsum("rn,rn->r", weights_RN, values)
    return values - (sums_R / np.maximum(total_R, 1))[:, None]


def _correlation(weights_RN: np.ndarray, a_RN: np.ndarray, b_RN: np.ndarray) -> np.ndarray:
    ab, aa, bb = (np.einsum("rn,rn,rn->r", weights_RN, x, y) for x, y in ((a_RN, b_RN), (a_RN, a_RN), (b_RN, b_RN)))
    return np.clip(ab / np.sqrt(aa) / np.sqrt(bb), -1, 1)


class _Midranks(NamedTuple):
    deviations_RN: np.ndarray  # from the mean rank
    constant_R: np.ndarray  # bool: fewer than two distinct values weigh anything


def _midranks(weights_RN: np.ndarray, total_R: np.ndarray, values_N: np.ndarray) -> _Midranks:
    """Average ranks among the repeated rows; sorted once for all weightings."""
    order, starts = _tie_groups(values_N)
    counts_RG = np.add.reduceat(weights_RN[:, order], starts, axis=1)
    ranks_RG = counts_RG.cumsum(1) - (counts_RG - 1) / 2
    group_N = np.empty(len(order), dtype=np.int64)
    group_N[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    deviations_RN = (ranks_RG - (total_R[:, None] + 1) / 2)[:, group_N]
    return _Midranks(deviations_RN, (counts_RG > 0).sum(1) < 2)


class _TieGroups(NamedTuple):
    order_N: np.ndarray  # rows by ascending value
    starts_G: np.ndarray  # where in that order a new value begins


def _tie_groups(values_N: np.ndarray) -> _TieGroups:
    order = np.argsort(values_N, kind="stable")
    return _TieGroups(order, np.flatnonzero(np.concatenate(([True], np.diff(values_N[order]) != 0))))


def _mean_of_defined(values_RC: np.ndarray) -> np.ndarray:
    defined_RC = ~np.isnan(values_RC)
    with np.errstate(invalid="ignore"):
        return np.where(defined_RC, values_RC, 0).sum(1) / defined_RC.sum(1)


def _numbers(name: str, values) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"Metrics: expected a non-empty row of finite {name} values, got shape {values.shape}"
            f" with {int((~np.isfinite(values)).sum())} that are not finite.\n  fix: leave out people without a value."
        )
    return values


def _classes(observed_N, probabilities_NC) -> tuple[np.ndarray, np.ndarray]:
    observed_N, probabilities_NC = np.asarray(observed_N), np.asarray(probabilities_NC, dtype=np.float64)
    if probabilities_NC.ndim != 2 or probabilities_NC.shape[1] < 2 or observed_N.shape != probabilities_NC.shape[:1]:
        raise ValueError(
            f"Metrics: expected (N,) class indices and (N, C) probabilities of 2 or more classes, got {observed_N.shape} and "
            f"{probabilities_NC.shape}.\n  fix: give the probability of every class; two columns for a binary target."
        )
    classes = probabilities_NC.shape[1]
    if not observed_N.size or observed_N.dtype.kind not in "iub" or observed_N.min() < 0 or observed_N.max() >= classes:
        raise ValueError(
            f"Metrics: expected one or more class indices of 0 … {classes - 1}, got {observed_N.dtype} "
            f"{np.unique(observed_N)[:5].tolist()}.\n  fix: code classes as whole numbers and leave out people without one."
        )
    if not ((probabilities_NC >= 0) & (probabilities_NC <= 1)).all() or (
        np.abs(probabilities_NC.sum(1) - 1).max() > SUM_TOLERANCE
    ):
        raise ValueError(
            f"Metrics: expected probabilities between 0 and 1 that sum to 1 a row, got {probabilities_NC.min():g} … "
            f"{probabilities_NC.max():g} with sums {probabilities_NC.sum(1).min():g} … {probabilities_NC.sum(1).max():g}.\n"
            "  fix: pass softmax or sigmoid outputs, not logits."
        )
    return observed_N.astype(np.int64), probabilities_NC


def _weights(weights_RN, n: int) -> np.ndarray:
    """(R, N) float64: sums of whole numbers stay exact up to 2⁵³."""
    if weights_RN is None:
        return np.ones((1, n))
    weights_RN = np.asarray(weights_RN, dtype=np.float64)
    if (
        weights_RN.ndim != 2
        or weights_RN.shape[1] != n
        or not ((weights_RN >= 0) & (weights_RN == np.floor(weights_RN)) & np.isfinite(weights_RN)).all()
    ):
        raise ValueError(
            f"Metrics: expected weights (R, {n}) of whole numbers of 0 or more, got shape {weights_RN.shape}.\n"
            "  fix: pass how often each row was drawn."
        )
    return weights_RN

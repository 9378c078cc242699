"""Bootstrap over families: predictions of rivals for the same people flow in; figures, differences and intervals flow out.

R resamples, N rows (a person in one fold), K folds, F families.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

from brainmt_align.evaluation.families import number_families, require_families
from brainmt_align.evaluation.phenotype_metrics import metrics_of

# Numbers of one block of resamples that are worked on at once: 2¹⁸ float64 stay in the processor's cache.
BLOCK_NUMBERS = 2**18
PERCENTILES = (2.5, 97.5)


class Interval(NamedTuple):
    """A figure with its 95 % percentile interval; NaN where undefined."""

    value: float
    low: float
    high: float
    undefined: float  # share of the resampled folds in which the metric had no value


class Difference(NamedTuple):
    """Reference minus rival, on the same resamples."""

    value: float
    low: float
    high: float
    undefined: float
    p: float  # two-sided


class Comparison(NamedTuple):
    """By rival and metric; the reference has figures and no difference."""

    figures: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Difference]]


class DeLong(NamedTuple):
    """Two AUROCs on the same independent people; difference = a - b with its 95 % interval."""

    auroc_a: float
    auroc_b: float
    difference: float
    low: float
    high: float
    p: float  # two-sided; NaN where the variance is 0 and the difference is not


def family_weights(groups_N: Sequence[Hashable], resamples: int, seed: int) -> np.ndarray:
    """How often each row counts when as many families as there are get drawn with replacement, rows of a family together.

    Args:
        groups_N: (N,) family of each row.
        resamples: R.
        seed: of the drawing.

    Returns:
        (R, N) int64.

    Raises:
        ValueError: no rows, a row without a family, or fewer than 1 resample.
    """
    family_N = _families(groups_N)
    return _family_counts(family_N, resamples, seed)[:, family_N]


def compare(
    task: str,
    observed_N,
    predictions: Mapping[str, np.ndarray],
    folds_N: Sequence[Hashable],
    groups_N: Sequence[Hashable],
    reference: str,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Every rival's metrics, and the reference's lead over every other, with intervals over families.

    A figure is the mean over folds of the fold's metric; it is undefined where one fold's is. A resample draws families once
    and weighs the rows of all folds by it, so that a person who stands in several folds (one a seed) counts alike in all of
    them. Where a resample leaves a fold's metric undefined (one class alone, say), it is the mean over the other folds;
    `undefined` tells how often. Differences are taken fold by fold on the same resamples.

    The intervals cover new families under these very models: how much another training would have changed is not in them,
    but for the folds and seeds that were averaged.

    Args:
        task: regression, binary, multiclass or ordinal.
        observed_N: (N,) as in `phenotype_metrics.metrics_of`.
        predictions: rival → (N,) or (N, C), rows as in observed_N.
        folds_N: (N,) label of the fold (seed and fold) that a row was tested in.
        groups_N: (N,) family of each row.
        reference: the rival whose lead over the others is told.
        resamples: R.
        seed: of the drawing.

    Returns:
        p = 2 · (1 + k) / (1 + R), at most 1, with k the smaller number of resamples on either side of 0, ties on both.

    Raises:
        ValueError: a reference that is no rival, lengths that differ, and what metrics and families complain of.

    Reference:
        Efron and Tibshirani 1993, chapters 13 and 16; Davison and Hinkley 1997, section 4.2 (the form of p), 3.8 (clusters).
    """
    observed_N = np.asarray(observed_N)
    predictions = {rival: np.asarray(each) for rival, each in predictions.items()}
    _check(observed_N, predictions, folds_N, groups_N, reference)
    family_N = _families(groups_N)
    counts_RF = _family_counts(family_N, resamples, seed)
    rows_of: dict[Hashable, list[int]] = {}
    for row, fold in enumerate(folds_N):
        rows_of.setdefault(fold, []).append(row)
    cells = {rival: {} for rival in predictions}
    for rows in map(np.array, rows_of.values()):
        for rival, predicted in predictions.items():
            metrics = _resampled(task, observed_N[rows], predicted[rows], counts_RF, family_N[rows])
            for metric, values in metrics.items():
                cells[rival].setdefault(metric, []).append(values)
    stacked = {rival: {metric: np.stack(folds) for metric, folds in each.items()} for rival, each in cells.items()}
    leads = {
        rival: {metric: stacked[reference][metric] - cells_KR for metric, cells_KR in each.items()}
        for rival, each in stacked.items()
        if rival != reference
    }
    return Comparison(
        {rival: {metric: _interval(cells_KR) for metric, cells_KR in each.items()} for rival, each in stacked.items()},
        {rival: {metric: _difference(cells_KR) for metric, cells_KR in each.items()} for rival, each in leads.items()},
    )


def delong(observed_N, scores_a_N, scores_b_N) -> DeLong:
    """Compare two AUROCs of the same people, where these are independent of each other; families need `compare`.

    Args:
        observed_N: (N,) 0 or 1.
        scores_a_N: (N,) higher for class 1.
        scores_b_N: (N,) of the rival.

    Raises:
        ValueError: other classes than 0 and 1, fewer than 2 people of either, lengths that differ, scores that are not finite.

    Reference:
        DeLong et al. 1988, equations 4 to 6; Sun and Xu 2014, equations 3 to 8 (from average ranks, without all pairs).
    """
    observed_N = np.asarray(observed_N)
    scores_2N = np.stack([np.asarray(scores_a_N, dtype=np.float64).ravel(), _same_length(scores_a_N, scores_b_N)])
    if scores_2N.shape[1:] != observed_N.shape or not np.isfinite(scores_2N).all():
        raise ValueError(
            f"DeLong: expected two finite scores for each of {observed_N.size} people, got {scores_2N.shape[1]} people, "
            f"{int((~np.isfinite(scores_2N)).sum())} scores not finite.\n  fix: leave out people without a score."
        )
    inside_N = observed_N == 1
    cases, controls = int(inside_N.sum()), int((observed_N == 0).sum())
    if cases + controls != observed_N.size or min(cases, controls) < 2:
        raise ValueError(
            f"DeLong: expected classes 0 and 1 with at least 2 people each, got {np.unique(observed_N)[:5].tolist()} with "
            f"{controls} and {cases}.\n  fix: code the classes as 0 and 1, and bring more people."
        )
    ranks_2N = rankdata(scores_2N, axis=1)
    above = (ranks_2N[:, inside_N] - rankdata(scores_2N[:, inside_N], axis=1)) / controls  # share of controls below a case
    below = 1 - (ranks_2N[:, ~inside_N] - rankdata(scores_2N[:, ~inside_N], axis=1)) / cases
    auroc_a, auroc_b = above.mean(1)
    difference = float(auroc_a - auroc_b)
    variance = np.var(above[0] - above[1], ddof=1) / cases + np.var(below[0] - below[1], ddof=1) / controls
    error = float(np.sqrt(variance))
    if error > 0:
        p = float(2 * norm.sf(abs(difference) / error))
    else:
        p = 1.0 if difference == 0 else float("nan")
    reach = float(norm.ppf(0.975)) * error
    return DeLong(float(auroc_a), float(auroc_b), difference, difference - reach, difference + reach, p)


def _same_length(scores_a_N, scores_b_N) -> np.ndarray:
    scores_b_N = np.asarray(scores_b_N, dtype=np.float64).ravel()
    if scores_b_N.size != np.size(scores_a_N):
        raise ValueError(
            f"DeLong: expected both scores of the same people, got {np.size(scores_a_N)} and {scores_b_N.size}.\n"
            "  fix: leave out the same people on both sides."
        )
    return scores_b_N


def _resampled(task: str, observed_N, predicted, counts_RF: np.ndarray, family_N: np.ndarray) -> dict[str, np.ndarray]:
    """metric → (1 + R,) of one fold: its own value, then each resample's."""
    blocks = [metrics_of(task, observed_N, predicted)]
    step = max(1, BLOCK_NUMBERS // len(observed_N))
    for start in range(0, len(counts_RF), step):
        blocks.append(metrics_of(task, observed_N, predicted, counts_RF[start : start + step][:, family_N]))
    return {metric: np.concatenate([block[metric] for block in blocks]) for metric in blocks[0]}


def _interval(cells: np.ndarray) -> Interval:
    """(K, 1 + R) values of one metric by fold → mean over folds and its percentiles."""
    defined_R, undefined = _resampled_means(cells)
    value = float(cells[:, 0].mean())  # NaN where some fold has none: an interval of the others would be another figure's
    known = defined_R.size and np.isfinite(value)
    low, high = np.percentile(defined_R, PERCENTILES) if known else (np.nan, np.nan)
    return Interval(value, float(low), float(high), undefined)


def _difference(cells: np.ndarray) -> Difference:
    defined_R, _ = _resampled_means(cells)
    # Sums of folds in floating point: equal rivals give exactly 0, so no slack is needed.
    least = min((defined_R <= 0).sum(), (defined_R >= 0).sum())
    interval = _interval(cells)
    p = float(min(1.0, 2 * (1 + least) / (1 + defined_R.size))) if np.isfinite(interval.low) else float("nan")
    return Difference(*interval, p)


def _resampled_means(cells: np.ndarray) -> tuple[np.ndarray, float]:
    """Means over the folds with a value, of the resamples that have any; and the share of cells without one."""
    resampled_KR = cells[:, 1:]
    defined_KR = ~np.isnan(resampled_KR)
    any_R = defined_KR.any(0)
    sums_R = np.where(defined_KR, resampled_KR, 0).sum(0)
    return sums_R[any_R] / defined_KR.sum(0)[any_R], float(1 - defined_KR.mean())


def _families(groups_N: Sequence[Hashable]) -> np.ndarray:
    """(N,) number of each row's family, in the order of their first rows, so that labels play no part in the drawing."""
    require_families("Bootstrap", groups_N, max(1, len(groups_N)))
    return number_families(groups_N)


def _family_counts(family_N: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R, F) how often each family is drawn."""
    if resamples < 1:
        raise ValueError(f"Bootstrap: expected 1 resample or more, got {resamples}.\n  fix: ask for 2000.")
    families = int(family_N.max()) + 1
    return np.random.default_rng(seed).multinomial(families, np.full(families, 1 / families), size=resamples)


def _check(observed_N, predictions, folds_N, groups_N, reference: str) -> None:
    if reference not in predictions:
        raise ValueError(
            f"Bootstrap: expected a reference among the rivals {', '.join(predictions)}, got {reference!r}.\n"
            "  fix: name one of them."
        )
    lengths = {"folds": len(folds_N), "groups": len(groups_N)} | {rival: len(each) for rival, each in predictions.items()}
    other = {name: length for name, length in lengths.items() if length != len(observed_N)}
    if other:
        got = ", ".join(f"{length} of {name}" for name, length in other.items())
        raise ValueError(
            f"Bootstrap: expected one row for each of {len(observed_N)} observed values, got {got}.\n"
            "  fix: bring every rival's predictions into the rows of the observed values."
        )

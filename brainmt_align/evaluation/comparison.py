"""Comparison: all rivals' predictions of the test people flow in; a target's entry of metrics.json and table flow out."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainmt_align.evaluation.bootstrap import Interval, compare, delong


class ScoredFold(NamedTuple):
    """What the test people of one fold really have, and what each rival said."""

    name: str  # such as seed0_fold0
    subject_ids: list[str]
    groups: list[Hashable]  # families
    observed_N: np.ndarray  # own unit, or class number; NaN where missing
    predictions: dict[str, np.ndarray]  # by rival: (N,) own unit, or (N, C) probabilities


class Pooled(NamedTuple):
    """The rows of all folds that have a value."""

    observed_N: np.ndarray
    folds_N: np.ndarray
    groups_N: np.ndarray
    predictions: dict[str, np.ndarray]


def pool(folds: Sequence[ScoredFold]) -> Pooled:
    """Rows of all folds, people without a value left out; rivals in the order of the first fold."""
    there = [np.isfinite(fold.observed_N) for fold in folds]
    rows = list(zip(folds, there, strict=True))
    return Pooled(
        np.concatenate([fold.observed_N[mask] for fold, mask in rows]),
        np.concatenate([np.repeat(fold.name, mask.sum()) for fold, mask in rows]),
        np.concatenate([np.array(fold.groups, dtype=object)[mask] for fold, mask in rows]),
        {rival: np.concatenate([fold.predictions[rival][mask] for fold, mask in rows]) for rival in folds[0].predictions},
    )


def compare_rivals(task: str, folds: Sequence[ScoredFold], reference: str, resamples: int, seed: int) -> dict[str, Any]:
    """Figures of every rival with intervals, and the paired differences from the reference.

    Args:
        task: "regression", "binary", "multiclass" or "ordinal".
        folds: tested on the same people by all rivals.
        reference: the rival that the others are subtracted from.
        resamples: of the bootstrap over families; see `bootstrap.compare`.
        seed: of the bootstrap.

    Returns:
        JSON-ready: task, n (people with a value), folds, reference, figures, differences; of a binary target scored in one fold
        among people of whom no two are of one family, DeLong's test beside the bootstrap. Undefined figures are None.
    """
    pooled = pool(folds)
    observed_N = pooled.observed_N if task == "regression" else pooled.observed_N.astype(int)
    compared = compare(
        task, observed_N, pooled.predictions, pooled.folds_N, pooled.groups_N, reference, resamples=resamples, seed=seed
    )
    differences = {
        rival: {metric: _shown(each) for metric, each in metrics.items()} for rival, metrics in compared.differences.items()
    }
    alone = len(folds) == 1 and len(set(pooled.groups_N)) == len(pooled.groups_N)
    if task == "binary" and alone and np.bincount(observed_N, minlength=2).min() >= 2:
        for rival, entry in differences.items():
            scores = (pooled.predictions[name][:, 1] for name in (reference, rival))
            entry["delong"] = {key: _number(value) for key, value in delong(observed_N, *scores)._asdict().items()}
    people = {
        subject for fold in folds for subject, value in zip(fold.subject_ids, fold.observed_N, strict=True) if np.isfinite(value)
    }
    return {
        "task": task,
        "unit": None,
        "n": len(people),
        "folds": len(folds),
        "resamples": resamples,
        "reference": reference,
        "figures": {
            rival: {metric: _shown(each) for metric, each in metrics.items()} for rival, metrics in compared.figures.items()
        },
        "differences": differences,
    }


def metrics_entry(compared: dict[str, Any]) -> dict[str, Any]:
    """A target's entry of metrics.json: the reference's bare figures, and under `comparison` all that `compare_rivals` told."""
    own = compared["figures"][compared["reference"]]
    return {metric: each["value"] for metric, each in own.items()} | {"comparison": compared}


def predictions_table(
    folds: Sequence[ScoredFold], classes: Sequence[str], value: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """One row a test person and fold: subject_id, fold, observed, and a column a rival (and class).

    Args:
        folds: of one target.
        classes: its labels; empty for a regression.
        value: the participants' own entry by subject id, as column `value`; None: no such column.
    """
    tables = []
    for fold in folds:
        columns: dict[str, Any] = {"subject_id": fold.subject_ids, "fold": fold.name}
        if value is not None:
            columns["value"] = [value[subject] for subject in fold.subject_ids]
        columns["observed"] = _labels(fold.observed_N, classes) if classes else fold.observed_N
        for rival, predicted in fold.predictions.items():
            if classes:
                columns |= {f"{rival}: p({label})": predicted[:, number] for number, label in enumerate(classes)}
            else:
                columns[rival] = predicted
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _labels(numbers_N: np.ndarray, classes: Sequence[str]) -> list[str | None]:
    return [classes[int(number)] if np.isfinite(number) else None for number in numbers_N]


def _shown(interval: Interval) -> dict[str, float | None]:
    return {key: _number(value) for key, value in interval._asdict().items() if value is not None}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

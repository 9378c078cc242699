"""Scoring: a trained model's predictions and the people's table flow in; their table, and the figures of new people, flow out.

N people, C classes.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainmt_align.data.targets import FittedTargets, TargetCoding
from brainmt_align.evaluation.comparison import ScoredFold, compare_rivals, metrics_entry, predictions_table

MODEL = "checkpoint"  # what the model is called in tables and figures


class Scores(NamedTuple):
    """What the predictions are worth."""

    entries: dict[str, dict[str, Any]]  # by target, for metrics.json; targets that nobody can be scored on are left out
    notes: list[str]  # why not


class KnownValues(NamedTuple):
    """What people really have."""

    observed_N: np.ndarray  # (N,) as `FittedTargets.observed` gives it, NaN where it is not known
    note: str | None  # why nobody can be scored, where that is so


def tabulate_predictions(
    people: pd.DataFrame, targets: FittedTargets, predicted: Mapping[str, np.ndarray], new_N: np.ndarray
) -> pd.DataFrame:
    """One row a person: subject_id, seen_in_training, and of each target its own column, where there is one, and the prediction.

    Args:
        people: subject_id and, where known, the targets' columns.
        targets: as the model's training people coded them.
        predicted: by target, (N,) in its own unit or (N, C) probabilities, of `FittedTargets.in_units`.
        new_N: (N,) bool: whom the model has not seen.
    """
    ids = people["subject_id"].tolist()
    table = {"subject_id": ids, "seen_in_training": ~new_N}
    for target in targets.targets:
        if target.name in people:
            table[f"{target.name} (observed)"] = people[target.name].tolist()
        whole = ScoredFold("all", ids, ids, np.full(len(ids), np.nan), {target.name: predicted[target.name]})
        rows = predictions_table([whole], target.classes).drop(columns=["subject_id", "fold", "observed"])
        table |= dict(rows.items())
    return pd.DataFrame(table)


def score_predictions(
    people: pd.DataFrame,
    targets: FittedTargets,
    predicted: Mapping[str, np.ndarray],
    families_N: Sequence[Hashable],
    new_N: np.ndarray,
    resamples: int,
    seed: int,
) -> Scores:
    """Score the predictions of people who are new to the model and have a value.

    Args:
        people, targets, predicted, new_N: see `tabulate_predictions`.
        families_N: family of each person, drawn together; a target with fewer than two people or families is left out.
        resamples: of the bootstrap over families.
        seed: of the bootstrap.
    """
    ids, entries, notes = people["subject_id"].tolist(), {}, []
    for target in targets.targets:
        observed_N, note = known_values(people, targets, target)
        notes += [note] if note else []
        rows = np.flatnonzero(np.isfinite(observed_N) & new_N)
        families = [families_N[row] for row in rows]
        if len(set(families)) < 2:
            continue
        scored = ScoredFold("all", [ids[row] for row in rows], families, observed_N[rows], {MODEL: predicted[target.name][rows]})
        compared = compare_rivals(target.task, [scored], MODEL, resamples, seed)
        freed_of = targets.covariates.names if targets.covariates and target.slopes else []
        compared |= {"residualised_on": freed_of, "planted": None, "positive_class": target.positive_class}
        entries[target.name] = metrics_entry(compared)
    return Scores(entries, notes)


def known_values(people: pd.DataFrame, targets: FittedTargets, target: TargetCoding) -> KnownValues:
    """What people really have of a target; predictions need none of it.

    A table without the target, without the covariates or with other classes costs the scores alone.
    """
    nothing_N = np.full(len(people), np.nan)
    if target.name not in people or people[target.name].isna().all():
        return KnownValues(nothing_N, None)
    try:
        return KnownValues(targets.observed(people, target), None)
    except ValueError as error:
        return KnownValues(nothing_N, f"{target.name} is predicted, but not scored: {error}")

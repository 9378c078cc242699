"""Target scores: coded folds and what models and rivals say of their test people flow in; every target's entry flows out."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainmt_align.data.coded_folds import CodedFold
from brainmt_align.data.phenotype_presets import unit_of
from brainmt_align.data.planted_phenotypes import planted_predictions, planted_targets, planted_truth
from brainmt_align.data.targets import TargetCoding
from brainmt_align.evaluation.comparison import ScoredFold, compare_rivals

ORACLE = "planted (oracle)"  # the rival that knows what a simulation planted

Said = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]


class ScoreSettings(NamedTuple):
    """How targets are scored.

    Attributes:
        reference: the model that all others are subtracted from.
        inputs: what it reads, "fmri", "dna" or "both"; the oracle knows the truth behind it.
        resamples, seed: of the bootstrap, see `compare_rivals`.
        residualise: covariates that the regressions' values were freed of.
        preset: of the participants' table, for units; None: no preset.
        truth: truth.json of a simulated cohort; None: nothing is known.
    """

    reference: str
    inputs: str
    resamples: int
    seed: int
    residualise: Sequence[str] = ()
    preset: str | None = None
    truth: str | Path | None = None


class ScoredTarget(NamedTuple):
    """One target: as the first fold codes it, its rows fold by fold, and its entry under `comparison` in metrics.json."""

    target: TargetCoding
    folds: list[ScoredFold]
    entry: dict[str, Any]

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds under the target's name: the reference's figures by metric, and the whole `comparison`."""
        figures = self.entry["figures"][self.entry["reference"]]
        return {metric: each["value"] for metric, each in figures.items()} | {"comparison": self.entry}


def score_targets(
    people: pd.DataFrame,
    families: Sequence[Hashable],
    folds: Sequence[CodedFold],
    said: Said,
    settings: ScoreSettings,
) -> list[ScoredTarget]:
    """Hold everything that was said of the test people against what they really have.

    Args:
        people: everybody, with subject_id and the targets' columns.
        families: a label a person.
        folds: with the targets as each codes them.
        said: by fold, target and model or rival, predictions of the test people in the order of `people`; the oracle is added.
        settings: how.

    Raises:
        FileNotFoundError, ValueError: what `planted_predictions`, `FittedTargets.observed` and `compare_rivals` complain of.
    """
    known = planted_targets(settings.truth) if settings.truth else []
    scored = []
    for number, target in enumerate(folds[0].targets.targets):
        truth = settings.truth if target.name in known else None
        rows = _score_folds(people, families, folds, number, said)
        rows = rows if truth is None else [_with_oracle(fold, truth, target, settings.inputs) for fold in rows]
        entry = compare_rivals(target.task, rows, settings.reference, settings.resamples, settings.seed)
        entry["positive_class"] = target.classes[1] if target.task == "binary" else None
        entry["unit"] = unit_of(settings.preset, target.name)
        entry["residualised_on"] = list(settings.residualise) if target.task == "regression" else []
        entry["planted"] = None if truth is None else planted_truth(truth, target.name, settings.inputs)
        scored.append(ScoredTarget(target, rows, entry))
    return scored


def _score_folds(
    people: pd.DataFrame, families: Sequence[Hashable], folds: Sequence[CodedFold], number: int, said: Said
) -> list[ScoredFold]:
    """Every fold's test people with what they really have of a target beside what was said of it."""
    family_of, scored = dict(zip(people["subject_id"], families, strict=True)), []
    for fold in folds:
        test, target = fold.rows(people, "test"), fold.targets.targets[number]
        ids, observed_N = test["subject_id"].tolist(), fold.targets.observed(test, target)
        groups = [family_of[subject] for subject in ids]
        scored.append(ScoredFold(fold.name, ids, groups, observed_N, dict(said[fold.name][target.name])))
    return scored


def _with_oracle(fold: ScoredFold, truth: str | Path, target: TargetCoding, inputs: str) -> ScoredFold:
    """The fold with the rival ORACLE, last."""
    oracle_N = planted_predictions(truth, fold.subject_ids, target.name, inputs, target.classes or None)
    return fold._replace(predictions={**fold.predictions, ORACLE: oracle_N})

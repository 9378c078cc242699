"""Targets: phenotype columns of the people table flow in; numbers to train on, coded by the training people alone, flow out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype

from brainmt_align.data.covariates import CovariateCoding, covariates_from_json, fit_covariates, regress_out
from brainmt_align.data.phenotype_presets import as_numbers, require_columns
from brainmt_align.listing import some

TASKS = ("regression", "binary", "multiclass", "ordinal")
MOST_CLASSES = 50


class EncodedTargets(NamedTuple):
    """What the loss reads: rows are people, columns targets."""

    values_NP: np.ndarray  # float32: z-scores of a regression, the class's number otherwise; NaN where missing
    weights_NP: np.ndarray  # float32: 0 where missing, else 1 or the class's weight


@dataclass(frozen=True)
class TargetCoding:
    """One target as the training people's values code it.

    Attributes:
        name: column.
        task: one of TASKS.
        classes: labels in their order; empty for a regression.
        mean, sd: of the training people's values (with `slopes`, of what the covariates leave), in the target's own unit.
        slopes: of the covariates, own unit a regressor; empty without residualisation.
        class_weights: a class; empty for a regression.
    """

    name: str
    task: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0
    slopes: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()

    @property
    def positive_class(self) -> str | None:
        """The second class of a binary target, whose probability scores are about."""
        return self.classes[1] if self.task == "binary" else None


@dataclass(frozen=True)
class FittedTargets:
    """All targets of a fold, and the covariates that regressions were freed of."""

    targets: tuple[TargetCoding, ...]
    covariates: CovariateCoding | None

    def observed(self, people: pd.DataFrame, target: TargetCoding) -> np.ndarray:
        """(N,) float64 as reports speak of it: own unit, freed of the covariates; or the class's number. NaN where missing.

        Raises:
            ValueError: an unknown column, text where numbers are due, an unknown class, a covariate without a value.
        """
        if target.task != "regression":
            return class_numbers(people, target.name, target.classes)
        values_N = as_numbers(people, target.name).to_numpy()
        return values_N - self.covariate_part(people, target)

    def covariate_part(self, people: pd.DataFrame, target: TargetCoding) -> np.ndarray:
        """(N,) what the covariates tell of a regression, own unit, 0 on the training people's average; 0 for classes."""
        if self.covariates is None or not target.slopes:
            return np.zeros(len(people))
        return self.covariates.encode(people) @ np.array(target.slopes)

    def encode(self, people: pd.DataFrame) -> EncodedTargets:
        """(N, P) values and weights; raises what `observed` does."""
        columns = [self.observed(people, target) for target in self.targets]
        values_NP = np.stack([(column - t.mean) / t.sd for column, t in zip(columns, self.targets, strict=True)], axis=1)
        weights_NP = np.isfinite(values_NP).astype(np.float32)
        for p, target in enumerate(self.targets):
            for number, weight in enumerate(target.class_weights):
                weights_NP[columns[p] == number, p] = weight
        return EncodedTargets(values_NP.astype(np.float32), weights_NP)

    def in_units(self, predictions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Predictions by target: z-scores of a regression → its own unit, freed of the covariates; probabilities as they are."""
        return {
            target.name: predictions[target.name] * target.sd + target.mean
            if target.task == "regression"
            else predictions[target.name]
            for target in self.targets
        }

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `targets_from_json` reads it."""
        return {
            "targets": [asdict(target) for target in self.targets],
            "covariates": self.covariates and self.covariates.to_json(),
        }


def targets_from_json(content: Mapping[str, Any]) -> FittedTargets:
    """The targets that `to_json` wrote."""
    tuples = ("classes", "slopes", "class_weights")
    codings = [TargetCoding(**{**each, **{key: tuple(each[key]) for key in tuples}}) for each in content["targets"]]
    return FittedTargets(tuple(codings), content["covariates"] and covariates_from_json(content["covariates"]))


def describe_targets(people: pd.DataFrame, tasks: Mapping[str, str], order: Mapping[str, Sequence]) -> tuple[TargetCoding, ...]:
    """Check the columns over the whole cohort and name their classes; nothing is fitted yet.

    Args:
        people: everybody, with subject_id.
        tasks: task by column.
        order: the labels by column in the order that an ordinal target wants, or that the others may be given; a target
            without an entry takes its labels sorted, numbers by size.

    Returns:
        One coding a target with its classes alone.

    Raises:
        ValueError: no target, an unknown task or column, text where numbers are due, a number of classes that does not fit the
            task, an ordinal target of words without an order, values outside the order.
    """
    if not tasks:
        raise ValueError(
            "Targets: at least one phenotype was expected, got none.\n  where: phenotype.targets\n"
            "  fix: name columns and tasks, such as phenotype.targets.fluid_intelligence=regression phenotype.targets.sex=binary."
        )
    unknown = {name: task for name, task in tasks.items() if task not in TASKS}
    if unknown:
        raise ValueError(
            f"Targets: tasks must be of {', '.join(TASKS)}; got {', '.join(f'{n}: {t}' for n, t in unknown.items())}.\n"
            "  where: phenotype.targets\n  fix: correct the task."
        )
    require_columns(people, list(tasks))
    if stray := sorted(order.keys() - tasks.keys()):
        raise ValueError(
            f"Targets: classes are given to targets, got classes of {', '.join(stray)}.\n  where: phenotype.classes\n"
            f"  fix: name one of {', '.join(tasks)}."
        )
    return tuple(_describe(people, name, task, order.get(name)) for name, task in tasks.items())


def fit_targets(
    training: pd.DataFrame,
    described: Sequence[TargetCoding],
    residualise: Sequence[str] = (),
    balanced: bool = True,
    missing_covariates: str = "error",
    categories: Sequence[str] = (),
) -> FittedTargets:
    """Learn means, SDs, class weights and covariates' slopes from the training people.

    Args:
        training: the fold's training people.
        described: from `describe_targets`.
        residualise: covariates that regressions are freed of; classes are left as they are.
        balanced: weight classes by n / (C n_c), so that each weighs alike in the loss; False: 1.
        missing_covariates: see `fit_covariates`.
        categories: see `fit_covariates`.

    Raises:
        ValueError: a target that is its own covariate, is all missing or constant, or lacks a class among the training people;
            covariates that tell a target completely.
    """
    if own := sorted({target.name for target in described if target.task == "regression"} & set(residualise)):
        raise ValueError(
            f"Targets: covariates other than the targets were expected, got {', '.join(own)} as both.\n"
            "  where: phenotype.residualise\n  fix: leave it out of one of them."
        )
    wanted = residualise and any(target.task == "regression" for target in described)
    covariates = fit_covariates(training, residualise, missing_covariates, categories) if wanted else None
    return FittedTargets(tuple(_fit(training, target, covariates, balanced) for target in described), covariates)


def check_parts(parts: Mapping[str, pd.DataFrame], described: Sequence[TargetCoding], where: str) -> None:
    """Refuse a fold in which something cannot be learnt, chosen by or scored; all faults listed.

    Args:
        parts: the people of "train", "validation" and "test".
        described: from `describe_targets`.
        where: the fold's name, for the message.

    Raises:
        ValueError: a part without any value of a target, a regression that is constant in training or test, a class that
            training or test lacks.
    """
    faults = []
    for part, people in parts.items():
        for target in described:
            present = people.loc[people[target.name].notna()]
            if present.empty:
                faults.append(f"{target.name}: no value among the {len(people)} {part} people")
            elif target.task == "regression":
                if part != "validation" and present[target.name].nunique() < 2:
                    faults.append(f"{target.name}: the same value for all {len(present)} {part} people who have one")
            elif part != "validation":
                found = set(class_numbers(present, target.name, target.classes).astype(int))
                absent = [label for number, label in enumerate(target.classes) if number not in found]
                faults += [f"{target.name}: nobody of class {', '.join(absent)} among the {part} people"] if absent else []
    if faults:
        raise ValueError(
            f"Targets: values to train, choose and score by were expected in every part; faults found: {len(faults)}\n  - "
            + "\n  - ".join(faults)
            + f"\n  where: {where}\n  fix: take fewer folds or larger parts, balance by split.strata, or drop the target."
        )


def class_numbers(people: pd.DataFrame, name: str, classes: Sequence[str]) -> np.ndarray:
    """(N,) float64 number of each person's class, from 0; NaN where missing.

    Raises:
        ValueError: an unknown column, labels that are none of `classes`.
    """
    require_columns(people, [name])
    labels = _labels(people[name])
    numbers = labels.map({label: float(number) for number, label in enumerate(classes)})
    strange = sorted(set(labels[labels.notna() & numbers.isna()]))
    if strange:
        raise ValueError(
            f"Targets: classes {', '.join(classes)} were expected in {name!r}, got {some(strange)}.\n"
            "  where: the participants table\n  fix: correct the values, or name all classes in phenotype.classes."
        )
    return numbers.to_numpy(dtype=np.float64)


def _describe(people: pd.DataFrame, name: str, task: str, order: Sequence | None) -> TargetCoding:
    if task == "regression":
        as_numbers(people, name)
        return TargetCoding(name, task)
    labels = _labels(people[name])
    found = sorted(set(labels.dropna()), key=_by_size)
    if order is None and task == "ordinal" and any(_number(label) is None for label in found):
        raise ValueError(
            f"Targets: an ordinal target of words needs an order, got none for {name!r} with {some(found)}.\n"
            f"  where: phenotype.classes\n  fix: set 'phenotype.classes.{name}=[lowest,…,highest]'."
        )
    classes = tuple(found if order is None else map(_label, order))
    expected = "2 classes" if task == "binary" else f"2 to {MOST_CLASSES} classes"
    if len(classes) < 2 or len(classes) > (2 if task == "binary" else MOST_CLASSES):
        raise ValueError(
            f"Targets: {expected} were expected of the {task} target {name!r}, got {len(classes)}: {some(classes)}.\n"
            "  where: phenotype.targets\n  fix: choose another task, or correct the column."
        )
    class_numbers(people, name, classes)
    return TargetCoding(name, task, classes)


def _fit(training: pd.DataFrame, target: TargetCoding, covariates: CovariateCoding | None, balanced: bool) -> TargetCoding:
    bare = FittedTargets((target,), None)
    values_N = bare.observed(training, target)
    there = np.isfinite(values_N)
    if not there.any():
        raise ValueError(
            f"Targets: values were expected among the {len(training)} training people, got none of {target.name!r}.\n"
            "  where: the training fold\n  fix: drop the target, or people without it."
        )
    if target.task != "regression":
        counts = np.bincount(values_N[there].astype(int), minlength=len(target.classes))
        if (counts == 0).any():
            absent = [label for label, count in zip(target.classes, counts, strict=True) if count == 0]
            raise ValueError(
                f"Targets: people of every class were expected for training, got none of {target.name!r} {', '.join(absent)}.\n"
                "  where: the training fold\n  fix: balance by split.strata, or drop the class."
            )
        weights = counts.sum() / (len(counts) * counts) if balanced else np.ones(len(counts))
        return replace(target, class_weights=tuple(map(float, weights)))
    if len(np.unique(values_N[there])) < 2:
        raise ValueError(
            f"Targets: values that differ were expected for training, got {values_N[there][0]:g} for all of {target.name!r}.\n"
            "  where: the training fold\n  fix: drop the target."
        )
    slopes = ()
    if covariates is not None:
        design_NK = covariates.encode(training)
        try:
            slopes = tuple(map(float, regress_out(values_N[there], design_NK[there])))
        except ValueError as error:
            raise ValueError(f"{error}\n  target: {target.name}") from error
        values_N = values_N - design_NK @ np.array(slopes)
    return replace(target, mean=float(values_N[there].mean()), sd=float(values_N[there].std()), slopes=slopes)


def _labels(values: pd.Series) -> pd.Series:
    """Classes as text: 1.0, which blanks make of 1, is 1."""
    return values.map(_label, na_action="ignore") if not is_bool_dtype(values) else values.astype(str)


def _label(value: Any) -> str:
    number = None if isinstance(value, (bool, str)) else _number(value)
    return f"{int(number)}" if number is not None and number.is_integer() else str(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _by_size(label: str) -> tuple:
    number = _number(label)
    return (number is None, number or 0.0, label)

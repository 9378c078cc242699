"""Rivals: stored runs, targets and folds flow in; what simple models say of every fold's test people flows out."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainmt_align.data.covariates import fit_covariates
from brainmt_align.data.splits import PARTS, Split
from brainmt_align.data.targets import FittedTargets, TargetCoding
from brainmt_align.evaluation import baselines

RIVALS = {
    "connectivity": "connectivity + linear",
    "with_covariates": "connectivity + covariates",
    "covariates": "covariates only",
    "mean": "mean of the training people",
    "permuted": "connectivity, permuted labels",
}


class RivalInputs(NamedTuple):
    """What the simple models see beside the targets.

    Attributes:
        wanted: some of "connectivity", "covariates", "mean", "permuted".
        edges_NF: connectivity of everybody; None: no scans are read.
        families: a label a person.
        covariates: columns for the rivals that see covariates.
        missing_covariates: see `fit_covariates`.
        categories: covariates that are categories though they are numbers.
        balanced: classes weigh alike.
    """

    wanted: Sequence[str]
    edges_NF: np.ndarray | None
    families: Sequence[Hashable]
    covariates: Sequence[str]
    missing_covariates: str
    categories: Sequence[str]
    balanced: bool


def describe_left_out(inputs: RivalInputs) -> list[str]:
    """A sentence on each kind of baseline that was asked for and cannot be made."""
    notes = []
    if inputs.edges_NF is None and {"connectivity", "permuted"} & set(inputs.wanted):
        notes.append("No scans are read: connectivity is left out of the comparison")
    if not inputs.covariates and "covariates" in inputs.wanted:
        notes.append("No covariates are named (evaluation.covariates=[age,sex]): their baselines are left out of the comparison")
    return notes


def predict_rivals(
    people: pd.DataFrame, folds: Mapping[str, tuple[Split, FittedTargets, int]], inputs: RivalInputs, progress: bool = True
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Every rival's predictions of every fold's test people; they learn from its training and validation people.

    Where a regression is freed of covariates, so are the features; "connectivity + covariates" is then the same and left out.
    Any other target may be told by the covariates as well, which the scan may show: there the rival sees both.

    Args:
        people: everybody, with subject_id.
        folds: by name, the split, the targets as its training people code them, and a seed.
        inputs: what the rivals see.
        progress: show a bar.

    Returns:
        By fold, target and rival: (n_test,) in the target's unit, or (n_test, C) probabilities.

    Raises:
        ValueError: as the baselines do, with the fold and the target.
    """
    predicted: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, (split, targets, seed) in tqdm(folds.items(), desc="baselines", unit="fold", disable=not progress):
        part = {each: np.flatnonzero(people["subject_id"].isin(getattr(split, each))) for each in PARTS}
        rows = baselines.Fold(np.concatenate([part["train"], part["validation"]]), part["test"])
        predicted[name] = {}
        for target in targets.targets:
            try:
                predicted[name][target.name] = _of_target(people, rows, targets, target, inputs, seed)
            except ValueError as error:
                raise ValueError(f"{error}\n  where: baselines of {target.name}, {name}") from error
    return predicted


def _of_target(
    people: pd.DataFrame, rows: baselines.Fold, targets: FittedTargets, target: TargetCoding, inputs: RivalInputs, seed: int
) -> dict[str, np.ndarray]:
    """The rivals of one target in one fold, by their names."""
    wanted, edges_NF, task, count = inputs.wanted, inputs.edges_NF, target.task, len(target.classes)
    values_N, freed = targets.observed(people, target), bool(target.slopes)
    if task != "regression":
        values_N = np.nan_to_num(values_N, nan=-1).astype(int)
    freed_of_NK = targets.covariates.encode(people) if freed and targets.covariates else None
    columns = [column for column in inputs.covariates if column != target.name]
    covariates_NK = None
    if columns:
        coding = fit_covariates(people.iloc[rows.train_N], columns, inputs.missing_covariates, inputs.categories)
        covariates_NK = coding.encode(people)

    def linear(features_NF: np.ndarray, values_N: np.ndarray = values_N, freed_of_NK: np.ndarray | None = None) -> np.ndarray:
        words: dict[str, Any] = {"seed": seed, "balanced": inputs.balanced, "covariates_NK": freed_of_NK}
        return baselines.linear_predictions(task, count, features_NF, values_N, rows, inputs.families, **words)

    makers: dict[str, Callable[[], np.ndarray]] = {}
    if edges_NF is not None and "connectivity" in wanted:
        makers["connectivity"] = lambda: linear(edges_NF, freed_of_NK=freed_of_NK)
    if edges_NF is not None and covariates_NK is not None and not freed and {"connectivity", "covariates"} <= set(wanted):
        makers["with_covariates"] = lambda: linear(_side_by_side(edges_NF, covariates_NK, rows))
    if covariates_NK is not None and "covariates" in wanted:
        varies = covariates_NK[rows.train_N].std(0).max() > 0
        constant = lambda: baselines.constant_predictions(task, count, values_N, rows)  # noqa: E731
        makers["covariates"] = (lambda: linear(covariates_NK)) if varies else constant
    if "mean" in wanted:
        makers["mean"] = lambda: baselines.constant_predictions(task, count, values_N, rows)
    if edges_NF is not None and "permuted" in wanted:
        shuffled_N = baselines.permute_labels(values_N, rows, inputs.families, seed)
        makers["permuted"] = lambda: linear(edges_NF, shuffled_N, freed_of_NK=freed_of_NK)
    return {RIVALS[name]: make() for name, make in makers.items()}


def _side_by_side(edges_NF: np.ndarray, covariates_NK: np.ndarray, rows: baselines.Fold) -> np.ndarray:
    """Edges and covariates, each covariate repeated until there are as many columns of either side.

    One penalty shrinks all standardised columns alike; m copies of a column are penalised like one at 1 / m, so that a few
    covariates are not drowned in thousands of edges.
    """
    varying_NK = covariates_NK[:, covariates_NK[rows.train_N].std(0) > 0]
    copies = max(1, edges_NF.shape[1] // max(1, varying_NK.shape[1]))
    return np.concatenate([edges_NF, np.tile(varying_NK, (1, copies)).astype(np.float32)], axis=1)

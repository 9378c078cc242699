"""Figures of one target: observed values and all rivals' predictions flow in; the plots that its task has flow out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from brainmt_align.reporting import phenotype_plots as plots

RIVALS_DRAWN = 5  # curves that can be told apart; a rival that says the same of everybody has none


def figures_of_target(
    name: str,
    task: str,
    classes: Sequence[str],
    observed_N: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    areas: Mapping[str, str],
) -> dict[str, Figure]:
    """The plots of a target by file stem; the first rival is the model whose predictions are drawn alone.

    Args:
        name: of the target.
        task: "regression": predicted, residuals; "binary": roc, calibration, confusion; other classes: confusion.
        classes: labels; empty for a regression.
        observed_N: of people who have a value: own unit, or class numbers.
        predictions: by rival, (N,) or (N, C).
        areas: text beside each rival's ROC curve, such as its area over folds.
    """
    first, model = next(iter(predictions.items()))
    if task == "regression":
        return {
            "predicted": plots.predicted_against_true(observed_N, model, f"{name}: {first}"),
            "residuals": plots.residuals(observed_N, model, f"{name}: {first}"),
        }
    observed_N = observed_N.astype(int)
    counts_CC = confusion_matrix(observed_N, model.argmax(1), labels=range(len(classes)))
    figures = {"confusion": plots.confusion(counts_CC, list(classes), f"{name}: {first}")}
    if task == "binary":
        scores = {rival: predicted[:, 1] for rival, predicted in predictions.items()}
        ranking = [rival for rival, score_N in scores.items() if rival == first or len(np.unique(score_N)) > 1][:RIVALS_DRAWN]
        sides = f"class 1 is {classes[1]}"
        curves, shown = ({rival: each[rival] for rival in ranking} for each in (scores, areas))
        figures["roc"] = plots.roc(observed_N, curves, f"{name}: {sides}", shown)
        figures["calibration"] = plots.calibration(observed_N, model[:, 1], f"{name}: {first}, {sides}")
    return figures

"""Products of a phenotype run: scored targets and finished fits flow in; tables, plots and words on them flow out."""

import re
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from brainmt_align.atomic import write_atomically
from brainmt_align.evaluation.comparison import pool, predictions_table
from brainmt_align.evaluation.target_scores import ScoredTarget
from brainmt_align.reporting.phenotype_figures import figures_of_target
from brainmt_align.reporting.phenotype_table import closing_verdict, comparison_table
from brainmt_align.reporting.plots import training_curve
from brainmt_align.training.checkpoints import read_description


def write_target(out: Path, scored: ScoredTarget, value: Mapping[str, Any], drawn: Collection[str]) -> None:
    """Leave predictions_<target>.csv and the target's plots in the run folder; print its table and verdict.

    Args:
        out: the run folder. Of the target's name, what a file name may not hold is an underscore there.
        scored: of `score_targets`.
        value: the participants' own entry by subject id.
        drawn: names of the folds whose people are drawn: of one seed's, so that everyone is drawn once.
    """
    target, folds, entry = scored
    stem = re.sub(r"[^\w.-]", "_", target.name)
    table = predictions_table(folds, target.classes, value)
    write_atomically(out / f"predictions_{stem}.csv", partial(table.to_csv, index=False))
    pooled = pool([fold for fold in folds if fold.name in drawn])
    areas = {rival: shown_area(each) for rival, each in entry["figures"].items()}
    figures = figures_of_target(target.name, target.task, target.classes, pooled.observed_N, pooled.predictions, areas)
    for name, figure in figures.items():
        write_atomically(out / f"{name}_{stem}.png", partial(figure.savefig, format="png", dpi=150))
    Console(width=None if sys.stdout.isatty() else 120).print(comparison_table(target.name, entry))
    print(closing_verdict(target.name, entry))


def write_fit(folder: Path) -> dict[str, Any]:
    """Leave training_curve.png in a finished fit's folder; returns the description of its best weights.

    Raises:
        FileNotFoundError, ValueError: no best.safetensors, or one that is not ours.
    """
    description = read_description(folder / "best.safetensors")
    epochs = pd.read_csv(folder / "epochs.csv")
    curve = training_curve(epochs, None, description["epoch"], folder.name, "loss, mean over targets")
    write_atomically(folder / "training_curve.png", partial(curve.savefig, format="png", dpi=150))
    return description


def shown_area(figures: Mapping[str, Mapping[str, float | None]]) -> str:
    """The area under the ROC curve as the figure shows it: the mean over folds, where the curve pools them."""
    area = figures.get("auroc", {}).get("value")
    return "AUROC n/a" if area is None else f"AUROC {area:.2f}"

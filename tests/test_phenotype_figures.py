"""Which plots a target has."""

import numpy as np
import pytest

from brainmt_align.reporting.phenotype_figures import figures_of_target

RNG = np.random.default_rng(0)
TRUTH = RNG.standard_normal(50)


def probabilities(classes: int) -> np.ndarray:
    return RNG.dirichlet(np.ones(classes), size=50)


@pytest.mark.parametrize(
    ("task", "classes", "stems"),
    [
        ("regression", [], {"predicted", "residuals"}),
        ("binary", ["control", "case"], {"confusion", "roc", "calibration"}),
        ("multiclass", ["a", "b", "c"], {"confusion"}),
        ("ordinal", ["low", "mid", "high"], {"confusion"}),
    ],
)
def test_figures_of_target_draws_what_the_task_has(task, classes, stems):
    if task == "regression":
        observed, rivals = TRUTH, {"model": TRUTH + 1, "rival": TRUTH * 0}
    else:
        observed, rivals = np.resize(np.arange(len(classes)), 50), {f"rival{n}": probabilities(len(classes)) for n in range(6)}
    areas = dict.fromkeys(rivals, "AUROC 0.50")
    figures = figures_of_target("trait", task, classes, observed.astype(float), rivals, areas)
    assert set(figures) == stems
    if task == "binary":
        roc = figures["roc"]
        legends = [each for each in (roc.axes[0].get_legend(), *roc.legends) if each is not None]
        drawn = " ".join(text.get_text() for legend in legends for text in legend.get_texts())
        assert "rival4" in drawn and "rival5" not in drawn and "AUROC 0.50" in drawn

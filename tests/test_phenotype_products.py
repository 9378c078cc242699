"""Products of a phenotype run: which files a target and a fit leave, and what is printed of them."""

import numpy as np
import pandas as pd
import pytest
from torch import nn

from brainmt_align.data.targets import TargetCoding
from brainmt_align.evaluation.comparison import ScoredFold, compare_rivals
from brainmt_align.evaluation.target_scores import ScoredTarget
from brainmt_align.reporting import phenotype_products
from brainmt_align.reporting.phenotype_products import shown_area, write_fit, write_target
from brainmt_align.training.checkpoints import save_weights


@pytest.fixture
def scored() -> ScoredTarget:
    rng, folds = np.random.default_rng(0), []
    for seed in (0, 1):
        observed_N = rng.standard_normal(30)
        said = {"model": observed_N + rng.standard_normal(30), "mean of the training people": np.zeros(30)}
        folds.append(ScoredFold(f"seed{seed}_fold0", [f"{row:02d}" for row in range(30)], list(range(30)), observed_N, said))
    entry = compare_rivals("regression", folds, "model", 100, 0) | {"residualised_on": [], "planted": None}
    return ScoredTarget(TargetCoding("grip (kg)/left", "regression"), folds, entry)


def test_write_target_leaves_a_table_of_all_folds_and_plots_of_those_that_are_drawn(scored, tmp_path, capsys, monkeypatch):
    drawn, original = [], phenotype_products.figures_of_target

    def figures_of_target(name, task, classes, observed_N, *rest):
        drawn.append(len(observed_N))
        return original(name, task, classes, observed_N, *rest)

    monkeypatch.setattr(phenotype_products, "figures_of_target", figures_of_target)
    write_target(tmp_path, scored, {f"{row:02d}": row for row in range(30)}, ["seed0_fold0"])
    stem = "grip__kg__left"
    names = {f"predictions_{stem}.csv", f"predicted_{stem}.png", f"residuals_{stem}.png"}
    assert {file.name for file in tmp_path.iterdir()} == names
    table = pd.read_csv(tmp_path / f"predictions_{stem}.csv")
    assert len(table) == 60 and table["value"].tolist() == [*range(30), *range(30)] and drawn == [30]
    said = capsys.readouterr().out
    assert "grip (kg)/left: regression, 30 test people" in said and "grip (kg)/left: model, r2" in said


def test_write_fit_leaves_a_curve_and_gives_the_best_weights_description(tmp_path):
    save_weights(tmp_path / "best.safetensors", nn.Linear(1, 1), {"epoch": 1, "inputs": "fmri"})
    rows = {"epoch": [0, 1], "loss_train": [1.0, 0.5], "loss_validation": [1.0, 0.9]}
    pd.DataFrame(rows).to_csv(tmp_path / "epochs.csv", index=False)
    assert write_fit(tmp_path) == {"epoch": 1, "inputs": "fmri"}
    assert (tmp_path / "training_curve.png").read_bytes().startswith(b"\x89PNG")


def test_write_fit_refuses_a_fit_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="got no file"):
        write_fit(tmp_path)


def test_shown_area_is_the_mean_over_folds_or_not_there():
    assert shown_area({"auroc": {"value": 0.456}}) == "AUROC 0.46"
    assert shown_area({"auroc": {"value": None}}) == shown_area({}) == "AUROC n/a"

"""Comparison: rows of folds put together, figures that follow from them, tables of predictions."""

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from brainmt_align.evaluation.comparison import ScoredFold, compare_rivals, metrics_entry, pool, predictions_table


def folds_of(task: str, families: bool = False) -> list[ScoredFold]:
    rng, folds = np.random.default_rng(0), []
    for number in range(2):
        ids = [f"{number}-{row}" for row in range(40)]
        truth_N = rng.standard_normal(40)
        observed_N = truth_N if task == "regression" else (truth_N > 0).astype(float)
        observed_N[3] = np.nan
        good_N, poor_N = truth_N + 0.5 * rng.standard_normal(40), rng.standard_normal(40)
        if task != "regression":
            good_N, poor_N = (np.stack([1 - p, p], axis=1) for p in (1 / (1 + np.exp(-good_N)), 1 / (1 + np.exp(-poor_N))))
        groups = [each.split("-")[0] + str(row // 2) if families else each for row, each in enumerate(ids)]
        folds.append(ScoredFold(f"seed0_fold{number}", ids, groups, observed_N, {"model": good_N, "rival": poor_N}))
    return folds


def test_pool_leaves_out_who_has_no_value():
    pooled = pool(folds_of("regression"))
    assert len(pooled.observed_N) == len(pooled.predictions["model"]) == len(pooled.groups_N) == 78
    assert np.isfinite(pooled.observed_N).all() and set(pooled.folds_N) == {"seed0_fold0", "seed0_fold1"}


def test_compare_rivals_averages_each_folds_own_figure_and_subtracts_rivals_from_the_reference():
    folds = folds_of("regression", families=True)
    entry = compare_rivals("regression", folds, "model", 200, 0)
    there = [np.isfinite(fold.observed_N) for fold in folds]
    expected = np.mean([r2_score(f.observed_N[m], f.predictions["model"][m]) for f, m in zip(folds, there, strict=True)])
    figure, difference = entry["figures"]["model"]["r2"], entry["differences"]["rival"]["r2"]
    assert figure["value"] == pytest.approx(expected)
    assert figure["low"] < figure["value"] < figure["high"]
    assert difference["value"] == pytest.approx(expected - entry["figures"]["rival"]["r2"]["value"])
    assert difference["low"] > 0 and difference["p"] < 0.05
    assert entry["n"] == 78 and entry["folds"] == 2 and "model" not in entry["differences"]


def test_compare_rivals_adds_delong_only_among_independent_people_of_one_fold():
    single = folds_of("binary")[:1]
    entry = compare_rivals("binary", single, "model", 200, 0)
    there = np.isfinite(single[0].observed_N)
    area = roc_auc_score(single[0].observed_N[there], single[0].predictions["model"][there, 1])
    assert entry["differences"]["rival"]["delong"]["auroc_a"] == pytest.approx(area)
    for folds in (folds_of("binary"), folds_of("binary", families=True)[:1]):
        assert "delong" not in compare_rivals("binary", folds, "model", 200, 0)["differences"]["rival"]


def test_compare_rivals_does_without_delong_where_a_class_has_one_person():
    fold = folds_of("binary")[0]
    observed_N = np.zeros(40)
    observed_N[0] = 1
    entry = compare_rivals("binary", [fold._replace(observed_N=observed_N)], "model", 100, 0)
    assert "delong" not in entry["differences"]["rival"]


def test_compare_rivals_is_json_ready_where_a_figure_is_undefined():
    fold = folds_of("regression")[0]
    entry = compare_rivals(
        "regression", [fold._replace(predictions={"model": np.zeros(40), "rival": np.ones(40)})], "model", 100, 0
    )
    assert entry["figures"]["model"]["pearson"]["value"] is None


def test_predictions_table_has_everybody_with_a_column_a_rival_and_class():
    table = predictions_table(folds_of("binary"), ["control", "case"])
    assert list(table) == [
        "subject_id",
        "fold",
        "observed",
        *(f"{r}: p({c})" for r in ("model", "rival") for c in ("control", "case")),
    ]
    assert len(table) == 80 and set(table["observed"].dropna()) == {"control", "case"} and table["observed"].isna().sum() == 2
    values = {each: 7.0 for fold in folds_of("regression") for each in fold.subject_ids}
    assert (predictions_table(folds_of("regression"), [], values)["value"] == 7).all()


def test_metrics_entry_has_the_references_bare_figures_beside_the_comparison():
    compared = compare_rivals("regression", folds_of("regression"), "model", 200, 0)
    entry = metrics_entry(compared)
    assert entry["comparison"] is compared and entry["r2"] == compared["figures"]["model"]["r2"]["value"]
    assert set(entry) == {*compared["figures"]["model"], "comparison"}

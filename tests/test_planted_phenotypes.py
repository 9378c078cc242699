"""Tests of the planted phenotypes' ceiling: a Gaussian population and a small cohort in, predictions and their figures out."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from brainmt_align.data import planted_phenotypes as planted_room
from brainmt_align.data.planted_phenotypes import planted_predictions, planted_targets, planted_truth
from brainmt_align.data.simulate import CohortParameters, write_cohort
from brainmt_align.data.simulated_parameters import PHENOTYPES

TINY = CohortParameters(
    people=12,
    seed=2,
    coupling=0.6,
    volume_shape=(10, 12, 8),
    frames=8,
    founder_haplotypes=200,
    age=True,
    sex=True,
    phenotypes=True,
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("simulated") / "planted", TINY, progress=False)


def truth_of(folder: Path) -> dict:
    return json.loads((folder / "truth.json").read_text())


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("thresholds", [[0.5], [-0.5, 1.2], [1.6]])
def test_planted_figures_equal_those_of_a_gaussian_population(share, thresholds):
    rng = np.random.default_rng(0)
    score = np.sqrt(share) * rng.standard_normal(200_000)
    classes = np.searchsorted(thresholds, score + np.sqrt(1 - share) * rng.standard_normal(200_000))
    probabilities = planted_room.class_probabilities(score, share, thresholds)
    figures = planted_room.planted_figures(share, 0.0, thresholds)
    asked = [1] if len(thresholds) == 1 else range(len(thresholds) + 1)
    auroc = np.mean([roc_auc_score(classes == c, probabilities[:, c]) for c in asked])
    assert figures["auroc"] == pytest.approx(auroc, abs=0.006)
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(classes, probabilities.argmax(1)), abs=0.006)
    # Calibrated: who is given a probability has the class as often.
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities.mean(axis=0), np.bincount(classes) / 200_000, atol=0.005)


def test_planted_figures_of_a_regression_are_its_shares():
    assert planted_room.planted_figures(0.5, 0.15, []) == {"r2": 0.5, "r2_residualised": pytest.approx(0.5 / 0.85)}
    assert planted_room.planted_figures(0.0, 1.0, []) == {"r2": 0.0}  # nothing is left to be explained
    assert planted_room.planted_figures(0.0, 0.0, [0.3])["auroc"] == pytest.approx(0.5)
    assert planted_room.planted_figures(1.0, 0.0, [0.3])["auroc"] == pytest.approx(1)


def test_planted_predictions_and_planted_truth_read_what_was_written(cohort):
    truth, path = truth_of(cohort), cohort / "truth.json"
    assert planted_targets(path) == list(PHENOTYPES)
    ids = ["0007", "0002", "0007"]
    x, d, g = (
        np.array([truth["people"][each]["phenotypes"]["cognition"][part] for each in ids])
        for part in ("brain", "direct", "brain_genetic")
    )
    points = planted_predictions(path, ids, "cognition")
    assert points.dtype == np.float64 and points.shape == (3,)
    np.testing.assert_allclose(points, 100 + 15 * np.sqrt(0.5) * x)
    both = planted_predictions(path, ids, "cognition", inputs="both")
    np.testing.assert_allclose(both, 100 + 15 * (np.sqrt(0.5) * x + np.sqrt(0.15) * d))
    dna = planted_predictions(path, ids, "cognition", inputs="dna")
    np.testing.assert_allclose(dna, 100 + 15 * (np.sqrt(0.5) * g + np.sqrt(0.15) * d))

    cases = planted_predictions(path, ids, "diagnosis")
    x = np.array([truth["people"][each]["phenotypes"]["diagnosis"]["brain"] for each in ids])
    chance = np.random.default_rng(0).standard_normal(400_000)
    naive = [(np.sqrt(0.5) * each + np.sqrt(0.5) * chance > ndtri(0.7)).mean() for each in x]
    np.testing.assert_allclose(cases, np.stack([1 - np.array(naive), naive], axis=1), atol=0.005)
    assert planted_predictions(path, ids, "severity").shape == (3, 3)
    np.testing.assert_array_equal(planted_predictions(path, ids, "diagnosis", classes=["case", "control"]), cases[:, ::-1])

    figures = planted_truth(path, "cognition")
    heritability = truth["phenotypes"]["cognition"]["heritability"]
    assert figures == {"r2": 0.5, "r2_residualised": pytest.approx(0.5 / 0.85), "heritability": heritability}
    assert planted_truth(path, "cognition", inputs="both")["r2"] == pytest.approx(0.65)
    assert planted_truth(path, "cognition", inputs="dna")["r2"] == pytest.approx(heritability)
    assert set(planted_truth(path, "severity")) == {"liability_r2", "auroc", "balanced_accuracy", "heritability"}


@pytest.mark.parametrize(
    "call", [planted_targets, lambda path: planted_truth(path, "x"), lambda path: planted_predictions(path, [], "x")]
)
def test_planted_readers_refuse_a_missing_truth(call, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"truth\.json of a simulated cohort was expected(.|\n)*nothing\.json\n  fix: correct"
    ):
        call(tmp_path / "nothing.json")


def test_planted_readers_refuse_targets_inputs_people_and_classes_that_are_not_there(cohort):
    path = cohort / "truth.json"
    with pytest.raises(
        ValueError, match=r"has cognition, diagnosis, severity, got 'height'\.\n  file: .*truth\.json\n  fix: name one"
    ):
        planted_truth(path, "height")
    with pytest.raises(ValueError, match=r"has cognition, diagnosis, severity, got 'height'"):
        planted_predictions(path, ["0001"], "height")
    with pytest.raises(ValueError, match=r"inputs must be one of fmri, dna, both, got 'eeg'(.|\n)*fix: name one"):
        planted_truth(path, "cognition", inputs="eeg")
    with pytest.raises(
        ValueError, match=r"such as 0001, 0002, 0003\), got 2 that are not: 9999, sub-0001(.|\n)*fix: give sample ids"
    ):
        planted_predictions(path, ["0001", "9999", "sub-0001"], "cognition")
    with pytest.raises(ValueError, match=r"classes of diagnosis are control, case, got ill, well(.|\n)*fix: name these labels"):
        planted_predictions(path, ["0001"], "diagnosis", classes=["ill", "well"])


def test_planted_readers_find_no_phenotype_where_none_was_simulated(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps({"people": {"0001": {}}}))
    assert planted_targets(tmp_path / "truth.json") == []
    with pytest.raises(ValueError, match=r"has none at all \(simulation\.phenotypes was off\), got 'cognition'"):
        planted_truth(tmp_path / "truth.json", "cognition")

"""Prediction of people: every window of every run counts, once a person, whatever the batch of windows."""

import numpy as np
import pytest
import torch
from torch import nn

from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.targets import FittedTargets, TargetCoding
from brainmt_align.evaluation.prediction import predict_people, prediction_loss, specify_targets
from brainmt_align.model.heads import TargetSpec

TARGETS = [TargetSpec("score", "regression", 0), TargetSpec("case", "binary", 2), TargetSpec("grade", "ordinal", 3)]


class MeanModel(nn.Module):
    """Stands in for a PhenotypeModel: all logits are the window's mean, or the genome's."""

    targets, dna = TARGETS, {}

    def __init__(self, scans=True):
        super().__init__()
        self.fmri = nn.Identity() if scans else None
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, bold_BTCDHW, dna):
        source = dna["caduceus"] if bold_BTCDHW is None else bold_BTCDHW.float()
        return source.flatten(1).mean(1, keepdim=True).expand(-1, 4) + self.shift


def people_of(runs):
    subjects = sorted(set(runs["subject_id"]))
    return runs.drop_duplicates("subject_id")[["subject_id"]].assign(sample_id=subjects)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_predict_people_averages_predictions_over_all_windows_of_all_runs(runs, at_once):
    dataset, model = PeopleDataset(people_of(runs), runs, {}, 8, 0), MeanModel().train()
    predicted = predict_people(model, dataset, torch.device("cpu"), windows_at_once=at_once)
    for person in (0, 3):
        means = [float(window.float().mean()) for window in dataset.windows_of(person)]
        np.testing.assert_allclose(predicted["score"][person], np.mean(means), rtol=1e-5)
        np.testing.assert_allclose(predicted["case"][person, 1], np.mean(1 / (1 + np.exp(-np.array(means)))), rtol=1e-5)
    assert predicted["grade"].shape == (6, 3) and model.training
    np.testing.assert_allclose(predicted["grade"].sum(1), 1, rtol=1e-6)


def test_predict_people_reads_genomes_alone(runs, sample_features):
    people = people_of(runs).assign(sample_id=lambda table: table["subject_id"])
    dataset = PeopleDataset(people, None, {"caduceus": sample_features}, 8, 0)
    predicted = predict_people(MeanModel(scans=False), dataset, torch.device("cpu"))
    np.testing.assert_allclose(predicted["score"], people["subject_id"].astype(float))


def test_prediction_loss_is_squared_error_and_log_likelihood_of_those_with_a_value():
    predictions = {
        "score": np.array([1.0, 5.0, 0.0]),
        "case": np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]),
        "grade": np.array([[0.1, 0.2, 0.7], [1, 0, 0], [0, 0, 1.0]]),
    }
    values_NP = np.array([[2.0, 1, 2], [np.nan, np.nan, 0], [0.5, 0, np.nan]])
    expected = np.mean([(1 + 0.25) / 2, -np.mean(np.log([0.8, 0.9])), -np.mean(np.log([0.7, 1]))])
    weights_NP = np.isfinite(values_NP).astype(float)
    assert prediction_loss(predictions, values_NP, weights_NP, TARGETS) == pytest.approx(expected)
    weights_NP[0, 1] = 3
    weighted = np.mean([(1 + 0.25) / 2, -np.average(np.log([0.8, 0.9]), weights=[3, 1]), -np.mean(np.log([0.7, 1]))])
    assert prediction_loss(predictions, values_NP, weights_NP, TARGETS) == pytest.approx(weighted)


def test_specify_targets_tells_name_task_and_number_of_classes():
    codings = (TargetCoding("score", "regression"), TargetCoding("grade", "ordinal", ("low", "mid", "high")))
    assert specify_targets(FittedTargets(codings, None)) == [
        TargetSpec("score", "regression", 0), TargetSpec("grade", "ordinal", 3),
    ]  # fmt: skip

"""Predicting people: a trained PhenotypeModel and a dataset flow in, one prediction a person and target flows out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.targets import FittedTargets
from brainmt_align.evaluation.embedding import evaluating, gather_in_turn
from brainmt_align.model.heads import TargetSpec, predictions_of
from brainmt_align.model.phenotype import PhenotypeModel

LEAST_PROBABILITY = 1e-7


def specify_targets(targets: FittedTargets) -> list[TargetSpec]:
    """What heads and losses must know of the targets."""
    return [TargetSpec(target.name, target.task, len(target.classes)) for target in targets.targets]


@torch.no_grad()
def predict_people(
    model: PhenotypeModel,
    dataset: PeopleDataset,
    device: torch.device,
    process: int = 0,
    num_processes: int = 1,
    windows_at_once: int = 8,
    progress: str | None = None,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, np.ndarray]:
    """One prediction a person and target; every person is predicted exactly once, whatever the number of processes.

    A person's prediction is the mean over the windows that cover all runs: of z-scores, or of class probabilities. The model is
    left in the mode it came in.

    Args:
        model: unwrapped, on `device`.
        dataset: the people.
        device: where the model lives.
        process: index of this process; people are dealt out in turn.
        num_processes: how many share the work; all of them must call.
        windows_at_once: windows in one forward pass.
        progress: title of a progress bar; None for no bar.
        autocast: makes the context that the networks run in, for mixed precision.

    Returns:
        By target, in the order of the dataset's people and the same on every process: (N,) float64 z-scores of a regression,
        (N, C) probabilities of classes.
    """
    mine = range(process, len(dataset), num_processes)
    with evaluating(model):
        people = tqdm(mine, desc=progress, unit="person", disable=progress is None)
        rows = [_predict_person(model, dataset, person, device, windows_at_once, autocast) for person in people]
    widths = [1 if target.task == "regression" else target.classes for target in model.targets]
    told = torch.stack(rows) if rows else torch.zeros((0, sum(widths)), device=device)
    gathered = gather_in_turn(told, len(dataset), num_processes).double().numpy()
    columns = np.split(gathered, np.cumsum(widths)[:-1], axis=1)
    return {
        target.name: column[:, 0] if target.task == "regression" else column
        for target, column in zip(model.targets, columns, strict=True)
    }


def prediction_loss(
    predictions: Mapping[str, np.ndarray], values_NP: np.ndarray, weights_NP: np.ndarray, targets: Sequence[TargetSpec]
) -> float:
    """What chooses a checkpoint: squared error of z-scores, or negative log-likelihood of the class in nats, a target.

    Args:
        predictions: from `predict_people`.
        values_NP: z-scores or class numbers, NaN where missing.
        weights_NP: as in training, 0 where missing.
        targets: in the order of the columns.

    Returns:
        The mean over the targets of each one's weighted mean over the people who have a value.
    """
    losses, columns = [], (np.asarray(each, dtype=np.float64).T for each in (values_NP, weights_NP))
    for target, values_N, weights_N in zip(targets, *columns, strict=True):
        there = np.isfinite(values_N)
        predicted, weights = predictions[target.name][there], weights_N[there]
        if target.task == "regression":
            losses.append(np.average((predicted - values_N[there]) ** 2, weights=weights))
        else:
            of_class = predicted[np.arange(len(predicted)), values_N[there].astype(int)]
            losses.append(-np.average(np.log(np.clip(of_class, LEAST_PROBABILITY, None)), weights=weights))
    return float(np.mean(losses))


def _predict_person(
    model: PhenotypeModel, dataset: PeopleDataset, person: int, device: torch.device, at_once: int, autocast
) -> Tensor:
    """Mean over windows of z-scores and probabilities side by side: (1 a regression, C a target of classes)."""
    dna = {name: rows[None].to(device) for name, rows in dataset.dna_of(person).items()}
    parts = []
    for bold_BTCDHW in _windows(dataset, person, at_once, model.fmri is not None):
        count = 1 if bold_BTCDHW is None else len(bold_BTCDHW)
        repeated = {name: rows.expand(count, *rows.shape[1:]) for name, rows in dna.items()}
        with autocast():
            logits_BO = model(None if bold_BTCDHW is None else bold_BTCDHW.to(device), repeated)
        predicted = predictions_of(logits_BO.float(), model.targets)
        parts.append(torch.cat([each.reshape(count, -1) for each in predicted.values()], dim=1))
    return torch.cat(parts).mean(0)


def _windows(dataset: PeopleDataset, person: int, at_once: int, scans: bool) -> Iterator[Tensor | None]:
    """Windows (B, T, C, D, H, W), a few at a time in memory; one None where no scan is read."""
    if not scans:
        yield None
        return
    windows = dataset.windows_of(person)
    while some := list(islice(windows, at_once)):
        yield torch.stack(some)

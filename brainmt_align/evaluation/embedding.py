"""Embedding people: a trained AlignmentModel and a dataset flow in, one unit-norm row a person and modality flows out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.evaluation.metrics import recall_at_k
from brainmt_align.evaluation.ranks import rank_both_ways
from brainmt_align.model.alignment import AlignmentModel
from brainmt_align.training.distributed import gather_with_grad


class PeopleEmbeddings(NamedTuple):
    """Rows in the order of the dataset's people, on the CPU; `dna_BE` by the name of the DNA encoder."""

    fmri_BE: Tensor
    dna_BE: dict[str, Tensor]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the mode it came in afterwards, whatever happens."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def embed_people(
    model: AlignmentModel,
    dataset: PeopleDataset,
    device: torch.device,
    process: int = 0,
    num_processes: int = 1,
    windows_at_once: int = 8,
    progress: str | None = None,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> PeopleEmbeddings:
    """One fMRI and one DNA embedding a person; every person is embedded exactly once, whatever the number of processes.

    A scan's embedding is the mean of its windows' unit-norm embeddings, brought back to unit norm; the windows cover every run
    of the person. The model is left in the mode it came in.

    Args:
        model: unwrapped, on `device`.
        dataset: the people to embed.
        device: where the model lives.
        process: index of this process; people are dealt out in turn.
        num_processes: how many share the work; all of them must call.
        windows_at_once: windows in one forward pass; as many as a training batch fits holds.
        progress: title of a progress bar; None for no bar.
        autocast: makes the context that the networks run in, for mixed precision.

    Returns:
        The same rows on every process.
    """
    mine = range(process, len(dataset), num_processes)
    fmri, dna = [], {name: [] for name in dataset.dna}
    with evaluating(model):
        for person in tqdm(mine, desc=progress, unit="person", disable=progress is None):
            fmri.append(_embed_scan(model, dataset.windows_of(person), device, windows_at_once, autocast))
            for name, features_RHD in dataset.dna_of(person).items():
                with autocast():
                    dna[name].append(model.embed_dna(name, features_RHD[None].to(device))[0])
    width = next(model.fmri.projector.parameters()).new_zeros((0, model.fmri.projector.layers[-1].normalized_shape[0]))

    def gathered(rows: list[Tensor]) -> Tensor:
        return gather_in_turn(torch.stack(rows) if rows else width, len(dataset), num_processes)

    return PeopleEmbeddings(gathered(fmri), {name: gathered(rows) for name, rows in dna.items()})


def gather_in_turn(rows: Tensor, count: int, num_processes: int) -> Tensor:
    """Rows of people who were dealt out in turn, (n, …) on each process → (count, …) in the people's order, on the CPU."""
    order = torch.cat([torch.arange(each, count, num_processes) for each in range(num_processes)]).argsort()
    return gather_with_grad(rows).cpu()[order]


def summarise(embeddings: PeopleEmbeddings, k: int = 5) -> dict[str, float | None]:
    """`mean_rank` and `recall@k` averaged over both directions and all DNA encoders, to watch a training by.

    The mean rank moves with every person's rank, where recall among few people moves in steps: choose checkpoints by it.

    Args:
        embeddings: of at least one person.
        k: how many candidates recall looks at; None is returned where it takes in everyone.
    """
    ranks = [rank_both_ways(embeddings.fmri_BE, dna_BE) for dna_BE in embeddings.dna_BE.values()]
    recalls = [recall_at_k(each.fmri_to_dna, k, each.ties_fmri_to_dna) for each in ranks]
    recalls += [recall_at_k(each.dna_to_fmri, k, each.ties_dna_to_fmri) for each in ranks]
    mean_rank = float(np.mean([(each.fmri_to_dna, each.dna_to_fmri) for each in ranks]))
    return {"mean_rank": mean_rank, f"recall@{k}": None if None in recalls else float(np.mean(recalls))}


def _embed_scan(model: AlignmentModel, windows: Iterator[Tensor], device: torch.device, at_once: int, autocast) -> Tensor:
    """Windows (T, C, D, H, W) of one person, a few at a time in memory → (E,)."""
    rows = []
    while some := list(islice(windows, at_once)):
        window_BTCDHW = torch.stack(some).to(device)
        with autocast():
            rows.append(model.embed_fmri(window_BTCDHW))
    return F.normalize(torch.cat(rows).mean(0), dim=-1)

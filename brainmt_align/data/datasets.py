"""Datasets: cohort rows and the two stores flow in, samples and batches of BOLD windows and region embeddings flow out."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from brainmt_align.data.bold_store import open_run
from brainmt_align.data.stored_dna import DNAStore
from brainmt_align.limits import complain

FEW_PEOPLE = 16  # features standardised over a batch of 2 are ±1 whatever they were; the noise shrinks slowly with more


class PeopleBatch(NamedTuple):
    """Windows and genomes of the same people, row by row."""

    bold_BTCDHW: Tensor  # (B, 0) of people without scans
    dna: dict[str, Tensor]  # (B, R, H, D) by the name of the DNA encoder
    person_B: Tensor  # rows of the people table


class EpochIndex(NamedTuple):
    """What a sampler hands to a dataset: which person, in which epoch."""

    epoch: int
    person: int


def covering_windows(num_frames: int, window: int) -> list[tuple[int, int]]:
    """The deterministic windows that cover a run: back to back, the last one flush with the end.

    Args:
        num_frames: T of the run, at least `window`.
        window: frames a window.

    Returns:
        (start, frames) pairs, 0-based.

    Raises:
        ValueError: the run is shorter than a window.
    """
    if num_frames < window:
        raise ValueError(
            f"A run must hold at least one window of {window} frames, got {num_frames} frames.\n"
            f"  where: the windows that cover a run\n  fix: set train.window={num_frames} or drop the run."
        )
    starts = list(range(0, num_frames - window + 1, window))
    if starts[-1] + window < num_frames:
        starts.append(num_frames - window)
    return [(start, window) for start in starts]


class PeopleDataset(Dataset):
    """People with scans, genomes or both; an item is one window of one run and the person's region embeddings.

    A training window is drawn from (seed, epoch, subject id) alone, so that neither the number of processes nor that of loader
    workers changes what is seen.

    Args:
        people: one row a person: subject_id, sample_id.
        runs: one row a run: subject_id, store_path; every person has at least one. None: nobody's scans are looked at.
        dna: stores of region embeddings by the name of their encoder; none where no genome is looked at.
        window: frames a window.
        seed: of the random windows.
    """

    def __init__(self, people: pd.DataFrame, runs: pd.DataFrame | None, dna: dict[str, DNAStore], window: int, seed: int):
        self.people, self.window, self.seed = people.reset_index(drop=True), window, seed
        paths = {} if runs is None else runs.groupby("subject_id", sort=False)["store_path"].agg(list)
        self.paths = [[] if runs is None else paths[subject] for subject in self.people["subject_id"]]
        self.subject_keys = [_stable_integer(subject) for subject in self.people["subject_id"]]
        self.dna = dna

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, index: EpochIndex) -> tuple[Tensor, dict[str, Tensor], int]:
        """One random window: ((T, C, D, H, W) float16 or float32, or (0,) without scans; encoder → (R, H, D); person)."""
        paths = self.paths[index.person]
        if not paths:
            return torch.empty(0), self.dna_of(index.person), index.person
        rng = np.random.default_rng([self.seed, index.epoch, self.subject_keys[index.person]])
        run = open_run(paths[rng.integers(len(paths))])
        start = int(rng.integers(run.num_frames - self.window + 1))
        return run.volume(start, self.window), self.dna_of(index.person), index.person

    def dna_of(self, person: int) -> dict[str, Tensor]:
        """Encoder → (R, H, D) of one person."""
        if not self.dna:
            return {}
        sample = [self.people["sample_id"].iloc[person]]
        return {name: torch.from_numpy(store.features(sample)[0]) for name, store in self.dna.items()}

    def windows_of(self, person: int) -> Iterator[Tensor]:
        """All windows that cover all runs of one person, each (T, C, D, H, W), in run and time order."""
        for path in self.paths[person]:
            run = open_run(path)
            for start, frames in covering_windows(run.num_frames, self.window):
                yield run.volume(start, frames)


def collate_people(samples: list[tuple[Tensor, dict[str, Tensor], int]]) -> PeopleBatch:
    """Stack items of an PeopleDataset."""
    volumes, dna, people = zip(*samples, strict=True)
    return PeopleBatch(
        torch.stack(volumes),
        {name: torch.stack([each[name] for each in dna]) for name in dna[0]},
        torch.tensor(people),
    )


class EpochBatches(Sampler[list[EpochIndex]]):
    """This process's share of an epoch's batches: seeded shuffle, no person twice, incomplete gathered batches dropped.

    Every process shuffles alike and takes its slice of each gathered batch, so that two processes with batches of n see, in
    rank order, exactly the people that one process with batches of 2n sees.

    Args:
        num_people: people to draw from.
        batch_size: people a batch on this process.
        seed: of the shuffle, with the epoch.
        process: index of this process.
        num_processes: how many share each gathered batch.
        at_least: people that a gathered batch must hold; 1 where nothing is standardised over it or told apart in it.

    Raises:
        ValueError: fewer people than one gathered batch needs, or a gathered batch of one person, who is told from nobody.

    Attributes:
        gathered: people a gathered batch.
    """

    def __init__(self, num_people: int, batch_size: int, seed: int, process: int = 0, num_processes: int = 1, at_least: int = 2):
        self.gathered = batch_size * num_processes
        if self.gathered < at_least:
            raise ValueError(
                "A gathered batch needs at least 2 people, of whom one is told from the other; got 1.\n"
                "  where: train.batch_size x processes\n  fix: set train.batch_size to 2 or, better, to 16 or more."
            )
        if num_people < self.gathered:
            raise ValueError(
                f"A gathered batch takes {batch_size} people x {num_processes} processes = {self.gathered}, "
                f"got {num_people} training people.\n  where: the training split\n  fix: set train.batch_size to at most "
                f"{num_people // num_processes}, or give the training split more people."
            )
        self.num_people, self.batch_size, self.seed = num_people, batch_size, seed
        self.process, self.num_processes = process, num_processes
        self.epoch = 0

    def note(self) -> str | None:
        """A warning where gathered batches are small."""
        if self.gathered >= FEW_PEOPLE:
            return None
        return (
            f"A gathered batch holds {self.gathered} people; below {FEW_PEOPLE}, features standardised over it and the contrast "
            "between its people are poor: raise train.batch_size (fmri.activation_checkpointing=true saves memory)."
        )

    def __len__(self) -> int:
        return self.num_people // self.gathered

    def steps(self, accumulate: int = 1) -> int:
        """Optimiser steps an epoch; batches that do not fill a step are left out, as people who do not fill a batch are.

        Args:
            accumulate: gathered batches a step.

        Raises:
            ValueError: an epoch does not fill one step.
        """
        steps = len(self) // accumulate
        if not steps:
            complain(
                f"train.accumulate must be at most {len(self)}, the batches of {self.gathered} that {self.num_people} training "
                "people fill",
                accumulate,
                f"train.accumulate={len(self)}",
            )
        return steps

    def order(self) -> np.ndarray:
        """(people,) in the order of this epoch: gathered batch i of all processes holds entries i · gathered onwards."""
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.num_people)

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        order = self.order()
        for batch in range(len(self)):
            first = (batch * self.num_processes + self.process) * self.batch_size
            yield [EpochIndex(self.epoch, int(person)) for person in order[first : first + self.batch_size]]


def _stable_integer(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

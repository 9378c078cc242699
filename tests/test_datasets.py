"""Datasets: the same windows for any number of processes and workers, every frame covered, everyone once."""

from itertools import chain

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from brainmt_align.data.datasets import EpochBatches, EpochIndex, PeopleDataset, collate_people, covering_windows


@pytest.fixture
def dataset(runs, sample_features):
    people = pd.DataFrame({"subject_id": [str(i) for i in range(6)], "sample_id": [str(10 + i) for i in range(6)]})
    return PeopleDataset(people, runs, {"caduceus": sample_features}, window=8, seed=4)


@pytest.mark.parametrize(("frames", "window"), [(48, 16), (50, 16), (16, 16), (17, 16), (5, 2)])
def test_covering_windows_cover_every_frame_and_stay_inside(frames, window):
    windows = covering_windows(frames, window)
    covered = {frame for start, length in windows for frame in range(start, start + length)}
    assert covered == set(range(frames))
    assert len(windows) == -(-frames // window)


def test_covering_windows_refuse_a_short_run():
    with pytest.raises(ValueError, match="at least one window of 16 frames, got 15 frames"):
        covering_windows(15, 16)


def test_item_is_one_window_of_the_persons_own_run_and_genome(dataset, runs):
    volume, dna, person = dataset[EpochIndex(0, 3)]
    assert person == 3 and volume.shape == (8, 1, 5, 4, 6)
    assert torch.equal(dna["caduceus"], torch.full((3, 2, 4), 13.0))
    whole = next(iter(PeopleDataset(dataset.people, runs, {}, window=20, seed=0).windows_of(3)))
    assert any(torch.equal(volume, whole[start : start + 8]) for start in range(13))


def test_item_depends_on_seed_epoch_and_subject_alone(dataset, runs):
    shuffled = PeopleDataset(dataset.people.iloc[::-1], runs.iloc[::-1].reset_index(drop=True), dataset.dna, window=8, seed=4)
    for person in (1, 2, 5):
        assert torch.equal(dataset[EpochIndex(2, person)][0], shuffled[EpochIndex(2, 5 - person)][0])
    volumes = {dataset[EpochIndex(epoch, 1)][0].sum().item() for epoch in range(12)}
    assert len(volumes) > 4


def test_several_runs_of_a_person_all_take_part(dataset):
    assert len(list(dataset.windows_of(0))) == 2 * 3
    assert len(list(dataset.windows_of(1))) == 3


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_epoch_batches_split_the_batches_of_one_process_in_rank_order(processes):
    whole = EpochBatches(20, 6, seed=1)
    parts = [EpochBatches(20, 6 // processes, 1, process, processes) for process in range(processes)]
    for epoch in (0, 1):
        for sampler in (whole, *parts):
            sampler.epoch = epoch
        expected = list(whole)
        gathered = [list(chain(*batches)) for batches in zip(*parts, strict=True)]
        assert gathered == expected
        assert len(expected) == len(whole) == len(parts[0]) == 3
        people = [index.person for batch in expected for index in batch]
        assert len(set(people)) == len(people) == 18
    assert list(whole) == expected
    whole.epoch = 0
    assert list(whole) != expected


def test_epoch_batches_refuse_more_than_there_are():
    with pytest.raises(ValueError, match="8 people x 2 processes = 16, got 12 training people"):
        EpochBatches(12, 8, 0, 0, 2)


def test_epoch_batches_refuse_a_gathered_batch_of_one_person_but_not_one_person_a_process():
    with pytest.raises(ValueError, match=r"at least 2 people(?s:.*)got 1"):
        EpochBatches(12, 1, 0)
    assert EpochBatches(12, 1, 0, 0, 2).gathered == 2


def test_epoch_batches_warn_of_a_small_gathered_batch():
    assert "A gathered batch holds 4 people; below 16" in EpochBatches(40, 2, 0, 0, 2).note()
    assert EpochBatches(40, 8, 0, 0, 2).note() is None


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_same_batches_for_any_number_of_workers(dataset, workers):
    loader = DataLoader(dataset, batch_sampler=EpochBatches(6, 3, seed=2), collate_fn=collate_people, num_workers=workers)
    batches = list(loader)
    assert [batch.bold_BTCDHW.shape for batch in batches] == [(3, 8, 1, 5, 4, 6)] * 2
    for batch in batches:
        for row, person in enumerate(batch.person_B.tolist()):
            assert torch.equal(batch.bold_BTCDHW[row], dataset[EpochIndex(0, person)][0])
            assert batch.dna["caduceus"][row, 0, 0, 0] == 10 + person


def test_people_without_scans_have_no_window(dataset, sample_features):
    genomes = PeopleDataset(dataset.people, None, {"caduceus": sample_features}, window=8, seed=0)
    volume, dna, person = genomes[EpochIndex(0, 2)]
    assert volume.numel() == 0 and person == 2 and list(genomes.windows_of(2)) == []
    assert torch.equal(dna["caduceus"], dataset[EpochIndex(0, 2)][1]["caduceus"])


def test_people_without_genomes_have_scans_alone(dataset, runs):
    scans = PeopleDataset(dataset.people, runs, {}, window=8, seed=dataset.seed)
    volume, dna, _ = scans[EpochIndex(0, 2)]
    assert dna == {} and torch.equal(volume, dataset[EpochIndex(0, 2)][0])


def test_epoch_batches_take_one_person_where_nothing_is_told_apart():
    assert len(EpochBatches(12, 1, 0, at_least=1)) == 12


def test_epoch_batches_follow_the_order_that_they_tell():
    sampler = EpochBatches(20, 6, seed=1)
    sampler.epoch = 3
    assert [index.person for batch in sampler for index in batch] == sampler.order()[:18].tolist()


def test_epoch_batches_fill_whole_steps():
    batches = EpochBatches(23, 2, 0, num_processes=2)
    assert (len(batches), batches.steps(), batches.steps(2), batches.steps(5)) == (5, 5, 2, 1)
    with pytest.raises(
        ValueError, match=r"train\.accumulate must be at most 5, the batches of 4 that 23 training people fill; got 6"
    ):
        batches.steps(6)

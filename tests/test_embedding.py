"""Embedding people: everyone once, the mean of covering windows, whatever the number of processes."""

import pytest
import torch
import torch.nn.functional as F

from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.evaluation.embedding import PeopleEmbeddings, embed_people, summarise
from brainmt_align.model.alignment import AlignmentModel, DNATower, FMRITower, fit_region_statistics
from encoders import BrainMT, BrainMTConfig


@pytest.fixture
def dataset(runs, sample_features):
    people = runs[["subject_id"]].drop_duplicates().assign(sample_id=[str(10 + i) for i in range(6)])
    return PeopleDataset(people, runs, {"caduceus": sample_features}, window=8, seed=0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = BrainMT(
        BrainMTConfig(
            volume_shape=(5, 4, 6), num_frames=8, embed_dim=8, depth=(1, 1), stem_channels=(2, 2), d_state=2, num_classes=0
        )
    )
    statistics = fit_region_statistics([torch.randn(5, 3, 2, 4)], torch.ones(3, 4))
    return AlignmentModel(FMRITower(encoder, output_dim=16), {"caduceus": DNATower(statistics, output_dim=16)}).train()


def test_embed_people_averages_the_covering_windows_and_leaves_the_mode_alone(model, dataset):
    rows = embed_people(model, dataset, torch.device("cpu"))
    assert model.training
    model.eval()
    for person in range(6):
        windows = torch.stack(list(dataset.windows_of(person)))
        expected = F.normalize(model.embed_fmri(windows).mean(0), dim=-1)
        torch.testing.assert_close(rows.fmri_BE[person], expected, atol=1e-5, rtol=1e-4)
        own = model.embed_dna("caduceus", dataset.dna_of(person)["caduceus"][None])[0]
        torch.testing.assert_close(rows.dna_BE["caduceus"][person], own)
    assert not rows.fmri_BE.requires_grad


def test_embed_people_does_not_depend_on_how_many_windows_are_held_at_once(model, dataset):
    whole = embed_people(model, dataset, torch.device("cpu"))
    two = embed_people(model, dataset, torch.device("cpu"), windows_at_once=2)
    torch.testing.assert_close(two.fmri_BE, whole.fmri_BE, atol=1e-6, rtol=1e-5)


def test_summarise_averages_directions_and_encoders():
    eye = torch.eye(8)
    assert summarise(PeopleEmbeddings(eye, {"a": eye})) == {"mean_rank": 1.0, "recall@5": 1.0}
    chance = summarise(PeopleEmbeddings(eye, {"a": eye, "b": torch.ones(8, 8)}))
    assert chance["mean_rank"] == pytest.approx((1.0 + 4.5) / 2)
    assert chance["recall@5"] == pytest.approx((1.0 + 5 / 8) / 2)
    assert summarise(PeopleEmbeddings(eye[:4], {"a": eye[:4]}))["recall@5"] is None

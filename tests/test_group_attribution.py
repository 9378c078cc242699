"""Room under test: brainmt_align/evaluation/group_attribution.py. In: scans and genomes. Out: a group's maps, and what passes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from brainmt_align.data.bold_store import open_run
from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.evaluation.attribution import VoxelAttribution, attribute_voxels
from brainmt_align.evaluation.brain_maps import GroupMap, average_maps
from brainmt_align.evaluation.group_attribution import attribute_group, deal_anew, passing_voxels, require_one_space

FAMILIES = ["x", "x", "y", "z", "y", "w"]
STEPS = {"steps": 4, "max_steps": 4}
pytestmark = pytest.mark.filterwarnings("ignore:Voxel attribution")  # few steps


class BentBrain(nn.Module):
    """Two unit-norm numbers, the first a bent sum of the scan."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 1, 5, 4, 6, generator=torch.Generator().manual_seed(0)) / 100)
        self.fmri = SimpleNamespace(output_dim=2)

    def embed_fmri(self, bold):
        part = torch.tanh((bold * self.weight).flatten(1).sum(1)) / 2
        return torch.stack([part, (1 - part.square()).sqrt()], 1)


@pytest.fixture(scope="module")
def group(runs):
    """A brain, six people of four families, and their genomes' embeddings."""
    people = runs.drop_duplicates("subject_id")[["subject_id"]].assign(sample_id=lambda table: table["subject_id"])
    z_dna_NE = F.normalize(torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), dim=-1)
    return BentBrain(), PeopleDataset(people, runs, {}, 10, 0), z_dna_NE


def test_attribute_group_averages_sizes_over_the_first_person_of_each_of_the_first_families(group):
    model, dataset, z_dna_NE = group
    found = attribute_group(model, dataset, z_dna_NE, FAMILIES, 3, **STEPS, seed=1)
    shown = [0, 2, 3]

    def maps_of(genomes):
        pairs = zip(shown, genomes, strict=True)
        return [attribute_voxels(model, dataset.windows_of(person), z_dna_NE[genome], **STEPS) for person, genome in pairs]

    own, control = maps_of(shown), maps_of(deal_anew(shown, 1))
    sizes, other_sizes = (np.abs([one.map_DHW for one in each]) for each in (own, control))
    shares, other_shares = (np.array([one / one.sum() for one in each]) for each in (sizes, other_sizes))
    for got, maps in ((found.own, sizes), (found.control, other_sizes), (found.contrast, shares - other_shares)):
        expected = average_maps(maps, ["x", "y", "z"])
        np.testing.assert_array_equal(got.mean_DHW, expected.mean_DHW)
        np.testing.assert_array_equal(got.t_DHW, expected.t_DHW)
        assert (got.people, got.families) == (3, 3)
    assert found.incomplete == sum(not one.complete for one in own + control)
    assert found.run.path == open_run(dataset.paths[0][0]).path
    told = found.summary()
    assert told["incomplete"] == found.incomplete and told["voxels"] == ((sizes + other_sizes).sum(0) > 0).sum()
    assert f"mean of 3 people's absolute maps, of as many families; {found.incomplete} of the maps, controls" in found.describe()
    assert f"{told['passing']} of {told['voxels']} voxels have a larger share" in found.describe()


def test_attribute_group_finds_planted_voxels_that_signs_and_the_control_hide(runs, monkeypatch):
    people = runs.drop_duplicates("subject_id")[["subject_id"]].assign(sample_id=lambda table: table["subject_id"])
    dataset, z_dna_NE, rng = PeopleDataset(people, runs, {}, 10, 0), torch.eye(6), np.random.default_rng(0)
    scan_of = {float(next(iter(dataset.windows_of(person))).double().sum()): person for person in range(6)}
    planted = np.zeros((5, 4, 6), dtype=bool)
    planted[1:3, 1:3, 2:4] = True
    told = []

    def attribute(model, windows, z_E, **settings):
        person = scan_of[float(windows[0].double().sum())]
        fits = bool(z_E[person])  # the own genome moves the planted voxels, now towards it and now away
        map_DHW = rng.normal(0, 0.1, planted.shape) + 3 * fits * (-1) ** person * planted
        told.append(VoxelAttribution(map_DHW, 0.5, 0.1, 0.0, 4, complete=person != 4))
        return told[-1]

    monkeypatch.setattr("brainmt_align.evaluation.group_attribution.attribute_voxels", attribute)
    found = attribute_group(BentBrain(), dataset, z_dna_NE, range(6), 6)
    assert found.own.mean_DHW[planted].min() > 3 * found.own.mean_DHW[~planted].max()
    assert found.control.mean_DHW[planted].max() < 0.2
    assert np.abs(np.mean([each.map_DHW for each in told[::2]], 0)).max() < 0.3  # signs cancel
    passing = passing_voxels(found.contrast, np.ones_like(planted))
    assert passing[planted].all() and passing[~planted].mean() < 0.05
    assert found.summary()["passing"] == passing.sum() and found.incomplete == 2  # own and control of one person


def test_attribute_group_is_not_told_apart_by_maps_that_are_larger_as_a_whole(group, monkeypatch):
    model, dataset, z_dna_NE = group
    sizes = iter([1.0, 2.0, 0.0, 3.0, 4.0, 1.0])  # own, control, own …
    plain = VoxelAttribution(np.ones((5, 4, 6)), 0.5, 0.1, 0.0, 4, complete=True)
    each = "brainmt_align.evaluation.group_attribution.attribute_voxels"
    monkeypatch.setattr(each, lambda *given, **settings: plain._replace(map_DHW=next(sizes) * plain.map_DHW))
    found = attribute_group(model, dataset, z_dna_NE, FAMILIES, 3)
    np.testing.assert_allclose(found.contrast.mean_DHW, -1 / 120 / 3)  # of the person without any credit alone
    assert found.summary()["passing"] == 0 and found.summary()["voxels"] == 120


def test_deal_anew_gives_everybody_another_and_every_one_once():
    for seed in range(20):
        dealt = deal_anew([3, 5, 8, 9], seed)
        assert sorted(dealt) == [3, 5, 8, 9] and all(one != other for one, other in zip([3, 5, 8, 9], dealt, strict=True))
    assert deal_anew([3, 5, 8, 9], 1) == deal_anew([3, 5, 8, 9], 1) and deal_anew([4, 2], 0) == [2, 4]
    assert len({tuple(deal_anew(range(4), seed)) for seed in range(50)}) == 6  # all circles of four


def test_passing_voxels_are_those_of_benjamini_and_hochberg_above_zero():
    t_V = stats.t.isf([0.001, 0.02, 0.03, 0.04, 0.9, 1e-6], 7)  # of the first five 0.001 … 0.04 stay below k / 5 of 0.05
    t_DHW, inside_DHW = t_V.reshape(1, 2, 3), np.array([True] * 5 + [False]).reshape(1, 2, 3)
    group = GroupMap(np.sign(t_DHW), t_DHW, 8, 8)
    assert passing_voxels(group, inside_DHW).ravel().tolist() == [True] * 4 + [False] * 2
    assert passing_voxels(group, inside_DHW, 0.01).ravel().tolist() == [True] + [False] * 5
    assert not passing_voxels(group._replace(t_DHW=-np.abs(t_DHW)), inside_DHW).any()  # one side


def test_attribute_group_refuses_fewer_than_two_families_before_any_gradient(group, monkeypatch):
    monkeypatch.setattr("brainmt_align.evaluation.group_attribution.attribute_voxels", None)
    for families, people in ((["x"] * 6, 3), (FAMILIES, 0), (FAMILIES, 1)):
        with pytest.raises(ValueError, match="2 families or more were expected"):
            attribute_group(*group, families, people)


def test_require_one_space_refuses_a_run_in_another_place(runs):
    first = open_run(runs["store_path"].iloc[0])
    require_one_space(first, runs["store_path"].tolist())
    moved = np.array(first.header["affine"])
    moved[0, 3] += 2
    elsewhere = replace(first, header={**first.header, "affine": moved.tolist()})
    with pytest.raises(
        ValueError, match=r"(?s)in one space were expected, got another affine .*file: .*set attribution.people=0"
    ):
        require_one_space(elsewhere, runs["store_path"].tolist())

"""Room under test: brainmt_align/evaluation/group_attribution.py. In: people's scans and genomes. Out: one map of the group."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brainmt_align.data.bold_store import open_run
from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.evaluation.attribution import attribute_voxels
from brainmt_align.evaluation.brain_maps import average_maps
from brainmt_align.evaluation.group_attribution import attribute_group, require_one_space

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


def test_attribute_group_averages_the_first_person_of_each_of_the_first_families(group):
    model, dataset, z_dna_NE = group
    found = attribute_group(model, dataset, z_dna_NE, FAMILIES, 3, **STEPS)
    each = [attribute_voxels(model, dataset.windows_of(person), z_dna_NE[person], **STEPS) for person in (0, 2, 3)]
    expected = average_maps([one.map_DHW for one in each], ["x", "y", "z"])
    np.testing.assert_array_equal(found.map.mean_DHW, expected.mean_DHW)
    np.testing.assert_array_equal(found.map.t_DHW, expected.t_DHW)
    assert (found.map.people, found.map.families) == (3, 3)
    others = {0: [2, 3, 4, 5], 2: [0, 1, 3, 5], 3: [0, 1, 2, 4, 5]}  # of other families
    own = {person: F.normalize(z_dna_NE[person] - z_dna_NE[rest].mean(0), dim=-1) for person, rest in others.items()}
    apart = [attribute_voxels(model, dataset.windows_of(person), z_E, **STEPS) for person, z_E in own.items()]
    np.testing.assert_array_equal(found.apart.mean_DHW, average_maps([one.map_DHW for one in apart], ["x", "y", "z"]).mean_DHW)
    assert found.incomplete == sum(not one.complete for one in each + apart)
    assert found.run.path == open_run(dataset.paths[0][0]).path
    assert f"mean of 3 people of as many families; {found.incomplete} of the maps miss completeness" in found.describe()


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

"""Group attribution: people's scans, their genomes' embeddings and families flow in; voxel maps of the group flow out."""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.stored_run import StoredRun, open_run
from brainmt_align.evaluation.attribution import VoxelAttribution, attribute_voxels
from brainmt_align.evaluation.brain_maps import GroupMap, average_maps
from brainmt_align.model.alignment import AlignmentModel

SAME_PLACE_MM = 1e-3


class GroupAttribution(NamedTuple):
    """Which voxels draw some people's scans to their own genomes, and which to these rather than to other people's."""

    map: GroupMap  # of the similarity
    apart: GroupMap  # of the similarity to what sets the own genome apart: its embedding less the mean of other families'
    run: StoredRun  # the first, whose place the map has
    incomplete: int  # maps of people, of either kind, that miss completeness

    def describe(self) -> str:
        """What the maps are, in a sentence."""
        return (
            "Voxel maps: integrated gradients of the similarity of scan and own genome, less that of the scan's mean volume; the "
            f"mean of {self.map.people} people of as many families; {self.incomplete} of the maps miss completeness by more than "
            "1 %. What any genome would be credited with is in these; the maps of what sets the own genome apart leave it out."
        )


def attribute_group(
    model: AlignmentModel,
    dataset: PeopleDataset,
    z_dna_NE: Tensor,
    families_N: Sequence[Hashable],
    people: int,
    steps: int = 32,
    max_steps: int = 128,
) -> GroupAttribution:
    """Average the voxel maps of the first person of each of the first families, of the similarity and of what is its own in it.

    Args:
        model: trained.
        dataset: the people, with scans.
        z_dna_NE: unit-norm embeddings of their genomes, in the dataset's order.
        families_N: family of each person.
        people: at most how many, one a family.
        steps, max_steps: see `attribute_voxels`.

    Raises:
        ValueError: runs in several spaces, and what `attribute_voxels` and `average_maps` complain of.
    """
    first_of: dict[Hashable, int] = {}
    for person, family in enumerate(families_N):
        first_of.setdefault(family, person)
    shown = sorted(first_of.values())[:people]
    settings = {"steps": steps, "max_steps": max_steps}
    similar: list[VoxelAttribution] = []
    apart: list[VoxelAttribution] = []

    def maps() -> Iterator[np.ndarray]:
        for person in tqdm(shown, desc="voxels", unit="person"):
            require_one_space(open_run(dataset.paths[shown[0]][0]), dataset.paths[person])
            windows = list(dataset.windows_of(person))
            similar.append(attribute_voxels(model, windows, z_dna_NE[person], **settings))
            apart.append(attribute_voxels(model, windows, _own_alone(z_dna_NE, families_N, person), **settings))
            yield similar[-1].map_DHW

    families = [families_N[person] for person in shown]
    group = average_maps(maps(), families)
    own = average_maps([each.map_DHW for each in apart], families)
    return GroupAttribution(
        group, own, open_run(dataset.paths[shown[0]][0]), [each.complete for each in similar + apart].count(False)
    )


def _own_alone(z_dna_NE: Tensor, families_N: Sequence[Hashable], person: int) -> Tensor:
    """(E,) unit norm: a genome's embedding less the mean of those of other families."""
    others_N = torch.tensor([family != families_N[person] for family in families_N], device=z_dna_NE.device)
    return F.normalize(z_dna_NE[person] - z_dna_NE[others_N].mean(0), dim=-1)


def require_one_space(first: StoredRun, paths: Sequence[str]) -> None:
    """Refuse runs that do not lie in one place: their voxels cannot be averaged.

    Args:
        first: the run that the others are held against.
        paths: of stored runs.

    Raises:
        ValueError: a run with another affine; grids are compared where the maps are averaged.
    """
    for path in paths:
        affine = np.asarray(open_run(path).header["affine"])
        if not np.allclose(affine, first.header["affine"], atol=SAME_PLACE_MM):
            raise ValueError(
                f"Voxel maps: runs in one space were expected, got another affine than that of {first.path}.\n"
                f"  file: {path}\n  fix: bring the runs into one space, MNI say, or set attribution.people=0."
            )

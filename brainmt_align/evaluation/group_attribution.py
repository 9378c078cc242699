"""Group attribution: people's scans, their genomes' embeddings and families flow in; voxel maps of the group flow out."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.stored_run import StoredRun, open_run
from brainmt_align.evaluation.attribution import attribute_voxels
from brainmt_align.evaluation.brain_maps import GroupMap, average_maps
from brainmt_align.model.alignment import AlignmentModel

SAME_PLACE_MM = 1e-3
FALSE_DISCOVERIES = 0.05


class GroupAttribution(NamedTuple):
    """Where the similarity of some people's scans and genomes is decided, and where more so than with another's genome.

    The sign of a person's map says towards or away from this genome, which differs from person to person; so sizes are averaged.
    """

    own: GroupMap  # of the absolute maps of scan and own genome
    control: GroupMap  # of the absolute maps of scan and the genome of somebody of another family
    contrast: GroupMap  # of each person's absolute map less that of the control, each as shares of its sum
    run: StoredRun  # the first, whose place the maps have
    incomplete: int  # maps of people, of either kind, that miss completeness

    def summary(self) -> dict[str, Any]:
        """People, maps that miss completeness, voxels that have any credit, and how many of them pass against the control."""
        told = {"people": self.own.people, "incomplete": self.incomplete, "false_discovery_rate": FALSE_DISCOVERIES}
        with_credit_DHW = (self.own.mean_DHW > 0) | (self.control.mean_DHW > 0)
        passing_DHW = passing_voxels(self.contrast, with_credit_DHW)
        return told | {"voxels": int(with_credit_DHW.sum()), "passing": int(passing_DHW.sum())}

    def describe(self) -> str:
        """What the maps are and what they show, in sentences."""
        told = self.summary()
        return (
            "Voxel maps: integrated gradients of the similarity of scan and own genome, less that of the scan's mean volume; the "
            f"mean of {told['people']} people's absolute maps, of as many families; {told['incomplete']} of the maps, controls "
            f"included, miss completeness by more than 1 %. {told['passing']} of {told['voxels']} voxels have a larger share of "
            f"the credit than with another family's genome (one-sided t over families, false discoveries {FALSE_DISCOVERIES:g})."
        )


def attribute_group(
    model: AlignmentModel,
    dataset: PeopleDataset,
    z_dna_NE: Tensor,
    families_N: Sequence[Hashable],
    people: int,
    steps: int = 32,
    max_steps: int = 128,
    seed: int = 0,
) -> GroupAttribution:
    """Average the absolute voxel maps of the first person of each of the first families, with the own and with another's genome.

    The control deals the genomes of these people anew: each is another person's once, so that scans and genomes are the same in
    both and the pairing alone differs. What any genome would be credited with is in both. They are compared as shares of each
    map's sum: near a cosine's bound all gradients shrink, so the maps of true pairs are smaller as a whole.

    Args:
        model: trained.
        dataset: the people, with scans.
        z_dna_NE: unit-norm embeddings of their genomes, in the dataset's order.
        families_N: family of each person.
        people: at most how many, one a family.
        steps, max_steps: see `attribute_voxels`.
        seed: of the control's pairing.

    Raises:
        ValueError: fewer than two families, runs in several spaces, and what `attribute_voxels` and `average_maps` complain of.
    """
    first_of: dict[Hashable, int] = {}
    for person, family in enumerate(families_N):
        first_of.setdefault(family, person)
    shown = sorted(first_of.values())[:people]
    families = [families_N[person] for person in shown]
    own, control, complete = [], [], []

    def own_maps() -> Iterator[np.ndarray]:
        for person, other in tqdm([*zip(shown, deal_anew(shown, seed), strict=True)], desc="voxels", unit="person"):
            require_one_space(open_run(dataset.paths[shown[0]][0]), dataset.paths[person])
            windows = list(dataset.windows_of(person))
            for maps, genome in ((own, person), (control, other)):
                found = attribute_voxels(model, windows, z_dna_NE[genome], steps=steps, max_steps=max_steps)
                maps.append(np.abs(found.map_DHW))
                complete.append(found.complete)
            yield own[-1]

    group = average_maps(own_maps(), families)
    contrast = average_maps((_shares(one) - _shares(other) for one, other in zip(own, control, strict=True)), families)
    run = open_run(dataset.paths[shown[0]][0])
    return GroupAttribution(group, average_maps(control, families), contrast, run, complete.count(False))


def _shares(size_DHW: np.ndarray) -> np.ndarray:
    """A map as shares of its sum; one without any credit stays as it is."""
    return size_DHW / (size_DHW.sum() or 1.0)


def deal_anew(people: Sequence[int], seed: int) -> list[int]:
    """For each person another one, every one once: neighbours in a circle of random order.

    Args:
        people: two or more, of one family each.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(people))
    dealt = np.empty_like(order)
    dealt[order] = np.roll(order, 1)
    return [people[at] for at in dealt]


def passing_voxels(group: GroupMap, inside_DHW: np.ndarray, rate: float = FALSE_DISCOVERIES) -> np.ndarray:
    """(D, H, W) of bool: voxels whose mean is above 0 by a one-sided t test over families, at a false discovery rate.

    Args:
        group: maps of people.
        inside_DHW: bool; the voxels that are tested.
        rate: share of false ones among those that pass, 0 … 1.

    Reference:
        Benjamini and Hochberg 1995, Controlling the false discovery rate.
    """
    passing_DHW = np.zeros(inside_DHW.shape, dtype=bool)
    p_V = stats.t.sf(group.t_DHW[inside_DHW], group.families - 1)
    passing_DHW[inside_DHW] = stats.false_discovery_control(p_V) <= rate
    return passing_DHW


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

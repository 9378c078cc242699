"""Regions as a query: a person's region features and weights of regions flow in; one row of the shared space flows out."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from brainmt_align.listing import list_faults, nearest_names
from brainmt_align.model.alignment import DNATower


@torch.no_grad()
def embed_regions(tower: DNATower, regions: Sequence[str], features_RHD: Tensor, weights: Mapping[str, float]) -> Tensor:
    """One region of a person, or an arithmetic of regions, as a unit row to rank scans by.

    The arithmetic is done where the tower is additive, on its inputs: it reads w · x for a region of weight w whose standardised
    features are x, and 0, the mean of the training people, for every region that is not named. So {"A": 1} is a person who has
    region A and is the mean elsewhere; all regions with weight 1 are the whole person, to the last bit; −1 mirrors a region at
    the training mean, and {"A": 1, "B": -1} asks who looks like A and unlike B. Weights are doses: 2 departs twice as far.

    The embedding of the mean person is not subtracted: behind the projector's last normalisation it is a direction as long as
    any other and none that people share, so a difference from it ranks scans worse than the row itself.

    Args:
        tower: in eval mode.
        regions: names of axis R.
        features_RHD: of one person, (R, H=2, D), the reference's embedding subtracted; on any device.
        weights: finite, by region.

    Returns:
        (E,) float32 of unit norm, on the tower's device.

    Raises:
        ValueError: features of another shape or not finite, no region, unknown regions (the nearest are named), regions that
            the tower dropped, weights that are not finite, and whatever leaves nothing but the mean person.
    """
    rows_R = _rows_of(tower, list(regions), features_RHD, weights)
    features_RHD = features_RHD.to(tower.mean.device, torch.float32)
    weight_R11 = torch.zeros(len(regions), 1, 1, device=tower.mean.device)
    weight_R11[rows_R] = weight_R11.new_tensor(list(weights.values()))[:, None, None]
    mixed_BRHD = torch.lerp(tower.mean[:, None].expand_as(features_RHD), features_RHD, weight_R11)[None]  # exact at 0 and at 1
    if not bool(tower.features(mixed_BRHD).any()):
        spelled = " ".join(f"{weight:+g} {name}" for name, weight in weights.items())
        raise ValueError(
            f"Regions in which this person differs from the training mean were expected, got nothing: {spelled}.\n"
            "  where: the query's regions\n  fix: take other regions, and weights that are not 0."
        )
    return F.normalize(tower(mixed_BRHD).float(), dim=-1)[0]


def _rows_of(tower: DNATower, regions: list[str], features_RHD: Tensor, weights: Mapping[str, float]) -> list[int]:
    """Rows of the weighted regions, or everything that is wrong with the query."""
    wanted = len(regions), 2, tower.mean.shape[1]
    if tuple(features_RHD.shape) != wanted or not bool(features_RHD.isfinite().all()):
        raise ValueError(
            f"Finite features of one person, (regions, haplotypes, width) = {wanted}, were expected, got shape "
            f"{tuple(features_RHD.shape)} with {int((~features_RHD.isfinite()).sum())} other values.\n"
            "  where: the query's person\n  fix: take them from genome_features of the run, or from its DNA store."
        )
    dropped = set(tower.dropped(regions))
    faults = [] if weights else ["no region is named"]
    for name, weight in weights.items():
        if name not in regions:
            nearest = ", ".join(nearest_names(str(name), regions, cutoff=0.0))
            faults.append(f"{name} is not among them; the nearest are {nearest}")
        elif name in dropped:
            faults.append(f"{name} did not vary among the training people and takes no part in the model")
        if not math.isfinite(weight):
            faults.append(f"the weight of {name} is {weight}")
    if faults:
        raise ValueError(
            f"Regions of the model ({len(regions) - len(dropped)} of {len(regions)} take part), each with a finite weight, were "
            f"expected, got:\n{list_faults(faults, len(faults))}  where: the query's regions\n"
            '  fix: give such as {"' + next(name for name in regions if name not in dropped) + '": 1.0}.'
        )
    return [regions.index(name) for name in weights]

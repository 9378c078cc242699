"""Voxel attribution: a person's windows and a genome's embedding flow in; how much each voxel adds to their similarity flows out.

S steps of the path, W windows, otherwise the house's letters.
"""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brainmt_align.evaluation.embedding import evaluating
from brainmt_align.model.alignment import AlignmentModel

NEGLIGIBLE = 1e-4  # of a cosine; where both similarities nearly agree, a share of their difference asks for too much


class VoxelAttribution(NamedTuple):
    """What each voxel adds to the similarity of a scan and a genome, and how well the parts add up."""

    map_DHW: np.ndarray  # float64, in units of the cosine, summed over frames, channels and windows
    similarity: float  # cosine of the scan's and the genome's embedding
    baseline_similarity: float  # the same, of the baseline
    completeness_error: float  # sum of the map less (similarity - baseline_similarity)
    steps: int  # that the path was cut into in the end
    complete: bool  # the error is within the tolerance


def attribute_voxels(
    model: AlignmentModel,
    windows: Iterable[Tensor],
    z_dna_E,
    steps: int = 32,
    baseline: float | None = None,
    tolerance: float = 0.01,
    max_steps: int = 256,
    steps_at_once: int = 4,
) -> VoxelAttribution:
    """Integrated gradients of the similarity between a person's scan and a genome, voxel by voxel.

    The similarity is what retrieval ranks by: windows are embedded, averaged, brought to unit norm. All windows walk from the
    baseline to the scan together, in a straight line that Gauss-Legendre nodes sample.

    The baseline is, by default, each window with all its frames replaced by their mean: the static image, the same in scan and
    baseline, gets no credit, only the fluctuations around it do; and voxels outside the mask, which never change, get exactly
    0. A number instead, such as the run's background, credits the static image too.

    The map must sum to the difference of both similarities (completeness). Where it misses by more than the tolerance, the
    number of steps is doubled up to `max_steps`; a warning says by how much it still misses then.

    Args:
        model: trained; left in the mode it came in.
        windows: (T, C, D, H, W) each, all windows of one person, any precision; they are held in memory together.
        z_dna_E: of unit norm. A genome's embedding less the mean of all genomes', brought to unit norm, asks what sets the genome
            apart instead of what any genome would be credited with.
        steps: of the path, to begin with.
        baseline: None, or the value of all voxels.
        tolerance: of the completeness error, as a share of the difference of the similarities; a miss of 1e-4 of the cosine is
            always allowed.
        max_steps: where doubling ends.
        steps_at_once: points of the path in one pass; memory grows with it.

    Raises:
        ValueError: no windows, a genome's embedding of another width, or steps, tolerance or batches that cannot be.

    Reference:
        Sundararajan, Taly and Yan 2017, Axiomatic Attribution for Deep Networks, equations 1 (the integral) and Proposition 1
        (completeness).
    """
    windows = list(windows)
    device = next(model.parameters()).device
    z_E = torch.as_tensor(z_dna_E).detach().to(device, torch.float32)
    _check(windows, z_E, model.fmri.output_dim, (steps, steps_at_once, max_steps - steps + 1), tolerance)
    with evaluating(model):
        low, high = (_similarity(model, windows, z_E, baseline, at) for at in (0.0, 1.0))
        while True:
            map_DHW = _integrate(model, windows, z_E, baseline, steps, steps_at_once)
            error = float(map_DHW.sum()) - (high - low)
            allowed = max(tolerance * abs(high - low), NEGLIGIBLE)
            if abs(error) <= allowed or 2 * steps > max_steps:
                break
            steps *= 2
    complete = abs(error) <= allowed
    if not complete:
        warnings.warn(
            f"Voxel attribution: a map that sums to {high - low:.4g} within {allowed:.2g} was expected, got one that misses it "
            f"by {error:+.2g} after {steps} steps.\n  fix: allow more with max_steps.",
            UserWarning,
            stacklevel=2,
        )
    return VoxelAttribution(map_DHW, high, low, error, steps, complete)


def _similarity(model: AlignmentModel, windows: list[Tensor], z_E: Tensor, baseline: float | None, at: float) -> float:
    """The cosine at one point of the path: 0 the baseline, 1 the scan."""
    alpha_S = torch.tensor([at], device=z_E.device)
    with torch.no_grad():
        mean_SE = sum(model.embed_fmri(_points(window, baseline, alpha_S)[0]) for window in windows)
    return float(F.normalize(mean_SE, dim=-1) @ z_E)


def _integrate(
    model: AlignmentModel, windows: list[Tensor], z_E: Tensor, baseline: float | None, steps: int, at_once: int
) -> np.ndarray:
    """(D, H, W) float64: the integral of the gradient along the path, times the way that each voxel went."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # of -1 … 1
    alphas, weights_S = (torch.tensor(each, dtype=torch.float32, device=z_E.device) for each in ((nodes + 1) / 2, weights / 2))
    total_DHW = torch.zeros(windows[0].shape[2:], dtype=torch.float64)
    for alpha_S, weight_S in zip(alphas.split(at_once), weights_S.split(at_once), strict=True):
        pull_SE = _pull(model, windows, z_E, baseline, alpha_S)
        for window in windows:
            points_STCDHW, way_TCDHW = _points(window, baseline, alpha_S)
            points_STCDHW.requires_grad_()
            with torch.enable_grad():
                toward = (model.embed_fmri(points_STCDHW) * pull_SE * weight_S[:, None]).sum()
            for gradient_TCDHW in torch.autograd.grad(toward, points_STCDHW)[0]:
                total_DHW += (gradient_TCDHW * way_TCDHW).sum((0, 1), dtype=torch.float64).cpu()
    return total_DHW.numpy()


def _pull(model: AlignmentModel, windows: list[Tensor], z_E: Tensor, baseline: float | None, alpha_S: Tensor) -> Tensor:
    """(S, E): gradient of the person's similarity towards each window's unit-norm embedding.

    With m the mean of W embeddings and u = m / |m|, the gradient of z · u towards one of them is (z - (z · u) u) / (W |m|).
    """
    if len(windows) == 1:  # m has unit norm already, and the embedding's own normalisation removes the part along u
        return z_E.expand(len(alpha_S), -1)
    with torch.no_grad():
        mean_SE = sum(model.embed_fmri(_points(window, baseline, alpha_S)[0]) for window in windows) / len(windows)
    unit_SE = F.normalize(mean_SE, dim=-1)
    return (z_E - (unit_SE @ z_E)[:, None] * unit_SE) / (len(windows) * mean_SE.norm(dim=-1, keepdim=True))


def _points(window: Tensor, baseline: float | None, alpha_S: Tensor) -> tuple[Tensor, Tensor]:
    """(S, T, C, D, H, W) points of one window's path and the way (T, C, D, H, W) from its start to its end, float32.

    The mean is taken in float64: voxels that do not change then go no way at all.
    """
    end_TCDHW = window.to(alpha_S.device, torch.float32)
    if baseline is None:
        start = end_TCDHW.mean(0, dtype=torch.float64).float()
    else:
        start = torch.full_like(end_TCDHW[0], baseline)
    way_TCDHW = end_TCDHW - start
    return start + alpha_S.view(-1, 1, 1, 1, 1, 1) * way_TCDHW, way_TCDHW


def _check(windows: list[Tensor], z_E: Tensor, width: int, counts: tuple[int, ...], tolerance: float) -> None:
    shapes = {tuple(window.shape[1:]) for window in windows}
    if len(shapes) != 1 or any(window.dim() != 5 for window in windows):
        raise ValueError(
            f"Voxel attribution: windows (T, C, D, H, W) of one person on one grid were expected, got {len(windows)} windows of "
            f"{len(shapes)} shapes.\n  fix: pass the windows that cover the person's runs."
        )
    if z_E.shape != (width,) or not z_E.isfinite().all() or abs(float(z_E.norm()) - 1) > 1e-3:
        raise ValueError(
            f"Voxel attribution: a genome's embedding of {width} finite numbers and unit norm was expected, got shape "
            f"{tuple(z_E.shape)} and norm {float(z_E.norm()):.4g}.\n  fix: pass one row of the DNA embeddings of this model."
        )
    if min(counts) < 1 or tolerance <= 0:
        raise ValueError(
            f"Voxel attribution: 1 step or more, no more of them than max_steps, 1 or more at once and a tolerance above 0 were "
            f"expected, got {counts[0]} steps up to {counts[2] + counts[0] - 1}, {counts[1]} at once and {tolerance:g}.\n"
            "  fix: take the defaults."
        )

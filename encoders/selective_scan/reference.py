"""The selective scan in plain PyTorch: one step after another, as the equations read; (B, D, L) tensors in and out."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from encoders.selective_scan.inputs import ScanInputs

STEPS_PER_SEGMENT = 128  # with gradients, states inside a segment are recomputed: never (B, D, L, N) at once


def missing_package() -> None:
    """It needs nothing but PyTorch."""


def refusal(inputs: ScanInputs) -> None:
    """It takes everything, everywhere."""


def scan(inputs: ScanInputs, z: Tensor | None, delta_softplus: bool, reverse: bool) -> Tensor:
    """See `encoders.selective_scan.selective_scan`; shapes are checked there."""
    u, delta, A, B, C, D, delta_bias = inputs
    tensors = [t for t in (u, delta, A, B, C, D, z, delta_bias) if t is not None]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    dt = delta.to(dtype)
    if delta_bias is not None:
        dt = dt + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        dt = F.softplus(dt)
    A, x = A.to(dtype), u.to(dtype)

    # Unbound once: a slice per step would make the backward pass quadratic in L. Steps outermost: each slice lies in one piece.
    sequences = (dt, dt * x, B.to(dtype), C.to(dtype))
    steps = list(zip(*(t.movedim(-1, 0).contiguous().unbind() for t in sequences), strict=True))
    if reverse:
        steps.reverse()
    h = x.new_zeros(*u.shape[:2], A.shape[1])
    keep_graph = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    ys = []
    for start in range(0, len(steps), STEPS_PER_SEGMENT):
        segment = steps[start : start + STEPS_PER_SEGMENT]
        if keep_graph and len(steps) > STEPS_PER_SEGMENT:
            h, y = checkpoint(_scan_segment, h, A, segment, use_reentrant=False, preserve_rng_state=False)
        else:
            h, y = _scan_segment(h, A, segment)
        ys += y
    if reverse:
        ys.reverse()

    out = torch.stack(ys, dim=-1) if ys else dt * x  # empty where L is 0
    if D is not None:
        out = out + D.to(dtype)[:, None] * x
    if z is not None:
        out = out * F.silu(z.to(dtype))
    return out.to(u.dtype)


def _scan_segment(h: Tensor, A: Tensor, steps: list[tuple[Tensor, ...]]) -> tuple[Tensor, list[Tensor]]:
    """The state (B, D, N) after the steps, and their outputs (B, D) one by one."""
    ys = []
    for dt, dt_u, B, C in steps:
        h = torch.exp(dt[:, :, None] * A) * h + dt_u[:, :, None] * B[:, None, :]
        ys.append((h * C[:, None, :]).sum(-1))
    return h, ys

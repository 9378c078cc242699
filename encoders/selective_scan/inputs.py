"""What a selective scan reads in one direction: tensors flow in; the same ones flow out, checked against each other."""

from typing import NamedTuple

import torch
from torch import Tensor


class ScanInputs(NamedTuple):
    """One direction's sequences and parameters; the gate z is apart, as both directions share it."""

    u: Tensor  # (B, D, L)
    delta: Tensor  # (B, D, L), before bias and softplus
    A: Tensor  # (D, N)
    B: Tensor  # (B, N, L)
    C: Tensor  # (B, N, L)
    D: Tensor | None = None  # (D,)
    delta_bias: Tensor | None = None  # (D,)


def check_inputs(inputs: ScanInputs, z: Tensor | None) -> None:
    """Every tensor against u (B, D, L) and A (D, N).

    Raises:
        ValueError: all faults of shape, type and device together.
    """
    u, delta, A, B, C, D, delta_bias = inputs
    if u.dim() != 3 or A.dim() != 2:
        raise ValueError(
            f"Selective scan: u (B, D, L) and A (D, N) were expected, got u {tuple(u.shape)} and A {tuple(A.shape)}.\n"
            "  fix: bring the inputs to these shapes."
        )
    batch, channels, length = u.shape
    states = A.shape[1]
    expected = {
        "u": (u, (batch, channels, length)),
        "delta": (delta, (batch, channels, length)),
        "A": (A, (channels, states)),
        "B": (B, (batch, states, length)),
        "C": (C, (batch, states, length)),
        "D": (D, (channels,)),
        "z": (z, (batch, channels, length)),
        "delta_bias": (delta_bias, (channels,)),
    }
    faults = [
        f"{name} {shape} was expected, got {tuple(tensor.shape)}"
        for name, (tensor, shape) in expected.items()
        if tensor is not None and tuple(tensor.shape) != shape
    ]
    given = {name: tensor for name, (tensor, _) in expected.items() if tensor is not None}
    faults += [f"{name} {t.dtype}, a real float was expected" for name, t in given.items() if not t.is_floating_point()]
    faults += [f"{name} on {t.device}, u is on {u.device}" for name, t in given.items() if t.device != u.device]
    if faults:
        raise ValueError(
            f"Selective scan over u {tuple(u.shape)} with {states} states: {'; '.join(faults)}.\n"
            "  fix: u, delta, z are (B, D, L); A (D, N); B, C (B, N, L); D, delta_bias (D,); real floats on one device."
        )


def refuse_second_derivative(backend: str) -> None:
    """To be called in a backward pass that autograd cannot look into.

    Raises:
        NotImplementedError: the gradient is asked for as a function (create_graph=True).
    """
    if torch.is_grad_enabled():
        raise NotImplementedError(
            f"Selective-scan backend {backend!r} gives first derivatives; a second one was asked for (create_graph=True).\n"
            "  where: the backward pass\n  fix: pass backend='reference', or a mixer's backend attribute."
        )

"""The selective scan as Triton kernels, for GPUs without mamba-ssm: (B, D, L) tensors in and out, gradients included.

One launch covers both directions of the bidirectional mixer, none of which is flipped. Sequences whose channels lie innermost,
as the mixers make them, are read where they lie; others are copied. Results do not depend on the order in which programs run.
On the processor the kernels run in Triton's interpreter (TRITON_INTERPRET=1 before the first import), slowly: for tests.
"""

from functools import cache
from importlib import util
from typing import NamedTuple

import torch
from torch import Tensor

from encoders.selective_scan.inputs import ScanInputs, refuse_second_derivative

TILE = 32  # positions a program holds
CHANNELS = 8  # channels it holds
GROUPS = 8  # at most so many partial sums for the gradients of B and C
WARPS, GRADIENT_WARPS = 4, 8  # so that no kernel spills registers
_ABSENT = ScanInputs(*[None] * 7)


@cache
def missing_package() -> str | None:
    """What would have to be installed; None where Triton can be imported."""
    return None if util.find_spec("triton") else "the package triton, which comes with PyTorch for CUDA"


def refusal(inputs: ScanInputs) -> str | None:
    """What it needs instead of these inputs; None where it can take them."""
    device = inputs.u.device
    if device.type == "cuda" or (device.type == "cpu" and not missing_package() and _kernels().INTERPRETED):
        return None
    return f"tensors on a CUDA device (or in main memory with TRITON_INTERPRET=1, for tests); these are on {device}"


def scan(inputs: ScanInputs, z: Tensor | None, delta_softplus: bool, reverse: bool) -> Tensor:
    """See `encoders.selective_scan.selective_scan`; shapes are checked there."""
    return _scan(inputs, _ABSENT, z, delta_softplus, reverse)


def scan_both_ways(forward: ScanInputs, backward: ScanInputs, z: Tensor | None, delta_softplus: bool, reverse: bool) -> Tensor:
    """See `encoders.selective_scan.bidirectional_scan`."""
    zeros = torch.zeros_like(forward.A[:, 0])  # a vector that one direction alone has
    for name in ("D", "delta_bias"):
        if getattr(forward, name) is not None or getattr(backward, name) is not None:
            forward, backward = (
                one._replace(**{name: zeros}) if getattr(one, name) is None else one for one in (forward, backward)
            )
    return _scan(forward, backward, z, delta_softplus, reverse)


def _scan(forward: ScanInputs, backward: ScanInputs, z: Tensor | None, delta_softplus: bool, reverse: bool) -> Tensor:
    tensors = [t for t in (*forward, *backward, z) if t is not None]
    keep_states = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    out_BLD = _Scan.apply(*forward, *backward, z, delta_softplus, reverse, keep_states)
    return out_BLD.transpose(1, 2).to(forward.u.dtype)  # outside: a view that a Function returns is read-only


class _Launch(NamedTuple):
    """What the kernels are called with: tensors in pairs, one a direction (twice the same where there is one), and sizes."""

    u: tuple[Tensor, Tensor]  # (B, L, D), channels innermost, of one set of strides; delta alike
    delta: tuple[Tensor, Tensor]
    A: tuple[Tensor, Tensor]
    B: tuple[Tensor, Tensor]  # (B, L, N), states innermost; C alike
    C: tuple[Tensor, Tensor]
    D: tuple[Tensor | None, Tensor | None]
    bias: tuple[Tensor | None, Tensor | None]
    z: Tensor | None  # (B, L, D)
    directions: int
    dtype: torch.dtype  # of the arithmetic

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Batch, channels, order, length, tiles."""
        (batch, length, channels), order = self.u[0].shape, self.A[0].shape[1]
        return batch, channels, order, length, -(-length // TILE)

    def strides(self, *names: str) -> list[int]:
        """Of samples and positions, for each of these sequences."""
        return [s for name in names for s in self._first(name).stride()[:2]]

    def _first(self, name: str) -> Tensor:
        if name == "z":
            return self.u[0] if self.z is None else self.z
        return getattr(self, name)[0]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        *tensors, delta_softplus, reverse, keep_states = arguments
        launch = _prepare(tensors)
        flags = {"SOFTPLUS": delta_softplus, "REVERSE": reverse}
        states, sums = _states(launch, flags)
        batch, channels, _, length, _ = launch.sizes
        out = launch.u[0].new_empty(launch.directions * batch, length, channels, dtype=launch.dtype)
        strides = launch.strides("u", "delta", "B", "C", "z")
        gates = {"HAS_D": launch.D[0] is not None, "HAS_BIAS": launch.bias[0] is not None, "HAS_Z": launch.z is not None}
        kernels = _kernels()
        kernels.tile_outputs[_grid(launch)](
            *launch.u, *launch.delta, *launch.A, *launch.B, *launch.C, *launch.D, *launch.bias, launch.z, states, out,
            *strides, *out.stride()[:2], *launch.sizes, **gates, **flags, **_tile(launch),
        )  # fmt: skip
        ctx.flags = flags
        ctx.save_for_backward(*tensors, *((states, sums) if keep_states else (None, None)))
        return out if launch.directions == 1 else out[:batch] + out[batch:]

    @staticmethod
    def backward(ctx, grad_out_BLD):
        refuse_second_derivative("triton")
        *tensors, states, sums = ctx.saved_tensors
        launch, flags, kernels = _prepare(tensors), ctx.flags, _kernels()
        batch, channels, order, length, tiles = launch.sizes
        lines = launch.directions * batch
        grad_out = grad_out_BLD.contiguous()
        gates = {"HAS_BIAS": launch.bias[0] is not None, "HAS_Z": launch.z is not None}

        def empty(*shape: int) -> Tensor:
            return grad_out.new_empty(shape, dtype=launch.dtype)

        adjoints = empty(lines, tiles, channels, order)
        kernels.tile_adjoints[_grid(launch)](
            *launch.delta, *launch.A, *launch.C, *launch.bias, launch.z, grad_out, adjoints,
            *launch.strides("delta", "C", "z"), *grad_out.stride()[:2], *launch.sizes, **gates, **flags, **_tile(launch),
        )  # fmt: skip
        _pass(launch, adjoints, sums, backward=True)

        blocks = -(-channels // CHANNELS)
        groups = max(1, min(GROUPS, blocks))
        grad_u, grad_delta, grad_z = (empty(lines, length, channels) for _ in range(3))
        grad_B, grad_C = (empty(lines, groups, length, order) for _ in range(2))
        grad_D, grad_bias = (empty(lines, tiles, channels) for _ in range(2))
        kernels.tile_gradients[(tiles, groups, lines)](
            *launch.u, *launch.delta, *launch.A, *launch.B, *launch.C, *launch.D, *launch.bias, launch.z, states, adjoints,
            grad_out, grad_u, grad_delta, grad_z, grad_B, grad_C, grad_D, grad_bias,
            *launch.strides("u", "delta", "B", "C", "z"), *grad_out.stride()[:2], *launch.sizes, -(-blocks // groups),
            HAS_D=launch.D[0] is not None, **gates, **flags, **_tile(launch, GRADIENT_WARPS),
        )  # fmt: skip
        grads = [
            *(grad_u.transpose(1, 2), grad_delta.transpose(1, 2), adjoints.sum(1)),
            *(grad_B.sum(1).transpose(1, 2), grad_C.sum(1).transpose(1, 2), grad_D.sum(1), grad_bias.sum(1)),
        ]
        grads = [g.unflatten(0, (launch.directions, batch)) for g in grads]
        of_a_sample = (True, True, False, True, True, False, False)
        each = [
            g[i] if whole else g[i].sum(0) for i in range(launch.directions) for g, whole in zip(grads, of_a_sample, strict=True)
        ]
        each += [None] * (len(tensors) - 1 - len(each))
        each.append(grad_z.unflatten(0, (launch.directions, batch)).sum(0).transpose(1, 2))
        return *(None if t is None else g.to(t.dtype) for g, t in zip(each, tensors, strict=True)), None, None, None


def _prepare(tensors: list[Tensor | None]) -> _Launch:
    """Pairs of tensors as the kernels read them; a missing second direction is the first one again."""
    given = [t for t in tensors if t is not None]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in given) else torch.float32
    first, z = ScanInputs(*tensors[:7]), tensors[14]
    directions = 1 if tensors[7] is None else 2
    second = ScanInputs(*tensors[7:14]) if directions == 2 else first
    pairs = list(zip(first, second, strict=True))
    sequences = {i: _alike(*map(_innermost, pairs[i])) for i in (0, 1, 3, 4)}
    vectors = {i: pairs[i] if pairs[i][0] is None else _alike(*(t.contiguous() for t in pairs[i])) for i in (2, 5, 6)}
    ordered = [(sequences | vectors)[i] for i in range(7)]
    return _Launch(*ordered, None if z is None else _innermost(z), directions, dtype)


def _states(launch: _Launch, flags: dict[str, bool]) -> tuple[Tensor, Tensor]:
    """The state before each tile (directions * B, tiles, D, N) and the tile's sum of step sizes (…, D)."""
    batch, channels, order, _, tiles = launch.sizes
    states = launch.u[0].new_empty(launch.directions * batch, tiles, channels, order, dtype=launch.dtype)
    sums = torch.empty_like(states[..., 0], memory_format=torch.contiguous_format)
    _kernels().tile_states[_grid(launch)](
        *launch.u, *launch.delta, *launch.A, *launch.B, *launch.bias, states, sums,
        *launch.strides("u", "delta", "B"), *launch.sizes, HAS_BIAS=launch.bias[0] is not None, **flags, **_tile(launch),
    )  # fmt: skip
    _pass(launch, states, sums, backward=False)
    return states, sums


def _pass(launch: _Launch, states: Tensor, sums: Tensor, backward: bool) -> None:
    batch, channels, order, _, tiles = launch.sizes
    tile = {key: value for key, value in _tile(launch).items() if key != "TILE"}
    grid = (-(-channels // CHANNELS), launch.directions * batch)
    _kernels().pass_states[grid](*launch.A, states, sums, batch, channels, order, tiles, BACKWARD=backward, **tile)


def _grid(launch: _Launch) -> tuple[int, int, int]:
    batch, channels, _, _, tiles = launch.sizes
    return tiles, -(-channels // CHANNELS), launch.directions * batch


def _tile(launch: _Launch, warps: int = WARPS) -> dict[str, object]:
    import triton  # as in `_kernels`
    import triton.language as tl

    precision = tl.float64 if launch.dtype == torch.float64 else tl.float32
    states = triton.next_power_of_2(launch.A[0].shape[1])
    return {"TILE": TILE, "CHANNELS": CHANNELS, "STATES": states, "ACC": precision, "num_warps": warps}


def _innermost(sequence: Tensor) -> Tensor:
    """(B, D, L) → (B, L, D) whose last axis has stride 1; a copy only where it has not."""
    sequence = sequence.transpose(1, 2)
    return sequence if sequence.stride(2) == 1 else sequence.contiguous()


def _alike(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both of one precision and with the same strides: the kernels are told one of each."""
    dtype = torch.promote_types(first.dtype, second.dtype)
    first, second = first.to(dtype), second.to(dtype)
    return (first, second) if first.stride() == second.stride() else (first.contiguous(), second.contiguous())


def _kernels():
    """Imported late: Triton is not everywhere."""
    from encoders.selective_scan import triton_kernels

    return triton_kernels

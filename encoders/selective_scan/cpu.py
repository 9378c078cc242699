"""The selective scan on the processor: (B, D, L) tensors in and out, gradients included, through the compiled kernels.

Linear time; the backward pass recomputes the states from those saved before each tile, so that memory stays at B·D·L.
Work is shared among `torch.get_num_threads()` threads; results do not depend on their number. Sequences are read where they
lie, whether positions or channels are innermost.
"""

import torch
from torch import Tensor

from encoders.selective_scan.inputs import ScanInputs, refuse_second_derivative
from encoders.selective_scan.kernels import LANES, TILE, scan_backward, scan_forward
from encoders.threads import share_out


def missing_package() -> None:
    """It needs nothing that is not always installed."""


def refusal(inputs: ScanInputs) -> str | None:
    """What it needs instead of these inputs; None where it can take them."""
    return None if inputs.u.device.type == "cpu" else f"tensors in main memory; these are on {inputs.u.device}"


def scan(inputs: ScanInputs, z: Tensor | None, delta_softplus: bool, reverse: bool) -> Tensor:
    """See `encoders.selective_scan.selective_scan`; shapes are checked there."""
    u, delta, A, B, C, D, delta_bias = inputs
    inputs = (u, delta, A, B, C, D, z, delta_bias)
    keep_states = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    out = _SelectiveScan.apply(*inputs, delta_softplus, reverse, keep_states)
    return _as_sequence(out, u.is_contiguous()).to(u.dtype)  # outside: a view that a Function returns is read-only


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse, keep_states):
        inputs = (u, delta, A, B, C, D, z, delta_bias)
        arrays, across = _as_arrays(*inputs)
        (batch, channels, length), order = u.shape, A.shape[1]
        out = torch.empty_like(arrays[0])
        states = out.new_empty(batch, -(-length // TILE) if keep_states else 0, order, channels)
        ctx.flags = (delta_softplus, reverse)
        share_out(scan_forward, (*arrays, *ctx.flags, *across, out, states), batch * -(-channels // LANES))
        ctx.save_for_backward(*inputs, states)
        return out

    @staticmethod
    def backward(ctx, grad_out):
        refuse_second_derivative("cpu")
        *inputs, states = ctx.saved_tensors
        arrays, across = _as_arrays(*inputs)
        (batch, channels, length), order = inputs[0].shape, inputs[2].shape[1]
        blocks = -(-channels // LANES)
        grad_u, grad_delta = torch.empty_like(arrays[0]), torch.empty_like(arrays[1])
        rows = (channels, length) if across[2] else (length, channels)
        grad_z = grad_u.new_empty((0, 0, 0) if inputs[6] is None else (batch, *rows))
        grad_B, grad_C = grad_u.new_empty(2, blocks, batch, length, order)
        grad_A = grad_u.new_empty(batch, order, channels)
        grad_D, grad_bias = grad_u.new_empty(2, batch, channels)
        results = (grad_u, grad_delta, grad_z, grad_B, grad_C, grad_A, grad_D, grad_bias)
        grad_out, across_out = _as_array(_as_sequence(grad_out, across[0]), grad_u.dtype)
        share_out(scan_backward, (*arrays, *ctx.flags, *across, states, grad_out, across_out, *results), batch * blocks)
        grads = (
            *(_as_sequence(grad_u, across[0]), _as_sequence(grad_delta, across[1]), _sum_in_order(grad_A).T),
            *(_sum_in_order(grad_B).transpose(1, 2), _sum_in_order(grad_C).transpose(1, 2), _sum_in_order(grad_D)),
            *(_as_sequence(grad_z, across[2]), _sum_in_order(grad_bias)),
        )
        return *(None if t is None else g.to(t.dtype) for g, t in zip(grads, inputs, strict=True)), None, None, None


def _as_arrays(u, delta, A, B, C, D, z, delta_bias) -> tuple[tuple[Tensor, ...], tuple[bool, bool, bool, int]]:
    """The tensors as the kernels read them, zeros for absent vectors, no gate for no z; `across` of u, delta and z; the index
    at which z's channels begin."""
    given = [t for t in (u, delta, A, B, C, D, z, delta_bias) if t is not None]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in given) else torch.float32

    def vector(tensor: Tensor | None) -> Tensor:
        return A.new_zeros(A.shape[0], dtype=dtype) if tensor is None else tensor.to(dtype).contiguous()

    (u, across_u), (delta, across_delta) = _as_array(u, dtype), _as_array(delta, dtype)
    z, across_z, z0 = (A.new_empty(0, 0, 0, dtype=dtype), False, 0) if z is None else _rows_around(z, dtype)
    B, C = (t.transpose(1, 2).to(dtype).contiguous() for t in (B, C))
    arrays = (u, delta, A.to(dtype).contiguous(), B, C, vector(D), z, vector(delta_bias))
    return arrays, (across_u, across_delta, across_z, z0)


def _as_array(sequence_BDL: Tensor, dtype: torch.dtype) -> tuple[Tensor, bool]:
    """(B, D, L) and True where positions lie innermost; otherwise (B, L, D) and False. A copy only if it lies in pieces."""
    if sequence_BDL.is_contiguous():
        return sequence_BDL.to(dtype), True
    return sequence_BDL.transpose(1, 2).to(dtype).contiguous(), False


def _rows_around(sequence_BDL: Tensor, dtype: torch.dtype) -> tuple[Tensor, bool, int]:
    """As `_as_array`, and its first channel: a slice of wider rows, as in_proj gives z, is read in these rows, uncopied."""
    rows = sequence_BDL.transpose(1, 2)
    batch, length, channels = rows.shape
    width = rows.stride(1)
    first = rows.storage_offset() % max(width, 1)
    start, held = rows.storage_offset() - first, rows.untyped_storage().nbytes() // rows.element_size()
    regular = rows.stride(2) == 1 and (batch == 1 or rows.stride(0) == length * width) and rows.dtype == dtype
    inside = first + channels <= width and start + batch * length * width <= held
    if sequence_BDL.is_contiguous() or rows.is_contiguous() or not (regular and inside):
        return *_as_array(sequence_BDL, dtype), 0
    return torch.as_strided(rows, (batch, length, width), (length * width, width, 1), start), False, first


def _as_sequence(array: Tensor, across: bool) -> Tensor:
    """What `_as_array` was given, (B, D, L)."""
    return array if across else array.transpose(1, 2)


def _sum_in_order(partial: Tensor) -> Tensor:
    """The sum over the first axis, always in the same order."""
    total = partial.new_zeros(partial.shape[1:])
    for part in partial:
        total += part
    return total

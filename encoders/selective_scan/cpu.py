"""The selective scan on the processor: (B, D, L) tensors in and out, gradients included, through the compiled kernels.

Linear time; the backward pass recomputes the states from those saved before each tile, so that memory stays at B·D·L.
Work is shared among `torch.get_num_threads()` threads; results do not depend on their number.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from encoders.selective_scan.inputs import ScanInputs
from encoders.selective_scan.kernels import LANES, TILE, scan_backward, scan_forward
from encoders.threads import share_out


def missing_package() -> None:
    """It needs nothing that is not always installed."""


def unreachable(device: torch.device) -> str | None:
    """What kind of tensors it needs instead; None where the device fits."""
    return None if device.type == "cpu" else "tensors in main memory"


def scan(inputs: ScanInputs, z: Tensor | None, delta_softplus: bool, reverse: bool) -> Tensor:
    """See `encoders.selective_scan.selective_scan`; shapes are checked there."""
    u, delta, A, B, C, D, delta_bias = inputs
    inputs = (u, delta, A, B, C, D, z, delta_bias)
    keep_states = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    out_BLD = _SelectiveScan.apply(*inputs, delta_softplus, reverse, keep_states)
    return out_BLD.transpose(1, 2).to(u.dtype)  # outside the Function: autograd lets nobody write into a view that one returned


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse, keep_states):
        inputs = (u, delta, A, B, C, D, z, delta_bias)
        arrays = _as_arrays(*inputs)
        u_BLD, order = arrays[0], A.shape[1]
        batch, length, channels = u_BLD.shape
        out = torch.empty_like(u_BLD)
        tiles = -(-length // TILE) if keep_states else 0
        states = u_BLD.new_empty(batch, tiles, order, channels)
        ctx.flags = (delta_softplus, reverse)
        share_out(scan_forward, (*arrays, *ctx.flags, out, states), batch * -(-channels // LANES))
        ctx.save_for_backward(*inputs, states)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out_BLD):
        *inputs, states = ctx.saved_tensors
        arrays = _as_arrays(*inputs)
        u_BLD, order = arrays[0], inputs[2].shape[1]
        batch, length, channels = u_BLD.shape
        blocks = -(-channels // LANES)
        grad_u, grad_delta, grad_z = torch.empty_like(u_BLD), torch.empty_like(u_BLD), torch.empty_like(arrays[6])
        grad_B, grad_C = u_BLD.new_empty(2, blocks, batch, length, order)
        grad_A = u_BLD.new_empty(batch, order, channels)
        grad_D, grad_bias = u_BLD.new_empty(2, batch, channels)
        results = (grad_u, grad_delta, grad_z, grad_B, grad_C, grad_A, grad_D, grad_bias)
        share_out(scan_backward, (*arrays, *ctx.flags, states, grad_out_BLD.contiguous(), *results), batch * blocks)
        grads = (
            grad_u.transpose(1, 2),
            grad_delta.transpose(1, 2),
            _sum_in_order(grad_A).T,
            _sum_in_order(grad_B).transpose(1, 2),
            _sum_in_order(grad_C).transpose(1, 2),
            _sum_in_order(grad_D),
            grad_z.transpose(1, 2),
            _sum_in_order(grad_bias),
        )
        return *(None if t is None else g.to(t.dtype) for g, t in zip(grads, inputs, strict=True)), None, None, None


def _as_arrays(u, delta, A, B, C, D, z, delta_bias) -> tuple[Tensor, ...]:
    """The tensors as the kernels read them: one precision, channels innermost, zeros for absent vectors, no gate for no z."""
    given = [t for t in (u, delta, A, B, C, D, z, delta_bias) if t is not None]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in given) else torch.float32

    def sequence(tensor: Tensor | None) -> Tensor:
        return A.new_empty(0, 0, 0, dtype=dtype) if tensor is None else tensor.transpose(1, 2).to(dtype).contiguous()

    def vector(tensor: Tensor | None) -> Tensor:
        return A.new_zeros(A.shape[0], dtype=dtype) if tensor is None else tensor.to(dtype).contiguous()

    return (
        *(sequence(u), sequence(delta), A.to(dtype).contiguous(), sequence(B), sequence(C)),
        *(vector(D), sequence(z), vector(delta_bias)),
    )


def _sum_in_order(partial: Tensor) -> Tensor:
    """The sum over the first axis, always in the same order."""
    total = partial[0].clone()
    for part in partial[1:]:
        total += part
    return total

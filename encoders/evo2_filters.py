"""Evo 2's Hyena filters: projected bases (B, L, 3H) flow in, filtered bases (B, L, H) flow out, whole or chunk by chunk.

All work here is per channel, so it runs in slices of channels: beside its input and output it needs memory for one slice, and
never the impulse responses of all states. What a chunk needs of the positions before it is carried in a `Past`, exactly.

Reference: Ku et al., "Systems and Algorithms for Convolutional Multi-Hybrid Language Models at Scale", 2025.
"""

import math

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor, nn

from encoders.evo2_config import HCL, HCS, Evo2Config

SLICE_ELEMENTS = 2**21
"""Channels × positions × sequences of one slice; its largest tensors hold some three times as many float32."""


class Past:
    """What a block remembers of the positions before a chunk, of `total` that there will be.

    Attributes:
        position: bases before this chunk.
        total: bases of the whole sequence.
        taps: the last inputs of the short filters, (B, 3H, taps).
        inner: the last inputs of an explicit filter, (B, H, taps), or the modal states of an implicit one, (B, H, S) float32.
        keys, values: of attention, (B, heads, at least `position`, head width).
    """

    def __init__(self, total: int) -> None:
        self.position, self.total = 0, total
        self.taps = self.inner = self.keys = self.values = None

    def ends_after(self, length: int) -> bool:
        """Whether nothing comes after a chunk of this length."""
        return self.position + length == self.total


class HyenaFilter(nn.Module):
    """Short filters, gates and inner filter of one Hyena block: y = q · filter(k · v), where q, k, v alternate in the input."""

    def __init__(self, config: Evo2Config, kind: str) -> None:
        super().__init__()
        width = config.hidden_size
        self.kind, self.width = kind, width
        self.short_filter_weight = nn.Parameter(torch.empty(3 * width, 1, config.short_filter_length))
        if kind == HCL:
            self.log_poles = nn.Parameter(torch.empty(width, config.state_size, 1))
            self.residues = nn.Parameter(torch.empty(width, config.state_size))
        else:
            groups, taps = getattr(config, f"{kind}_filter_groups"), getattr(config, f"{kind}_filter_length")
            self.h = nn.Parameter(torch.empty(groups, 1, taps))
        if kind != HCS:
            self.D = nn.Parameter(torch.empty(width))

    def forward(self, z_BLC: Tensor, past: Past) -> Tensor:
        """(B, L, 3H) → (B, L, H), in the precision of z; filters run in float32."""
        z_BCL = _swap(z_BLC)
        length = z_BCL.shape[2]
        size = max(1, SLICE_ELEMENTS // (len(z_BCL) * length))
        parts, taps, inner = [], [], []
        for start in range(0, self.width, size):
            channels = slice(start, min(start + size, self.width))
            triples = slice(3 * channels.start, 3 * channels.stop)
            z, tail = _extend(z_BCL[:, triples], _of(past.taps, triples), self.short_filter_weight.shape[2] - 1)
            taps.append(tail)
            q, k, v = fir(z, self.short_filter_weight[triples, 0]).unflatten(1, (-1, 3)).unbind(2)
            y, state = self._inner(k * v, channels, _of(past.inner, channels), past.ends_after(length))
            inner.append(state)
            parts.append(q * y)
        if not past.ends_after(length):
            past.taps, past.inner = torch.cat(taps, dim=1), torch.cat(inner, dim=1)
        return _swap(torch.cat(parts, dim=1))

    def _inner(self, u_BCL: Tensor, channels: slice, before: Tensor | None, last: bool) -> tuple[Tensor, Tensor | None]:
        """The inner filter on some channels, and what the next chunk needs of them."""
        if self.kind == HCL:
            poles, residues = wide(self.log_poles[channels, :, 0]), wide(self.residues[channels])
            y, state = implicit(wide(u_BCL), poles, residues, before, last)
            return y.to(u_BCL.dtype) + u_BCL * self.D[channels, None], state
        of_channel = torch.arange(channels.start, channels.stop, device=u_BCL.device) // (self.width // len(self.h))
        h = self.h[of_channel, 0]
        extended, tail = _extend(u_BCL, before, h.shape[1] - 1)
        if self.kind == HCS:
            return fir(extended, h), tail
        y = explicit(wide(extended), wide(h)) + wide(u_BCL) * wide(self.D[channels, None])
        return y.to(u_BCL.dtype), tail


def wide(x: Tensor) -> Tensor:
    """At least single precision."""
    return x if x.dtype == torch.float64 else x.float()


def fir(x_BCL: Tensor, weight: Tensor) -> Tensor:
    """(B, C, taps - 1 + L), weight (C, taps) → (B, C, L): the LAST tap is the position's own. Summed in float32.

    Tap by tap: a convolution of PyTorch would round its inputs to TF32 on a GPU.
    """
    x_BCL, dtype, length = wide(x_BCL), x_BCL.dtype, x_BCL.shape[2] - weight.shape[1] + 1
    y_BCL = x_BCL[..., :length] * wide(weight[:, :1])
    for tap in range(1, weight.shape[1]):
        y_BCL = torch.addcmul(y_BCL, x_BCL[..., tap : tap + length], wide(weight[:, tap : tap + 1]))
    return y_BCL.to(dtype)


def explicit(x_BCL: Tensor, h: Tensor) -> Tensor:
    """(B, C, taps - 1 + L), h (C, taps) → (B, C, L), float32: the FIRST tap is the position's own.

    By FFT of the extended length alone: what wraps around falls on the positions that only lead in.
    """
    length, before = x_BCL.shape[2], h.shape[1] - 1
    size = next_fast_len(length, real=True)
    spectrum = torch.fft.rfft(x_BCL, n=size) * torch.fft.rfft(h, n=size)
    return torch.fft.irfft(spectrum, n=size)[..., before:length]


def implicit(
    u_BCL: Tensor, log_poles: Tensor, residues: Tensor, before: Tensor | None, last: bool
) -> tuple[Tensor, Tensor | None]:
    """The causal convolution of u with h[c, k] = Σ_s residues[c, s] exp(log_poles[c, s] k), float32.

    Args:
        u_BCL: (B, C, L).
        log_poles, residues: (C, S).
        before: modal states Σ_j u_j exp(log_poles (t - 1 - j)) over all positions j < t, the chunk's first; None at the start.
        last: whether no chunk follows.

    Returns:
        (B, C, L), and the states before the next chunk, (B, C, S), where one follows.
    """
    length = u_BCL.shape[2]
    size = next_fast_len(2 * length - 1, real=True)
    spectrum = torch.fft.rfft(u_BCL, n=size) * torch.fft.rfft(modes(residues, log_poles, length), n=size)
    y = torch.fft.irfft(spectrum, n=size)[..., :length]
    if before is not None:
        y = y + modes(residues * before * log_poles.exp(), log_poles, length)
    if last:
        return y, None
    state = modal_state(u_BCL, log_poles)
    return y, state if before is None else state + before * (log_poles * length).exp()


def modes(weights: Tensor, log_poles: Tensor, length: int) -> Tensor:
    """Σ_s weights[…, c, s] exp(log_poles[c, s] k) for k = 0 … length - 1: (…, C, S), (C, S) → (…, C, length).

    With k = m·i + j the exponential is a product of two, so that the sum over states is one small matrix product a channel: some
    2·√length exponentials a state instead of `length`, and no tensor over states and positions.
    """
    coarse, fine = _two_scales(log_poles, length)
    return ((weights.unsqueeze(-2) * coarse) @ fine.mT).flatten(-2)[..., :length]


def modal_state(u_BCL: Tensor, log_poles: Tensor) -> Tensor:
    """Σ_j u_j exp(log_poles (L - 1 - j)): (B, C, L), (C, S) → (B, C, S); the sum of `modes`, transposed."""
    coarse, fine = _two_scales(log_poles, u_BCL.shape[2])
    backwards = F.pad(u_BCL.flip(-1), (0, coarse.shape[1] * fine.shape[1] - u_BCL.shape[2]))
    return ((backwards.unflatten(-1, (coarse.shape[1], -1)) @ fine) * coarse).sum(-2)


def _two_scales(log_poles: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """exp(log_poles m i) (C, I, S) and exp(log_poles j) (C, J, S), with m = J and I·J ≥ length."""
    fine = math.isqrt(length - 1) + 1
    coarse = math.ceil(length / fine)
    steps = torch.arange(max(fine, coarse), device=log_poles.device, dtype=log_poles.dtype)[:, None]
    return (log_poles[:, None] * (steps[:coarse] * fine)).exp(), (log_poles[:, None] * steps[:fine]).exp()


def _extend(x_BCL: Tensor, before: Tensor | None, taps: int) -> tuple[Tensor, Tensor]:
    """x behind the `taps` positions before it (zeros at the start), and the last `taps`, a copy that keeps no slice alive."""
    extended = F.pad(x_BCL, (taps, 0)) if before is None else torch.cat([before, x_BCL], dim=2)
    return extended, extended[..., extended.shape[2] - taps :].clone()


def _of(tensor: Tensor | None, channels: slice) -> Tensor | None:
    return None if tensor is None else tensor[:, channels]


def _swap(x: Tensor) -> Tensor:
    """(B, M, N) → (B, N, M), contiguous. Row by row: PyTorch has a fast copy for transposed matrices alone."""
    rows = [row.t().contiguous() for row in x]
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)

"""Mamba mixers and what stands around them: hidden states (B, L, D) in, hidden states (B, L, D) out.

    RMSNorm                  normalisation by the root mean square
    MambaMixer               the first Mamba's mixer, run from either end
    BidirectionalMambaMixer  VideoMamba's mixer: both directions between shared projections
    two_way_mixer            two mixers with the same projections, run as one
    AddNormBlock             add to the residual stream -> norm -> mixer

Parameter names are those of mamba-ssm and VideoMamba, so that published weights load key for key.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.causal_conv import causal_conv_silu
from encoders.selective_scan import ScanInputs, bidirectional_scan, selective_scan

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4  # range of the step sizes at initialisation


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last axis, computed in float32 at least, returned in the weight's precision.

    Reference:
        Zhang and Sennrich, Root Mean Square Layer Normalization, 2019, equation 4.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)).to(self.weight.dtype) * self.weight


class MambaMixer(nn.Module):
    """Mamba's mixer: (B, L, d_model) -> (B, L, d_model), each position seeing those before it (after it when reversed).

    Args:
        d_model: width of the hidden states.
        d_state: states a channel, N.
        d_conv: taps of the depthwise causal convolution.
        expand: inner width in multiples of d_model.
        dt_rank: rank of the step-size projection; None means ceil(d_model / 16).
        bias: whether in_proj and out_proj have one.
        conv_bias: whether the convolution has one.

    `backend`, None by default, names the backend of the selective scan.

    Reference:
        Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023, section 3.4 and figure 3.
    """

    backend: str | None = None

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        bias: bool = False,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        self.A_log, self.D = _state_parameters(self.d_inner, d_state)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias)
        self.conv1d = _depthwise(self.d_inner, d_conv, conv_bias)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)
        init_step_sizes(self.dt_proj)

    def forward(self, hidden_BLD: Tensor, reverse: bool = False) -> Tensor:
        """reverse=True gives flip(mixer(flip(hidden))) along L, without flipped copies."""
        x, z = self.in_proj(hidden_BLD).chunk(2, dim=-1)
        inputs = _select(self, x, reverse, suffix="")
        options = {"z": z.transpose(1, 2), "delta_softplus": True, "reverse": reverse, "backend": self.backend}
        return self.out_proj(selective_scan(**inputs._asdict(), **options).transpose(1, 2))


class BidirectionalMambaMixer(MambaMixer):
    """out_proj(forward(x, z) + backward(x, z)): a sum of both directions; in_proj and out_proj shared, z gates both.

    The second direction's parameters carry VideoMamba's names: A_b_log, D_b, conv1d_b, x_proj_b, dt_proj_b.
    Arguments are those of MambaMixer.

    Reference:
        Li et al., VideoMamba: State Space Model for Efficient Video Understanding, 2024, section 3.2.
    """

    def __init__(self, *sizes, **settings) -> None:
        super().__init__(*sizes, **settings)
        self.A_b_log, self.D_b = _state_parameters(self.d_inner, self.d_state)
        self.conv1d_b = _depthwise(self.d_inner, *self.conv1d.kernel_size, bias=self.conv1d.bias is not None)
        self.x_proj_b = nn.Linear(self.d_inner, self.dt_rank + 2 * self.d_state, bias=False)
        self.dt_proj_b = nn.Linear(self.dt_rank, self.d_inner)
        init_step_sizes(self.dt_proj_b)
        self.out_proj = self._modules.pop("out_proj")  # last, as in the published state dicts

    def forward(self, hidden_BLD: Tensor, reverse: bool = False) -> Tensor:
        """reverse=True gives flip(mixer(flip(hidden))) along L, without flipped copies."""
        x, z = self.in_proj(hidden_BLD).chunk(2, dim=-1)
        forward, backward = _select(self, x, reverse, suffix=""), _select(self, x, not reverse, suffix="_b")
        both = bidirectional_scan(forward, backward, z.transpose(1, 2), True, reverse, self.backend)
        return self.out_proj(both.transpose(1, 2))


def two_way_mixer(forward: MambaMixer, backward: MambaMixer, hidden_BLD: Tensor, multiply: bool = False) -> Tensor:
    """forward(hidden) + backward(hidden, reverse=True) of two mixers that share in_proj and out_proj; each of these runs once.

    Args:
        forward: reads from the first position; its projections and its backend are used.
        backward: reads from the last.
        hidden_BLD: hidden states, width d_model.
        multiply: the product of both directions in the place of their sum; out_proj then runs for each.
    """
    x, z = forward.in_proj(hidden_BLD).chunk(2, dim=-1)
    inputs = _select(forward, x, False, suffix=""), _select(backward, x, True, suffix="")
    if multiply:
        options = {"z": z.transpose(1, 2), "delta_softplus": True, "backend": forward.backend}
        ways = [selective_scan(**each._asdict(), **options, reverse=bool(way)) for way, each in enumerate(inputs)]
        return forward.out_proj(ways[0].transpose(1, 2)) * forward.out_proj(ways[1].transpose(1, 2))
    both = bidirectional_scan(*inputs, z.transpose(1, 2), True, False, forward.backend)
    return forward.out_proj(both.transpose(1, 2))


class BlockOutput(NamedTuple):
    """What a block hands on: the mixer's output and the residual stream that does not yet contain it, both (B, L, D)."""

    hidden: Tensor
    residual: Tensor


class AddNormBlock(nn.Module):
    """residual ← residual + drop_path(hidden); hidden ← mixer(norm(residual)). The residual stays in float32 at least.

    Args:
        mixer: (B, L, D) -> (B, L, D).
        dim: D.
        drop_path_rate: probability in training that a sample's hidden states are left out.
        eps: of the norm.
    """

    def __init__(self, mixer: nn.Module, dim: int, drop_path_rate: float = 0.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = RMSNorm(dim, eps)
        self.drop_path_rate = drop_path_rate

    def forward(self, hidden_BLD: Tensor, residual_BLD: Tensor | None = None) -> BlockOutput:
        residual = add_residual(drop_path(hidden_BLD, self.drop_path_rate, self.training), residual_BLD)
        return BlockOutput(self.mixer(self.norm(residual)), residual)


def add_residual(hidden: Tensor, residual: Tensor | None) -> Tensor:
    """hidden + residual in float32 at least; hidden alone where the stream begins."""
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return hidden if residual is None else hidden + residual


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zeroes whole samples of x (B, …) with probability `rate` in training and rescales the others by 1 / (1 - rate).

    Reference:
        Huang et al., Deep Networks with Stochastic Depth, 2016, equation 2.
    """
    if not training or rate == 0.0:
        return x
    keep = torch.empty(x.shape[0], *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(1 - rate)
    return x * keep / (1 - rate)


def init_step_sizes(dt_proj: nn.Linear) -> None:
    """Mamba's initialisation of Δ: softplus(bias) is log-uniform in [1e-3, 1e-1], the weights uniform in ± rank^-1/2.

    Reference:
        Gu and Dao 2023, section 3.6; Gu et al., How to Train Your HiPPO, 2022.
    """
    bound = dt_proj.in_features**-0.5
    with torch.no_grad():
        dt_proj.weight.uniform_(-bound, bound)
        dt = dt_proj.bias.uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp().clamp(min=DT_FLOOR)
        dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


def _select(mixer: MambaMixer, x_BLD: Tensor, reverse: bool, suffix: str) -> ScanInputs:
    """Convolution and selection of one direction: what its scan reads; z and the softplus come later."""
    x_proj, dt_proj = getattr(mixer, f"x_proj{suffix}"), getattr(mixer, f"dt_proj{suffix}")
    x = causal_conv_silu(x_BLD, getattr(mixer, f"conv1d{suffix}"), reverse)
    dt, B, C = x_proj(x).split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
    delta = F.linear(dt, dt_proj.weight)  # its bias goes inside the softplus
    A_log = getattr(mixer, f"A{suffix}_log")
    A = -torch.exp(A_log.to(torch.promote_types(A_log.dtype, torch.float32)))
    sequences = (x.transpose(1, 2), delta.transpose(1, 2), A, B.transpose(1, 2), C.transpose(1, 2))
    return ScanInputs(*sequences, getattr(mixer, f"D{suffix}"), dt_proj.bias)


def _state_parameters(channels: int, d_state: int) -> tuple[nn.Parameter, nn.Parameter]:
    """A_log (channels, d_state), A being -1 … -d_state in every channel (S4D-real), and the skip D (channels,)."""
    A_log = torch.log(torch.arange(1, d_state + 1, dtype=torch.float32)).repeat(channels, 1)
    return nn.Parameter(A_log), nn.Parameter(torch.ones(channels))


def _depthwise(channels: int, taps: int, bias: bool) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, taps, groups=channels, padding=taps - 1, bias=bias)

"""The causal depthwise convolution of Mamba and the SiLU behind it: (B, L, D) in, (B, L, D) out, channels innermost.

On a GPU causal-conv1d where it is installed; elsewhere PyTorch's own convolution, which is as fast on a processor as a loop
compiled for the purpose.
"""

from functools import cache
from importlib import import_module, util
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_TAPS = 4  # of causal-conv1d's kernels, which have no fewer than 2
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)


def causal_conv_silu(x_BLD: Tensor, conv: nn.Conv1d, reverse: bool = False) -> Tensor:
    """silu(conv(x)): position l sees only l - taps + 1 … l (l … l + taps - 1 when reversed), each channel by itself.

    Args:
        x_BLD: of any strides.
        conv: a depthwise nn.Conv1d; only its weight and bias are used.
        reverse: flip(causal_conv_silu(flip(x))) along L; without flipped copies but for causal-conv1d, which needs them.

    Returns:
        (B, L, D) with channels innermost in memory, as the scan wants them.

    Reference:
        Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023, figure 3.
    """
    weight = conv.weight.flatten(1)  # through two dimensions, so that its gradient has its strides, as DDP's buckets want
    taps = weight.shape[1]
    if x_BLD.device.type == "cuda" and fits_package(x_BLD, taps) and (package := published_kernels()) is not None:
        return through_package(package, x_BLD, weight, conv.bias, reverse)
    zeros = x_BLD.new_zeros(x_BLD.shape[0], taps - 1, x_BLD.shape[2])
    padded = torch.cat([x_BLD, zeros] if reverse else [zeros, x_BLD], dim=1)  # F.pad would fill all of it first
    weight = weight.flip(-1) if reverse else weight
    flat = padded.transpose(1, 2).unsqueeze(2)  # a flat image: two-dimensional convolutions keep channels innermost
    y = F.conv2d(flat, weight[:, None, None], conv.bias, groups=conv.groups)
    return F.silu(y, inplace=not y.requires_grad).squeeze(2).transpose(1, 2)


def fits_package(x_BLD: Tensor, taps: int) -> bool:
    """Whether causal-conv1d's kernels take these: few taps, at most single precision, channels and strides in eights."""
    eights = all(size % 8 == 0 for size in (x_BLD.shape[2], x_BLD.stride(0), x_BLD.stride(1)))
    return 2 <= taps <= MAX_TAPS and x_BLD.dtype in PRECISIONS and x_BLD.stride(2) == 1 and eights


def through_package(package: ModuleType, x_BLD: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    """As `causal_conv_silu`, by causal-conv1d, whose kernels take one precision and run from the first position on."""
    x = (x_BLD.flip(1) if reverse else x_BLD).transpose(1, 2)
    bias = None if bias is None else bias.to(x.dtype)
    y = package.causal_conv1d_fn(x, weight.to(x.dtype), bias, activation="silu").transpose(1, 2)
    return y.flip(1) if reverse else y


@cache
def published_kernels() -> ModuleType | None:
    """causal-conv1d, where it can be imported."""
    try:
        return import_module("causal_conv1d") if util.find_spec("causal_conv1d") else None
    except (ImportError, OSError):  # built for another torch or CUDA
        return None

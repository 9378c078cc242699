"""FP8 in software: a projection of an Evo 2 trained in FP8 and its scales flow in, a module that rounds as FP8 flows out.

Inputs and weights are rounded to e4m3 (3 bits of mantissa) at the scales that the training left in the checkpoint. Nothing else
of the network is: only the projections of the Hyena blocks were trained so.

Reference: Micikevicius et al., "FP8 Formats for Deep Learning", 2022.
"""

import io

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 448.0
"""Of the finite numbers of e4m3."""


class FP8Linear(nn.Linear):
    """y = (e4m3(x · s_x) e4m3(W · s_w)ᵀ) / (s_x s_w), no bias; `weight` holds e4m3(W · s_w) in the precision of the network.

    The gradient passes the rounding as if it were not there.

    Args:
        linear: the projection; its weight W is taken over.
        scales: s_x and s_w, (2,) float32.
    """

    def __init__(self, linear: nn.Linear, scales: Tensor) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        weight = linear.weight.detach()
        self.input_scale, weight_scale = scales.tolist()  # numbers: a tensor's would be rounded to bfloat16 on a GPU
        self.unscale = 1 / (self.input_scale * weight_scale)
        self.weight = nn.Parameter(to_e4m3(weight, weight_scale).to(weight.dtype), requires_grad=False)
        self.register_buffer("fp8_scales", scales.to(weight.device))

    def forward(self, x: Tensor) -> Tensor:
        rounded = to_e4m3(x.detach(), self.input_scale).to(x.dtype)
        if x.requires_grad:
            scaled = x * self.input_scale
            rounded = scaled + (rounded - scaled).detach()
        return F.linear(rounded, self.weight) * self.unscale


def to_e4m3(x: Tensor, scale: float) -> Tensor:
    """e4m3(x · scale), saturating; the product is formed in bfloat16, which was reported to come nearer to the FP8 hardware."""
    product = x.to(torch.bfloat16) * scale
    return product.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def read_scales(blob: object) -> Tensor:
    """The metadata that a checkpoint keeps beside a projection → the scales of its input and weight, (2,) float32.

    Raises:
        ValueError: there is none, or it holds no scales.
    """
    content = _content(blob)
    scales = content.get("scale_fwd")
    if not isinstance(scales, Tensor) or scales.numel() < 2 or not bool(((scales > 0) & scales.isfinite()).flatten()[:2].all()):
        held = ", ".join(map(str, content)) or "nothing"
        raise ValueError(f"FP8 metadata of a projection must hold scale_fwd, positive numbers for input and weight; got {held}.")
    return scales.flatten()[:2].float()


def has_scales(blob: object) -> bool:
    """Whether metadata are those of a projection that runs in FP8."""
    return "scale_fwd" in _content(blob)


def _content(blob: object) -> dict:
    if not isinstance(blob, io.BytesIO) or not blob.getbuffer().nbytes:
        return {}
    content = torch.load(io.BytesIO(blob.getvalue()), map_location="cpu", weights_only=True)
    return content if isinstance(content, dict) else {}

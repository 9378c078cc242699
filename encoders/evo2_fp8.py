"""FP8: a projection of an Evo 2 trained in FP8 and its scales flow in, a module that multiplies in FP8 flows out.

Inputs and weights are rounded to e4m3 (3 bits of mantissa) at the scales that the training left in the checkpoint, in software or
by Transformer Engine on a GPU that has FP8. Nothing else of the network is: only the projections of the Hyena blocks were trained
so.

Reference: Micikevicius et al., "FP8 Formats for Deep Learning", 2022.
"""

import io
from importlib import import_module, util

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 448.0
"""Of the finite numbers of e4m3."""

HISTORY = 16
"""Steps of largest entries that the published recipe remembers."""

ROWS = 16
"""FP8 products take whole multiples of so many rows."""


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


class TransformerEngineLinear(nn.Linear):
    """The same product by Transformer Engine's kernels, in the published recipe: HYBRID, delayed scaling, 16 steps, "max".

    The scales are the checkpoint's and stay what they are: the engine follows its inputs in training alone. **No GPU has run this
    yet**: what is tested is how the engine is called.

    Args:
        linear: the projection, on the GPU; its weight is taken over.
        scales: of its input and weight, (2,) float32.

    Raises:
        ImportError: Transformer Engine is not installed.
    """

    def __init__(self, linear: nn.Linear, scales: Tensor) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight = linear.weight
        self.register_buffer("fp8_scales", scales.to(linear.weight.device))
        engine, recipes = import_module("transformer_engine.pytorch"), import_module("transformer_engine.common.recipe")
        self._recipe = recipes.DelayedScaling(fp8_format=recipes.Format.HYBRID, amax_history_len=HISTORY, amax_compute_algo="max")
        place = {"params_dtype": self.weight.dtype, "device": self.weight.device}
        kernels = engine.Linear(linear.in_features, linear.out_features, bias=False, **place).eval()
        kernels.weight = self.weight
        kernels.set_extra_state(_engine_state(scales, self._recipe))
        self._engine = (engine, kernels)  # hidden in a tuple: the engine's own state is no tensor, and no state of ours

    def forward(self, x: Tensor) -> Tensor:
        engine, kernels = self._engine
        rows = x.reshape(-1, x.shape[-1])
        padded = F.pad(rows, (0, 0, 0, -len(rows) % ROWS))
        with engine.fp8_autocast(enabled=True, fp8_recipe=self._recipe):
            y = kernels(padded)
        return y[: len(rows)].reshape(*x.shape[:-1], -1)


def engine_refusal(device: torch.device) -> str | None:
    """Why Transformer Engine cannot run there, as the rest of a sentence; None where it can."""
    if util.find_spec("transformer_engine") is None:
        return "it is not installed"
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        return f"{device} has no FP8"
    return None


def _engine_state(scales: Tensor, recipe: object) -> io.BytesIO:
    """What the engine keeps of a projection, written anew from two numbers: nothing of the file reaches its unpickler."""
    forward = torch.tensor([*scales.tolist(), 1.0])
    state = {
        "scale_fwd": forward,
        "scale_inv_fwd": 1 / forward,
        "amax_history_fwd": (LARGEST / forward).expand(HISTORY, 3).clone(),
        "scale_bwd": torch.ones(2),
        "scale_inv_bwd": torch.ones(2),
        "amax_history_bwd": torch.zeros(HISTORY, 2),
        "recipe": recipe,
        "extra_fp8_variables": {"num_gemms": 1},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


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
    try:
        content = torch.load(io.BytesIO(blob.getvalue()), map_location="cpu", weights_only=True)
    except Exception:  # whatever is wrong with it: it holds no tensors and numbers, and nothing else is read
        return {}
    return content if isinstance(content, dict) else {}

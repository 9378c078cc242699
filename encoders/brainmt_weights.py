"""Published BrainMT weights: a state dict or its file in; the sizes behind it, and a state dict that fits another shape, out."""

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders.brainmt_config import PUBLISHED_VOLUME, numbers_fault
from encoders.published import list_faults, read_tensors, state_faults

logger = logging.getLogger(__name__)

Grid = tuple[int, int, int]

WRAPPER = "model_state_dict"
PREFIX = "module."  # left by DistributedDataParallel
_FIX = "\n  fix: pass an unchanged state dict of the published code."


def token_grid(volume_shape: Grid) -> Grid:
    """(D', H', W') after the stem: each of its four stride-2 steps halves a side, rounding up."""
    return tuple(-(-side // 16) for side in volume_shape)


def read_state(source: str | Path | Mapping) -> dict[str, Tensor]:
    """The tensors by their published names, without wrapper and prefixes.

    Args:
        source: a state dict, or the path of a .safetensors or torch file; never unpickles anything but tensors.

    Raises:
        FileNotFoundError, ValueError: as in `encoders.published.read_tensors`.
    """
    return {key.removeprefix(PREFIX): value for key, value in read_tensors(source, WRAPPER).items()}


def sizes_of(state: Mapping[str, Tensor]) -> dict:
    """The fields of BrainMTConfig that the tensors tell: direction, depths, widths, number of frames.

    Raises:
        ValueError: listing the tensors that are missing for it.
    """
    mixer = "layers.0.mixer"
    first, second = "patch_embed.conv_down.0.weight", "patch_embed.conv_down.2.weight"
    needed = {"cls_token": 3, "pos_embed": 3, "temporal_pos_embedding": 3, first: 5, second: 5}
    needed |= {f"{mixer}.A_log": 2, f"{mixer}.conv1d.weight": 3}
    faults = [f"{key}: missing" for key in needed if key not in state]
    faults += [
        f"{key}: {dims} axes expected, shape {tuple(state[key].shape)} found"
        for key, dims in needed.items()
        if key in state and state[key].dim() != dims
    ]
    if faults:
        raise ValueError(f"BrainMT weights need the published keys to tell their sizes; {list_faults(faults)}{_FIX}")
    embed_dim, (channels, d_state) = state["cls_token"].shape[-1], state[f"{mixer}.A_log"].shape
    return {
        "num_frames": state["temporal_pos_embedding"].shape[1],
        "in_chans": state[first].shape[1],
        "num_classes": state["head.weight"].shape[0] if "head.weight" in state else 0,
        "embed_dim": embed_dim,
        "depth": (_count(state, "layers"), _count(state, "blocks")),
        "stem_channels": (state[first].shape[0], state[second].shape[0]),
        "bidirectional": f"{mixer}.A_b_log" in state,
        "d_state": d_state,
        "d_conv": state[f"{mixer}.conv1d.weight"].shape[-1],
        "expand": max(1, channels // embed_dim),
        "qkv_bias": "blocks.0.qkv.bias" in state or "blocks.0.qkv.weight" not in state,
    }


def own_grid(tokens: int, volume_shape: Grid | None, trained_volume_shape: Grid | None) -> Grid:
    """The token grid that weights with so many spatial positions were trained on; only its size is written in the weights.

    That of trained_volume_shape where it is given; otherwise the published one where it fits, and else that of volume_shape.

    Raises:
        ValueError: the number of positions fits none of them.
    """
    if trained_volume_shape and (fault := numbers_fault("trained_volume_shape", trained_volume_shape, 3, 1)):
        raise ValueError(f"BrainMT weights: {fault}.\n  fix: give depth, height and width of the volumes they were trained on.")
    candidates = [trained_volume_shape] if trained_volume_shape else [PUBLISHED_VOLUME, volume_shape]
    tried = [(tuple(shape), token_grid(shape)) for shape in candidates if shape]
    fitting = [(shape, grid) for shape, grid in tried if math.prod(grid) == tokens]
    if not fitting:
        raise ValueError(
            f"BrainMT weights: their {tokens} spatial positions must be the token grid of a known volume shape; tried "
            f"{', '.join(f'{shape} → {math.prod(grid)}' for shape, grid in tried)}.\n"
            "  fix: pass volume_shape=(D, H, W) of the data, and trained_volume_shape=… where the weights saw another shape."
        )
    return fitting[0][1]


def fit_positions(state: dict[str, Tensor], trained: Grid, wanted: Grid, num_frames: int) -> dict[str, Tensor]:
    """The state dict with both position embeddings brought to a token grid (trilinear; CLS row kept) and a length (linear).

    Says so in the log, as a warning, when anything is interpolated.
    """
    frames = state["temporal_pos_embedding"].shape[1]
    if (trained, frames) != (wanted, num_frames):
        change = "BrainMT's positions are interpolated: token grid %s to %s, frames %d to %d%s"
        doubt = " (trained_volume_shape=… says it if the weights saw another shape)" if trained != wanted else ""
        logger.warning(change, trained, wanted, frames, num_frames, doubt)
    state = dict(state)
    if trained != wanted:
        cls, grid = state["pos_embed"].split([1, math.prod(trained)], dim=1)
        volume = F.interpolate(grid.transpose(1, 2).unflatten(2, trained).float(), size=wanted, mode="trilinear")
        state["pos_embed"] = torch.cat([cls, volume.flatten(2).transpose(1, 2).to(cls.dtype)], dim=1)
    if num_frames != frames:
        time = state["temporal_pos_embedding"]
        stretched = F.interpolate(time.transpose(1, 2).float(), size=num_frames, mode="linear")
        state["temporal_pos_embedding"] = stretched.transpose(1, 2).to(time.dtype)
    return state


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError listing every tensor that is missing, unexpected or of another shape than expected."""
    if faults := state_faults(state, expected):
        raise ValueError(f"BrainMT weights must fit the model that their sizes describe; {list_faults(faults)}{_FIX}")


def _count(state: Mapping[str, Tensor], stage: str) -> int:
    """One more than the highest number among keys like layers.11.…; 0 without any."""
    numbers = [int(match[1]) for key in state if (match := re.match(rf"{stage}\.(\d+)\.", key))]
    return max(numbers, default=-1) + 1

"""What a published Caduceus says of itself: its config.json flows in, the sizes and switches of the network flow out, checked."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from encoders.published_config import read_settings

TOKENS = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", *"ACGTN")
SSM_SHAPE = ("d_state", "d_conv", "expand", "dt_rank")

_SSM_INIT_ONLY = ("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path")
_SSM_FIXED = {"conv_bias": True, "bias": False}
_FIXED = {"rms_norm": True, "bidirectional": True}
_COUNTS = ("d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", *SSM_SHAPE)
_SWITCHES = ("rcps", "fused_add_norm", "residual_in_fp32", "bidirectional_weight_tie")
_NULLABLE = ("dt_rank", *_SWITCHES, "norm_epsilon", "bidirectional_strategy", "complement_map", "ssm_cfg")


@dataclass(frozen=True)
class CaduceusConfig:
    """What a published config.json says of the network; names and defaults follow it where it has both."""

    d_model: int
    n_layer: int
    vocab_size: int = 16
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None
    rcps: bool = False
    fused_add_norm: bool = True
    residual_in_fp32: bool = True
    norm_epsilon: float = 1e-5
    bidirectional_strategy: str = "add"
    bidirectional_weight_tie: bool = True
    complement_map: tuple[int, ...] | None = None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Reads config.json; the vocabulary is padded as the published constructor does, the complement map is read by key.

        Raises:
            ValueError: not JSON; settings that are missing, of the wrong kind, or that no published model has (all listed).
        """
        expected = "A Caduceus config.json must describe a published kind of network"
        raw = read_settings(path, _config_faults, expected, "use the config.json that belongs to the weights")
        given = {**raw, **(raw.get("ssm_cfg") or {})}
        own = {name: given[name] for name in cls.__dataclass_fields__ if given.get(name) not in (None, "auto")}
        multiple = raw.get("pad_vocab_size_multiple", 8)
        own["vocab_size"] = math.ceil(raw["vocab_size"] / multiple) * multiple
        if "complement_map" in own:
            own["complement_map"] = tuple(own["complement_map"].get(str(i), i) for i in range(own["vocab_size"]))
        return cls(**own)


def _config_faults(raw: dict) -> list[str]:
    """What in a config.json is missing, of the wrong kind, or belongs to no published kind of network."""
    faults = [f"{name} is missing" for name in ("d_model", "n_layer", "vocab_size") if name not in raw]
    ssm = raw.get("ssm_cfg") or {}
    if not isinstance(ssm, dict):
        faults.append(f"ssm_cfg is {ssm!r}, not an object")
        ssm = {}
    faults += [f"ssm_cfg.{name} is unknown" for name in ssm if name not in (*SSM_SHAPE, *_SSM_INIT_ONLY, *_SSM_FIXED)]
    for part, fixed in ((raw, _FIXED), (ssm, _SSM_FIXED)):
        faults += [
            f"{name} is {part[name]!r}, not {value}" for name, value in fixed.items() if part.get(name, value) is not value
        ]
    faults += [fault for name, value in {**raw, **ssm}.items() if (fault := _value_fault(name, value)) is not None]
    if raw.get("rcps") and not raw.get("complement_map"):
        faults.append("complement_map is missing, and rcps needs it")
    return faults


def _value_fault(name: str, value: object) -> str | None:
    """What is wrong with one setting by itself; None if nothing, or if the network does not depend on it."""
    if (value is None and name in _NULLABLE) or (name == "dt_rank" and value == "auto"):
        return None
    whole, least = type(value) is int, len(TOKENS) if name == "vocab_size" else 1
    if name in _COUNTS and not (whole and value >= least):
        why = ", the number of the tokenizer's tokens" if name == "vocab_size" else ""
        return f"{name} is {value!r}, not a whole number of at least {least}{why}"
    if name in _SWITCHES and not isinstance(value, bool):
        return f"{name} is {value!r}, not true or false"
    if name == "norm_epsilon" and not ((whole or isinstance(value, float)) and 0 < value < math.inf):
        return f"{name} is {value!r}, not a number above 0"
    if name == "bidirectional_strategy" and value not in ("add", "ew_multiply"):
        return f"{name} is {value!r}, not add or ew_multiply"
    if name == "complement_map" and not _maps_tokens(value):
        return f"{name} is {value!r}, not an object of token ids"
    return None


def _maps_tokens(value: object) -> bool:
    return isinstance(value, dict) and all(key.isdecimal() and type(to) is int and to >= 0 for key, to in value.items())

"""What a published GENERator says of itself: its config.json flows in, the sizes of a stock Llama flow out, checked."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from encoders.generator_tokenizer import VOCABULARY, K
from encoders.published_config import read_settings

ARCHITECTURES = ("GENERatorForCausalLM", "LlamaForCausalLM")

_COUNTS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    "max_position_embeddings",
)
_FIXED = {
    "model_type": "llama",
    "vocab_size": len(VOCABULARY),
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "sliding_window": None,
    "quantization_config": None,
}
_REQUIRED = ("model_type", "vocab_size", *_COUNTS, "rms_norm_eps")


@dataclass(frozen=True)
class GeneratorConfig:
    """The sizes that a published config.json gives; names follow it. Everything else is the same in all published models."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 16_384
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500_000.0

    @property
    def max_bases(self) -> int:
        """The longest sequence that the positions hold behind <s>, in bases."""
        return (self.max_position_embeddings - 1) * K

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Reads config.json in the hub's form (rope_theta) or as transformers 5 writes it (rope_parameters).

        Raises:
            ValueError: not JSON; settings that are missing, of the wrong kind, or that no published model has (all listed).
        """
        expected = "A GENERator config.json must describe the published kind of Llama"
        raw = read_settings(path, _config_faults, expected, "use the config.json that belongs to the weights")
        return cls(**{name: raw[name] for name in (*_COUNTS, "rms_norm_eps")}, rope_theta=float(_thetas(raw)[0]))


def _config_faults(raw: dict) -> list[str]:
    """What in a config.json is missing, of the wrong kind, or belongs to no published kind of network."""
    faults = [f"{name} is missing" for name in _REQUIRED if name not in raw]
    if "architectures" in raw and raw["architectures"] not in [[name] for name in ARCHITECTURES]:
        faults.append(f"architectures is {raw['architectures']!r}, not one of {', '.join(ARCHITECTURES)}")
    faults += [f"{name} is {raw[name]!r}, not {value!r}" for name, value in _FIXED.items() if name in raw and raw[name] != value]
    faults += [
        f"{name} is {raw[name]!r}, not a whole number of at least 1"
        for name in _COUNTS
        if name in raw and not (type(raw[name]) is int and raw[name] >= 1)
    ]
    if "rms_norm_eps" in raw and not _is_positive(raw["rms_norm_eps"]):
        faults.append(f"rms_norm_eps is {raw['rms_norm_eps']!r}, not a number above 0")
    return faults + _rope_faults(raw) + ([] if faults else _head_faults(raw))


def _rope_faults(raw: dict) -> list[str]:
    rope = raw.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        return [f"rope_parameters is {rope!r}, not those of the plain kind, rope_type default"]
    thetas = _thetas(raw)
    if not thetas:
        return ["rope_theta is missing"]
    if len(set(map(repr, map(_as_float, thetas)))) > 1 or not _is_positive(thetas[0]):
        return [f"rope_theta is {' and '.join(map(repr, thetas))}, not one number above 0"]
    return []


def _head_faults(raw: dict) -> list[str]:
    """How the sizes of the heads do not go together; the sizes themselves are sound."""
    hidden, heads, kv_heads = (raw[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    faults = []
    if hidden % (2 * heads):
        faults.append(f"hidden_size is {hidden}, not a multiple of twice the num_attention_heads ({heads})")
    elif raw.get("head_dim") not in (None, hidden // heads):
        faults.append(f"head_dim is {raw['head_dim']!r}, not hidden_size / num_attention_heads ({hidden // heads})")
    if heads % kv_heads:
        faults.append(f"num_attention_heads is {heads}, not a multiple of num_key_value_heads ({kv_heads})")
    return faults


def _thetas(raw: dict) -> list[object]:
    """Every rope_theta that the file gives, of either form."""
    places = (raw, raw.get("rope_parameters") or {})
    return [place["rope_theta"] for place in places if place.get("rope_theta") is not None]


def _as_float(value: object) -> object:
    return float(value) if type(value) is int else value


def _is_positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf

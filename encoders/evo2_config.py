"""What an Evo 2 is: all published configurations as data, or a config.json flows in, checked sizes and switches flow out.

The published models say too little of themselves: their files hold no configuration, the config.json on the hub holds a name
only, and one `model_name` stands for several models. So the published settings lie here.

Reference: Brixi et al., "Genome modeling and design across all domains of life with Evo 2", 2025.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from encoders.published_config import read_settings

HCS, HCM, HCL, ATTENTION = "hcs", "hcm", "hcl", "attn"
STRIPE = (HCS, HCM, HCL)
"""Short explicit, medium explicit, long implicit filters: the order in which the Hyena blocks take turns."""

_COUNTS = (
    *("hidden_size", "num_layers", "num_attention_heads", "inner_mlp_size", "hcs_filter_groups", "hcm_filter_groups"),
    *("hcs_filter_length", "hcm_filter_length", "short_filter_length", "state_size", "vocab_size", "max_seqlen"),
)
_POSITIVE = ("eps", "rotary_emb_base")
_BLOCKS = ("hcs_layer_idxs", "hcm_layer_idxs", "hcl_layer_idxs", "attn_layer_idxs")
_FIXED = {
    **dict.fromkeys(("interleave", "column_split", "evo2_style_activations", "final_norm", "tie_embeddings"), True),
    **dict.fromkeys(("mha_out_proj_bias", "hyena_out_proj_bias"), True),
    **dict.fromkeys(("column_split_hyena", "hyena_flip_x1x2", "short_filter_bias", "qkv_proj_bias"), False),
    "proj_groups": 1,
    "mlp_activation": "gelu",
}
_SCALED, _SCALE, _FP8, _NAME = (
    *("use_interpolated_rotary_pos_emb", "rotary_emb_scaling_factor"),
    *("use_fp8_input_projections", "published_name"),
)


@dataclass(frozen=True)
class Evo2Config:
    """Sizes and switches of one network; fields have the names of the published yml files.

    `published_name` is the model that these settings are known to be of. `rotary_emb_scaling_factor` divides the positions (1: as
    they are). `max_seqlen` is the context in bases.
    """

    published_name: str | None
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    inner_mlp_size: int
    attn_layer_idxs: tuple[int, ...]
    hcs_filter_groups: int
    hcm_filter_groups: int
    rotary_emb_base: float
    rotary_emb_scaling_factor: float
    max_seqlen: int
    use_fp8_input_projections: bool = True
    hcs_filter_length: int = 7
    hcm_filter_length: int = 128
    short_filter_length: int = 3
    state_size: int = 16
    vocab_size: int = 512
    eps: float = 1e-6

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each block mixes with: hcs, hcm, hcl or attn."""
        stripe, attention = 0, set(self.attn_layer_idxs)
        kinds = []
        for i in range(self.num_layers):
            kinds.append(ATTENTION if i in attention else STRIPE[stripe % 3])
            stripe += i not in attention
        return tuple(kinds)

    def blocks(self, kind: str) -> tuple[int, ...]:
        """The blocks of one kind."""
        return tuple(i for i, block in enumerate(self.kinds) if block == kind)

    @property
    def default_layer(self) -> str:
        """See `encoders.evo2.Evo2Encoder`."""
        if (self.hidden_size, self.num_layers) == (8192, 50):
            return "blocks.20"
        return f"blocks.{28 * self.num_layers // 32}.mlp.l3"

    @classmethod
    def from_file(cls, path: Path) -> Self | None:
        """A config.json with the keys of the published yml files; None for one that configures nothing, as the hub's.

        Raises:
            ValueError: not JSON; settings that are missing, of the wrong kind, or that no Evo 2 has (all listed).
        """
        expected = "An Evo 2 config.json must hold the settings of the published yml"
        fix = "use the settings that belong to the weights, or remove the file and pass model=NAME"
        raw = read_settings(path, lambda raw: _config_faults(raw) if _configures(raw) else [], expected, fix)
        if not _configures(raw):
            return None
        own = {name: raw[name] for name in (*_COUNTS, *_POSITIVE)}
        return cls(
            **own,
            published_name=raw.get(_NAME),
            attn_layer_idxs=tuple(raw["attn_layer_idxs"]),
            rotary_emb_scaling_factor=raw[_SCALE] if raw.get(_SCALED) else 1,
            use_fp8_input_projections=raw[_FP8],
        )

    def to_json(self) -> str:
        """What `from_file` reads."""
        settings = asdict(self)
        settings.update({key: list(self.blocks(key.removesuffix("_layer_idxs"))) for key in _BLOCKS})
        settings[_SCALED] = self.rotary_emb_scaling_factor != 1
        return json.dumps({**settings, **_FIXED}, indent=1) + "\n"


def _configures(raw: dict) -> bool:
    return any(key in raw for key in (*_COUNTS, *_POSITIVE, *_BLOCKS))


def _config_faults(raw: dict) -> list[str]:
    """What in a config.json is missing, of the wrong kind, or belongs to no Evo 2."""
    faults = [f"{name} is missing" for name in (*_COUNTS, *_POSITIVE, *_BLOCKS, _FP8) if name not in raw]
    faults += [
        f"{name} is {raw[name]!r}, not a whole number of at least 1"
        for name in _COUNTS
        if name in raw and not (type(raw[name]) is int and raw[name] >= 1)
    ]
    numbers = (*_POSITIVE, *((_SCALE,) if raw.get(_SCALED) else ()))
    faults += [
        f"{name} is {raw[name]!r}, not a number above 0" for name in numbers if name in raw and not _is_positive(raw[name])
    ]
    if raw.get(_SCALED) and _SCALE not in raw:
        faults.append(f"{_SCALE} is missing, and {_SCALED} needs it")
    faults += [f"{name} is {raw[name]!r}, not {value!r}" for name, value in _FIXED.items() if name in raw and raw[name] != value]
    faults += [
        f"{name} is {raw[name]!r}, not true or false" for name in (_SCALED, _FP8) if name in raw and type(raw[name]) is not bool
    ]
    if _NAME in raw and raw[_NAME] is not None and raw[_NAME] not in PUBLISHED:
        faults.append(f"{_NAME} is {raw[_NAME]!r}, not one of {', '.join(PUBLISHED)}")
    return faults or _fit_faults(raw)


def _fit_faults(raw: dict) -> list[str]:
    """What does not fit together, where every setting by itself is of its kind."""
    width, heads = raw["hidden_size"], raw["num_attention_heads"]
    faults = [f"num_attention_heads is {heads}: no even number of the {width} channels each"] if width % (2 * heads) else []
    groups = ("hcs_filter_groups", "hcm_filter_groups")
    faults += [f"{name} is {raw[name]}, which does not divide hidden_size {width}" for name in groups if width % raw[name]]
    given = {key: raw[key] for key in _BLOCKS}
    if not all(isinstance(blocks, list) and all(type(i) is int for i in blocks) for blocks in given.values()):
        return [*faults, f"{', '.join(_BLOCKS)} are not lists of whole numbers"]
    attention = set(given["attn_layer_idxs"])
    others = [i for i in range(raw["num_layers"]) if i not in attention]
    expected = {f"{kind}_layer_idxs": others[at::3] for at, kind in enumerate(STRIPE)}
    if attention - set(range(raw["num_layers"])) or any(sorted(given[key]) != blocks for key, blocks in expected.items()):
        faults.append(f"{', '.join(_BLOCKS)} do not deal out all blocks as hcs, hcm, hcl in turn between attention blocks")
    return faults


def _is_positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _published(name: str, sizes: tuple[int, int, int, int], attention: tuple[int, ...], scale: int, context: int) -> Evo2Config:
    width, layers, inner, groups = sizes
    return Evo2Config(
        published_name=name,
        hidden_size=width,
        num_layers=layers,
        num_attention_heads=width // 128,
        inner_mlp_size=inner,
        attn_layer_idxs=attention,
        hcs_filter_groups=groups,
        hcm_filter_groups=groups,
        rotary_emb_base=1e6 if width == 8192 else 1e4,
        rotary_emb_scaling_factor=scale,
        max_seqlen=context,
    )


_IN_25, _IN_32, _IN_50 = (3, 10, 17, 24), (3, 10, 17, 24, 31), (3, 10, 17, 24, 31, 35, 42, 49)

PUBLISHED = {
    config.published_name: config
    for config in (
        _published("evo2_1b_base", (1920, 25, 5120, 128), _IN_25, 1, 8_192),
        _published("evo2_7b", (4096, 32, 11264, 256), _IN_32, 128, 1_048_576),
        _published("evo2_7b_base", (4096, 32, 11008, 256), _IN_32, 1, 8_192),
        _published("evo2_7b_262k", (4096, 32, 11008, 256), _IN_32, 32, 262_144),
        _published("evo2_7b_microviridae", (4096, 32, 11008, 256), _IN_32, 1, 8_192),
        _published("evo2_20b", (8192, 24, 22528, 512), _IN_25[:3], 128, 1_048_576),
        _published("evo2_40b", (8192, 50, 22528, 512), _IN_50, 128, 1_048_576),
        _published("evo2_40b_base", (8192, 50, 21888, 512), _IN_50, 1, 8_192),
    )
}
"""Every published model by its name."""

REPOSITORIES = {name: f"arcinstitute/{name}" for name in PUBLISHED} | {
    "evo2_7b_microviridae": "evo-design/evo-2-7b-8k-microviridae"
}
"""Where on the hub a model's file lies."""

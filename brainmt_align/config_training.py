"""Configuration of tower, split and loop: values of `fmri`, `split` and `train` flow in, checked dataclasses flow out."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from brainmt_align.config_data import LARGEST_SEED
from brainmt_align.limits import complain, require_choice, require_range


@dataclass
class FMRIConfig:
    """The brain's tower. The encoder's defaults fit the simulated cohort's small volumes."""

    checkpoint: str | None = None  # official BrainMT weights; the widths and depths below then come from them
    trained_volume_shape: tuple[int, int, int] | None = (
        None  # (D, H, W) of those weights' scans, asked for where it cannot be told
    )
    pooling: str = "cls"  # cls | mean
    embed_dim: int = 48
    stem_channels: tuple[int, int] = (6, 12)
    depth: tuple[int, int] = (1, 1)
    num_heads: int = 2
    d_state: int = 4
    d_conv: int = 4
    expand: int = 2
    bidirectional: bool = True
    drop_path_rate: float = 0.0
    init_std: float = 0.1
    activation_checkpointing: bool = False

    def __post_init__(self):
        require_choice("fmri.pooling", self.pooling, ("cls", "mean"))
        for key in ("embed_dim", "num_heads", "d_state", "d_conv", "expand"):
            require_range(f"fmri.{key}", getattr(self, key), 1, None)
        require_range("fmri.stem_channels", min(self.stem_channels), 1, None, FMRIConfig.stem_channels)
        require_range("fmri.depth", self.depth[0], 1, None, FMRIConfig.depth)
        require_range("fmri.depth", self.depth[1], 0, None, FMRIConfig.depth)
        if self.embed_dim % self.num_heads:
            complain(f"fmri.embed_dim must be a multiple of fmri.num_heads={self.num_heads}", self.embed_dim, "fmri.num_heads=1")
        require_range("fmri.drop_path_rate", self.drop_path_rate, 0, 0.99, FMRIConfig.drop_path_rate)
        require_range("fmri.init_std", self.init_std, 1e-6, None, FMRIConfig.init_std)

    def encoder_settings(self) -> dict[str, Any]:
        """The keys that are fields of BrainMTConfig."""
        others = ("checkpoint", "trained_volume_shape", "pooling")
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in others}


@dataclass
class SplitConfig:
    """Who trains, who chooses the checkpoint, who is scored once at the end."""

    file: str | None = None  # a split.json to keep to, whatever the seeds and parts are now; None: a new split
    seed: int | None = None  # of the dealing; None: `seed`
    parts: tuple[float, float, float] = (6, 1, 2)  # train : validation : test
    groups: str | None = None  # participants' column whose members stay together; None: family_id where families are simulated
    relatives: tuple[str, ...] = ()  # further columns whose equal values make relatives, such as [mother_id,father_id]
    torn_families: bool = False  # true: relatives may fall into different parts; otherwise that is an error
    strata: tuple[str, ...] = ()  # participants' columns balanced over the parts

    def __post_init__(self):
        for part in self.parts:
            require_range("split.parts", part, 1e-9, None, SplitConfig.parts)
        if self.seed is not None:
            require_range("split.seed", self.seed, 0, LARGEST_SEED)

    def family_columns(self) -> list[str]:
        """Columns whose equal values make relatives."""
        return list(dict.fromkeys([*([self.groups] if self.groups else []), *self.relatives]))


@dataclass
class TrainConfig:
    """The contrastive loop."""

    epochs: int = 24
    batch_size: int = 32  # people a process
    window: int = 16  # frames
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of all steps
    gradient_clip: float = 1.0  # norm
    projector_dropout: float = 0.1
    workers: int = 0  # loader processes
    keep_freed_memory: bool = False  # on a processor: faster with long windows, at the price of memory (training/allocator.py)
    mixed_precision: str | None = None  # no | fp16 | bf16; None: as `accelerate launch` says

    def __post_init__(self):
        for key in ("epochs", "batch_size", "window"):
            require_range(f"train.{key}", getattr(self, key), 1, None)
        require_range("train.workers", self.workers, 0, None)
        require_range("train.learning_rate", self.learning_rate, 1e-12, None, TrainConfig.learning_rate)
        require_range("train.weight_decay", self.weight_decay, 0, None, TrainConfig.weight_decay)
        require_range("train.warm_up", self.warm_up, 1e-6, 0.999, TrainConfig.warm_up)
        require_range("train.gradient_clip", self.gradient_clip, 1e-12, None, TrainConfig.gradient_clip)
        require_range("train.projector_dropout", self.projector_dropout, 0, 0.99, TrainConfig.projector_dropout)
        require_choice("train.mixed_precision", self.mixed_precision, (None, "no", "fp16", "bf16"))

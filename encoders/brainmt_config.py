"""The sizes of a BrainMT: the published constructor's arguments flow in, the same ones flow out, checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

PUBLISHED_VOLUME = (109, 91, 91)  # (Y, X, Z) of a 2 mm MNI volume
INITS = ("mamba", "published")
STAGES = ("stem", "mamba", "attention")

_TUPLES = {"volume_shape": (3, 1), "depth": (2, 0), "stem_channels": (2, 1)}  # entries, least
_COUNTS = {
    "num_classes": 0,
    **dict.fromkeys(("num_frames", "in_chans", "embed_dim", "num_heads", "d_state", "d_conv", "expand"), 1),
}


@dataclass(frozen=True)
class BrainMTConfig:
    """The published constructor's arguments, in its names; lists become tuples.

    Attributes:
        volume_shape: (D, H, W) of the input; a NIfTI (X, Y, Z, T) enters as Y, X, Z.
        num_frames: most frames a window may have.
        in_chans: channels a voxel.
        num_classes: outputs of the head; 0 leaves the head out, and `prediction` is None.
        embed_dim: width of the tokens.
        depth: number of Mamba layers, at least 1, and of attention blocks.
        num_heads: attention heads.
        stem_channels: widths of the two patch-embedding convolutions.
        bidirectional: whether Mamba layers read the sequence from both ends.
        drop_path_rate: stochastic depth of the last layer, growing linearly from 0.
        d_state, d_conv, expand: of the Mamba mixers.
        qkv_bias: whether the attention's input projection has a bias.
        activation_checkpointing: recomputes activations in the backward pass: less memory, about a third more time. True for
            all stages (the stem by groups of frames, the others layer by layer), or the names of some of STAGES.
        init: "mamba" keeps Mamba's initialisation of Δ; "published" overwrites it as the published code does.
        init_std: standard deviation of the linear weights and of the spatial position embedding at the start.

    Raises:
        ValueError: listing every value that is out of range.
    """

    volume_shape: tuple[int, int, int] = PUBLISHED_VOLUME
    num_frames: int = 200
    in_chans: int = 1
    num_classes: int = 1
    embed_dim: int = 512
    depth: tuple[int, int] = (12, 8)
    num_heads: int = 2
    stem_channels: tuple[int, int] = (64, 128)
    bidirectional: bool = True
    drop_path_rate: float = 0.1
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    qkv_bias: bool = True
    activation_checkpointing: bool | tuple[str, ...] = False
    init: str = "mamba"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        faults = [numbers_fault(name, getattr(self, name), *rule) for name, rule in _TUPLES.items()]
        faults += [_count_fault(name, getattr(self, name), least) for name, least in _COUNTS.items()]
        stages = self.activation_checkpointing
        named = isinstance(stages, Sequence) and not isinstance(stages, str) and all(stage in STAGES for stage in stages)
        if not isinstance(stages, bool) and not named:
            faults.append(f"activation_checkpointing must be True, False or some of {', '.join(STAGES)}, got {stages!r}")
        for name in ("bidirectional", "qkv_bias"):
            if not isinstance(getattr(self, name), bool):
                faults.append(f"{name} must be True or False, got {getattr(self, name)!r}")
        if not _is_number(self.drop_path_rate) or not 0 <= self.drop_path_rate < 1:
            faults.append(f"drop_path_rate must be a number in [0, 1), got {self.drop_path_rate!r}")
        if not _is_number(self.init_std) or not 0 < self.init_std < math.inf:
            faults.append(f"init_std must be a number above 0, got {self.init_std!r}")
        if self.init not in INITS:
            faults.append(f"init must be one of {', '.join(INITS)}, got {self.init!r}")
        faults = [fault for fault in faults if fault] or self._faults_together()
        if faults:
            raise ValueError(f"BrainMTConfig: {'; '.join(faults)}.\n  fix: change these values.")
        if named:
            object.__setattr__(self, "activation_checkpointing", tuple(stages))
        for name in _TUPLES:
            object.__setattr__(self, name, tuple(map(int, getattr(self, name))))

    def checkpoints(self, stage: str) -> bool:
        """Whether a stage's activations are recomputed."""
        stages = self.activation_checkpointing
        return stages if isinstance(stages, bool) else stage in stages

    def _faults_together(self) -> list[str]:
        """Faults of values that are each in range."""
        faults = []
        if self.depth[0] < 1:  # the keys of a Mamba layer tell a state dict's sizes
            faults.append(f"depth must begin with at least 1 Mamba layer, got {self.depth}")
        if self.embed_dim % self.num_heads:
            faults.append(f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}")
        return faults


def numbers_fault(name: str, value: object, entries: int, least: int) -> str | None:
    """What keeps a value from being so many integers of at least `least`; None if nothing does."""
    if not isinstance(value, Sequence) or len(value) != entries:
        return f"{name} takes {entries} numbers, got {value!r}"
    if any(_count_fault(name, number, least) for number in value):
        return f"{name} must hold integers of at least {least}, got {value!r}"
    return None


def _count_fault(name: str, value: object, least: int) -> str | None:
    if isinstance(value, Integral) and not isinstance(value, bool) and value >= least:
        return None
    return f"{name} must be an integer of at least {least}, got {value!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)

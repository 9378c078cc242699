"""BrainMT for a cohort: the shape of its scans and the wanted widths, or official weights, flow in; the encoder flows out."""

from pathlib import Path
from typing import Any

from encoders import BrainMT, BrainMTConfig
from encoders.brainmt_weights import read_state, sizes_of

OFFICIAL_ORIENTATION = "LAS"  # of the scans that the official weights were trained on
NOT_IN_KEYS = ("num_heads", "drop_path_rate", "activation_checkpointing")


def build_brainmt(
    volume_shape: tuple[int, int, int],
    window: int,
    settings: dict[str, Any],
    checkpoint: str | Path | None = None,
    trained_volume_shape: tuple[int, int, int] | None = None,
) -> BrainMT:
    """A new BrainMT without a head, or one from official weights, in training mode.

    Args:
        volume_shape: (D, H, W) of the scans.
        window: frames a window. Official weights of more frames keep theirs, and a window takes the first positions in time;
            for a longer window the positions are interpolated.
        settings: fields of BrainMTConfig. With a checkpoint its widths and depths hold, and only num_heads, drop_path_rate and
            activation_checkpointing are taken from here.
        checkpoint: a state dict of the published code.
        trained_volume_shape: (D, H, W) of the scans behind it, where that cannot be told from its token grid.

    Raises:
        ValueError: sizes that do not go together, or weights that are not BrainMT's.
        FileNotFoundError: no such checkpoint.
    """
    if checkpoint is None:
        return BrainMT(BrainMTConfig(volume_shape=volume_shape, num_frames=window, num_classes=0, **settings))
    state = read_state(checkpoint)
    kept = {key: settings[key] for key in NOT_IN_KEYS if key in settings}
    frames = max(window, sizes_of(state)["num_frames"])
    return BrainMT.from_official(state, volume_shape, frames, trained_volume_shape, **kept).train()


def rebuild_brainmt(recorded: dict[str, Any], window: int, settings: dict[str, Any] | None = None) -> BrainMT:
    """A BrainMT of the sizes that a checkpoint of ours records, with new weights to be filled.

    Args:
        recorded: the fields of its BrainMTConfig.
        window: frames a window; the checkpoint's positions must reach so far.
        settings: drop_path_rate and activation_checkpointing are taken from here; None: from the record.

    Raises:
        ValueError: a window longer than the checkpoint has positions for.
    """
    if window > recorded["num_frames"]:
        raise ValueError(
            f"BrainMT: windows of at most {recorded['num_frames']} frames were expected, as the checkpoint was trained with; got "
            f"{window}.\n  where: the checkpoint\n  fix: set train.window={recorded['num_frames']}."
        )
    changed = {key: settings[key] for key in ("drop_path_rate", "activation_checkpointing") if settings and key in settings}
    return BrainMT(BrainMTConfig(**{**recorded, **changed}))

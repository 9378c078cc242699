"""Scan facts: the table of stored runs flows in; what a checkpoint records of its scans, and whether others fit it, flows out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainmt_align.data.bold_store import check_orientation, common_volume_shape, sources_hash
from brainmt_align.data.stored_run import open_run

TR_DIGITS = 3  # headers hold the repetition time in float32


def describe_scans(runs: pd.DataFrame) -> dict[str, Any]:
    """What lies beside the weights: the hash of the scans' sources, and their repetition times in seconds.

    Args:
        runs: of `bold_store.build`, with store_path.
    """
    return {"bold_sha256": sources_hash(runs["store_path"]), "tr_s": sorted(set(_repetition_times(runs)))}


def compare_scans(runs: pd.DataFrame, recorded: Mapping[str, Any]) -> str | None:
    """Hold scans against those that a checkpoint was trained on.

    Args:
        runs: of `bold_store.build`, with store_path.
        recorded: the description beside the weights: volume_shape (D, H, W) and, in all but older alignments, tr_s.

    Returns:
        A note where repetition times are others than those of the training.

    Raises:
        ValueError: another grid, or several.
    """
    shape, expected = common_volume_shape(runs), tuple(recorded["volume_shape"])
    if shape != expected:
        raise ValueError(
            f"Scans of {expected} voxels (D, H, W) were expected, as the checkpoint was trained on; got {shape}.\n"
            f"  file: {runs['store_path'].iloc[0]}\n  fix: resample the runs to the grid of the training."
        )
    lengths_s = _repetition_times(runs)
    strange = [tr_s for tr_s in lengths_s if tr_s not in recorded.get("tr_s", lengths_s)]
    if not strange:
        return None
    usual = ", ".join(map(str, recorded["tr_s"]))
    return f"{len(strange)} of {len(runs)} runs have another TR, such as {strange[0]} s; those of the training: {usual} s"


def require_official(runs: pd.DataFrame, orientation: str, weights: str) -> None:
    """Refuse scans that lie otherwise than those that published weights were trained on.

    Args:
        runs: of `bold_store.build`, with store_path.
        orientation: three letters, of the weights' scans.
        weights: path, for the message.

    Raises:
        ValueError: see `check_orientation`.
    """
    check_orientation(map(open_run, runs["store_path"]), orientation, f"the official weights {weights}")


def _repetition_times(runs: pd.DataFrame) -> list[float]:
    return [round(open_run(path).tr_s, TR_DIGITS) for path in runs["store_path"]]

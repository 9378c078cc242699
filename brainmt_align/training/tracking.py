"""Tracking: an Accelerator and settings flow in; a tracker that hears of the model and its training alone flows out."""

from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import Accelerator

# W&B is told nothing of this machine: no command line, no paths, no code, no console, no environment.
QUIET = {
    "host": "not-told",
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def start_tracker(accelerator: Accelerator, settings: dict[str, Any], folder: Path) -> None:
    """Start the tracker that the Accelerator was made with; what it keeps on disk goes into `folder`.

    Args:
        accelerator: knows the tracker; figures reach it through `accelerator.log`.
        settings: nested settings without subject ids or paths of data; entries named checkpoint are left out.
        folder: the run folder.
    """
    flat = pd.json_normalize(settings).iloc[0]
    shown = {key: str(value) for key, value in flat.items() if not key.endswith("checkpoint")}
    accelerator.init_trackers("brainmt-align", shown, init_kwargs={"wandb": {"dir": str(folder), "settings": QUIET}})

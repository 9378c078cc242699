"""Tracking: what a tracker is told when it starts."""

from brainmt_align.training.tracking import QUIET, start_tracker


class Listener:
    """Stands in for an Accelerator: keeps what the tracker would be told."""

    def init_trackers(self, project, config, init_kwargs):
        self.heard = project, config, init_kwargs


def test_start_tracker_tells_flat_settings_without_checkpoints_and_keeps_its_files_in_the_folder(tmp_path):
    accelerator = Listener()
    settings = {"fmri": {"embed_dim": 8, "depth": (1, 1), "checkpoint": "/home/me/weights.pt"}, "seed": 3}
    start_tracker(accelerator, settings, tmp_path)
    project, told, options = accelerator.heard
    assert project == "brainmt-align"
    assert told == {"fmri.embed_dim": "8", "fmri.depth": "(1, 1)", "seed": "3"}
    assert options == {"wandb": {"dir": str(tmp_path), "settings": QUIET}}

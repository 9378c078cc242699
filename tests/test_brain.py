"""BrainMT for a cohort: new, or from official weights."""

import dataclasses
import json

import pytest
import torch

from brainmt_align.model.brain import build_brainmt, rebuild_brainmt
from encoders import BrainMT, BrainMTConfig

SMALL = {"embed_dim": 8, "depth": (1, 1), "stem_channels": (2, 2), "d_state": 2}


@pytest.fixture
def official(tmp_path):
    weights = BrainMT(BrainMTConfig(volume_shape=(16, 16, 16), num_frames=6, **SMALL)).to_official()
    torch.save({"model_state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "official.pt")
    return tmp_path / "official.pt", weights


def test_build_brainmt_makes_a_new_encoder_of_the_asked_sizes_without_a_head():
    model = build_brainmt((16, 12, 8), 5, SMALL)
    assert model.head is None
    assert (model.config.volume_shape, model.config.num_frames, model.config.embed_dim) == ((16, 12, 8), 5, 8)


def test_build_brainmt_keeps_official_weights_and_their_positions_for_a_shorter_window(official):
    path, weights = official
    model = build_brainmt((16, 16, 16), 4, {**SMALL, "embed_dim": 99, "drop_path_rate": 0.3}, path)
    assert model.training and model.config.drop_path_rate == 0.3 and model.config.embed_dim == 8
    for key, value in weights.items():
        assert torch.equal(model.state_dict()[key], value)


def test_build_brainmt_fits_official_positions_to_another_grid_when_told_the_old_one(official):
    path, weights = official
    model = build_brainmt((33, 16, 16), 6, SMALL, path, trained_volume_shape=(16, 16, 16))
    assert model.config.volume_shape == (33, 16, 16)
    assert model.state_dict()["pos_embed"].shape == (1, 1 + 3, 8) != weights["pos_embed"].shape


def test_build_brainmt_interpolates_official_positions_for_a_longer_window(official):
    path, weights = official
    positions = build_brainmt((16, 16, 16), 11, SMALL, path).state_dict()["temporal_pos_embedding"]
    assert positions.shape == (1, 11, 8)
    assert (
        weights["temporal_pos_embedding"].min() <= positions.min() <= positions.max() <= weights["temporal_pos_embedding"].max()
    )


def test_rebuild_brainmt_has_the_recorded_sizes_and_todays_regularisation():
    recorded = dataclasses.asdict(BrainMTConfig(volume_shape=(16, 12, 8), num_frames=6, num_classes=0, **SMALL))
    recorded = json.loads(json.dumps(recorded))
    assert rebuild_brainmt(recorded, 4).config == BrainMTConfig(**recorded)
    assert rebuild_brainmt(recorded, 6, {"drop_path_rate": 0.3, "embed_dim": 99}).config.drop_path_rate == 0.3


def test_rebuild_brainmt_refuses_a_window_longer_than_the_recorded_positions():
    recorded = dataclasses.asdict(BrainMTConfig(volume_shape=(16, 12, 8), num_frames=6, num_classes=0, **SMALL))
    with pytest.raises(ValueError, match=r"at most 6 frames were expected(?s:.*)got 7"):
        rebuild_brainmt(recorded, 7)

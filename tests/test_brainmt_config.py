"""The sizes of a BrainMT: values in; the same ones, or one error that lists what is wrong with them, out."""

import math
import re

import numpy as np
import pytest

from encoders import BrainMTConfig
from encoders.brainmt_config import STAGES


def test_brainmt_config_turns_lists_into_tuples():
    expected = BrainMTConfig(volume_shape=(8, 8, 8), depth=(1, 1), num_frames=3)
    assert BrainMTConfig(volume_shape=[8, 8, 8], depth=[1, 1], num_frames=np.int64(3)) == expected
    assert all(type(side) is int for side in BrainMTConfig(volume_shape=tuple(np.array([8, 8, 8]))).volume_shape)


def test_brainmt_config_checkpoints_all_stages_none_or_those_named():
    for value, expected in [(True, [True] * 3), (False, [False] * 3), (["stem", "attention"], [True, False, True])]:
        assert [BrainMTConfig(activation_checkpointing=value).checkpoints(stage) for stage in STAGES] == expected


def test_brainmt_config_fails_when_a_shape_has_the_wrong_length():
    with pytest.raises(ValueError, match=r"volume_shape takes 3 numbers, got \(8, 8\)"):
        BrainMTConfig(volume_shape=(8, 8))


def test_brainmt_config_lists_every_value_that_is_out_of_range():
    wrong = {"num_frames": 0, "depth": (-1, 2), "num_classes": -1, "drop_path_rate": 1.0, "init": "xavier", "init_std": 0.0}
    faults = "depth.*num_classes.*num_frames.*drop_path_rate.*init_std must be a number above 0, got 0.0.*'xavier'.\n  fix:"
    with pytest.raises(ValueError, match=faults):
        BrainMTConfig(**wrong)


def test_brainmt_config_lists_values_that_do_not_go_together():
    faults = r"at least 1 Mamba layer, got \(0, 2\); embed_dim must be a multiple of num_heads, got 7 and 2"
    with pytest.raises(ValueError, match=faults):
        BrainMTConfig(embed_dim=7, depth=(0, 2))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("num_frames", 2.5), ("num_frames", True), ("embed_dim", "x"), ("num_heads", None), ("depth", (1.5, 2)), ("depth", 3)),
        *(("volume_shape", "abc"), ("volume_shape", None), ("stem_channels", (4, True)), ("drop_path_rate", "0.1")),
        *(("drop_path_rate", math.nan), ("init_std", None), ("bidirectional", 1), ("qkv_bias", "no"), ("init", None)),
        *(("activation_checkpointing", value) for value in (None, 1, "stem", ("stem", "head"))),
    ],
)
def test_brainmt_config_fails_when_a_value_is_of_the_wrong_kind(setting, value):
    with pytest.raises(ValueError, match=rf"^BrainMTConfig: {setting} [^;]*, got {re.escape(repr(value))}\.\n  fix:"):
        BrainMTConfig(**{setting: value})

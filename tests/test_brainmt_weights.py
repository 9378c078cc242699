"""Published BrainMT weights: files, wrappers, shapes and faults in; the same weights, or one error that lists the faults, out."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from encoders import BrainMT, BrainMTConfig
from encoders.brainmt_weights import fit_positions, own_grid, read_state, token_grid

SHAPE = (20, 24, 40)


def model_of(**settings):
    torch.manual_seed(0)
    sizes = {"volume_shape": SHAPE, "num_frames": 3, "num_classes": 2, "embed_dim": 16, "depth": (2, 1), "stem_channels": (2, 4)}
    return BrainMT(BrainMTConfig(**{**sizes, "d_state": 3, "d_conv": 2, "expand": 3, **settings})).eval()


@pytest.mark.parametrize("settings", [{}, {"bidirectional": False}, {"qkv_bias": False}, {"num_classes": 0}, {"in_chans": 2}])
def test_from_official_tells_the_sizes_from_the_keys(settings):
    model = model_of(**settings)
    loaded = BrainMT.from_official(model.to_official(), volume_shape=SHAPE)
    assert loaded.config == model.config
    assert not loaded.training
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.to_official().items())


@pytest.mark.parametrize("form", ["prefixed", "wrapped", "torch file", "safetensors file"])
def test_from_official_reads_every_form_that_weights_come_in(form, tmp_path):
    model = model_of()
    source = state = model.to_official()
    if form == "prefixed":
        source = {f"module.{key}": value for key, value in state.items()}
    elif form == "wrapped":
        source = {"model_state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 7}
    elif form == "torch file":
        source = tmp_path / "best.pth"
        torch.save({"model_state_dict": state, "epoch": 7}, source)
    else:
        source = str(tmp_path / "best.safetensors")
        save_file(state, source)
    loaded = BrainMT.from_official(source, volume_shape=SHAPE).to_official()
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_to_official_gives_a_copy():
    model = model_of()
    model.to_official()["cls_token"] += 1
    assert (model.cls_token == 0).all()


def test_from_official_passes_further_settings_on():
    loaded = BrainMT.from_official(model_of().to_official(), volume_shape=SHAPE, num_heads=4, drop_path_rate=0.0)
    assert (loaded.config.num_heads, loaded.config.drop_path_rate) == (4, 0.0)


def test_from_official_takes_the_published_volume_when_the_grid_fits_it():
    state = model_of().to_official()
    state["pos_embed"] = torch.randn(1, 253, 16)
    assert BrainMT.from_official(state).config.volume_shape == (109, 91, 91)
    other = BrainMT.from_official(state, volume_shape=(91, 109, 91), trained_volume_shape=(109, 91, 91))
    assert not torch.equal(other.pos_embed, state["pos_embed"])
    assert torch.equal(other.pos_embed[:, 0], state["pos_embed"][:, 0])


def test_from_official_gives_back_the_positions_of_a_permuted_grid_when_told_which_one_it_is():
    torch.manual_seed(0)
    model = model_of(volume_shape=(91, 109, 91))
    same = BrainMT.from_official(model.to_official(), trained_volume_shape=(91, 109, 91))
    assert same.config == model.config
    assert torch.equal(same.pos_embed, model.pos_embed)


def test_from_official_takes_the_published_grid_where_positions_fit_it_and_another(caplog):
    state = model_of(volume_shape=(91, 109, 91)).to_official()
    other = BrainMT.from_official(state, volume_shape=(96, 112, 96))
    told = BrainMT.from_official(state, volume_shape=(96, 112, 96), trained_volume_shape=(109, 91, 91))
    assert torch.equal(other.pos_embed, told.pos_embed) and not torch.equal(other.pos_embed, state["pos_embed"])
    assert "trained_volume_shape" in caplog.records[0].getMessage()
    near = BrainMT.from_official(state, volume_shape=(110, 96, 91))  # another shape of the published grid
    assert torch.equal(near.pos_embed, state["pos_embed"])


def test_from_official_logs_that_it_interpolates_and_only_then(caplog):
    state = model_of().to_official()
    BrainMT.from_official(state, volume_shape=SHAPE, num_frames=3)
    assert not caplog.records
    BrainMT.from_official(state, volume_shape=SHAPE, num_frames=5)
    BrainMT.from_official(state, volume_shape=(40, 50, 60), trained_volume_shape=SHAPE)
    told = "BrainMT's positions are interpolated: token grid"
    assert [record.getMessage() for record in caplog.records] == [
        f"{told} (2, 2, 3) to (2, 2, 3), frames 3 to 5",
        f"{told} (2, 2, 3) to (3, 4, 4), frames 3 to 3 (trained_volume_shape=… says it if the weights saw another shape)",
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"num_frames": 0}, "num_frames must be an integer of at least 1, got 0"),
        ({"num_frames": 2.5}, "num_frames must be an integer of at least 1, got 2.5"),
        ({"volume_shape": (40, 40)}, r"volume_shape takes 3 numbers, got \(40, 40\)"),
        ({"volume_shape": SHAPE, "trained_volume_shape": (40, 40)}, r"trained_volume_shape takes 3 numbers, got \(40, 40\)"),
        (
            {"trained_volume_shape": (20, 24, 40.0)},
            r"trained_volume_shape must hold integers of at least 1, got \(20, 24, 40.0\)",
        ),
        ({"depth": (1.5, 2)}, r"depth must hold integers of at least 0, got \(1.5, 2\)"),
        ({"embed_dim": "x"}, "embed_dim must be an integer of at least 1, got 'x'"),
    ],
)
def test_from_official_fails_when_a_setting_is_out_of_range(arguments, fault):
    with pytest.raises(ValueError, match=rf"BrainMT.*: {fault}\.\n  fix:"):
        BrainMT.from_official(model_of().to_official(), **{"volume_shape": SHAPE, **arguments})


@pytest.mark.parametrize("depth", [(1, 0), (2, 0), (1, 1)])
def test_from_official_reads_every_depth_that_can_be_built(depth):
    model = model_of(depth=depth)
    assert BrainMT.from_official(model.to_official(), volume_shape=SHAPE).config == model.config


def test_from_official_interpolates_when_shape_and_length_differ():
    state = model_of().to_official()
    loaded = BrainMT.from_official(state, volume_shape=(40, 50, 60), num_frames=6, trained_volume_shape=SHAPE)
    assert loaded.config.num_frames == 6
    assert loaded(torch.randn(1, 6, 1, 40, 50, 60)).tokens.shape == (1, 3 * 4 * 4 * 6, 16)


def test_fit_positions_keeps_cls_and_constants_and_follows_a_ramp():
    grid = torch.arange(4.0)[None, :, None].expand(2, 4, 3)  # a ramp along the second axis of the grid
    state = {
        "pos_embed": torch.cat([torch.full((1, 1, 2), 9.0), torch.stack([grid.flatten(), torch.full((24,), 5.0)], -1)[None]], 1),
        "temporal_pos_embedding": torch.arange(4.0)[None, :, None].expand(1, 4, 2),
    }
    fitted = fit_positions(state, (2, 4, 3), (2, 8, 3), 8)
    cls, rest = fitted["pos_embed"].split([1, 48], dim=1)
    ramp = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0])
    assert (cls == 9).all()
    torch.testing.assert_close(rest[0, :, 0].reshape(2, 8, 3), ramp[None, :, None].expand(2, 8, 3))
    torch.testing.assert_close(rest[0, :, 1], torch.full((48,), 5.0))
    torch.testing.assert_close(fitted["temporal_pos_embedding"][0, :, 1], ramp)
    assert state["pos_embed"].shape == (1, 25, 2)


def test_token_grid_halves_four_times_rounding_up():
    assert token_grid((109, 91, 91)) == (7, 6, 6)
    assert token_grid((24, 28, 20)) == (2, 2, 2)
    assert token_grid((1, 16, 17)) == (1, 1, 2)


def test_own_grid_fails_when_no_known_shape_fits():
    with pytest.raises(ValueError, match=r"their 13 spatial positions(.|\n)*\(109, 91, 91\) → 252(.|\n)*fix: pass volume_shape"):
        own_grid(13, None, None)
    with pytest.raises(ValueError, match=r"tried \(20, 24, 40\) → 12"):
        own_grid(13, (109, 91, 91), SHAPE)


def test_from_official_lists_missing_unexpected_and_misshapen_tensors_at_once():
    state = model_of().to_official()
    del state["norm_f.weight"]
    state["extra.weight"], state["mlp.fc1.bias"] = torch.zeros(3), torch.zeros(5)
    expected = r"(?s)faults: 3.*norm_f.weight: missing.*extra.weight: unexpected.*mlp.fc1.bias: \(32,\) expected, \(5,\) found"
    with pytest.raises(ValueError, match=expected):
        BrainMT.from_official(state, volume_shape=SHAPE)


def test_from_official_fails_when_the_keys_cannot_tell_the_sizes():
    state = model_of().to_official()
    del state["cls_token"]
    state["pos_embed"] = torch.zeros(12)
    with pytest.raises(ValueError, match=r"cls_token: missing\n  pos_embed: 3 axes expected, shape \(12,\) found"):
        BrainMT.from_official(state, volume_shape=SHAPE)


def test_fault_list_is_cut_short_when_it_is_long():
    with pytest.raises(ValueError, match=r"… and \d+ more"):
        BrainMT.from_official(model_of().to_official() | {f"extra.{i}": torch.zeros(1) for i in range(40)}, volume_shape=SHAPE)


@pytest.mark.parametrize("source", [{}, {"model_state_dict": [1, 2]}, {"epoch": 3}])
def test_read_state_fails_when_it_is_no_state_dict(source):
    with pytest.raises(
        ValueError, match=r"named tensors were expected(.|\n)*'model_state_dict'(.|\n)*file: a dict in memory\n  fix:"
    ):
        read_state(source)


def test_from_official_reads_a_training_checkpoint_with_a_loss_of_numpy(tmp_path):
    model, path = model_of(), tmp_path / "best.pth"
    torch.save({"model_state_dict": model.to_official(), "loss": np.float64(3.0), "epoch": np.int64(7)}, path)
    assert torch.equal(BrainMT.from_official(path, volume_shape=SHAPE).pos_embed, model.pos_embed)


@pytest.mark.parametrize(("name", "what"), [("missing.pth", "nothing"), ("missing.safetensors", "nothing"), ("", "a folder")])
def test_from_official_fails_when_there_is_no_file(tmp_path, name, what):
    with pytest.raises(FileNotFoundError, match=rf"there is {what} at this path\.\n  file: {tmp_path / name}\n  fix:"):
        BrainMT.from_official(tmp_path / name)

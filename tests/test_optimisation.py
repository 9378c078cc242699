"""Parameter groups and the schedule."""

import math

import pytest
import torch
from torch import nn

from brainmt_align.training.optimisation import adamw, one_cycle, parameter_groups, require_finite, require_precision
from encoders import BrainMT, BrainMTConfig


def test_parameter_groups_spare_vectors_state_matrices_and_positions():
    model = BrainMT(
        BrainMTConfig(volume_shape=(16, 16, 16), num_frames=2, embed_dim=16, depth=(1, 1), stem_channels=(2, 4), d_state=4)
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = ({names[id(each)] for each in group["params"]} for group in parameter_groups(model, 0.3))
    assert decayed | spared == set(names.values())
    assert any(name.endswith("A_log") for name in spared) and any(name.endswith("A_b_log") for name in spared)
    assert {"pos_embed", "temporal_pos_embedding", "cls_token"} <= spared
    assert all(name.endswith("weight") for name in decayed)
    assert not any(name.endswith("bias") for name in decayed)


def test_parameter_groups_leave_out_frozen_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.1)) == 2


@pytest.mark.parametrize(("total", "warm_up"), [(100, 0.1), (10, 0.1), (2, 0.5), (1, 0.1)])
def test_one_cycle_peaks_at_the_end_of_the_warm_up_and_descends_to_zero(total, warm_up):
    optimiser = adamw(nn.Linear(2, 2), 1e-2, 0.0)
    schedule = one_cycle(optimiser, total_steps=total, warm_up=warm_up)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(total):
        optimiser.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    peak = math.ceil(warm_up * total)
    assert rates.index(max(rates)) == peak and max(rates) == pytest.approx(1e-2)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] == 0 and (total == 1 or rates[-1] == pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_require_finite_stops_a_diverged_training_and_names_what_is_not_finite(value):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    require_finite("loss", 0.0, 0, 0, model)
    told = rf"A finite loss was expected, got {value} at step 7 \(epoch 2\)\.\n  where: the training loop; "
    with pytest.raises(FloatingPointError, match=told + "all weights and gradients are finite"):
        require_finite("loss", value, 2, 7, model)
    model[1].bias.grad = torch.full((1,), value)
    with pytest.raises(FloatingPointError, match=told + r"gradients that are not finite: 1\.bias\n"):
        require_finite("loss", value, 2, 7, model)
    nn.init.constant_(model[0].weight, value)
    with pytest.raises(FloatingPointError, match=told + r"weights that are not finite: 0\.weight\n"):
        require_finite("loss", value, 2, 7, model)


def test_require_finite_shortens_a_long_list():
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(7)))
    for layer in model:
        nn.init.constant_(layer.weight, float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite: 0\.weight, .*, 4\.weight and 2 more\n"):
        require_finite("gradient norm", float("nan"), 0, 0, model)


def test_require_precision_refuses_half_precision_without_a_cuda_device(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for fine in (None, "no", "bf16"):
        require_precision(fine)
    with pytest.raises(ValueError, match=r"fp16 needs a CUDA device; got none\.\n(?s:.*)fix: set train\.mixed_precision=bf16"):
        require_precision("fp16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="needs a CUDA device"):
        require_precision(None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_precision("fp16")

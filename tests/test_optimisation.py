"""Parameter groups and the schedule."""

import math

import pytest
import torch
from torch import nn

from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.phenotype import PhenotypeModel, build_fmri_tower, parameter_depths
from brainmt_align.training.optimisation import (
    adamw,
    count_trained,
    one_cycle,
    parameter_groups,
    require_cycles,
    require_finite,
    require_precision,
    stopped_early,
    warm_restarts,
)
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


def three_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    return model, {name: int(name[0]) for name, _ in model.named_parameters()}


def test_parameter_groups_give_every_depth_its_share_of_the_learning_rate():
    model, depths = three_layers()
    model[1].weight.requires_grad_(False)  # leaves no empty group
    groups = parameter_groups(model, 0.3, {**depths, "frozen": 4}, layer_decay=0.5)
    told = [([id(each) for each in group["params"]], group["weight_decay"], group["lr"]) for group in groups]
    assert told == [
        ([id(model[0].weight)], 0.3, 1 / 16),
        ([id(model[0].bias)], 0.0, 1 / 16),
        ([id(model[1].bias)], 0.0, 1 / 8),
        ([id(model[2].weight)], 0.3, 1 / 4),
        ([id(model[2].bias)], 0.0, 1 / 4),
    ]


def test_parameter_groups_know_the_names_inside_a_wrapper():
    model, depths = three_layers()
    wrapper = nn.Module()
    wrapper.module = model
    assert [group["lr"] for group in parameter_groups(wrapper, 0.1, depths, 0.5)] == [0.25, 0.25, 0.5, 0.5, 1, 1]


def test_parameter_groups_refuse_a_layer_decay_that_reaches_nothing():
    model, depths = three_layers()
    for decay, given in ((0.0, depths), (1.5, depths), (0.75, None)):
        with pytest.raises(ValueError, match=rf"layer decay above 0 and at most 1.* was expected, got {decay}\."):
            parameter_groups(model, 0.1, given, decay)
    del depths["1.bias"]
    with pytest.raises(ValueError, match=r"depth of every trained parameter was expected, got none of 1\.bias\."):
        parameter_groups(model, 0.1, depths, 0.75)


def test_adamw_without_depths_has_the_two_groups_of_one_rate():
    model, _ = three_layers()
    plain = adamw(model, 1e-2, 0.3)
    assert [(group["lr"], group["weight_decay"]) for group in plain.param_groups] == [(1e-2, 0.3), (1e-2, 0.0)]
    assert [len(group["params"]) for group in plain.param_groups] == [3, 3]


def test_adamw_with_a_layer_decay_of_one_steps_as_without_depths():
    weights = []
    for given in (False, True):
        model, depths = three_layers()
        optimiser = adamw(model, 1e-2, 0.3, depths if given else None, 1.0)
        for seed in range(3):
            optimiser.zero_grad()
            model(torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
            optimiser.step()
        weights.append(torch.cat([each.detach().flatten() for each in model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("adaptation", ["full", "lora", "probe"])
def test_layer_decay_of_a_phenotype_model_follows_its_depths_and_the_schedule_keeps_the_shares(adaptation):
    sizes = {"volume_shape": (16, 16, 16), "num_frames": 2, "embed_dim": 16, "stem_channels": (2, 4), "d_state": 4}
    encoder = BrainMT(BrainMTConfig(**sizes, depth=(3, 2), num_classes=0))
    model = PhenotypeModel([TargetSpec("age", "regression")], build_fmri_tower(encoder), {})
    model.adapt(adaptation, rank=2)
    optimiser = adamw(model, 2e-4, 0.05, parameter_depths(model), 0.75)
    schedule = warm_restarts(optimiser, 40, 2, 0.25)
    for _ in range(10):
        optimiser.step()
        schedule.step()
    share = schedule.get_last_lr()[-1] / 2e-4
    assert 0 < share < 1
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(each)]: group["lr"] for group in optimiser.param_groups for each in group["params"]}
    assert rates.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, rate in rates.items():
        part = name.removeprefix("fmri.encoder.").split(".")
        exponent = 6  # of 0.75: stem
        if part[0] in ("head", "norm", "norm_f", "mlp"):
            exponent = 0
        elif part[0] in ("layers", "blocks"):
            exponent = 5 - int(part[1]) - 3 * (part[0] == "blocks")
        assert rate == pytest.approx(2e-4 * share * 0.75**exponent), name


def rates_of(schedule_of, total):
    """The learning rates of a schedule of a peak of 1, before every step and after the last."""
    optimiser = adamw(nn.Linear(2, 2), 1.0, 0.0)
    schedule = schedule_of(optimiser)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(total):
        optimiser.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    return rates


@pytest.mark.parametrize(("total", "warm_up"), [(100, 0.1), (97, 0.05), (10, 0.1), (3, 0.5), (2, 0.5), (50, 0.0)])
def test_warm_restarts_of_one_cycle_equal_one_cycle(total, warm_up):
    got = rates_of(lambda optimiser: warm_restarts(optimiser, total, 1, warm_up), total)
    assert got == pytest.approx(rates_of(lambda optimiser: one_cycle(optimiser, total, warm_up), total), abs=1e-12)


def test_warm_restarts_are_cycles_side_by_side_the_last_with_the_remainder():
    got = rates_of(lambda optimiser: warm_restarts(optimiser, 32, 3, 0.2, decay=0.5), 32)
    short, last = (rates_of(lambda optimiser, n=n: one_cycle(optimiser, n, 0.2), n) for n in (10, 12))
    expected = short[:-1] + [rate / 2 for rate in short[:-1]] + [rate / 4 for rate in last]
    assert got == pytest.approx(expected, abs=1e-12)
    assert [got[2], got[12], got[23]] == [1.0, 0.5, 0.25]
    assert got[0] == got[10] == got[20] == 0 and got[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("total", "cycles", "warm_up"), [(1, 1, 0.1), (4, 4, 0.1), (7, 3, 0.9), (5, 2, 0.99)])
def test_warm_restarts_reach_every_peak_and_end_at_zero_when_cycles_are_short(total, cycles, warm_up):
    got = rates_of(lambda optimiser: warm_restarts(optimiser, total, cycles, warm_up), total)
    assert got.count(1.0) == cycles and got[-1] == pytest.approx(0, abs=1e-12)


def test_warm_restarts_go_on_from_their_state():
    whole = rates_of(lambda optimiser: warm_restarts(optimiser, 20, 2, 0.2, 0.5), 20)
    optimiser = adamw(nn.Linear(2, 2), 1.0, 0.0)
    schedule = warm_restarts(optimiser, 20, 2, 0.2, 0.5)
    for _ in range(7):
        optimiser.step()
        schedule.step()
    again = adamw(nn.Linear(2, 2), 1.0, 0.0)
    resumed = warm_restarts(again, 20, 2, 0.2, 0.5)
    again.load_state_dict(optimiser.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    rates = []
    for _ in range(7, 20):
        rates.append(again.param_groups[0]["lr"])
        again.step()
        resumed.step()
    assert rates == whole[7:20]


@pytest.mark.parametrize(
    ("cycles", "warm_up", "decay"), [(0, 0.1, 1.0), (11, 0.1, 1.0), (2, 1.0, 1.0), (2, 0.1, 0.0), (2, 0.1, 2.0)]
)
def test_warm_restarts_refuse_what_is_out_of_range(cycles, warm_up, decay):
    with pytest.raises(ValueError, match=rf"Warm restarts take .*, got {cycles} cycles of 10 steps, {warm_up} and {decay}\."):
        warm_restarts(adamw(nn.Linear(2, 2), 1.0, 0.0), 10, cycles, warm_up, decay)


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
    with pytest.raises(FloatingPointError, match=r"not finite: 0\.weight, .*, 4\.weight, … \(7 in all\)\n"):
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


def test_count_trained_leaves_out_frozen_parameters():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5, bias=False))
    assert count_trained(model) == 18
    model[0].requires_grad_(False)
    assert count_trained(model) == 10


def test_require_cycles_refuses_more_cycles_than_steps():
    require_cycles(9, 9, "seed0_fold0")
    with pytest.raises(ValueError, match=r"(?s)at most 9, the optimiser steps of seed0_fold0; got 10.*fix: set train\.cycles=1"):
        require_cycles(10, 9, "seed0_fold0")


def test_stopped_early_counts_the_epochs_since_the_first_of_the_best():
    assert not stopped_early([], 1) and not stopped_early([1.0, 2.0, 3.0], None)
    assert stopped_early([1.0, 2.0, 3.0], 2) and not stopped_early([1.0, 2.0, 3.0], 3)
    assert stopped_early([1.0, 1.0], 1) and not stopped_early([3.0, 2.0, 1.0], 1)

"""Optimisation: a model's named parameters flow in, an optimiser and a learning-rate schedule flow out."""

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_cosine_schedule_with_warmup

from brainmt_align.limits import complain
from brainmt_align.listing import some

NEVER_DECAYED = ("A_log", "A_b_log", "D", "D_b", "pos_embed", "temporal_pos_embedding", "cls_token", "log_scale", "logit_bias")


def parameter_groups(
    model: nn.Module, weight_decay: float, depths: Mapping[str, int] | None = None, layer_decay: float = 1.0
) -> list[dict]:
    """Two groups: matrices and kernels are decayed; vectors, biases, state matrices, positions and the temperature are not.

    With depths there are two groups a depth, without empty ones, shallow before deep, and each carries its share of the learning
    rate as "lr": 1 at the largest of all depths, and once more times `layer_decay` with every step towards the input.

    Args:
        model: parameters without gradient take no part.
        weight_decay: of the first group, per unit of learning rate.
        depths: of every trained parameter by its name, without a leading "module."; None: all learn at one rate.
        layer_decay: in (0, 1].

    Raises:
        ValueError: a layer decay out of range or without depths, or trained parameters without a depth.

    Reference:
        Bao et al. 2022, BEiT (layer-wise decay of the learning rate).
    """
    trained = [(name.removeprefix("module."), each) for name, each in model.named_parameters() if each.requires_grad]
    spared = {name for name, parameter in trained if parameter.ndim <= 1 or name.rsplit(".", 1)[-1] in NEVER_DECAYED}
    _require_layer_decay(layer_decay, depths, [name for name, _ in trained])
    if depths is None:
        return [
            {"params": [parameter for name, parameter in trained if name not in spared], "weight_decay": weight_decay},
            {"params": [parameter for name, parameter in trained if name in spared], "weight_decay": 0.0},
        ]
    members = defaultdict(list)
    for name, parameter in trained:
        members[depths[name], name in spared].append(parameter)
    deepest = max(depths.values(), default=0)
    return [
        {"params": members[key], "weight_decay": 0.0 if key[1] else weight_decay, "lr": layer_decay ** (deepest - key[0])}
        for key in sorted(members)
    ]


def _require_layer_decay(layer_decay: float, depths: Mapping[str, int] | None, trained: list[str]) -> None:
    """Refuse a decay that has no meaning, or parameters that it would not reach."""
    if not 0 < layer_decay <= 1 or (depths is None and layer_decay != 1):
        raise ValueError(
            f"A layer decay above 0 and at most 1, and 1 without depths, was expected, got {layer_decay}.\n"
            "  where: the parameter groups\n  fix: set train.layer_decay to 1, or to about 0.75 where the model has depths."
        )
    lacking = [] if depths is None else [name for name in trained if name not in depths]
    if lacking:
        raise ValueError(
            f"A depth of every trained parameter was expected, got none of {some(lacking)}.\n"
            "  where: the parameter groups\n  fix: take the depths of this very model, after it was adapted."
        )


def one_cycle(optimiser: Optimizer, total_steps: int, warm_up: float) -> LRScheduler:
    """One linear warm-up from 0 and one cosine descent to 0 over the whole training; stepped once an optimiser step.

    Args:
        optimiser: whose groups' learning rates are the peak.
        total_steps: optimiser steps of the whole training.
        warm_up: share of the steps before the peak, in (0, 1).

    Reference:
        Loshchilov & Hutter 2017, SGDR, equation 5, without restarts.
    """
    return get_cosine_schedule_with_warmup(optimiser, math.ceil(warm_up * total_steps), total_steps)


def warm_restarts(optimiser: Optimizer, total_steps: int, cycles: int, warm_up: float, decay: float = 1.0) -> LRScheduler:
    """Several cycles, each a linear warm-up from 0 and a cosine descent to 0; stepped once an optimiser step.

    The cycles are of equal length; the last takes the steps that do not divide among them, too. One cycle is `one_cycle`.

    Args:
        optimiser: whose groups' learning rates are the peaks of the first cycle; all groups follow in proportion.
        total_steps: optimiser steps of the whole training.
        cycles: 1 to total_steps.
        warm_up: share of each cycle's steps before its peak, in [0, 1); rounded up, but the peak is always reached.
        decay: each cycle's peak in units of the one before, in (0, 1].

    Raises:
        ValueError: a value out of range.

    Reference:
        Loshchilov & Hutter 2017, SGDR, equation 5.
    """
    if not 1 <= cycles <= total_steps or not 0 <= warm_up < 1 or not 0 < decay <= 1:
        raise ValueError(
            "Warm restarts take 1 cycle up to one a step, a warm-up in [0, 1) and a decay in (0, 1], got "
            f"{cycles} cycles of {total_steps} steps, {warm_up} and {decay}.\n  where: the learning-rate schedule\n"
            "  fix: take fewer cycles or train longer; set the others in range."
        )
    length = total_steps // cycles

    def share_of_peak(step: int) -> float:
        cycle = min(step // length, cycles - 1)
        steps = total_steps - cycle * length if cycle == cycles - 1 else length
        passed, rising = step - cycle * length, min(math.ceil(warm_up * steps), steps - 1)
        if passed < rising:
            return decay**cycle * passed / rising
        return decay**cycle * (1 + math.cos(math.pi * min(1.0, (passed - rising) / (steps - rising)))) / 2

    return LambdaLR(optimiser, share_of_peak)


def count_trained(model: nn.Module) -> int:
    """Parameters that the training moves."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def require_cycles(cycles: int, total_steps: int, of_what: str) -> None:
    """Refuse more cycles of the learning rate than a training has steps, before it begins.

    Args:
        cycles: as `warm_restarts` will get them.
        total_steps: optimiser steps of the whole training.
        of_what: the training, for the message.

    Raises:
        ValueError: more cycles than steps.
    """
    if cycles > total_steps:
        expected = f"train.cycles must be at most {total_steps}, the optimiser steps of {of_what}"
        complain(expected, cycles, "train.cycles=1")


def stopped_early(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the best epoch lies `patience` epochs back.

    Args:
        scores: one an epoch so far; smaller is better, the earlier of equals counts.
        patience: epochs, 1 or more; None: a training never stops early.
    """
    return bool(patience and scores) and len(scores) - 1 - scores.index(min(scores)) >= patience


def adamw(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    depths: Mapping[str, int] | None = None,
    layer_decay: float = 1.0,
) -> AdamW:
    """AdamW over `parameter_groups`, whose shares of the learning rate become rates.

    Reference:
        Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization.
    """
    groups = parameter_groups(model, weight_decay, depths, layer_decay)
    return AdamW([{**group, "lr": learning_rate * group.get("lr", 1.0)} for group in groups], lr=learning_rate)


def require_precision(mixed_precision: str | None) -> None:
    """Refuse half precision on processors, where its small range ruins a training and nothing is faster.

    Args:
        mixed_precision: "no", "fp16", "bf16"; None = as the launcher says.

    Raises:
        ValueError: fp16 without a CUDA device.
    """
    wanted = mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION")
    if wanted == "fp16" and not torch.cuda.is_available():
        raise ValueError(
            "Mixed precision fp16 needs a CUDA device; got none.\n  where: train.mixed_precision or the launcher\n"
            "  fix: set train.mixed_precision=bf16, or no."
        )


def require_finite(what: str, value: float, epoch: int, step: int, model: nn.Module) -> None:
    """Stop a training that has diverged, before its weights are touched.

    Args:
        what: the value's name, "loss" or "gradient norm".
        value: of this step.
        epoch: number of the epoch, from 0.
        step: number of the step, from 0.
        model: whose weights and gradients are looked through for the ones that are not finite.

    Raises:
        FloatingPointError: the value is NaN or infinite; it names the parameters concerned.
    """
    if math.isfinite(value):
        return
    weights = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    gradients = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if weights:
        where = f"weights that are not finite: {some(weights)}"
    elif gradients:
        where = f"gradients that are not finite: {some(gradients)}"
    else:
        where = "all weights and gradients are finite: the batch is not, or the arithmetic overflows"
    raise FloatingPointError(
        f"A finite {what} was expected, got {value} at step {step} (epoch {epoch}).\n  where: the training loop; {where}\n"
        "  fix: lower train.learning_rate or set train.mixed_precision=no; the last whole epoch is saved."
    )

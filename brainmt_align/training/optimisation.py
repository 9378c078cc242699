"""Optimisation: a model's named parameters flow in, an optimiser and a learning-rate schedule flow out."""

import math
import os

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_cosine_schedule_with_warmup

NEVER_DECAYED = ("A_log", "A_b_log", "D", "D_b", "pos_embed", "temporal_pos_embedding", "cls_token", "log_scale", "logit_bias")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: matrices and kernels are decayed; vectors, biases, state matrices, positions and the temperature are not.

    Args:
        model: parameters without gradient take no part.
        weight_decay: of the first group, per unit of learning rate.
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    spared = {name for name, parameter in trained if parameter.ndim <= 1 or name.rsplit(".", 1)[-1] in NEVER_DECAYED}
    return [
        {"params": [parameter for name, parameter in trained if name not in spared], "weight_decay": weight_decay},
        {"params": [parameter for name, parameter in trained if name in spared], "weight_decay": 0.0},
    ]


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


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> AdamW:
    """AdamW over `parameter_groups`.

    Reference:
        Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization.
    """
    return AdamW(parameter_groups(model, weight_decay), lr=learning_rate)


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
        where = f"weights that are not finite: {_shortened(weights)}"
    elif gradients:
        where = f"gradients that are not finite: {_shortened(gradients)}"
    else:
        where = "all weights and gradients are finite: the batch is not, or the arithmetic overflows"
    raise FloatingPointError(
        f"A finite {what} was expected, got {value} at step {step} (epoch {epoch}).\n  where: the training loop; {where}\n"
        "  fix: lower train.learning_rate or set train.mixed_precision=no; the last whole epoch is saved."
    )


def _shortened(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

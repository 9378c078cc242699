"""Phenotype heads: features (B, D) flow in, logits (B, outputs) and from them predictions a target flow out.

The logits of several targets stand side by side in the order of the targets, each with as many columns as its task needs:

    regression   1      the target itself, in the units it was trained in (z-scored)
    binary       1      logit of the second class
    multiclass   C      one logit a class
    ordinal      C - 1  logit k: that the class lies above class k
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

TASKS = ("regression", "binary", "multiclass", "ordinal")
CLASSES = {"regression": 0, "binary": 2}  # the other tasks have at least 2


class TargetSpec(NamedTuple):
    """One phenotype that a model predicts."""

    name: str
    task: str  # one of TASKS
    classes: int = 0  # C; 0 for regression, 2 for binary

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return {"multiclass": self.classes, "ordinal": self.classes - 1}.get(self.task, 1)


def require_targets(targets: Sequence[TargetSpec]) -> None:
    """Refuse targets that no head can be built for; all faults come as one list.

    Raises:
        ValueError: no target, a name twice, an unknown task, or a number of classes that the task cannot have.
    """
    names = [target.name for target in targets]
    faults = [] if names else ["no target at all"]
    faults += [f"{name}: {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1]
    for name, task, classes in targets:
        if task not in TASKS:
            faults.append(f"{name}: task {task!r}")
        elif not (classes == CLASSES[task] if task in CLASSES else classes >= 2):
            faults.append(f"{name}: {task} with {classes} classes")
    if faults:
        raise ValueError(
            f"Targets of their own names were expected, each {', '.join(TASKS)} (regression with 0 classes, binary with 2, the "
            f"others with at least 2), got {'; '.join(faults)}.\n  where: the targets of the model\n  fix: correct these targets."
        )


def split_logits(logits_BO: Tensor, targets: Sequence[TargetSpec]) -> list[Tensor]:
    """The columns of each target, (B, outputs of the target), in the order of the targets.

    Raises:
        ValueError: another number of columns than the targets have outputs.
    """
    outputs = [target.outputs for target in targets]
    if logits_BO.ndim != 2 or logits_BO.shape[1] != sum(outputs):
        raise ValueError(
            f"Logits (B, {sum(outputs)}) were expected of the targets {', '.join(target.name for target in targets)}, "
            f"got {tuple(logits_BO.shape)}.\n  where: the logits of the phenotype head\n"
            "  fix: hand over the targets that the model was built with."
        )
    return list(logits_BO.split(outputs, 1))


def predictions_of(logits_BO: Tensor, targets: Sequence[TargetSpec]) -> dict[str, Tensor]:
    """What the logits say of every target, in float32.

    Args:
        logits_BO: of a model with these targets.
        targets: in the order of the columns.

    Returns:
        By the target's name: regression (B,) in the units of training; classes (B, C) probabilities, whose rows sum to 1
        (binary: C = 2, column 1 the second class). An ordinal target's cumulative probabilities need not fall from class to
        class; each is lowered to the smallest before it, so that no class has a negative one.

    Raises:
        ValueError: another number of columns than the targets have outputs.

    Reference:
        Frank & Hall 2001, A Simple Approach to Ordinal Classification (class probabilities as differences); Cao et al. 2020,
        Rank consistent ordinal regression for neural networks (separate cumulative logits may cross).
    """
    predictions = {}
    for target, logits in zip(targets, split_logits(logits_BO, targets), strict=True):
        logits = logits.float()
        if target.task == "regression":
            predictions[target.name] = logits[:, 0]
        elif target.task == "binary":
            predictions[target.name] = torch.cat([-logits, logits], 1).sigmoid()
        elif target.task == "multiclass":
            predictions[target.name] = logits.softmax(1)
        else:
            above = logits.sigmoid().cummin(1).values
            certain = torch.ones_like(above[:, :1])
            predictions[target.name] = torch.cat([certain, above], 1) - torch.cat([above, 1 - certain], 1)
    return predictions


class PhenotypeHead(nn.Linear):
    """Dropout, then one linear map: (B, input_dim) → (B, outputs).

    Its parameters are `weight` and `bias`, as those of the published head, which can thus be copied in. It starts as that one
    does: weights truncated normal with SD 0.02, bias 0.

    Args:
        input_dim: width of the features.
        outputs: number of logits, see `TargetSpec.outputs`.
        dropout: probability in [0, 1) of leaving out a feature in training.
    """

    def __init__(self, input_dim: int, outputs: int, dropout: float = 0.0):
        super().__init__(input_dim, outputs)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Start anew."""
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, features_BD: Tensor) -> Tensor:
        """(B, input_dim) → (B, outputs)."""
        return super().forward(self.dropout(features_BD))

"""Losses: unit-norm embeddings (G, E), or logits and phenotypes (B, P), flow in; losses flow out. Nothing here hears of ranks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from brainmt_align.model.heads import TargetSpec, split_logits

SIGMOID_BIAS = -10.0  # where the sigmoid loss starts: nearly all of its pairs are of two people
REGRESSION_LOSSES = ("mse", "huber")


def clip_loss(z_fmri_BE: Tensor, z_dna_BE: Tensor, log_scale: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Symmetric cross-entropy over the similarity matrix: row i of one modality belongs to row i of the other.

    Args:
        z_fmri_BE: unit-norm fMRI embeddings; in training the rows of all processes, in rank order.
        z_dna_BE: unit-norm DNA embeddings of the same people in the same order.
        log_scale: natural logarithm of the inverse temperature, a scalar.
        label_smoothing: share of the target spread evenly over the batch, in [0, 1).

    Returns:
        The mean of both directions' cross-entropies, in nats. A batch that carries no information scores ln B.

    Raises:
        ValueError: the two matrices differ in shape or are not two-dimensional.

    Reference:
        Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, figure 3.
    """
    _require_pairs(z_fmri_BE, z_dna_BE)
    logits_BB = log_scale.float().exp() * (z_fmri_BE.float() @ z_dna_BE.float().T)
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    fmri_to_dna = F.cross_entropy(logits_BB, target_B, label_smoothing=label_smoothing)
    dna_to_fmri = F.cross_entropy(logits_BB.T, target_B, label_smoothing=label_smoothing)
    return (fmri_to_dna + dna_to_fmri) / 2


def siglip_loss(z_fmri_BE: Tensor, z_dna_BE: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:
    """Pairwise sigmoid loss: every (scan, genome) combination is judged on its own as the same person's or not.

    Args:
        z_fmri_BE: unit-norm fMRI embeddings.
        z_dna_BE: unit-norm DNA embeddings of the same people in the same order.
        log_scale: natural logarithm of the inverse temperature, a scalar.
        bias: added to every logit, a scalar; the paper starts it at -10.

    Returns:
        The negative log-likelihood summed over the B × B combinations and divided by B, in nats.

    Raises:
        ValueError: the two matrices differ in shape or are not two-dimensional.

    Reference:
        Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training, equation 1.
    """
    _require_pairs(z_fmri_BE, z_dna_BE)
    logits_BB = log_scale.float().exp() * (z_fmri_BE.float() @ z_dna_BE.float().T) + bias.float()
    sign_BB = 2 * torch.eye(len(logits_BB), device=logits_BB.device) - 1
    return -F.logsigmoid(sign_BB * logits_BB).sum() / len(logits_BB)


def alignment_loss(
    kind: str, z_fmri_BE: Tensor, z_dna: dict[str, Tensor], log_scale: Tensor, bias: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The loss of one name, averaged over the DNA encoders.

    Args:
        kind: "siglip" or "clip".
        z_fmri_BE: unit-norm fMRI embeddings.
        z_dna: unit-norm (B, E) of the same people by the name of the DNA encoder.
        log_scale: see `clip_loss`.
        bias: of the sigmoid loss.
        label_smoothing: of the CLIP loss.
    """
    if kind == "siglip":
        losses = [siglip_loss(z_fmri_BE, z_dna_BE, log_scale, bias) for z_dna_BE in z_dna.values()]
    else:
        losses = [clip_loss(z_fmri_BE, z_dna_BE, log_scale, label_smoothing) for z_dna_BE in z_dna.values()]
    return torch.stack(losses).mean()


def phenotype_losses(logits_BO: Tensor, values_BP: Tensor, targets: Sequence[TargetSpec], regression: str = "mse") -> Tensor:
    """The loss of every person and target; exactly 0, with gradient exactly 0, where the value is missing.

    Args:
        logits_BO: of a model with these targets, in the order of the targets.
        values_BP: float; regression targets in the units of training (z-scored), the others the class index in [0, C);
            NaN = missing.
        targets: P of them.
        regression: "mse" (squared error) or "huber" (half the squared error up to 1 SD, linear beyond).

    Returns:
        (B, P) float32: squared or Huber error; binary, multiclass: cross-entropy in nats; ordinal: the mean of the C - 1 binary
        cross-entropies "above class k", so that targets of many classes do not outweigh the others.

    Raises:
        ValueError: shapes that do not go together, or an unknown regression loss.

    Reference:
        Huber 1964, Robust Estimation of a Location Parameter, with k = 1; Niu et al. 2016, Ordinal Regression with Multiple
        Output CNN for Age Estimation (one binary cross-entropy a threshold).
    """
    if regression not in REGRESSION_LOSSES:
        raise ValueError(
            f"The regression loss must be one of {', '.join(REGRESSION_LOSSES)}, got {regression!r}.\n"
            "  where: the phenotype losses\n  fix: take mse, or huber where outliers rule."
        )
    columns = split_logits(logits_BO, targets)
    if values_BP.shape != (len(logits_BO), len(targets)):
        raise ValueError(
            f"Values {(len(logits_BO), len(targets))} of the same people and targets as the logits were expected, got "
            f"{tuple(values_BP.shape)}.\n  where: the phenotype losses\n  fix: hand over one row a person, one column a target."
        )
    losses = []
    for target, logits, values_B in zip(targets, columns, values_BP.float().unbind(1), strict=True):
        observed_B = ~values_B.isnan()
        # both sides of a missing value are replaced before the loss: 0 times the gradient of NaN would be NaN
        logits, values_B = logits.float().where(observed_B[:, None], 0.0), values_B.where(observed_B, 0.0)
        losses.append(_target_loss(target, logits, values_B, regression).where(observed_B, 0.0))
    return torch.stack(losses, 1)


def _target_loss(target: TargetSpec, logits: Tensor, values_B: Tensor, regression: str) -> Tensor:
    """(B,) of one target without missing values."""
    if target.task == "regression":
        error = F.mse_loss if regression == "mse" else F.huber_loss
        return error(logits[:, 0], values_B, reduction="none")
    if target.task == "multiclass":
        return F.cross_entropy(logits, values_B.long(), reduction="none")
    if target.task == "binary":
        return F.binary_cross_entropy_with_logits(logits[:, 0], values_B, reduction="none")
    above = (values_B[:, None] > torch.arange(target.outputs, device=values_B.device)).float()
    return F.binary_cross_entropy_with_logits(logits, above, reduction="none").mean(1)


def weighted_mean(losses_BP: Tensor, weights_BP: Tensor, totals_P: Tensor) -> Tensor:
    """This part's share of a whole optimiser step's loss: a weighted mean over people, then the mean over targets.

    The shares of all parts of a step (accumulated batches, processes), however it was cut, sum to the loss of the whole; so do
    their gradients. With DistributedDataParallel, which averages gradients over processes, the caller multiplies the share by
    the number of processes.

    Args:
        losses_BP: see `phenotype_losses`.
        weights_BP: at least 0, class weights for instance; 0 where the value is missing.
        totals_P: the sum of the weights over all rows of the step, on all processes, known before its first part. A target
            with total 0, which nobody of the step has, takes no part; where no target does, the loss is 0.

    Returns:
        A scalar.

    Raises:
        ValueError: shapes that do not go together.
    """
    if losses_BP.ndim != 2 or weights_BP.shape != losses_BP.shape or totals_P.shape != losses_BP.shape[1:]:
        raise ValueError(
            "Losses and weights (B, P) and totals (P,) were expected, got "
            f"{', '.join(str(tuple(each.shape)) for each in (losses_BP, weights_BP, totals_P))}.\n"
            "  where: the weighted mean of the phenotype losses\n  fix: hand over all three of the same targets."
        )
    present_P = totals_P > 0
    means_P = (losses_BP * weights_BP).sum(0) / totals_P.where(present_P, 1.0)
    return means_P.where(present_P, 0.0).sum() / present_P.sum().clamp_min(1)


def _require_pairs(z_fmri_BE: Tensor, z_dna_BE: Tensor) -> None:
    if z_fmri_BE.ndim != 2 or z_fmri_BE.shape != z_dna_BE.shape:
        raise ValueError(
            "A contrastive loss needs two matrices (B, E) of the same people in the same order, "
            f"got fMRI {tuple(z_fmri_BE.shape)} and DNA {tuple(z_dna_BE.shape)}.\n"
            "  where: the embeddings handed to the loss\n  fix: gather both modalities over the same batch."
        )

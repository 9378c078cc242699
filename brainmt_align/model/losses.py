"""Contrastive losses: unit-norm embeddings (G, E) flow in, one scalar flows out. Nothing here hears of processes or ranks."""

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMOID_BIAS = -10.0  # where the sigmoid loss starts: nearly all of its pairs are of two people


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


def _require_pairs(z_fmri_BE: Tensor, z_dna_BE: Tensor) -> None:
    if z_fmri_BE.ndim != 2 or z_fmri_BE.shape != z_dna_BE.shape:
        raise ValueError(
            "A contrastive loss needs two matrices (B, E) of the same people in the same order, "
            f"got fMRI {tuple(z_fmri_BE.shape)} and DNA {tuple(z_dna_BE.shape)}.\n"
            "  where: the embeddings handed to the loss\n  fix: gather both modalities over the same batch."
        )

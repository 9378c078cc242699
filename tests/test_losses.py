"""Contrastive losses against their equations written out in float64."""

import math

import pytest
import torch

from brainmt_align.model.losses import alignment_loss, clip_loss, siglip_loss


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(2, 7, 16, generator=generator, dtype=torch.float64), dim=-1)
    return z[0].requires_grad_(), z[1].requires_grad_()


def naive_clip(z_fmri, z_dna, log_scale, smoothing=0.0):
    total = 0.0
    for queries, candidates in ((z_fmri, z_dna), (z_dna, z_fmri)):
        for i in range(len(queries)):
            logits = torch.stack([log_scale.exp() * (queries[i] * candidate).sum() for candidate in candidates])
            log_probability = logits - torch.log(torch.exp(logits).sum())
            total = total - (1 - smoothing) * log_probability[i] - smoothing * log_probability.mean()
    return total / (2 * len(z_fmri))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_clip_loss_equals_the_written_out_sum(rows, smoothing):
    log_scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    expected = naive_clip(*rows, log_scale, smoothing)
    loss = clip_loss(*rows, log_scale, smoothing)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for got, want in zip(
        torch.autograd.grad(loss, [*rows, log_scale]), torch.autograd.grad(expected, [*rows, log_scale]), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


def test_clip_loss_is_ln_b_when_embeddings_are_constant():
    z = torch.nn.functional.normalize(torch.ones(9, 4), dim=-1)
    assert clip_loss(z, z, torch.tensor(3.0)).item() == pytest.approx(math.log(9), rel=1e-6)


def test_clip_loss_is_symmetric_in_the_modalities(rows):
    scale = torch.tensor(1.0)
    assert clip_loss(*rows, scale).item() == pytest.approx(clip_loss(rows[1], rows[0], scale).item(), rel=1e-6)


def test_siglip_loss_equals_the_written_out_sum(rows):
    scale, bias = torch.tensor(1.5), torch.tensor(-3.0)
    total = 0.0
    for i in range(7):
        for j in range(7):
            sign = 1 if i == j else -1
            logit = math.exp(1.5) * (rows[0][i] * rows[1][j]).sum().item() - 3.0
            total += math.log1p(math.exp(-sign * logit))
    assert siglip_loss(*rows, scale, bias).item() == pytest.approx(total / 7, rel=1e-5)


@pytest.mark.parametrize("loss", [clip_loss, siglip_loss])
def test_losses_refuse_matrices_that_do_not_pair(loss):
    extra = (torch.tensor(0.0),) if loss is siglip_loss else ()
    with pytest.raises(ValueError, match="same people in the same order, got fMRI \\(3, 4\\) and DNA \\(2, 4\\)"):
        loss(torch.ones(3, 4), torch.ones(2, 4), torch.tensor(0.0), *extra)


def test_alignment_loss_is_the_named_loss_averaged_over_dna_encoders(rows):
    scale, bias = torch.tensor(1.5), torch.tensor(-3.0)
    dna = {"a": rows[1], "b": rows[1].flip(0)}
    clip = [clip_loss(rows[0], each, scale, 0.1) for each in dna.values()]
    sigmoid = [siglip_loss(rows[0], each, scale, bias) for each in dna.values()]
    torch.testing.assert_close(alignment_loss("clip", rows[0], dna, scale, bias, 0.1), sum(clip) / 2)
    torch.testing.assert_close(alignment_loss("siglip", rows[0], dna, scale, bias), sum(sigmoid) / 2)

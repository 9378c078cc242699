"""Phenotype losses against their formulas in float64 and PyTorch's own; missing values; steps cut into parts."""

import math

import pytest
import torch
import torch.nn.functional as F

from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.losses import phenotype_losses, weighted_mean

TARGETS = [
    TargetSpec("age", "regression"),
    TargetSpec("sex", "binary", 2),
    TargetSpec("site", "multiclass", 3),
    TargetSpec("grade", "ordinal", 4),
]
MISSING = [(0, 0), (3, 1), (4, 2), (5, 3), (6, 0), (6, 1), (6, 2), (6, 3)]


@pytest.fixture
def batch():
    """Logits (9, 8) and values (9, 4) without a missing one."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(9, 8, generator=generator)
    classes = [torch.randint(0, count, (9,), generator=generator).float() for count in (2, 3, 4)]
    return logits.requires_grad_(), torch.stack([2 * torch.randn(9, generator=generator), *classes], 1)


def with_missing(values):
    values = values.clone()
    for place in MISSING:
        values[place] = math.nan
    return values


def naive_loss(row, value, task, regression):
    """One loss in Python floats, from one target's logits."""
    if math.isnan(value):
        return 0.0
    if task == "regression":
        error = abs(row[0] - value)
        return error**2 if regression == "mse" else error**2 / 2 if error <= 1 else error - 0.5
    if task == "multiclass":
        return math.log(sum(math.exp(logit) for logit in row)) - row[int(value)]
    above = [value == 1] if task == "binary" else [value > k for k in range(len(row))]
    return sum(math.log1p(math.exp(-logit if yes else logit)) for logit, yes in zip(row, above, strict=True)) / len(row)


@pytest.mark.parametrize("regression", ["mse", "huber"])
def test_phenotype_losses_equal_the_formulas_written_out(batch, regression):
    logits, values = batch[0], with_missing(batch[1])
    got = phenotype_losses(logits, values, TARGETS, regression)
    assert got.shape == (9, 4) and got.dtype == torch.float32
    for i, row in enumerate(logits.tolist()):
        parts = row[:1], row[1:2], row[2:5], row[5:]
        expected = [
            naive_loss(part, value, target.task, regression)
            for part, value, target in zip(parts, values[i].tolist(), TARGETS, strict=True)
        ]
        assert got[i].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_phenotype_losses_and_their_gradients_equal_pytorchs_own(batch):
    logits, values = batch
    ordinal = [F.binary_cross_entropy_with_logits(logits[:, 5 + k], (values[:, 3] > k).float()) for k in range(3)]
    expected = torch.stack(
        [
            F.mse_loss(logits[:, 0], values[:, 0]),
            F.binary_cross_entropy_with_logits(logits[:, 1], values[:, 1]),
            F.cross_entropy(logits[:, 2:5], values[:, 2].long()),
            torch.stack(ordinal).mean(),
        ]
    )
    got = phenotype_losses(logits, values, TARGETS).mean(0)
    torch.testing.assert_close(got, expected)
    for one, other in zip(*(torch.autograd.grad(loss.sum(), logits) for loss in (got, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("logit", [None, 1e30, math.inf, math.nan])
def test_phenotype_losses_of_missing_values_are_exactly_zero_with_zero_gradient(batch, logit):
    values = with_missing(batch[1])
    logits = batch[0].detach().clone()
    if logit is not None:
        logits[6] = logit  # of the person without any value
    logits.requires_grad_()
    losses = phenotype_losses(logits, values, TARGETS)
    assert all(losses[place] == 0 for place in MISSING)
    losses.sum().backward()
    columns = [slice(0, 1), slice(1, 2), slice(2, 5), slice(5, 8)]
    assert all((logits.grad[row, columns[target]] == 0).all() for row, target in MISSING)
    assert logits.grad.isfinite().all() and (logits.grad != 0).sum() == 9 * 8 - (2 * 1 + 2 * 1 + 2 * 3 + 2 * 3)


def test_phenotype_losses_of_half_precision_logits_are_float32(batch):
    got = phenotype_losses(batch[0].bfloat16(), batch[1].double(), TARGETS)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, phenotype_losses(batch[0].bfloat16().float(), batch[1], TARGETS))


def test_weighted_mean_equals_the_sums_written_out(batch):
    values = with_missing(batch[1])
    losses = phenotype_losses(batch[0], values, TARGETS)
    weights = torch.rand(9, 4, generator=torch.Generator().manual_seed(1)) * ~values.isnan()
    expected = 0.0
    for target in range(4):
        pairs = list(zip(weights[:, target].tolist(), losses[:, target].tolist(), strict=True))
        expected += sum(weight * loss for weight, loss in pairs) / sum(weight for weight, _ in pairs) / 4
    assert weighted_mean(losses, weights, weights.sum(0)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cuts", [[9], [5, 4], [1] * 9, [2, 6, 1]])
def test_weighted_mean_of_parts_sums_to_the_whole_and_so_do_the_gradients(batch, cuts):
    logits, values = batch[0], with_missing(batch[1])
    values[:5, 1] = math.nan  # a part may lack a target
    weights = torch.rand(9, 4, generator=torch.Generator().manual_seed(1)) * ~values.isnan()
    whole = weighted_mean(phenotype_losses(logits, values, TARGETS), weights, weights.sum(0))
    expected = torch.autograd.grad(whole, logits)[0]
    got, gradient = 0.0, torch.zeros_like(logits)
    for rows in torch.arange(9).split(cuts):
        part = weighted_mean(phenotype_losses(logits[rows], values[rows], TARGETS), weights[rows], weights.sum(0))
        got, gradient = got + part.item(), gradient + torch.autograd.grad(part, logits)[0]
    assert got == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)


def test_weighted_mean_leaves_out_a_target_that_nobody_has(batch):
    logits, values = batch
    values[:, 2] = math.nan
    weights = (~values.isnan()).float()
    losses = phenotype_losses(logits, values, TARGETS)
    assert weighted_mean(losses, weights, weights.sum(0)).item() == pytest.approx(losses.mean(0).sum().item() / 3, rel=1e-6)


def test_weighted_mean_is_zero_with_zero_gradient_when_nobody_has_any_target(batch):
    loss = weighted_mean(phenotype_losses(batch[0], torch.full((9, 4), math.nan), TARGETS), torch.zeros(9, 4), torch.zeros(4))
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, batch[0])[0] == 0).all()


def test_weighted_mean_does_not_change_when_a_weight_scales_a_whole_target(batch):
    losses, weights = phenotype_losses(*batch, TARGETS), torch.ones(9, 4)
    scaled = weights * torch.tensor([1.0, 7.0, 0.1, 3.0])
    torch.testing.assert_close(weighted_mean(losses, weights, weights.sum(0)), weighted_mean(losses, scaled, scaled.sum(0)))


def test_phenotype_losses_refuse_what_does_not_go_together(batch):
    logits, values = batch
    with pytest.raises(ValueError, match="regression loss must be one of mse, huber, got 'mae'"):
        phenotype_losses(logits, values, TARGETS, "mae")
    with pytest.raises(ValueError, match=r"Values \(9, 4\) of the same people and targets .* were expected, got \(9, 3\)"):
        phenotype_losses(logits, values[:, :3], TARGETS)
    with pytest.raises(ValueError, match=r"Logits \(B, 8\) were expected .*, got \(9, 5\)"):
        phenotype_losses(logits[:, :5], values, TARGETS)
    with pytest.raises(ValueError, match=r"weights \(B, P\) and totals \(P,\) were expected, got \(9, 4\), \(9, 4\), \(3,\)"):
        weighted_mean(torch.ones(9, 4), torch.ones(9, 4), torch.ones(3))

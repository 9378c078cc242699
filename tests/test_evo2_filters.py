"""Hyena filters against sums written out, position by position."""

import pytest
import torch

from encoders.evo2_filters import explicit, fir, implicit, modal_state, modes

LENGTHS = [1, 2, 5, 16, 17, 100]


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("length", LENGTHS)
def test_fir_applies_the_last_tap_to_the_position_itself(draw, length):
    x, weight = draw(2, 3, 6 + length), draw(3, 7)
    expected = torch.stack([(x[..., t : t + 7] * weight).sum(-1) for t in range(length)], dim=-1)
    torch.testing.assert_close(fir(x, weight), expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_explicit_applies_the_first_tap_to_the_position_itself(draw, length):
    x, h = draw(2, 3, 127 + length), draw(3, 128)
    expected = torch.stack([(x[..., t : t + 128] * h.flip(-1)).sum(-1) for t in range(length)], dim=-1)
    torch.testing.assert_close(explicit(x, h), expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_modes_and_modal_state_equal_their_sums(draw, length):
    poles, weights, u = -draw(3, 4).abs(), draw(2, 3, 4), draw(2, 3, length)
    powers = (poles[..., None] * torch.arange(length)).exp()  # (C, S, L)
    torch.testing.assert_close(modes(weights, poles, length), torch.einsum("bcs,csl->bcl", weights, powers))
    torch.testing.assert_close(modal_state(u, poles), torch.einsum("bcl,csl->bcs", u.flip(-1), powers))


@pytest.mark.parametrize("length", LENGTHS)
def test_implicit_is_a_causal_convolution_with_the_sum_of_exponentials(draw, length):
    poles, residues, u = -draw(3, 4).abs(), draw(3, 4), draw(2, 3, length)
    h = (residues[..., None] * (poles[..., None] * torch.arange(length)).exp()).sum(1)
    expected = torch.stack([(u[..., : t + 1] * h[:, : t + 1].flip(-1)).sum(-1) for t in range(length)], dim=-1)
    found, state = implicit(u, poles, residues, None, last=True)
    torch.testing.assert_close(found, expected)
    assert state is None


def test_modes_of_fast_and_slow_poles_keep_single_precision():
    poles = -torch.tensor([[1e-7, 1e-4, 1.0, 100.0]])
    weights = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
    exact = (weights.double()[..., None] * (poles.double()[..., None] * torch.arange(200_000)).exp()).sum(1)
    assert (modes(weights, poles, 200_000) - exact).abs().max() < 1e-5

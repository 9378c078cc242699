"""The causal convolution: a sum over taps in; agreement out, on a processor and through a stand-in for causal-conv1d."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import encoders.causal_conv as room
from encoders.causal_conv import causal_conv_silu


def make(taps=4, channels=3, length=9, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Conv1d(channels, channels, taps, groups=channels), torch.randn(2, length, channels, requires_grad=True)


@pytest.mark.parametrize(("taps", "length"), [(4, 9), (4, 2), (1, 5), (6, 9)])
def test_causal_conv_silu_equals_a_sum_over_taps(taps, length):
    conv, x = make(taps, length=length)
    out = causal_conv_silu(x, conv)
    for t in range(length):
        seen = [(k, t - taps + 1 + k) for k in range(taps) if t - taps + 1 + k >= 0]
        expected = F.silu(conv.bias + sum(conv.weight[:, 0, k] * x[:, s] for k, s in seen))
        torch.testing.assert_close(out[:, t], expected)
    torch.testing.assert_close(causal_conv_silu(x, conv, reverse=True), causal_conv_silu(x.flip(1), conv).flip(1))


def test_causal_conv_silu_reads_a_part_of_a_projection_and_keeps_channels_innermost():
    conv, x = make()
    both = torch.cat([x, torch.randn_like(x)], -1)
    out = causal_conv_silu(both.chunk(2, -1)[0], conv)
    torch.testing.assert_close(out, causal_conv_silu(x, conv))
    assert out.stride(2) == 1


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_through_package_hands_causal_conv1d_what_its_kernels_take(reverse, bias):
    conv, x = make()
    conv.bias = conv.bias if bias else None

    def causal_conv1d_fn(x, weight, bias, activation):
        """What the package documents: x (B, D, L), weight (D, taps), bias (D,), all of one precision, x with a unit stride."""
        assert {t.dtype for t in (x, weight, bias) if t is not None} == {x.dtype} and 1 in (x.stride(1), x.stride(2))
        assert activation == "silu"
        taps = weight.shape[1]
        return F.silu(F.conv1d(F.pad(x, (taps - 1, 0)), weight[:, None], bias, groups=len(weight)))

    package = SimpleNamespace(causal_conv1d_fn=causal_conv1d_fn)
    out = room.through_package(package, x, conv.weight.flatten(1).double(), conv.bias, reverse)
    torch.testing.assert_close(out, causal_conv_silu(x, conv, reverse))


@pytest.mark.parametrize(
    ("x", "taps", "fits"),
    [
        (torch.empty(2, 5, 16), 4, True),
        (torch.empty(2, 5, 32)[..., :16], 4, True),  # a part of a projection
        (torch.empty(2, 5, 16), 5, False),
        (torch.empty(2, 5, 12), 4, False),
        (torch.empty(2, 5, 20)[..., :16], 4, False),
        (torch.empty(2, 16, 5).transpose(1, 2), 4, False),
        (torch.empty(2, 5, 16, dtype=torch.float64), 4, False),
    ],
)
def test_fits_package_knows_the_limits_of_causal_conv1d(x, taps, fits):
    assert room.fits_package(x, taps) == fits


@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
def test_causal_conv_silu_on_a_gpu_equals_the_processor(reverse):
    conv, x = make(channels=64, length=70)
    expected = causal_conv_silu(x, conv, reverse)
    torch.testing.assert_close(causal_conv_silu(x.cuda(), conv.cuda(), reverse).cpu(), expected, atol=1e-4, rtol=0)

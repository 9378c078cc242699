"""The Mamba mixers, the norm and the block: golden numbers and known properties in; agreement out."""

import math

import pytest
import torch
import torch.nn.functional as F

from encoders.mamba import (
    AddNormBlock,
    BidirectionalMambaMixer,
    MambaMixer,
    RMSNorm,
    add_residual,
    drop_path,
    init_step_sizes,
    two_way_mixer,
)

MIXERS = [("mamba_v1_L64", MambaMixer), ("mamba_v1_L257", MambaMixer)]
MIXERS += [("videomamba_v2_L64", BidirectionalMambaMixer), ("videomamba_v2_L257", BidirectionalMambaMixer)]


def assert_gradient(gradient, expected, name):
    assert (gradient - expected).abs().max() <= 5e-5 * expected.abs().max(), name


def golden_mixer(tensors, mixer_class, backend=None):
    mixer = mixer_class(32)
    mixer.load_state_dict({key.removeprefix("w."): value for key, value in tensors.items() if key.startswith("w.")})
    mixer.backend = backend
    return mixer


@pytest.mark.usefixtures("quick_interpreter")
@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
@pytest.mark.parametrize(("case", "mixer_class"), MIXERS)
@pytest.mark.parametrize("reverse", [False, True])
def test_mixer_equals_the_published_numbers(golden, case, mixer_class, backend, reverse):
    tensors = golden(f"mamba/{case}").tensors
    mixer = golden_mixer(tensors, mixer_class, backend)
    x = (tensors["x"].flip(1) if reverse else tensors["x"]).clone().requires_grad_()
    out = mixer(x, reverse=reverse)
    out, grad_x = (out.flip(1) if reverse else out), lambda: x.grad.flip(1) if reverse else x.grad
    (out * tensors["g"]).sum().backward()
    torch.testing.assert_close(out, tensors["out"], atol=1e-4, rtol=0)
    assert_gradient(grad_x(), tensors["grad.x"], "x")
    for name, parameter in mixer.named_parameters():
        assert_gradient(parameter.grad, tensors[f"grad.{name}"], name)


@pytest.mark.parametrize(("case", "mixer_class"), [MIXERS[0], MIXERS[2]])
def test_mixer_state_dict_has_the_published_keys_in_their_order(golden, case, mixer_class):
    expected = golden(f"mamba/{case}").meta["state_dict"]
    state = mixer_class(32).state_dict()
    assert list(state) == list(expected)
    assert {key: list(value.shape) for key, value in state.items()} == expected


def test_mamba_mixer_output_depends_on_one_side_only():
    torch.manual_seed(0)
    mixer, x = MambaMixer(8, d_state=2), torch.randn(1, 12, 8)
    changed = x.clone()
    changed[:, 6] += 1
    for reverse, untouched in ((False, slice(0, 6)), (True, slice(7, None))):
        difference = (mixer(x, reverse) - mixer(changed, reverse)).abs().sum(-1)[0]
        assert (difference[untouched] == 0).all()
        assert difference[6] > 0


def test_bidirectional_mixer_output_depends_on_both_sides():
    torch.manual_seed(0)
    mixer, x = BidirectionalMambaMixer(8, d_state=2), torch.randn(1, 12, 8)
    changed = x.clone()
    changed[:, 6] += 1
    difference = (mixer(x) - mixer(changed)).abs().sum(-1)[0]
    assert difference[0] > 0
    assert difference[-1] > 0


def test_bidirectional_mixer_takes_the_settings_of_the_mixer_for_both_directions():
    mixer = BidirectionalMambaMixer(8, d_state=3, d_conv=2, expand=3, dt_rank=5, bias=True, conv_bias=False)
    shapes = {key: tuple(value.shape) for key, value in mixer.state_dict().items()}
    assert shapes["A_b_log"] == shapes["A_log"] == (24, 3)
    assert shapes["conv1d_b.weight"] == shapes["conv1d.weight"] == (24, 1, 2)
    assert shapes["x_proj_b.weight"] == shapes["x_proj.weight"] == (5 + 2 * 3, 24)
    assert shapes["out_proj.bias"] == (8,)
    assert not {"conv1d.bias", "conv1d_b.bias"} & shapes.keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_mixer_keeps_the_precision_of_its_weights(dtype):
    torch.manual_seed(0)
    mixer, x = BidirectionalMambaMixer(8, d_state=2), torch.randn(2, 5, 8)
    expected = mixer(x)
    out = mixer.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, atol=2e-2 if dtype == torch.bfloat16 else 1e-5, rtol=0)


@pytest.mark.parametrize("stream", ["res", "nores"])
@pytest.mark.parametrize("result", ["prenorm", "final"])
def test_add_residual_and_rms_norm_equal_the_fused_kernel(golden, stream, result):
    tensors = golden("mamba/fused_add_rmsnorm").tensors
    norm = RMSNorm(48)
    norm.load_state_dict({"weight": tensors["w.weight"]})
    x = tensors["x"].clone().requires_grad_()
    residual = tensors["residual"].clone().requires_grad_() if stream == "res" else None
    residual_out = add_residual(x, residual)
    y = norm(residual_out)
    loss = (y * tensors["g_y"]).sum()
    if result == "prenorm":
        torch.testing.assert_close(residual_out, tensors[f"{stream}.prenorm.residual_out"], atol=0, rtol=0)
        loss = loss + (residual_out * tensors["g_residual"]).sum()
    loss.backward()
    torch.testing.assert_close(y, tensors[f"{stream}.{result}.y"], atol=1e-4, rtol=0)
    assert_gradient(x.grad, tensors[f"{stream}.{result}.grad.x"], "x")
    assert_gradient(norm.weight.grad, tensors[f"{stream}.{result}.grad.weight"], "weight")
    if residual is not None:
        assert_gradient(residual.grad, tensors[f"{stream}.{result}.grad.residual"], "residual")


def test_rms_norm_gives_rows_of_unit_mean_square_in_the_precision_of_its_weight():
    x = 300 * torch.randn(4, 64, dtype=torch.bfloat16)
    out = RMSNorm(64)(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.square().mean(-1), torch.ones(4), atol=1e-4, rtol=0)


def test_add_norm_block_keeps_the_residual_in_float32_and_hands_on_the_mixer_output():
    torch.manual_seed(0)
    block = AddNormBlock(torch.nn.Linear(6, 6), 6).to(torch.bfloat16)
    hidden, residual = torch.randn(2, 3, 6, dtype=torch.bfloat16), torch.randn(2, 3, 6)
    out = block(hidden, residual)
    torch.testing.assert_close(out.residual, hidden.float() + residual, atol=0, rtol=0)
    assert out.hidden.dtype == torch.bfloat16
    assert torch.equal(out.hidden, block.mixer(block.norm(out.residual)))
    assert torch.equal(block(hidden).residual, hidden.float())


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(20_000, 2, 3)
    dropped = drop_path(x, 0.25, training=True)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 4 / 3]))
    assert (dropped.flatten(1).std(dim=1) == 0).all()
    assert abs(dropped.mean() - 1) < 0.02
    assert drop_path(x, 0.25, training=False) is x


def test_init_step_sizes_spreads_dt_log_uniformly_between_its_limits():
    torch.manual_seed(0)
    dt_proj = torch.nn.Linear(4, 20_000)
    init_step_sizes(dt_proj)
    log_dt = F.softplus(dt_proj.bias).log10()
    assert -3.001 < log_dt.min() < -2.99
    assert -1.01 < log_dt.max() < -0.999
    assert abs(log_dt.mean() + 2) < 0.02
    assert 0.49 < dt_proj.weight.max() <= 0.5


def test_mamba_mixer_starts_from_minus_one_to_minus_n_and_a_skip_of_one():
    mixer = MambaMixer(40, d_state=3)
    assert mixer.dt_rank == math.ceil(40 / 16)
    torch.testing.assert_close(mixer.A_log.exp(), torch.tensor([1.0, 2.0, 3.0]).expand(80, 3))
    assert (mixer.D == 1).all()


def test_mixer_gradients_have_the_strides_of_their_parameters():
    mixer = BidirectionalMambaMixer(8, d_state=2)
    mixer(torch.randn(2, 9, 8)).sum().backward()
    unlike = [name for name, parameter in mixer.named_parameters() if parameter.grad.stride() != parameter.stride()]
    assert unlike == []


@pytest.mark.parametrize("mixer_class", [MambaMixer, BidirectionalMambaMixer])
def test_mixer_under_autocast_stays_near_float32_with_its_gradients(mixer_class):
    torch.manual_seed(0)
    mixer, x = mixer_class(32, d_state=4), torch.randn(2, 40, 32, requires_grad=True)
    exact = mixer(x)
    expected = torch.autograd.grad(exact.square().sum(), [x, *mixer.parameters()])
    with torch.autocast("cpu", torch.bfloat16):
        out = mixer(x)
    assert out.dtype == torch.bfloat16
    for got, gradient in zip(torch.autograd.grad(out.float().square().sum(), [x, *mixer.parameters()]), expected, strict=True):
        assert (got - gradient).abs().max() <= 0.05 * gradient.abs().max()


@pytest.mark.gpu
def test_bidirectional_mixer_on_a_gpu_under_autocast_stays_near_the_processor():
    torch.manual_seed(0)
    mixer, x = BidirectionalMambaMixer(64), torch.randn(2, 70, 64)
    expected = mixer(x)
    with torch.autocast("cuda", torch.bfloat16):
        out = mixer.cuda()(x.cuda())
    assert (out.float().cpu() - expected).abs().max() <= 0.03 * expected.abs().max()


@pytest.mark.parametrize("multiply", [False, True])
def test_two_way_mixer_equals_both_mixers_one_after_the_other(multiply):
    torch.manual_seed(0)
    forward, backward = MambaMixer(8), MambaMixer(8)
    backward.in_proj, backward.out_proj = forward.in_proj, forward.out_proj
    hidden = torch.randn(2, 70, 8)
    first, second = forward(hidden), backward(hidden, reverse=True)
    expected = first * second if multiply else first + second
    torch.testing.assert_close(two_way_mixer(forward, backward, hidden, multiply), expected, atol=1e-6, rtol=1e-5)

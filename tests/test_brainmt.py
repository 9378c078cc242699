"""BrainMT: golden numbers of the published code and known properties in; agreement out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

import encoders.brainmt as room
from encoders import BrainMT, BrainMTConfig
from encoders.brainmt_config import STAGES

TINY = {"volume_shape": (17, 20, 33), "num_frames": 4, "embed_dim": 16, "depth": (2, 2), "stem_channels": (2, 4), "d_state": 2}
CASES = ["vol24x40x32_b2t4", "native_b2t2"]


def tiny_model(seed=0, **settings):
    torch.manual_seed(seed)
    return BrainMT(BrainMTConfig(**{**TINY, "init_std": 0.2, **settings})).eval()


def tiny_bold(batch=2, frames=3, shape=TINY["volume_shape"], seed=1):
    return torch.randn(batch, frames, 1, *shape, generator=torch.Generator().manual_seed(seed))


def assert_gradient(gradient, expected, name):
    assert (gradient - expected).abs().max() <= 5e-5 * expected.abs().max(), name


def record_outputs(model):
    """A dict that the next forward pass fills with the output of every layer and block, under the golden names."""
    seen = {}
    model.downsample1.register_forward_hook(lambda module, inputs, output: seen.update(stem=output))
    model.layers[0].register_forward_pre_hook(lambda module, inputs: seen.update(tokens=inputs[0]))
    for i, layer in enumerate(model.layers):
        layer.register_forward_hook(
            lambda module, inputs, output, i=i: seen.update(
                {f"layer{i}.hidden": output.hidden, f"layer{i}.residual": output.residual},
            )
        )
    calls = iter(range(2 * len(model.blocks)))
    hidden = {}

    def after_norm(module, inputs, output):  # the input of block i's first norm is the output of block i - 1
        call = next(calls)
        if call % 2 == 0:
            hidden[call // 2] = inputs[0]

    model.norm.register_forward_hook(after_norm)
    return seen, hidden


@pytest.mark.parametrize("case", ["A", "B"])
def test_brainmt_has_the_published_keys_shapes_and_size(golden, case):
    meta = golden(f"brainmt/brainmt_{case}_default_state_dict_keys").meta
    with torch.device("meta"):
        model = BrainMT(BrainMTConfig(bidirectional=case == "B"))
    assert [(key, list(value.shape)) for key, value in model.state_dict().items()] == list(meta["state_dict"].items())
    assert sum(parameter.numel() for parameter in model.parameters()) == meta["n_params"]


@pytest.mark.parametrize("case", ["A", "B"])
def test_brainmt_equals_every_layer_and_gradient_of_the_published_code(golden, case):
    tensors = golden(f"brainmt/brainmt_{case}_tiny_b2t3").tensors
    weights = {key.removeprefix("w."): value for key, value in tensors.items() if key.startswith("w.")}
    model = BrainMT.from_official(weights, volume_shape=(24, 40, 32))
    seen, hidden = record_outputs(model)
    x = tensors["x"].clone().requires_grad_()
    out = model(x)
    (out.prediction * tensors["g"]).sum().backward()
    seen |= {
        **{f"block{i - 1}.out": hidden[i] for i in hidden if i > 0},
        "post_mamba": torch.cat([out.mamba_cls[:, None], out.mamba_tokens], 1),
        "post_blocks": torch.cat([out.cls[:, None], out.tokens], 1),
        "features": out.cls,
        "head": out.prediction,
        "forward": out.prediction,
    }
    stored = {key for key in tensors if not key.startswith(("w.", "grad.")) and key not in ("x", "g")}
    assert stored <= seen.keys()
    for key in stored:
        torch.testing.assert_close(seen[key], tensors[key], atol=1e-4, rtol=0, msg=lambda text, key=key: f"{key}: {text}")
    assert_gradient(x.grad, tensors["grad.x"], "x")
    for name, parameter in model.named_parameters():
        assert_gradient(parameter.grad, tensors[f"grad.{name}"], name)


@pytest.mark.parametrize("case", ["A", "B"])
@pytest.mark.parametrize("volume", CASES)
def test_brainmt_equals_the_published_code_at_its_own_width(golden, number_procedure, case, volume):
    tensors, meta = golden(f"brainmt/brainmt_{case}_{volume}")
    weights = {key: torch.from_numpy(number_procedure.make_param(key, spec)) for key, spec in meta["param_spec"].items()}
    x = torch.from_numpy(number_procedure.make_input(meta["input"]["key"], meta["input"]["shape"]))
    model = BrainMT.from_official(weights, volume_shape=x.shape[3:])
    with torch.no_grad():
        out = model(x)
    for value, name in ((out.prediction, "forward"), (out.cls, "features")):
        torch.testing.assert_close(value, tensors[name], atol=1e-4, rtol=0)
    for cls, tokens, name in ((out.mamba_cls, out.mamba_tokens, "post_mamba"), (out.cls, out.tokens, "post_blocks")):
        torch.testing.assert_close(torch.cat([cls[:, None], tokens], 1), tensors[name], atol=1e-4, rtol=0)


def test_brainmt_takes_any_volume_shape_and_counts_its_tokens():
    out = tiny_model()(tiny_bold())
    tokens = 2 * 2 * 3
    assert out.cls.shape == out.mamba_cls.shape == (2, 16)
    assert out.tokens.shape == out.mamba_tokens.shape == (2, tokens * 3, 16)
    assert out.voxel_embeddings().shape == (2, tokens, 16)
    assert out.prediction.shape == (2, 1)


def test_voxel_embeddings_average_the_rows_of_one_voxel():
    out = tiny_model()(tiny_bold())
    for n in (0, 7, 11):
        torch.testing.assert_close(out.voxel_embeddings()[:, n], out.mamba_tokens[:, 3 * n : 3 * n + 3].mean(1))


def test_brainmt_uses_the_first_positions_in_time_when_frames_are_fewer():
    model, short = tiny_model(), tiny_model(num_frames=3)
    state = model.state_dict()
    short.load_state_dict(state | {"temporal_pos_embedding": state["temporal_pos_embedding"][:, :3]})
    torch.testing.assert_close(model(tiny_bold()).tokens, short(tiny_bold()).tokens)


def test_brainmt_reads_slices_and_half_precision():
    model, long = tiny_model(), tiny_bold(frames=9)
    window = long[:, 2:6]
    assert not window.is_contiguous()
    expected = model(window.contiguous()).cls
    torch.testing.assert_close(model(window).cls, expected)
    torch.testing.assert_close(model(window.half()).cls, model(window.half().float()).cls, atol=0, rtol=0)


def test_brainmt_in_bfloat16_stays_near_float32():
    model, bold = tiny_model(), tiny_bold()
    expected = model(bold).cls
    out = model.to(torch.bfloat16)(bold).cls
    assert out.dtype == torch.bfloat16
    assert F.cosine_similarity(out.float(), expected).min() > 0.99


def test_brainmt_stem_keeps_its_weight_gradients_exact_on_a_processor_under_autocast():
    shape = (8, 8, 8)  # two voxels wide behind the first two convolutions, where bfloat16 weight gradients went wrong
    model, bold = tiny_model(volume_shape=shape).train(), tiny_bold(shape=shape)
    with torch.autocast("cpu", torch.bfloat16):
        stem = model._stem(bold.flatten(0, 1))
    cotangent = torch.randn_like(stem, dtype=torch.float32)
    convolutions = [
        parameter for module in model.modules() if isinstance(module, room.Conv3d) for parameter in module.parameters()
    ]
    got = torch.autograd.grad((stem.float() * cotangent).sum(), convolutions)
    expected = torch.autograd.grad((model._stem(bold.flatten(0, 1)) * cotangent).sum(), convolutions)
    assert len(got) == 12
    for gradient, exact in zip(got, expected, strict=True):
        torch.testing.assert_close(gradient, exact)


@pytest.mark.parametrize("depth", [(2, 2), (1, 1), (1, 0)])
def test_brainmt_without_tokens_gives_the_same_cls_and_prediction(depth):
    model = tiny_model(depth=depth)
    whole, lean = model(tiny_bold()), model(tiny_bold(), tokens=False)
    assert lean.tokens is None
    torch.testing.assert_close(lean.cls, whole.cls)
    torch.testing.assert_close(lean.prediction, whole.prediction)


def test_brainmt_is_deterministic_in_evaluation_and_not_in_training():
    model = tiny_model(drop_path_rate=0.5)
    assert torch.equal(model(tiny_bold()).cls, model(tiny_bold()).cls)
    model.train()
    assert not torch.equal(model(tiny_bold()).cls, model(tiny_bold()).cls)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_brainmt_cls_sees_the_scan_before_attention_only_when_bidirectional(bidirectional):
    model = tiny_model(bidirectional=bidirectional)
    difference = (model(tiny_bold()).mamba_cls - model(tiny_bold(seed=2)).mamba_cls).abs().max()
    assert (difference > 0) == bidirectional


def test_activation_checkpointing_keeps_the_gradients_and_less_memory():
    gradients, kept, bold = [], [], tiny_bold()
    for checkpointing in (False, True):
        model = tiny_model(activation_checkpointing=checkpointing, drop_path_rate=0.4).train()
        sizes = []
        torch.manual_seed(3)
        with saved_tensors_hooks(lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor):
            out = model(bold)
        out.cls.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        kept.append(sum(sizes) - bold.numel())
    assert kept[1] < kept[0] / 4
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("stage", STAGES)
def test_activation_checkpointing_keeps_the_gradients_under_autocast(stage):
    gradients = []
    for checkpointing in (False, (stage,)):
        model = tiny_model(activation_checkpointing=checkpointing, drop_path_rate=0.4).train()
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(tiny_bold()).cls.float().square().sum()
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_activation_checkpointing_of_one_stage_recomputes_that_stage_alone(stage):
    model = tiny_model(activation_checkpointing=(stage,)).train()
    watched = {"stem": model.patch_embed, "mamba": model.layers[1].norm, "attention": model.blocks[0]}
    calls = dict.fromkeys(watched, 0)
    for name, module in watched.items():
        module.register_forward_hook(lambda module, inputs, output, name=name: calls.update({name: calls[name] + 1}))
    model(tiny_bold()).cls.sum().backward()
    assert calls == {name: 2 if name == stage else 1 for name in watched}


def test_brainmt_stem_gives_the_same_when_it_takes_one_frame_at_a_time(monkeypatch):
    model = tiny_model()
    expected = model(tiny_bold()).tokens
    monkeypatch.setattr(room, "STEM_VOXELS", 1)
    torch.testing.assert_close(model(tiny_bold()).tokens, expected)


@pytest.mark.parametrize(
    ("checkpointing", "gradients", "sizes"), [(True, True, [2, 2, 2]), (True, False, [6]), (False, True, [6])]
)
def test_brainmt_stem_takes_fewer_frames_at_once_where_it_recomputes(monkeypatch, checkpointing, gradients, sizes):
    model, taken = tiny_model(activation_checkpointing=checkpointing), []
    monkeypatch.setattr(room, "STEM_VOXELS_CHECKPOINTED", 2 * math.prod(TINY["volume_shape"]))
    model.patch_embed.register_forward_pre_hook(lambda module, inputs: taken.append(len(inputs[0])))
    with torch.set_grad_enabled(gradients):
        model(tiny_bold())
    assert taken == sizes
    assert room.STEM_VOXELS_CHECKPOINTED < room.STEM_VOXELS


class CopySizes(TorchDispatchMode):
    """Records the number of elements of every change of precision."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default:
            self.sizes.append(out.numel())
        return out


def test_brainmt_changes_the_precision_of_no_more_frames_than_the_stem_takes_at_once(monkeypatch):
    monkeypatch.setattr(room, "STEM_VOXELS", math.prod(TINY["volume_shape"]))
    model, bold = tiny_model(), tiny_bold().half()
    with torch.no_grad(), CopySizes() as copies:
        model(bold)
    assert max(copies.sizes) == math.prod(TINY["volume_shape"])


def test_brainmt_takes_a_slice_of_longer_scans_sample_by_sample(monkeypatch):
    model, scans, taken = tiny_model(), tiny_bold(frames=6), []
    expected = model(scans[:, 2:5].contiguous()).cls
    model.patch_embed.register_forward_pre_hook(lambda module, inputs: taken.append(len(inputs[0])))
    torch.testing.assert_close(model(scans[:, 2:5]).cls, expected)
    assert taken == [3, 3]


def test_brainmt_without_classes_has_no_head():
    model = tiny_model(num_classes=0)
    assert model(tiny_bold()).prediction is None
    assert not any(key.startswith("head") for key in model.state_dict())


def test_brainmt_drop_path_rates_grow_as_published():
    with torch.device("meta"):
        model = BrainMT(BrainMTConfig(num_frames=1))
    assert [layer.drop_path_rate for layer in model.layers] == pytest.approx([0, *(0.1 * i / 19 for i in range(11))])
    assert model.block_drop_path_rates == pytest.approx([0.1 * i / 19 for i in range(12, 20)])


def test_brainmt_init_keeps_or_overwrites_the_step_sizes():
    mamba, published = tiny_model(embed_dim=256), tiny_model(embed_dim=256, init="published", init_std=0.02)
    for name in ("dt_proj", "dt_proj_b"):
        dt = F.softplus(getattr(mamba.layers[0].mixer, name).bias)
        assert 9e-4 < dt.min() < 2e-3
        assert 5e-2 < dt.max() < 0.11
        overwritten = getattr(published.layers[0].mixer, name)
        assert (overwritten.bias == 0).all()
        assert 0.019 < overwritten.weight.std() < 0.021
    for model, std in ((mamba, 0.2), (published, 0.02)):
        assert 0.95 * std < model.blocks[0].qkv.weight.std() < 1.05 * std
        assert (model.cls_token == 0).all()
        assert (model.temporal_pos_embedding == 0).all()
        bound = 1 / math.sqrt(512 * 4)  # kaiming-uniform(a = sqrt 5) over 512 inputs, divided by sqrt(2 + 2 layers)
        for weight in (model.layers[1].mixer.out_proj.weight, model.mlp.fc2.weight):
            assert 0.99 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("shape", [(2, 3, 1, 17, 20, 32), (2, 3, 2, 17, 20, 33), (3, 1, 17, 20, 33)])
def test_brainmt_fails_when_the_volume_is_not_the_configured_one(shape):
    with pytest.raises(ValueError, match=r"C, D, H, W = \(1, 17, 20, 33\) was expected, got \(.*\n  fix: resample"):
        tiny_model()(torch.zeros(shape))


@pytest.mark.parametrize("frames", [0, 5])
def test_brainmt_fails_when_frames_are_too_many_or_none(frames):
    with pytest.raises(ValueError, match=rf"1 to 4 frames a window were expected, got {frames}"):
        tiny_model()(tiny_bold(frames=frames))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_brainmt_in_evaluation_fails_when_voxels_are_not_finite(value):
    model, bold = tiny_model(), tiny_bold()
    bold[1, 2, 0, 3, 4, 5] = value
    with pytest.raises(
        ValueError, match=r"finite features were expected, got NaN or infinite voxels in \(sample, frame\) \[\(1, 2\)\]"
    ):
        model(bold)
    assert not model.train()(bold).cls.isfinite().all()  # the training loop looks at the loss and the gradients instead


def test_brainmt_in_evaluation_fails_when_only_tokens_are_not_finite():
    model, bold = tiny_model(bidirectional=False, depth=(2, 0)), tiny_bold()
    bold[0, 2] = float("nan")  # the CLS of a causal scan sees nothing of it
    with pytest.raises(ValueError, match=r"voxels in \(sample, frame\) \[\(0, 2\)\]"):
        model(bold)


def test_brainmt_in_evaluation_runs_without_data():
    with torch.device("meta"):
        model = BrainMT(BrainMTConfig(**TINY)).eval()
        assert model(torch.empty(1, 2, 1, *TINY["volume_shape"])).cls.shape == (1, 16)


def test_brainmt_in_evaluation_fails_when_weights_are_not_finite():
    model = tiny_model()
    with torch.no_grad():
        model.mlp.fc1.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"got NaN or infinite weights in mlp\.fc1\.weight(.|\n)*fix: load the weights"):
        model(tiny_bold())


def test_brainmt_in_evaluation_fails_when_half_precision_overflows():
    model = tiny_model()
    with torch.no_grad():
        model.blocks[-1].proj.bias.fill_(3e38)
        model.mlp.fc2.bias.fill_(3e38)
    with pytest.raises(ValueError, match=r"got finite voxels and weights that overflow(.|\n)*fix: use float32 or bfloat16"):
        model(tiny_bold())

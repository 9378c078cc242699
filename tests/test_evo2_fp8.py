"""FP8 in software against rounding written out, and the scales that checkpoints hold."""

import io
import math
import pickle
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from encoders.evo2_fp8 import FP8Linear, TransformerEngineLinear, engine_refusal, has_scales, read_scales, to_e4m3

SCALES = torch.tensor([30.1, 900.7])  # no numbers of bfloat16


def nearest_e4m3(value: float) -> float:
    """Ties to even among the multiples of the spacing at this size: 3 bits of mantissa, exponents from -6, at most 448."""
    if value == 0:
        return 0.0
    spacing = 2.0 ** (max(math.floor(math.log2(abs(value))), -6) - 3)
    return math.copysign(min(round(abs(value) / spacing) * spacing, 448.0), value)


class Opener:
    """What a pickle must never be allowed to do."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def blob(content) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer


def test_to_e4m3_equals_rounding_of_the_product_in_bfloat16():
    torch.manual_seed(0)
    x, scale = torch.randn(2000) * torch.logspace(-4, 2, 2000), 37.3
    products = (x.bfloat16().double() * 37.3).bfloat16()
    expected = torch.tensor([nearest_e4m3(product) for product in products.tolist()])
    assert products.abs().max() > 448
    assert to_e4m3(x, scale).float().equal(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp8_linear_is_the_product_of_the_rounded(dtype):
    torch.manual_seed(0)
    linear, x = nn.Linear(32, 48, bias=False).to(dtype), torch.randn(2, 5, 32).to(dtype)
    rounded_x, rounded_w = to_e4m3(x, 30.1).double(), to_e4m3(linear.weight, 900.7).double()
    expected = rounded_x @ rounded_w.T / (30.1 * 900.7)
    found = FP8Linear(linear, SCALES)(x)
    assert found.dtype == dtype
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 1e-2}
    torch.testing.assert_close(found.double(), expected, **tolerance)
    assert 0.001 < (found - linear(x)).norm() / linear(x).norm() < 0.1  # e4m3 moves it by some per cent


def test_fp8_linear_passes_the_gradient_through_the_rounding():
    torch.manual_seed(0)
    linear, x = nn.Linear(8, 4, bias=False), torch.randn(3, 8)
    fp8, leaf = FP8Linear(linear, SCALES), x.clone().requires_grad_()
    found = fp8(leaf)
    torch.testing.assert_close(found, fp8(x))
    found.sum().backward()
    weight = to_e4m3(linear.weight, 900.7).float() / 900.7
    torch.testing.assert_close(leaf.grad, weight.sum(0).expand(3, 8))


class EngineLinear(nn.Linear):
    """Stands in for the engine's: multiplies in FP8 inside of its autocast alone, whole multiples of 16 rows."""

    within = False

    def __init__(self, inputs, outputs, bias, params_dtype, device):
        super().__init__(inputs, outputs, bias=bias, dtype=params_dtype, device=device)
        self.state = None

    def set_extra_state(self, state):
        self.state = torch.load(state, weights_only=True)

    def forward(self, x):
        if not EngineLinear.within or len(x) % 16 or self.training:
            raise RuntimeError("not as the engine is to be called")
        scale_x, scale_w, _ = self.state["scale_fwd"].tolist()
        product = to_e4m3(x, scale_x).float() @ to_e4m3(self.weight, scale_w).float().T
        return (product / (scale_x * scale_w)).to(x.dtype)


@pytest.fixture
def engine(monkeypatch):
    """A package of the engine's names."""

    @contextmanager
    def fp8_autocast(enabled, fp8_recipe):
        EngineLinear.within = enabled and fp8_recipe["amax_history_len"] == 16
        yield
        EngineLinear.within = False

    names = ("transformer_engine", "transformer_engine.pytorch", "transformer_engine.common", "transformer_engine.common.recipe")
    modules = {name: ModuleType(name) for name in names}
    modules["transformer_engine.pytorch"].Linear = EngineLinear
    modules["transformer_engine.pytorch"].fp8_autocast = fp8_autocast
    modules["transformer_engine.common.recipe"].DelayedScaling = dict
    modules["transformer_engine.common.recipe"].Format = SimpleNamespace(HYBRID="hybrid")
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_transformer_engine_linear_hands_the_engine_whole_rows_and_the_checkpoints_scales(engine):
    torch.manual_seed(0)
    linear, x = nn.Linear(32, 48, bias=False), torch.randn(2, 5, 32)
    found = TransformerEngineLinear(linear, SCALES)
    torch.testing.assert_close(found(x), FP8Linear(linear, SCALES)(x))
    assert set(found.state_dict()) == {"weight", "fp8_scales"}
    state = found._engine[1].state
    torch.testing.assert_close(state["scale_fwd"], torch.tensor([30.1, 900.7, 1.0]))
    torch.testing.assert_close(448 / state["amax_history_fwd"].amax(0), state["scale_fwd"])  # what the engine would make of it


def test_engine_refusal_says_what_is_missing(monkeypatch):
    assert engine_refusal(torch.device("cpu")) == "it is not installed"
    monkeypatch.setattr("encoders.evo2_fp8.util.find_spec", lambda name: SimpleNamespace())
    assert engine_refusal(torch.device("cpu")) == "cpu has no FP8"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert engine_refusal(torch.device("cuda")) == "cuda has no FP8"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert engine_refusal(torch.device("cuda")) is None


def test_read_scales_reads_those_of_input_and_weight():
    content = {"scale_fwd": torch.tensor([30.1, 900.7, 1.0]), "amax_history_fwd": torch.zeros(16, 3)}
    assert read_scales(blob(content)).equal(SCALES)
    assert has_scales(blob(content))


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (None, "nothing"),
        (io.BytesIO(), "nothing"),
        (blob({"scale": torch.ones(1)}), "scale"),
        (blob({"scale_fwd": torch.ones(1)}), "scale_fwd"),
        (blob({"scale_fwd": torch.tensor([1.0, 0.0, 1.0])}), "scale_fwd"),
        (blob([1]), "nothing"),
        (io.BytesIO(pickle.dumps(Opener())), "nothing"),
    ],
)
def test_read_scales_says_what_the_metadata_hold_instead(content, held):
    with pytest.raises(ValueError, match=f"must hold scale_fwd, positive numbers for input and weight; got {held}"):
        read_scales(content)

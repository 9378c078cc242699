"""The network of DNA encoders: adapters, precision and the fingerprint that follows them."""

import pytest
import torch
from torch import nn

from tests.toy_encoders import ToyEncoder


class Linear(ToyEncoder):
    """A toy with a projection that can be adapted."""

    lora_targets = ("projection",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.ModuleDict({"projection": nn.Linear(2, 2), "other": nn.Linear(2, 2)}).requires_grad_(False)

    def _tokens(self, sequences):
        weight = next(self.model.parameters())
        return self.model["other"](self.model["projection"](super()._tokens(sequences).to(weight.dtype)))


def test_adapt_lets_gradients_flow_to_the_adapters_alone():
    encoder = Linear()
    before, fingerprint_before = encoder.embed(["ACGT"]), encoder.fingerprint
    frozen = {name: weight.clone() for name, weight in encoder.model.named_parameters()}
    adapters = encoder.adapt(rank=2)
    started = encoder.embed(["ACGT"])
    torch.testing.assert_close(started.detach(), before)
    optimiser = torch.optim.SGD(adapters, 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        encoder.embed(["ACGT", "TT"]).square().sum().backward()
        optimiser.step()
    assert all(weight.grad is not None for weight in adapters) and len(adapters) == 2
    after = dict(encoder.model.named_parameters())
    for name, weight in frozen.items():
        kept = after[name.replace("projection.", "projection.base_layer.")]
        assert kept.equal(weight) and kept.grad is None and not kept.requires_grad
    assert not encoder.embed(["ACGT"]).detach().equal(before)
    assert encoder.fingerprint != fingerprint_before
    with torch.no_grad():
        assert not encoder.embed(["ACGT"]).requires_grad


@pytest.mark.parametrize("settings", [{"rank": 0}, {"rank": "a"}, {"alpha": 0}, {"dropout": 1}])
def test_adapt_refuses_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="adapt needs a whole rank of at least 1, an alpha above 0 and a dropout from 0"):
        Linear().adapt(**settings)


def test_adapt_refuses_an_encoder_that_has_adapters():
    encoder = Linear()
    encoder.adapt()
    with pytest.raises(ValueError, match="without adapters; this one has them"):
        encoder.adapt()


def test_in_precision_runs_the_network_in_another_precision_and_gives_the_weights_back():
    class Kept(Linear):
        float32_weights = ("other.weight", "other.bias")

    encoder = Kept()
    own = {name: weight.clone() for name, weight in encoder.model.named_parameters()}
    assert encoder.dtype is torch.float32
    with pytest.raises(RuntimeError), encoder.in_precision("bfloat16"):  # the toy feeds bfloat16 to a float32 layer
        assert encoder.dtype is torch.bfloat16
        assert encoder.model["other"].weight.dtype is torch.float32
        encoder.embed(["ACGT"])
    assert all(weight.equal(own[name]) and weight.dtype is torch.float32 for name, weight in encoder.model.named_parameters())
    with pytest.raises(ValueError, match="must be one of float32, bfloat16"), encoder.in_precision("float16"):
        pass

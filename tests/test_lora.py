"""LoRA on BrainMT through peft: how it is done, and that adapters alone are trained.

    from peft import LoraConfig, get_peft_model
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules=LORA_TARGETS))

trains low-rank additions to the projections of the Mamba mixers (in_proj, x_proj, out_proj) and of the attention blocks (qkv,
proj) and leaves the rest frozen. dt_proj and the convolutions are not among them: the mixers read their weights directly, as
the scan adds dt_proj's bias inside its softplus, so that an adapter around these modules would never be called.
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from encoders import BrainMT, BrainMTConfig
from encoders.brainmt import LORA_TARGETS


def tiny(bidirectional=True):
    torch.manual_seed(0)
    sizes = {"volume_shape": (17, 20, 33), "num_frames": 3, "embed_dim": 16, "depth": (2, 2), "stem_channels": (2, 4)}
    return BrainMT(BrainMTConfig(**sizes, bidirectional=bidirectional, drop_path_rate=0.0)), torch.randn(2, 3, 1, 17, 20, 33)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lora_adapts_every_projection_trains_nothing_else_and_merges_back(bidirectional):
    model, bold = tiny(bidirectional)
    keys, before = set(model.state_dict()), model(bold).prediction
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=LORA_TARGETS))
    torch.testing.assert_close(adapted(bold).prediction, before)  # B starts at zero

    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    projections = ("in_proj", "x_proj", "x_proj_b", "out_proj") if bidirectional else ("in_proj", "x_proj", "out_proj")
    expected = {f"layers.{i}.mixer.{name}" for i in range(2) for name in projections}
    expected |= {f"blocks.{i}.{name}" for i in range(2) for name in ("qkv", "proj")}
    assert {name.split(".lora_")[0].removeprefix("base_model.model.") for name in trained} == expected

    optimiser = torch.optim.SGD(trained.values(), lr=1.0)
    for _ in range(2):  # A moves once B has left zero
        optimiser.zero_grad()
        adapted(bold).prediction.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
        optimiser.step()
    moved = adapted(bold).prediction
    assert not torch.allclose(moved, before)

    merged = adapted.merge_and_unload()
    assert set(merged.state_dict()) == keys
    torch.testing.assert_close(merged(bold).prediction, moved, atol=1e-5, rtol=1e-4)

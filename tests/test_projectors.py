"""The projector's layers are part of the contract."""

import torch
from torch import nn

from brainmt_align.model.projectors import BrainMTProjector


def test_projector_has_the_published_layers():
    projector = BrainMTProjector(input_dim=48, output_dim=512, dropout=0.3)
    assert [type(layer) for layer in projector.layers] == [nn.Linear, nn.GELU, nn.Dropout, nn.Linear, nn.LayerNorm]
    assert projector.layers[0].weight.shape == (1024, 48)
    assert projector.layers[3].weight.shape == (512, 1024)
    assert projector.layers[2].p == 0.3


def test_projector_output_is_layer_normalised():
    features_BE = BrainMTProjector(16, 32).eval()(torch.randn(5, 16))
    torch.testing.assert_close(features_BE.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(features_BE.var(1, unbiased=False), torch.ones(5), atol=1e-2, rtol=0)

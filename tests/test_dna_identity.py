"""What a DNA encoder is known by."""

import pytest
import torch
from torch import nn

from encoders.dna_identity import fingerprint, resolve_device_and_dtype


def test_fingerprint_changes_with_weights_config_layer_and_precision_alone():
    def model(seed):
        torch.manual_seed(seed)
        return nn.Linear(3, 2)

    base = fingerprint({"name": "toy"}, None, model(0))
    assert base == fingerprint({"name": "toy"}, None, model(0))
    touched = model(0)
    touched.weight.data[0, 0] += 1e-6
    others = [
        fingerprint({"name": "toy"}, None, touched),
        fingerprint({"name": "other"}, None, model(0)),
        fingerprint({"name": "toy"}, 1, model(0)),
        fingerprint({"name": "toy"}, None, model(0).bfloat16()),
    ]
    assert len({base, *others}) == 5
    assert len(base) == 64


def test_resolve_device_and_dtype_takes_names_and_torch_types():
    cpu = torch.device("cpu")
    assert resolve_device_and_dtype("cpu", None) == (cpu, torch.float32)
    assert resolve_device_and_dtype(cpu, "bfloat16") == (cpu, torch.bfloat16)
    assert resolve_device_and_dtype(cpu, torch.float32) == (cpu, torch.float32)
    assert resolve_device_and_dtype(None, None)[0].type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_resolve_device_and_dtype_lists_the_known_precisions():
    with pytest.raises(ValueError, match="must be one of float32, bfloat16; got 'float16'"):
        resolve_device_and_dtype("cpu", "float16")

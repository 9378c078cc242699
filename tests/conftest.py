"""Fixtures that every test room shares: the oracle tensors, the real files, and where to find them."""

import importlib.util
import json
import os
import socket
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from brainmt_align.data.bold_store import build
from encoders.selective_scan import triton as triton_scan

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: its kernels are then checked on the processor

SHARED = Path(os.environ.get("BRAINMT_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))


class Golden(NamedTuple):
    """One fixture of the published code: its tensors and what was written down about them."""

    tensors: dict[str, torch.Tensor]
    meta: dict


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with golden tensors and real data; tests skip without it, except in CI, where that is a failure."""
    if not SHARED.is_dir():
        reason = f"needs the oracle and real files in {SHARED} (set BRAINMT_ALIGN_SHARED to point elsewhere)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return SHARED


@pytest.fixture(scope="session")
def real_dir(shared_dir) -> Path:
    return shared_dir / "data" / "real"


@pytest.fixture(scope="session")
def golden(shared_dir):
    """golden("brainmt/brainmt_A_tiny_b2t3") -> Golden(tensors, meta)."""

    def load(name: str) -> Golden:
        stem = shared_dir / "golden" / name
        meta = json.loads(stem.with_suffix(".json").read_text())
        tensors = load_file(stem.with_suffix(".safetensors")) if stem.with_suffix(".safetensors").exists() else {}
        return Golden(tensors, meta)

    return load


@pytest.fixture(scope="session")
def number_procedure(shared_dir):
    """The module that regenerates weights and inputs of the fixtures that store outputs only."""
    spec = importlib.util.spec_from_file_location("regenerate", shared_dir / "golden" / "regenerate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quick_interpreter(monkeypatch):
    """Triton's interpreter combines a scan number by number in Python: here slice by slice, by the same function.

    Its time also goes by the program: more channels in each, and so few groups of channels that each has several blocks.
    """
    from triton.runtime.interpreter import ScanOps

    def scan_by_slices(self, inputs):
        arrays = [np.moveaxis(each.handle.data.copy(), self.axis, 0) for each in inputs]
        for t in range(1, len(arrays[0])):
            pair = [
                self.to_tensor(array[row], each.dtype) for row in (t - 1, t) for array, each in zip(arrays, inputs, strict=True)
            ]
            for array, combined in zip(arrays, self.combine_fn.fn(*pair), strict=True):
                array[t] = combined.handle.data
        moved = [np.moveaxis(array, 0, self.axis) for array in arrays]
        return [self.to_tensor(array, each.dtype) for array, each in zip(moved, inputs, strict=True)]

    monkeypatch.setattr(ScanOps, "generic_scan", scan_by_slices)
    monkeypatch.setattr(triton_scan, "CHANNELS", 32)
    monkeypatch.setattr(triton_scan, "GROUPS", 2)


@pytest.fixture
def unused_tcp_port() -> int:
    """A port on the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class SampleFeatures:
    """Stands in for a DNAStore: three regions whose features are the sample's own number."""

    def features(self, sample_ids):
        return np.stack([np.full((3, 2, 4), float(sample), dtype=np.float32) for sample in sample_ids])


@pytest.fixture
def sample_features() -> SampleFeatures:
    return SampleFeatures()


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> pd.DataFrame:
    """Seven stored runs of six people (the first has two): (D, H, W) = (5, 4, 6), 20 frames."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    rows = []
    for person in range(6):
        for run in range(1 + (person == 0)):
            image = nib.Nifti1Image(rng.normal(100, 5, (4, 5, 6, 20)).astype(np.float32), np.diag([3.0, 3, 3, 1]))
            image.header.set_zooms((3, 3, 3, 2.0))
            image.header.set_xyzt_units("mm", "sec")
            path = folder / f"sub-{person}_run-{run}_bold.nii.gz"
            nib.save(image, path)
            rows.append(
                {"subject_id": str(person), "run_id": f"sub-{person}_run-{run}", "bold_path": str(path), "mask_path": None}
            )
    return build(pd.DataFrame(rows), folder / "store", progress=False)

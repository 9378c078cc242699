"""The front door of the networks: what it exports, and that it opens only the rooms that are asked for."""

import subprocess
import sys

import pytest
import torch

import encoders
from encoders import load_dna_encoder


def test_load_dna_encoder_gives_the_same_random_network_for_the_same_seed():
    first, again, other = (load_dna_encoder("caduceus", device="cpu", seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert "random weights (seed 1)" in other.description
    torch.testing.assert_close(first.embed(["ACGTTGCA"]), again.embed(["ACGTTGCA"]))
    assert not first.embed(["ACGTTGCA"]).allclose(other.embed(["ACGTTGCA"]))


def test_load_dna_encoder_lists_the_known_encoders_when_the_name_is_unknown():
    with pytest.raises(
        ValueError,
        match=r"must be one of caduceus, generator, evo2; got 'hyena'\.\n  fix: choose one of these \(dna\.encoder in the rec",
    ):
        load_dna_encoder("hyena")


def test_every_exported_name_can_be_imported():
    for name in encoders.__all__:
        assert getattr(encoders, name) is not None


def test_unknown_attribute_lists_the_exported_names():
    with pytest.raises(AttributeError, match="no attribute 'Brain'; it has BrainMT, BrainMTConfig, load_dna_encoder"):
        encoders.Brain  # noqa: B018


def test_import_of_encoders_loads_no_network():
    code = "import sys, encoders; sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'encoders.brainmt')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

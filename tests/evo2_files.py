"""The tiny Evo 2 fixtures as files: a published-style checkpoint, its settings and what the published code made of it."""

import io
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

TINY = ("base", "interp")
FP32 = [("base", 7), ("base", 77), ("base", 128), ("interp", 7), ("interp", 77)]


def read_tiny(shared_dir: Path, kind: str) -> dict:
    """Everything that the published-style file holds."""
    with torch.serialization.safe_globals([io.BytesIO]):
        return torch.load(shared_dir / "golden" / "evo2" / f"evo2_tiny_{kind}.pt", weights_only=True)


def read_outputs(shared_dir: Path, kind: str, length: int) -> dict[str, torch.Tensor]:
    return load_file(shared_dir / "golden" / "evo2" / f"evo2_tiny_{kind}_fp32_L{length}.safetensors")


def write_tiny(shared_dir: Path, folder: Path, kind: str, parts: int = 1) -> Path:
    """A folder with config.json and tiny.pt, or the file cut into parts."""
    source = shared_dir / "golden" / "evo2"
    folder.mkdir(parents=True)
    shutil.copy(source / f"evo2_tiny_{kind}_config.json", folder / "config.json")
    content = (source / f"evo2_tiny_{kind}.pt").read_bytes()
    if parts == 1:
        (folder / "tiny.pt").write_bytes(content)
    else:
        size = len(content) // parts + 1  # cuts fall into tensors
        for i in range(parts):
            (folder / f"tiny.pt.part{i}").write_bytes(content[i * size : (i + 1) * size])
    return folder


def random_dna(length: int, seed: int = 0) -> str:
    draw = torch.Generator().manual_seed(seed)
    return "".join("ACGT"[i] for i in torch.randint(4, (length,), generator=draw))


def deviation(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference over the largest entry."""
    return ((found - expected).abs().max() / expected.abs().max()).item()

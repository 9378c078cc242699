"""Rebuilding: an alignment checkpoint's weights and what lies beside them flow in; the model, ready to embed, flows out."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from brainmt_align.model.alignment import AlignmentModel, DNATower, FMRITower, region_statistics_of
from brainmt_align.model.brain import rebuild_brainmt

NEEDED = ("encoder", "window", "fmri_pooling", "region_pooling", "width", "dna")
SHOWN = 6  # faults of the weights, in full


def rebuild_alignment(recorded: dict[str, Any], state: dict[str, Tensor]) -> AlignmentModel:
    """The trained model that a checkpoint holds, in eval mode, on the CPU; it embeds as it did in its run, bit for bit.

    Args:
        recorded: the description beside the weights: encoder (fields of BrainMTConfig), window (frames), fmri_pooling,
            region_pooling, width (E) and dna (by the name of the DNA encoder).
        state: the weights, by name; copied, not shared.

    Raises:
        ValueError: a description that lacks an entry, or weights missing, unknown or of another shape.
    """
    if absent := [key for key in NEEDED if key not in recorded]:
        raise ValueError(
            f"A description with {', '.join(NEEDED)} was expected beside the weights, got one without {', '.join(absent)}.\n"
            "  where: the checkpoint\n  fix: name best.safetensors of a run of recipes/contrastive.py."
        )
    width = recorded["width"]
    fmri = FMRITower(rebuild_brainmt(recorded["encoder"], recorded["window"]), recorded["fmri_pooling"], 0.0, width)
    dna = {name: DNATower(region_statistics_of(state, name), recorded["region_pooling"], 0.0, width) for name in recorded["dna"]}
    model = AlignmentModel(fmri, dna)
    _require_fit(model.state_dict(), state)
    model.load_state_dict(state)
    return model.eval()


def model_fingerprint(state: dict[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of a model's weights, whatever their order, device or file.

    Args:
        state: weights by name.

    Returns:
        64 hexadecimal digits, the same on every machine.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _require_fit(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    faults = [f"{name}: missing" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"{name}: not part of this model" for name in sorted(found.keys() - wanted.keys())]
    faults += [
        f"{name}: expected {tuple(wanted[name].shape)}, got {tuple(found[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name].shape != found[name].shape
    ]
    if faults:
        more = f"\n    … and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        listed = "\n".join(f"    {fault}" for fault in faults[:SHOWN])
        raise ValueError(
            f"Weights of the model that the description speaks of were expected, got {len(faults)} differences:\n{listed}{more}\n"
            "  where: the checkpoint\n  fix: name best.safetensors of a run of recipes/contrastive.py, as the run left it."
        )

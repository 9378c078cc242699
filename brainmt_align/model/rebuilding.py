"""Rebuilding: a checkpoint's weights and what lies beside them flow in; the model, ready to embed or predict, flows out."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from brainmt_align.listing import list_faults
from brainmt_align.model.alignment import AlignmentModel, DNATower, FMRITower, region_statistics_of
from brainmt_align.model.brain import rebuild_brainmt
from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.phenotype import PhenotypeModel, build_fmri_tower
from encoders.published import state_faults

NEEDED = ("encoder", "window", "fmri_pooling", "region_pooling", "width", "dna")
FMRI_NEEDED, DNA_NEEDED = ("encoder", "window", "readout", "fmri_pooling"), ("region_pooling", "dna")


def rebuild_alignment(recorded: dict[str, Any], state: dict[str, Tensor]) -> AlignmentModel:
    """The trained model that a checkpoint holds, in eval mode, on the CPU; it embeds as it did in its run, bit for bit.

    Args:
        recorded: the description beside the weights: encoder (fields of BrainMTConfig), window (frames), fmri_pooling,
            region_pooling, width (E) and dna (by the name of the DNA encoder).
        state: the weights, by name; copied, not shared.

    Raises:
        ValueError: a description that lacks an entry, or weights missing, unknown or of another shape.
    """
    _require_entries(recorded, NEEDED)
    width = recorded["width"]
    fmri = FMRITower(rebuild_brainmt(recorded["encoder"], recorded["window"]), recorded["fmri_pooling"], 0.0, width)
    model = AlignmentModel(fmri, _rebuild_dna(recorded, state))
    _require_fit(model.state_dict(), state)
    model.load_state_dict(state)
    return model.eval()


def rebuild_phenotype(recorded: dict[str, Any], state: dict[str, Tensor], targets: Sequence[TargetSpec]) -> PhenotypeModel:
    """The trained phenotype model that a checkpoint holds, in eval mode, on the CPU.

    Args:
        recorded: the description beside the weights: inputs ("fmri", "dna" or "both"), width, adapt, lora_rank, and of the towers
            that read them encoder, window, readout and fmri_pooling, and dna and region_pooling.
        state: the weights, by name; copied, not shared.
        targets: those of the description, in its order.

    Raises:
        ValueError: a description that lacks an entry, or weights missing, unknown or of another shape.
    """
    needed = ["inputs", "width", "adapt", "lora_rank"]
    needed += FMRI_NEEDED if recorded.get("inputs") != "dna" else []
    _require_entries(recorded, [*needed, *(DNA_NEEDED if recorded.get("inputs") != "fmri" else [])])
    fmri, dna = None, {}
    if recorded["inputs"] != "dna":
        encoder = rebuild_brainmt(recorded["encoder"], recorded["window"])
        fmri = build_fmri_tower(encoder, recorded["readout"], recorded["fmri_pooling"], 0.0, recorded["width"])
    if recorded["inputs"] != "fmri":
        dna = _rebuild_dna(recorded, state)
    model = PhenotypeModel(list(targets), fmri, dna)
    model.adapt(recorded["adapt"], recorded["lora_rank"])
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


def _rebuild_dna(recorded: dict[str, Any], state: dict[str, Tensor]) -> dict[str, DNATower]:
    pooling, width = recorded["region_pooling"], recorded["width"]
    return {name: DNATower(region_statistics_of(state, name), pooling, 0.0, width) for name in recorded["dna"]}


def _require_entries(recorded: dict[str, Any], needed: Sequence[str]) -> None:
    if absent := [key for key in needed if key not in recorded]:
        raise ValueError(
            f"A description with {', '.join(needed)} was expected beside the weights, got one without {', '.join(absent)}.\n"
            "  where: the checkpoint\n  fix: name best.safetensors of a run, as the run left it."
        )


def _require_fit(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    if faults := state_faults(found, wanted):
        raise ValueError(
            f"Weights of the model that the description speaks of were expected, got {len(faults)} differences:\n"
            f"{list_faults(faults)}  where: the checkpoint\n  fix: name best.safetensors of a run, as the run left it."
        )

"""The networks: BrainMT for fMRI and frozen DNA encoders. Tensors or DNA strings flow in, features flow out.

Everything is imported on first use, so that a run without DNA (or without fMRI) loads only what it needs.
"""

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from encoders.brainmt import BrainMT, BrainMTConfig
    from encoders.dna import DNAEncoder

__all__ = ["BrainMT", "BrainMTConfig", "load_dna_encoder"]

DNA_ENCODERS = {
    "caduceus": ("encoders.caduceus", "CaduceusEncoder"),
    "generator": ("encoders.generator", "GeneratorEncoder"),
    "evo2": ("encoders.evo2", "Evo2Encoder"),
}

OWN_WORDS = ("name", "checkpoint", "layer", "device", "dtype", "seed")
"""What `load_dna_encoder` is called with for every encoder; other words are options of one."""


def load_dna_encoder(
    name: str,
    checkpoint: str | None = None,
    layer: int | str | None = None,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    seed: int = 0,
    **options: object,
) -> "DNAEncoder":
    """A frozen DNA encoder, ready to embed.

    Example:
        >>> from encoders import load_dna_encoder
        >>> encoder = load_dna_encoder("caduceus", device="cpu")     # random weights: no checkpoint
        >>> encoder.embed(["ACGTACGTAA", "ACGTACCTAA"]).shape
        torch.Size([2, 32])
        >>> encoder.hidden_states("ACGTACGTAA").shape
        torch.Size([10, 32])

    Args:
        name: a key of DNA_ENCODERS.
        checkpoint: a local folder in the published layout, a local weights file with its config.json beside it, or a hub id
            (asked for only when no such path exists); None: random weights of a small configuration, told by `seed`.
        layer: which layer's output is the feature; None is the encoder's default. Caduceus: entry k of the published
            output_hidden_states list, by default the last hidden state (after the final norm). GENERator: entry k of
            transformers' hidden_states, by default the last. Evo 2: a published module name.
        device: None is the GPU where there is one.
        dtype: precision of the weights and the arithmetic, "float32" (None) or "bfloat16"; vectors come out as float32.
        seed: of the random weights; unused with a checkpoint. The global random state is left as it was.
        options: what one encoder alone has, such as GENERator's frames and truncation; see the `load` of its class.

    Raises:
        ValueError: an unknown name, option, layer, device or dtype; a checkpoint that does not fit its configuration.
        FileNotFoundError: no such checkpoint.
    """
    if name not in DNA_ENCODERS:
        raise ValueError(
            f"A DNA encoder must be one of {', '.join(DNA_ENCODERS)}; got {name!r}.\n"
            "  fix: choose one of these (dna.encoder in the recipes)."
        )
    module, class_name = DNA_ENCODERS[name]
    encoder_class = getattr(import_module(module), class_name)
    known = set(inspect.signature(encoder_class.load).parameters) - set(OWN_WORDS)
    if unknown := sorted(options.keys() - known):
        raise ValueError(
            f"Options of {name} are {', '.join(sorted(known)) or 'none'}; got {', '.join(unknown)}.\n"
            "  fix: leave these out (dna.options in the recipes)."
        )
    if checkpoint is not None and not str(checkpoint).strip():
        raise ValueError(
            "checkpoint must be a path or a hub id, or None for random weights; got an empty one.\n"
            "  fix: name it, or leave it out (dna.checkpoint in the recipes)."
        )
    return encoder_class.load(checkpoint, layer=layer, device=device, dtype=dtype, seed=seed, **options)


def __getattr__(name: str) -> object:
    if name in ("BrainMT", "BrainMTConfig"):
        return getattr(import_module("encoders.brainmt"), name)
    raise AttributeError(f"module 'encoders' has no attribute {name!r}; it has {', '.join(__all__)}.")

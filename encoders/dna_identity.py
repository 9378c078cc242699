"""What a DNA encoder is known by: configuration, weights and precision flow in, a fingerprint, a device and a dtype flow out."""

import hashlib
import json

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def fingerprint(config: dict, layer: int | str | None, model: nn.Module) -> str:
    """SHA-256 (hex) over everything that decides an encoder's vectors.

    Args:
        config: the encoder's name, settings and the revision of its code (weights do not tell what is computed); must be JSON.
        layer: which layer's output is read; None is the encoder's default.
        model: its weights and buffers are hashed in the precision they compute in, so another dtype is another fingerprint.
    """
    digest = hashlib.sha256(json.dumps({"config": config, "layer": layer}, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def resolve_device_and_dtype(
    device: str | torch.device | None, dtype: str | torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """None → the GPU where there is one, and float32.

    Raises:
        ValueError: a precision other than float32 or bfloat16; a device that is not there.
    """
    known = {**DTYPES, **{kind: kind for kind in DTYPES.values()}, None: torch.float32}
    if dtype not in known:
        raise ValueError(f"dtype of a DNA encoder must be one of {', '.join(DTYPES)}; got {dtype!r}.\n  fix: dtype=float32.")
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        reachable = place.type != "cuda" or (place.index or 0) < torch.cuda.device_count()
    except RuntimeError:
        reachable = False
    if not reachable:
        raise ValueError(
            f"device of a DNA encoder must be one that PyTorch has here: cpu or one of {torch.cuda.device_count()} cuda devices;"
            f" got {device!r}.\n  fix: device=cpu."
        )
    return place, known[dtype]

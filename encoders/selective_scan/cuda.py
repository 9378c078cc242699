"""The selective scan through mamba-ssm's CUDA kernels, where they are installed: (B, D, L) tensors in and out.

Those kernels run from the first position on, keep positions innermost, and want B, C and delta in u's precision and A, D and
delta_bias in float32: what differs is converted, and a reverse scan is a scan of flipped copies.
"""

from functools import cache
from importlib import import_module, util

import torch
from torch import Tensor

from encoders.selective_scan import reference
from encoders.selective_scan.inputs import ScanInputs

MAX_STATES = 256  # of mamba-ssm's kernels


@cache
def missing_package() -> str | None:
    """What would have to be installed; None where mamba-ssm can be imported."""
    if util.find_spec("mamba_ssm") is None:
        return "the package mamba-ssm (pip install 'brainmt-align[cuda]' where nvcc is)"
    try:
        _published()
    except (ImportError, OSError) as error:  # built for another torch or CUDA
        return f"a mamba-ssm that can be imported ({type(error).__name__}: {error})"
    return None


def refusal(inputs: ScanInputs) -> str | None:
    """What it needs instead of these inputs; None where it can take them."""
    u, states = inputs.u, inputs.A.shape[1]
    if u.device.type != "cuda":
        return f"tensors on a CUDA device; these are on {u.device}"
    if u.dtype == torch.float64 or states > MAX_STATES:
        return f"single or half precision and at most {MAX_STATES} states; these have {u.dtype} and {states}"
    return None


def scan(inputs: ScanInputs, z: Tensor | None, delta_softplus: bool, reverse: bool) -> Tensor:
    """See `encoders.selective_scan.selective_scan`."""
    u, delta, A, B, C, D, delta_bias = inputs
    if u.numel() == 0:
        return reference.scan(inputs, z, delta_softplus, reverse)  # nothing to launch, but in the graph
    sequences = [None if t is None else t.to(u.dtype) for t in (u, delta, B, C, z)]
    if reverse:
        sequences = [None if t is None else t.flip(-1) for t in sequences]
    u, delta, B, C, z = (None if t is None else t.contiguous() for t in sequences)
    vectors = [None if t is None else t.float() for t in (D, delta_bias)]
    out = _published()(u, delta, A.float(), B, C, vectors[0], z, vectors[1], delta_softplus)
    return out.flip(-1) if reverse else out


def _published():
    return import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn

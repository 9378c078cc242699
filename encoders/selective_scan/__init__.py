"""The selective scan of Mamba: one function over interchangeable backends; (B, D, L) tensors in, (B, D, L) tensor out.

    reference   plain PyTorch, one step after another, on any device: the text to read and the oracle of the tests
    cpu         compiled with numba: linear time and memory, forward and backward, on the processor
    triton      chunked kernels for GPUs, both directions from one launch; on the processor in Triton's interpreter, for tests
    cuda        mamba-ssm's kernels, where they are installed

The state h (B, D, N) starts at zero and runs along L (from the end when `reverse`):

    dt_l = delta_l + delta_bias, then softplus if asked
    h_l  = exp(dt_l A) h_{l-1} + dt_l u_l B_l
    out_l = (<C_l, h_l> + D u_l) silu(z_l)
"""

import importlib
import logging
from functools import cache
from types import ModuleType

from torch import Tensor

from encoders.selective_scan.inputs import ScanInputs, check_inputs

__all__ = ["BACKENDS", "ScanInputs", "bidirectional_scan", "selective_scan"]

logger = logging.getLogger(__name__)

BACKENDS = ("reference", "cpu", "triton", "cuda")
PREFERENCE = {"cpu": ("cpu",), "cuda": ("cuda", "triton", "reference")}  # by kind of device; elsewhere the reference


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Runs the input-dependent linear recurrence of Mamba along the last axis; differentiable in every tensor.

    The state is kept in float32 (float64 when any input is, but for "cuda"), whatever the precision of the inputs.

    Args:
        u: input, (B, D, L); L may be 0. All tensors are real floating point, of any precision, on u's device.
        delta: step sizes before bias and softplus, (B, D, L).
        A: state matrix, negative in Mamba, (D, N).
        B: input vectors, (B, N, L).
        C: output vectors, (B, N, L).
        D: weight of the skip connection, (D,).
        z: gate, (B, D, L); the output is multiplied by silu(z).
        delta_bias: added to delta, (D,).
        delta_softplus: whether softplus makes the step sizes positive.
        reverse: runs from the last position to the first: flip(scan(flip(inputs))).
        backend: one of BACKENDS; None takes the best that the tensors' device allows: "cpu" in main memory; on a GPU "cuda" where
            mamba-ssm is installed, else "triton", else "reference". The choice is logged once.

    Returns:
        (B, D, L) in u's dtype.

    Raises:
        ValueError: unknown backend; shapes, types or devices that do not fit; a backend that cannot reach the tensors' device
            or take their precision.
        ImportError: a backend was named whose package is not installed.
        NotImplementedError: a second derivative, which the reference alone has.

    Reference:
        Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023, equations 2a-2b and algorithm 2.
    """
    inputs = ScanInputs(u, delta, A, B, C, D, delta_bias)
    check_inputs(inputs, z)
    return _backend(backend, inputs).scan(inputs, z, bool(delta_softplus), bool(reverse))


def bidirectional_scan(
    forward: ScanInputs,
    backward: ScanInputs,
    z: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    backend: str | None = None,
) -> Tensor:
    """scan(forward) from the first position to the last plus scan(backward) from the last to the first, both gated by z.

    One launch where the backend can, never a flipped copy where it can run in reverse; "cuda" can do neither.

    Args:
        forward: what the first direction reads, each direction having its own u, delta, A, B, C, D and delta_bias.
        backward: what the second reads, in the same order of positions.
        z: the gate of both, (B, D, L).
        delta_softplus: as in `selective_scan`, for both.
        reverse: changes the ends: flip(bidirectional_scan(flipped inputs)).
        backend: as in `selective_scan`.

    Returns:
        (B, D, L) in u's dtype.

    Raises:
        ValueError, ImportError: as in `selective_scan`; or the two directions differ in shape.

    Reference:
        Li et al., VideoMamba: State Space Model for Efficient Video Understanding, 2024, section 3.2.
    """
    check_inputs(forward, z)
    check_inputs(backward, z)
    if forward.u.shape != backward.u.shape or forward.A.shape != backward.A.shape:
        raise ValueError(
            "Bidirectional selective scan: both directions must agree in u (B, D, L) and A (D, N); got u "
            f"{tuple(forward.u.shape)} and {tuple(backward.u.shape)}, A {tuple(forward.A.shape)} and {tuple(backward.A.shape)}.\n"
            "  fix: give both the same sizes."
        )
    if forward.u.device != backward.u.device:
        raise ValueError(
            f"Bidirectional selective scan: both directions must be on one device; got {forward.u.device} and "
            f"{backward.u.device}.\n  fix: move them to one."
        )
    wider = max((forward, backward), key=lambda way: way.u.element_size())
    module, softplus = _backend(backend, wider), bool(delta_softplus)
    if hasattr(module, "scan_both_ways"):
        return module.scan_both_ways(forward, backward, z, softplus, bool(reverse))
    return module.scan(forward, z, softplus, bool(reverse)) + module.scan(backward, z, softplus, not reverse)


def _backend(name: str | None, inputs: ScanInputs) -> ModuleType:
    """The module behind a name, or the best one that can take the inputs."""
    if name is None:
        return _choose(inputs)
    if name not in BACKENDS:
        raise ValueError(
            f"Selective-scan backend: one of {', '.join(sorted(BACKENDS))} was expected, {name!r} was given.\n"
            "  fix: pass backend=None for the best one here."
        )
    module = _module(name)
    if reason := module.refusal(inputs):
        raise ValueError(
            f"Selective-scan backend {name!r} needs {reason}.\n  fix: pass backend=None for the best one that takes them."
        )
    if reason := module.missing_package():
        raise ImportError(f"Selective-scan backend {name!r} needs {reason}.\n  fix: install it, or pass backend=None.")
    return module


def _module(name: str) -> ModuleType:
    """Imported when first needed: the packages behind some backends are not everywhere."""
    return importlib.import_module(f"{__name__}.{name}")


def _choose(inputs: ScanInputs) -> ModuleType:
    """The first of a kind of device's backends that is installed and takes the inputs; the reference takes everything."""
    kind = inputs.u.device.type
    candidates = ((name, _module(name)) for name in PREFERENCE.get(kind, ("reference",)))
    name, module = next(each for each in candidates if not each[1].missing_package() and not each[1].refusal(inputs))
    _log_choice(kind, name)
    return module


@cache
def _log_choice(device_type: str, name: str) -> None:
    """Cached, so that each choice is logged once."""
    logger.info("selective scan on %s runs with the %r backend", device_type, name)

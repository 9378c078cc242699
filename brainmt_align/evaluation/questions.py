"""Questions to the index: ids, vectors and numbers as a caller gives them flow in; what can be looked up flows out."""

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import torch


def list_ids(subject_ids) -> list[str]:
    """One id or several as a list.

    Raises:
        ValueError: neither text nor a sequence.
    """
    if isinstance(subject_ids, str):
        return [subject_ids]
    if not isinstance(subject_ids, Iterable):
        raise ValueError(
            f"Index: expected a subject's id as text or a list of them, got {subject_ids!r} of type "
            f'{type(subject_ids).__name__}.\n  fix: ask for ids as index.people spells them, such as "{subject_ids}".'
        )
    return [str(each) for each in subject_ids]


def require_whole(name: str, number) -> None:
    """Check that a number of people or cells is a whole one of at least 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise ValueError(f"Index: expected {name} of 1 or more, got {number!r}.\n  fix: give a whole number such as 10.")


def to_float(z):
    """A tensor of any float type and device, with or without gradients, as an array; NumPy does not know bfloat16."""
    return (
        z.detach().to("cpu", torch.float32 if z.dtype == torch.bfloat16 else z.dtype).numpy()
        if isinstance(z, torch.Tensor)
        else z
    )


def unit_vectors(z_QE, width: int) -> np.ndarray:
    """(Q, E) float64 vectors over their norms.

    Args:
        z_QE: (Q, E) or (E,) array, tensor or lists of finite numbers.
        width: E.

    Raises:
        ValueError: no numbers, vectors of another width or of several, not finite or without a direction.
    """
    fault = f"expected finite vectors other than 0 of {width} numbers"
    fix = "fix: embed with the model of the index."
    try:
        z_QE = np.atleast_2d(np.asarray(to_float(z_QE), np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"Index: {fault}, got {type(z_QE).__name__} that is no array of numbers: {error}.\n  {fix}") from error
    norm_Q = np.linalg.norm(z_QE, axis=-1)
    if z_QE.ndim != 2 or z_QE.shape[1] != width or not z_QE.size or not (np.isfinite(norm_Q) & (norm_Q > 0)).all():
        raise ValueError(
            f"Index: {fault}, got shape {z_QE.shape} with norms {norm_Q.min(initial=np.inf):.4g} … {norm_Q.max(initial=0):.4g}.\n"
            f"  {fix}"
        )
    return z_QE / norm_Q[:, None]

"""Pooling of a DNA encoder: states of a text's tokens flow in; means over windows, frames and strands, the vectors, flow out."""

import torch
from torch import Tensor

from encoders.dna_sequences import Piece, Selection, Wish

POOLED_TOKENS = 4_096
"""Of which a copy in float64 exists at once."""

Readings = list[list[list[Piece]]]
"""The pieces of each frame of each strand."""


def refuse_unreadable(readings: dict[tuple[str, Wish], Readings], sequences: list[str], wishes: list[Wish]) -> None:
    """Refuse sequences of which some strand has no token to pool.

    Raises:
        ValueError: there are any (their numbers listed).
    """
    faults = [i for i, key in enumerate(zip(sequences, wishes, strict=True)) if not all(any(frames) for frames in readings[key])]
    if faults:
        raise ValueError(
            "Every sequence needs a token to pool on each strand that is read, one without N and, where positions are given, near"
            f" one; {len(faults)} of {len(sequences)} have none: {', '.join(map(str, faults[:10]))}"
            f"{' …' if len(faults) > 10 else ''}.\n  fix: a larger radius, frames=6 where positions lie in bases that fill no"
            " whole token, or drop these sequences."
        )


def combine(strands: Readings, vector_of: dict[tuple[str, Selection], Tensor]) -> Tensor:
    """Windows weighted by their tokens, then the mean of the frames that have any, then the mean of the strands, (width,)."""
    directions = []
    for frames in strands:
        means = []
        for pieces in filter(None, frames):
            total = sum(piece.tokens for piece in pieces)
            means.append(sum(vector_of[piece.text, piece.selection] * (piece.tokens / total) for piece in pieces))
        directions.append(sum(means) / len(means))
    return sum(directions) / len(directions)


def pool(tokens_LD: Tensor, selection: Selection) -> Tensor:
    """(L, D) → (D,): the mean over all tokens, or over those selected, on the CPU.

    Summed in float64: one base among thousands moves the mean by little more than float32's rounding of a long sum.
    """
    chosen = tokens_LD if selection is None else tokens_LD[list(selection)]
    total = sum(part.sum(dim=0, dtype=torch.float64) for part in chosen.split(POOLED_TOKENS))
    return (total / len(chosen)).cpu()

"""New people: a cohort's people, their families and a checkpoint flow in; who may be scored by it flows out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.seen_people import seen_people


class NewPeople(NamedTuple):
    """Whom a checkpoint has not heard of, neither by themselves nor by a relative."""

    new_N: np.ndarray  # (N,) bool
    seen: int | None  # how many are not new; None where no split.json lies beside the checkpoint to tell
    note: str | None  # what is to be said of them

    def qualify(self, words: str) -> str:
        """A verdict on these people, with what it depends on where nothing tells whom the checkpoint has seen."""
        unsure = "whether the checkpoint was trained on these people cannot be told; if it was not: "
        return words if self.seen is not None else unsure + words


def tell_new_people(checkpoint: str | Path, subject_ids: Sequence[str], families: Sequence[str]) -> NewPeople:
    """Tell who of some people is new to a checkpoint, from the split.json beside it.

    Args:
        checkpoint: weights of a run.
        subject_ids: one id a person.
        families: label of each person's family; whoever shares one with a seen person counts as seen.

    Raises:
        ValueError: the file beside the checkpoint is no split.
    """
    seen = seen_people(checkpoint, dict(zip(subject_ids, families, strict=True)))
    note = None
    if seen is None:
        note = f"No split.json lies beside {checkpoint}: whether it was trained on these people cannot be told."
    elif seen:
        note = (
            f"{len(seen)} of {len(subject_ids)} people were trained or chosen on, or are their relatives: "
            "they take no part in any score"
        )
    return NewPeople(~np.isin(list(subject_ids), seen or []), None if seen is None else len(seen), note)


def require_enough(checkpoint: str | Path, new_N: np.ndarray) -> None:
    """Refuse to rank fewer than two people.

    Raises:
        ValueError: fewer than two are new.
    """
    if np.sum(new_N) < 2:
        raise ValueError(
            f"At least 2 people whom the checkpoint has not seen were expected, got {int(np.sum(new_N))}.\n"
            f"  file: {checkpoint}\n  fix: name a cohort with other people under data.root."
        )

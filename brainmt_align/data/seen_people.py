"""Seen people: a checkpoint with the split beside it and people of today flow in; whom it was trained or chosen on flows out."""

from collections.abc import Hashable, Mapping
from pathlib import Path

from brainmt_align.data.splits import PARTS, Split, read_split
from brainmt_align.listing import some


def check_unseen(checkpoint: str | Path, split: Split, family_of: Mapping[str, Hashable] | None = None) -> str | None:
    """Refuse to score people whom an earlier run has trained on or chosen its weights by, or relatives of theirs.

    Args:
        checkpoint: weights of the earlier run; its split.json lies beside them.
        split: today's.
        family_of: label of each person's family; None: nobody is related.

    Returns:
        A note where no split.json is there to tell.

    Raises:
        ValueError: test people of today were training or validation people then; or the file is no split.
    """
    family_of = family_of or {person: person for part in PARTS for person in getattr(split, part)}
    seen = seen_people(checkpoint, family_of)
    if seen is None:
        return f"No split.json lies beside {checkpoint}: whether it was trained on today's test people cannot be told."
    seen = sorted(set(split.test) & set(seen))
    if seen:
        path = Path(checkpoint).parent / "split.json"
        raise ValueError(
            f"Split: test people must be new to the checkpoint, got {len(seen)} of {len(split.test)} whom it was trained or "
            f"chosen on, or whose relatives were: {some(seen)}.\n  file: {path}\n"
            f"  fix: keep to that split with split.file={path}."
        )
    return None


def seen_people(checkpoint: str | Path, family_of: Mapping[str, Hashable]) -> list[str] | None:
    """Those of some people whom a checkpoint was trained or chosen on, and their relatives; None where no split.json tells.

    Args:
        checkpoint: weights of a run; its split.json lies beside them.
        family_of: label of the family of each of the people.

    Raises:
        ValueError: the file is no split.
    """
    earlier = _split_beside(checkpoint)
    if earlier is None:
        return None
    families = {family_of[person] for person in {*earlier.train, *earlier.validation} & family_of.keys()}
    return sorted(person for person, family in family_of.items() if family in families)


def training_people(checkpoint: str | Path) -> list[str] | None:
    """Whom a checkpoint was trained on, not chosen by; None where no split.json lies beside it.

    Raises:
        ValueError: the file is no split.
    """
    earlier = _split_beside(checkpoint)
    return None if earlier is None else earlier.train


def _split_beside(checkpoint: str | Path) -> Split | None:
    path = Path(checkpoint).parent / "split.json"
    return read_split(path).split if path.is_file() else None

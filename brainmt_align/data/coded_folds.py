"""Coded folds: frozen splits and described targets flow in; folds with their targets coded by the training people flow out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from brainmt_align.data.splits import PARTS, FrozenSplit, fingerprint
from brainmt_align.data.targets import FittedTargets, TargetCoding, check_parts, fit_targets


class CodedFold(NamedTuple):
    """One dealing of the people into parts, and the targets as its training people code them."""

    seed: int
    number: int
    frozen: FrozenSplit
    targets: FittedTargets

    @property
    def name(self) -> str:
        return f"seed{self.seed}_fold{self.number}"

    def rows(self, people: pd.DataFrame, part: str) -> pd.DataFrame:
        """The people of one of PARTS, in the order of the table."""
        return people[people["subject_id"].isin(getattr(self.frozen.split, part))]


def code_folds(
    people: pd.DataFrame, frozen: Sequence[FrozenSplit], seed: int, described: Sequence[TargetCoding], **coding: Any
) -> list[CodedFold]:
    """Fit the targets on each fold's training people alone.

    Args:
        people: everybody, with subject_id and the targets' columns.
        frozen: the splits of one dealing.
        seed: of the dealing; with the fold's number it names the fold.
        described: of `describe_targets`.
        coding: further words of `fit_targets`.

    Raises:
        ValueError: what `check_parts` and `fit_targets` complain of.
    """
    coded = []
    for number, each in enumerate(frozen):
        parts = {part: people[people["subject_id"].isin(getattr(each.split, part))] for part in PARTS}
        check_parts(parts, described, f"seed {seed}, fold {number}")
        coded.append(CodedFold(seed, number, each, fit_targets(parts["train"], described, **coding)))
    return coded


def fingerprints(folds: Sequence[CodedFold]) -> dict[str, str]:
    """SHA-256 of who is in which part, by the fold's name."""
    return {fold.name: fingerprint(fold.frozen.split) for fold in folds}


def require_same_folds(path: Path, today: Mapping[str, str]) -> None:
    """Refuse to go on with other folds than a run began with.

    Args:
        path: JSON file that holds the `fingerprints` of then.
        today: `fingerprints` of now.

    Raises:
        ValueError: folds that are new, gone or of other people, by name.
    """
    began = json.loads(path.read_text(encoding="utf-8"))
    differ = sorted(name for name in {**began, **today} if began.get(name) != today.get(name))
    if differ:
        raise ValueError(
            f"An interrupted run can only go on with the people and folds that it began with, got others in {', '.join(differ)}."
            f"\n  file: {path}\n  fix: bring back the tables as they were, or set out= to another place."
        )

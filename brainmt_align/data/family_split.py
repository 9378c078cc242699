"""Splits by families: people and who is related flow in; one frozen split that no family is torn by flows out."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainmt_align.data.folds import check_folds
from brainmt_align.data.splits import FrozenSplit, Split, choose_split

TOGETHER = "kept_together"  # column of the families, for `choose_split`


class TornFamilies(NamedTuple):
    """Test people whose relatives a model has seen."""

    torn: int  # test people with relatives among those that are trained or chosen on
    tested: int

    @property
    def note(self) -> str | None:
        """A sentence on them; None where there are none."""
        return f"{self._who()}: split.torn_families=true lets the result be theirs." if self.torn else None

    def qualify(self, words: str) -> str:
        """A verdict on the test people, with what it may rest on where relatives of some were seen."""
        return f"{self._who()}: the result may be theirs; {words}" if self.torn else words

    def _who(self) -> str:
        return f"{self.torn} of {self.tested} test people have relatives in training or validation"


def count_torn(split: Split, family_of: Mapping[str, Hashable]) -> TornFamilies:
    """Count the test people whose relatives are in another part.

    Args:
        split: of `choose_family_split`.
        family_of: label of the family of each person of the cohort, see `families_of`; others are not counted.
    """
    seen = {family_of[person] for person in (*split.train, *split.validation) if person in family_of}
    tested = [person for person in split.test if person in family_of]
    return TornFamilies(sum(family_of[person] in seen for person in tested), len(tested))


def choose_family_split(
    people: pd.DataFrame,
    family_of: Mapping[str, Hashable] | None,
    parts: Sequence[float],
    seed: int,
    strata: Sequence[str] = (),
    path: str | Path | None = None,
    torn_families: bool = False,
) -> FrozenSplit:
    """The split in a file, or a new one, with families whole in both; nothing is written.

    Args:
        people: one row a person, with subject_id.
        family_of: label of each person's family, see `families_of`; None: nobody is known to be related.
        parts: train : validation : test, in any unit.
        seed: of the dealing; a file has its own.
        strata: columns of `people` that every part gets its share of.
        path: a file of `save_split`; None: a new split.
        torn_families: whether a file may have relatives in different parts; a new split never has.

    Raises:
        ValueError: a file that has relatives in two parts, and what `choose_split` complains of.
    """
    if family_of is None:
        return choose_split(people, parts, seed, None, strata, path)
    if path is None:
        return choose_split(people.assign(**{TOGETHER: people["subject_id"].map(family_of)}), parts, seed, TOGETHER, strata)
    frozen = choose_split(people, parts, seed, None, strata, path)
    if not torn_families:
        check_folds([frozen.split], family_of)
    return frozen

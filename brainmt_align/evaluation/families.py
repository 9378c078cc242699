"""Families: a label for each person flows in; labels that stand for everybody, and as integers, flow out.

N people or rows.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from brainmt_align.data.tables import is_blank


def require_families(where: str, groups_N: Sequence[Hashable], people: int) -> None:
    """Refuse families that are not one for each of the people.

    Args:
        where: who asks, the beginning of the error.
        groups_N: (N,) family of each person.
        people: N as it must be.

    Raises:
        ValueError: labels of another number, or blank ones.
    """
    blank = [row for row, group in enumerate(groups_N) if is_blank(group)]
    if blank or len(groups_N) != people:
        first = f", first in row {blank[0]}" if blank else ""
        raise ValueError(
            f"{where}: a family for each of {people} people was expected, got {len(groups_N)} labels, {len(blank)} of them blank"
            f"{first}.\n  fix: bring labels and people into the same rows; give people without known relatives a family of their "
            "own."
        )


def number_families(groups_N: Sequence[Hashable]) -> np.ndarray:
    """(N,) int64 number of each person's family, from 0 in the order of their first rows, so that no figure hangs on a label."""
    return pd.factorize(pd.Series(list(groups_N), dtype=object), use_na_sentinel=False)[0]

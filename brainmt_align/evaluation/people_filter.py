"""Filter of people: their table and conditions on its columns flow in, who meets them all flows out."""

import numpy as np
import pandas as pd

from brainmt_align.listing import some_with_nearest


def select_people(people: pd.DataFrame, where: dict | None) -> np.ndarray:
    """Whom conditions on the columns let through.

    Args:
        people: one row a person.
        where: column → a value, a list of values any of which will do, or a tuple (low, high), both included, e.g.
            {"sex": "F", "age": (40, 60), "site": ["a", "b"]}; all must hold, and a missing value never does.

    Returns:
        (people,) bool.

    Raises:
        ValueError: unknown columns, a range that is none or of a column that is not numbers, or nobody left.
    """
    columns = [str(column) for column in people.columns]
    unknown = [name for name in where or {} if name not in columns]
    if unknown:
        raise ValueError(
            f"Index: expected filters on columns of the people, got {some_with_nearest(unknown, columns)}.\n"
            f"  fix: filter by {', '.join(columns)}."
        )
    allowed_N, kept = np.ones(len(people), bool), []
    for name, wanted in (where or {}).items():
        holds_N = _holds(people[name], name, wanted)
        allowed_N &= holds_N
        kept.append(f"{name}={wanted!r} keeps {holds_N.sum()}")
    if not allowed_N.any():
        raise ValueError(
            f"Index: expected a filter that leaves somebody of {len(people)} people, got nobody: {'; '.join(kept)}.\n"
            "  fix: widen the filter; its parts must hold together."
        )
    return allowed_N


def _holds(column: pd.Series, name: str, wanted) -> np.ndarray:
    if isinstance(wanted, list | set | frozenset):
        return (column.isin(list(wanted)) & column.notna()).to_numpy(bool)
    if not isinstance(wanted, tuple):
        return (column.eq(wanted).fillna(False) & column.notna()).to_numpy(bool)
    if len(wanted) != 2 or not pd.api.types.is_numeric_dtype(column) or not wanted[0] <= wanted[1]:
        raise ValueError(
            f"Index: expected a range (low, high) of a column of numbers, got {name}={wanted!r} for a column of {column.dtype}.\n"
            "  fix: give any of several values as a list."
        )
    return column.between(*wanted).fillna(False).to_numpy(bool)

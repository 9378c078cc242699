"""Filter of people: their table and conditions on its columns flow in, who meets them all flows out."""

from datetime import date, datetime
from numbers import Real

import numpy as np
import pandas as pd

from brainmt_align.listing import some_with_nearest


def select_people(people: pd.DataFrame, where: dict | None) -> np.ndarray:
    """Whom conditions on the columns let through.

    Args:
        people: one row a person.
        where: column → a value, a list or array of values any of which will do, or a tuple (low, high), both included, e.g.
            {"sex": "F", "age": (40, 60), "site": ["a", "b"], "scanned": ("2024-01-01", "2024-06-30")}; all must hold, and a
            missing value never does. A column of dates compares with datetimes or ISO text: a day (a date, or text without an
            hour) takes in all of it, and what tells no time zone counts as UTC.

    Returns:
        (people,) bool.

    Raises:
        ValueError: unknown columns, conditions that are no values, a range that is none or of a column of neither numbers nor
            dates, dates that cannot be read, or nobody left.
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
    """Whom one condition lets through."""
    dates = _dates(column)
    if isinstance(wanted, tuple):
        return _between(column, dates, name, wanted)
    several = pd.api.types.is_list_like(wanted)
    values = list(wanted) if several and not isinstance(wanted, dict | pd.DataFrame) else [wanted]
    if not all(pd.api.types.is_scalar(value) for value in values):
        raise ValueError(
            f"Index: expected a value, a list of values or a range (low, high) for {name}, got "
            f"{type(wanted).__name__} {wanted!r}.\n  fix: give single values as a flat list."
        )
    if dates is None:
        holds = column.isin(values) if several else column.eq(wanted)
    else:
        moments = [_moments(name, value, value) for value in values]
        holds = np.logical_or.reduce([dates.between(*each) for each in moments] or [np.zeros(len(dates), bool)])
    return (pd.Series(holds).fillna(False).to_numpy(bool)) & column.notna().to_numpy(bool)


def _between(column: pd.Series, dates: pd.Series | None, name: str, wanted: tuple) -> np.ndarray:
    number = pd.api.types.is_numeric_dtype(column) and all(isinstance(each, Real) for each in wanted)
    ends = wanted
    if len(wanted) == 2 and dates is not None:
        ends = _moments(name, *wanted)
    if len(ends) != 2 or (dates is None and not number) or not ends[0] <= ends[1]:
        raise ValueError(
            f"Index: expected a range (low, high) of a column of numbers or dates, got {name}={wanted!r} for a column of "
            f"{column.dtype}.\n  fix: give any of several values as a list."
        )
    return (column if dates is None else dates).between(*ends).fillna(False).to_numpy(bool)


def _dates(column: pd.Series) -> pd.Series | None:
    """The column as moments in UTC where it holds dates, else None; what tells no zone counts as UTC."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.infer_dtype(column) in ("date", "datetime"):
        return pd.to_datetime(column, utc=True)
    return None


def _moments(name: str, low, high) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First moment of low and last of high, in UTC; a day is all of its day."""
    try:
        if not all(isinstance(each, str | date | np.datetime64) for each in (low, high)):
            raise TypeError("neither dates nor text")
        if any(isinstance(each, str) and len(each) < len("2026-11-25") for each in (low, high)):
            raise TypeError("text without a day")
        first, last = (
            pd.to_datetime(each, utc=True, format="ISO8601" if isinstance(each, str) else None) for each in (low, high)
        )
    except (TypeError, ValueError) as error:
        asked = repr(low) if low is high else repr((low, high))
        raise ValueError(
            f"Index: expected dates or ISO text such as 2026-11-25 for {name}, a column of dates, got {asked}: {error}.\n"
            "  fix: give each as year-month-day."
        ) from error
    whole_day = len(high) == 10 if isinstance(high, str) else not isinstance(high, datetime) and isinstance(high, date)
    return first, last + pd.Timedelta(days=1) - pd.Timedelta(1, "ns") if whole_day else last

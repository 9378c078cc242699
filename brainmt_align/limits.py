"""Limits of configured values: a key, its value and what it may be flow in; an error that says all of it flows out."""

from pathlib import Path
from typing import Any


def complain(expected: str, got: Any, fix: str) -> None:
    """Raise the one form that all faults of a configuration have.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{expected}; got {got!r}.\n  where: the configuration\n  fix: set {fix}.")


def require_file(key: str, path: str | Path | None) -> None:
    """Refuse a path that leads to no file; None is no path.

    Raises:
        FileNotFoundError: nothing there, or a folder.
    """
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(f"{key} must name a file, got no file.\n  file: {path}\n  fix: correct {key} or set {key}=null.")


def require_choice(key: str, value: Any, known: tuple) -> None:
    """Refuse a value that is none of `known`; the fix names the first of them."""
    if value not in known:
        choices = ["null" if each is None else str(each) for each in known]
        complain(f"{key} must be one of {', '.join(choices)}", value, f"{key}={choices[0]}")


def require_range(key: str, value: float, low: float, high: float | None, advice: Any = None) -> None:
    """Refuse a value outside low … high, both included, and NaN.

    Args:
        key: of the value, or of the list that it stands in.
        value: to be checked.
        low: least.
        high: most; None: no upper limit.
        advice: what the fix says the key may be set to; None: the limit that was passed.
    """
    if not value >= low or (high is not None and not value <= high):
        limits = f"at least {_shown(low)}" if high is None else f"between {_shown(low)} and {_shown(high)}"
        passed = high if high is not None and value > high else low
        complain(f"{key} must be {limits}", value, f"{key}={_shown(passed if advice is None else advice)}")


def require_orientation(value: str) -> None:
    """Refuse what is not three letters, one end of each axis, in any order."""
    if sorted(value.translate(str.maketrans("LPI", "RAS"))) != ["A", "R", "S"]:
        complain(
            "data.orientation must name one end of each axis, one of L R, one of A P and one of I S",
            value,
            "data.orientation=RAS",
        )


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)

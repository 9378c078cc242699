"""Listing: more names or faults than a message holds flow in; the few that it shows, and what was meant by them, flow out."""

import difflib
from collections.abc import Sequence

SHOWN_FAULTS = 10


def some(items: Sequence[str], limit: int = 5) -> str:
    """The first few of a list for a message: `a, b, c, … (40 in all)`."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown}, … ({len(items)} in all)"


def list_faults(faults: Sequence[str], limit: int = SHOWN_FAULTS) -> str:
    """One fault a line, the first few of many; every line ends in a line break."""
    more = [f"… and {len(faults) - limit} more"] if len(faults) > limit else []
    return "".join(f"  - {fault}\n" for fault in [*faults[:limit], *more])


def nearest_names(name: str, known: Sequence[str], cutoff: float = 0.6) -> list[str]:
    """Up to three of the known names that look most like a name, in any case, the nearest first.

    Args:
        name: that is not known.
        known: as they are spelled; of several that differ in case alone the first counts.
        cutoff: how like a name must be, 0 (any) … 1 (the same).
    """
    spelled = {each.lower(): each for each in reversed(known)}
    return [spelled[each] for each in difflib.get_close_matches(name.lower(), list(spelled), n=3, cutoff=cutoff)]


def with_nearest(name: str, known: Sequence[str]) -> str:
    """An unknown name with those known ones that look like it, where any does: `Agee (nearest: age)`."""
    nearest = nearest_names(name, known)
    return f"{name} (nearest: {', '.join(nearest)})" if nearest else name


def some_with_nearest(names: Sequence[str], known: Sequence[str], limit: int = 10) -> str:
    """The first few of many unknown names, each as `with_nearest` has it; only those shown are compared."""
    return some([*(with_nearest(name, known) for name in names[:limit]), *names[limit:]], limit)

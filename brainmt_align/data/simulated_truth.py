"""Simulated truth: truth.json of a simulated cohort flows in; what it says, and a refusal of who is not in it, flow out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainmt_align.listing import some


def read_truth(truth: Path | str) -> dict[str, Any]:
    """All that was planted.

    Raises:
        FileNotFoundError: no such truth.json.
    """
    truth = Path(truth)
    if not truth.is_file():
        raise FileNotFoundError(
            f"truth.json of a simulated cohort was expected, got no file.\n  file: {truth}\n"
            "  fix: correct data.truth or set it to null."
        )
    return json.loads(truth.read_text())


def require_simulated(truth: Path | str, known: dict[str, Any], names: Sequence[str]) -> None:
    """Refuse sample ids and runs of people who are not of the cohort.

    Args:
        truth: truth.json, for the message.
        known: what it says.
        names: sample ids, and ids of runs.

    Raises:
        ValueError: people of another cohort.
    """
    people = known["people"]
    strangers = [name for name in dict.fromkeys(names) if name not in people]
    if strangers:
        raise ValueError(
            f"Truth: expected people of the simulated cohort (such as {', '.join(list(people)[:3])}), got {len(strangers)} that "
            f"are not: {some(strangers, 10)}.\n  file: {truth}\n"
            "  fix: give sample ids without `sub-`, of this cohort, and runs named as write_cohort named them."
        )

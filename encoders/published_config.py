"""Published settings: a config.json flows in, its entries flow out, checked by whoever knows what they must be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_settings(path: Path, faults_of: Callable[[dict[str, Any]], list[str]], expected: str, fix: str) -> dict[str, Any]:
    """The object that a config.json holds.

    Args:
        path: of the file.
        faults_of: what is wrong with the entries, a line each.
        expected: of the file, the beginning of an error's sentence.
        fix: the end of the error.

    Raises:
        ValueError: not JSON, or any fault (all listed).
    """
    raw = None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        faults = faults_of(raw) if isinstance(raw, dict) else [f"it is no JSON object ({raw!r:.80})"]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        faults = [f"it is no JSON object ({error})"]
    if faults:
        listed = "\n  ".join(faults)
        raise ValueError(f"{expected}; got:\n  {listed}\n  file: {path}\n  fix: {fix}.")
    return raw

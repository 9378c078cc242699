"""Atomic writing: a path and a function that writes flow in, a whole file, or the untouched old one, flows out."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then put it in place in one step; whatever goes wrong, the old file stays.

    Args:
        path: the file to make or replace; its folder exists.
        write: called with the path to write to, `<name>.partial-<process id>` beside `path`; what it raises is passed on.

    Returns:
        `path`.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        write(partial)
        return partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

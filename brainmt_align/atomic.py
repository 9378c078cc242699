"""Atomic writing: a path and a function that writes flow in, a whole file, or the untouched old one, flows out."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then put it in place in one step; whatever goes wrong, the old file stays.

    The file may be read by whom the umask lets read new files, also where `write` makes it private as safetensors does.

    Args:
        path: the file to make or replace; its folder exists.
        write: called with the path to write to, `<name>.partial-<process id>` beside `path`; what it raises is passed on.

    Returns:
        `path`.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    partial.unlink(missing_ok=True)  # of a dead process with this number
    try:
        partial.touch()
        mode = partial.stat().st_mode & 0o777  # 0o666 less the umask, told without changing the umask of other threads
        write(partial)
        if partial.stat().st_mode & 0o777 != mode:
            partial.chmod(mode)
        return partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

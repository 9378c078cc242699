"""Writing: a path and a function that writes flow in, a whole file, or the untouched old one, flows out."""

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then put it in place in one step; whatever goes wrong, the old file stays.

    The file may be read by whom the umask lets read new files, also where `write` makes it private as safetensors does.

    Args:
        path: the file to make or replace; its folder exists.
        write: called with the path to write to, `<name>.partial-<number>` beside `path`, the number drawn anew, since processes
            of two machines on one disk may have the same id; what it raises is passed on.

    Returns:
        `path`.
    """
    partial = path.with_name(f"{path.name}.partial-{secrets.randbelow(10**12)}")
    partial.touch(exist_ok=False)
    try:
        mode = partial.stat().st_mode & 0o777  # 0o666 less the umask, told without changing the umask of other threads
        write(partial)
        if partial.stat().st_mode & 0o777 != mode:
            partial.chmod(mode)
        return partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(folder: Path, key: str) -> None:
    """Refuse a folder that files cannot be written to, before any work; leaves nothing behind and makes no folder.

    Args:
        folder: need not exist yet; then the nearest folder above it that does is tried.
        key: the configuration key that names it, for the message.

    Raises:
        PermissionError: nothing can be written there, for whatever reason: rights, a full or read-only disk, a file in the way.
    """
    place = folder.absolute()
    there = next(each for each in (place, *place.parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".writable-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        raise PermissionError(
            f"A place to write to was expected, got one that refuses: {error.strerror or error}.\n"
            f"  file: {folder}\n  fix: set {key}= to another place, or have the rights to {there} changed."
        ) from error

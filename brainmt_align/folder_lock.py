"""Locks: a folder flows in; a folder that this process alone works in flows out, until it lets go or dies.

The lock is a file `.lock` in the folder. Where the file system knows no locks, everybody may work.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

LOCK = ".lock"

_locks: dict[Path, IO[bytes]] = {}  # of this process; the system lets go of them when it dies


def hold_folder(path: Path, what: str, key: str) -> None:
    """Lock a folder for this process; one that it holds already, say of work stopped by hand, stays held.

    Args:
        path: the folder; it exists.
        what: the folder as it was expected, for the message.
        key: the configuration key that names it, for the message.

    Raises:
        RuntimeError: another process works there.
    """
    place = path.resolve()
    if place in _locks:
        if (path / LOCK).exists() and os.path.samestat(os.fstat(_locks[place].fileno()), (path / LOCK).stat()):
            return
        _locks.pop(place).close()  # of a folder that is no longer here
    file = (path / LOCK).open("ab")
    try:
        if not _flock(file, fcntl.LOCK_EX):
            _refuse(path, what, key)
        if not (path / LOCK).exists() or not os.path.samestat(os.fstat(file.fileno()), (path / LOCK).stat()):
            _refuse(path, what, key)  # somebody moved or finished that work while this process looked
    except BaseException:
        file.close()
        raise
    _locks[place] = file


def check_folder(path: Path, what: str, key: str) -> None:
    """Refuse a folder in which another process works; arguments and error as of `hold_folder`. Locks nothing.

    Raises:
        RuntimeError: another process works there.
    """
    if (path / LOCK).exists() and path.resolve() not in _locks:
        with (path / LOCK).open("rb") as file:
            if not _flock(file, fcntl.LOCK_SH):  # shared: all processes of one launch look at the same time
                _refuse(path, what, key)


def is_held(path: Path) -> bool:
    """Whether this process holds the folder."""
    return path.resolve() in _locks


def move_held_folder(path: Path, to: Path, what: str, key: str) -> None:
    """Rename a folder that this process holds and hold a new, empty one in its place before the old one's lock goes.

    Raises:
        RuntimeError: another process was quicker to work in the new one.
    """
    path.rename(to)
    path.mkdir(exist_ok=True)
    earlier = _locks.pop(path.resolve(), None)
    hold_folder(path, what, key)
    _let_go(earlier, to)


def release_folder(path: Path) -> None:
    """Let other processes work in a folder again; nothing happens where this process does not hold it."""
    _let_go(_locks.pop(path.resolve(), None), path)


def _let_go(file: IO[bytes] | None, folder: Path) -> None:
    if file is not None:
        (folder / LOCK).unlink(missing_ok=True)
        file.close()


def _forget_locks() -> None:
    """A forked child, such as a loader's worker, must not keep a lock alive after its parent."""
    for file in _locks.values():
        file.close()
    _locks.clear()


os.register_at_fork(after_in_child=_forget_locks)


def _flock(file: IO[bytes], kind: int) -> bool:
    """Whether nobody else's lock is in the way."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _refuse(path: Path, what: str, key: str) -> None:
    raise RuntimeError(
        f"{what} was expected, got one in which another process works.\n  file: {path}\n"
        f"  fix: wait for that process or stop it, or set {key}= to another place."
    )

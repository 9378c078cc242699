"""Memory: what a piece of work needs flows in; a refusal flows out where the machine has less to give."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def available_bytes() -> int | None:
    """Memory that this machine can give without swapping; all that it has where it does not say; None where nothing tells.

    A limit set on the process alone (by a container or a queue) is not seen.
    """
    if MEMINFO.is_file():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def require_memory(needed: int, what: str, fix: str) -> None:
    """Refuse work that would not fit.

    Args:
        needed: bytes, as estimated.
        what: the work, with its size.
        fix: what to do instead.

    Raises:
        ValueError: less is available.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise ValueError(
            f"{what}: about {needed / 2**30:.1f} GiB of memory expected, got {available / 2**30:.1f} GiB available.\n"
            f"  where: this machine\n  fix: {fix}."
        )

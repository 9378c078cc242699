"""Main memory of a training process: nothing flows in; glibc then keeps what PyTorch frees instead of handing it back."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # numbers of glibc's <malloc.h>
NEVER_TRIM = 2**31 - 1  # bytes, the largest that mallopt takes


def keep_freed_memory() -> bool:
    """Make glibc reuse freed blocks of any size, as PyTorch's allocator on a GPU does; for the rest of this process.

    By itself glibc maps every block above 32 MiB afresh and unmaps it when it is freed. A training step on a processor frees and
    takes the same large blocks again and again, and the system must zero their pages each time: at 400 frames a fifth of the
    Mamba stage's time (benchmarks/brainmt.py frames). The price is that a process's memory stays at its peak.

    Returns:
        Whether it is in force; False where the C library is not glibc.

    Reference:
        mallopt(3): M_MMAP_MAX, M_TRIM_THRESHOLD.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER_TRIM}
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) == 1 for option, value in settings.items())

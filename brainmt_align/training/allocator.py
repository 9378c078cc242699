"""Main memory of a training process: nothing flows in; glibc then keeps what PyTorch frees instead of handing it back."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # numbers of glibc's <malloc.h>
TRIM_ABOVE = 2**31 - 1  # bytes free at the heap's end, the largest that mallopt takes


def keep_freed_memory() -> bool:
    """Make glibc reuse freed blocks of any size, as PyTorch's allocator on a GPU does; for the rest of this process.

    By itself glibc maps every block above 32 MiB afresh and unmaps it when it is freed. A training step on a processor frees and
    takes the same large blocks again and again, and the system must zero their pages each time: at 400 frames a seventh of the
    Mamba stage's time (benchmarks/brainmt.py frames).

    The price is memory. It stays at its peak, and before glibc 2.38 a freed block does not serve an aligned request of its own
    size, as PyTorch's are: the heap grows by some blocks until neighbours join. With blocks of 64 MiB that is some 0.3 GiB; with
    blocks above 1 GiB it can be many times what is in use. So it is for models whose largest tensor is small beside the memory.

    Returns:
        Whether it is in force; False where the C library is not glibc.

    Reference:
        mallopt(3): M_MMAP_MAX, M_TRIM_THRESHOLD.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: TRIM_ABOVE}
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) == 1 for option, value in settings.items())

"""Memory kept in a training process."""

import platform
import subprocess
import sys

import pytest

from brainmt_align.training.allocator import keep_freed_memory

COST = """
import resource
from pathlib import Path
import torch
from brainmt_align.training.allocator import keep_freed_memory
{call}
def touch():
    torch.empty(2**24).fill_(1.0)  # 64 MiB
def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])
at_first = resident()
for _ in range(10):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, resident() - at_first)
"""


def cost(call: str) -> tuple[int, int]:
    """Page faults of 40 blocks after 10, and the bytes by which the process has grown."""
    ran = subprocess.run([sys.executable, "-c", COST.format(call=call)], check=True, capture_output=True, text=True)
    faults, grown = map(int, ran.stdout.split())
    return faults, grown


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_keep_freed_memory_takes_large_blocks_again_without_fresh_pages():
    faults, grown = cost("pass")
    assert faults >= 40 * 2**26 / 2**21  # at least one a huge page
    assert grown < 3 * 2**26
    faults, grown = cost("assert keep_freed_memory()")
    assert faults < 40 * 2**26 / 4096 / 10
    assert grown < 20 * 2**26  # it grows by some blocks (5 to 11 were seen) of the 50, and no further


def test_keep_freed_memory_does_nothing_where_the_c_library_is_another(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False

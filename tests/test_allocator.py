"""Memory kept in a training process."""

import platform
import subprocess
import sys

import pytest

from brainmt_align.training.allocator import keep_freed_memory

PAGE_FAULTS = """
import resource
import torch
from brainmt_align.training.allocator import keep_freed_memory
{call}
def touch():
    torch.empty(2**24).fill_(1.0)  # 64 MiB
for _ in range(10):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(call: str) -> int:
    ran = subprocess.run([sys.executable, "-c", PAGE_FAULTS.format(call=call)], check=True, capture_output=True, text=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_keep_freed_memory_takes_large_blocks_again_without_fresh_pages():
    blocks, page = 5 * 2**26, 4096
    assert page_faults("pass") >= blocks / page / 600  # at least one fault a huge page
    assert page_faults("assert keep_freed_memory()") < 100


def test_keep_freed_memory_does_nothing_where_the_c_library_is_another(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False

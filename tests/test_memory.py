"""Room under test: brainmt_align/memory.py. In: bytes needed. Out: a refusal where the machine has less."""

import os

import pytest

from brainmt_align import memory


def test_available_bytes_are_what_the_machine_says_it_can_give(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:   40 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.available_bytes() == 40 * 1024


def test_available_bytes_are_all_pages_or_unknown_when_the_machine_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory.available_bytes() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.delattr(os, "sysconf")
    assert memory.available_bytes() is None
    memory.require_memory(2**80, "sums", "count less")


def test_require_memory_refuses_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    memory.require_memory(2**30, "sums", "count less")
    with pytest.raises(ValueError, match=r"(?s)sums: about 3\.0 GiB of memory expected, got 1\.0 GiB.*fix: count less\."):
        memory.require_memory(3 * 2**30, "sums", "count less")

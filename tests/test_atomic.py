"""Atomic writing: a whole file or the old one, and nothing left beside it."""

import os
import re
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import save_file

from brainmt_align.atomic import require_writable, write_atomically


def test_write_atomically_puts_the_whole_file_in_place(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    assert write_atomically(tmp_path / "a.txt", lambda path: path.write_text("new")) == tmp_path / "a.txt"
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "new")]


def test_write_atomically_leaves_the_old_file_when_writing_fails(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "a.txt", fail)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_write_atomically_lets_the_umask_decide_who_reads_a_safetensors_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        written = write_atomically(tmp_path / "a.safetensors", partial(save_file, {"a": np.zeros(1)}))
    finally:
        os.umask(before)
    assert written.stat().st_mode & 0o777 == mode


def test_write_atomically_keeps_off_the_file_of_another_machine_whose_process_has_the_same_id(tmp_path):
    names = []

    def write(path):
        names.append(path.name)
        if len(names) == 1:
            write_atomically(tmp_path / "a.txt", write)  # as from elsewhere, at the same time
        path.write_text(str(len(names)))

    write_atomically(tmp_path / "a.txt", write)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert len(set(names)) == 2 and all(re.fullmatch(r"a\.txt\.partial-\d+", name) for name in names)


def test_require_writable_leaves_no_trace_and_refuses_a_place_under_a_file(tmp_path):
    require_writable(tmp_path / "new" / "folder", "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PermissionError, match=r"refuses: Not a directory\.\n  file: .*file/folder\n  fix: set out= to another"):
        require_writable(tmp_path / "file" / "folder", "out")

"""Atomic writing: a whole file or the old one, and nothing left beside it."""

import pytest

from brainmt_align.atomic import write_atomically


def test_write_atomically_puts_the_whole_file_in_place(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    assert write_atomically(tmp_path / "a.txt", lambda path: path.write_text("new")) == tmp_path / "a.txt"
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "new")]


def test_write_atomically_leaves_the_old_file_when_writing_fails(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "a.txt", fail)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]

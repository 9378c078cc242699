"""Tests of the room `folder_lock`: one process works in a folder, until it lets go or dies."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from brainmt_align import folder_lock
from brainmt_align.folder_lock import check_folder, hold_folder, is_held, move_held_folder, release_folder

WORDS = "A folder of one's own", "place"
MESSAGE = (
    r"A folder of one's own was expected, got one in which another process works\.\n  file: .*\n"
    r"  fix: wait for that process or stop it, or set place= to another place\."
)
HOLD = """
import sys, time
from pathlib import Path
from brainmt_align.folder_lock import hold_folder
hold_folder(Path(sys.argv[1]), "A folder", "place")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that holds tmp_path."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_hold_folder_refuses_a_folder_that_another_process_holds_until_that_is_killed(tmp_path, other_process):
    for refuse in (hold_folder, check_folder):
        with pytest.raises(RuntimeError, match=MESSAGE):
            refuse(tmp_path, *WORDS)
    assert not is_held(tmp_path)
    other_process.kill()
    other_process.wait()
    check_folder(tmp_path, *WORDS)
    hold_folder(tmp_path, *WORDS)
    assert is_held(tmp_path)
    release_folder(tmp_path)


def test_hold_folder_holds_once_and_release_leaves_nothing_behind(tmp_path):
    hold_folder(tmp_path, *WORDS)
    hold_folder(tmp_path, *WORDS)
    check_folder(tmp_path, *WORDS)
    assert is_held(tmp_path) and [path.name for path in tmp_path.iterdir()] == [".lock"]
    release_folder(tmp_path)
    release_folder(tmp_path)
    assert not is_held(tmp_path) and not list(tmp_path.iterdir())


def test_hold_folder_holds_anew_where_the_folder_is_another_one_now(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    hold_folder(place, *WORDS)
    place.rename(tmp_path / "moved")
    place.mkdir()
    hold_folder(place, *WORDS)
    assert (place / ".lock").exists()
    release_folder(place)


def test_hold_folder_refuses_when_it_locked_a_folder_that_was_moved_meanwhile(tmp_path, monkeypatch):
    def moved(file, kind):
        (tmp_path / ".lock").rename(tmp_path / "elsewhere")
        return True

    monkeypatch.setattr(folder_lock, "_flock", moved)
    with pytest.raises(RuntimeError, match=MESSAGE):
        hold_folder(tmp_path, *WORDS)


def test_move_held_folder_holds_the_new_folder_and_lets_go_of_the_old(tmp_path):
    place, archive = tmp_path / "place", tmp_path / "archive"
    place.mkdir()
    (place / "file").touch()
    hold_folder(place, *WORDS)
    move_held_folder(place, archive, *WORDS)
    assert [path.name for path in archive.iterdir()] == ["file"] and [path.name for path in place.iterdir()] == [".lock"]
    assert is_held(place) and not is_held(archive)
    release_folder(place)


def test_hold_folder_does_without_a_lock_where_the_file_system_has_none(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    hold_folder(tmp_path, *WORDS)
    release_folder(tmp_path)


def test_hold_folder_keeps_no_lock_alive_in_a_forked_child(tmp_path):
    hold_folder(tmp_path, *WORDS)
    if not (child := os.fork()):
        os._exit(len(folder_lock._locks))
    assert os.waitpid(child, 0)[1] == 0
    release_folder(tmp_path)

"""Tests of the room `dna_part_file`: parts go to disk and back, and whatever is not whole or not ours is not used."""

import errno
import logging
from pathlib import Path

import numpy as np
import pytest

from brainmt_align.data.dna_part_file import count_in_parts, read_parts, remove_parts, write_part

HEADER = {"name": "A", "fingerprint": "ab", "pooling": "mean", "strands": "both", "overlap": "", "contig": "20"}
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)
HASHES = [bytes([number]) * 32 for number in range(3)]


@pytest.fixture
def region_file(tmp_path):
    file = tmp_path / "A.safetensors"
    write_part(file, HEADER, VECTORS[:2], HASHES[:2])
    write_part(file, HEADER, VECTORS[2:], HASHES[2:])
    return file


def test_read_parts_gives_back_what_was_written(region_file):
    parts = read_parts(region_file, HEADER)
    assert parts.vector_of.keys() == set(HASHES) and len(parts.files) == 2
    np.testing.assert_array_equal(np.stack([parts.vector_of[digest] for digest in HASHES]), VECTORS)
    assert count_in_parts(region_file) == 3
    assert read_parts(region_file.with_name("A.safetensors.x"), HEADER) == ({}, [])


def test_write_part_replaces_a_part_of_the_same_sequences(region_file):
    write_part(region_file, HEADER, VECTORS[2:] + 1, HASHES[2:])
    assert count_in_parts(region_file) == 3
    np.testing.assert_array_equal(read_parts(region_file, HEADER).vector_of[HASHES[2]], VECTORS[2] + 1)


@pytest.mark.parametrize("key", ["name", "fingerprint", "pooling", "strands", "overlap"])
def test_read_parts_leaves_parts_of_another_identity_alone(region_file, caplog, key):
    with caplog.at_level(logging.WARNING):
        assert read_parts(region_file, HEADER | {key: "other"}, set_aside=True) == ({}, [])
    assert f"a part is of another {key} and not used" in caplog.text
    assert len(read_parts(region_file, HEADER | {"contig": "21"}).vector_of) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_read_parts_sets_damaged_parts_aside(region_file, caplog, damage):
    path = write_part(region_file, HEADER, VECTORS[2:], HASHES[2:])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"cut": content[:-5], "flipped": content, "foreign": b"not a part", "empty": b""}[damage])
    assert list(read_parts(region_file, HEADER).vector_of) == HASHES[:2]
    assert path.exists() and not caplog.text
    with caplog.at_level(logging.WARNING):
        assert list(read_parts(region_file, HEADER, set_aside=True).vector_of) == HASHES[:2]
    assert "a part is damaged" in caplog.text
    assert not path.exists() and path.with_name(f"{path.name}.damaged").exists()
    assert count_in_parts(region_file) == 2


def test_read_parts_leaves_a_part_that_cannot_be_opened_where_it_is(region_file, monkeypatch):
    def refuse(self, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*A\.safetensors\.parts/1-"):
        read_parts(region_file, HEADER, set_aside=True)
    monkeypatch.undo()
    assert len(read_parts(region_file, HEADER).files) == 2


def test_remove_parts_removes_their_folder_too_but_nothing_that_is_not_theirs(region_file):
    folder = region_file.with_name("A.safetensors.parts")
    (folder / "1-0123.partial-77").touch()
    (folder / "mine.txt").touch()
    remove_parts(region_file, read_parts(region_file, HEADER).files)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    remove_parts(region_file, [])
    assert not folder.exists()
    remove_parts(region_file, [])

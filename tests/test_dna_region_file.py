"""Tests of the room `dna_region_file`: a region goes to disk and back, and whatever happens to the file is noticed."""

import errno
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from brainmt_align.data import dna_region_file
from brainmt_align.data.dna_region_file import (
    LONGEST_STEM,
    StoredRegion,
    read_region,
    region_path,
    set_aside,
    shown_name,
    write_region,
)

STORED = StoredRegion(
    vectors=np.arange(6, dtype=np.float32).reshape(3, 2),
    hashes=np.arange(96, dtype=np.uint8).reshape(3, 32),
    reference=np.array([2, 3], dtype=np.float32),
    index=np.array([[0, 1], [2, 2]], dtype=np.int32),
    samples=["anna", "bén"],
    header={"name": "HLA-A*01/x", "start": "5"},
)


@pytest.fixture
def path(tmp_path):
    path = region_path(tmp_path, STORED.header["name"])
    write_region(path, STORED)
    return path


def rewrite(path, tensors=None, **metadata):
    """The file with other tensors or metadata, its hash left as it was."""
    with safe_open(path, framework="numpy") as file:
        old = file.metadata()
    save_file(
        load_file(path) | (tensors or {}), path, {key: value for key, value in (old | metadata).items() if value is not None}
    )


def test_read_region_gives_back_what_was_written(path):
    found = read_region(path)
    for one, other in zip(found[:4], STORED[:4], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert found.samples == STORED.samples
    assert found.header.items() >= STORED.header.items()
    write_region(path, found)
    assert read_region(path).header == found.header


def test_read_region_gives_back_a_region_without_people(tmp_path):
    write_region(tmp_path / "A.safetensors", STORED._replace(index=STORED.index[:0], samples=[], header={"name": "A"}))
    assert read_region(tmp_path / "A.safetensors").index.shape == (0, 2)


def test_read_region_notices_every_flipped_bit_of_every_tensor(path):
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for place in range(start, len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match="its contents do not fit their hash"):
            read_region(path)


@pytest.mark.parametrize("change", [{"samples": '["anna", "carl"]'}, {"start": "6"}, {"more": "1"}])
def test_read_region_notices_changed_metadata(path, change):
    rewrite(path, **change)
    with pytest.raises(ValueError, match=r"its contents do not fit their hash.*\n  file: .*\n  fix: build the store again"):
        read_region(path)


@pytest.mark.parametrize("part", ["vectors", "reference"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_read_region_refuses_values_that_are_not_finite(path, part, bad):
    write_region(path, STORED._replace(**{part: np.full_like(getattr(STORED, part), bad)}))
    with pytest.raises(ValueError, match="its embeddings are not finite"):
        read_region(path)


def test_read_region_refuses_the_file_of_another_region(path):
    with pytest.raises(ValueError, match=r"it holds region HLA-A\*01/x"):
        read_region(path.rename(path.with_name("B.safetensors")))


def test_read_region_refuses_other_formats_and_kinds(path):
    rewrite(path, format="brainmt-align dna store 99")
    with pytest.raises(ValueError, match=r"format 'brainmt-align dna store 3' is expected, got .* \(format 'brainmt.* 99'\)"):
        read_region(path)
    rewrite(path, format=None)
    with pytest.raises(ValueError, match=r"damaged or of another kind \('format'\)"):
        read_region(path)
    for content in (b"", b"text", path.read_bytes()[:100], path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or of another kind"):
            read_region(path)


def test_read_region_passes_on_what_keeps_a_file_from_being_opened(path, monkeypatch):
    def refuse(self, *_):
        raise OSError(errno.EMFILE, "Too many open files", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=rf"Too many open files: '{re.escape(str(path))}'"):
        read_region(path)
    monkeypatch.undo()

    def fail(*_, **__):
        raise OSError("Cannot allocate memory (os error 12)")

    monkeypatch.setattr(dna_region_file, "safe_open", fail)
    with pytest.raises(OSError, match="Cannot allocate memory") as caught:
        read_region(path)
    assert caught.value.__notes__ == [f"  file: {path}"]


def test_set_aside_keeps_every_damaged_file(tmp_path):
    for number, name in enumerate(("A.damaged", "A.damaged-2", "A.damaged-3")):
        (tmp_path / "A").write_text(str(number))
        assert set_aside(tmp_path / "A") == tmp_path / name
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["0", "1", "2"]


def test_region_path_cuts_long_names_and_keeps_them_apart(tmp_path):
    names = ["é" * 100, "é" * 101, "é" * 30, "é" * 31, "x" * 180, "x" * 181]
    paths = [region_path(tmp_path, name) for name in names]
    assert len(set(paths)) == len(names)
    assert max(len(path.stem) for path in paths) == LONGEST_STEM
    assert [shown_name(path) == name for path, name in zip(paths, names, strict=True)] == [False, False, True, False, True, False]
    for path in paths:
        path.with_name(f"{path.name}.partial-4194304").touch()

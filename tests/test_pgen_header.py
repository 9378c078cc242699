"""Tests of the room `pgen_header`: files of pgenlib's writer flow in; counts, dosages, flags and refusals are checked."""

import numpy as np
import pgenlib
import pytest

from brainmt_align.data.pgen_header import PgenHeader, read_pgen_header


def write(path, num_variants, nonref_flags=False, dosed=(), phased=False, num_samples=2):
    """Heterozygotes, with dosages at some variants."""
    genotypes = np.ones(num_samples, dtype=np.int8)
    flags = {"dosage_present": True} if len(dosed) else {}
    with pgenlib.PgenWriter(
        str(path).encode(),
        num_samples,
        variant_ct=num_variants,
        nonref_flags=nonref_flags,
        hardcall_phase_present=phased,
        **flags,
    ) as writer:
        for i in range(num_variants):
            if i in dosed:
                writer.append_dosages(np.full(num_samples, 0.9, dtype=np.float32))
            elif phased:
                writer.append_alleles(np.tile(np.array([0, 1], dtype=np.int32), num_samples), all_phased=True)
            else:
                writer.append_biallelic(genotypes)
    return path


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("phased", [False, True])
def test_read_pgen_header_tells_counts_and_one_flag_for_all(tmp_path, flag, phased):
    path = write(tmp_path / "a.pgen", 5, nonref_flags=flag, phased=phased, num_samples=3)
    assert read_pgen_header(path) == PgenHeader(5, 3, has_dosages=False, provisional=flag)


@pytest.mark.parametrize("dosed", [0, 65_535, 65_536, 65_999])
def test_read_pgen_header_finds_the_only_variant_with_dosages(tmp_path, dosed):
    assert read_pgen_header(write(tmp_path / "a.pgen", 66_000, dosed={dosed})).has_dosages


def test_read_pgen_header_finds_no_dosages_in_many_blocks_of_phased_calls(tmp_path):
    assert not read_pgen_header(write(tmp_path / "a.pgen", 66_000, phased=True)).has_dosages


@pytest.mark.parametrize(("phased", "index_bytes"), [(False, 5 + 10), (True, 10 + 10)])
def test_read_pgen_header_takes_the_flag_of_each_variant(tmp_path, phased, index_bytes):
    flags = np.array([1, 0, 0, 1, 1, 0, 1, 0, 0, 1], dtype=bool)
    path = write(tmp_path / "a.pgen", 10, phased=phased)
    whole = path.read_bytes()
    begin = int.from_bytes(whole[12:20], "little")  # of the first record
    assert begin == 20 + index_bytes
    bits = np.packbits(flags, bitorder="little").tobytes()
    head = whole[:11] + bytes([whole[11] | 0xC0]) + (begin + len(bits)).to_bytes(8, "little")
    path.write_bytes(head + whole[20:begin] + bits + whole[begin:])
    found = read_pgen_header(path)
    assert found[:3] == (10, 2, False)
    np.testing.assert_array_equal(found.provisional, flags)


def test_read_pgen_header_takes_the_layout_of_plink_1(tmp_path):
    (tmp_path / "a.pgen").write_bytes(b"\x6c\x1b\x01" + bytes(10))
    assert read_pgen_header(tmp_path / "a.pgen") == PgenHeader(None, None, has_dosages=False, provisional=True)


@pytest.mark.parametrize(
    ("mode", "control", "dosages", "provisional"),
    [(2, 0x40, False, False), (2, 0x80, False, True), (3, 0x40, True, False), (0x11, 0xC0, True, True), (0x10, 0xCC, True, True)],
)
def test_read_pgen_header_takes_other_layouts(tmp_path, mode, control, dosages, provisional):
    head = b"\x6c\x1b" + bytes([mode, 7, 0, 0, 0, 1, 0, 0, 0, control])
    (tmp_path / "a.pgen").write_bytes(head)
    assert read_pgen_header(tmp_path / "a.pgen") == PgenHeader(7, 1, dosages, provisional)


def test_read_pgen_header_refuses_an_index_apart(tmp_path):
    (tmp_path / "a.pgen").write_bytes(b"\x6c\x1b\x20")
    with pytest.raises(ValueError, match=r"got one with an index apart \(\.pgen\.pgi\)\.\n.*a\.pgen\n  fix: plink2"):
        read_pgen_header(tmp_path / "a.pgen")


@pytest.mark.parametrize("content", [b"", b"\x6c", b"\x6c\x1b\x10\x00", b"\x1f\x8b" + bytes(20), b"\x6c\x1b\x77" + bytes(20)])
def test_read_pgen_header_refuses_other_files(tmp_path, content):
    (tmp_path / "a.pgen").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a PGEN \(first bytes 6c 1b .*is expected, got .* in \d+ bytes\.\n.*\n  fix: copy it again"
    ):
        read_pgen_header(tmp_path / "a.pgen")


def test_read_pgen_header_refuses_an_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a PGEN is expected, got no such file\.\n.*\n  fix: correct data\.genotypes"):
        read_pgen_header(tmp_path / "a.pgen")

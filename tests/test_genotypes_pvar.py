"""Tests of the room `genotypes_pvar`: tables of variants as text flow in; what is kept, and every refusal, are checked."""

import numpy as np
import pyarrow as pa
import pytest

from brainmt_align.data import genotypes_pvar
from brainmt_align.data.genotypes_pvar import Text, find_overlapping, read_pvar, take_text

TABLE = """##fileformat=VCFv4.2
##contig=<ID=chr1,length=1000>
##contig=<ID=2,length=500,assembly=b37>
##contig=<ID=chr3>
##reference=/data/hs37d5.fa
##chrSet=<autosomePairCt=22,X,Y,XY,M>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
1\t10\trs1\tA\tC\t.\t.\t.
1\t20\t.\tACGT\tA,t\t.\tPASS\tAC=1;PR
1\t21\trs"3\tG\t<DEL>\t.\t.\tEND=90
1\t50\trs4\tG\t.\t.\t.\t.
chr2\t5\tNA\tC\tT\t.\t.\t.
"""


def write(path, text: str = TABLE):
    with pa.output_stream(str(path), compression="zstd" if path.suffix == ".zst" else None) as file:
        file.write(text.encode())
    return path


@pytest.mark.parametrize("name", ["a.pvar", "a.pvar.zst"])
@pytest.mark.parametrize("block", [120, 2**24])
def test_read_pvar_keeps_variants_and_header(tmp_path, monkeypatch, name, block):
    monkeypatch.setattr(genotypes_pvar, "BLOCK_BYTES", block)
    found = read_pvar(write(tmp_path / name))
    assert found.rows == {"1": (0, 4), "chr2": (4, 5)}
    assert found.lengths == {"1": 1000, "chr2": 500}
    assert found.declared == ["chr3"]
    assert found.build_words == ["assembly=b37", "reference=hs37d5.fa"]
    assert found.positions.tolist() == [9, 19, 20, 49, 4]
    assert found.positions.dtype == found.stops.dtype == np.int32
    assert found.stops.tolist() == [10, 23, 90, 50, 5]
    assert found.allele_offsets.tolist() == [0, 2, 5, 7, 9, 11]
    assert found.allele_offsets.dtype == np.uintp
    assert found.provisional.tolist() == [False, True, False, False, False]
    text = take_text(found, np.array([1, 3, 4], dtype=np.uint32))
    assert text == Text([".", "rs4", "NA"], ["ACGT", "G", "C"], [("A", "T"), (), ("T",)])
    assert take_text(found, np.array([2], dtype=np.uint32)).ids == ['rs"3']


def test_read_pvar_keeps_nothing_of_what_no_variant_has(tmp_path):
    found = read_pvar(write(tmp_path / "a.pvar", "#CHROM\tPOS\tID\tREF\tALT\n1\t3\t.\tA\tC\n"))
    assert found.allele_offsets is None
    assert found.provisional is None
    assert found.lengths == {}


@pytest.mark.parametrize("text", ["1\tr1\t0\t3\tT\tA\n1\tr2\t0\t4\tG\tACC\n", "1\tr1\t3\tT\tA\r\n1\tr2\t4\tG\tACC\r\n"])
def test_read_pvar_takes_the_columns_of_a_bim_when_there_is_no_header(tmp_path, text):
    found = read_pvar(write(tmp_path / "a.pvar", text))
    assert take_text(found, np.arange(2, dtype=np.uint32)) == Text(["r1", "r2"], ["A", "ACC"], [("T",), ("G",)])
    assert found.stops.tolist() == [3, 6]


@pytest.mark.parametrize("seed", range(5))
def test_find_overlapping_equals_looking_at_every_variant(tmp_path, seed):
    rng = np.random.default_rng(seed)
    rows = [("1", int(p), "A" * int(n)) for p, n in zip(np.sort(rng.integers(1, 200, 60)), rng.integers(1, 30, 60), strict=True)]
    rows += [("2", int(p), "A") for p in np.sort(rng.integers(1, 200, 60))]
    lines = "".join(f"{contig}\t{position}\t.\t{ref}\tC\n" for contig, position, ref in rows)
    found = read_pvar(write(tmp_path / "a.pvar", "#CHROM\tPOS\tID\tREF\tALT\n" + lines))
    for start in rng.integers(0, 210, 20).tolist():
        for contig, end in (("1", start + 1), ("1", start + 17), ("2", start + 40), ("3", start + 9)):
            expected = [i for i, (c, p, ref) in enumerate(rows) if c == contig and p - 1 < end and p - 1 + len(ref) > start]
            assert find_overlapping(found, contig, start, end).tolist() == expected


@pytest.mark.parametrize(
    ("alt", "info", "stop"),
    [
        ("C", "END=60", 60),
        ("C", "SVLEN=9", 52),
        ("<INS>", "SVLEN=9", 52),
        ("<DEL>", "SVLEN=-9", 52),
        ("C,<DUP:TANDEM>", "SVLEN=.,7;END=53", 53),
        ("<DEL>", "END=20", 52),
        ("<DEL>", "CIEND=90;END=.", 52),
    ],
)
def test_read_pvar_takes_ends_from_info(tmp_path, alt, info, stop):
    table = f"#CHROM\tPOS\tID\tREF\tALT\tINFO\n1\t50\t.\tACG\t{alt}\t{info}\n"
    assert read_pvar(write(tmp_path / "a.pvar", table)).stops.tolist() == [stop]


def test_read_pvar_holds_little_more_than_the_letters(tmp_path):
    lines = "".join(f"1\t{i + 1}\trs{10**7 + i}\tA\tC\t{'X' * 80}\n" for i in range(20_000))
    path = write(tmp_path / "a.pvar", "#CHROM\tPOS\tID\tREF\tALT\tINFO\n" + lines)
    found = read_pvar(path)
    held = found.positions.nbytes + found.stops.nbytes + found.texts.nbytes
    assert held < 20_000 * (20 + 12) + 1000


@pytest.mark.parametrize("table", ["", "##only\n", "#CHROM\tPOS\tID\tREF\tALT\n", "#CHROM\tPOS\tID\tREF\tALT\n1\t5\n"])
def test_read_pvar_refuses_an_empty_or_ragged_table(tmp_path, table):
    with pytest.raises(ValueError, match=r"(?s)Genotypes: .*is expected|are expected.*a\.pvar\n  fix: "):
        read_pvar(write(tmp_path / "a.pvar", table))


@pytest.mark.parametrize("position", ["", "x", "1.5", "3000000000"])
def test_read_pvar_refuses_a_position_that_is_no_whole_number(tmp_path, position):
    table = f"#CHROM\tPOS\tID\tREF\tALT\n1\t{position}\t.\tA\tC\n"
    with pytest.raises(ValueError, match=r"got one that cannot be read to its end \(.*\)\.\n  file: .*a\.pvar\n  fix: "):
        read_pvar(write(tmp_path / "a.pvar", table))


@pytest.mark.parametrize("table", ["#CHROM\tPOS\tID\tREF\n1\t5\t.\tA\n", "1 r1 0 5 A C\n", "1\tr1\t0\t5\tA\tC\t.\n"])
def test_read_pvar_refuses_absent_columns(tmp_path, table):
    with pytest.raises(
        ValueError, match=r"tab-separated columns #CHROM, .* are expected.* got a table without .*\n.*a\.pvar\n  fix: "
    ):
        read_pvar(write(tmp_path / "a.pvar", table))


@pytest.mark.parametrize("block", [16, 2**24])
@pytest.mark.parametrize(
    ("order", "message"),
    [(["1\t5", "1\t4"], "1:4 behind 1:5"), (["1\t5", "2\t4", "1\t9"], "contig 1 once more behind 2")],
)
def test_read_pvar_refuses_unsorted_variants(tmp_path, monkeypatch, order, message, block):
    monkeypatch.setattr(genotypes_pvar, "BLOCK_BYTES", block)
    table = "#CHROM\tPOS\tID\tREF\tALT\n" + "".join(f"{place}\t.\tA\tC\n" for place in order)
    with pytest.raises(
        ValueError, match=rf"variants sorted by contig and position are expected, got {message}\.\n.*\n.*--sort-vars"
    ):
        read_pvar(write(tmp_path / "a.pvar", table))


def test_read_pvar_refuses_a_truncated_zst(tmp_path):
    lines = "".join(f"1\t{i + 1}\trs{i * 7919 % 10007}\tA\tC\n" for i in range(20_000))
    path = write(tmp_path / "a.pvar.zst", "#CHROM\tPOS\tID\tREF\tALT\n" + lines)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"got one that cannot be read to its end \(.*\)\.\n  file: .*a\.pvar\.zst\n  fix: "):
        read_pvar(path)

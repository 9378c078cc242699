"""Tests of the room `vcf_index`: an index passes with its own whole file, and with no other."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools
import pytest

from brainmt_align.data.vcf_index import check_index, is_older

HEADER = """##fileformat=VCFv4.2
##contig=<ID=1,length=100000>
##contig=<ID=2,length=100000>
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
"""
END = 28  # bytes of the empty block at a file's end


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A VCF of several blocks with a TBI, a CSI and a BCF of the same records."""
    folder = tmp_path_factory.mktemp("index")
    return write(folder / "whole.vcf.gz", seed=0)


def write(path: Path, seed: int, records: int = 300, people: int = 400) -> Path:
    rng = np.random.default_rng(seed)
    lines = ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *map(str, range(people))])]
    for number in range(2 * records):
        calls = [f"{a}|{b}" for a, b in rng.integers(0, 2, (people, 2))]
        place = [str(1 + number // records), str(1 + number % records * 200)]
        lines.append("\t".join([*place, ".", "A", "C", ".", ".", ".", "GT", *calls]))
    plain = path.with_suffix("")
    plain.write_text(HEADER + "\n".join(lines) + "\n")
    pysam.tabix_compress(str(plain), str(path), force=True)
    pysam.tabix_index(str(path), preset="vcf", force=True)
    pysam.tabix_index(str(path), preset="vcf", csi=True, force=True)
    return path


def blocks(path: Path) -> list[int]:
    """Where each block begins."""
    content, starts = path.read_bytes(), [0]
    while starts[-1] < len(content):
        starts.append(starts[-1] + struct.unpack_from("<H", content, starts[-1] + 16)[0] + 1)
    return starts[:-1]


@pytest.mark.parametrize("ending", ["tbi", "csi"])
def test_check_index_passes_a_whole_file_with_and_without_its_last_block(written, tmp_path, ending):
    index = Path(f"{written}.{ending}")
    check_index(written, index)
    bare = tmp_path / "bare.vcf.gz"
    bare.write_bytes(written.read_bytes()[:-END])
    check_index(bare, index)


@pytest.mark.parametrize("how", ["pysam", "bcftools", "on the way"])
def test_check_index_passes_whichever_program_wrote_the_index(written, tmp_path, how):
    path = tmp_path / "a.bcf"
    if how == "on the way":
        pysam.bcftools.view("-Ob", "-o", str(path), "--write-index", str(written), catch_stdout=False)
    else:
        pysam.bcftools.view("-Ob", "-o", str(path), str(written), catch_stdout=False)
        if how == "bcftools":
            pysam.bcftools.index(str(path), catch_stdout=False)
        else:
            pysam.tabix_index(str(path), preset="bcf", csi=True, force=True)
    check_index(path, Path(f"{path}.csi"))


@pytest.mark.parametrize("ending", ["tbi", "csi"])
def test_check_index_refuses_a_file_that_is_cut_between_any_two_blocks(written, tmp_path, ending):
    content, cut = written.read_bytes(), tmp_path / "cut.vcf.gz"
    starts = blocks(written)
    assert len(starts) > 5
    for start in starts[1:-1]:
        for end in (b"", content[-END:]):
            cut.write_bytes(content[:start] + end)
            with pytest.raises(
                ValueError, match=r"index of this very file is expected, got one that names byte [\d,]+ of a file"
            ):
                check_index(cut, Path(f"{written}.{ending}"))


@pytest.mark.parametrize("ending", ["tbi", "csi"])
def test_check_index_refuses_the_index_of_another_file(written, tmp_path, ending):
    other = write(tmp_path / "other.vcf.gz", seed=1)
    with pytest.raises(
        ValueError, match=rf"(?s)where no block holds that|past its end.*file: .*\.{ending}\n  fix: copy the file again"
    ):
        check_index(other, Path(f"{written}.{ending}"))


def test_check_index_refuses_a_file_that_has_grown(written, tmp_path):
    grown = tmp_path / "grown.vcf.gz"
    grown.write_bytes(written.read_bytes()[:-END] + written.read_bytes()[blocks(written)[-2] :])
    with pytest.raises(ValueError, match=r"got one that ends before the file does\.\n  file: "):
        check_index(grown, Path(f"{written}.tbi"))


@pytest.mark.parametrize("damage", [lambda content: content[:-40], lambda content: b"TBI\1", lambda content: b""])
def test_check_index_refuses_an_index_that_is_cut(written, tmp_path, damage):
    index = tmp_path / "a.tbi"
    index.write_bytes(damage(Path(f"{written}.tbi").read_bytes()))
    with pytest.raises(
        ValueError, match=r"an index \(\.csi or \.tbi\) is expected, got a file that cannot be read(?s:.*)fix: write"
    ):
        check_index(written, index)


def test_is_older_compares_the_times_of_change(written, tmp_path):
    index = Path(shutil.copy(f"{written}.tbi", tmp_path))
    assert not is_older(written, index) and is_older(index, written)

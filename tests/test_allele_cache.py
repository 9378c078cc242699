"""Tests of the room `allele_cache`: alleles come back as they went in, and never for another question."""

import os

import numpy as np
import pytest

from brainmt_align.data.allele_cache import AlleleCache
from brainmt_align.data.alleles import NO_OPTIONS
from brainmt_align.data.distinct_alleles import DistinctAlleles
from brainmt_align.data.genotype_tally import Tally
from brainmt_align.data.regions import Region

REGION, BASES, SAMPLES = Region("chr1", 100, 110, "a/b"), "ACGTACGTAC", ["anna", "ben"]


def make_found(rows) -> DistinctAlleles:
    rows = np.array(rows, dtype=np.int8)
    variants = rows.shape[1]
    positions = np.arange(100, 100 + variants)
    index = np.array([[0, 1], [1, 1]], dtype=np.int32)
    counts = {"variants": variants, "missing": 1}
    return DistinctAlleles(positions, positions + 1, ["A"] * variants, [("C", "<DEL>")] * variants, rows, index, SAMPLES, counts)


TALLY = Tally({"heterozygous": 3, "ref_matches": 2}, np.array([0, 1], dtype=np.int32))


@pytest.fixture
def genotypes(tmp_path):
    path = tmp_path / "genotypes.vcf.gz"
    path.write_bytes(b"x" * 100)
    return path


def make_cache(tmp_path, samples=SAMPLES, options=NO_OPTIONS, **policies) -> AlleleCache:
    return AlleleCache(tmp_path / "cache", samples, options, {"unphased": "error", "missing": "error"} | policies)


@pytest.mark.parametrize("rows", [[[0, 1, 0], [1, 1, 0]], [[0], [1]], [[0], [2]], [[0, -1, 2], [1, 0, 0]], [[], []]])
def test_load_returns_what_was_saved(tmp_path, genotypes, rows):
    found, cache = make_found(rows), make_cache(tmp_path)
    assert cache.load(REGION, BASES, [genotypes]) is None
    cache.save(REGION, BASES, [genotypes], found, TALLY)
    back, tally = make_cache(tmp_path).load(REGION._replace(name="renamed"), BASES, [genotypes])
    assert tally.counts == TALLY.counts and tally.missing_S.tolist() == [0, 1]
    for name in ("positions", "stops", "rows", "index"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
        assert getattr(back, name).dtype == getattr(found, name).dtype
    assert (back.refs, back.alts, back.samples, back.counts) == (found.refs, found.alts, found.samples, found.counts)


@pytest.mark.parametrize(
    ("changed", "region", "bases"),
    [
        ({"samples": SAMPLES[::-1]}, REGION, BASES),
        ({"options": NO_OPTIONS._replace(min_probability=0.8)}, REGION, BASES),
        ({"missing": "N"}, REGION, BASES),
        ({}, REGION._replace(start=99), BASES),
        ({}, REGION._replace(contig="2"), BASES),
        ({}, REGION, BASES[::-1]),
    ],
)
def test_load_knows_no_other_question(tmp_path, genotypes, changed, region, bases):
    make_cache(tmp_path).save(REGION, BASES, [genotypes], make_found([[0], [1]]), TALLY)
    assert make_cache(tmp_path).load(REGION, BASES, [genotypes]) is not None
    assert make_cache(tmp_path, **changed).load(region, bases, [genotypes]) is None


def test_load_knows_a_piece_of_another_region_apart(tmp_path, genotypes):
    parts = ((100, 110), (120, 130))
    make_cache(tmp_path).save(REGION, BASES, [genotypes], make_found([[0], [1]]), TALLY, parts)
    assert make_cache(tmp_path).load(REGION, BASES, [genotypes], parts) is not None
    assert make_cache(tmp_path).load(REGION, BASES, [genotypes]) is None
    assert make_cache(tmp_path).load(REGION, BASES, [genotypes], ((100, 110), (120, 131))) is None


def test_load_knows_no_other_genotypes(tmp_path, genotypes):
    make_cache(tmp_path).save(REGION, BASES, [genotypes], make_found([[0], [1]]), TALLY)
    genotypes.write_bytes(b"y" * 101)
    assert make_cache(tmp_path).load(REGION, BASES, [genotypes]) is None


def test_load_knows_no_other_table_beside_the_genotypes(tmp_path, genotypes):
    people = tmp_path / "genotypes.psam"
    people.write_text("#IID\nanna\nben\n")
    files, cache = [genotypes, people], make_cache(tmp_path)
    cache.save(REGION, BASES, files, make_found([[0], [1]]), TALLY)
    assert cache.load(REGION, BASES, files) is not None and cache.load(REGION, BASES, [genotypes]) is None
    people.write_text("#IID\nben\nanna\n")
    os.utime(people, (1, 1))  # as long as before
    assert cache.load(REGION, BASES, files) is None


@pytest.mark.parametrize("damage", [lambda content: content[:-3], lambda content: content[:-1] + bytes([content[-1] ^ 1])])
def test_load_passes_a_damaged_file_over_and_save_replaces_it(tmp_path, genotypes, caplog, damage):
    cache, found = make_cache(tmp_path), make_found([[0, 1], [1, 1]])
    cache.save(REGION, BASES, [genotypes], found, TALLY)
    (path,) = cache.folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load(REGION, BASES, [genotypes]) is None
    assert "a damaged file is read anew" in caplog.text
    cache.save(REGION, BASES, [genotypes], found, TALLY)
    np.testing.assert_array_equal(cache.load(REGION, BASES, [genotypes]).found.index, found.index)


def test_save_warns_once_where_nothing_can_be_written(tmp_path, genotypes, caplog):
    (tmp_path / "file").touch()
    cache = AlleleCache(tmp_path / "file" / "cache", SAMPLES, NO_OPTIONS, {})
    for _ in range(2):
        cache.save(REGION, BASES, [genotypes], make_found([[0], [1]]), TALLY)
    assert [record.message.count("got one that refuses") for record in caplog.records] == [1]
    assert cache.load(REGION, BASES, [genotypes]) is None

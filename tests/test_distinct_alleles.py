"""Tests of the room `distinct_alleles`: random alleles flow in; their distinct vectors are compared with a naive search."""

import numpy as np
import pytest

from brainmt_align.data.alleles import Alleles
from brainmt_align.data.distinct_alleles import pack, tell_apart
from brainmt_align.data.regions import Region

REGION = Region("1", 100, 200, "A")


def make_alleles(numbers_SHV: np.ndarray, first: int = 100) -> Alleles:
    samples, _, variants = numbers_SHV.shape
    positions = np.arange(first, first + variants)
    flags = np.ones((samples, variants), dtype=bool)
    alts = [("C", "G")] * variants
    names = [f"s{i}" for i in range(samples)]
    return Alleles(positions, positions + 1, ["A"] * variants, alts, ["."] * variants, numbers_SHV, flags, ~flags, names)


@pytest.mark.parametrize(("low", "high"), [(0, 2), (0, 3), (-1, 2)])
@pytest.mark.parametrize("variants", [1, 7, 8, 9, 31])
def test_tell_apart_equals_a_naive_search(low, high, variants):
    numbers = np.random.default_rng(variants).integers(low, high, (40, 2, variants)).astype(np.int8)
    found = tell_apart(REGION, make_alleles(numbers), "error", "N")
    naive = list(dict.fromkeys(tuple(row) for row in numbers.reshape(-1, variants).tolist()))
    assert [tuple(row) for row in found.rows.tolist()] == naive
    np.testing.assert_array_equal(found.rows[found.index], numbers)


def test_tell_apart_takes_everyone_for_one_where_nothing_varies():
    found = tell_apart(REGION, make_alleles(np.zeros((3, 2, 0), dtype=np.int8)), "error", "error")
    assert found.rows.shape == (1, 0)
    assert found.index.tolist() == [[0, 0]] * 3


def test_tell_apart_leaves_the_readers_alleles_as_they_are():
    numbers = np.array([[[1, -1, 1], [0, 1, 1]]], dtype=np.int8)
    alleles = make_alleles(numbers.copy(), first=99)._replace(phased=np.zeros((1, 3), dtype=bool))
    found = tell_apart(REGION, alleles, "skip", "reference")
    np.testing.assert_array_equal(alleles.alleles, numbers)
    assert found.rows.tolist() == [[0, 0, 1]]
    assert found.counts == {"variants": 3, "unphased": 1, "missing": 1, "outside_skipped": 1}


def test_tell_apart_counts_alts_of_records_that_begin_before_the_region():
    found = tell_apart(REGION, make_alleles(np.ones((2, 2, 2), dtype=np.int8), first=99), "error", "error")
    assert found.rows.tolist() == [[0, 1]]
    assert found.counts["outside_skipped"] == 4


def test_pack_takes_a_bit_an_allele_where_that_is_enough():
    rows = np.random.default_rng(0).integers(0, 2, (5, 20)).astype(np.int8)
    assert pack(rows).shape == (5, 3)
    assert pack(rows + 1).shape == (5, 20)

"""Tests of the room `phase`: alleles with and without phase sets flow in; calls without phase are told, over pieces too."""

import numpy as np
import pytest

from brainmt_align.data.alleles import Alleles
from brainmt_align.data.phase import find_unphased, in_other_phase_set, largest_phase_sets, without_phase
from brainmt_align.data.regions import Region

REGION = Region("1", 100, 200, "A")


def make_alleles(calls: list[list[tuple]], first: int = 100) -> Alleles:
    """Per person and variant (first allele, second allele, phased, phase set)."""
    values_SV4 = np.array(calls, dtype=np.int32).reshape(len(calls), -1, 4)
    samples, variants, _ = values_SV4.shape
    positions = np.arange(first, first + variants)
    phased_SV = values_SV4[:, :, 2].astype(bool)
    return Alleles(
        positions,
        positions + 1,
        ["A"] * variants,
        [("C", "G")] * variants,
        ["."] * variants,
        values_SV4[:, :, :2].transpose(0, 2, 1).astype(np.int8),
        phased_SV,
        np.zeros_like(phased_SV),
        [f"s{i}" for i in range(samples)],
        phase_sets=values_SV4[:, :, 3],
    )


def naive_largest(pieces: list[tuple[Region, Alleles]], s: int) -> int:
    """The commonest phase set of one person, the first of several as common."""
    own = []
    for region, alleles in pieces:
        for v, position in enumerate(alleles.positions):
            first, second = alleles.alleles[s, :, v]
            if position >= region.start and alleles.phased[s, v] and first != second:
                own.append(0 if alleles.phase_sets is None else int(alleles.phase_sets[s, v]))
    return max(own, key=own.count) if own else 0


@pytest.mark.parametrize("seed", range(5))
def test_largest_phase_sets_equals_counting_person_by_person_over_pieces(seed):
    rng = np.random.default_rng(seed)
    pieces = []
    for start in (100, 300, 500):
        calls = np.stack(
            [*(rng.integers(-1, 3, (6, 9)) for _ in range(2)), rng.integers(0, 2, (6, 9)), rng.integers(0, 4, (6, 9))], -1
        )
        pieces.append((REGION._replace(start=start), make_alleles(calls, first=start - 2)))
    pieces[1] = pieces[1][0], pieces[1][1]._replace(phase_sets=None)
    largest_S = largest_phase_sets(*zip(*pieces, strict=True))
    assert largest_S.tolist() == [naive_largest(pieces, s) for s in range(6)] and largest_S.dtype == np.int32
    for region, alleles in pieces:
        sets_SV = 0 if alleles.phase_sets is None else alleles.phase_sets
        differ_SV = (alleles.alleles[:, 0] != alleles.alleles[:, 1]) & (alleles.positions >= region.start)
        expected = differ_SV & (~alleles.phased | (sets_SV != largest_S[:, None]))
        np.testing.assert_array_equal(find_unphased(region, alleles, largest_S), expected)


def test_largest_phase_sets_is_none_where_no_record_has_one():
    alleles = make_alleles([[(0, 1, 1, 0), (1, 0, 1, 0)]])._replace(phase_sets=None)
    assert largest_phase_sets([REGION, REGION], [alleles, alleles]) is None
    assert not in_other_phase_set(REGION, alleles).any()


def test_in_other_phase_set_takes_the_first_of_two_sets_as_large():
    alleles = make_alleles([[(0, 1, 1, 9), (1, 0, 1, 2), (1, 1, 1, 3)]])
    assert in_other_phase_set(REGION, alleles).tolist() == [[False, True, False]]


def test_find_unphased_asks_nothing_of_records_from_before_the_region():
    alleles = make_alleles([[(0, 1, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0)]], first=99)
    assert without_phase(REGION, alleles).tolist() == find_unphased(REGION, alleles).tolist() == [[False, True, False]]

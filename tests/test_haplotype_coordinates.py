"""Tests of the room `haplotype_coordinates`: positions go to a changed sequence and back, block by block."""

import numpy as np
import pytest

from brainmt_align.data.haplotype_building import Indels
from brainmt_align.data.haplotype_coordinates import NOWHERE, Part, map_coordinates


def part(start: int, end: int, *indels: tuple[int, int, int]) -> Part:
    return Part(start, end, Indels(*np.array(indels, dtype=np.int32).reshape(-1, 3).T))


def test_map_coordinates_without_indels_shifts_by_the_start():
    found = map_coordinates([part(100, 110)])
    assert found.to_sequence([100, 105, 109]).tolist() == [0, 5, 9]
    assert found.to_contig([0, 9]).tolist() == [100, 109]


@pytest.mark.parametrize("outside", [99, 110])
def test_map_coordinates_has_nothing_outside(outside):
    found = map_coordinates([part(100, 110)])
    assert found.to_sequence([outside]).tolist() == [NOWHERE]
    assert found.to_contig([-1, 10]).tolist() == [NOWHERE, NOWHERE]


def test_deleted_bases_lie_at_the_base_that_the_deletion_kept():
    found = map_coordinates([part(100, 110, (3, 7, 1))])
    assert found.length == 7
    assert found.to_sequence(range(100, 110)).tolist() == [0, 1, 2, 3, 3, 3, 3, 4, 5, 6]
    assert found.to_contig(range(7)).tolist() == [100, 101, 102, 103, 107, 108, 109]


def test_inserted_bases_lie_at_the_base_in_front_of_them():
    found = map_coordinates([part(100, 105, (2, 3, 4))])
    assert found.to_sequence(range(100, 105)).tolist() == [0, 1, 2, 6, 7]
    assert found.to_contig(range(8)).tolist() == [100, 101, 102, 102, 102, 102, 103, 104]


def test_what_has_no_letter_on_the_other_side_lies_at_the_letter_in_front():
    found = map_coordinates([part(100, 106, (2, 4, 0), (5, 5, 2))])  # as of records that touch one before them
    assert found.to_sequence(range(100, 106)).tolist() == [0, 1, 1, 1, 2, 5]
    assert found.to_contig(range(6)).tolist() == [100, 101, 104, 104, 104, 105]


def test_a_reverse_complement_counts_from_its_own_first_letter():
    plus, minus = (map_coordinates([part(100, 110, (3, 7, 1))], reverse) for reverse in (False, True))
    everywhere = np.arange(100, 110)
    np.testing.assert_array_equal(minus.to_sequence(everywhere), 6 - plus.to_sequence(everywhere))
    np.testing.assert_array_equal(minus.to_contig(range(7)), plus.to_contig(range(7))[::-1])
    assert minus.to_sequence([99]).tolist() == [NOWHERE]


def test_joined_parts_have_nothing_between_them():
    found = map_coordinates([part(100, 104, (1, 2, 3)), part(200, 203)])
    assert found.length == 9
    assert found.to_sequence([103, 104, 199, 200, 202]).tolist() == [5, NOWHERE, NOWHERE, 6, 8]
    assert found.to_contig([5, 6]).tolist() == [103, 200]

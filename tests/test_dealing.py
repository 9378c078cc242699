"""Tests of the dealing room: sizes exact, blocks whole, and the same hands whatever order the blocks come in."""

import numpy as np
import pytest

from brainmt_align.data.dealing import blocks_of, check_people, content_hash, deal_blocks, round_sizes


@pytest.mark.parametrize(
    ("exact", "total", "sizes"),
    [([10 / 3] * 3, 10, [4, 3, 3]), ([7.0, 1.0, 2.0], 10, [7, 1, 2]), ([8.5, 1.5], 10, [9, 1]), ([0.3, 0.7], 1, [0, 1])],
)
def test_round_sizes_sums_to_the_total_by_the_largest_remainder(exact, total, sizes):
    assert round_sizes(exact, total) == sizes


def test_check_people_gives_group_and_stratum_of_everyone():
    assert check_people(["a", "b"], None, None) == {"a": (None, "None"), "b": (None, "None")}
    assert check_people(["a", "b"], ["f", "g"], [1, ("x", 2)])["b"] == ("g", "('x', 2)")


def test_blocks_of_keeps_a_group_together_and_people_without_groups_apart():
    people = check_people(["c", "a", "b"], ["f", "g", "f"], ["1", "2", "3"])
    assert blocks_of(people, grouped=True) == {"g": [("a", "2")], "f": [("b", "3"), ("c", "1")]}
    assert list(blocks_of(people, grouped=False)) == ["a", "b", "c"]


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_deal_blocks_gives_exact_sizes_to_people_alone(parts):
    blocks = list(blocks_of(check_people([f"{i:03d}" for i in range(50)], None, [i % 3 for i in range(50)]), False).values())
    targets = round_sizes([50 / parts] * parts, 50)
    dealt = deal_blocks(blocks, targets, seed=1)
    assert [len(part) for part in dealt] == targets
    assert sorted(person for part in dealt for person in part) == [f"{i:03d}" for i in range(50)]
    assert all(abs(sum(int(p) % 3 == s for p in part) - len(part) / 3) < 2 for part in dealt for s in range(3))
    order = np.random.default_rng(0).permutation(50)
    assert deal_blocks([blocks[i] for i in order], targets, seed=1) == dealt
    assert deal_blocks(blocks, targets, seed=[1, 0]) != dealt


def test_deal_blocks_puts_a_block_that_fits_nowhere_where_it_overfills_least():
    blocks = [[(f"{group}{i}", "") for i in range(size)] for group, size in zip("abc", (5, 3, 2), strict=True)]
    assert [len(part) for part in deal_blocks(blocks, [4, 3, 3], seed=0)] == [5, 3, 2]


def test_content_hash_does_not_depend_on_the_order_of_keys():
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1}) != content_hash({"a": 1, "b": [3]})

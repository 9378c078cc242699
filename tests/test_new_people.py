"""Room under test: brainmt_align/data/new_people.py. In: people, families, a checkpoint. Out: who may be scored by it."""

import numpy as np
import pytest

from brainmt_align.data.new_people import require_enough, tell_new_people
from brainmt_align.data.splits import Split, save_split

IDS = ["a", "b", "c", "d", "e", "f"]
ALONE = list(IDS)


@pytest.fixture
def checkpoint(tmp_path):
    save_split(tmp_path / "split.json", Split(["a"], ["b"], ["c", "d"], 0), {})
    return tmp_path / "best.safetensors"


def test_tell_new_people_are_those_of_no_training_or_validation(checkpoint):
    new = tell_new_people(checkpoint, IDS, ALONE)
    np.testing.assert_array_equal(new.new_N, [False, False, True, True, True, True])
    assert new.seen == 2 and new.note.startswith("2 of 6 people were trained or chosen on, or are their relatives")
    assert new.qualify("above chance") == "above chance"


def test_tell_new_people_counts_relatives_of_the_seen_as_seen(checkpoint):
    new = tell_new_people(checkpoint, IDS, ["a", "b", "c", "d", "e", "a"])
    np.testing.assert_array_equal(new.new_N, [False, False, True, True, True, False])
    assert new.seen == 3


def test_tell_new_people_says_nothing_of_strangers_and_that_nothing_tells_without_a_split(checkpoint, tmp_path):
    strangers = tell_new_people(checkpoint, ["x", "y"], ["x", "y"])
    assert strangers.new_N.all() and strangers.seen == 0 and strangers.note is None
    unknown = tell_new_people(tmp_path / "elsewhere" / "best.safetensors", IDS, ALONE)
    assert unknown.new_N.all() and unknown.seen is None and "cannot be told" in unknown.note
    assert unknown.qualify("chance").endswith("cannot be told; if it was not: chance")


def test_require_enough_refuses_fewer_than_two_new_people():
    require_enough("best.safetensors", np.array([True, False, True]))
    with pytest.raises(ValueError, match=r"At least 2 people .* got 1\.\n  file: best\.safetensors\n  fix: name a cohort"):
        require_enough("best.safetensors", np.array([True, False]))

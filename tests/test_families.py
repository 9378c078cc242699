"""Room under test: brainmt_align/evaluation/families.py. In: labels of families. Out: integers, or why not."""

import numpy as np
import pytest

from brainmt_align.evaluation.families import number_families, require_families


@pytest.mark.parametrize(
    "labels",
    [["b", "a", "b", "c"], [7, 3, 7, 1], [("f", 1), ("f", 2), ("f", 1), ("g", 1)], [1, "1", 1, None], np.array([9, 2, 9, 5])],
)
def test_number_families_counts_from_zero_in_the_order_of_first_rows(labels):
    numbers = number_families(labels)
    assert numbers.dtype == np.int64 and numbers.tolist() == [0, 1, 0, 2]


def test_number_families_equals_a_dictionary_of_first_places():
    labels = np.random.default_rng(0).integers(40, size=200).tolist()
    place = {label: at for at, label in enumerate(dict.fromkeys(labels))}
    assert number_families(labels).tolist() == [place[label] for label in labels]
    assert number_families(range(5)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], r"^Here: a family for each of 3 people was expected, got 2 labels, 0 of them blank\.\n  fix: bring labels"),
        (["a", None, ("f", np.nan)], "got 3 labels, 2 of them blank, first in row 1"),
    ],
)
def test_require_families_refuses_labels_that_do_not_stand_for_everybody(labels, message):
    with pytest.raises(ValueError, match=message):
        require_families("Here", labels, 3)
    require_families("Here", ["a", "b", ("c", 0)], 3)

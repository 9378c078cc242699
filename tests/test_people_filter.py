"""Tests of the filter's room: conditions on a small table, who is left, and each refusal."""

import numpy as np
import pandas as pd
import pytest

from brainmt_align.evaluation.people_filter import select_people

PEOPLE = pd.DataFrame(
    {
        "subject_id": list("abcde"),
        "sex": ["F", "F", "M", None, "M"],
        "age": [40.0, 60.0, 61.0, 50.0, np.nan],
        "scans": pd.array([1, 2, 2, None, 1], dtype="Int64"),
    }
)


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (None, "abcde"),
        ({}, "abcde"),
        ({"sex": "F"}, "ab"),
        ({"sex": ["M", "F"]}, "abce"),
        ({"age": (40, 60)}, "abd"),
        ({"age": (40, 60), "sex": ["M", "F"]}, "ab"),
        ({"scans": 2}, "bc"),
        ({"scans": [1, 2], "age": (0, 100)}, "abc"),
    ],
)
def test_select_people_keeps_those_who_meet_every_condition(where, left):
    assert "".join(PEOPLE["subject_id"][select_people(PEOPLE, where)]) == left


def test_select_people_names_the_nearest_columns_of_an_unknown_one():
    with pytest.raises(ValueError, match=r"got Agee \(nearest: age\), height"):
        select_people(PEOPLE, {"Agee": 3, "height": 2})


def test_select_people_says_what_each_part_keeps_when_nobody_is_left():
    with pytest.raises(ValueError, match=r"leaves somebody of 5 people, got nobody: sex='F' keeps 2; age=\(61, 70\) keeps 1"):
        select_people(PEOPLE, {"sex": "F", "age": (61, 70)})


@pytest.mark.parametrize("where", [{"age": (1, 2, 3)}, {"age": (60, 40)}, {"sex": ("F", "M")}])
def test_select_people_refuses_a_range_that_is_none(where):
    with pytest.raises(ValueError, match=r"expected a range \(low, high\) of a column of numbers"):
        select_people(PEOPLE, where)

"""Tests of the filter's room: conditions on a small table, who is left, and each refusal."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from brainmt_align.evaluation.people_filter import select_people

TIMES = ["2024-01-01", "2024-02-01", "2024-03-01 12:00", "2024-04-01", None]
PEOPLE = pd.DataFrame(
    {
        "subject_id": list("abcde"),
        "sex": ["F", "F", "M", None, "M"],
        "age": [40.0, 60.0, 61.0, 50.0, np.nan],
        "day": [date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1), date(2024, 4, 1), None],
        "time": pd.to_datetime(TIMES, format="ISO8601"),
        "zoned": pd.to_datetime(TIMES, format="ISO8601", utc=True),
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
        ({"sex": np.array(["F", "X"])}, "ab"),
        ({"scans": pd.Series([1])}, "ae"),
        ({"day": ("2024-02-01", "2024-03-01")}, "bc"),
        ({"day": (date(2024, 2, 1), datetime(2024, 3, 1))}, "bc"),
        ({"time": ("2024-02-01", "2024-03-01")}, "bc"),
        ({"time": ("2024-02-01", "2024-03-01T11:59")}, "b"),
        ({"time": (np.datetime64("2024-03-01"), pd.Timestamp("2024-12-31"))}, "cd"),
        ({"time": "2024-03-01"}, "c"),
        ({"time": ["2024-03-01", date(2024, 1, 1)]}, "ac"),
        ({"zoned": ("2024-02-01", "2024-03-01T12:00:00+00:00")}, "bc"),
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


@pytest.mark.parametrize(
    "where",
    [{"age": (1, 2, 3)}, {"age": (60, 40)}, {"sex": ("F", "M")}, {"age": ("40", "60")}, {"day": ("2024-03-01", "2024-01-01")}],
)
def test_select_people_refuses_a_range_that_is_none(where):
    with pytest.raises(ValueError, match=r"expected a range \(low, high\) of a column of numbers or dates, got"):
        select_people(PEOPLE, where)


@pytest.mark.parametrize("where", [{"sex": np.array([["F", "M"]])}, {"age": {"low": 40}}, {"sex": [["F"], ["M"]]}])
def test_select_people_refuses_conditions_that_are_no_values(where):
    with pytest.raises(ValueError, match=r"expected a value, a list of values or a range \(low, high\) for (sex|age), got"):
        select_people(PEOPLE, where)


@pytest.mark.parametrize("wanted", [(2020, 2024), ("spring", "2024-05-01"), ("2024-01", "2024-02"), 2024, [None]])
def test_select_people_refuses_what_is_no_date_for_a_column_of_dates(wanted):
    with pytest.raises(ValueError, match=r"expected dates or ISO text such as 2026-11-25 for time, a column of dates, got"):
        select_people(PEOPLE, {"time": wanted})

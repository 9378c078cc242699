"""Limits of configured values: every refusal names the key, what it may be, what it was, and a fix."""

import re

import pytest

from brainmt_align.limits import complain, require_choice, require_file, require_orientation, require_range


def test_complain_has_one_form():
    with pytest.raises(ValueError, match=r"^a must be b; got 'c'\.\n  where: the configuration\n  fix: set a=b\.$"):
        complain("a must be b", "c", "a=b")


def test_require_choice_lists_the_known():
    require_choice("k", None, (None, "a"))
    with pytest.raises(ValueError, match=r"k must be one of null, a; got 'b'.*\n.*\n  fix: set k=null"):
        require_choice("k", "b", (None, "a"))


def test_require_file_refuses_what_is_no_file(tmp_path):
    require_file("k", None)
    (tmp_path / "a").touch()
    require_file("k", tmp_path / "a")
    for path in (tmp_path, tmp_path / "b"):
        with pytest.raises(FileNotFoundError, match=r"k must name a file, got no file\.\n  file: .*\n  fix: correct k"):
            require_file("k", path)


@pytest.mark.parametrize(("low", "high"), [(1, None), (0, 0.5)])
def test_require_range_takes_both_ends_and_refuses_what_lies_outside(low, high):
    for value in (low, high if high is not None else 1e30):
        require_range("k", value, low, high)
    for value in (low - 1e-9, float("nan"), *([] if high is None else [high + 1e-9])):
        with pytest.raises(ValueError, match=r"k must be (at least 1|between 0 and 0\.5); got"):
            require_range("k", value, low, high)


@pytest.mark.parametrize(
    ("value", "limits", "fix"),
    [
        (0, (0.01, 100), "k=0.01"),
        (101, (0.01, 100), "k=100"),
        (float("nan"), (1, 2), "k=1"),
        (0, (1, None), "k=1"),
        (2**32, (0, 2**32 - 1), "k=4294967295"),
        (0, (1e-9, None, (6, 1, 2)), "k=[6,1,2]"),
        (0, (1, None, "null"), "k=null"),
    ],
)
def test_require_range_advises_a_value_that_is_allowed(value, limits, fix):
    with pytest.raises(ValueError, match=re.escape(f"fix: set {fix}.")):
        require_range("k", value, *limits)


def test_require_orientation_takes_one_end_of_each_axis_in_any_order():
    for value in ("RAS", "LAS", "LPI", "SAR", "IPR"):
        require_orientation(value)
    for value in ("RLS", "RA", "RASS", "ras", ""):
        with pytest.raises(ValueError, match="one end of each axis"):
            require_orientation(value)

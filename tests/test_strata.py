"""Tests of the strata room: small strata merge from the least important column on, and what cannot be is refused at once."""

import numpy as np
import pandas as pd
import pytest

from brainmt_align.evaluation.strata import column_strata, make_strata


def people(**columns):
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"subject_id": [f"s{person}" for person in range(n)], **columns})


def test_make_strata_crosses_columns():
    table = people(population=list("AAAABBBB"), sex=list("FFMMFFMM"))
    strata = make_strata(table, ["population", "sex"], min_people=2)
    assert strata.people == {f"population={p}, sex={s}": 2 for p in "AB" for s in "FM"} and strata.notes == ()
    assert strata.labels_N.tolist()[:3] == ["population=A, sex=F", "population=A, sex=F", "population=A, sex=M"]


def test_make_strata_forgets_the_last_column_of_the_small_ones_alone_and_says_so():
    table = people(population=list("A" * 9), site=list("xxxxxyyzz"))
    strata = make_strata(table, ["population", "site"], min_people=4)
    assert strata.people == {"population=A, other site, merged": 4, "population=A, site=x": 5}
    assert strata.notes == ("4 people of strata below 4 were merged with others, from site on",)


def test_make_strata_forgets_column_after_column_but_never_the_first():
    table = people(population=list("AAAAAAB"), sex=list("FFFMMMF"), site=list("xyzxyzx"))
    strata = make_strata(table, ["population", "sex", "site"], min_people=3)
    assert strata.people == {"population=A, sex=F, other site, merged": 3, "population=A, sex=M, other site, merged": 3}
    assert strata.labels_N[6] is None and "1 people left out: fewer than 3 like them" in strata.notes
    coarser = make_strata(table, ["population", "sex", "site"], min_people=6)
    assert coarser.people == {"population=A, other sex and site, merged": 6}


def test_make_strata_cuts_numbers_by_the_width_given_or_into_quarters():
    table = people(age=np.arange(40, 80).astype(float))
    banded = make_strata(table, ["age"], {"age": 20}, 5)
    assert banded.people == {"age=40 to 60": 20, "age=60 to 80": 20} and banded.notes == ()
    quarters = make_strata(table, ["age"], {}, 5)
    assert list(quarters.people.values()) == [10] * 4 and "age cut into quarters" in quarters.notes[0]


def test_make_strata_takes_few_numbers_and_booleans_as_they_are():
    table = people(site=[1, 1, 2, 2], carrier=[True, True, False, False])
    assert make_strata(table, ["site", "carrier"], min_people=2).people == {"site=1, carrier=True": 2, "site=2, carrier=False": 2}


def test_make_strata_keeps_apart_bands_of_long_numbers():
    dates = people(date=np.repeat([20230101, 20230111, 20230121], 2))
    expected = {f"date={low} to {low + 10}": 2 for low in (20230100, 20230110, 20230120)}
    assert make_strata(dates, ["date"], {"date": 10}, 2).people == expected
    milliseconds = people(time=np.repeat([1700000000001, 1700000000002], 2))
    assert list(make_strata(milliseconds, ["time"], {"time": 1}, 2).people.values()) == [2, 2]


def test_make_strata_keeps_apart_quarters_of_long_numbers():
    assert list(make_strata(people(date=np.arange(20230101, 20230141)), ["date"], min_people=2).people.values()) == [10] * 4


def test_make_strata_keeps_apart_long_codes_given_as_floats():
    codes = people(code=np.repeat([20230101.0, 20230111.0, 1.5], 2))
    assert make_strata(codes, ["code"], min_people=2).people == {"code=1.5": 2, "code=20230101": 2, "code=20230111": 2}


@pytest.mark.parametrize("width", [0.1, 0.05, 0.3, 10.0])
def test_make_strata_puts_each_multiple_of_the_width_at_the_beginning_of_its_band(width):
    multiples = np.arange(-20, 40)
    strata = make_strata(people(motion=np.repeat(np.round(multiples * width, 9), 2)), ["motion"], {"motion": width}, 2)
    expected = [f"motion={round(at * width, 9):.12g} to {round((at + 1) * width, 9):.12g}" for at in multiples]
    assert strata.labels_N.tolist() == np.repeat(expected, 2).tolist()
    below = make_strata(people(motion=[0.999 * width, 0.999 * width]), ["motion"], {"motion": width}, 2)
    assert list(below.people) == [f"motion=0 to {width:.12g}"]


def test_column_strata_takes_each_column_alone_and_leaves_out_those_of_ones():
    table = people(sex=list("FFMM"), code=list("abcd"))
    assert list(column_strata(table, ["sex", "code"], min_people=2)) == ["sex"]


def test_make_strata_lists_every_gap_at_once():
    table = people(age=[np.nan, 2.0, np.nan], sex=["F", None, "M"])
    with pytest.raises(ValueError, match="age: none for 2 of 3 people: s0, s2\n  - sex: none for 1 of 3 people: s1"):
        make_strata(table, ["sex", "age"][::-1], min_people=2)


@pytest.mark.parametrize(
    "bands, message",
    [
        ({"site": 1}, "site: a band's width for a column that is not among the strata"),
        ({"sex": 1}, "sex: bands need numbers"),
        ({"age": 0}, "age: bands need numbers and a width above 0"),
        ({"age": np.nan}, "age: bands need numbers and a width above 0"),
    ],
)
def test_make_strata_refuses_bands_that_cannot_be(bands, message):
    with pytest.raises(ValueError, match=message):
        make_strata(people(age=[1.0, 2.0], sex=list("FM")), ["age", "sex"], bands, 2)


def test_make_strata_refuses_bands_of_infinite_numbers():
    with pytest.raises(ValueError, match="age: bands need finite numbers"):
        make_strata(people(age=[1.0, np.inf]), ["age"], {"age": 1}, 2)


def test_make_strata_names_the_nearest_of_an_unknown_column():
    with pytest.raises(ValueError, match=r"popultion.*population"):
        make_strata(people(population=list("AABB")), ["popultion"], min_people=2)


def test_make_strata_refuses_strata_of_one():
    with pytest.raises(ValueError, match="at least 2 people a stratum were expected, got 1"):
        make_strata(people(sex=list("FM")), ["sex"], min_people=1)
    with pytest.raises(ValueError, match="one stratum of 2 people or more was expected, got 3 people of whom at most 1 agree"):
        make_strata(people(code=list("abc")), ["code"], min_people=2)


@pytest.mark.parametrize("columns", [[], ["sex", "sex"]])
def test_make_strata_refuses_no_column_or_one_twice(columns):
    with pytest.raises(ValueError, match="one column or more, each once"):
        make_strata(people(sex=list("FM")), columns)

"""Sections of an alignment: by what the similarity matrix orders people, and whose names it may show."""

import numpy as np
import pandas as pd

from brainmt_align.reporting.retrieval_sections import order_of_people
from brainmt_align.reporting.run_files import family_columns, read_run
from tests.report_files import SETTINGS, full_alignment, write_basics

PEOPLE = pd.DataFrame(
    {
        "subject_id": list("abcdefgh"),
        "ancestry": ["south", "north"] * 4,
        "age": [105.0, 41.0, 101.0, 59.0, 52.0, 99.0, 44.0, 95.0],
        "site": ["s2", None, "s1", "s2", "s1", "s1", "s2", "s1"],
        "household": [1, 2, 1, 2, 3, 4, 3, 4],
        "mother_id": ["m1", "m2", "m3", "m3", None, "m5", "m6", "m7"],
    }
)


def run_with(folder, **settings):
    metrics = {"retrieval": {}}
    return read_run(write_basics(folder, metrics, {**SETTINGS, **settings}))


def ordered(order):
    return np.lexsort([order.codes[name] for name in reversed(list(order.codes))])


def test_family_columns_are_those_of_the_settings_of_any_recipe():
    assert family_columns({"split": {"groups": "household", "relatives": ["mother_id"]}}) == [
        "household",
        "mother_id",
        "family_id",
    ]
    assert family_columns({"groups": "pedigree", "relatives": ["father_id"]}) == ["pedigree", "father_id", "family_id"]
    assert family_columns({"split": {"groups": None}, "export": {"family_ids": "fam"}}) == ["fam", "family_id"]
    assert family_columns({"split": {"groups": "site"}}) == ["family_id"] == family_columns({})  # a site is no family


def test_order_of_people_follows_the_strata_of_the_settings_then_the_usual_columns_then_families(tmp_path):
    run = run_with(tmp_path, evaluation={"strata": ["ancestry"], "bands": {}}, split={"groups": "household"})
    order = order_of_people(run, PEOPLE)
    assert list(order.codes) == ["ancestry", "site", "family"]
    assert order.blocks.tolist() == PEOPLE["ancestry"].tolist()
    rows = PEOPLE.iloc[ordered(order)]
    assert rows["ancestry"].tolist() == ["north"] * 4 + ["south"] * 4
    assert rows["site"].fillna("").tolist() == ["s1", "s1", "s2", "", "s1", "s1", "s2", "s2"]  # who has no site comes last


def test_order_of_people_puts_bands_of_numbers_in_the_order_of_the_numbers(tmp_path):
    run = run_with(tmp_path, evaluation={"strata": ["age"], "bands": {"age": 10}})
    order = order_of_people(run, PEOPLE.drop(columns="site"))
    rows = ordered(order)
    assert order.blocks.iloc[rows].tolist() == ["40 to 50"] * 2 + ["50 to 60"] * 2 + ["90 to 100"] * 2 + ["100 to 110"] * 2


def test_order_of_people_joins_relatives_over_all_columns_that_tell_them(tmp_path):
    run = run_with(tmp_path, groups="household", relatives=["mother_id", "father_id"])
    family = order_of_people(run, PEOPLE).codes["family"]
    assert family[0] == family[1] == family[2] == family[3] != family[4]  # households 1 and 2 share the mother m3
    assert family[4] == family[6] and family[5] == family[7] != family[4]


def test_order_of_people_shows_no_name_of_a_family_when_families_are_strata(tmp_path):
    run = run_with(tmp_path, groups="household", evaluation={"strata": ["household"]})
    order = order_of_people(run, PEOPLE.drop(columns="site"))
    assert list(order.codes) == ["family"] and order.blocks is None


def test_order_of_people_leaves_out_columns_in_which_everybody_or_nobody_is_alike(tmp_path):
    people = pd.DataFrame({"subject_id": map(str, range(40)), "scan_date": [f"day {day}" for day in range(40)], "site": "s"})
    run = run_with(tmp_path, evaluation={"strata": ["scan_date"]})
    order = order_of_people(run, people)
    assert list(order.codes) == [] and order.blocks is None
    assert len(order_of_people(run, people.iloc[:0]).codes) == 0


def test_similarity_says_by_what_people_are_ordered(tmp_path):
    from brainmt_align.reporting.retrieval_sections import similarity

    folder = full_alignment(tmp_path / "run")
    (drawn,) = similarity(read_run(folder)).blocks
    assert "people ordered by site, then family; own pairs" in drawn.caption

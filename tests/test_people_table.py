"""People table: who is in which part, with the columns that the settings name and no others."""

from types import SimpleNamespace

import pandas as pd

from brainmt_align.data.people_table import parts_of_folds, parts_of_split, write_people
from brainmt_align.data.splits import Split

PEOPLE = pd.DataFrame({"subject_id": ["01", "02", "03", "04"], "sex": ["F", "M", None, "F"], "age": [1, 2, 3, 4], "part": 9})


def read(path):
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def fold(seed, number, train, test):
    frozen = SimpleNamespace(split=Split(train, [], test, seed))
    return SimpleNamespace(seed=seed, name=f"seed{seed}_fold{number}", frozen=frozen)


def test_write_people_keeps_named_columns_and_sorts_by_part(tmp_path):
    parts = {"train": ["04", "03"], "validation": [], "test": ["01", "04"]}
    table = read(write_people(tmp_path, PEOPLE, parts, ["sex", "sex", "site", "part", "subject_id"]))
    assert table.to_dict("list") == {
        "subject_id": ["03", "04", "01"], "part": ["train", "train", "test"], "sex": ["n/a", "F", "F"],
    }  # fmt: skip


def test_write_people_leaves_ids_and_parts_when_no_column_is_named(tmp_path):
    table = read(write_people(tmp_path, PEOPLE, {"seen": pd.Series(["02"]), "evaluated": []}, []))
    assert table.values.tolist() == [["02", "seen"]] and (tmp_path / "people.tsv").is_file()


def test_parts_of_split_are_its_three_parts():
    assert parts_of_split(Split(["a"], ["b"], ["c"], 0)) == {"train": ["a"], "validation": ["b"], "test": ["c"]}


def test_parts_of_folds_are_those_of_the_first_seed():
    one = fold(3, 0, ["a"], ["b"])
    assert parts_of_folds([one, fold(4, 0, ["b"], ["a"])]) == {"train": ["a"], "validation": [], "test": ["b"]}
    assert parts_of_folds([one, fold(3, 1, ["b"], ["a"])]) == {"test of seed3_fold0": ["b"], "test of seed3_fold1": ["a"]}

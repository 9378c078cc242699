"""Room under test: brainmt_align/data/family_split.py. In: people and their families. Out: a split that tears none."""

import pandas as pd
import pytest

from brainmt_align.data.family_split import choose_family_split, count_torn
from brainmt_align.data.splits import PARTS, Split, choose_split, save_split

PEOPLE = pd.DataFrame({"subject_id": [f"{row:02}" for row in range(40)], "site": ["a", "b"] * 20})
FAMILIES = {f"{row:02}": f"F{row // 4}" for row in range(40)}


def parts_of_families(split):
    return [{FAMILIES[person] for person in getattr(split, part)} for part in PARTS]


def test_choose_family_split_keeps_families_whole_and_parts_their_sizes():
    split = choose_family_split(PEOPLE, FAMILIES, (2, 1, 2), 0, ["site"]).split
    train, validation, test = parts_of_families(split)
    assert not train & validation and not train & test and not validation & test
    assert [len(getattr(split, part)) for part in PARTS] == [16, 8, 16]


def test_choose_family_split_equals_the_split_by_a_column_or_by_nobody():
    by_column = choose_split(PEOPLE.assign(family=FAMILIES.values()), (2, 1, 2), 3, "family", ["site"])
    assert choose_family_split(PEOPLE, FAMILIES, (2, 1, 2), 3, ["site"]).split == by_column.split
    assert choose_family_split(PEOPLE, None, (2, 1, 2), 3) == choose_split(PEOPLE, (2, 1, 2), 3)


def test_choose_family_split_refuses_a_file_that_tears_families_unless_it_may(tmp_path):
    path = save_split(tmp_path / "split.json", *choose_split(PEOPLE, (2, 1, 2), 0))
    with pytest.raises(ValueError, match=r"(?s)groups in two parts: F0.*split.torn_families=true"):
        choose_family_split(PEOPLE, FAMILIES, (2, 1, 2), 0, path=path)
    assert choose_family_split(PEOPLE, FAMILIES, (2, 1, 2), 0, path=path, torn_families=True) == choose_family_split(
        PEOPLE, None, (2, 1, 2), 0, path=path
    )
    whole = save_split(tmp_path / "whole.json", *choose_family_split(PEOPLE, FAMILIES, (2, 1, 2), 0))
    assert choose_family_split(PEOPLE, FAMILIES, (1, 1, 1), 9, path=whole).split.seed == 0


def test_count_torn_counts_test_people_whose_relatives_were_seen():
    split = Split(["00", "04"], ["08"], ["01", "05", "09", "12", "99"], 0)
    torn = count_torn(split, FAMILIES)  # 99 is not of the cohort
    assert torn == (3, 4) and torn.note.startswith("3 of 4 test people have relatives in training or validation")
    assert torn.qualify("survives") == (
        "3 of 4 test people have relatives in training or validation: the result may be theirs; survives"
    )
    whole = count_torn(choose_family_split(PEOPLE, FAMILIES, (2, 1, 2), 0).split, FAMILIES)
    assert whole == (0, 16) and whole.note is None and whole.qualify("survives") == "survives"

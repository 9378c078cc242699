"""Tests of the splits room: the same people the same parts, families whole, and a file that cannot be bent."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.splits import (
    PARTS,
    choose_split,
    describe_families,
    fingerprint,
    labels_of,
    load_split,
    make_split,
    restrict_split,
    save_split,
)

SETTINGS = {"parts": (6, 1, 2), "seed": 3, "groups": None}


def people(n):
    return [f"{i:04d}" for i in range(n)]


def part_of(split):
    return {person: name for name in PARTS for person in getattr(split, name)}


@pytest.mark.parametrize(
    ("fractions", "n", "sizes"),
    [
        ((0.7, 0.1, 0.2), 100, (70, 10, 20)),
        ((240, 40, 80), 360, (240, 40, 80)),
        ((1 / 3, 1 / 3, 1 / 3), 11, (4, 4, 3)),
        ((1, 1, 1), 3, (1, 1, 1)),
    ],
)
def test_make_split_deals_everyone_out_once_in_the_asked_sizes(fractions, n, sizes):
    split = make_split(people(n), fractions, seed=1)
    assert tuple(len(getattr(split, name)) for name in PARTS) == sizes
    assert sorted(split.train + split.validation + split.test) == people(n)


def test_make_split_does_not_depend_on_the_order_of_the_people():
    groups, strata = [i // 3 for i in range(60)], [i % 4 for i in range(60)]
    order = np.random.default_rng(0).permutation(60)
    ids, families, sites = ([values[i] for i in order] for values in (people(60), groups, strata))
    assert make_split(ids, seed=5, groups=families, strata=sites) == make_split(people(60), seed=5, groups=groups, strata=strata)


def test_make_split_gives_the_split_that_it_always_gave():
    split = make_split(people(60), seed=5, groups=[i // 3 for i in range(60)], strata=[i % 4 for i in range(60)])
    assert fingerprint(split).startswith("f38e413ce495b64a")  # a frozen split that is made again must be the same


def test_make_split_depends_on_the_seed():
    assert make_split(people(50), seed=1).test != make_split(people(50), seed=2).test


def test_make_split_puts_everyone_into_the_test_part_equally_often():
    times = Counter(person for seed in range(400) for person in make_split(people(20), (0.5, 0.25, 0.25), seed).test)
    # 400 draws with probability 1/4: SD 8.7
    assert all(abs(times[person] - 100) < 5 * 8.7 for person in people(20))


def test_make_split_balances_strata():
    strata = ["a"] * 100 + ["b"] * 37 + ["c"] * 63
    split = make_split(people(200), (0.7, 0.1, 0.2), strata=strata)
    of = dict(zip(people(200), strata, strict=True))
    for name, share in zip(PARTS, (0.7, 0.1, 0.2), strict=True):
        found = Counter(of[person] for person in getattr(split, name))
        assert all(abs(found[stratum] - share * strata.count(stratum)) < 2 for stratum in "abc")


def test_make_split_keeps_groups_whole_and_spreads_their_sizes_and_strata():
    generator = np.random.default_rng(2)
    sizes = generator.integers(1, 7, 200)
    groups = np.repeat(np.arange(200), sizes)
    strata = generator.integers(0, 2, len(groups))
    split = make_split(people(len(groups)), (0.7, 0.1, 0.2), groups=groups, strata=strata)
    parts = part_of(split)
    assert len({(group, parts[person]) for person, group in zip(people(len(groups)), groups, strict=True)}) == 200
    for name, share in zip(PARTS, (0.7, 0.1, 0.2), strict=True):
        members = np.array([int(person) for person in getattr(split, name)])
        assert abs(len(members) - share * len(groups)) < 1
        assert abs(sizes[groups[members]].mean() - sizes[groups].mean()) < 0.3
        assert abs(strata[members].mean() - strata.mean()) < 0.1


def test_make_split_comes_near_the_sizes_when_groups_forbid_them():
    split = make_split(people(40), (0.5, 0.25, 0.25), groups=[i // 4 for i in range(40)])
    assert [len(getattr(split, name)) % 4 for name in PARTS] == [0, 0, 0]
    assert all(abs(len(getattr(split, name)) - size) <= 4 for name, size in zip(PARTS, (20, 10, 10), strict=True))


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.2, 0.2), (0.5, 0.5), (6, 2, 3), (1.2, -0.1, -0.1), (np.nan, 0.5, 0.5), (0.4, 0.2, 0.2, 0.2)]
)
def test_make_split_refuses_shares_that_do_not_sum(fractions):
    with pytest.raises(ValueError, match="that sum to 1, or counts that sum to 10; got"):
        make_split(people(10), fractions)


@pytest.mark.parametrize("fractions", [(0.9, 0.0, 0.1), (8, 0, 2), (0.89, 0.01, 0.1)])
def test_make_split_refuses_a_part_without_people(fractions):
    with pytest.raises(ValueError, match=r"of 10 people leaves validation without any"):
        make_split(people(10), fractions)


def test_make_split_refuses_a_group_that_no_part_can_hold():
    with pytest.raises(ValueError, match=r"more than 5 people; got 7 \(6 people\)"):
        make_split(people(10), (0.5, 0.2, 0.3), groups=[7] * 6 + [1, 2, 3, 4])


def test_make_split_refuses_groups_that_leave_a_part_empty():
    with pytest.raises(ValueError, match=r"(validation|test) got none of 9 people in 2 groups"):
        make_split(people(9), (6, 1, 2), groups=[0] * 6 + [1] * 3)


def test_make_split_refuses_repeated_people():
    with pytest.raises(ValueError, match="one id a person, got 3 ids; repeated: a"):
        make_split(["a", "b", "a"])


def test_make_split_refuses_nobody():
    with pytest.raises(ValueError, match="one id a person, got 0 ids; repeated: none"):
        make_split([])


@pytest.mark.parametrize("name", ["groups", "strata"])
def test_make_split_refuses_labels_of_another_length(name):
    with pytest.raises(ValueError, match=f"one label of {name} for each of 10 people, got 9"):
        make_split(people(10), **{name: [0] * 9})


@pytest.mark.parametrize("blank", [None, np.nan, ("site 1", None)])
def test_make_split_refuses_missing_groups(blank):
    with pytest.raises(ValueError, match="a label of groups for everyone, got none for 0001"):
        make_split(people(10), groups=["x", blank, *"abcdefgh"])


def test_make_split_gives_every_part_its_share_of_people_without_a_stratum():
    strata = ["case", np.nan] * 45
    split = make_split(people(90), (4 / 6, 1 / 6, 1 / 6), strata=strata)
    blank = {who for who, label in zip(people(90), strata, strict=True) if label != "case"}
    for part in PARTS:
        assert abs(len(blank & set(getattr(split, part))) - len(getattr(split, part)) / 2) <= 1


def test_load_split_gives_back_what_was_saved_whatever_order_the_people_come_in(tmp_path):
    split = make_split(people(30), seed=3)
    path = save_split(tmp_path / "new" / "split.json", split, SETTINGS)
    frozen = load_split(path, people(30)[::-1], SETTINGS, groups=people(30))
    assert frozen.split == split and frozen.settings == {**SETTINGS, "parts": [6, 1, 2]}
    assert [file.name for file in path.parent.iterdir()] == ["split.json"]


def test_save_split_replaces_the_whole_file(tmp_path):
    save_split(tmp_path / "split.json", make_split(people(30), seed=3), SETTINGS)
    other = make_split(people(12), seed=4)
    save_split(tmp_path / "split.json", other, {})
    assert load_split(tmp_path / "split.json", people(12), {}).split == other


def test_load_split_refuses_a_file_edited_by_hand(tmp_path):
    path = save_split(tmp_path / "split.json", make_split(people(30), seed=3), SETTINGS)
    content = json.loads(path.read_text())
    content["train"].append(content["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"it was edited or damaged(?s:.*)split\.json(?s:.*)restore it from a backup"):
        load_split(path, people(30), SETTINGS)


def test_load_split_lists_changed_people_and_settings_together(tmp_path):
    path = save_split(tmp_path / "split.json", make_split(people(30), seed=3), SETTINGS)
    today = people(40)[2:]
    with pytest.raises(ValueError, match="the frozen split no longer fits") as error:
        load_split(path, today, {"parts": [6, 1, 2], "groups": "family", "strata": ["sex"]})
    for line in (
        "people that it does not have: 0030, 0031, 0032, 0033, 0034, … (10 in all)",
        "people that are no longer there: 0000, 0001",
        "groups: made with None, now 'family'",
        "strata: made with 'nothing', now ['sex']",
    ):
        assert f"\n  - {line}" in str(error.value)
    assert "parts:" not in str(error.value) and "seed:" not in str(error.value)


def test_load_split_refuses_when_a_family_now_lies_in_two_parts(tmp_path):
    split = make_split(people(30), seed=3)
    path = save_split(tmp_path / "split.json", split, SETTINGS)
    family = {split.train[0]: "smith", split.test[0]: "smith"}
    with pytest.raises(ValueError, match="groups that lie in two parts: smith"):
        load_split(path, people(30), SETTINGS, groups=[family.get(person, person) for person in people(30)])


def test_load_split_refuses_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="Split: expected a file, got none"):
        load_split(tmp_path / "split.json", people(3), {})


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"sha256": "0", "train": []}', "\x00"])
def test_load_split_refuses_a_file_that_is_no_split(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match="expected a file of format 'brainmt-align split 1', got something else"):
        load_split(tmp_path / "split.json", people(3), {})


@pytest.fixture
def table():
    return pd.DataFrame({"subject_id": people(60), "family": [i // 3 for i in range(60)], "site": [i % 2 for i in range(60)]})


def test_choose_split_makes_a_split_and_keeps_to_a_saved_one(tmp_path, table):
    with pytest.raises(FileNotFoundError, match=r"expected a file, got none"):
        choose_split(table, (4, 1, 1), 2, "family", ["site"], tmp_path / "split.json")
    chosen = choose_split(table, (4, 1, 1), 2, "family", ["site"])
    labels = table["family"].tolist(), table["site"].tolist()
    assert chosen.split == make_split(people(60), (4 / 6, 1 / 6, 1 / 6), 2, *labels)
    save_split(tmp_path / "split.json", *chosen)
    assert choose_split(table, (4, 1, 1), 2, "family", ["site"], tmp_path / "split.json") == chosen
    assert choose_split(table, (1, 1, 1), 3, "family", [], tmp_path / "split.json") == chosen
    assert choose_split(table, (4, 1, 1), 2, None, [], tmp_path / "split.json") == chosen
    with pytest.raises(ValueError, match="groups that lie in two parts"):
        choose_split(table.assign(household=table.index % 2), (4, 1, 1), 2, "household", [], tmp_path / "split.json")


def test_choose_split_refuses_columns_that_the_people_lack(table):
    with pytest.raises(ValueError, match=r"(?s)unknown columns: clan; scanner.*subject_id, family, site.*key: split.groups"):
        choose_split(table, (1, 1, 1), 0, groups="clan", strata=["scanner"])


def test_describe_families_tells_of_relatives_who_are_dealt_out_one_by_one(table):
    family_id = ["a", "a", "b", None, None, *(f"c{i}" for i in range(55))]
    related = table.assign(family_id=family_id)
    note = describe_families(related, None)
    assert note.startswith("2 of 60 people share a family_id") and "split.groups=family_id keeps families together" in note
    assert describe_families(related, "family_id") is None
    assert describe_families(related.iloc[1:], None) is None
    assert describe_families(table, None) is None


def test_labels_of_joins_several_columns(table):
    assert labels_of(table, []) is None
    assert labels_of(table, ["site"]) == table["site"].tolist()
    assert labels_of(table, ["family", "site"])[:2] == [(0, 0), (0, 1)]


def test_labels_of_names_people_without_a_value_where_everyone_needs_one(table):
    table = table.assign(site=[None, *table["site"][1:]])
    assert len(labels_of(table, ["site"])) == 60
    with pytest.raises(ValueError, match=r"a value of site was expected for everyone, got none for 1: 0000"):
        labels_of(table, ["site"], complete=True)


def test_fingerprint_changes_with_who_is_where(table):
    assert fingerprint(choose_split(table, (4, 1, 1), 0).split) == fingerprint(choose_split(table[::-1], (4, 1, 1), 0).split)
    assert fingerprint(choose_split(table, (4, 1, 1), 0).split) != fingerprint(choose_split(table, (4, 1, 1), 1).split)


def test_choose_split_refuses_parts_in_which_nobody_can_be_ranked(table):
    with pytest.raises(ValueError, match=r"at least 2 people to validate and 2 to test are needed.*got validation 1"):
        choose_split(table, (56, 1, 3), 0)


def test_restrict_split_leaves_out_who_is_gone_and_refuses_who_is_new_or_torn(tmp_path, table):
    frozen = choose_split(table, (4, 1, 1), 0)
    path = save_split(tmp_path / "split.json", *frozen)
    gone, *kept = table["subject_id"].tolist()
    restricted = restrict_split(path, kept)
    assert [sorted(set(getattr(frozen.split, part)) - {gone}) for part in PARTS] == [getattr(restricted.split, p) for p in PARTS]
    assert restricted.settings["left_out"] == 1
    with pytest.raises(ValueError, match="people that it does not have: new"):
        restrict_split(path, [*kept, "new"])
    with pytest.raises(ValueError, match="groups that lie in two parts: a"):
        restrict_split(path, kept, ["a"] * len(kept))

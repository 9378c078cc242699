"""Tests of the folds room: everyone tested once, families whole in every fold, and leakage named."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.folds import check_folds, choose_folds, make_folds
from brainmt_align.data.splits import PARTS, Split, choose_split, fingerprint, load_split, save_split


def people(n):
    return [f"{i:04d}" for i in range(n)]


@pytest.mark.parametrize(("n", "folds"), [(100, 5), (23, 4), (12, 2), (30, 30)])
def test_make_folds_tests_everyone_once_and_gives_every_fold_everyone(n, folds):
    made = make_folds(people(n), folds, seed=1)
    assert len(made) == folds and sorted(person for fold in made for person in fold.test) == people(n)
    for fold in made:
        assert sorted(fold.train + fold.validation + fold.test) == people(n)
        assert len(fold.test) in (n // folds, -(-n // folds))
        assert abs(len(fold.validation) - 0.15 * (n - len(fold.test))) <= 0.5
        assert all(getattr(fold, part) == sorted(getattr(fold, part)) for part in PARTS)
    check_folds(made)


def test_make_folds_does_not_depend_on_the_order_of_the_people_but_on_the_seed():
    families, sites = [i // 3 for i in range(60)], [i % 4 for i in range(60)]
    order = np.random.default_rng(0).permutation(60)
    shuffled = [[values[i] for i in order] for values in (people(60), families, sites)]
    made = make_folds(people(60), 4, 5, families, sites)
    assert make_folds(shuffled[0], 4, 5, *shuffled[1:]) == made
    assert [fold.test for fold in make_folds(people(60), 4, 6, families, sites)] != [fold.test for fold in made]


def test_make_folds_never_divides_a_group_and_balances_strata():
    generator = np.random.default_rng(2)
    families = np.repeat(np.arange(150), generator.integers(1, 6, 150))
    ids, sex = people(len(families)), generator.integers(0, 2, len(families))
    group_of, sex_of = dict(zip(ids, families.tolist(), strict=True)), dict(zip(ids, sex, strict=True))
    made = make_folds(ids, 5, 0, families.tolist(), sex.tolist(), validation=0.2)
    check_folds(made, group_of)
    for fold in made:
        parts = Counter((group_of[person], part) for part in PARTS for person in getattr(fold, part))
        assert len(parts) == 150
        assert abs(len(fold.test) - len(ids) / 5) < 1 and abs(len(fold.validation) - 0.2 * (len(ids) - len(fold.test))) < 1
        assert all(abs(np.mean([sex_of[p] for p in getattr(fold, part)]) - sex.mean()) < 0.1 for part in PARTS)


def test_make_folds_validates_every_fold_on_other_people():
    made = make_folds(people(100), 5, 0)
    assert len({tuple(fold.validation) for fold in made}) == 5
    counts = Counter(person for fold in made for person in fold.validation)
    assert max(counts.values()) < 5


def test_make_folds_leaves_out_a_site_at_a_time_whatever_the_sizes_of_the_sites():
    sites = ["a"] * 50 + ["b"] * 30 + ["c"] * 15 + ["d"] * 5
    made = make_folds(people(100), 4, 0, sites)
    assert sorted(len(fold.test) for fold in made) == [5, 15, 30, 50]
    check_folds(made, dict(zip(people(100), sites, strict=True)))


def test_make_folds_fills_every_fold_when_there_are_as_many_groups_as_folds():
    generator = np.random.default_rng(0)
    for _ in range(50):
        sizes = generator.integers(1, 40, 6)
        made = make_folds(people(sizes.sum()), 6, 0, np.repeat(np.arange(6), sizes).tolist(), validation=0.4)
        assert sorted(len(fold.test) for fold in made) == sorted(sizes)


def test_folds_are_saved_and_loaded_as_splits(tmp_path):
    families = [i // 2 for i in range(40)]
    for number, fold in enumerate(make_folds(people(40), 4, 3, families)):
        path = save_split(tmp_path / f"fold_{number}.json", fold, {"folds": 4, "fold": number})
        loaded = load_split(path, people(40)[::-1], {"folds": 4, "fold": number}, families[::-1]).split
        assert loaded == fold and fingerprint(loaded) == fingerprint(fold)


@pytest.mark.parametrize("folds", [0, 1, 11, 2.5, True])
def test_make_folds_refuses_a_number_of_folds_that_cannot_be(folds):
    with pytest.raises(ValueError, match=f"a whole number of folds between 2 and 10, .*; got {folds!r} folds of 10 people"):
        make_folds(people(10), folds, 0)


def test_make_folds_refuses_more_folds_than_groups():
    with pytest.raises(ValueError, match="between 2 and 3, the groups that are not to be divided; got 4 folds of 30 people"):
        make_folds(people(30), 4, 0, groups=[i // 10 for i in range(30)])


@pytest.mark.parametrize("validation", [0, 1, -0.1, np.nan])
def test_make_folds_refuses_a_share_of_validation_out_of_range(validation):
    with pytest.raises(ValueError, match="must be above 0 and below 1, got"):
        make_folds(people(10), 2, 0, validation=validation)


@pytest.mark.parametrize(
    ("groups", "validation", "empty"),
    [(None, 0.05, "validation"), (None, 0.99, "train"), ([0] * 4 + [1] * 4 + [2] * 2, 0.2, "validation")],
)
def test_make_folds_refuses_a_fold_without_people_to_train_or_validate_on(groups, validation, empty):
    with pytest.raises(
        ValueError, match=rf"fold \d does not test, a share of {validation} for validation leaves {empty} without"
    ):
        make_folds(people(10), 2, 0, groups=groups, validation=validation)


def test_make_folds_refuses_repeated_people_and_missing_labels():
    with pytest.raises(ValueError, match="one id a person, got 2 ids; repeated: a"):
        make_folds(["a", "a"], 2, 0)
    with pytest.raises(ValueError, match="a label of groups for everyone, got none for 0001"):
        make_folds(people(3), 2, 0, groups=["x", None, "y"])


def test_check_folds_lists_every_leak():
    folds = [
        Split(train=["a", "b"], validation=["c", "e"], test=["d", "a"], seed=0),
        Split(train=["c"], validation=["b"], test=["d", "e"], seed=0),
    ]
    groups = {"a": "f1", "b": "f2", "c": "f2", "d": "f4"}
    with pytest.raises(ValueError, match="faults found: 6\n") as error:
        check_folds(folds, groups)
    for line in (
        "fold 0: people in two parts: a (train, test)",
        "fold 0: groups in two parts: f1 (train, test), f2 (train, validation)",
        "fold 0: people without a group: e",
        "fold 1: groups in two parts: f2 (train, validation)",
        "fold 1: people without a group: e",
        "people tested twice: d (folds 0, 1)",
    ):
        assert f"\n  - {line}" in str(error.value)


def test_check_folds_sees_a_family_that_lies_in_two_parts_of_folds_made_without_it():
    made = make_folds(people(40), 4, 0)
    check_folds(made)
    with pytest.raises(ValueError, match="fold 0: groups in two parts"):
        check_folds(made, {person: int(person) // 2 for person in people(40)})


def test_choose_folds_takes_columns_and_freezes_what_it_was_made_with(tmp_path):
    table = pd.DataFrame({"subject_id": people(60), "family": [i // 2 for i in range(60)], "sex": ["F", "M"] * 30})
    frozen = choose_folds(table, 3, (5, 1, 9), 4, "family", ["sex"])
    assert [each.split for each in frozen] == make_folds(people(60), 3, 4, table["family"].tolist(), table["sex"].tolist(), 1 / 6)
    assert frozen[2].settings == {"folds": 3, "parts": [5, 1], "seed": 4, "groups": "family", "strata": ["sex"], "fold": 2}
    save_split(tmp_path / "split.json", *frozen[1])
    assert choose_folds(table, None, (1, 1, 1), 0, "family", path=tmp_path / "split.json")[0].split == frozen[1].split


def test_choose_folds_without_k_is_the_one_split():
    table = pd.DataFrame({"subject_id": people(60), "family": [i // 2 for i in range(60)]})
    assert choose_folds(table, None, (4, 1, 1), 3, "family") == [choose_split(table, (4, 1, 1), 3, "family")]


def test_choose_folds_refuses_a_family_in_two_parts_of_a_file(tmp_path):
    table = pd.DataFrame({"subject_id": people(60), "family": [i // 2 for i in range(60)]})
    save_split(tmp_path / "split.json", *choose_folds(table, None, (4, 1, 1), 3)[0])
    with pytest.raises(ValueError, match="groups that lie in two parts"):
        choose_folds(table.assign(family=0), None, (4, 1, 1), 0, "family", path=tmp_path / "split.json")

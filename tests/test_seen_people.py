"""Seen people: whom an earlier run was trained or chosen on, their relatives with them, is never tested by it."""

import pandas as pd
import pytest

from brainmt_align.data.seen_people import check_unseen, seen_people, training_people
from brainmt_align.data.splits import choose_split, save_split


@pytest.fixture
def table():
    return pd.DataFrame({"subject_id": [f"{i:04d}" for i in range(60)]})


def test_check_unseen_refuses_test_people_whom_a_checkpoint_has_seen(tmp_path, table):
    first, second = choose_split(table, (4, 1, 1), 0), choose_split(table, (4, 1, 1), 1)
    save_split(tmp_path / "split.json", *first)
    assert check_unseen(tmp_path / "best.safetensors", first.split) is None
    assert "cannot be told" in check_unseen(tmp_path / "elsewhere" / "best.safetensors", second.split)
    seen = set(second.split.test) - set(first.split.test)
    with pytest.raises(
        ValueError, match=rf"got {len(seen)} of 10 whom it was trained or chosen on, or whose relatives were: {min(seen)}"
    ):
        check_unseen(tmp_path / "best.safetensors", second.split)


def test_seen_people_are_those_of_training_and_validation(tmp_path, table):
    frozen = choose_split(table, (4, 1, 1), 0)
    save_split(tmp_path / "split.json", *frozen)
    alone = {each: each for each in table["subject_id"]}
    assert seen_people(tmp_path / "best.safetensors", alone) == sorted(frozen.split.train + frozen.split.validation)
    assert seen_people(tmp_path / "best.safetensors", {each: each for each in frozen.split.test}) == []
    assert seen_people(tmp_path / "elsewhere" / "best.safetensors", alone) is None


def test_relatives_of_seen_people_count_as_seen(tmp_path, table):
    frozen = choose_split(table, (4, 1, 1), 0)
    save_split(tmp_path / "split.json", *frozen)
    twin, trained = frozen.split.test[0], frozen.split.train[0]
    family_of = {each: each for each in table["subject_id"]} | {twin: "twins", trained: "twins"}
    assert twin in seen_people(tmp_path / "best.safetensors", family_of)
    with pytest.raises(ValueError, match=rf"got 1 of 10 whom it was trained or chosen on, or whose relatives were: {twin}"):
        check_unseen(tmp_path / "best.safetensors", frozen.split, family_of)


def test_training_people_are_those_of_training_alone(tmp_path, table):
    frozen = choose_split(table, (4, 1, 1), 0)
    save_split(tmp_path / "split.json", *frozen)
    assert training_people(tmp_path / "best.safetensors") == frozen.split.train
    assert training_people(tmp_path / "elsewhere" / "best.safetensors") is None


def test_seen_people_refuse_a_file_that_is_no_split(tmp_path):
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a file of format 'brainmt-align split 1', got something else"):
        seen_people(tmp_path / "best.safetensors", {})

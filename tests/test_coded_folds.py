"""Coded folds: targets fitted on each fold's training people alone, and folds that a run must keep to."""

import json

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.coded_folds import code_folds, fingerprints, require_same_folds
from brainmt_align.data.folds import choose_folds
from brainmt_align.data.targets import describe_targets


@pytest.fixture
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ids = [f"{number:03d}" for number in range(60)]
    return pd.DataFrame({"subject_id": ids, "score": rng.normal(100, 15, 60), "case": np.resize(["no", "yes"], 60)})


def coded(people: pd.DataFrame, seed: int = 4, **coding):
    described = describe_targets(people, {"score": "regression", "case": "binary"}, {})
    return code_folds(people, choose_folds(people, 3, (4, 1, 1), seed), seed, described, **coding)


def test_code_folds_fits_every_fold_on_its_own_training_people(people):
    folds = coded(people, balanced=False)
    assert [fold.name for fold in folds] == ["seed4_fold0", "seed4_fold1", "seed4_fold2"]
    for fold in folds:
        training = people[people["subject_id"].isin(fold.frozen.split.train)]
        assert fold.targets.targets[0].mean == pytest.approx(training["score"].mean())
        assert fold.targets.targets[1].class_weights == (1, 1)
    assert len({fold.targets.targets[0].mean for fold in folds}) == 3


def test_code_folds_hands_its_words_to_the_coding(people):
    people = people.assign(age=np.linspace(20, 80, 60))
    assert all(len(fold.targets.targets[0].slopes) == 1 for fold in coded(people, residualise=("age",)))


def test_code_folds_names_the_fold_whose_parts_lack_a_value(people):
    one = coded(people)[1].frozen.split.test[0]
    people.loc[~people["subject_id"].isin([one]), "case"] = people["case"].where(people["case"] == "no")
    people.loc[people["subject_id"] == one, "case"] = "yes"
    with pytest.raises(ValueError, match="where: seed 4, fold 0"):
        coded(people)


def test_rows_are_the_people_of_a_part_in_the_order_of_the_table(people):
    fold, shuffled = coded(people)[0], people.sample(frac=1, random_state=1)
    rows = fold.rows(shuffled, "test")["subject_id"].tolist()
    assert sorted(rows) == fold.frozen.split.test
    assert rows == [each for each in shuffled["subject_id"] if each in fold.frozen.split.test]


def test_require_same_folds_names_those_that_differ(people, tmp_path):
    today, others = fingerprints(coded(people)), fingerprints(coded(people, seed=5))
    (tmp_path / "folds.json").write_text(json.dumps(today))
    require_same_folds(tmp_path / "folds.json", today)
    (tmp_path / "folds.json").write_text(json.dumps({**today, "seed4_fold1": others["seed5_fold1"]}))
    with pytest.raises(ValueError, match=r"(?s)that it began with, got others in seed4_fold1\.\n  file: .*folds\.json"):
        require_same_folds(tmp_path / "folds.json", today)
    with pytest.raises(ValueError, match=r"got others in seed4_fold1, seed4_fold2\."):
        require_same_folds(tmp_path / "folds.json", {"seed4_fold0": today["seed4_fold0"]})

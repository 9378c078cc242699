"""Tests of the embedding files' room: what was saved comes back, and every pair that must not be served is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from brainmt_align.evaluation.retrieval import EmbeddingIndex, open_index
from tests.embedded_people import partners, people, unit, windows


def test_open_index_gives_back_what_save_wrote(tmp_path):
    index = windows()
    saved = EmbeddingIndex(
        index.fmri,
        index.dna,
        people(40, age=1.5, sex="F"),
        fmri_person=index.fmri_person,
        dna_person=index.dna_person,
        model="abc",
    )
    path = saved.save(tmp_path / "new" / "folder", "pair")
    for place, name in ((path.parent, "pair"), (path, "embeddings"), (path.with_suffix(".parquet"), "x")):
        opened = open_index(place, name, model="abc")
        for field in ("fmri", "dna", "fmri_person", "dna_person"):
            np.testing.assert_array_equal(getattr(opened, field), getattr(saved, field))
        pd.testing.assert_frame_equal(opened.people, saved.people, check_dtype=False)
        assert opened.model == "abc" and len(opened) == 40 and "40 people" in repr(opened)
    assert sorted(each.name for each in path.parent.iterdir()) == ["pair.parquet", "pair.safetensors"]
    assert set(load_file(EmbeddingIndex(*partners(5), people(5)).save(tmp_path))) == {"fmri", "dna"}


def run_folder(folder, n=6, **tensors):
    """A pair as an alignment's run leaves it: no metadata."""
    fmri, dna = partners(n)
    save_file({"fmri": fmri, "dna": dna, **tensors}, folder / "embeddings.safetensors")
    people(n, sample_id="x").to_parquet(folder / "embeddings.parquet")
    return folder


def test_open_index_reads_a_pair_without_metadata(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = open_index(run_folder(tmp_path))
    assert index.model is None and index.query_people("0002", k=1)["is_own"].all()
    with pytest.warns(UserWarning, match="do not say which model made them; whether it was abc cannot be told"):
        open_index(tmp_path, model="abc")


def test_open_index_takes_the_columns_of_a_table_handed_over(tmp_path):
    table = people(9, age=np.arange(9.0)).iloc[::-1]
    index = open_index(run_folder(tmp_path), people=table)
    assert list(index.people["age"]) == [0, 1, 2, 3, 4, 5] and list(index.people.columns) == ["subject_id", "age"]


@pytest.mark.parametrize("missing", ["embeddings.parquet", "embeddings.safetensors"])
def test_open_index_refuses_half_a_pair(tmp_path, missing):
    (run_folder(tmp_path) / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"side by side, got no {missing}"):
        open_index(tmp_path)


def test_open_index_refuses_tensors_of_something_else(tmp_path):
    run_folder(tmp_path)
    save_file({"weights": unit(3, 0)}, tmp_path / "embeddings.safetensors")
    with pytest.raises(ValueError, match=r"expected tensors fmri and dna of version 1 .* got tensors weights"):
        open_index(tmp_path)


def test_open_index_refuses_people_in_another_number(tmp_path):
    people(5).to_parquet(run_folder(tmp_path) / "embeddings.parquet")
    with pytest.raises(ValueError, match=r"expected one row of fmri a person, 5 of them, got an array of \(6, 16\)"):
        open_index(tmp_path)


def test_open_index_refuses_a_table_in_another_order_than_it_saved(tmp_path):
    EmbeddingIndex(*partners(6), people(6)).save(tmp_path)
    people(6).iloc[::-1].to_parquet(tmp_path / "embeddings.parquet")
    with pytest.raises(ValueError, match="got other ids or another order"):
        open_index(tmp_path)


def test_open_index_lists_the_embedded_people_that_a_table_lacks(tmp_path):
    table = people(6).replace({"subject_id": {"0001": "sub-0001", "0004": "sub-0004"}})
    with pytest.raises(ValueError, match=r"without 2 of them: 0001, 0004\.(.|\n)*are 2: sub-0001, sub-0004"):
        open_index(run_folder(tmp_path), people=table)


def test_open_index_refuses_embeddings_of_another_model(tmp_path):
    EmbeddingIndex(*partners(6), people(6), model="abc").save(tmp_path)
    with pytest.raises(ValueError, match="expected embeddings of model xyz, got those of another model, abc"):
        open_index(tmp_path, model="xyz")


def test_embedding_index_refuses_a_subject_twice():
    with pytest.raises(ValueError, match="every subject once, got 1 ids more than once: 0001"):
        EmbeddingIndex(*partners(3), people(3).assign(subject_id=["0001", "0001", "2"]))


def test_embedding_index_refuses_people_without_ids():
    with pytest.raises(ValueError, match="expected people with a column subject_id, got 3 rows with columns id"):
        EmbeddingIndex(*partners(3), people(3).rename(columns={"subject_id": "id"}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embedding_index_names_the_people_whose_rows_are_not_finite(value):
    fmri, dna = partners(5)
    dna[[1, 3], 2] = value
    with pytest.raises(ValueError, match="NaN or infinity in 2 of 5 rows of dna: 0001, 0003"):
        EmbeddingIndex(fmri, dna, people(5))


def test_embedding_index_names_the_people_whose_rows_are_not_of_unit_norm():
    fmri, dna = partners(5)
    fmri[4] *= 2
    with pytest.raises(ValueError, match=r"unit norm, got norms 1 … 2 in fmri, among them 0004"):
        EmbeddingIndex(fmri, dna, people(5))


def test_embedding_index_refuses_two_widths():
    with pytest.raises(ValueError, match="in one space, got 16 and 8 numbers a row"):
        EmbeddingIndex(unit(4, 0), unit(4, 1, 8), people(4))


@pytest.mark.parametrize("owner", [[0, 1, 4], [-1, 0, 1], [0.0, 1.0, 2.0], [0, 1]])
def test_embedding_index_refuses_owners_that_are_none(owner):
    with pytest.raises(ValueError, match="expected fmri_person to name a person, 0 to 3, for each of 3 rows"):
        EmbeddingIndex(unit(3, 0), unit(4, 1), people(4), fmri_person=owner)


def test_embedding_index_counts_shared_vectors_of_different_people_only():
    z = unit(6, 0)
    z[[1, 2, 4, 5]] = z[[0, 0, 3, 3]]
    owner = np.array([0, 0, 0, 1, 1, 2])
    with pytest.warns(UserWarning, match="2 of 3 people share 1 vector of fmri"):
        EmbeddingIndex(z, unit(3, 1), people(3), fmri_person=owner)

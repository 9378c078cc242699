"""Tests of the room `stored_dna`: features, order, and what each refusal says."""

import numpy as np
import pytest

from brainmt_align.data.stored_dna import open_store
from tests.dna_files import FIRST, CountingEncoder, build_quietly, make_region


@pytest.fixture
def folder(tmp_path):
    return build_quietly([make_region(name, FIRST) for name in ("A", "B")], CountingEncoder(), tmp_path).folder


def test_features_are_embeddings_minus_the_references_of_each_region(tmp_path):
    encoder = CountingEncoder()
    second = {"ben": ("GG", "GGT"), "anna": ("T", "GG")}
    summary = build_quietly([make_region("A", FIRST), make_region("B", second, "TTTT", start=50)], encoder, tmp_path)
    store = open_store(summary.folder, ["A", "B"])
    expected = [
        [
            [np.subtract(encoder.vector(s), encoder.vector(ref)) for s in people[person]]
            for people, ref in ((FIRST, "ACGTACGT"), (second, "TTTT"))
        ]
        for person in ("ben", "anna", "ben")
    ]
    features = store.features(["ben", "anna", "ben"])
    assert features.dtype == np.float32
    assert features.shape == (3, 2, 2, 5)
    np.testing.assert_array_equal(features, expected)
    assert (store.regions, store.width, store.samples) == (["A", "B"], 5, {"anna", "ben"})
    np.testing.assert_array_equal(store.reference, [encoder.vector("ACGTACGT"), encoder.vector("TTTT")])


def test_index_of_points_into_the_tables(tmp_path):
    store = open_store(build_quietly([make_region("A", FIRST), make_region("B", FIRST, "C")], CountingEncoder(), tmp_path).folder)
    index = store.index_of(["ben", "anna"])
    by_hand = [[[store.tables[r][i] for i in index[n, r]] for r in range(2)] for n in range(2)]
    np.testing.assert_array_equal(store.features(["ben", "anna"]), by_hand)
    for r, row in enumerate(store.reference_rows):
        assert not store.tables[r][row].any()


def test_open_store_without_names_orders_regions_by_place(tmp_path):
    regions = [make_region("Z", FIRST, start=5), make_region("A", FIRST, start=90), make_region("M", FIRST, start=5, contig="19")]
    assert open_store(build_quietly(regions, CountingEncoder(), tmp_path).folder).regions == ["M", "Z", "A"]


def test_open_store_knows_the_people_whom_all_regions_share(tmp_path):
    regions = [make_region("A", FIRST), make_region("B", {"carl": ("A", "C"), "ben": ("A", "C")})]
    folder = build_quietly(regions, CountingEncoder(), tmp_path).folder
    assert open_store(folder).sample_ids == ["ben"]
    assert open_store(folder, ["B"]).sample_ids == ["carl", "ben"]


def test_open_store_refuses_a_folder_without_store(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got none\.\n  file: .*absent\n  fix: build it with recipes/embed_dna\.py"):
        open_store(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="fix: open one of its stores: abababababab_mean_both"):
        open_store(tmp_path)


def test_open_store_lists_the_regions_that_it_lacks(folder):
    message = r"3 regions are expected, got a store of 2 that lacks 2 of them:\n  - X\n  - Y\n"
    with pytest.raises(FileNotFoundError, match=message):
        open_store(folder, ["X", "A", "Y"])


def test_features_refuses_people_who_are_not_in_the_store(folder):
    message = "4 of 5 people are not in all 2 regions, e.g. p, q, r; 2 are, e.g. anna, ben"
    with pytest.raises(ValueError, match=message):
        open_store(folder).features(["p", "q", "anna", "r", "s"])


def test_open_store_refuses_an_empty_list_of_regions(folder):
    with pytest.raises(
        ValueError, match=r"at least one region is expected, got an empty list\.\n  file: .*\n  fix: name the regions"
    ):
        open_store(folder, [])


def test_open_store_refuses_files_of_two_encoders(folder, tmp_path):
    other = build_quietly([make_region("B", FIRST)], CountingEncoder("cd" * 32), tmp_path).folder
    (other / "B.safetensors").replace(folder / "B.safetensors")
    with pytest.raises(ValueError, match=r"got 2 with different fingerprint: abababababab \(A\), cdcdcdcdcdcd \(B\)"):
        open_store(folder)


def test_description_says_what_made_the_vectors_and_of_which_regions_in_their_order(folder):
    store = open_store(folder, ["B", "A"])
    assert store.description == {**store.header, "regions": store.places}
    assert list(store.description["regions"]) == ["B", "A"] and store.description["fingerprint"] == "ab" * 32

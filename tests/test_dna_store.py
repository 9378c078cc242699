"""Tests of the room `dna_store`: a counting encoder shows what is embedded, what is reused, and what each refusal says."""

import errno
import hashlib
import itertools
import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest

from brainmt_align.data.dna_region_file import read_region
from brainmt_align.data.dna_store import StoreSummary, build, describe_build, open_store, variant_sensitivity
from brainmt_align.data.haplotypes import RegionHaplotypes, describe_counts
from encoders import load_dna_encoder


class CountingEncoder:
    """The counts of A, C, G and T a string, plus one number that only this string has; remembers what it was given."""

    width = 5
    max_bases = 100

    def __init__(self, fingerprint: str = "ab" * 32):
        self.fingerprint = fingerprint
        self.description = "an encoder that counts bases"
        self.seen: list[str] = []

    def vector(self, sequence: str) -> list[float]:
        return [*map(sequence.count, "ACGT"), int(hashlib.sha256(sequence.encode()).hexdigest()[:4], 16)]

    def embed(self, sequences, pooling="mean", strands="both"):
        self.seen += sequences
        return np.array([self.vector(sequence) for sequence in sequences], dtype=np.float32)


def make_region(name: str, people: dict[str, tuple[str, str]], reference: str = "ACGTACGT", **place) -> RegionHaplotypes:
    """A region whose people carry the given two strings."""
    sequences = list(dict.fromkeys(itertools.chain(*people.values())))
    index = np.array([[sequences.index(s) for s in pair] for pair in people.values()], dtype=np.int32).reshape(-1, 2)
    where = {"contig": "20", "start": 100, "end": 108, "strand": "+"} | place
    return RegionHaplotypes(
        name=name, **where, samples=list(people), sequences=sequences, index=index, reference=reference, counts={"variants": 1}
    )


FIRST = {"anna": ("ACGTACGT", "AAAA"), "ben": ("CCCC", "AAAA")}


def build_quietly(regions, encoder, folder, **settings):
    return build(regions, encoder, folder, progress=False, **settings)


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


def test_build_embeds_every_distinct_sequence_and_the_reference_once(tmp_path):
    encoder = CountingEncoder()
    summary = build_quietly([make_region("A", FIRST), make_region("B", {"anna": ("AAAA", "AAAA")}, "CC")], encoder, tmp_path)
    assert sorted(encoder.seen) == ["AAAA", "AAAA", "ACGTACGT", "CC", "CCCC"]
    assert (summary.regions, summary.sequences_embedded, summary.sequences_reused, summary.bases) == (2, 5, 0, 22)
    assert summary.folder == tmp_path / f"{'ab' * 6}_mean_both"


def test_describe_build_counts_sequences_and_alleles_left_out():
    summary = StoreSummary(Path("store"), 2, 1200, 3, 4_000_000, 1.26, {})
    told = "1,200 sequences, 4,000,000 bases embedded in 1.3 s; 3 sequences taken from store"
    assert describe_build(summary) == told
    left_out = {"symbolic_skipped": 4}
    assert describe_build(summary._replace(counts=left_out)) == f"{told}\n{describe_counts(left_out)}"


def test_build_embeds_nothing_when_the_store_is_complete(tmp_path):
    folder = build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path).folder
    before = (folder / "A.safetensors").stat()
    encoder = CountingEncoder()
    summary = build_quietly([make_region("A", FIRST)], encoder, tmp_path)
    assert encoder.seen == []
    assert (summary.sequences_embedded, summary.sequences_reused, summary.bases) == (0, 3, 0)
    assert (folder / "A.safetensors").stat().st_ino == before.st_ino


def test_build_refuses_a_store_that_cannot_be_written_to_before_it_embeds(tmp_path, monkeypatch):
    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path / "full")
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)
    build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path / "full")  # complete, so it may be read-only
    more = [make_region("B", FIRST), make_region("A", {"carl": ("CCCC", "AAAA")}), make_region("A", {"carl": ("GGG", "AAAA")})]
    for folder, region in [("new", more[0]), *(("full", region) for region in more)]:
        encoder = CountingEncoder()
        with pytest.raises(PermissionError, match=r"refuses: Read-only file system\.\n  file: .*\n  fix: set stores\.dna="):
            build_quietly([region], encoder, tmp_path / folder)
        assert encoder.seen == [] and not (tmp_path / "new").exists()


def test_build_adds_new_people_and_updates_old_ones(tmp_path):
    build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path)
    encoder = CountingEncoder()
    summary = build_quietly([make_region("A", {"carl": ("GGG", "AAAA"), "ben": ("AAAA", "AAAA")})], encoder, tmp_path)
    assert encoder.seen == ["GGG"]
    store = open_store(summary.folder)
    assert store.sample_ids == ["anna", "ben", "carl"]
    fresh = {"anna": FIRST["anna"], "ben": ("AAAA", "AAAA"), "carl": ("GGG", "AAAA")}
    expected = [[np.subtract(encoder.vector(s), encoder.vector("ACGTACGT")) for s in pair] for pair in fresh.values()]
    np.testing.assert_array_equal(store.features(list(fresh))[:, 0], expected)


def test_build_records_how_genotypes_became_sequences_and_sums_their_counts(tmp_path):
    made = {"unphased": "skip", "missing": "N", "window": 8}
    regions = [make_region(name, FIRST)._replace(**made, counts={"variants": 3, "outside_skipped": 2}) for name in "AB"]
    summary = build_quietly(regions, CountingEncoder(), tmp_path)
    header = read_region(summary.folder / "A.safetensors").header
    assert (header["unphased"], header["missing"], header["region_window"]) == ("skip", "N", "8")
    assert summary.counts == {"variants": 6, "outside_skipped": 4}


def test_build_refuses_people_of_two_policies_in_one_file(tmp_path):
    folder = build_quietly([make_region("A", FIRST)._replace(missing="reference")], CountingEncoder(), tmp_path).folder
    carl = make_region("A", {"carl": ("GGG", "T")})._replace(missing="N")
    before = (folder / "A.safetensors").read_bytes()
    encoder = CountingEncoder()
    message = r"missing=N are expected in region A, got 2 people who stay in the file with missing=reference\.\n.*\n  fix: name"
    with pytest.raises(ValueError, match=message):
        build_quietly([carl], encoder, tmp_path)
    assert encoder.seen == []
    assert (folder / "A.safetensors").read_bytes() == before
    again = make_region("A", {**FIRST, "carl": ("GGG", "T")})._replace(missing="N")
    build_quietly([again], CountingEncoder(), tmp_path)
    assert read_region(folder / "A.safetensors").header["missing"] == "N"


def test_build_brings_the_recorded_policy_up_to_date_when_nothing_else_changes(tmp_path):
    for policy in ("reference", "N"):
        folder = build_quietly([make_region("A", FIRST)._replace(missing=policy)], CountingEncoder(), tmp_path).folder
        assert read_region(folder / "A.safetensors").header["missing"] == policy


@pytest.mark.parametrize("policies", [("error", "skip"), ("skip", "error"), ("skip", "skip")])
def test_build_joins_people_whose_genotypes_no_policy_touched_with_any(tmp_path, policies):
    for people, policy in zip((FIRST, {"carl": ("GGG", "AAAA")}), policies, strict=True):
        folder = build_quietly([make_region("A", people)._replace(unphased=policy)], CountingEncoder(), tmp_path).folder
    stored = read_region(folder / "A.safetensors")
    assert (stored.samples, stored.header["unphased"]) == (["anna", "ben", "carl"], "skip")


@pytest.mark.parametrize("change", [{"start": 99}, {"contig": "21"}, {"reference": "ACGA"}])
def test_build_keeps_embeddings_but_not_people_when_the_region_moves(tmp_path, change):
    build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path)
    encoder = CountingEncoder()
    summary = build_quietly([make_region("A", {"ben": ("CCCC", "GG")}, **change)], encoder, tmp_path)
    assert set(encoder.seen) == {"GG", change.get("reference", "GG")}
    store = open_store(summary.folder)
    assert store.sample_ids == ["ben"]
    reference = change.get("reference", "ACGTACGT")
    np.testing.assert_array_equal(
        store.features(["ben"])[0, 0], [np.subtract(encoder.vector(s), encoder.vector(reference)) for s in ("CCCC", "GG")]
    )


def test_build_resumes_with_the_region_at_which_it_was_interrupted(tmp_path):
    regions = [make_region(name, {"anna": (name * 3, name * 4)}) for name in ("A", "C", "G")]

    def interrupted():
        yield from regions[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_quietly(interrupted(), CountingEncoder(), tmp_path)
    encoder = CountingEncoder()
    summary = build_quietly(regions, encoder, tmp_path)
    assert sorted(encoder.seen) == ["ACGTACGT", "GGG", "GGGG"]
    assert [path.name for path in sorted(summary.folder.iterdir())] == ["A.safetensors", "C.safetensors", "G.safetensors"]


def test_build_leaves_the_old_file_whole_when_the_encoder_fails(tmp_path):
    class Failing(CountingEncoder):
        def embed(self, sequences, pooling="mean", strands="both"):
            raise MemoryError

    folder = build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path).folder
    content = (folder / "A.safetensors").read_bytes()
    with pytest.raises(MemoryError):
        build_quietly([make_region("A", {"carl": ("GGG", "T")})], Failing(), tmp_path)
    assert (folder / "A.safetensors").read_bytes() == content


def test_build_passes_settings_on_and_separates_their_stores(tmp_path):
    class Asking(CountingEncoder):
        def embed(self, sequences, pooling, strands):
            self.asked = (pooling, strands)
            return super().embed(sequences)

    encoder = Asking()
    folder = build_quietly([make_region("A", FIRST)], encoder, tmp_path, pooling="variant", strands="forward").folder
    assert encoder.asked == ("variant", "forward")
    assert folder.name == "abababababab_variant_forward"
    assert open_store(folder).header == {
        "fingerprint": "ab" * 32, "description": "an encoder that counts bases", "pooling": "variant", "strands": "forward",
    }  # fmt: skip


def test_build_makes_file_names_that_are_safe_and_reversible(tmp_path):
    names = ["HLA-A*01/x", "20:1-9", ".", "a b", "a%20b", "é" * 100, "é" * 101, "x" * 300]
    folder = build_quietly([make_region(name, FIRST) for name in names], CountingEncoder(), tmp_path).folder
    assert len(list(folder.iterdir())) == 8
    assert open_store(folder, names).regions == names
    assert open_store(folder).regions == sorted(names)
    assert build_quietly([make_region(name, FIRST) for name in names], CountingEncoder(), tmp_path).sequences_embedded == 0


def test_build_accepts_a_real_encoder_and_chunks_do_not_change_its_vectors(tmp_path, monkeypatch):
    encoder = load_dna_encoder("caduceus", seed=1)
    region = make_region("A", {"anna": ("ACGTACGTAC", "ACGTACGAAC"), "ben": ("ACGTAC", "GGTACGTAC")}, "ACGTACGTAC")
    monkeypatch.setattr("brainmt_align.data.dna_store.SEQUENCES_AT_ONCE", 2)
    store = open_store(build_quietly([region], encoder, tmp_path).folder)
    direct = encoder.embed(["ACGTAC", "GGTACGTAC", "ACGTACGTAC"]).numpy()
    np.testing.assert_allclose(store.features(["ben"])[0, 0], direct[:2] - direct[2], atol=1e-6)
    assert not store.features(["anna"])[0, 0, 0].any()
    assert store.header["fingerprint"] == encoder.fingerprint


def test_open_store_without_names_orders_regions_by_place(tmp_path):
    regions = [make_region("Z", FIRST, start=5), make_region("A", FIRST, start=90), make_region("M", FIRST, start=5, contig="19")]
    assert open_store(build_quietly(regions, CountingEncoder(), tmp_path).folder).regions == ["M", "Z", "A"]


def test_open_store_knows_the_people_whom_all_regions_share(tmp_path):
    regions = [make_region("A", FIRST), make_region("B", {"carl": ("A", "C"), "ben": ("A", "C")})]
    folder = build_quietly(regions, CountingEncoder(), tmp_path).folder
    assert open_store(folder).sample_ids == ["ben"]
    assert open_store(folder, ["B"]).sample_ids == ["carl", "ben"]


def test_variant_sensitivity_measures_against_rounding(tmp_path):
    class Rounding(CountingEncoder):
        width = 1

        def vector(self, sequence):
            return [{"ACGT": 1024.0, "AAAA": 1027.0, "CCCC": 1024.0, "GGGG": 1025.0}[sequence]]

    regions = [
        make_region("A", {"anna": ("AAAA", "CCCC"), "ben": ("GGGG", "ACGT")}, "ACGT"),
        make_region("B", {"anna": ("ACGT", "ACGT"), "ben": ("ACGT", "ACGT")}, "ACGT"),
    ]
    table = variant_sensitivity(open_store(build_quietly(regions, Rounding(), tmp_path).folder)).set_index("region")
    noise = 1024 * 2.0**-23
    assert table.loc["A"].to_dict() == {"sequences": 3, "distance": 1.0, "noise": noise, "ratio": 1 / noise, "below_noise": 1}
    assert table.loc["B", ["sequences", "below_noise"]].tolist() == [0, 0]
    assert np.isnan(table.loc["B", "distance"])


def test_build_refuses_sequences_that_the_encoder_cannot_read(tmp_path):
    message = r"at most 100 bases fit the encoder, got a sequence of 130 in region A.\n  fix: set data.region_window=90"
    with pytest.raises(ValueError, match=message):
        build_quietly([make_region("A", {"anna": ("A" * 130, "C")}, "A" * 120)], CountingEncoder(), tmp_path)


def test_build_refuses_a_region_name_twice(tmp_path):
    with pytest.raises(ValueError, match="every region needs a name of its own, got A twice"):
        build_quietly([make_region("A", FIRST), make_region("A", FIRST)], CountingEncoder(), tmp_path)


@pytest.mark.parametrize(
    ("vectors", "got"), [(np.full((3, 5), np.nan), "15 other values"), (np.zeros((3, 4)), r"shape \(3, 4\)")]
)
def test_build_refuses_embeddings_that_are_not_finite_or_of_another_shape(tmp_path, vectors, got):
    class Broken(CountingEncoder):
        def embed(self, sequences, pooling="mean", strands="both"):
            return vectors

    with pytest.raises(ValueError, match=rf"finite embeddings of shape \(3, 5\) are expected .* {got}.* in region A"):
        build_quietly([make_region("A", FIRST)], Broken(), tmp_path)


def test_build_refuses_a_file_of_another_encoder(tmp_path):
    build_quietly([make_region("A", FIRST)], CountingEncoder("ab" * 32), tmp_path)
    message = r"a file of fingerprint abababababab0 is expected, got fingerprint (ab){32}\.\n  file: .*A.safetensors"
    with pytest.raises(ValueError, match=message):
        build_quietly([make_region("A", FIRST)], CountingEncoder("ab" * 6 + "0"), tmp_path)


@pytest.fixture
def folder(tmp_path):
    return build_quietly([make_region(name, FIRST) for name in ("A", "B")], CountingEncoder(), tmp_path).folder


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


@pytest.mark.parametrize("kind", ["cut", "flipped", "foreign"])
def test_build_sets_a_damaged_file_aside_and_embeds_its_region_anew(folder, tmp_path, caplog, kind):
    path = folder / "B.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    damaged = {"cut": bytes(content[:100]), "flipped": bytes(content), "foreign": b"not a store"}[kind]
    path.write_bytes(damaged)
    with pytest.raises(
        ValueError, match=r"damaged or of another kind (.|\n)*  file: .*B.safetensors\n  fix: build the store again"
    ):
        open_store(folder)
    assert path.read_bytes() == damaged
    encoder = CountingEncoder()
    with caplog.at_level(logging.WARNING):
        summary = build_quietly([make_region(name, FIRST) for name in ("A", "B")], encoder, tmp_path)
    assert (summary.sequences_embedded, summary.sequences_reused) == (3, 3)
    assert path.with_name("B.safetensors.damaged").read_bytes() == damaged
    assert "B.safetensors.damaged" in caplog.text and "is embedded anew" in caplog.text
    store = open_store(folder)
    np.testing.assert_array_equal(store.features(["ben"])[0, 0], store.features(["ben"])[0, 1])


def test_open_store_refuses_files_of_two_encoders(folder, tmp_path):
    other = build_quietly([make_region("B", FIRST)], CountingEncoder("cd" * 32), tmp_path).folder
    (other / "B.safetensors").replace(folder / "B.safetensors")
    with pytest.raises(ValueError, match=r"got 2 with different fingerprint: abababababab \(A\), cdcdcdcdcdcd \(B\)"):
        open_store(folder)

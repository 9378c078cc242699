"""Tests of the room `dna_store`: a counting encoder shows what is embedded, what is reused, and what each refusal says."""

import errno
import io
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from brainmt_align.data import dna_embedding, dna_store
from brainmt_align.data.dna_part_file import write_part
from brainmt_align.data.dna_region_file import read_region, write_region
from brainmt_align.data.dna_store import StoreSummary, describe_build, open_store
from brainmt_align.data.haplotype_settings import HaplotypeSettings
from brainmt_align.data.haplotypes import describe_counts, read_haplotypes
from brainmt_align.data.regions import read_regions
from encoders import load_dna_encoder
from tests.dna_files import (
    FIRST,
    BatchedEncoder,
    CountingEncoder,
    build_quietly,
    build_together,
    files_of,
    make_region,
    many_people,
)
from tests.haplotype_files import Variant, read_one, write_files


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
    build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path / "full")
    make_read_only(monkeypatch)
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
        def embed(self, sequences, pooling="mean", strands="both", overlap=None):
            raise MemoryError

    folder = build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path).folder
    content = (folder / "A.safetensors").read_bytes()
    with pytest.raises(MemoryError):
        build_quietly([make_region("A", {"carl": ("GGG", "T")})], Failing(), tmp_path)
    assert (folder / "A.safetensors").read_bytes() == content


def test_build_passes_settings_on_and_separates_their_stores(tmp_path):
    class Asking(CountingEncoder):
        def embed(self, sequences, pooling, strands, overlap):
            self.asked = (pooling, strands, overlap)
            return super().embed(sequences)

    for overlap, windows in ((None, ""), (0, "_overlap0"), (20, "_overlap20")):
        encoder = Asking()
        settings = {"pooling": "last", "strands": "forward", "overlap": overlap}
        folder = build_quietly([make_region("A", FIRST)], encoder, tmp_path, **settings).folder
        assert encoder.asked == ("last", "forward", overlap)
        assert folder.name == f"abababababab_last_forward{windows}"
        given = {} if overlap is None else {"overlap": str(overlap)}
        made = {"fingerprint": "ab" * 32, "description": "an encoder that counts bases", "pooling": "last", "strands": "forward"}
        assert open_store(folder).header == made | given


def test_build_makes_file_names_that_are_safe_and_reversible(tmp_path):
    names = ["HLA-A*01/x", "20:1-9", ".", "a b", "a%20b", "é" * 100, "é" * 101, "x" * 300]
    folder = build_quietly([make_region(name, FIRST) for name in names], CountingEncoder(), tmp_path).folder
    assert len(list(folder.iterdir())) == 8
    assert open_store(folder, names).regions == names
    assert open_store(folder).regions == sorted(names)
    assert build_quietly([make_region(name, FIRST) for name in names], CountingEncoder(), tmp_path).sequences_embedded == 0


def test_build_accepts_a_real_encoder_and_units_do_not_change_its_vectors(tmp_path, monkeypatch):
    encoder = load_dna_encoder("caduceus", seed=1)
    region = make_region("A", {"anna": ("ACGTACGTAC", "ACGTACGAAC"), "ben": ("ACGTAC", "GGTACGTAC")}, "ACGTACGTAC")
    monkeypatch.setattr("brainmt_align.data.dna_embedding.UNIT_SEQUENCES", 1)
    store = open_store(build_quietly([region], encoder, tmp_path).folder)
    direct = encoder.embed(["ACGTAC", "GGTACGTAC", "ACGTACGTAC"]).numpy()
    np.testing.assert_allclose(store.features(["ben"])[0, 0], direct[:2] - direct[2], atol=1e-6)
    assert not store.features(["anna"])[0, 0, 0].any()
    assert store.header["fingerprint"] == encoder.fingerprint


def test_build_refuses_a_region_name_twice(tmp_path):
    with pytest.raises(ValueError, match="every region needs a name of its own, got A twice"):
        build_quietly([make_region("A", FIRST), make_region("A", FIRST)], CountingEncoder(), tmp_path)


def test_build_refuses_a_file_of_another_encoder(tmp_path):
    build_quietly([make_region("A", FIRST)], CountingEncoder("ab" * 32), tmp_path)
    message = r"a file of fingerprint abababababab0 is expected, got fingerprint (ab){32}\.\n  file: .*A.safetensors"
    with pytest.raises(ValueError, match=message):
        build_quietly([make_region("A", FIRST)], CountingEncoder("ab" * 6 + "0"), tmp_path)


@pytest.fixture
def folder(tmp_path):
    return build_quietly([make_region(name, FIRST) for name in ("A", "B")], CountingEncoder(), tmp_path).folder


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


def make_read_only(monkeypatch):
    """Nobody may write a file anywhere."""

    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)


def test_build_leaves_a_file_that_cannot_be_opened_where_it_is(folder, tmp_path, monkeypatch):
    def refuse(self, *_):
        raise OSError(errno.EIO, "Input/output error", str(self))

    before = files_of(folder)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=r"Input/output error: '.*A\.safetensors'"):
        build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path)
    monkeypatch.undo()
    assert files_of(folder) == before


def test_build_leaves_a_damaged_file_where_it_is_when_the_store_cannot_be_written_to(folder, tmp_path, monkeypatch):
    (folder / "B.safetensors").write_bytes(b"damaged")
    make_read_only(monkeypatch)
    with pytest.raises(PermissionError, match=r"refuses: Read-only file system\.\n  file: .*\n  fix: set stores\.dna="):
        build_quietly([make_region("B", FIRST)], CountingEncoder(), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["A.safetensors", "B.safetensors"]


def test_build_keeps_what_was_set_aside_when_the_file_is_damaged_again(folder, tmp_path):
    for content in (b"first", b"second"):
        (folder / "B.safetensors").write_bytes(content)
        build_quietly([make_region(name, FIRST) for name in "AB"], CountingEncoder(), tmp_path)
    assert (folder / "B.safetensors.damaged").read_bytes() == b"first"
    assert (folder / "B.safetensors.damaged-2").read_bytes() == b"second"


@pytest.fixture
def left_over(folder):
    """The folder of parts that a launch had joined when it was killed."""
    stored = read_region(folder / "A.safetensors")
    hashes = [row.tobytes() for row in stored.hashes]
    return write_part(folder / "A.safetensors", stored.header, stored.vectors[:2], hashes[:2]).parent


@pytest.mark.parametrize("names", ["A", "CA"])
def test_build_removes_parts_that_a_killed_launch_had_joined(left_over, tmp_path, names):
    summary = build_quietly([make_region(name, FIRST) for name in names], CountingEncoder(), tmp_path)
    assert not left_over.exists() and not (summary.folder / ".lock").exists()


def test_build_leaves_parts_of_a_complete_region_that_others_may_need(left_over, tmp_path, monkeypatch):
    region_file = left_over.with_name("A.safetensors")
    write_part(region_file, read_region(region_file).header, np.zeros((1, 5), np.float32), [bytes(32)])
    for read_only in (False, True):
        if read_only:
            next(left_over.glob("1-*")).unlink()
            make_read_only(monkeypatch)
        before = sorted(left_over.iterdir())
        assert build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path).sequences_embedded == 0
        assert sorted(left_over.iterdir()) == before


REGIONS = [make_region("A", many_people(20)), make_region("B", many_people(12, seed=1), "TTTT", start=50)]


def test_build_shows_how_far_all_processes_are_together(tmp_path, monkeypatch):
    bars = []

    class Bar(tqdm):
        def __init__(self, **settings):
            super().__init__(**settings | {"disable": False, "file": io.StringIO()})
            bars.append((settings["disable"], self))

    monkeypatch.setattr(dna_store, "tqdm", Bar)
    build_together(REGIONS, [BatchedEncoder(), BatchedEncoder()], tmp_path, progress=True)
    wanted = sum(len({*region.sequences, region.reference}) for region in REGIONS)
    assert {disable: bar.n for disable, bar in bars} == {False: wanted, True: wanted}


class DyingEncoder(BatchedEncoder):
    """Breaks down in the middle of the first of REGIONS."""

    def embed(self, sequences, **settings):
        if len(self.seen) >= 12:
            raise MemoryError
        return super().embed(sequences, **settings)


@pytest.mark.parametrize("processes", [2, 3])
def test_build_makes_the_same_bytes_whatever_the_number_of_processes(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(dna_embedding, "UNIT_SEQUENCES", 3)
    alone, together = BatchedEncoder(), [BatchedEncoder() for _ in range(processes)]
    one = build_quietly(REGIONS, alone, tmp_path / "one")
    several = build_together(REGIONS, together, tmp_path / "several")
    assert files_of(one.folder) == files_of(several[0].folder) and len(files_of(one.folder)) == 2
    assert all(encoder.seen for encoder in together)
    assert sorted(alone.seen) == sorted(sequence for encoder in together for sequence in encoder.seen)
    loads = [sum(map(len, encoder.seen)) for encoder in together]
    assert max(loads) - min(loads) <= 2 * BatchedEncoder.batch_tokens  # at most a batch a region
    assert [summary._replace(seconds=0, folder=None) for summary in several] == [one._replace(seconds=0, folder=None)] * processes


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_build_goes_on_from_the_units_that_a_broken_launch_had_finished(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(dna_embedding, "UNIT_SEQUENCES", 3)
    straight = build_quietly(REGIONS, BatchedEncoder(), tmp_path / "straight")
    dying = [DyingEncoder(), DyingEncoder()]
    with pytest.raises(MemoryError):
        build_together(REGIONS, dying, tmp_path / "resumed")
    finished = [sequence for encoder in dying for sequence in encoder.seen]
    assert len(finished) >= 12
    rest = [BatchedEncoder() for _ in range(processes)]
    resumed = build_together(REGIONS, rest, tmp_path / "resumed")[0]
    computed = [sequence for encoder in rest for sequence in encoder.seen]
    assert len(computed) == resumed.sequences_embedded == straight.sequences_embedded - len(finished)
    assert resumed.sequences_reused == straight.sequences_reused + len(finished)
    assert files_of(resumed.folder) == files_of(straight.folder)


def test_build_embeds_what_a_damaged_part_held_again_and_sets_it_aside(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dna_embedding, "UNIT_SEQUENCES", 3)
    straight = build_quietly(REGIONS, BatchedEncoder(), tmp_path / "straight")
    dying = DyingEncoder()
    with pytest.raises(MemoryError):
        build_quietly(REGIONS, dying, tmp_path / "resumed")
    folder = tmp_path / "resumed" / straight.folder.name
    (part, other) = sorted((folder / "A.safetensors.parts").iterdir())[:2]
    part.write_bytes(part.read_bytes()[:-1])
    (folder / "A.safetensors.partial-4194304").write_bytes(b"torn")
    other.with_name("3-0000.partial-4194304").write_bytes(b"torn")
    encoder = BatchedEncoder()
    with caplog.at_level(logging.WARNING):
        summary = build_quietly(REGIONS, encoder, tmp_path / "resumed")
    assert "a part is damaged" in caplog.text
    damaged = f"A.safetensors.parts/{part.name}.damaged"
    assert set(files_of(folder)) == {"A.safetensors", "B.safetensors", damaged}
    held = int(part.name.partition("-")[0])
    assert summary.sequences_embedded == len(encoder.seen) == straight.sequences_embedded - len(dying.seen) + held
    assert files_of(folder)["A.safetensors"] == files_of(straight.folder)["A.safetensors"]


def test_build_says_so_when_the_parts_of_another_process_are_not_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(dna_embedding, "write_part", lambda *_: None)
    message = (
        r"parts with \d+ sequences of region A are expected of 2 process\(es\), got none for \d+ of them\.\n  file: .*parts\n"
    )
    with pytest.raises(RuntimeError, match=message):
        build_together(REGIONS, [BatchedEncoder(), BatchedEncoder()], tmp_path)


def test_build_ends_everywhere_with_the_error_of_one_process(tmp_path):
    class Broken(CountingEncoder):
        def embed(self, sequences, **settings):
            raise ValueError("no DNA")

    with pytest.raises(ValueError, match="no DNA") as caught:
        build_together(REGIONS, [CountingEncoder(), Broken()], tmp_path)
    assert caught.value.__notes__ == ["  where: new sequences of region A"]


HOLD = """
import sys, time
from pathlib import Path
from brainmt_align.folder_lock import hold_folder
hold_folder(Path(sys.argv[1]), "A folder", "x")
print("held", flush=True)
time.sleep(60)
"""


def test_build_refuses_to_fill_a_store_that_another_launch_fills_but_takes_from_it(tmp_path):
    folder = build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path).folder
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        encoder = CountingEncoder()
        message = r"A DNA store that this launch alone fills was expected, got one in which another process works\.\n  file: .*\n"
        with pytest.raises(RuntimeError, match=message + r"  fix: wait for that process or stop it, or set stores\.dna="):
            build_quietly([make_region("A", FIRST), make_region("B", FIRST)], encoder, tmp_path)
        assert encoder.seen == []
        assert build_quietly([make_region("A", FIRST)], encoder, tmp_path).sequences_embedded == 0
        other.kill()
    assert build_quietly([make_region("B", FIRST)], encoder, tmp_path).sequences_embedded == 3
    assert not (folder / ".lock").exists()


def test_build_adds_to_files_that_were_written_before_there_were_windows(tmp_path):
    folder = build_quietly([make_region("A", FIRST)], CountingEncoder(), tmp_path).folder
    stored = read_region(folder / "A.safetensors")
    stored.header.pop("overlap")
    write_region(folder / "A.safetensors", stored)
    assert "overlap" not in open_store(folder).header
    assert (
        build_quietly([make_region("A", FIRST | {"carl": ("GGG", "AAAA")})], CountingEncoder(), tmp_path).sequences_embedded == 1
    )


def test_build_costs_one_pass_a_distinct_sequence_and_strand_of_300_real_people(real_dir, tmp_path):
    folder = real_dir / "genotypes_chr20_b37"
    genes = read_regions(folder / "genes.b37.bed")[:6]
    files = folder / "cohortA_300.phased.vcf.gz", folder / "chr20_1-2Mb.padded.fa.gz"
    encoder = load_dna_encoder("caduceus", device="cpu")
    for strands, ways in (("both", 2), ("forward", 1)):
        before = encoder.counts["passes"]
        summary = build_quietly(read_haplotypes(*files, genes, window=256), encoder, tmp_path, strands=strands)
        store = open_store(summary.folder)
        distinct = sum(map(len, store.tables))
        assert encoder.counts["passes"] - before == ways * distinct == ways * summary.sequences_embedded
        assert len(store.sample_ids) == 300 and len(store.regions) == 6 and distinct < 60


REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"


def read_small(folder, variants, end=20, **settings):
    folder.mkdir(exist_ok=True)
    return read_one(write_files(folder, REFERENCE, variants), 0, end, **settings)


def test_build_pools_everyone_at_the_sites_of_all(tmp_path):
    variants = [
        Variant(2, "G", ("GTT",), ("1|0", "0|1")),
        Variant(8, "A", ("C",), ("0|0", "0|1")),
        Variant(12, "C", ("T",), ("0|0", "0|0")),
    ]
    region, encoder = read_small(tmp_path / "a", variants), CountingEncoder()
    folder = build_quietly([region], encoder, tmp_path, pooling="variant").folder
    store = open_store(folder)
    assert store.sites == {"A": [2, 8, 12]} == store.description["sites"]
    expected = {"anna": ("GAC", "GAC"), "ben": ("GAC", "GCC")}  # an insertion's site is the base in front of it
    for sample, texts in expected.items():
        vectors = np.array([encoder.vector(text) for text in texts]) - encoder.vector("GAC")
        np.testing.assert_array_equal(store.features([sample])[0, 0], vectors)


def test_build_pools_over_everything_where_there_is_no_site(tmp_path):
    region, encoder = read_small(tmp_path / "a", [Variant(25, "T", ("C",), ("1|0", "0|0"))]), CountingEncoder()
    stored = read_region(build_quietly([region], encoder, tmp_path, pooling="variant").folder / "A.safetensors")
    np.testing.assert_array_equal(stored.reference, encoder.vector(REFERENCE[:20]))


def test_build_embeds_anew_and_drops_earlier_people_when_the_sites_are_others(tmp_path):
    first = read_small(tmp_path / "a", [Variant(8, "A", ("C",), ("1|0", "0|0"))])
    more = read_small(tmp_path / "b", [Variant(8, "A", ("C",), ("1|0", "0|0")), Variant(12, "C", ("T",), ("0|0", "0|0"))])
    more = more._replace(samples=["carl", "dora"])
    encoder = CountingEncoder()
    build_quietly([first], encoder, tmp_path, pooling="variant")
    summary = build_quietly([more], encoder, tmp_path, pooling="variant")
    assert (summary.sequences_embedded, summary.sequences_reused) == (2, 0)
    store = open_store(summary.folder)
    assert (store.sample_ids, store.sites) == (["carl", "dora"], {"A": [8, 12]})
    again = build_quietly([more._replace(samples=["emil", "fred"])], encoder, tmp_path, pooling="variant")
    assert again.sequences_embedded == 0
    assert open_store(again.folder).sample_ids == ["carl", "dora", "emil", "fred"]


def test_build_records_symbolic_and_oriented_and_refuses_people_of_another_symbolic(tmp_path):
    variants = [Variant(4, "A", ("<DEL>",), ("1|0", "0|0"), 7)]
    applied = read_small(tmp_path / "a", variants)
    skipped = read_small(tmp_path / "b", variants, settings=HaplotypeSettings(symbolic="skip", oriented="gene"))
    skipped = skipped._replace(samples=["carl", "dora"])
    folder = build_quietly([skipped], CountingEncoder(), tmp_path).folder
    assert {key: open_store(folder).description[key] for key in ("symbolic", "oriented")} == {
        "symbolic": "skip",
        "oriented": "gene",
    }
    with pytest.raises(ValueError, match=r"taken with symbolic=apply are expected in region A, got 2 people .* symbolic=skip"):
        build_quietly([applied], CountingEncoder(), tmp_path)


@pytest.mark.parametrize("key", ["mismatch", "undecided"])
def test_build_refuses_people_of_whom_records_were_left_out_beside_others(tmp_path, key):
    first = make_region("A", FIRST)._replace(**{key: "skip"})
    others = make_region("A", {"carl": ("AAAA", "CCCC")})
    build_quietly([first], CountingEncoder(), tmp_path)
    with pytest.raises(ValueError, match=rf"taken with {key}=error are expected in region A, got 2 people .* {key}=skip"):
        build_quietly([others], CountingEncoder(), tmp_path)
    build_quietly([others._replace(**{key: "skip"})], CountingEncoder(), tmp_path)

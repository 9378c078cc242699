"""Tests of the room `dna_embedding`: what is refused before any work, how work is dealt out, when it is kept."""

from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from brainmt_align.data import dna_embedding
from brainmt_align.data.dna_embedding import Job, embed_share, hash_sequence, require_fit
from brainmt_align.data.dna_part_file import read_parts
from brainmt_align.data.regions import Region
from tests.dna_files import FIRST, CountingEncoder, build_quietly, make_region, many_people

HEADER = dict.fromkeys(("name", "fingerprint", "pooling", "strands", "overlap"), "x")


def share(folder: Path, new: list[str], encoder, missing: list[str] | None = None, process=0, num_processes=1) -> Job:
    """Embed one process's share of `new`."""
    settings = {"pooling": "mean", "strands": "both", "overlap": None}
    job = Job(encoder, settings, folder, process, num_processes, lambda: None, tqdm(disable=True))
    hashes = {hash_sequence(sequence) for sequence in (new if missing is None else missing)}
    embed_share({hash_sequence(sequence): sequence for sequence in new}, hashes, folder / "A.safetensors", HEADER, job)
    return job


def test_require_fit_lists_every_region_that_is_too_long():
    regions = [Region("1", 0, length, f"G{length}") for length in (90, 101, 100, 2000)]
    message = (
        r"at most 100 bases fit the encoder, got 2 of 4 regions with more:\n  - G101 has 101 bases\n  - G2000 has 2,000 bases\n"
    )
    with pytest.raises(ValueError, match=message + r"  fix: set data\.region_window=100 .* or dna\.overlap"):
        require_fit(regions, 100, None)
    require_fit(regions, 100, 0)
    require_fit(regions, 100, 99)
    require_fit(regions, 2000, None)


@pytest.mark.parametrize("overlap", [100, 2000])
def test_require_fit_refuses_an_overlap_of_whole_windows(overlap):
    message = rf"dna\.overlap must be less than the 100 bases of the encoder's windows; got {overlap:,}\.\n.*\n  fix: set"
    with pytest.raises(ValueError, match=message):
        require_fit([Region("1", 0, 90, "G")], 100, overlap)


def test_build_refuses_sequences_that_the_encoder_cannot_read(tmp_path):
    message = r"at most 100 bases fit the encoder, got a sequence of 130 in region A.\n  fix: set data.region_window=90"
    region = make_region("A", {"anna": ("A" * 130, "C")}, "A" * 120)
    encoder = CountingEncoder()
    with pytest.raises(ValueError, match=message):
        build_quietly([region], encoder, tmp_path)
    assert encoder.seen == []
    assert build_quietly([region], encoder, tmp_path, overlap=10).sequences_embedded == 3


@pytest.mark.parametrize(
    ("vectors", "got"), [(np.full((3, 5), np.nan), "15 other values"), (np.zeros((3, 4)), r"shape \(3, 4\)")]
)
def test_build_refuses_embeddings_that_are_not_finite_or_of_another_shape(tmp_path, vectors, got):
    class Broken(CountingEncoder):
        def embed(self, sequences, pooling="mean", strands="both", overlap=None):
            return vectors

    with pytest.raises(ValueError, match=rf"finite embeddings of shape \(3, 5\) are expected .* {got}.* in region A"):
        build_quietly([make_region("A", FIRST)], Broken(), tmp_path)


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_embed_share_deals_whole_batches_by_their_bases(tmp_path, processes):
    new = [*dict.fromkeys(sequence for pair in many_people(40).values() for sequence in pair)]
    planned = CountingEncoder().batches(new)
    encoders = [CountingEncoder() for _ in range(processes)]
    for process, encoder in enumerate(encoders):
        share(tmp_path, new, encoder, process=process, num_processes=processes)
        mine = [batch for batch in planned if batch[0] in encoder.seen]
        assert encoder.seen == [sequence for batch in mine for sequence in batch]
    loads = [sum(map(len, encoder.seen)) for encoder in encoders]
    assert sum(loads) == sum(map(len, new)) and max(loads) - min(loads) <= CountingEncoder.batch_tokens
    assert len(read_parts(tmp_path / "A.safetensors", HEADER).vector_of) == len(new)


def test_embed_share_runs_nothing_that_a_part_holds_and_shares_out_the_rest(tmp_path):
    new = ["AAAA", "CCCC", "GGGG", "TTTT", "ACGT", "AC", "GT", "G" * 16]
    encoders = [CountingEncoder(), CountingEncoder()]
    for process, encoder in enumerate(encoders):
        share(tmp_path, new, encoder, ["ACGT", "AC", "GT"], process, 2)
    assert [encoder.seen for encoder in encoders] == [["AC", "GT"], ["ACGT"]]


def test_embed_share_keeps_what_is_finished_in_units_of_whole_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(dna_embedding, "UNIT_SEQUENCES", 6)
    monkeypatch.setattr(dna_embedding, "UNIT_BATCHES", 2)
    calls = []

    class Noting(CountingEncoder):
        def embed(self, sequences, **settings):
            calls.append(len(sequences))
            return super().embed(sequences, **settings)

    short, long = [f"{base}A" for base in "ACGT"], ["A" * 16, "C" * 16, "G" * 16]
    job = share(tmp_path, [*short, "AAA", "CCC", *long], Noting())
    assert calls == [6, 2, 1] and job.bar.disable
    assert sorted(int(path.name[0]) for path in (tmp_path / "A.safetensors.parts").iterdir()) == [1, 2, 6]


def test_require_fit_counts_the_bases_of_joined_parts_alone():
    require_fit([Region("1", 0, 900, "G", "+", ((0, 40), (850, 900)))], 100, None)
    with pytest.raises(ValueError, match="G has 101 bases"):
        require_fit([Region("1", 0, 900, "G", "+", ((0, 51), (850, 900)))], 100, None)

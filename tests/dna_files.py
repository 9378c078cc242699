"""Small DNA stores for tests: a counting encoder and made-up regions flow out."""

import hashlib
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open

from brainmt_align.data.dna_store import StoreSummary, build
from brainmt_align.data.haplotypes import RegionHaplotypes

FIRST = {"anna": ("ACGTACGT", "AAAA"), "ben": ("CCCC", "AAAA")}


class CountingEncoder:
    """The counts of A, C, G and T a string, plus one number that only this string has; remembers what it was given."""

    width = 5
    max_bases = 100
    batch_tokens = 16

    def __init__(self, fingerprint: str = "ab" * 32):
        self.fingerprint = fingerprint
        self.description = "an encoder that counts bases"
        self.seen: list[str] = []

    def vector(self, sequence: str) -> list[float]:
        return [*map(sequence.count, "ACGT"), int(hashlib.sha256(sequence.encode()).hexdigest()[:4], 16)]

    def batches(self, sequences):
        """Of one length, in the order of lengths, at most batch_tokens letters."""
        batches = []
        for length in sorted(set(map(len, sequences))):
            alike, size = [s for s in dict.fromkeys(sequences) if len(s) == length], max(1, self.batch_tokens // length)
            batches += [alike[first : first + size] for first in range(0, len(alike), size)]
        return batches

    def embed(self, sequences, pooling="mean", strands="both", overlap=None, positions=None):
        self.seen += sequences
        if positions is not None:  # the letters there instead of all of the string's
            texts = ["".join(sequence[i] for i in at) for sequence, at in zip(sequences, positions, strict=True)]
            return np.array([self.vector(text) for text in texts], dtype=np.float32)
        return np.array([self.vector(sequence) for sequence in sequences], dtype=np.float32)


class BatchedEncoder(CountingEncoder):
    """A vector depends on the whole batch that its string ran in, as rounding does, only much more."""

    def embed(self, sequences, pooling="mean", strands="both", overlap=None):
        rows = {}
        for batch in self.batches(sequences):
            rows |= {sequence: [*self.vector(sequence)[:4], self.vector("".join(batch))[4]] for sequence in batch}
        self.seen += sequences
        return np.array([rows[sequence] for sequence in sequences], dtype=np.float32)


def make_region(name: str, people: dict[str, tuple[str, str]], reference: str = "ACGTACGT", **place) -> RegionHaplotypes:
    """A region whose people carry the given two strings."""
    sequences = list(dict.fromkeys(itertools.chain(*people.values())))
    index = np.array([[sequences.index(s) for s in pair] for pair in people.values()], dtype=np.int32).reshape(-1, 2)
    where = {"contig": "20", "start": 100, "end": 108, "strand": "+"} | place
    return RegionHaplotypes(
        name=name, **where, samples=list(people), sequences=sequences, index=index, reference=reference, counts={"variants": 1}
    )


def many_people(count: int, seed: int = 0, lengths: tuple[int, ...] = (4, 5, 7, 16)) -> dict[str, tuple[str, str]]:
    """People with random strings of a few lengths, nearly all of them distinct."""
    rng = np.random.default_rng(seed)
    strings = ["".join(rng.choice(list("ACGT"), size=rng.choice(lengths))) for _ in range(2 * count)]
    return {f"p{i}": (strings[2 * i], strings[2 * i + 1]) for i in range(count)}


def build_quietly(regions, encoder, folder, **settings) -> StoreSummary:
    return build(regions, encoder, folder, **{"progress": False, **settings})


def build_together(regions, encoders: list, folder, **settings) -> list[StoreSummary]:
    """One thread stands for each process; an error in one ends the others' waiting."""
    barrier = threading.Barrier(len(encoders), timeout=20)
    summaries: list = [None] * len(encoders)
    errors: list[BaseException] = []

    def work(process: int) -> None:
        place = {"process": process, "num_processes": len(encoders), "wait": barrier.wait}
        try:
            summaries[process] = build_quietly(regions, encoders[process], folder, **place, **settings)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(process,)) for process in range(len(encoders))]
    run_all(threads, threading.Thread.start)
    run_all(threads, threading.Thread.join)
    if errors:
        raise errors[0]
    return summaries


def files_of(folder: Path) -> dict[str, str]:
    """The hash over everything that each region's file holds, by its path in the store; "" for whatever else lies there."""
    hashes = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        hashes[name] = ""
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                hashes[name] = file.metadata()["content_sha256"]
    return hashes


def run_all(threads: list[threading.Thread], step: Callable[[threading.Thread], None]) -> None:
    for thread in threads:
        step(thread)

"""DNA embedding: a region's new sequences and a frozen encoder flow in; one process's share of vectors, in parts, flows out.

Which sequences run together is planned for all processes at once and then dealt out, so that it depends on none of them.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from brainmt_align.data.dna_part_file import count_in_parts, write_part
from brainmt_align.data.haplotypes import RegionHaplotypes
from brainmt_align.data.regions import Region
from brainmt_align.listing import list_faults

Positions = dict[str, list[int]]  # of sequences

UNIT_SEQUENCES = 64
UNIT_BATCHES = 8  # full ones, in bases


class FrozenEncoder(Protocol):
    """What a store needs of an encoder; `encoders.load_dna_encoder` returns such."""

    width: int
    max_bases: int
    batch_tokens: int
    fingerprint: str
    description: str

    def batches(self, sequences: Sequence[str]) -> list[list[str]]:
        """Distinct strings → the batches in which `embed` runs them; `embed` of some of these, in order, runs the same ones."""

    def embed(self, sequences: Sequence[str], *, pooling: str, strands: str, overlap: int | None):
        """Strings → (len(sequences), width) float32 on the CPU; with pooling="variant" also `positions`, one list a string."""


class Job(NamedTuple):
    """What all regions of a call of `dna_store.build` have in common; see there."""

    encoder: FrozenEncoder
    settings: dict[str, str | int | None]  # pooling, strands and overlap, as `embed` takes them
    folder: Path
    process: int
    num_processes: int
    wait: Callable[[], object]
    bar: tqdm

    @property
    def is_main(self) -> bool:
        """Whether this is the process that alone writes region files."""
        return self.process == 0


def require_fit(regions: Iterable[Region], max_bases: int, overlap: int | None) -> None:
    """Refuse regions whose reference alone is too long for the encoder, and windows that share too much, before any work.

    Args:
        regions: after shaping and windowing.
        max_bases: what the encoder reads at once.
        overlap: see `dna_store.build`.

    Raises:
        ValueError: regions that are too long, and no overlap; the first of them listed. Windows of max_bases cannot share as
            much as overlap.
    """
    if overlap is not None and overlap >= max_bases:
        raise ValueError(
            f"DNA store: dna.overlap must be less than the {max_bases:,} bases of the encoder's windows; got {overlap:,}.\n"
            f"  where: the configuration\n  fix: set dna.overlap={max_bases // 10}, or any other number below {max_bases}."
        )
    lengths = {region.name: region.bases for region in regions}
    faults = [f"{name} has {length:,} bases" for name, length in lengths.items() if length > max_bases]
    if faults and overlap is None:
        raise ValueError(
            f"DNA store: at most {max_bases:,} bases fit the encoder, got {len(faults)} of {len(lengths)} regions with more:\n"
            f"{list_faults(faults)}  fix: set data.region_window={max_bases} (less where there are insertions), or dna.overlap "
            "to read long sequences in windows, or drop these regions."
        )


def check_lengths(sequences: Iterable[str], name: str, reference_bases: int, job: Job) -> None:
    """Refuse what the encoder cannot read at once, unless it reads in windows.

    Raises:
        ValueError: too long a sequence, and no overlap.
    """
    most, longest = job.encoder.max_bases, max(map(len, sequences), default=0)
    if longest > most and job.settings["overlap"] is None:
        raise ValueError(
            f"DNA store: at most {most:,} bases fit the encoder, got a sequence of {longest:,} in region {name}.\n"
            f"  fix: set data.region_window={max(most - (longest - reference_bases), 1)} (or less), or dna.overlap to read long "
            "sequences in windows, or drop the region."
        )


def embed_share(
    new: dict[bytes, str],
    missing: set[bytes],
    region_file: Path,
    header: dict[str, str],
    job: Job,
    positions: Positions | None = None,
) -> None:
    """Embed this process's share of a region's new sequences; each finished unit is kept as a part.

    Args:
        new: SHA-256 → sequence, all that the region's file lacks: the plan is made of these.
        missing: those of them that no part holds; the same on every process.
        region_file, header: of the region.
        job: of the call; its bar follows the parts of all processes.
        positions: sequence → where it is pooled, for pooling="variant".

    Raises:
        ValueError: embeddings that are not finite or of another shape; sequences that the encoder refuses.
    """
    if not missing:
        return
    digest_of = {sequence: digest for digest, sequence in new.items()}
    planned = job.encoder.batches(list(digest_of))
    batches = [[sequence for sequence in batch if digest_of[sequence] in missing] for batch in planned]
    shown = job.bar.n - (len(new) - len(missing))
    for unit in _units(_deal(list(filter(None, batches)), job.num_processes)[job.process], job.encoder.batch_tokens):
        vectors = _embed(unit, header["name"], job, positions)
        write_part(region_file, header, vectors, [digest_of[sequence] for sequence in unit])
        if job.is_main:
            job.bar.update(shown + min(count_in_parts(region_file), len(new)) - job.bar.n)


def _deal(batches: list[list[str]], num_processes: int) -> list[list[list[str]]]:
    """Batches for each process, the dearest dealt first to whoever has least; each share keeps the order of the plan."""
    costs = [sum(map(len, batch)) for batch in batches]
    loads, shares = [0] * num_processes, [[] for _ in range(num_processes)]
    for number in sorted(range(len(batches)), key=lambda i: (-costs[i], i)):
        process = loads.index(min(loads))
        loads[process] += costs[number]
        shares[process].append(number)
    return [[batches[number] for number in sorted(share)] for share in shares]


def _units(batches: list[list[str]], batch_tokens: int) -> Iterator[list[str]]:
    """Whole batches, joined until they hold UNIT_SEQUENCES or the bases of UNIT_BATCHES."""
    unit: list[str] = []
    for batch in batches:
        unit += batch
        if len(unit) >= UNIT_SEQUENCES or sum(map(len, unit)) >= UNIT_BATCHES * batch_tokens:
            yield unit
            unit = []
    if unit:
        yield unit


def _embed(sequences: list[str], name: str, job: Job, positions: Positions | None) -> np.ndarray:
    """(len(sequences), width) float32."""
    at = {} if positions is None else {"positions": [positions[sequence] for sequence in sequences]}
    try:
        vectors = np.asarray(job.encoder.embed(sequences, **job.settings, **at))
    except (TypeError, ValueError) as error:
        error.add_note(f"  where: new sequences of region {name}")
        raise
    wanted = (len(sequences), job.encoder.width)
    if vectors.shape != wanted or not np.isfinite(vectors).all():
        raise ValueError(
            f"DNA store: finite embeddings of shape {wanted} are expected of {job.encoder.description}, "
            f"got shape {vectors.shape} with {np.count_nonzero(~np.isfinite(vectors))} other values in region {name}.\n"
            "  fix: check the checkpoint, or run the encoder in float32."
        )
    return vectors.astype(np.float32, copy=False)


def positions_of(region: RegionHaplotypes) -> Positions:
    """Sequence → where each of the region's sites lies in it, the reference among them; all bases where there is no site.

    The sites are those of the genotypes, whoever carries an ALT there: all are pooled at the same places. A region without any
    has one sequence alone, whose vector is the mean over all tokens.
    """
    pooled = {sequence: region.lift_sites(i) for i, sequence in enumerate(region.sequences)}
    pooled.setdefault(region.reference, region.map_of_reference().to_sequence(region.sites))
    return {sequence: np.unique(at[at >= 0]).tolist() or list(range(len(sequence))) for sequence, at in pooled.items()}


def hash_sequence(sequence: str, positions: Sequence[int] | None = None) -> bytes:
    """SHA-256 of a sequence and, where it is pooled at positions, of these: what an embedding is found by."""
    digest = hashlib.sha256(sequence.encode())
    if positions is not None:
        digest.update(np.asarray(positions, dtype="<i8").tobytes())
    return digest.digest()

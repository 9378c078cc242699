"""DNA store: distinct haplotype sequences and a frozen encoder flow in; one embedding a distinct sequence flows out.

A store is a folder `<fingerprint[:12]>_<pooling>_<strands>[_overlap<bases>]/` with one float32 safetensors file a region, for
`stored_dna` to read. Embeddings are found again by the SHA-256 of their sequence: new people cost only the sequences that nobody
had before. A region's new sequences are planned as batches, whatever the number of processes and whatever is done already, and
dealt out by cost; each process leaves what it has finished in part files, which the main process joins into the region's file.
That one is replaced at once or not at all; a damaged one is set aside and made anew.
"""

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from brainmt_align.atomic import require_writable
from brainmt_align.data.dna_embedding import (
    FrozenEncoder,
    Job,
    check_lengths,
    embed_share,
    hash_sequence,
    positions_of,
    require_fit,
)
from brainmt_align.data.dna_part_file import has_parts, read_parts, remove_parts
from brainmt_align.data.dna_region_file import (
    SOURCE_FACTS,
    StoredRegion,
    check_settings,
    join_policies,
    read_region,
    region_path,
    set_aside,
    write_region,
)
from brainmt_align.data.haplotypes import RegionHaplotypes, describe_counts
from brainmt_align.data.stored_dna import DNAStore, open_store
from brainmt_align.folder_lock import hold_folder, is_held, release_folder

__all__ = ["DNAStore", "StoreSummary", "build", "describe_build", "open_store", "require_fit"]

logger = logging.getLogger(__name__)

PLACE = ("contig", "start", "end", "reference_sha256")  # what a region's people belong to
OWN = "A DNA store that this launch alone fills", "stores.dna"


class StoreSummary(NamedTuple):
    """What `build` did, all processes together; seconds include reading the haplotypes.

    sequences_embedded, bases: those of this launch, one strand; sequences_reused: found in the store or in parts.
    counts: those of `RegionHaplotypes`, summed over the regions of this call.
    """

    folder: Path
    regions: int
    sequences_embedded: int
    sequences_reused: int
    bases: int
    seconds: float
    counts: dict[str, int]


class _Update(NamedTuple):
    """What a region's file must become.

    Attributes:
        path, header: of the file.
        old: what it holds now; None where there is nothing to keep.
        wanted, new: SHA-256 → sequence of this call, and those of them that the file lacks.
        row_of: SHA-256 → row of the vectors, the old ones first.
        reference: SHA-256 of the reference, as embeddings are found by.
        positions: sequence → where it is pooled; None unless that is at variants.
        people: sample id → (2,) rows.
        changed: whether the file must be written.
    """

    path: Path
    header: dict[str, str]
    old: StoredRegion | None
    wanted: dict[bytes, str]
    new: dict[bytes, str]
    row_of: dict[bytes, int]
    reference: bytes
    positions: dict[str, list[int]] | None
    people: dict[str, np.ndarray]
    changed: bool


def build(
    haplotypes: Iterable[RegionHaplotypes],
    encoder: FrozenEncoder,
    folder: str | Path,
    *,
    pooling: str = "mean",
    strands: str = "both",
    overlap: int | None = None,
    progress: bool = True,
    process: int = 0,
    num_processes: int = 1,
    wait: Callable[[], object] = lambda: None,
) -> StoreSummary:
    """Embed what the store does not hold yet, region by region; every process of a launch calls it with the same regions.

    The people of a call are added to those of earlier calls; those named again are brought up to date. A region whose coordinates
    or reference sequence have changed, or whose sites where pooling is at variants, keeps its embeddings, but only the people of
    this call. A file that is damaged or of another format is renamed to `<name>.damaged`, with a warning, and its region embedded
    anew, for the people of this call.
    A file tells how its people's unphased and missing genotypes were taken, and holds people of one policy only; those who came
    in under "error" had none of either, so they go with any.

    A process that is killed loses at most its unit under way, about UNIT_SEQUENCES sequences; the next launch, of any number of
    processes, finds the finished ones. When the call returns, the store is complete for every process.

    Args:
        haplotypes: regions as `haplotypes.read_haplotypes` yields them; one is in memory at a time.
        encoder: frozen encoder.
        folder: parent of the stores of all encoders.
        pooling: how an embedding is made of a sequence's tokens, see the encoder; "variant" pools at the region's sites, the
            same for everyone, see `dna_embedding.positions_of`.
        strands: "forward", "reverse" or "both", see the encoder.
        overlap: bases that the windows of a sequence too long for the encoder share; None refuses such a sequence.
        progress: show a progress bar, on the main process.
        process, num_processes: which of how many processes this one is; 0 is the main one, which alone writes region files.
        wait: returns when every process of the launch has called it.

    Returns:
        The same on every process, seconds aside.

    Raises:
        ValueError: a sequence longer than the encoder reads, a region name twice, embeddings that are not finite or of another
            shape, a file of another encoder in the store, people of another policy beside those of this call.
        PermissionError: something is missing, and nothing can be written to the store; a complete one may be read-only.
        RuntimeError: something is missing, and another launch is filling the store; or parts of other processes are not seen.
    """
    began = time.perf_counter()
    settings = {"pooling": pooling, "strands": strands, "overlap": overlap}
    windows = "" if overlap is None else f"_overlap{overlap}"
    target = Path(folder) / f"{encoder.fingerprint[:12]}_{pooling}_{strands}{windows}"
    if not target.is_dir():
        require_writable(target, "stores.dna")
    target.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    counts: Counter[str] = Counter()
    embedded = reused = bases = 0
    try:
        with tqdm(desc="DNA embeddings", unit="sequence", disable=not progress or process != 0) as bar:
            job = Job(encoder, settings, target, process, num_processes, wait, bar)
            for region in haplotypes:
                if region.name in names:
                    raise ValueError(
                        f"DNA store: every region needs a name of its own, got {region.name} twice.\n  fix: rename one."
                    )
                names.add(region.name)
                counts.update(region.counts)
                bar.set_postfix_str(region.name)
                done = _update_region(region, job)
                embedded += len(done)
                reused += len({*region.sequences, region.reference}) - len(done)
                bases += sum(map(len, done))
        wait()
    finally:
        release_folder(target)
    return StoreSummary(target, len(names), embedded, reused, bases, time.perf_counter() - began, dict(counts))


def describe_build(summary: StoreSummary) -> str:
    """What `build` did, and on a line of its own which alleles stand in no sequence."""
    told = (
        f"{summary.sequences_embedded:,} sequences, {summary.bases:,} bases embedded in {summary.seconds:.1f} s; "
        f"{summary.sequences_reused:,} sequences taken from {summary.folder}"
    )
    return "\n".join([told, *filter(None, [describe_counts(summary.counts)])])


def _update_region(region: RegionHaplotypes, job: Job) -> list[str]:
    """Bring one file up to date, together; returns the sequences that had to be embedded. A file up to date is left alone.

    Batches are dealt out alike everywhere only if every process sees the same finished work: the main one looks first and sets
    aside what is damaged, nobody writes before all have looked, and the file is replaced when all have finished.
    """
    path = region_path(job.folder, region.name)
    update = _prepare(path, region, job) if job.is_main else None
    job.wait()
    update = update or _plan_update(path, region, job)
    finished = read_parts(path, update.header).vector_of if update.new else {}
    missing = {digest: sequence for digest, sequence in update.new.items() if digest not in finished}
    job.wait()
    before = job.bar.n
    job.bar.update(len(update.wanted) - len(missing))
    embed_share(update.new, set(missing), path, update.header, job, update.positions)
    job.wait()
    job.bar.update(before + len(update.wanted) - job.bar.n)
    if job.is_main and update.changed:
        _join(update, job)
    elif job.is_main:
        _remove_left_over(update, job.folder)
    return list(missing.values())


def _prepare(path: Path, region: RegionHaplotypes, job: Job) -> _Update:
    """Refuse, before anybody works, what cannot be written, is too long or of two kinds; then set damaged files aside."""
    update = _plan_update(path, region, job, _read_or_pass_over)
    if not update.changed:
        return update
    check_lengths(update.new.values(), region.name, len(region.reference), job)
    require_writable(job.folder, "stores.dna")
    newly_held = not is_held(job.folder)
    if newly_held:
        hold_folder(job.folder, *OWN)
        for torn in job.folder.glob("*.partial-*"):  # of a launch that was killed
            if torn.name.rpartition("-")[2].isdigit():
                torn.unlink()
    if newly_held or update.old is None:  # another launch may have come to its end meanwhile; or the file is damaged
        update = _plan_update(path, region, job, _read_or_set_aside)
    read_parts(path, update.header, set_aside=True)
    return update


def _plan_update(
    path: Path, region: RegionHaplotypes, job: Job, read: Callable[[Path], StoredRegion | None] = read_region
) -> _Update:
    """What there is, and what there must be. read: what becomes of the region's file where there is one."""
    header = _header(region, job)
    old = read(path) if path.exists() else None
    if old is not None:
        check_settings(old.header, header, path)
    same_place = old is not None and all(old.header[key] == header[key] for key in (*PLACE, "sites"))
    if same_place and (staying := set(old.samples).difference(region.samples)):
        join_policies(old.header, header, len(staying), path)
    positions = positions_of(region) if job.settings["pooling"] == "variant" else None
    digest_of = {
        sequence: hash_sequence(sequence, positions and positions[sequence]) for sequence in (*region.sequences, region.reference)
    }
    digests, reference = [digest_of[sequence] for sequence in region.sequences], digest_of[region.reference]
    wanted = {**dict(zip(digests, region.sequences, strict=True)), reference: region.reference}
    row_of = {} if old is None else {digest.tobytes(): row for row, digest in enumerate(old.hashes)}
    new = {digest: sequence for digest, sequence in wanted.items() if digest not in row_of}
    row_of |= {digest: len(row_of) + i for i, digest in enumerate(new)}
    row_of_sequence = np.array([row_of[digest] for digest in digests], dtype=np.int32)
    people = dict(zip(region.samples, row_of_sequence[region.index], strict=True))
    if same_place:
        people = dict(zip(old.samples, old.index, strict=True)) | people
    kept = same_place and not new and all(old.header[key] == header[key] for key in SOURCE_FACTS)
    kept = kept and list(people) == old.samples and np.array_equal(_rows(people), old.index)
    return _Update(path, header, old, wanted, new, row_of, reference, positions, people, changed=not kept)


def _join(update: _Update, job: Job) -> None:
    """Put old and new vectors and everybody's rows into the region's file, then remove the parts."""
    parts = read_parts(update.path, update.header)
    if absent := [digest for digest in update.new if digest not in parts.vector_of]:
        raise RuntimeError(
            f"DNA store: parts with {len(update.new)} sequences of region {update.header['name']} are expected of "
            f"{job.num_processes} process(es), got none for {len(absent)} of them.\n  file: {update.path}.parts\n"
            "  fix: let all processes work in one folder, and launch again; whatever is there is not computed again."
        )
    old = [] if update.old is None else update.old.vectors
    vectors = np.stack([*old, *(parts.vector_of[digest] for digest in update.new)])
    hashes = np.frombuffer(b"".join(update.row_of), dtype=np.uint8).reshape(len(update.row_of), 32)
    reference_row = update.row_of[update.reference]
    header = {**update.header, "reference_row": str(reference_row)}
    stored = StoredRegion(vectors, hashes, vectors[reference_row], _rows(update.people), list(update.people), header)
    write_region(update.path, stored)
    remove_parts(update.path, parts.files)


def _remove_left_over(update: _Update, folder: Path) -> None:
    """Remove parts that a launch had joined when it was killed, unless others work in the store or it cannot be written to."""
    if not has_parts(update.path):
        return
    newly_held = not is_held(folder)
    with contextlib.suppress(OSError, RuntimeError):  # the region is complete, so nothing of this matters to the launch
        if newly_held:
            require_writable(folder, "stores.dna")
            hold_folder(folder, *OWN)
        parts = read_parts(update.path, update.header)
        if parts.vector_of.keys() <= update.row_of.keys():  # others are of people who are not in the file yet
            remove_parts(update.path, parts.files)
    if newly_held:
        release_folder(folder)


def _rows(people: dict[str, np.ndarray]) -> np.ndarray:
    """(samples, 2) int32."""
    return np.array(list(people.values()), dtype=np.int32).reshape(len(people), 2)


def _header(region: RegionHaplotypes, job: Job) -> dict[str, str]:
    """What a file says of itself."""
    return {
        "name": region.name,
        "contig": region.contig,
        "start": str(region.start),
        "end": str(region.end),
        "place": region.place,
        "strand": region.strand,
        "reference_sha256": hash_sequence(region.reference).hex(),
        "fingerprint": job.encoder.fingerprint,
        "description": job.encoder.description,
        **{key: "" if value is None else str(value) for key, value in job.settings.items()},
        "counts": json.dumps(region.counts),
        "unphased": region.unphased,
        "missing": region.missing,
        "symbolic": region.symbolic,
        "mismatch": region.mismatch,
        "undecided": region.undecided,
        "oriented": region.oriented,
        "region_window": "" if region.window is None else str(region.window),
        "sites": json.dumps(region.sites.tolist()) if job.settings["pooling"] == "variant" else "",
    }


def _read_or_pass_over(path: Path) -> StoredRegion | None:
    """What a file holds; None where it is damaged."""
    try:
        return read_region(path)
    except ValueError:
        return None


def _read_or_set_aside(path: Path) -> StoredRegion | None:
    """What a file holds; None where it is damaged, and then renamed."""
    try:
        return read_region(path)
    except ValueError as error:
        aside = set_aside(path)
        logger.warning(
            "%s\n  file: %s\n  It is embedded anew; people whom only earlier builds named must be named again.",
            str(error).splitlines()[0],
            aside,
        )
        return None

"""DNA store: distinct haplotype sequences and a frozen encoder flow in; one embedding a distinct sequence flows out.

A store is a folder `<fingerprint[:12]>_<pooling>_<strands>/` with one float32 safetensors file a region. Embeddings are found
again by the SHA-256 of their sequence: new people cost only the sequences that nobody had before. A file is replaced at once or
not at all, so that an interrupted build goes on with the region at which it stopped; a damaged one is set aside and made anew.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainmt_align.atomic import require_writable
from brainmt_align.data.dna_region_file import (
    SOURCE_FACTS,
    SUFFIX,
    StoredRegion,
    check_settings,
    join_policies,
    read_region,
    region_path,
    shown_name,
    write_region,
)
from brainmt_align.data.haplotypes import RegionHaplotypes, describe_counts
from brainmt_align.data.regions import list_faults

logger = logging.getLogger(__name__)

SEQUENCES_AT_ONCE = 64
"""Sequences between two steps of the progress bar; the encoder makes its own batches of equal length of them."""


class FrozenEncoder(Protocol):
    """What a store needs of an encoder; `encoders.load_dna_encoder` returns such."""

    width: int
    max_bases: int
    fingerprint: str
    description: str

    def embed(self, sequences: Sequence[str], pooling: str, strands: str):
        """Strings → (len(sequences), width) float32 on the CPU."""


class StoreSummary(NamedTuple):
    """What `build` did: bases are those of the embedded sequences, one strand; seconds include reading the haplotypes.

    counts: those of `RegionHaplotypes`, summed over the regions of this call.
    """

    folder: Path
    regions: int
    sequences_embedded: int
    sequences_reused: int
    bases: int
    seconds: float
    counts: dict[str, int]


def build(
    haplotypes: Iterable[RegionHaplotypes],
    encoder: FrozenEncoder,
    folder: str | Path,
    *,
    pooling: str = "mean",
    strands: str = "both",
    progress: bool = True,
) -> StoreSummary:
    """Embed what the store does not hold yet, region by region.

    The people of a call are added to those of earlier calls; those named again are brought up to date. A region whose coordinates
    or reference sequence have changed keeps its embeddings, but only the people of this call. A file that is damaged or of
    another format is renamed to `<name>.damaged`, with a warning, and its region embedded anew, for the people of this call.
    A file tells how its people's unphased and missing genotypes were taken, and holds people of one policy only; those who came
    in under "error" had none of either, so they go with any.

    Args:
        haplotypes: regions as `haplotypes.read_haplotypes` yields them; one is in memory at a time.
        encoder: frozen encoder.
        folder: parent of the stores of all encoders.
        pooling: how an embedding is made of a sequence's tokens, see the encoder.
        strands: "forward", "reverse" or "both", see the encoder.
        progress: show a progress bar.

    Raises:
        ValueError: a sequence longer than the encoder reads, a region name twice, embeddings that are not finite or of another
            shape, a file of another encoder in the store, people of another policy beside those of this call.
        PermissionError: something is missing, and nothing can be written to the store; a complete one may be read-only.
    """
    began = time.perf_counter()
    target = Path(folder) / f"{encoder.fingerprint[:12]}_{pooling}_{strands}"
    if not target.is_dir():
        require_writable(target, "stores.dna")
    target.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    counts: Counter[str] = Counter()
    embedded = reused = bases = 0
    with tqdm(desc="DNA embeddings", unit="sequence", disable=not progress) as bar:
        for region in haplotypes:
            if region.name in names:
                raise ValueError(f"DNA store: every region needs a name of its own, got {region.name} twice.\n  fix: rename one.")
            names.add(region.name)
            counts.update(region.counts)
            bar.set_postfix_str(region.name)
            new = _update_region(region_path(target, region.name), region, encoder, pooling, strands, bar)
            embedded += len(new)
            reused += len({*region.sequences, region.reference}) - len(new)
            bases += sum(map(len, new))
    return StoreSummary(target, len(names), embedded, reused, bases, time.perf_counter() - began, dict(counts))


def describe_build(summary: StoreSummary) -> str:
    """What `build` did, and on a line of its own which alleles stand in no sequence."""
    told = (
        f"{summary.sequences_embedded:,} sequences, {summary.bases:,} bases embedded in {summary.seconds:.1f} s; "
        f"{summary.sequences_reused:,} sequences taken from {summary.folder}"
    )
    return "\n".join([told, *filter(None, [describe_counts(summary.counts)])])


class DNAStore:
    """Embeddings of people's haplotypes, held as distinct vectors and an index.

    Memory: the distinct vectors of all regions (n · D · 4 bytes) and 8 bytes a person and region; `features` expands only the
    people it is asked for.

    Attributes:
        regions: region names, the order of axis R.
        width: D.
        header: fingerprint, description, pooling, strands of the encoder that made the vectors.
        places: by region name its contig:start-end (0-based, half-open) and the SHA-256 of its reference sequence.
        sample_ids: people who have every region; `samples` the same as a set.
        reference: (R, D) float32, embedding of each region's reference sequence.
        tables: per region the distinct vectors (n, D) float32, the reference's subtracted.
        reference_rows: per region the row of `tables` that is the reference sequence, all zeros.
        index: (len(sample_ids), R, H=2) int32 into the tables.
    """

    def __init__(self, folder: Path, regions: list[str], stored: list[StoredRegion]):
        """Join the files of `regions`; see `open_store`."""
        self.folder = folder
        self.regions = regions
        self.header = {key: stored[0].header[key] for key in ("fingerprint", "description", "pooling", "strands")}
        self.reference = np.stack([region.reference for region in stored])
        self.width = self.reference.shape[1]
        self.tables = [region.vectors - region.reference for region in stored]
        headers = {name: region.header for name, region in zip(regions, stored, strict=True)}
        self.places = {name: f"{h['contig']}:{h['start']}-{h['end']} {h['reference_sha256']}" for name, h in headers.items()}
        self.reference_rows = [int(region.header["reference_row"]) for region in stored]
        rows = [{sample: row for row, sample in enumerate(region.samples)} for region in stored]
        self.sample_ids = [sample for sample in stored[0].samples if all(sample in row for row in rows)]
        self.samples = frozenset(self.sample_ids)
        self._row = {sample: row for row, sample in enumerate(self.sample_ids)}
        columns = [region.index[[row[s] for s in self.sample_ids]] for region, row in zip(stored, rows, strict=True)]
        self.index = np.stack(columns, axis=1).reshape(len(self.sample_ids), len(regions), 2)

    def index_of(self, sample_ids: Sequence[str]) -> np.ndarray:
        """(n, R, 2) int32 into `tables`, for whoever wants to expand the features elsewhere, say on a GPU.

        Raises:
            ValueError: people whom the store lacks in some region.
        """
        absent = [sample for sample in sample_ids if sample not in self._row]
        if absent:
            raise ValueError(
                f"DNA store: {len(absent)} of {len(sample_ids)} people are not in all {len(self.regions)} regions, e.g. "
                f"{', '.join(map(str, absent[:3]))}; {len(self._row)} are, e.g. {', '.join(self.sample_ids[:3]) or 'none'}.\n"
                f"  file: {self.folder}\n  fix: build the store for these people too (recipes/embed_dna.py), or drop them."
            )
        return self.index[[self._row[sample] for sample in sample_ids]]

    def features(self, sample_ids: Sequence[str]) -> np.ndarray:
        """(n, R, H=2, D) float32: each haplotype's embedding minus that of the region's reference sequence.

        Raises:
            ValueError: people whom the store lacks in some region.
        """
        index_BRH = self.index_of(sample_ids)
        features_BRHD = np.empty((*index_BRH.shape, self.width), dtype=np.float32)
        for r, table in enumerate(self.tables):
            features_BRHD[:, r] = table[index_BRH[:, r]]
        return features_BRHD

    def feature_chunks(self, sample_ids: Sequence[str], people: int = 256) -> Iterator[np.ndarray]:
        """`features` of some people at a time, (≤ people, R, H=2, D), so that a biobank is never expanded at once."""
        for first in range(0, len(sample_ids), people):
            yield self.features(sample_ids[first : first + people])


def open_store(folder: str | Path, regions: Sequence[str] | None = None) -> DNAStore:
    """Open the store of one encoder.

    Args:
        folder: `StoreSummary.folder`, the one that is named after the encoder's fingerprint.
        regions: names, in this order; without it all of the store, by contig and position.

    Raises:
        FileNotFoundError: no store there, or regions that it lacks (all counted, the first listed).
        ValueError: an empty list of regions, a damaged file, files of different encoders or settings.
    """
    folder = Path(folder)
    if regions is not None and len(regions) == 0:
        raise ValueError(
            f"DNA store: at least one region is expected, got an empty list.\n  file: {folder}\n"
            "  fix: name the regions, or pass None for all of the store."
        )
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        inside = sorted(path.parent.name for path in folder.glob(f"*/*{SUFFIX}"))
        hint = f"open one of its stores: {', '.join(dict.fromkeys(inside))}" if inside else "build it with recipes/embed_dna.py"
        raise FileNotFoundError(f"DNA store: a folder with region files is expected, got none.\n  file: {folder}\n  fix: {hint}.")
    absent = [name for name in regions or [] if not region_path(folder, name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"DNA store: {len(regions)} regions are expected, got a store of {len(paths)} that lacks {len(absent)} of them:\n"
            f"{list_faults(absent)}  file: {folder}\n"
            f"  fix: build them with recipes/embed_dna.py; known are e.g. {', '.join(map(shown_name, paths[:3]))}."
        )
    read = map(read_region, paths if regions is None else [region_path(folder, name) for name in regions])
    stored = {region.header["name"]: region for region in read}
    order = list(stored)
    if regions is None:
        order.sort(key=lambda name: (stored[name].header["contig"], int(stored[name].header["start"]), name))
    for key in ("fingerprint", "pooling", "strands"):
        found = {stored[name].header[key]: name for name in order}
        if len(found) > 1:
            raise ValueError(
                f"DNA store: embeddings of one encoder are expected, got {len(found)} with different {key}: "
                f"{', '.join(f'{value[:12]} ({name})' for value, name in found.items())}.\n"
                f"  file: {folder}\n  fix: move the foreign files away; each encoder has a folder of its own."
            )
    return DNAStore(folder, order, [stored[name] for name in order])


def variant_sensitivity(store: DNAStore) -> pd.DataFrame:
    """Whether the encoder tells people apart: how far embeddings lie from the reference's, against float32 rounding.

    Returns:
        One row a region: `region`, `sequences` (distinct among the store's people, without the reference sequence), `distance`
        (median Euclidean distance of their embeddings from the reference's), `noise` (float32 epsilon × norm of the reference's
        embedding), `ratio` of the two, and `below_noise`, the number of these sequences whose embedding cannot be told from the
        reference's although their bases differ. NaN where all people carry the reference.
    """
    rows = []
    for r, table in enumerate(store.tables):
        carried = np.setdiff1d(store.index[:, r], store.reference_rows[r])
        distance = np.linalg.norm(table[carried].astype(np.float64), axis=1)
        noise = float(np.finfo(np.float32).eps * np.linalg.norm(store.reference[r].astype(np.float64)))
        middle = float(np.median(distance)) if distance.size else float("nan")
        ratio = middle / noise if noise > 0 else float("nan")
        rows.append((store.regions[r], carried.size, middle, noise, ratio, int((distance <= noise).sum())))
    return pd.DataFrame(rows, columns=["region", "sequences", "distance", "noise", "ratio", "below_noise"])


def _update_region(
    path: Path, region: RegionHaplotypes, encoder: FrozenEncoder, pooling: str, strands: str, bar: tqdm
) -> list[str]:
    """Bring one file up to date; returns the sequences that had to be embedded. A file that is up to date is left alone."""
    header = _header(region, encoder, pooling, strands)
    old = _read_or_set_aside(path)
    if old is not None:
        check_settings(old.header, header, path)
    same_place = old is not None and all(old.header[key] == header[key] for key in ("contig", "start", "end", "reference_sha256"))
    if same_place and (staying := set(old.samples).difference(region.samples)):
        join_policies(old.header, header, len(staying), path)
    row_of = {} if old is None else {digest.tobytes(): row for row, digest in enumerate(old.hashes)}
    wanted = {_hash(sequence): sequence for sequence in [*region.sequences, region.reference]}
    new = {digest: sequence for digest, sequence in wanted.items() if digest not in row_of}
    if new or not same_place or not set(region.samples) <= set(old.samples):
        require_writable(path.parent, "stores.dna")
    vectors = _embed(list(new.values()), region.name, len(region.reference), encoder, pooling, strands, bar)
    row_of |= {digest: len(row_of) + i for i, digest in enumerate(new)}
    bar.update(len(wanted) - len(new))

    row_of_sequence = np.array([row_of[_hash(sequence)] for sequence in region.sequences], dtype=np.int32)
    people = dict(zip(region.samples, row_of_sequence[region.index], strict=True))
    if same_place:
        people = dict(zip(old.samples, old.index, strict=True)) | people
    index = np.array(list(people.values()), dtype=np.int32).reshape(len(people), 2)
    unchanged = same_place and not new and all(old.header[key] == header[key] for key in SOURCE_FACTS)
    if unchanged and list(people) == old.samples and np.array_equal(index, old.index):
        return []
    if old is not None:
        vectors = np.concatenate([old.vectors, vectors])
    hashes = np.frombuffer(b"".join(row_of), dtype=np.uint8).reshape(len(row_of), 32)
    reference_row = row_of[_hash(region.reference)]
    header["reference_row"] = str(reference_row)
    write_region(path, StoredRegion(vectors, hashes, vectors[reference_row], index, list(people), header))
    return list(new.values())


def _header(region: RegionHaplotypes, encoder: FrozenEncoder, pooling: str, strands: str) -> dict[str, str]:
    """What a file says of itself."""
    return {
        "name": region.name,
        "contig": region.contig,
        "start": str(region.start),
        "end": str(region.end),
        "strand": region.strand,
        "reference_sha256": _hash(region.reference).hex(),
        "fingerprint": encoder.fingerprint,
        "description": encoder.description,
        "pooling": pooling,
        "strands": strands,
        "counts": json.dumps(region.counts),
        "unphased": region.unphased,
        "missing": region.missing,
        "region_window": "" if region.window is None else str(region.window),
    }


def _embed(
    sequences: list[str], name: str, reference_length: int, encoder: FrozenEncoder, pooling: str, strands: str, bar: tqdm
) -> np.ndarray:
    """(len(sequences), width) float32; sorted by length on the way, so that the encoder finds batches of equal length."""
    longest = max(map(len, sequences), default=0)
    if longest > encoder.max_bases:
        window = max(encoder.max_bases - (longest - reference_length), 1)
        raise ValueError(
            f"DNA store: at most {encoder.max_bases:,} bases fit the encoder, got a sequence of {longest:,} in region {name}.\n"
            f"  fix: set data.region_window={window} (or less), or drop the region."
        )
    vectors = np.empty((len(sequences), encoder.width), dtype=np.float32)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for first in range(0, len(order), SEQUENCES_AT_ONCE):
        part = order[first : first + SEQUENCES_AT_ONCE]
        embedded = np.asarray(encoder.embed([sequences[i] for i in part], pooling=pooling, strands=strands))
        if embedded.shape != (len(part), encoder.width) or not np.isfinite(embedded).all():
            raise ValueError(
                f"DNA store: finite embeddings of shape {(len(part), encoder.width)} are expected of {encoder.description}, "
                f"got shape {embedded.shape} with {np.count_nonzero(~np.isfinite(embedded))} other values in region {name}.\n"
                "  fix: check the checkpoint, or run the encoder in float32."
            )
        vectors[part] = embedded
        bar.update(len(part))
    return vectors


def _read_or_set_aside(path: Path) -> StoredRegion | None:
    """What a file holds; None where there is none or, then renamed, a damaged one."""
    if not path.exists():
        return None
    try:
        return read_region(path)
    except ValueError as error:
        aside = path.replace(path.with_name(f"{path.name}.damaged"))
        logger.warning(
            "%s\n  file: %s\n  It is embedded anew; people whom only earlier builds named must be named again.",
            str(error).splitlines()[0],
            aside,
        )
        return None


def _hash(sequence: str) -> bytes:
    """SHA-256 of a sequence: what an embedding is found by."""
    return hashlib.sha256(sequence.encode()).digest()

"""Stored DNA: the region files of one encoder flow in; people's features, each beside its region's reference, flow out."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainmt_align.data.dna_region_file import SETTINGS, SUFFIX, StoredRegion, read_region, region_path, shown_name
from brainmt_align.listing import list_faults

USUAL = {"symbolic": "apply", "mismatch": "error", "undecided": "error", "oriented": "plus"}  # not spoken of


class DNAStore:
    """Embeddings of people's haplotypes, held as distinct vectors and an index.

    Memory: the distinct vectors of all regions (n · D · 4 bytes) and 8 bytes a person and region; `features` expands only the
    people it is asked for.

    Attributes:
        regions: region names, the order of axis R.
        width: D.
        header: fingerprint, description, pooling, strands and, where they are not the usual ones, overlap, symbolic,
            mismatch, undecided and oriented: what made the vectors.
        sites: by region name the positions in its contig that vectors are pooled at; empty unless pooling is at variants.
        places: by region name its `Region.place` (0-based, half-open) and the SHA-256 of its reference sequence.
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
        self.header = {key: stored[0].header[key] for key in ("description", *SETTINGS) if stored[0].header[key]}
        self.header |= {key: each.header[key] for each in stored for key, usual in USUAL.items() if each.header[key] != usual}
        self.reference = np.stack([region.reference for region in stored])
        self.width = self.reference.shape[1]
        self.tables = [region.vectors - region.reference for region in stored]
        headers = {name: region.header for name, region in zip(regions, stored, strict=True)}
        self.places = {name: f"{_place(h)} {h['reference_sha256']}" for name, h in headers.items()}
        self.sites = {name: json.loads(h["sites"]) for name, h in headers.items() if h["sites"]}
        self.reference_rows = [int(region.header["reference_row"]) for region in stored]
        rows = [{sample: row for row, sample in enumerate(region.samples)} for region in stored]
        self.sample_ids = [sample for sample in stored[0].samples if all(sample in row for row in rows)]
        self.samples = frozenset(self.sample_ids)
        self._row = {sample: row for row, sample in enumerate(self.sample_ids)}
        columns = [region.index[[row[s] for s in self.sample_ids]] for region, row in zip(stored, rows, strict=True)]
        self.index = np.stack(columns, axis=1).reshape(len(self.sample_ids), len(regions), 2)

    @property
    def description(self) -> dict[str, Any]:
        """What a checkpoint records of the store: what made the vectors, and of which regions, in their order."""
        return {**self.header, "regions": self.places, **({"sites": self.sites} if self.sites else {})}

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


def _place(header: dict[str, str]) -> str:
    """As `Region.place` writes it; files that do not say it are older than regions in parts."""
    return header["place"] if "place" in header else f"{header['contig']}:{header['start']}-{header['end']}"


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
    for key in SETTINGS:
        found = {stored[name].header[key]: name for name in order}
        if len(found) > 1:
            raise ValueError(
                f"DNA store: embeddings of one encoder are expected, got {len(found)} with different {key}: "
                f"{', '.join(f'{value[:12] or None} ({name})' for value, name in found.items())}.\n"
                f"  file: {folder}\n  fix: move the foreign files away; each encoder has a folder of its own."
            )
    return DNAStore(folder, order, [stored[name] for name in order])

"""Allele cache: a region's distinct alleles and tally flow in, packed; a file, and the same back without the genotypes, flow out.

A cohort's genotypes are read once: by the process that checks them, and not again by those that embed, nor by later launches.
A file is found by everything that its content depends on: the genotypes and the tables beside them (name, size and time of change
of each), options, region, the reference bases there, samples and policies. It holds genotypes, so it stays where the stores are.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from brainmt_align.atomic import write_atomically
from brainmt_align.data.alleles import GenotypeOptions
from brainmt_align.data.distinct_alleles import DistinctAlleles, is_binary, pack
from brainmt_align.data.genotype_tally import Tally
from brainmt_align.data.regions import Region

logger = logging.getLogger(__name__)

Parts = tuple[tuple[int, int], ...]  # of a region

FORMAT = "brainmt-align alleles 3"


class KeptAlleles(NamedTuple):
    """What a file holds of one region in one piece."""

    found: DistinctAlleles
    tally: Tally


class AlleleCache:
    """Files of one cohort and its policies in one folder.

    Attributes:
        folder: made when the first file is written.
    """

    def __init__(self, folder: str | Path, samples: Sequence[str], options: GenotypeOptions, policies: dict[str, str]):
        """What all regions have in common.

        Args:
            folder: of the cache.
            samples: in the order of the request.
            options: how the file was opened.
            policies: unphased, missing, mismatch, undecided and whatever else decides on allele vectors.
        """
        self.folder = Path(folder)
        self._writable = True
        self._samples = list(samples)
        self._own = {
            "format": FORMAT,
            "options": [str(value) for value in options],
            "samples": hashlib.sha256("\n".join(samples).encode()).hexdigest(),
            "policies": policies,
        }

    def load(self, region: Region, bases: str, files: Sequence[Path], parts: Parts = ()) -> KeptAlleles | None:
        """What is kept of a region in one piece, None where nothing is.

        A damaged file is passed over with a warning, and replaced when the region is saved.

        Args:
            region: in one piece.
            bases: its reference sequence.
            files: of its contig, see `alleles.GenotypeReader.files_of`.
            parts: of the region that it is one of, whose phase sets are told together.
        """
        path = self._path(region, bases, files, parts)
        if not path.is_file():
            return None
        try:
            return self._read(path)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            logger.warning("Allele cache: a damaged file is read anew from the genotypes (%s).\n  file: %s", error, path)
            return None

    def save(
        self,
        region: Region,
        bases: str,
        files: Sequence[Path],
        found: DistinctAlleles,
        tally: Tally,
        parts: Parts = (),
    ) -> None:
        """Keep the distinct alleles and the tally of a region in one piece; arguments as of `load`.

        Where nothing can be written, a warning says so once, and genotypes are read each time.
        """
        if not self._writable:
            return
        packed = pack(found.rows)
        tensors = {"positions": found.positions, "stops": found.stops, "rows": packed, "index": found.index}
        tensors |= {"missing": tally.missing_S}
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        told = {"refs": found.refs, "alts": found.alts, "counts": found.counts, "tally": tally.counts}
        told |= {"kind": str(found.rows.dtype), "bits": is_binary(found.rows)}
        metadata = {"told": json.dumps(told), "content_sha256": _content_hash(tensors, told)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(region, bases, files, parts), lambda partial: save_file(tensors, partial, metadata))
        except (OSError, SafetensorError) as error:
            self._writable = False
            logger.warning(
                "Allele cache: a place to write to was expected, got one that refuses: %s. Genotypes are read each time.\n"
                "  file: %s\n  fix: set stores.alleles= to another place.",
                error,
                self.folder,
            )

    def _path(self, region: Region, bases: str, files: Sequence[Path], parts: Parts) -> Path:
        """The file's name is a hash: regions' names may hold anything."""
        place = [region.contig.removeprefix("chr"), region.start, region.end, hashlib.sha256(bases.encode()).hexdigest(), parts]
        source = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        text = json.dumps(self._own | {"region": place, "genotypes": source}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def _read(self, path: Path) -> KeptAlleles:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in ("positions", "stops", "rows", "index", "missing")}
        told = json.loads(metadata["told"])
        if metadata["content_sha256"] != _content_hash(tensors, told):
            raise ValueError("its contents do not fit their hash")
        if told["bits"]:
            rows = np.unpackbits(tensors["rows"], axis=1, count=len(told["refs"])).astype(told["kind"])
        else:
            rows = tensors["rows"].view(told["kind"])
        alts = [tuple(each) for each in told["alts"]]
        sites = tensors["positions"], tensors["stops"], told["refs"], alts
        found = DistinctAlleles(*sites, rows, tensors["index"], self._samples, told["counts"])
        return KeptAlleles(found, Tally(told["tally"], tensors["missing"]))


def _content_hash(tensors: dict[str, np.ndarray], told: dict) -> str:
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(repr((name, tensors[name].dtype.str, tensors[name].shape)).encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()

"""Part files: some of a region's new vectors flow in, safe from a kill; what launches before this one had finished flows out.

Parts lie beside their region's file, in `<region file>.parts/<sequences>-<hash of their hashes>`. A part says which encoder and
settings made it, and holds a hash over everything else in it. Every process of a launch writes parts of its own; the main process
joins them into the region's file and removes them.
"""

import contextlib
import hashlib
import logging
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from brainmt_align.atomic import write_atomically
from brainmt_align.data.dna_region_file import SETTINGS, content_hash, read_tensors
from brainmt_align.data.dna_region_file import set_aside as put_aside

logger = logging.getLogger(__name__)

FORMAT = "brainmt-align dna part 1"
TENSORS = ("embeddings", "sha256")
NAME = re.compile(r"(\d+)-[0-9a-f]{16}")
IDENTITY = ("name", *SETTINGS)  # of a region's header, and of each of its parts


class Parts(NamedTuple):
    """What the parts of a region hold: SHA-256 → vector (D,) float32, and the files themselves."""

    vector_of: dict[bytes, np.ndarray]
    files: list[Path]


def write_part(region_file: Path, header: dict[str, str], vectors: np.ndarray, hashes: list[bytes]) -> Path:
    """Keep finished vectors in one step.

    Args:
        region_file: of the region; the part lies beside it.
        header: of the region, which holds IDENTITY.
        vectors: (n, D) float32.
        hashes: SHA-256 of the n sequences.

    Returns:
        The part.
    """
    folder = _parts_folder(region_file)
    folder.mkdir(exist_ok=True)
    name = f"{len(hashes)}-{hashlib.sha256(b''.join(hashes)).hexdigest()[:16]}"
    rows = np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(len(hashes), 32)
    tensors = dict(zip(TENSORS, (np.ascontiguousarray(vectors), rows), strict=True))
    metadata = {**{key: header[key] for key in IDENTITY}, "format": FORMAT}
    metadata["content_sha256"] = content_hash(tensors, metadata)
    return write_atomically(folder / name, lambda partial: save_file(tensors, partial, metadata))


def read_parts(region_file: Path, header: dict[str, str], set_aside: bool = False) -> Parts:
    """The whole parts of a region that this encoder and these settings made.

    Args:
        region_file: of the region.
        header: of the region as it is to be; parts of another IDENTITY are left where they are and not used.
        set_aside: warn of parts that cannot be used, and rename damaged ones to `<name>.damaged`. One process of a launch does.

    Raises:
        OSError: a part cannot be opened; that says nothing of what is in it.
    """
    vector_of: dict[bytes, np.ndarray] = {}
    files = []
    for path in sorted(_part_paths(region_file)):
        try:
            metadata, tensors = read_tensors(path, TENSORS)
            if metadata.pop("content_sha256") != content_hash(tensors, metadata) or metadata["format"] != FORMAT:
                raise ValueError("its contents do not fit their hash or its format")
        except (SafetensorError, KeyError, ValueError) as error:
            if set_aside:
                aside = put_aside(path)
                logger.warning("DNA store: a part is damaged (%s); its sequences are embedded again.\n  file: %s", error, aside)
            continue
        different = [key for key in IDENTITY if metadata[key] != header[key]]
        if different:
            if set_aside:
                logger.warning("DNA store: a part is of another %s and not used.\n  file: %s", ", ".join(different), path)
            continue
        rows = zip(tensors["sha256"], tensors["embeddings"], strict=True)
        vector_of.update((digest.tobytes(), vector) for digest, vector in rows)
        files.append(path)
    return Parts(vector_of, files)


def count_in_parts(region_file: Path) -> int:
    """Sequences in all parts of a region, told from the files' names: how far the processes of a launch are together."""
    return sum(int(path.name.partition("-")[0]) for path in _part_paths(region_file))


def has_parts(region_file: Path) -> bool:
    """Whether a region has a folder of parts, whatever is in it."""
    return _parts_folder(region_file).is_dir()


def remove_parts(region_file: Path, files: list[Path]) -> None:
    """Remove parts whose vectors are in the region's file, what a kill left half written, and their folder if that empties it."""
    folder = _parts_folder(region_file)
    for path in [*files, *folder.glob("*.partial-*")]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or damaged and foreign parts in it
        folder.rmdir()


def _part_paths(region_file: Path) -> list[Path]:
    folder = _parts_folder(region_file)
    return [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []


def _parts_folder(region_file: Path) -> Path:
    return region_file.with_name(f"{region_file.name}.parts")

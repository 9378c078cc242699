"""Region files: distinct vectors and people of one region flow in; a checked safetensors file, and the same back, flow out.

The file's name is the region's, percent-quoted, and cut behind 180 characters, with a hash in place of the rest: the true name is
in the metadata. There too is a hash over everything else in the file, so that not one flipped bit is taken for an embedding.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from brainmt_align.atomic import write_atomically

FORMAT = "brainmt-align dna store 3"
SUFFIX = ".safetensors"
TENSORS = ("embeddings", "sha256", "reference", "index")
LONGEST_STEM = 180
HASH_LETTERS = 32
ON_RECORDS = ("symbolic", "mismatch", "undecided")  # that decide what anybody's sequence may hold
POLICIES = ("unphased", "missing", "symbolic", "mismatch", "undecided")
NO_EFFECT = "error"  # a policy under which genotypes that it would decide on do not come through
SOURCE_FACTS = (*POLICIES, "region_window", "sites")
SETTINGS = ("fingerprint", "pooling", "strands", "overlap")  # an encoder and how it is asked: what makes a store one store
BEFORE = {
    "overlap": "",
    "symbolic": "apply",
    "mismatch": "error",
    "undecided": "error",
    "oriented": "plus",
    "sites": "",
}  # of older files


class StoredRegion(NamedTuple):
    """One file: vectors (n, D) float32, hashes (n, 32) uint8, reference (D,), index (samples, 2) int32 into vectors."""

    vectors: np.ndarray
    hashes: np.ndarray
    reference: np.ndarray
    index: np.ndarray
    samples: list[str]
    header: dict[str, str]


def region_path(folder: Path, name: str) -> Path:
    """Where a region lies in a store."""
    stem = quote(name, safe="")
    if len(stem) > LONGEST_STEM:  # "=" is never in a quoted name
        stem = f"{stem[: LONGEST_STEM - HASH_LETTERS - 1]}={hashlib.sha256(name.encode()).hexdigest()[:HASH_LETTERS]}"
    return folder / f"{stem}{SUFFIX}"


def shown_name(path: Path) -> str:
    """The region's name as far as the file's name tells it."""
    return unquote(path.name.removesuffix(SUFFIX))


def read_region(path: Path) -> StoredRegion:
    """One file of a store, checked against its hash.

    Raises:
        ValueError: damaged, of another kind or format, of another region than its name says, values that are not finite.
        OSError: the file cannot be opened; that says nothing of what is in it.
    """
    try:
        metadata, tensors = read_tensors(path, TENSORS)
        if metadata["format"] != FORMAT:
            raise ValueError(f"format {metadata['format']!r}")
        if metadata.pop("content_sha256") != content_hash(tensors, metadata):
            raise ValueError("its contents do not fit their hash")
        if not (np.isfinite(tensors["embeddings"]).all() and np.isfinite(tensors["reference"]).all()):
            raise ValueError("its embeddings are not finite")
        if path.name != region_path(path.parent, metadata["name"]).name:
            raise ValueError(f"it holds region {metadata['name']}")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"DNA store: a region file of format {FORMAT!r} is expected, got one that is damaged or of another kind ({error}).\n"
            f"  file: {path}\n  fix: build the store again; that sets this file aside and keeps the other regions."
        ) from error
    samples = json.loads(metadata.pop("samples"))
    return StoredRegion(*(tensors[name] for name in TENSORS), samples, BEFORE | metadata)


def read_tensors(path: Path, names: tuple[str, ...]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and the named tensors of a file, unchecked.

    Raises:
        SafetensorError: no safetensors file, or one without these tensors.
        OSError: the file cannot be opened.
    """
    with path.open("rb"):  # safetensors takes whatever keeps a file from being opened for its absence
        try:
            with safe_open(path, framework="numpy") as file:
                return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}
        except OSError as error:
            error.add_note(f"  file: {path}")
            raise


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `<name>.damaged`, with a number behind that where it is not the first; returns the new path."""
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return path.replace(aside)


def write_region(path: Path, stored: StoredRegion) -> None:
    """Replace one file of a store at once."""
    tensors = dict(zip(TENSORS, map(np.ascontiguousarray, stored[: len(TENSORS)]), strict=True))
    metadata = {**stored.header, "format": FORMAT, "samples": json.dumps(stored.samples)}
    metadata["content_sha256"] = content_hash(tensors, metadata)
    write_atomically(path, lambda partial: save_file(tensors, partial, metadata))


def check_settings(old: dict[str, str], new: dict[str, str], path: Path) -> None:
    """A file is only added to with what its own encoder and settings make.

    Raises:
        ValueError: another encoder, pooling, strands or overlap.
    """
    different = [key for key in SETTINGS if old[key] != new[key]]
    if different:
        raise ValueError(
            f"DNA store: a file of {', '.join(f'{key} {new[key] or None}' for key in different)} is expected, "
            f"got {', '.join(f'{key} {old[key] or None}' for key in different)}.\n"
            f"  file: {path}\n  fix: move the file away, or set stores.dna to another folder."
        )


def join_policies(old: dict[str, str], new: dict[str, str], staying: int, path: Path) -> None:
    """Set in `new` the policies of a file that keeps `staying` people of `old`; two that may differ in effect are refused.

    "error" on calls lets everybody in who had none of such calls. On records it means that none was left out, which differs from
    a policy by which some were.

    Raises:
        ValueError: two policies on calls other than "error", or any two on records.
    """
    for key in POLICIES:
        if new[key] == NO_EFFECT and key not in ON_RECORDS:
            new[key] = old[key]
        elif old[key] not in ((new[key],) if key in ON_RECORDS else (new[key], NO_EFFECT)):
            raise ValueError(
                f"DNA store: genotypes taken with {key}={new[key]} are expected in region {new['name']}, got {staying} people "
                f"who stay in the file with {key}={old[key]}.\n"
                f"  file: {path}\n  fix: name these people again, set data.{key}={old[key]}, or set stores.dna to another folder."
            )


def content_hash(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 over the metadata and over name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(tensor.reshape(-1).view(np.uint8))
    return digest.hexdigest()

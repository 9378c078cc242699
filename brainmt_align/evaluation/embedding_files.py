"""Embedding files: rows of people with their table flow in, a safetensors and Parquet pair flows out; and back, checked."""

import hashlib
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from brainmt_align.atomic import write_atomically
from brainmt_align.evaluation.questions import to_float
from brainmt_align.listing import some

FORMAT, VERSION = "brainmt_align.embeddings", "1"
SIDES = ("fmri", "dna")
UNIT_TOLERANCE = 1e-3  # of a norm; what bfloat16 rows lose is below


class Embeddings(NamedTuple):
    """Rows of both sides and whose they are."""

    fmri: np.ndarray  # (M_f, E) float32 unit rows of scans
    dna: np.ndarray  # (M_d, E) float32 unit rows of genomes
    people: pd.DataFrame  # one row a person, subject_id (str) first
    fmri_person: np.ndarray  # (M_f,) int64 row of `people` that each scan's row belongs to
    dna_person: np.ndarray  # (M_d,) int64
    model: str | None  # fingerprint of the model that made the rows


def write_embeddings(embeddings: Embeddings, folder: str | Path, name: str = "embeddings") -> Path:
    """Write NAME.safetensors and NAME.parquet; each is the whole new file or the untouched old one.

    Returns:
        The safetensors file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {side: np.ascontiguousarray(getattr(embeddings, side)) for side in SIDES}
    for side in SIDES:
        person = getattr(embeddings, f"{side}_person")
        if not np.array_equal(person, np.arange(len(embeddings.people))):
            tensors[f"{side}_person"] = person
    header = {"format": FORMAT, "version": VERSION, "subjects_sha256": _subjects_sha256(embeddings.people)}
    if embeddings.model is not None:
        header["model"] = embeddings.model
    write_atomically(folder / f"{name}.parquet", lambda path: embeddings.people.to_parquet(path, index=False))
    return write_atomically(folder / f"{name}.safetensors", lambda path: save_file(tensors, path, metadata=header))


def read_embeddings(place: str | Path, name: str = "embeddings", model: str | None = None) -> Embeddings:
    """Read a pair as it lies, also one without metadata; `check_embeddings` has yet to see it.

    Args:
        place: the folder of NAME.safetensors and NAME.parquet, or either file.
        name: of both files; what `place` says where that is a file.
        model: fingerprint that the rows must have been made with; files that name none are taken, with a warning.

    Raises:
        FileNotFoundError: a file of the pair is missing.
        ValueError: not such a pair; rows and people that differ in number; people of another pair; rows of another model.
    """
    tensors_path, people_path = _pair(Path(place), name)
    with safe_open(tensors_path, "numpy") as file:
        header = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    people = pd.read_parquet(people_path)
    if not set(SIDES) <= set(tensors) or header.get("version", VERSION) != VERSION or "subject_id" not in people:
        raise ValueError(
            f"Index: expected tensors fmri and dna of version {VERSION} and people with subject_id, got tensors "
            f"{', '.join(tensors)} of version {header.get('version', VERSION)} and columns {', '.join(people.columns)}.\n"
            f"  file: {tensors_path}\n  fix: give the embeddings of an alignment's run folder, or what EmbeddingIndex.save left."
        )
    if header.get("subjects_sha256", _subjects_sha256(people)) != _subjects_sha256(people):
        raise ValueError(
            "Index: expected the people that the embeddings were saved with, in their order, got other ids or another order.\n"
            f"  file: {people_path}\n  fix: restore the table that belongs to {tensors_path.name}; to add columns, hand "
            "open_index a table as people=."
        )
    _require_model(header.get("model"), model, tensors_path)
    owners = [tensors.get(f"{side}_person") for side in SIDES]
    return Embeddings(tensors["fmri"], tensors["dna"], people, *owners, header.get("model"))


def check_embeddings(embeddings: Embeddings, where: str) -> Embeddings:
    """Rows and people as they are served, or the reason why not.

    Args:
        embeddings: arrays or tensors on a CPU, of any float type; fmri_person or dna_person None where row i is person i.
        where: file or place, for messages.

    Raises:
        ValueError: subject_id missing or twice; rows that do not match the people or each other in width; rows that are not
            finite or not of unit norm, with their people.

    Warns:
        UserWarning: people that share a vector bit for bit, with their number.
    """
    people = _check_people(embeddings.people, where)
    rows, owners = {}, {}
    for side in SIDES:
        rows[side] = np.ascontiguousarray(to_float(getattr(embeddings, side)), np.float32)
        owners[side] = _check_owners(side, rows[side], getattr(embeddings, f"{side}_person"), len(people), where)
    if rows["fmri"].shape[1] != rows["dna"].shape[1]:
        raise ValueError(
            f"Index: expected scans and genomes in one space, got {rows['fmri'].shape[1]} and {rows['dna'].shape[1]} numbers a "
            f"row.\n  where: {where}\n  fix: take both from one alignment."
        )
    ids = people["subject_id"].to_numpy()
    for side in SIDES:
        _check_rows(side, rows[side], ids[owners[side]], where)
        _warn_of_duplicates(side, rows[side], owners[side], where)
    return Embeddings(rows["fmri"], rows["dna"], people, owners["fmri"], owners["dna"], embeddings.model)


def join_people(embedded: pd.DataFrame, table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table's rows of the embedded people, in their order; the table may hold more people and columns.

    Raises:
        ValueError: subject_id missing or twice in the table, or embedded people that it does not hold.
    """
    table = _check_people(table, "the table handed over as people=")
    missing = embedded.loc[~embedded["subject_id"].isin(table["subject_id"]), "subject_id"]
    if len(missing):
        other = table.loc[~table["subject_id"].isin(embedded["subject_id"]), "subject_id"]
        raise ValueError(
            f"Index: expected the table to hold all {len(embedded)} embedded people, got one without {len(missing)} of them: "
            f"{some(list(missing), 10)}.\n  where: {where}\n"
            f"  fix: add them; the table's people without embeddings are {len(other)}"
            f"{': ' + some(list(other), 10) if len(other) else ''}, perhaps the same in another spelling."
        )
    return table.set_index("subject_id").loc[embedded["subject_id"]].reset_index()


def _pair(place: Path, name: str) -> tuple[Path, Path]:
    if place.suffix in (".safetensors", ".parquet"):
        place, name = place.parent, place.stem
    pair = place / f"{name}.safetensors", place / f"{name}.parquet"
    missing = [path for path in pair if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"Index: expected {pair[0].name} and {pair[1].name} side by side, "
            f"got no {' and no '.join(path.name for path in missing)}.\n"
            f"  file: {missing[0]}\n  fix: give the run folder of an alignment, or copy both files together."
        )
    return pair


def _require_model(made_by: str | None, model: str | None, path: Path) -> None:
    if model is not None and made_by is None:
        warnings.warn(
            f"Index: the embeddings do not say which model made them; whether it was {model} cannot be told.\n  file: {path}",
            UserWarning,
            stacklevel=4,
        )
    elif model is not None and model != made_by:
        raise ValueError(
            f"Index: expected embeddings of model {model}, got those of another model, {made_by}.\n  file: {path}\n"
            "  fix: embed these people with this model, or query with the model that made the index."
        )


def _check_people(people: pd.DataFrame, where: str) -> pd.DataFrame:
    if "subject_id" not in people or not len(people):
        raise ValueError(
            f"Index: expected people with a column subject_id, got {len(people)} rows with columns "
            f"{', '.join(map(str, people.columns))}.\n  where: {where}\n  fix: name the column of ids subject_id."
        )
    people = people.assign(subject_id=people["subject_id"].astype(str)).reset_index(drop=True)
    twice = people.loc[people["subject_id"].duplicated(), "subject_id"].unique()
    if len(twice):
        raise ValueError(
            f"Index: expected every subject once, got {len(twice)} ids more than once: {some(list(twice), 10)}.\n"
            f"  where: {where}\n  fix: keep one row a person; several windows of a person go to fmri_person and dna_person."
        )
    return people[["subject_id", *(column for column in people if column != "subject_id")]]


def _check_owners(side: str, rows_ME: np.ndarray, person_M, num_people: int, where: str) -> np.ndarray:
    if rows_ME.ndim != 2 or (person_M is None and len(rows_ME) != num_people) or not rows_ME.size:
        raise ValueError(
            f"Index: expected one row of {side} a person, {num_people} of them, got an array of {rows_ME.shape}.\n"
            f"  where: {where}\n  fix: take rows and people of one run; where people have several rows or none, say whose each "
            f"row is with {side}_person."
        )
    person_M = np.arange(num_people) if person_M is None else np.asarray(person_M)
    integer = np.issubdtype(person_M.dtype, np.integer)
    if not integer or person_M.shape != rows_ME.shape[:1] or person_M.min() < 0 or person_M.max() >= num_people:
        raise ValueError(
            f"Index: expected {side}_person to name a person, 0 to {num_people - 1}, for each of {len(rows_ME)} rows, got "
            f"{person_M.dtype} of shape {person_M.shape}.\n  where: {where}\n  fix: give the row number in the table of people."
        )
    return person_M.astype(np.int64)


def _check_rows(side: str, rows_ME: np.ndarray, ids_M: np.ndarray, where: str) -> None:
    norm_M = np.sqrt(np.einsum("me,me->m", rows_ME, rows_ME))
    not_finite = ~np.isfinite(norm_M)
    if not_finite.any():
        raise ValueError(
            f"Index: expected finite embeddings, got NaN or infinity in {not_finite.sum()} of {len(rows_ME)} rows of {side}: "
            f"{some(pd.unique(ids_M[not_finite]), 10)}.\n  where: {where}\n  fix: look for a diverged training or a broken input "
            "of these people."
        )
    not_unit = np.abs(norm_M - 1) > UNIT_TOLERANCE
    if not_unit.any():
        raise ValueError(
            f"Index: expected rows of unit norm, got norms {norm_M.min():.4g} … {norm_M.max():.4g} in {side}, among them "
            f"{some(pd.unique(ids_M[not_unit]), 10)}.\n  where: {where}\n  fix: divide every row by its norm."
        )


def _warn_of_duplicates(side: str, rows_ME: np.ndarray, person_M: np.ndarray, where: str) -> None:
    """Rows that different people share bit for bit; told by a 64-bit hash of their bytes."""
    table = pd.DataFrame({"vector": [hash(row.tobytes()) for row in rows_ME], "person": person_M}).drop_duplicates()
    shared = table["vector"].duplicated(keep=False)
    if shared.any():
        vectors, people = table.loc[shared, "vector"].nunique(), table.loc[shared, "person"].nunique()
        warnings.warn(
            f"Index: {people} of {len(np.unique(person_M))} people share {vectors} vector{'s' * (vectors > 1)} of {side} with "
            "somebody else, and retrieval cannot tell them apart: collapsed embeddings, or people whose input is the same.\n"
            f"  where: {where}",
            UserWarning,
            stacklevel=5,
        )


def _subjects_sha256(people: pd.DataFrame) -> str:
    return hashlib.sha256("\n".join(people["subject_id"].astype(str)).encode()).hexdigest()

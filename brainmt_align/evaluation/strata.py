"""Strata: columns of the people table flow in; a stratum for every person, and what was merged or left out, flow out."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainmt_align.data.phenotype_presets import require_columns
from brainmt_align.data.tables import holds_numbers
from brainmt_align.listing import some

MOST_LEVELS = 10  # a column of numbers with more distinct values than this is cut into bands
ROUNDING = 1e-9  # of a band's width: a value this near below a band's beginning is at it, as 0.3 is with bands of 0.1


class Strata(NamedTuple):
    """Who is compared with whom alone."""

    labels_N: np.ndarray  # (N,) object: text, or None where a person is left out
    columns: tuple[str, ...]  # most important first
    people: dict[str, int]  # label → how many, in the order of the labels
    notes: tuple[str, ...]  # what was cut, merged and left out


def make_strata(
    people: pd.DataFrame, columns: Sequence[str], bands: Mapping[str, float] | None = None, min_people: int = 10
) -> Strata:
    """Divide people by several columns; too small strata are merged from the least important column on.

    Strata of fewer than `min_people` forget the last-named column and are pooled with the other too small ones that agree in the
    columns left, again and again; the first-named column is never forgotten. Who is still among too few is left out.

    Args:
        people: (N rows) one row a person, with subject_id and the columns.
        columns: most important first. Text, booleans and numbers of at most 10 distinct values are taken as they are; other
            numbers are cut into bands, by the width given, or else into quarters of the people.
        bands: column → width of its bands in the column's unit; a band begins at a multiple of the width.
        min_people: the fewest that may form a stratum, 2 or more.

    Raises:
        ValueError: no columns, unknown ones, people without a value, bands that cannot be, or nobody left in any stratum.
    """
    bands = dict(bands or {})
    _check(people, columns, bands, min_people)
    notes: list[str] = []
    values_NK = np.column_stack([_levels(people[name], name, bands, notes) for name in columns]).astype(object)
    labels_N, merged = _merge(values_NK, columns, min_people)
    left_out = int(sum(label is None for label in labels_N))
    if left_out == len(labels_N):
        raise ValueError(
            f"Strata: one stratum of {min_people} people or more was expected, got {len(people)} people of whom at most "
            f"{max(Counter(values_NK[:, 0]).values())} agree in {columns[0]}.\n  where: the participants table\n"
            "  fix: name a coarser column first, widen its bands, or allow smaller strata."
        )
    if merged:
        notes.append(f"{merged} people of strata below {min_people} were merged with others, from {columns[-1]} on")
    if left_out:
        notes.append(f"{left_out} people left out: fewer than {min_people} like them")
    counts = Counter(label for label in labels_N if label is not None)
    return Strata(labels_N, tuple(columns), {label: counts[label] for label in sorted(counts)}, tuple(notes))


def column_strata(
    people: pd.DataFrame, columns: Sequence[str], bands: Mapping[str, float] | None = None, min_people: int = 10
) -> dict[str, Strata]:
    """Column → the strata of that column alone; columns in which nobody has enough people alike are left out.

    Args:
        people: as in `make_strata`.
        columns: as in `make_strata`.
        bands: as in `make_strata`.
        min_people: as in `make_strata`.

    Raises:
        ValueError: as `make_strata`, but for strata that are too small.
    """
    bands = dict(bands or {})
    _check(people, columns, bands, min_people)
    alone = {}
    for name in columns:
        levels = Counter(_levels(people[name], name, bands, []))
        if max(levels.values()) >= min_people:
            alone[name] = make_strata(people, [name], {key: bands[key] for key in bands if key == name}, min_people)
    return alone


def _levels(values: pd.Series, name: str, bands: Mapping[str, float], notes: list[str]) -> list[str]:
    """Text of each person's level."""
    if name in bands:
        width = bands[name]
        band_N = np.floor(values.to_numpy(dtype=float) / width + ROUNDING)
        texts = {band: f"{band * width:.12g} to {(band + 1) * width:.12g}" for band in np.unique(band_N)}
        if len(set(texts.values())) < len(texts):  # bands of numbers that differ in a later digit
            texts = {band: f"{band * width:.17g} to {(band + 1) * width:.17g}" for band in texts}
        return [texts[band] for band in band_N]
    if holds_numbers(values) and values.nunique() > MOST_LEVELS:
        edges = np.unique(np.quantile(values.to_numpy(dtype=float), [0.25, 0.5, 0.75]))
        notes.append(f"{name} cut into quarters of the people at {', '.join(f'{edge:.12g}' for edge in edges)}")
        quarter = np.searchsorted(edges, values.to_numpy(dtype=float), side="left")
        bounds = ["lowest", *(f"{edge:.12g}" for edge in edges), "highest"]
        return [f"{bounds[at]} to {bounds[at + 1]}" for at in quarter]
    return [f"{value:.12g}" if isinstance(value, float) else str(value) for value in values]


def _merge(values_NK: np.ndarray, columns: Sequence[str], min_people: int) -> tuple[np.ndarray, int]:
    """(N,) labels and how many people stand in a merged stratum."""
    labels_N = np.full(len(values_NK), None, dtype=object)
    waiting, merged = range(len(values_NK)), 0
    for kept in range(len(columns), 0, -1):
        cells = defaultdict(list)
        for person in waiting:
            cells[tuple(values_NK[person, :kept])].append(person)
        waiting = []
        for cell, members in cells.items():
            if len(members) < min_people:
                waiting += members
                continue
            known = ", ".join(f"{name}={value}" for name, value in zip(columns, cell, strict=False))
            labels_N[members] = known + (f", other {' and '.join(columns[kept:])}, merged" if kept < len(columns) else "")
            merged += len(members) if kept < len(columns) else 0
    return labels_N, merged


def _check(people: pd.DataFrame, columns: Sequence[str], bands: Mapping[str, float], min_people: int) -> None:
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(
            f"Strata: one column or more, each once, was expected, got {list(columns)}.\n  fix: name columns of the participants "
            "table, the most important first."
        )
    require_columns(people, columns)
    if min_people < 2:
        raise ValueError(
            f"Strata: at least 2 people a stratum were expected, got {min_people}.\n"
            "  fix: allow no strata of one; nobody can be mistaken for anybody there."
        )
    blank = {name: people.loc[people[name].isna(), "subject_id"].astype(str).tolist() for name in columns}
    faults = [f"{name}: none for {len(ids)} of {len(people)} people: {some(ids)}" for name, ids in blank.items() if ids]
    for name, width in bands.items():
        if name not in columns:
            faults.append(f"{name}: a band's width for a column that is not among the strata {', '.join(columns)}")
        elif not holds_numbers(people[name]) or not np.isfinite(width) or width <= 0:
            faults.append(f"{name}: bands need numbers and a width above 0, got {people[name].dtype} and {width!r}")
        elif np.isinf(people[name]).any():
            faults.append(f"{name}: bands need finite numbers")
    if faults:
        raise ValueError(
            "Strata: a value for everyone in each column, and bands that fit, were expected, got:\n  - "
            + "\n  - ".join(faults)
            + "\n  where: the participants table\n  fix: fill the gaps, leave these people out, or name other columns."
        )

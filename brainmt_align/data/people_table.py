"""People table: a cohort's people, their parts and the columns that settings name flow in; people.tsv of a run flows out."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from brainmt_align.atomic import write_atomically
from brainmt_align.data.coded_folds import CodedFold
from brainmt_align.data.splits import PARTS, Split

NAME, PART = "people.tsv", "part"


def write_people(folder: str | Path, people: pd.DataFrame, parts: Mapping[str, Collection[str]], columns: Iterable[str]) -> Path:
    """Leave people.tsv in a run folder: who took which part, with what the run was told to look at; the report sums it up.

    Args:
        folder: of the run; the file holds ids and does not leave it.
        people: one row a person, with subject_id.
        parts: subject ids by the part's name; whoever is in none is left out, whoever is in several stands in the first.
        columns: that the settings name; those that `people` lacks are left out.

    Returns:
        the file: subject_id, part, then the columns; rows by part, in the order of `people`.
    """
    told = [name for name in dict.fromkeys(columns) if name in people and name not in ("subject_id", PART)]
    part_of: dict[str, str] = {}
    for part, members in parts.items():
        for person in members:
            part_of.setdefault(person, part)
    table = people[["subject_id", *told]].copy()
    table.insert(1, PART, table["subject_id"].map(part_of))
    table = table.dropna(subset=[PART])
    order = {part: place for place, part in enumerate(parts)}
    table = table.sort_values(PART, key=lambda column: column.map(order), kind="stable")
    return write_atomically(Path(folder) / NAME, partial(table.to_csv, sep="\t", index=False, na_rep="n/a"))


def parts_of_split(split: Split) -> dict[str, list[str]]:
    """Subject ids of train, validation and test."""
    return {part: getattr(split, part) for part in PARTS}


def parts_of_folds(dealt: list[CodedFold]) -> dict[str, list[str]]:
    """Parts of the first seed: of its split, or of several folds everyone under the fold that tests them."""
    first = [fold for fold in dealt if fold.seed == dealt[0].seed]
    if len(first) == 1:
        return parts_of_split(first[0].frozen.split)
    return {f"test of {fold.name}": fold.frozen.split.test for fold in first}

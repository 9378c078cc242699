"""PLINK tables: a `.bim` and a `.fam` flow in; the placed variants in order of position and the sample ids flow out.

The `.bim` stays in memory as columns, some 40 bytes a variant; its centimorgans and the sexes of the `.fam` are not kept.
"""

import csv
import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

ABSENT = "0"  # an allele that nobody has, a chromosome that nobody knows
LETTERS = {"23": "X", "24": "Y", "25": "X", "XY": "X", "PAR1": "X", "PAR2": "X", "26": "MT"}
COLUMNS = 6  # of either table


class Variants(NamedTuple):
    """The placed variants of a `.bim`, sorted by contig, then position, then line; all columns are in that order.

    Attributes:
        total: lines of the file.
        unplaced: how many of them are left out here: on chromosome 0 or at a position below 1.
        slices: contig, by letters where PLINK has numbers → its part of the columns.
        lines: int64, 0-based line of the file, so the variant's place in the `.bed`.
        positions: int64, 0-based.
        reaches: int32, bases of the longer allele.
        a1, a2: alleles, upper case.
        ids: names of the variants.
    """

    total: int
    unplaced: int
    slices: dict[str, slice]
    lines: np.ndarray
    positions: np.ndarray
    reaches: np.ndarray
    a1: pd.Categorical
    a2: pd.Categorical
    ids: pd.api.extensions.ExtensionArray

    def find(self, contig: str, start: int, end: int) -> np.ndarray:
        """Which of the columns' entries overlap a region by their longer allele, left to right."""
        part = self.slices[contig]
        reaches, positions = self.reaches[part], self.positions[part]
        first = np.searchsorted(positions, start - int(reaches.max()), side="right")  # none before reaches that far
        last = np.searchsorted(positions, end, side="left")
        overlaps = positions[first:last] + reaches[first:last] > start
        return part.start + first + np.flatnonzero(overlaps)


def read_variants(path: Path) -> Variants:
    """The variants of a `.bim`.

    Raises:
        ValueError: not six columns throughout, or a position that is no whole number.
    """
    table = _read(path, {3: np.int64}, "chromosome, name, centimorgans, position, A1, A2")
    chromosomes, positions = pd.Categorical(table[0]), table[3].to_numpy()
    letters = [name_contig(name) for name in chromosomes.categories]
    placed = (positions > 0) & np.array([name.removeprefix("chr") != ABSENT for name in letters], dtype=bool)[chromosomes.codes]
    names = list(dict.fromkeys(letters[code] for code in pd.unique(chromosomes.codes[placed])))
    codes = np.array([names.index(name) if name in names else -1 for name in letters], dtype=np.int32)[chromosomes.codes]
    lines = np.flatnonzero(placed)
    lines = lines[np.lexsort((positions[lines], codes[lines]))]  # stable
    borders = np.searchsorted(codes[lines], np.arange(len(names) + 1)).tolist()
    a1, a2 = (_upper(table[column].iloc[lines]) for column in (4, 5))
    unplaced = len(table) - len(lines)
    if unplaced:
        logger.warning("%d of %d variants of %s have no place (chromosome 0 or position below 1).", unplaced, len(table), path)
    return Variants(
        total=len(table),
        unplaced=unplaced,
        slices={name: slice(*borders[code : code + 2]) for code, name in enumerate(names)},
        lines=lines,
        positions=positions[lines] - 1,
        reaches=np.maximum(_lengths(a1), _lengths(a2)),
        a1=a1,
        a2=a2,
        ids=table[1].array[lines],
    )


def read_ids(path: Path) -> list[str]:
    """The IIDs of a `.fam`, as text.

    Raises:
        ValueError: not six columns throughout, or an IID under several FIDs.
    """
    table = _read(path, {}, "FID, IID, father, mother, sex, phenotype")
    ids = table[1].tolist()
    pairs = set(zip(table[0], ids, strict=True))
    repeated = [name for name, times in Counter(name for _, name in pairs).items() if times > 1]
    if repeated:
        families = sorted(family for family, name in pairs if name == repeated[0])
        raise ValueError(
            f"Genotypes: an IID that tells people apart by itself is expected, got {len(repeated)} under several FIDs, e.g. "
            f"{repeated[0]} under {', '.join(families[:3])}.\n"
            f"  file: {path}\n  fix: give each person an IID of its own (plink2 --update-ids), e.g. FID and IID joined."
        )
    return ids


def name_contig(name: str) -> str:
    """A chromosome of a `.bim` by letters: 23 and 25 → X, 24 → Y, 26 → MT; with `chr` in front alike, but chr26 → chrM."""
    bare = name.removeprefix("chr")
    letters = LETTERS.get(bare, bare)
    return name if letters == bare else letters if bare == name else f"chr{'M' if letters == 'MT' else letters}"


def _read(path: Path, types: dict[int, object], columns: str) -> pd.DataFrame:
    """A table without header, blanks or tabs between its columns, which are text but for those of other types."""
    try:
        table = pd.read_csv(
            path,
            sep=r"\s+",
            header=None,
            names=range(COLUMNS + 1),  # one more, so that a longer line shows
            dtype={column: types.get(column, "string[pyarrow]") for column in range(COLUMNS + 1)},
            na_filter=False,
            quoting=csv.QUOTE_NONE,
            index_col=False,
        )
    except (ValueError, OverflowError) as error:  # pandas' own parser errors among them
        raise _malformed(path, columns, str(error).strip()) from error
    widths = COLUMNS - 1 + sum(_filled(table[column]).astype(np.int8) for column in (COLUMNS - 1, COLUMNS))
    odd = np.flatnonzero(widths != COLUMNS)
    if len(odd) or not len(table):
        got = f"{'more' if widths[odd[0]] > COLUMNS else 'fewer'} in line {odd[0] + 1}" if len(odd) else "no line"
        raise _malformed(path, columns, got)
    return table


def _filled(column: pd.Series) -> np.ndarray:
    return (column.fillna("") != "").to_numpy(dtype=bool)


def _malformed(path: Path, columns: str, got: str) -> ValueError:
    return ValueError(
        f"Genotypes: a table of {COLUMNS} columns without header ({columns}) is expected, got: {got}.\n"
        f"  file: {path}\n  fix: take the file that was written with the .bed, or repair this line."
    )


def _upper(column: pd.Series) -> pd.Categorical:
    """Alleles in upper case as categories, since most of a million are one of four letters."""
    return pd.Categorical(column.str.upper())


def _lengths(alleles: pd.Categorical) -> np.ndarray:
    return np.array([len(name) for name in alleles.categories], dtype=np.int32)[alleles.codes]

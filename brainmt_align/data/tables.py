"""Tables: a TSV, CSV or Parquet table on disk flows in; a DataFrame with its ids as clean text flows out."""

import gzip
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from brainmt_align.listing import some

SEPARATORS = {".tsv": "\t", ".csv": ","}
PARQUET = {".parquet", ".pq"}
PICKLES = {".pkl", ".pickle"}
# Codes of a missing value. "None" and "null" stay text: a phenotype may use them as a category.
MISSING = ["", "n/a", "NA", "N/A", "#N/A", "nan", "NaN"]
# What spreadsheets and float columns make of an integer id: 1001.0 or 1.001e+06. The id it was cannot be told for certain.
FLOAT_ID = re.compile(r"\d+\.0*|\d+\.\d+[eE]\+?\d+")


class CleanIds(NamedTuple):
    """Ids as text without `sub-`, None where the cell is unusable, and one line for each kind of fault."""

    ids: list[str | None]
    faults: list[str]


def normalise_id(value: str | int) -> str:
    """Write an id as all tables are compared: text, outer blanks and a leading `sub-` taken off, leading zeros kept.

    Raises:
        ValueError: the id is a float, so its text is not known (1001 became 1001.0 somewhere).
    """
    text = str(value).strip()
    if isinstance(value, float) or FLOAT_ID.fullmatch(text):
        raise ValueError(
            f"An id must be text or an integer; got the float {value!r}.\n"
            "  fix: write the id column as text where the table is made."
        )
    return text.removeprefix("sub-")


def clean_ids(values: Iterable) -> CleanIds:
    """Normalise a column of ids and name every blank, float and repeated one.

    Args:
        values: one id a row; None and NaN count as blank.

    Returns:
        the ids in row order and the faults as sentences, none when all is well.
    """
    ids: list[str | None] = []
    blank, floats = [], []
    for row, value in enumerate(values, start=1):
        ids.append(None)
        if pd.isna(value) or not str(value).strip().removeprefix("sub-"):
            blank.append(str(row))
            continue
        try:
            ids[-1] = normalise_id(value)
        except ValueError:
            floats.append(str(value))
    repeated = [name for name, count in Counter(name for name in ids if name is not None).items() if count > 1]
    faults = []
    if blank:
        faults.append(f"blank ids in data rows {some(blank)}")
    if floats:
        faults.append(f"float ids, whose text is lost: {some(floats)}")
    if repeated:
        faults.append(f"duplicated ids: {some(sorted(repeated))}")
    return CleanIds(ids, faults)


def is_blank(label: Hashable) -> bool:
    """Whether a label of a family or stratum is missing, or a part of it when it is a tuple of several columns."""
    return any(pd.isna(each) for each in (label if isinstance(label, tuple) else (label,)))


def holds_numbers(values: pd.Series) -> bool:
    """Whether a column is of numbers; true and false are none."""
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def read_table(
    path: str | Path,
    id_column: str = "participant_id",
    text_columns: Sequence[str] = ("sample_id",),
    check_ids: bool = True,
) -> pd.DataFrame:
    """Read a table of people by its suffix: .tsv or .csv (also .gz), .parquet or .pq.

    Ids never pass through a number: leading zeros stay, and an id column that Parquet holds as integers becomes text.
    `n/a` (BIDS), `NA`, `N/A`, `nan` and empty cells are missing values.

    Args:
        path: the file.
        id_column: the column that names the person; returned without `sub-`.
        text_columns: further columns that are read as text where the table has them; returned as they stand.
        check_ids: False returns the id column as it stands, for a caller that checks several tables at once.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a pickle, an unknown suffix, an unreadable or empty file, no such column, or blank, float and duplicated ids
            (all of them listed).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Table: expected a file, found none.\n  file: {path}\n  fix: check the path and data.root.")
    suffix = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix in PICKLES:
        raise ValueError(
            f"Table: a pickle runs code when it is opened and is never loaded.\n  file: {path}\n"
            "  fix: in the environment that wrote it, save the table with to_parquet or to_csv(sep='\\t')."
        )
    if suffix not in SEPARATORS.keys() | (PARQUET if path.suffix.lower() != ".gz" else set()):
        raise ValueError(
            f"Table: the suffix {suffix or path.name!r} is unknown; known are .tsv, .csv, .tsv.gz, .csv.gz, .parquet, .pq.\n"
            f"  file: {path}\n  fix: rename the file by what it holds, or convert it."
        )
    id_columns = dict.fromkeys([id_column, *text_columns])
    table = _read_parquet(path, id_columns) if suffix in PARQUET else read_delimited(path, SEPARATORS[suffix], id_columns)
    if id_column not in table.columns:
        raise ValueError(
            f"Table: column {id_column!r} is missing; the table has {some([repr(str(c)) for c in table.columns], 12)}.\n"
            f"  file: {path}\n  fix: name the id column, and check that the separator fits the suffix."
        )
    if table.empty:
        raise ValueError(f"Table: expected at least one row, got none below the header.\n  file: {path}\n  fix: fill the table.")
    if not check_ids:
        return table
    ids, faults = clean_ids(table[id_column])
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise ValueError(
            f"Table: every row needs an id of its own in {id_column!r}; kinds of fault found: {len(faults)}{listed}\n"
            f"  file: {path}\n  fix: correct these rows; write ids as text."
        )
    return table.assign(**{id_column: pd.Series(ids, index=table.index, dtype="str")})


def read_delimited(path: Path, separator: str, text_columns: Iterable[str]) -> pd.DataFrame:
    """Read a text file with a header, gzipped or not, whatever its suffix; MISSING are missing values.

    Args:
        path: the file.
        separator: one character, or a regular expression.
        text_columns: columns that are never read as numbers; those that the file lacks are passed over.

    Raises:
        ValueError: an empty file, rows longer than the header, or a file that was cut off.
    """
    try:
        with warnings.catch_warnings():
            # Rows longer than the header are only a warning to pandas, which then drops their last cells.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=separator,
                dtype=dict.fromkeys(text_columns, "str"),
                na_values=MISSING,
                keep_default_na=False,
                index_col=False,
                encoding="utf-8-sig",
                low_memory=False,
            )
    except pd.errors.EmptyDataError as error:
        raise ValueError(
            f"Table: expected a header and rows, got an empty file.\n  file: {path}\n  fix: fill the table."
        ) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"Table: expected whole rows of UTF-8 text, as long as the header; got: {str(error).strip()}\n"
            f"  file: {path}\n  fix: repair the row, or copy the file again if it was cut off."
        ) from error


def _read_parquet(path: Path, id_columns: Iterable[str]) -> pd.DataFrame:
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"Table: expected a Parquet file, got: {str(error).strip()}\n  file: {path}\n  fix: copy or write it again."
        ) from error
    for name in id_columns:
        at = table.schema.get_field_index(name)
        # Cast in Arrow: pandas would turn an integer column with blanks into floats first.
        if at >= 0 and not pa.types.is_floating(table.schema.field(at).type):
            table = table.set_column(at, name, table.column(at).cast(pa.string()))
    return table.to_pandas(ignore_metadata=True)

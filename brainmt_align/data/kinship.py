"""Kinship: tables of related pairs (KING, PLINK 2, UK Biobank) flow in; one family label a person flows out."""

import gzip
import zlib
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from brainmt_align.data.phenotype_presets import require_columns
from brainmt_align.data.tables import is_blank, normalise_id, read_delimited
from brainmt_align.listing import some

THIRD_DEGREE = 0.0442  # 2 ** -4.5, the lower bound of third-degree relatives
LARGEST = 0.5  # twins and duplicates
IDENTICAL = 0.354  # least kinship of identical twins and duplicates, as KING calls them
SHARED_BY_RELATIVES = 0.5  # of the genome, where kinship is not told: by full siblings
TOLERANCE = 0.01
# Columns by their names in lower case: PLINK 2 writes IID1, KING and UK Biobank ID1.
NAMES = {"id_1": ("iid1", "id1"), "id_2": ("iid2", "id2"), "kinship": ("kinship",)}


def read_kinship(path: str | Path) -> pd.DataFrame:
    """Read a table of pairs with their kinship: KING's .kin and .kin0, PLINK 2's .kin0, UK Biobank's relatedness file.

    Columns are found by their names in any case, a leading # left out; family ids (FID1, FID2) and all others are not looked at.
    Cells are separated by tabs, commas or blanks, whatever the header shows; a .gz is opened.

    Args:
        path: the file.

    Returns:
        id_1 and id_2, text without `sub-`, and kinship, at most 0.5 (its error set aside) and negative for people less alike than
        strangers; one row a pair, in the order of the file. A table without rows is a cohort without relatives.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such columns, or the list of all faults: ids that are blank or floats, kinship that is no number or above
            0.5.

    Reference:
        Manichaikul et al. 2010, Robust relationship inference in genome-wide association studies.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Kinship: expected a file, found none.\n  file: {path}\n  fix: correct the path.")
    header = _first_line(path)
    separator = "\t" if "\t" in header else "," if "," in header else r"\s+"
    columns = _find_columns(header.split(None if separator == r"\s+" else separator), path)
    table = read_delimited(path, separator, columns.values())[list(columns.values())].set_axis(list(columns), axis=1)

    faults: list[str] = []
    ids = {side: _clean_ids(table[side], faults) for side in ("id_1", "id_2")}
    kinship = pd.to_numeric(table["kinship"], errors="coerce").to_numpy(np.float64)
    for what, wrong in (("that is no number", ~np.isfinite(kinship)), (f"above {LARGEST}", kinship > LARGEST + TOLERANCE)):
        if wrong.any():
            shown = [f"{value} in row {row + 1}" for row, value in table["kinship"][wrong].items()]
            faults.append(f"kinship {what}: {some(shown)}")
    if faults:
        raise ValueError(
            f"Kinship: expected two ids and a kinship of at most {LARGEST} in every row; faults found: {len(faults)}\n  - "
            + "\n  - ".join(faults)
            + f"\n  file: {path}\n  fix: correct these rows; a share of the genome (pi-hat, GRM) is twice the kinship."
        )
    return pd.DataFrame({**ids, "kinship": kinship})


def families(
    subject_ids: Sequence[str],
    pairs: pd.DataFrame,
    threshold: float = THIRD_DEGREE,
    known_groups: Sequence[Hashable] | None = None,
) -> list[str]:
    """One label a person, equal for people whom a chain of relatives or of known groups joins.

    Only pairs with both people in the cohort join anybody: two cousins whose common relative is not in the cohort stay apart
    unless a pair of their own says otherwise. Pairs that name others are passed over.

    Args:
        subject_ids: one id a person.
        pairs: of `read_kinship`.
        threshold: least kinship of relatives, above 0 and at most 0.5; the default holds third-degree relatives together.
        known_groups: labels of the same people, such as family_id; a missing one joins nobody. Several columns: `join_groups`.

    Returns:
        The smallest id of each person's family, so that someone without relatives has their own.

    Raises:
        ValueError: repeated ids, labels of another length, a threshold out of range, or pairs none of whose ids is in the cohort.
    """
    if not 0 < threshold <= LARGEST:
        raise ValueError(
            f"Kinship: the threshold must be above 0 and at most {LARGEST}, got {threshold!r}.\n"
            f"  fix: set {THIRD_DEGREE} for third-degree relatives and closer, 0.0884 for second-degree."
        )
    row_of = _rows(subject_ids)
    first, second = (pairs[side].map(row_of).to_numpy(np.float64) for side in ("id_1", "id_2"))
    if len(pairs) and np.isnan(first).all() and np.isnan(second).all():
        theirs = sorted({*pairs["id_1"], *pairs["id_2"]})
        raise ValueError(
            "Kinship: no id of the pairs is in the cohort.\n"
            f"    {len(row_of)} people in the cohort: {some(sorted(row_of), 3)}\n"
            f"    {len(theirs)} people in the pairs: {some(theirs, 3)}\n"
            "  where: the kinship table\n  fix: name the ids as the cohort does, or leave the table out if it is of other people."
        )
    joined = (pairs["kinship"].to_numpy() >= threshold) & ~np.isnan(first) & ~np.isnan(second)
    related = first[joined].astype(int), second[joined].astype(int)
    known = [] if known_groups is None else [_edges_of(subject_ids, known_groups)]
    return _label_components(subject_ids, [related, *known])


def families_of(
    people: pd.DataFrame, columns: Sequence[str] = (), kinship: str | Path | None = None, threshold: float = THIRD_DEGREE
) -> list[str]:
    """One label a person, from columns of families, a table of kinship, both or neither: then everyone is alone.

    Args:
        people: one row a person, with subject_id.
        columns: of labels that relatives share, such as family_id, or mother_id and father_id; a missing one joins nobody.
        kinship: a file of `read_kinship`.
        threshold: see `families`.

    Raises:
        FileNotFoundError, ValueError: an unknown column, and what `read_kinship` and `families` complain of.
    """
    require_columns(people, columns)
    subjects = people["subject_id"].tolist()
    # A label speaks of its own column alone: mother 7 is not father 7.
    joined = join_groups(subjects, *(people[column].tolist() for column in columns))
    return joined if kinship is None else families(subjects, read_kinship(kinship), threshold, joined)


def family_shares(
    people: pd.DataFrame, families: Sequence[Hashable], kinship: str | Path | None, columns: Sequence[str] = ()
) -> np.ndarray | None:
    """(N,) share of the genome, 0 to 1, that each person has in common with the other members of the own family, on average.

    Twice the kinship: 0.5 for parents and siblings, 0.25 for half-siblings. Identical twins (kinship of 0.354 or more, in a chain
    too) stand for one another: of them the first in `people` shares what it does with members who are no twin of its own; the
    others, and whoever has no relatives but twins, share 1.

    Members whom the table does not list as a pair share nothing; a negative kinship counts as 0. But a table may leave out what
    the columns of families tell already, as KING's .kin0 lists pairs between families only: a group of these columns of which no
    pair is listed shares half, as siblings do.

    Args:
        people: one row a person, with subject_id and the columns.
        families: (N,) labels of `families_of`.
        kinship: a file of `read_kinship`; None gives None.
        columns: those that `families_of` was given; none: the families themselves are such groups.

    Returns:
        0 for a person alone in the family.

    Raises:
        FileNotFoundError, ValueError: an unknown column, labels of another length, repeated ids, and what `read_kinship`
            complains of.
    """
    if kinship is None:
        return None
    require_columns(people, columns)
    subjects = people["subject_id"].tolist()
    family_N = _first_rows(subjects, families)
    listed = _listed_shares(read_kinship(kinship), _rows(subjects), family_N)
    one_P, other_P = listed["one"].to_numpy(), listed["other"].to_numpy()
    alike_P = (listed["share"] >= 2 * IDENTICAL).to_numpy()
    twins = pd.Series(_label_components(subjects, [(one_P[alike_P], other_P[alike_P])]))
    group_N = family_N
    if columns:
        joined = join_groups(subjects, *(people[column].tolist() for column in columns))
        group_N = _first_rows(subjects, list(zip(family_N, joined, strict=True)))
    told = np.isin(group_N, group_N[one_P[group_N[one_P] == group_N[other_P]]])
    sums_N = np.where(told, 0, SHARED_BY_RELATIVES * (_sizes(group_N) - 1))
    apart_P = twins.to_numpy()[one_P] != twins.to_numpy()[other_P]
    for rows_P in (one_P, other_P):
        np.add.at(sums_N, rows_P[apart_P], listed["share"].to_numpy()[apart_P])
    alike_N, size_N = _sizes(twins.to_numpy()), _sizes(family_N)
    others_N = size_N - alike_N
    shares_N = np.divide(sums_N, others_N, out=(alike_N > 1).astype(np.float64), where=others_N > 0)
    shares_N[twins.duplicated()] = 1
    return shares_N


def _listed_shares(pairs: pd.DataFrame, row_of: dict[str, int], family_N: np.ndarray) -> pd.DataFrame:
    """Rows of both members (one < other) and share, 0 to 1, of every pair within a family; a pair listed twice counts once."""
    rows_P2 = np.column_stack([pairs[side].map(row_of).to_numpy(np.float64) for side in ("id_1", "id_2")])
    here = np.isfinite(rows_P2).all(1)
    rows_P2 = np.sort(rows_P2[here].astype(int), axis=1)
    share_P = (2 * pairs["kinship"].to_numpy()[here]).clip(0, 1)
    listed = pd.DataFrame(rows_P2, columns=["one", "other"]).assign(share=share_P)
    inside = (listed["one"] != listed["other"]) & (family_N[listed["one"]] == family_N[listed["other"]])
    return listed[inside].drop_duplicates(["one", "other"])


def _first_rows(subject_ids: Sequence[str], labels: Sequence[Hashable]) -> np.ndarray:
    """(N,) row of the first person of the same label, the own where the label is missing."""
    first, member = _edges_of(subject_ids, labels)
    first_N = np.arange(len(subject_ids))
    first_N[member] = first
    return first_N


def _sizes(labels_N: np.ndarray) -> np.ndarray:
    """(N,) people of the same label."""
    _, group_N, counts = np.unique(labels_N, return_inverse=True, return_counts=True)
    return counts[group_N]


def join_groups(subject_ids: Sequence[str], *labels: Sequence[Hashable]) -> list[str]:
    """One label a person, equal for people whom a chain of equal labels joins: families and sites that are to stay whole both.

    Args:
        subject_ids: one id a person.
        labels: lists of labels of the same people; a missing label joins nobody.

    Returns:
        The smallest id of each person's joined group.

    Raises:
        ValueError: repeated ids, or labels of another length.
    """
    _rows(subject_ids)
    return _label_components(subject_ids, [_edges_of(subject_ids, each) for each in labels])


def _first_line(path: Path) -> str:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="replace") as file:
            return file.readline().rstrip("\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"Kinship: expected a gzipped file, got: {error}\n  file: {path}\n  fix: copy the file again, or drop the suffix .gz."
        ) from error


def _find_columns(header: list[str], path: Path) -> dict[str, str]:
    """Our name → the header's own, for the two ids and the kinship."""
    known = {}
    for name in header:
        known.setdefault(name.strip().strip('"').lstrip("#").lower(), name.strip('"'))
    found = {ours: next((known[name] for name in names if name in known), None) for ours, names in NAMES.items()}
    absent = [" or ".join(name.upper() for name in NAMES[ours]) for ours, name in found.items() if name is None]
    if absent:
        raise ValueError(
            f"Kinship: expected columns of two ids and their kinship, in any case; {', '.join(absent)} not found among "
            f"{some([repr(name) for name in header], 12) or 'nothing'}.\n  file: {path}\n"
            "  fix: write a header as KING (ID1 ID2 Kinship) or PLINK 2 (IID1 IID2 KINSHIP) does."
        )
    return found


def _clean_ids(column: pd.Series, faults: list[str]) -> list[str]:
    """Ids as all tables compare them; each distinct one is looked at once."""
    clean, floats = {}, []
    for value in column.dropna().unique():
        try:
            clean[value] = normalise_id(value)
        except ValueError:
            floats.append(str(value))
    blank = [str(row + 1) for row in np.flatnonzero(column.isna() | column.map(clean).eq(""))]
    faults += [f"{column.name}: blank ids in data rows {some(blank)}"] if blank else []
    faults += [f"{column.name}: float ids, whose text is lost: {some(floats)}"] if floats else []
    return column.map(clean).tolist()


def _rows(subject_ids: Sequence[str]) -> dict[str, int]:
    row_of = {person: row for row, person in enumerate(subject_ids)}
    if len(row_of) != len(subject_ids):
        repeated = pd.Series(list(subject_ids))
        raise ValueError(
            f"Kinship: expected one id a person, got repeated ones: {some(repeated[repeated.duplicated()].unique().tolist())}.\n"
            "  fix: pass the subject_id column of the cohort's people."
        )
    return row_of


def _edges_of(subject_ids: Sequence[str], labels: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of people joined with the first person of the same label."""
    if len(labels) != len(subject_ids):
        raise ValueError(
            f"Kinship: expected one label for each of {len(subject_ids)} people, got {len(labels)}.\n"
            "  fix: take the labels from the same table as the ids."
        )
    first_of: dict[Hashable, int] = {}
    edges = [(first_of.setdefault(label, row), row) for row, label in enumerate(labels) if not is_blank(label)]
    first, second = np.array(edges, dtype=int).reshape(-1, 2).T
    return first, second


def _label_components(subject_ids: Sequence[str], edges: list[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """The smallest id of each person's connected component."""
    count = len(subject_ids)
    first, second = np.concatenate([np.empty((2, 0), int), *(np.stack(each) for each in edges)], axis=1)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    smallest: dict[int, str] = {}
    for row in np.argsort(np.array(list(subject_ids), dtype=str), kind="stable"):
        smallest.setdefault(component[row], subject_ids[row])
    return [smallest[each] for each in component]

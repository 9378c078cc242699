"""Cohort: scans, genomes and tables of people flow in; one table of people and one of their runs, joined by id, flow out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainmt_align.data.bids import find_runs, run_id_of
from brainmt_align.data.genotypes import list_samples
from brainmt_align.data.tables import clean_ids, read_table, some

SHOWN = 10  # ids that a line of the complaint shows
RUN_COLUMNS = ["subject_id", "run_id", "bold_path", "mask_path"]


class Genomes(NamedTuple):
    """Sample ids as the genotype file writes them, in the order of their people, and who was left out."""

    samples: list[str]
    notes: list[str]


class Cohort(NamedTuple):
    """People who have everything, and their scans; both sorted by subject_id, rows numbered from 0."""

    people: pd.DataFrame  # subject_id, sample_id as the genotype file writes it, then the participants' columns
    runs: pd.DataFrame  # subject_id, run_id, bold_path, mask_path (missing where there is none), then the given columns
    notes: list[str]  # who was left out, one sentence a reason


def read_cohort(
    *,
    genotypes: str | Path,
    bold: str | Path | None = None,
    space: str | None = None,
    participants: str | Path | None = None,
    pairs: str | Path | None = None,
    id_map: str | Path | None = None,
    unmatched: str = "error",
    mask: str | Path | None = None,
    root: str | Path | None = None,
) -> Cohort:
    """Read the files of a cohort and join them; see `build_cohort`.

    Args:
        genotypes: file with the genomes, such as a VCF.
        bold: folder of BIDS derivatives; not looked at when `pairs` has bold_path.
        space: BIDS space of the scans where the folder holds several.
        participants: table with participant_id.
        pairs: table with participant_id, sample_id and, where it names the scans, bold_path and mask_path.
        id_map: table with participant_id and sample_id.
        unmatched: "error" or "drop".
        mask: one mask for all runs.
        root: folder that the paths inside `pairs` start from.

    Raises:
        FileNotFoundError: a table that is not there.
        ValueError: whatever the readers and `build_cohort` complain of.
    """
    files = {"participants": participants, "pairs": pairs, "id_map": id_map}
    tables = {name: None if path is None else read_table(path, check_ids=False) for name, path in files.items()}
    return build_cohort(
        genotype_samples=list_samples(genotypes),
        runs=None if bold is None or _names_scans(tables["pairs"]) else find_runs(bold, space=space),
        unmatched=unmatched,
        mask=mask,
        root=root,
        **tables,
    )


def read_scans(
    *,
    bold: str | Path | None = None,
    space: str | None = None,
    pairs: str | Path | None = None,
    mask: str | Path | None = None,
    root: str | Path | None = None,
) -> pd.DataFrame:
    """The runs that `read_cohort` would give when everybody had a genome: of the people in `pairs`, else of all in `bold`.

    Args:
        bold: folder of BIDS derivatives; not looked at when `pairs` has bold_path.
        space: BIDS space of the scans where the folder holds several.
        pairs: table with participant_id and sample_id, and where it names the scans bold_path and mask_path.
        mask: one mask for all runs.
        root: folder that the paths inside `pairs` start from.

    Returns:
        subject_id, run_id, bold_path, mask_path and any further columns, sorted by subject and run.

    Raises:
        FileNotFoundError: a pair table that is not there.
        ValueError: neither source of scans, or the list of all faults: ids, repeated scans, missing files, people without a scan.
    """
    table = None if pairs is None else read_table(pairs, check_ids=False)
    runs = None if bold is None or _names_scans(table) else find_runs(bold, space=space)
    _check_arguments(runs, None, table, None, "error")
    faults: list[str] = []
    scans = _clean_runs(_runs_of_pairs(table, root) if _names_scans(table) else runs, mask, faults)
    if table is not None:
        people = _read_mapping(table, "pairs", faults)
        faults += _find_gaps(people, {"scan": set(scans["subject_id"])}, [])
        scans = scans[scans["subject_id"].isin(people)]
    faults += _find_missing_files(scans)
    if faults:
        raise ValueError(_complaint(faults, paired=table is not None))
    return scans.sort_values(["subject_id", "run_id"], ignore_index=True)


def read_genomes(
    *,
    genotypes: str | Path,
    pairs: str | Path | None = None,
    id_map: str | Path | None = None,
    unmatched: str = "error",
) -> Genomes:
    """The genomes that `read_cohort` would give when everybody had a scan: of the people in `pairs`, else all of the file.

    Args:
        genotypes: file with the genomes, such as a VCF.
        pairs: table with participant_id and sample_id.
        id_map: refused beside `pairs`, as for a cohort; alone it takes nobody's genome away.
        unmatched: "error", or "drop" people of `pairs` whose genome is absent and say so in the notes.

    Raises:
        FileNotFoundError: a table that is not there.
        ValueError: arguments that contradict each other, or the list of all faults: ids, people without a genome.
    """
    tables = {name: path and read_table(path, check_ids=False) for name, path in (("pairs", pairs), ("id_map", id_map))}
    _check_tables(participants=None, **tables, unmatched=unmatched)
    samples = list_samples(genotypes)
    if tables["pairs"] is None:
        return Genomes(samples, [])
    faults: list[str] = []
    genomes = _genomes(samples, faults)
    sample_of = _match_genomes(**tables, known=set(), faults=faults)
    having = {subject for subject, sample in sample_of.items() if sample in genomes}
    gaps = _find_gaps(sample_of, {"genome": having}, []) if having else []
    faults += gaps if unmatched == "error" else []
    if not having:
        faults.append(_describe_empty_join({"genome": set(genomes)}, tables["pairs"], sample_of))
    if faults:
        raise ValueError(_complaint(faults, paired=True))
    return Genomes([genomes[sample_of[subject]] for subject in sorted(having)], [f"Left out: {gap}" for gap in gaps])


def build_cohort(
    *,
    genotype_samples: Sequence[str],
    runs: pd.DataFrame | None = None,
    participants: pd.DataFrame | None = None,
    pairs: pd.DataFrame | None = None,
    id_map: pd.DataFrame | None = None,
    unmatched: str = "error",
    mask: str | Path | None = None,
    root: str | Path | None = None,
) -> Cohort:
    """Join scans, genomes and participants by subject id, or say everything that stands in the way.

    Ids are text; `sub-` is stripped before they are compared; whatever differs further goes through `id_map`. Without `pairs`
    every id must be in all tables. With `pairs` only the people listed there take part and nobody else is looked at.

    Args:
        genotype_samples: ids as the genotype file writes them.
        runs: subject_id, run_id, bold_path, mask_path …, one row a run; not looked at when `pairs` has bold_path.
        participants: participant_id and any other columns, one row a person.
        pairs: participant_id, sample_id, optionally bold_path, mask_path, run_id; a person with several scans has several rows.
        id_map: participant_id and sample_id of the people whose ids differ between scans and genomes.
        unmatched: "error", or "drop" people whom a table lacks and say so in the notes.
        mask: a mask for all runs, in place of any that the tables name.
        root: folder that relative bold_path and mask_path of `pairs` start from.

    Raises:
        ValueError: arguments that contradict each other, or the list of all faults of all tables.
    """
    _check_arguments(runs, participants, pairs, id_map, unmatched)
    faults: list[str] = []
    scans = _clean_runs(_runs_of_pairs(pairs, root) if _names_scans(pairs) else runs, mask, faults)
    rows = None if participants is None else _clean_participants(participants, faults)
    genomes = _genomes(genotype_samples, faults)

    sides = {"scan": set(scans["subject_id"])} | ({} if rows is None else {"row in participants": set(rows["subject_id"])})
    sample_of = _match_genomes(pairs, id_map, set().union(*sides.values()), faults)
    sides["genome"] = {subject for subject, sample in sample_of.items() if sample in genomes}
    kept = sorted(set(sample_of).intersection(*sides.values()))
    if kept:
        gaps = _find_gaps(sample_of, sides, [] if pairs is not None else sorted(genomes.keys() - set(sample_of.values())))
        faults += gaps if unmatched == "error" else []
    else:
        gaps = []
        faults.append(_describe_empty_join(sides | {"genome": set(genomes)}, pairs, sample_of))
    scans = scans[scans["subject_id"].isin(kept)].sort_values(["subject_id", "run_id"], ignore_index=True)
    faults += _find_missing_files(scans)
    if faults:
        raise ValueError(_complaint(faults, pairs is not None))

    people = pd.DataFrame({"subject_id": kept, "sample_id": [genomes[sample_of[subject]] for subject in kept]}, dtype="str")
    if rows is not None:
        people = people.merge(rows, on="subject_id", how="left", validate="one_to_one")
    return Cohort(people, scans, [f"Left out: {gap}" for gap in gaps])


def _check_arguments(runs, participants, pairs, id_map, unmatched: str) -> None:
    _check_tables(participants, pairs, id_map, unmatched)
    if runs is None and not _names_scans(pairs):
        raise ValueError(
            "Cohort: expected a folder of scans, or a pair table with bold_path; got neither.\n"
            "  where: data.bold, data.pairs\n  fix: set data.bold, or add the column."
        )


def _check_tables(participants, pairs, id_map, unmatched: str) -> None:
    if unmatched not in ("error", "drop"):
        raise ValueError(f"Cohort: unmatched must be 'error' or 'drop', got {unmatched!r}.\n  fix: set data.unmatched to one.")
    for name, table, columns in (
        ("participants", participants, ["participant_id"]),
        ("pairs", pairs, ["participant_id", "sample_id"]),
        ("id_map", id_map, ["participant_id", "sample_id"]),
    ):
        missing = [] if table is None else [column for column in columns if column not in table]
        if missing:
            raise ValueError(
                f"Cohort: {name} needs the columns {', '.join(columns)}; it has {some([str(each) for each in table], 12)}.\n"
                f"  where: data.{name}\n  fix: rename or add {', '.join(missing)}."
            )
    taken = [] if participants is None else [column for column in ("subject_id", "sample_id") if column in participants]
    if taken:
        raise ValueError(
            f"Cohort: participants has a column {', '.join(taken)}, a name that the joined table gives itself.\n"
            "  where: data.participants\n  fix: rename it; ids of genomes belong into data.id_map."
        )
    if pairs is not None and id_map is not None:
        raise ValueError(
            "Cohort: either pairs or id_map names the genomes, got both.\n"
            "  where: data.pairs, data.id_map\n  fix: set one of them to null."
        )


def _names_scans(pairs: pd.DataFrame | None) -> bool:
    return pairs is not None and "bold_path" in pairs


def _ids(values: Iterable, table: str, faults: list[str], several_rows: bool = False) -> list[str | None]:
    """Clean ids of one column; its faults go on the list, duplicates among them unless an id may have several rows."""
    ids, found = clean_ids(values)
    faults += [f"{table}: {fault}" for fault in found if not (several_rows and "duplicated" in fault)]
    return ids


def _genomes(samples: Sequence[str], faults: list[str]) -> dict[str, str]:
    """Clean id → id as the genotype file writes it."""
    genomes = dict(zip(_ids(samples, "genotypes", faults), samples, strict=True))
    genomes.pop(None, None)
    return genomes


def _runs_of_pairs(pairs: pd.DataFrame, root: str | Path | None) -> pd.DataFrame:
    """The scans that a pair table names, in the columns of `find_runs`; a row without a path or a usable id names none."""
    scans = pairs.drop(columns=["participant_id", "sample_id"]).assign(subject_id=clean_ids(pairs["participant_id"]).ids)
    scans = scans[scans["bold_path"].notna() & scans["subject_id"].notna()]
    for column in {"bold_path", "mask_path"} & set(scans):
        scans = scans.assign(**{column: [path if pd.isna(path) else str(Path(root or "") / path) for path in scans[column]]})
    if "run_id" not in scans:
        stems = [(who, run_id_of(path)) for who, path in zip(scans["subject_id"], scans["bold_path"], strict=True)]
        # File names such as filtered_func_data_clean.nii.gz are the same for everybody.
        scans = scans.assign(run_id=[stem if who in stem else f"{who}_{stem}" for who, stem in stems])
    return scans


def _clean_runs(runs: pd.DataFrame, mask: str | Path | None, faults: list[str]) -> pd.DataFrame:
    """Runs with clean subject ids and all of RUN_COLUMNS in front; rows whose id is unusable are gone and complained of."""
    runs = runs.assign(subject_id=_ids(runs["subject_id"], "scans", faults, several_rows=True))
    if mask is not None or "mask_path" not in runs:
        runs = runs.assign(mask_path=None if mask is None else str(mask))
    for column, what in (("bold_path", "files"), ("run_id", "run ids")):
        repeated = runs.loc[runs[column].duplicated(), column].drop_duplicates().astype(str).tolist()
        if repeated:
            faults.append(f"scans: {what} that stand in several rows: {some(repeated, SHOWN)}")
    runs = runs.astype(dict.fromkeys(RUN_COLUMNS, "str"))
    return runs.loc[runs["subject_id"].notna(), RUN_COLUMNS + [column for column in runs if column not in RUN_COLUMNS]]


def _clean_participants(participants: pd.DataFrame, faults: list[str]) -> pd.DataFrame:
    """Participants with subject_id in place of participant_id, one row an id; all else is complained of."""
    ids = pd.Series(_ids(participants["participant_id"], "participants", faults), index=participants.index, dtype="str")
    rows = participants.drop(columns="participant_id").assign(subject_id=ids)
    return rows[ids.notna() & ~ids.duplicated()]


def _match_genomes(pairs: pd.DataFrame | None, id_map: pd.DataFrame | None, known: set[str], faults: list[str]) -> dict[str, str]:
    """The genome of everyone who should take part: by the pair table, else of everyone known by the id map or the same id."""
    name, table = ("pairs", pairs) if pairs is not None else ("id_map", id_map)
    mapped = {} if table is None else _read_mapping(table, name, faults)
    sample_of = mapped if pairs is not None else {subject: subject for subject in known} | mapped
    owners = defaultdict(list)
    for subject in sorted(sample_of):
        owners[sample_of[subject]].append(subject)
    shared = [f"{sample} ({', '.join(people)})" for sample, people in sorted(owners.items()) if len(people) > 1]
    if shared:
        faults.append(f"{name}: genomes that belong to two people: {some(shared, SHOWN)}")
    # An id map may cover more people than this cohort.
    return {subject: sample for subject, sample in sample_of.items() if pairs is not None or subject in known}


def _read_mapping(table: pd.DataFrame, name: str, faults: list[str]) -> dict[str, str]:
    """participant_id → sample_id; only a pair table that names scans may have several rows a person, all with one genome."""
    subjects = _ids(table["participant_id"], name, faults, several_rows=_names_scans(table))
    samples = _ids(table["sample_id"], f"{name}, sample_id", faults, several_rows=True)
    found = defaultdict(dict)
    for subject, sample in zip(subjects, samples, strict=True):
        if subject is not None and sample is not None:
            found[subject][sample] = None
    torn = [f"{subject} ({', '.join(several)})" for subject, several in found.items() if len(several) > 1]
    if torn:
        faults.append(f"{name}: people with two genomes: {some(torn, SHOWN)}")
    return {subject: next(iter(several)) for subject, several in found.items()}


def _find_gaps(sample_of: Mapping[str, str], sides: Mapping[str, set[str]], unclaimed: Sequence[str]) -> list[str]:
    """Who lacks what, one sentence a kind; `unclaimed` are genomes of nobody in the other tables."""
    gaps = []
    for side, ids in sides.items():
        lacking = sorted(sample_of.keys() - ids)
        if side == "genome":
            lacking = [who if sample_of[who] == who else f"{who} (sample {sample_of[who]})" for who in lacking]
        if lacking:
            gaps.append(f"no {side} for {len(lacking)} of {len(sample_of)} people: {some(lacking, SHOWN)}")
    if unclaimed:
        gaps.append(f"nobody in the other tables for {len(unclaimed)} genomes: {some(unclaimed, SHOWN)}")
    return gaps


def _describe_empty_join(sides: Mapping[str, set[str]], pairs: pd.DataFrame | None, sample_of: Mapping[str, str]) -> str:
    """Three ids of each side, so that the eye sees how they differ."""
    shown = [f"{len(ids)} with a {side}: {some(sorted(ids), 3) or 'none'}" for side, ids in sides.items()]
    if pairs is not None:
        listed = [f"{subject} = {sample}" for subject, sample in sorted(sample_of.items())]
        shown.append(f"{len(listed)} in pairs: {some(listed, 3) or 'none'}")
    return "nobody is in all tables\n    " + "\n    ".join(shown)


def _find_missing_files(scans: pd.DataFrame) -> list[str]:
    faults = []
    for column, what in (("bold_path", "BOLD files"), ("mask_path", "masks")):
        absent = [path for path in sorted(scans[column].dropna().unique()) if not Path(path).is_file()]
        if absent:
            faults.append(f"scans: {what} that do not exist: {some(absent, SHOWN)}")
    return faults


def _complaint(faults: Sequence[str], paired: bool) -> str:
    faults = list(dict.fromkeys(faults))
    where = ("data.pairs, " if paired else "") + "data.bold, data.genotypes, data.participants"
    fix = "correct the tables" if paired else "correct the tables, or name ids that differ in data.id_map"
    return (
        f"Cohort: one scan or more, one genome and one row for everybody were expected; faults found: {len(faults)}\n  - "
        + "\n  - ".join(faults)
        + f"\n  where: {where}\n  fix: {fix}; data.unmatched=drop goes on without the people whom a table lacks."
    )

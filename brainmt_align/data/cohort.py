"""Cohort: scans, genomes and tables of people flow in; one table of people and one of their runs, joined by id, flow out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainmt_align.data.bids import find_runs
from brainmt_align.data.genome_table import checked_ids, genomes_by_id, match_genomes, read_mapping
from brainmt_align.data.genotypes import list_samples
from brainmt_align.data.scan_table import (
    SHOWN,
    check_mask_rule,
    clean_runs,
    describe_bare_runs,
    find_file_faults,
    names_scans,
    of_people,
    runs_of_pairs,
)
from brainmt_align.data.tables import read_table, some


class Genomes(NamedTuple):
    """Sample ids as the genotype file writes them, in the order of their people, and who was left out."""

    samples: list[str]
    notes: list[str]


class Cohort(NamedTuple):
    """People who have everything, and their scans; both sorted by subject_id, rows numbered from 0."""

    people: pd.DataFrame  # subject_id, sample_id as the genotype file writes it, then the participants' columns
    runs: pd.DataFrame  # subject_id, run_id, bold_path, mask_path (missing where there is none), then the given columns
    notes: list[str]  # who was left out and what was taken for a mask, one sentence a reason


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
    mask_rule: str = "file",
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
        mask_rule: what becomes of a run without a mask: "file", an error, or "nonzero", see `bold.read_bold`.
        root: folder that the paths inside `pairs` start from.

    Raises:
        FileNotFoundError: a table that is not there.
        ValueError: whatever the readers and `build_cohort` complain of.
    """
    files = {"participants": participants, "pairs": pairs, "id_map": id_map}
    tables = {name: None if path is None else read_table(path, check_ids=False) for name, path in files.items()}
    return build_cohort(
        genotype_samples=list_samples(genotypes),
        runs=None if bold is None or names_scans(tables["pairs"]) else find_runs(bold, space=space),
        unmatched=unmatched,
        mask=mask,
        mask_rule=mask_rule,
        root=root,
        **tables,
    )


def read_scans(
    *,
    bold: str | Path | None = None,
    space: str | None = None,
    pairs: str | Path | None = None,
    mask: str | Path | None = None,
    mask_rule: str = "file",
    root: str | Path | None = None,
) -> pd.DataFrame:
    """The runs that `read_cohort` would give when everybody had a genome: of the people in `pairs`, else of all in `bold`.

    Args:
        bold: folder of BIDS derivatives; not looked at when `pairs` has bold_path.
        space: BIDS space of the scans where the folder holds several.
        pairs: table with participant_id and sample_id, and where it names the scans bold_path and mask_path.
        mask: one mask for all runs.
        mask_rule: what becomes of a run without a mask: "file", an error, or "nonzero", see `bold.read_bold`.
        root: folder that the paths inside `pairs` start from.

    Returns:
        subject_id, run_id, bold_path, mask_path and any further columns, sorted by subject and run.

    Raises:
        FileNotFoundError: a pair table that is not there.
        ValueError: neither source of scans, or the list of all faults: ids, repeated scans, missing files, people without a scan.
    """
    table = None if pairs is None else read_table(pairs, check_ids=False)
    runs = None if bold is None or names_scans(table) else find_runs(bold, space=space)
    _check_arguments(runs, None, table, None, "error", mask_rule)
    faults: list[str] = []
    scans = _read_rows(runs, table, mask, root, faults)
    people = scans["subject_id"].dropna()
    if table is not None:
        people = read_mapping(table, "pairs", faults)
        faults += _find_gaps(people, {"scan": set(scans["subject_id"].dropna())}, [])
    faults += find_file_faults(of_people(scans, people) if _names_people_alone(table) else scans, mask_rule)
    if faults:
        raise ValueError(_complaint(faults, paired=table is not None))
    return of_people(scans, people)


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
    genomes = genomes_by_id(samples, faults)
    sample_of = match_genomes(**tables, known=set(), faults=faults)
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
    mask_rule: str = "file",
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
        mask_rule: what becomes of a run without a mask: "file", an error, or "nonzero": the voxels that are non-zero in any
            frame, said so in the notes.
        root: folder that relative bold_path and mask_path of `pairs` start from.

    Raises:
        ValueError: arguments that contradict each other, or the list of all faults of all tables.
    """
    _check_arguments(runs, participants, pairs, id_map, unmatched, mask_rule)
    faults: list[str] = []
    scans = _read_rows(runs, pairs, mask, root, faults)
    rows = None if participants is None else _clean_participants(participants, faults)
    genomes = genomes_by_id(genotype_samples, faults)

    sides = {"scan": set(scans["subject_id"].dropna())}
    sides |= {} if rows is None else {"row in participants": set(rows["subject_id"])}
    sample_of = match_genomes(pairs, id_map, set().union(*sides.values()), faults)
    sides["genome"] = {subject for subject, sample in sample_of.items() if sample in genomes}
    kept = sorted(set(sample_of).intersection(*sides.values()))
    if kept:
        gaps = _find_gaps(sample_of, sides, [] if pairs is not None else sorted(genomes.keys() - set(sample_of.values())))
        faults += gaps if unmatched == "error" else []
    else:
        gaps = []
        faults.append(_describe_empty_join(sides | {"genome": set(genomes)}, pairs, sample_of))
    # People who are left out may lack files; those who ought to take part may not, whatever else is wrong with them.
    wanted = kept if unmatched == "drop" else sample_of if _names_people_alone(pairs) else None
    faults += find_file_faults(scans if wanted is None else of_people(scans, wanted), mask_rule)
    if faults:
        raise ValueError(_complaint(faults, pairs is not None))
    scans = of_people(scans, kept)

    people = pd.DataFrame({"subject_id": kept, "sample_id": [genomes[sample_of[subject]] for subject in kept]}, dtype="str")
    if rows is not None:
        people = people.merge(rows, on="subject_id", how="left", validate="one_to_one")
    return Cohort(people, scans, [f"Left out: {gap}" for gap in gaps] + describe_bare_runs(scans))


def _names_people_alone(pairs: pd.DataFrame | None) -> bool:
    return pairs is not None and not names_scans(pairs)


def _check_arguments(runs, participants, pairs, id_map, unmatched: str, mask_rule: str) -> None:
    check_mask_rule(mask_rule)
    _check_tables(participants, pairs, id_map, unmatched)
    if runs is None and not names_scans(pairs):
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


def _read_rows(
    runs: pd.DataFrame | None, pairs: pd.DataFrame | None, mask: str | Path | None, root: str | Path | None, faults: list[str]
) -> pd.DataFrame:
    """All rows of the scans; those of an unusable id have none. Ids of a pair table are complained of where it is read."""
    if names_scans(pairs):
        runs = runs_of_pairs(pairs, root)
    else:
        runs = runs.assign(subject_id=checked_ids(runs["subject_id"], "scans", faults, several_rows=True))
    return clean_runs(runs, mask, faults)


def _clean_participants(participants: pd.DataFrame, faults: list[str]) -> pd.DataFrame:
    """Participants with subject_id in place of participant_id, one row an id; all else is complained of."""
    ids = pd.Series(checked_ids(participants["participant_id"], "participants", faults), index=participants.index, dtype="str")
    rows = participants.drop(columns="participant_id").assign(subject_id=ids)
    return rows[ids.notna() & ~ids.duplicated()]


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


def _complaint(faults: Sequence[str], paired: bool) -> str:
    faults = list(dict.fromkeys(faults))
    where = ("data.pairs, " if paired else "") + "data.bold, data.genotypes, data.participants"
    fix = "correct the tables" if paired else "correct the tables, or name ids that differ in data.id_map"
    return (
        f"Cohort: one scan or more, one genome and one row for everybody were expected; faults found: {len(faults)}\n  - "
        + "\n  - ".join(faults)
        + f"\n  where: {where}\n  fix: {fix}; data.unmatched=drop goes on without the people whom a table lacks."
    )

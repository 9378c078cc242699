"""Cohort: scans, genomes and tables of people flow in; one table of people and one of their runs, joined by id, flow out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainmt_align.data.alleles import NO_OPTIONS, GenotypeOptions
from brainmt_align.data.bids import find_runs
from brainmt_align.data.cohort_faults import check_arguments, check_tables, complain, describe_empty_join, find_gaps
from brainmt_align.data.genome_table import checked_ids, genomes_by_id, match_genomes, read_mapping
from brainmt_align.data.genotypes import list_samples
from brainmt_align.data.phenotype_presets import IMAGING_VISIT, read_participants
from brainmt_align.data.scan_table import (
    RUN_COLUMNS,
    clean_runs,
    describe_bare_runs,
    find_file_faults,
    names_scans,
    of_people,
    runs_of_pairs,
)
from brainmt_align.data.tables import read_table


class Genomes(NamedTuple):
    """Sample ids as the genotype file writes them, in the order of their people, and who was left out."""

    samples: list[str]
    notes: list[str]


class Cohort(NamedTuple):
    """People who have everything, and their scans; both sorted by subject_id, rows numbered from 0.

    A cohort without genomes has no column sample_id, one without scans has no rows of runs.
    """

    people: pd.DataFrame  # subject_id, sample_id as the genotype file writes it, then the participants' columns
    runs: pd.DataFrame  # subject_id, run_id, bold_path, mask_path (missing where there is none), then the given columns
    notes: list[str]  # who and what was left out and what was taken for a mask, one sentence a reason


def read_cohort(
    *,
    genotypes: str | Path | None = None,
    bold: str | Path | None = None,
    space: str | None = None,
    participants: str | Path | None = None,
    pairs: str | Path | None = None,
    id_map: str | Path | None = None,
    unmatched: str = "error",
    mask: str | Path | None = None,
    mask_rule: str = "file",
    root: str | Path | None = None,
    scans: bool = True,
    preset: str | None = None,
    instance: int = IMAGING_VISIT,
    options: GenotypeOptions = NO_OPTIONS,
) -> Cohort:
    """Read the files of a cohort and join them; see `build_cohort`.

    Args:
        genotypes: file with the genomes, such as a VCF; None: a cohort of scans and participants alone.
        bold: folder of BIDS derivatives; not looked at when `pairs` has bold_path.
        space: BIDS space of the scans where the folder holds several.
        participants: table with participant_id, or with the id column of the preset.
        pairs: table with participant_id, sample_id (unless there are no genomes) and, where it names the scans, bold_path and
            mask_path.
        id_map: table with participant_id and sample_id.
        unmatched: "error" or "drop".
        mask: one mask for all runs.
        mask_rule: what becomes of a run without a mask: "file", an error, or "nonzero", see `bold.read_bold`.
        root: folder that the paths inside `pairs` start from.
        scans: False: a cohort of genomes and participants alone; no scans are looked for.
        preset: study whose names the participants' columns have, see `phenotype_presets.PRESETS`.
        instance: visit whose values the preset takes.
        options: what the genotypes do not say of themselves.

    Raises:
        FileNotFoundError: a table that is not there.
        ValueError: a preset without participants, and whatever the readers and `build_cohort` complain of.
    """
    if preset is not None and participants is None:
        raise ValueError(
            f"Cohort: the preset {preset} names columns of a participants table, got no table.\n"
            "  where: data.participants\n  fix: name the table, or leave the preset out."
        )
    files = {"pairs": pairs, "id_map": id_map} | ({"participants": participants} if preset is None else {})
    tables = {name: None if path is None else read_table(path, check_ids=False) for name, path in files.items()}
    notes: list[str] = []
    if preset is not None:
        tables["participants"], notes = read_participants(participants, preset, instance)
    cohort = build_cohort(
        genotype_samples=None if genotypes is None else list_samples(genotypes, options),
        runs=None if bold is None or not scans or names_scans(tables["pairs"]) else find_runs(bold, space=space),
        unmatched=unmatched,
        mask=mask,
        mask_rule=mask_rule,
        root=root,
        scans=scans,
        **tables,
    )
    return cohort._replace(notes=notes + cohort.notes)


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
        pairs: table with participant_id, sample_id where there are genomes, and where it names the scans bold_path and mask_path.
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
    genomes = table is None or "sample_id" in table
    check_arguments(runs, {"participants": None, "pairs": table, "id_map": None}, "error", mask_rule, genomes=genomes)
    faults: list[str] = []
    scans = _read_rows(runs, table, mask, root, faults)
    people = scans["subject_id"].dropna()
    if table is not None:
        people = read_mapping(table, "pairs", faults) if genomes else _listed_people(table, faults)
        faults += find_gaps(people, {"scan": set(scans["subject_id"].dropna())}, [])
    faults += find_file_faults(of_people(scans, people) if _names_people_alone(table) else scans, mask_rule)
    if faults:
        complain(faults, paired=table is not None, genomes=genomes)
    return of_people(scans, people)


def read_genomes(
    *,
    genotypes: str | Path,
    pairs: str | Path | None = None,
    id_map: str | Path | None = None,
    unmatched: str = "error",
    options: GenotypeOptions = NO_OPTIONS,
) -> Genomes:
    """The genomes that `read_cohort` would give when everybody had a scan: of the people in `pairs`, else all of the file.

    Args:
        genotypes: file with the genomes, such as a VCF.
        pairs: table with participant_id and sample_id.
        id_map: refused beside `pairs`, as for a cohort; alone it takes nobody's genome away.
        unmatched: "error", or "drop" people of `pairs` whose genome is absent and say so in the notes.
        options: what the genotypes do not say of themselves.

    Raises:
        FileNotFoundError: a table that is not there.
        ValueError: arguments that contradict each other, or the list of all faults: ids, people without a genome.
    """
    tables = {name: path and read_table(path, check_ids=False) for name, path in (("pairs", pairs), ("id_map", id_map))}
    check_tables({"participants": None, **tables}, unmatched)
    samples = list_samples(genotypes, options)
    if tables["pairs"] is None:
        return Genomes(samples, [])
    faults: list[str] = []
    genomes = genomes_by_id(samples, faults)
    sample_of = match_genomes(**tables, known=set(), faults=faults)
    having = {subject for subject, sample in sample_of.items() if sample in genomes}
    gaps = find_gaps(sample_of, {"genome": having}, []) if having else []
    faults += gaps if unmatched == "error" else []
    if not having:
        faults.append(describe_empty_join({"genome": set(genomes)}, tables["pairs"], sample_of))
    if faults:
        complain(faults, paired=True)
    return Genomes([genomes[sample_of[subject]] for subject in sorted(having)], [f"Left out: {gap}" for gap in gaps])


def build_cohort(
    *,
    genotype_samples: Sequence[str] | None = None,
    runs: pd.DataFrame | None = None,
    participants: pd.DataFrame | None = None,
    pairs: pd.DataFrame | None = None,
    id_map: pd.DataFrame | None = None,
    unmatched: str = "error",
    mask: str | Path | None = None,
    mask_rule: str = "file",
    root: str | Path | None = None,
    scans: bool = True,
) -> Cohort:
    """Join scans, genomes and participants by subject id, or say everything that stands in the way.

    Ids are text; `sub-` is stripped before they are compared; whatever differs further goes through `id_map`. Without `pairs`
    every id must be in all tables. With `pairs` only the people listed there take part and nobody else is looked at. Scans or
    genomes may be left out, not both: nobody then needs them.

    Args:
        genotype_samples: ids as the genotype file writes them; None: without genomes, people have no sample_id.
        runs: subject_id, run_id, bold_path, mask_path …, one row a run; not looked at when `pairs` has bold_path.
        participants: participant_id and any other columns, one row a person.
        pairs: participant_id, sample_id, optionally bold_path, mask_path, run_id; a person with several scans has several rows.
            Without genomes sample_id is not looked at, without scans neither are the others.
        id_map: participant_id and sample_id of the people whose ids differ between scans and genomes; not looked at without
            genomes.
        unmatched: "error", or "drop" people whom a table lacks and say so in the notes.
        mask: a mask for all runs, in place of any that the tables name.
        mask_rule: what becomes of a run without a mask: "file", an error, or "nonzero": the voxels that are non-zero in any
            frame, said so in the notes.
        root: folder that relative bold_path and mask_path of `pairs` start from.
        scans: False: without scans, runs have no rows.

    Raises:
        ValueError: arguments that contradict each other, or the list of all faults of all tables.
    """
    has_genomes = genotype_samples is not None
    id_map = id_map if has_genomes else None
    tables = {"participants": participants, "pairs": pairs, "id_map": id_map}
    check_arguments(runs, tables, unmatched, mask_rule, scans, has_genomes)
    faults: list[str] = []
    found = _read_rows(runs, pairs, mask, root, faults) if scans else pd.DataFrame(columns=RUN_COLUMNS, dtype="str")
    rows = None if participants is None else _clean_participants(participants, faults)
    genomes = genomes_by_id(genotype_samples, faults) if has_genomes else {}

    sides = {"scan": set(found["subject_id"].dropna())} if scans else {}
    sides |= {} if rows is None else {"row in participants": set(rows["subject_id"])}
    known = set().union(*sides.values()) if sides else _owners(genomes, id_map)
    if has_genomes:
        sample_of = match_genomes(pairs, id_map, known, faults)
        sides["genome"] = {subject for subject, sample in sample_of.items() if sample in genomes}
    else:
        sample_of = {subject: subject for subject in known} if pairs is None else _listed_people(pairs, faults)
    kept = sorted(set(sample_of).intersection(*sides.values()))
    gaps = []
    if kept:
        gaps = find_gaps(sample_of, sides, [] if pairs is not None else sorted(genomes.keys() - set(sample_of.values())))
        faults += gaps if unmatched == "error" else []
    else:
        faults.append(describe_empty_join(sides | ({"genome": set(genomes)} if has_genomes else {}), pairs, sample_of))
    # People who are left out may lack files; those who ought to take part may not, whatever else is wrong with them.
    wanted = kept if unmatched == "drop" else sample_of if _names_people_alone(pairs) else None
    faults += find_file_faults(found if wanted is None else of_people(found, wanted), mask_rule)
    if faults:
        complain(faults, pairs is not None, scans, has_genomes)
    found = of_people(found, kept)

    samples = {"sample_id": [genomes[sample_of[subject]] for subject in kept]} if has_genomes else {}
    people = pd.DataFrame({"subject_id": kept, **samples}, dtype="str")
    if rows is not None:
        people = people.merge(rows, on="subject_id", how="left", validate="one_to_one")
    return Cohort(people, found, [f"Left out: {gap}" for gap in gaps] + describe_bare_runs(found))


def _names_people_alone(pairs: pd.DataFrame | None) -> bool:
    return pairs is not None and not names_scans(pairs)


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


def _listed_people(pairs: pd.DataFrame, faults: list[str]) -> dict[str, str]:
    """The people of a pair table whose genomes do not matter, each in place of their genome's id."""
    ids = checked_ids(pairs["participant_id"], "pairs", faults, several_rows=names_scans(pairs))
    return {person: person for person in ids if person is not None}


def _owners(genomes: Mapping[str, str], id_map: pd.DataFrame | None) -> set[str]:
    """Everyone with a genome, by the id map or under the genome's own id."""
    owner_of = {} if id_map is None else {sample: subject for subject, sample in read_mapping(id_map, "id_map", []).items()}
    return {owner_of.get(sample, sample) for sample in genomes}

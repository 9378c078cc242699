"""Whose genome is whose: sample ids of a genotype file, pair tables and id maps flow in; person → sample id flows out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from brainmt_align.data.scan_table import SHOWN, names_scans
from brainmt_align.data.tables import clean_ids
from brainmt_align.listing import some


def checked_ids(values: Iterable, table: str, faults: list[str], several_rows: bool = False) -> list[str | None]:
    """Clean ids of one column; its faults go on the list, duplicates among them unless an id may have several rows."""
    ids, found = clean_ids(values)
    faults += [f"{table}: {fault}" for fault in found if not (several_rows and "duplicated" in fault)]
    return ids


def genomes_by_id(samples: Sequence[str], faults: list[str]) -> dict[str, str]:
    """Clean id → id as the genotype file writes it."""
    genomes = dict(zip(checked_ids(samples, "genotypes", faults), samples, strict=True))
    genomes.pop(None, None)
    return genomes


def match_genomes(pairs: pd.DataFrame | None, id_map: pd.DataFrame | None, known: set[str], faults: list[str]) -> dict[str, str]:
    """The genome of everyone who should take part: by the pair table, else of everyone known by the id map or the same id."""
    name, table = ("pairs", pairs) if pairs is not None else ("id_map", id_map)
    mapped = {} if table is None else read_mapping(table, name, faults)
    sample_of = mapped if pairs is not None else {subject: subject for subject in known} | mapped
    owners = defaultdict(list)
    for subject in sorted(sample_of):
        owners[sample_of[subject]].append(subject)
    shared = [f"{sample} ({', '.join(people)})" for sample, people in sorted(owners.items()) if len(people) > 1]
    if shared:
        faults.append(f"{name}: genomes that belong to two people: {some(shared, SHOWN)}")
    # An id map may cover more people than this cohort.
    return {subject: sample for subject, sample in sample_of.items() if pairs is not None or subject in known}


def read_mapping(table: pd.DataFrame, name: str, faults: list[str]) -> dict[str, str]:
    """participant_id → sample_id; only a pair table that names scans may have several rows a person, all with one genome."""
    subjects = checked_ids(table["participant_id"], name, faults, several_rows=names_scans(table))
    samples = checked_ids(table["sample_id"], f"{name}, sample_id", faults, several_rows=True)
    found = defaultdict(dict)
    for subject, sample in zip(subjects, samples, strict=True):
        if subject is not None and sample is not None:
            found[subject][sample] = None
    torn = [f"{subject} ({', '.join(several)})" for subject, several in found.items() if len(several) > 1]
    if torn:
        faults.append(f"{name}: people with two genomes: {some(torn, SHOWN)}")
    return {subject: next(iter(several)) for subject, several in found.items()}

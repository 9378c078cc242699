"""Cohort faults: the tables of a cohort and who is in them flow in; contradictions, gaps and one complaint of all flow out."""

from collections.abc import Mapping, Sequence

import pandas as pd

from brainmt_align.data.scan_table import SHOWN, check_mask_rule, names_scans
from brainmt_align.listing import some


def check_arguments(
    runs: pd.DataFrame | None,
    tables: Mapping[str, pd.DataFrame | None],
    unmatched: str,
    mask_rule: str,
    scans: bool = True,
    genomes: bool = True,
) -> None:
    """Refuse arguments of a cohort that contradict each other; see `check_tables`.

    Args:
        runs: one row a run; None where a pair table names them.
        tables: participants, pairs and id_map, None where not given.
        unmatched: see `check_tables`.
        mask_rule: one of `scan_table.MASK_RULES`.
        scans: whether the cohort has scans.
        genomes: whether it has genomes.

    Raises:
        ValueError: naming what contradicts.
    """
    check_mask_rule(mask_rule)
    if not scans and not genomes:
        raise ValueError(
            "Cohort: expected scans, genomes or both; got neither.\n"
            "  where: data.bold, data.genotypes\n  fix: name a folder of scans or a file of genomes."
        )
    check_tables(tables, unmatched, genomes)
    if scans and runs is None and not names_scans(tables["pairs"]):
        raise ValueError(
            "Cohort: expected a folder of scans, or a pair table with bold_path; got neither.\n"
            "  where: data.bold, data.pairs\n  fix: set data.bold, or add the column."
        )


def check_tables(tables: Mapping[str, pd.DataFrame | None], unmatched: str, genomes: bool = True) -> None:
    """Refuse tables without the columns that they are for, and two tables for one purpose.

    Args:
        tables: participants, pairs and id_map, None where not given.
        unmatched: "error" or "drop".
        genomes: whether the tables must say whose genome is whose.

    Raises:
        ValueError: naming the columns or the argument.
    """
    if unmatched not in ("error", "drop"):
        raise ValueError(f"Cohort: unmatched must be 'error' or 'drop', got {unmatched!r}.\n  fix: set data.unmatched to one.")
    for name, table in tables.items():
        columns = ["participant_id", "sample_id"] if genomes and name != "participants" else ["participant_id"]
        missing = [] if table is None else [column for column in columns if column not in table]
        if missing:
            raise ValueError(
                f"Cohort: {name} needs the columns {', '.join(columns)}; it has {some([str(each) for each in table], 12)}.\n"
                f"  where: data.{name}\n  fix: rename or add {', '.join(missing)}."
            )
    participants = tables["participants"]
    taken = [] if participants is None else [column for column in ("subject_id", "sample_id") if column in participants]
    if taken:
        raise ValueError(
            f"Cohort: participants has a column {', '.join(taken)}, a name that the joined table gives itself.\n"
            "  where: data.participants\n  fix: rename it; ids of genomes belong into data.id_map."
        )
    if tables["pairs"] is not None and tables["id_map"] is not None:
        raise ValueError(
            "Cohort: either pairs or id_map names the genomes, got both.\n"
            "  where: data.pairs, data.id_map\n  fix: set one of them to null."
        )


def find_gaps(sample_of: Mapping[str, str], sides: Mapping[str, set[str]], unclaimed: Sequence[str]) -> list[str]:
    """Who lacks what, one sentence a kind.

    Args:
        sample_of: everyone who should take part, with their genome.
        sides: "scan", "row in participants", "genome" → who has it.
        unclaimed: genomes of nobody in the other tables.
    """
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


def describe_empty_join(sides: Mapping[str, set[str]], pairs: pd.DataFrame | None, sample_of: Mapping[str, str]) -> str:
    """Three ids of each side, so that the eye sees how they differ."""
    shown = [f"{len(ids)} with a {side}: {some(sorted(ids), 3) or 'none'}" for side, ids in sides.items()]
    if pairs is not None:
        listed = [who if who == sample else f"{who} = {sample}" for who, sample in sorted(sample_of.items())]
        shown.append(f"{len(listed)} in pairs: {some(listed, 3) or 'none'}")
    return "nobody is in all tables\n    " + "\n    ".join(shown)


def complain(faults: Sequence[str], paired: bool, scans: bool = True, genomes: bool = True) -> None:
    """Raise the one complaint of all faults of a cohort.

    Args:
        faults: one sentence each; repetitions are left out.
        paired: whether a pair table says who takes part.
        scans: whether the cohort has scans.
        genomes: whether it has genomes.

    Raises:
        ValueError: always.
    """
    faults = list(dict.fromkeys(faults))
    expected = ["one scan or more"] * scans + ["one genome"] * genomes
    where = ["data.pairs"] * paired + ["data.bold"] * scans + ["data.genotypes"] * genomes + ["data.participants"]
    fix = "correct the tables" if paired or not genomes else "correct the tables, or name ids that differ in data.id_map"
    raise ValueError(
        f"Cohort: {', '.join(expected)} and one row for everybody were expected; faults found: {len(faults)}\n  - "
        + "\n  - ".join(faults)
        + f"\n  where: {', '.join(where)}\n  fix: {fix}; data.unmatched=drop goes on without the people whom a table lacks."
    )

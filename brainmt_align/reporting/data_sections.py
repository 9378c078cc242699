"""Sections on the data: a run's notes, tables and figures flow in; what was made, checked and found flows out as Sections."""

from typing import Any

import pandas as pd

from brainmt_align.reporting.page import Lines, Section, Table, Text
from brainmt_align.reporting.report_sections import flat, last_part, number, setting, table_of, what_is_read
from brainmt_align.reporting.run_files import ID_COLUMNS, RunFiles

MOST_LEVELS = 8
LEAST_NUMBERS = 10  # people or runs of whom numbers are summed up
LEAST_COUNTED = 5  # smaller counts are not told
MOSTLY = 0.5  # share of distinct values from which a column of words tells people apart
LONG_NUMBER = 100_000  # of an id or a date, rather than a measurement
PART = "part"  # of people.tsv
PROTOCOL = ("num_frames", "tr_s", "depth", "height", "width")  # of the scanner, not of the person: least and most are told
SHARE_OF_MEDIAN = 0.5
MOST_NAMED = 20  # regions in a sentence
WORDS = {"num_frames": "frames (num_frames)", "tr_s": "TR in s (tr_s)", "voxels": "in-mask voxels (voxels)"}
WORDS |= {"mean_fd_mm": "mean framewise displacement in mm (mean_fd_mm)"}
SCAN_CHECKS = (
    "Every run's file can be read to its end; its header tells the orientation, and its TR agrees with the file beside it.",
    "Every mask lies on its run's grid and is not empty; inside it all values are finite, at most a quarter of the voxels is "
    "constant, at most 5 % of the frames are empty or repeated.",
)
GENOME_CHECKS = (
    "Every REF allele is what the reference has at its place, every ALT allele has bases, every region lies on a known contig.",
)


def what_was_made(run: RunFiles, recipe: str) -> Section | None:
    """The plain figures of a recipe that prepares; of a simulation, what was planted."""
    if {"retrieval", "phenotype"} & set(run.metrics):
        return None
    figures = {key: value for key, value in flat(run.metrics).items() if key and not key.startswith("parameters.")}
    rows = [[key.replace("_", " "), run.hide(last_part(number(value)))] for key, value in figures.items()]
    blocks: list[Any] = [Table(["figure", "value"], rows, "From metrics.json.", prose=True)] if rows else []
    if recipe == "simulate_cohort":
        planted = [[key, setting(run, value)] for key, value in flat(run.metrics["parameters"]).items()]
        blocks = [
            *_notes(run),
            *blocks,
            Table(["parameter", "value"], planted, "All that the simulation was told", folded=True, prose=True),
        ]
        return Section("What was simulated", blocks)
    return Section("What was made", blocks) if blocks else None


def data_checks(run: RunFiles, recipe: str) -> Section | None:
    """What the checks said during the run, and the tables of people, scans and sequences in sums; nobody's own row."""
    blocks: list[Any] = [] if recipe == "simulate_cohort" else _notes(run)
    for encoder, regions in flat(run.metrics.get("dropped_regions") or {}).items():
        if regions:
            named = f"{', '.join(map(str, regions[:MOST_NAMED]))}{' …' if len(regions) > MOST_NAMED else ''}"
            blocks.append(
                Text(f"{encoder}: left out, because they do not vary among the training people: {named} ({len(regions)}).")
            )
    if passed := checks_passed(run, recipe):
        blocks += [Text("What a run stops at, and this one passed:"), Lines(passed)]
    if run.runs is not None and (told := stand_out(run.runs)):
        blocks.append(Text(told))
    people = run.people if run.people is not None else run.participants
    part = PART if run.people is not None else None
    for table, caption, by in ((run.runs, _caption_of_runs(run.runs), None), (people, _caption_of_people(people), part)):
        if rows := [] if table is None else summarise_columns(table, run, by):
            head = ["column", *([by] if by else []), "median (quartiles) or levels", "missing"]
            blocks.append(Table(head, rows, caption, prose=True))
    if run.genotype_checks is not None and len(run.genotype_checks):
        blocks += genotype_checks(run.genotype_checks)
    if run.sensitivity is not None and len(run.sensitivity):
        shown = run.sensitivity[[name for name in run.sensitivity if name != "below_noise"]]
        words = (
            "Whether the encoder tells people apart, region by region: distances between the embeddings of distinct haplotypes "
            "(signal) against what changes when nothing about the person does (noise)."
        )
        blocks.append(table_of(shown, words))
    return Section("Data checks and quality", blocks) if blocks else None


def genotype_checks(regions: pd.DataFrame) -> list[Text | Table]:
    """What the genotypes are like over all regions, and each region in a row.

    Args:
        regions: genotype_checks.tsv.
    """
    compared, matches = int(regions["ref_compared"].sum()), int(regions["ref_matches"].sum())
    told = [f"{int(regions['variants'].sum()):,} records in {len(regions):,} regions"]
    told += [f"REF is what the FASTA has in {matches / compared:.2%} of {compared:,}"] if compared else []
    told += [f"{int(regions['mismatch_skipped'].sum()):,} of others left out"] if regions["mismatch_skipped"].any() else []
    told += [f"regions in which all haplotypes are alike: {int(regions['monomorphic'].sum())}"]
    named = {"distinct_allele_vectors": "distinct haplotypes", "ref_match_rate": "REF matches", "phase_rate": "phased"}
    columns = ["name", "contig", "bases", "variants", "indels", "ref_match_rate", "phase_rate", "missing_rate"]
    shown = regions[[*columns, "distinct_allele_vectors"]].rename(columns=named)
    words = "Genotypes by region; phased: of heterozygous calls. All columns are in genotype_checks.tsv."
    return [Text(f"{', '.join(told)}."), table_of(shown, words)]


def checks_passed(run: RunFiles, recipe: str) -> list[str]:
    """What a finished run has been checked for, in sentences: a fault in any of it would have ended it.

    Args:
        run: contents of the folder; its settings say what was a fault.
        recipe: that left it; none is known of "" and of a simulation, which reads nothing.
    """
    data = run.config.get("data")
    if not isinstance(data, dict) or recipe in ("", "simulate_cohort"):
        return []
    reads, told = what_is_read(run, recipe), []
    if reads.scans or reads.genomes:
        named = ["scans"] * reads.scans + ["genomes"] * reads.genomes + ["tables"] * reads.tables
        told.append(f"Ids of {' and '.join(named)} are usable and unique.")
    if "unmatched" in data and recipe != "prepare_fmri":
        absent = "is a fault" if data["unmatched"] == "error" else "is left out"
        told.append(f"Ids match; whoever is in one file and not in another {absent} (unmatched={data['unmatched']}).")
    if reads.scans:
        told += SCAN_CHECKS
        window = (run.config.get("train") or {}).get("window")
        told += [f"Every run has {window} frames or more, and all lie on one grid."] if window else []
        told += ["All runs lie on the grid that the checkpoint was trained on."] if recipe == "evaluate" else []
    if reads.genomes:
        told += GENOME_CHECKS
        if {"unphased", "missing"} <= set(data):
            rules = f"unphased={data['unphased']}, calls without alleles missing={data['missing']}"
            told.append(f"Heterozygotes without phase follow the rule {rules}.")
    if recipe in ("contrastive", "phenotype"):
        split = run.config.get("split") or {}
        whole = f", and no {split['groups']} either" if split.get("groups") else ""
        if split.get("torn_families"):
            whole = ", but relatives may be in different parts (split.torn_families=true)"
        told.append(f"Nobody is in two parts of the split{whole}.")
    if recipe == "evaluate" and (run.metrics.get("people") or {}).get("seen") is not None:
        told.append("Nobody whom the checkpoint was trained or chosen on takes part in a score.")
    return told


def summarise_columns(table: pd.DataFrame, run: RunFiles, by: str | None = None) -> list[list[str]]:
    """Each column in one row, or in one a part; nobody's own value and no count of fewer than 5.

    Numbers are summed up as median and quartiles, of 10 values or more; least and most are told of the scanner's settings alone.
    Levels of fewer than 5 are not named. Left out: ids, families, paths, and whatever tells people apart as an id does.

    Args:
        table: one row a person or scan.
        run: whose families' columns are left out, and whose ids are hidden.
        by: column of the parts' names, which are shown as they are; None: all rows together.

    Returns:
        cells of column, part (with `by`), summary, missing.
    """
    parts = {"": table} if by is None else dict(list(table.groupby(by, sort=False)))
    rows = []
    for name in (name for name in table if name != by and _may_be_summed_up(table[name], run)):
        for part, members in parts.items():
            column = members[name].dropna()
            told = [_summary(column, _is_number(table[name].dropna())), _few(len(members) - len(column))]
            rows.append([WORDS.get(str(name), str(name)), *([str(part)] if by else []), run.hide(told[0]), told[1]])
    return rows


def _may_be_summed_up(column: pd.Series, run: RunFiles) -> bool:
    """Whether a column describes people or scans instead of naming them."""
    name, values = str(column.name), column.dropna()
    named = name.lower() in ID_COLUMNS or name in run.families
    if named or name.lower().endswith(("_id", "path", "hash", "sha256")) or values.empty:
        return False
    if name in PROTOCOL or name in WORDS:
        return True
    if any(isinstance(each, list | dict | set) for each in values):
        return False
    distinct = values.nunique()
    if pd.api.types.is_numeric_dtype(values):
        several = distinct > 1 and not pd.api.types.is_bool_dtype(values) and bool((values % 1 == 0).all())
        an_id = distinct == len(values) or (distinct > MOSTLY * len(values) and values.abs().max() >= LONG_NUMBER)
        return not (several and an_id)
    return distinct <= MOST_LEVELS and distinct <= max(1, MOSTLY * len(values))


def _is_number(values: pd.Series) -> bool:
    """Whether values are measured; a code of few whole numbers is one of levels."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return False
    return values.name in PROTOCOL or values.name in WORDS or values.nunique() > MOST_LEVELS or not bool((values % 1 == 0).all())


def _summary(values: pd.Series, measured: bool) -> str:
    """What many values are like, in words that fit none of them alone."""
    if measured:
        extremes = f"least {number(float(values.min()))}, most {number(float(values.max()))}" if len(values) else ""
        if len(values) < LEAST_NUMBERS:
            return extremes if values.name in PROTOCOL else f"fewer than {LEAST_NUMBERS} values"
        low, median, high = (number(float(each)) for each in values.quantile([0.25, 0.5, 0.75]))
        return f"{median} ({low} to {high})" + (f"; {extremes}" if values.name in PROTOCOL else "")
    counts = values.astype(str).map(last_part).value_counts()
    told = [f"{level}: {count:,}" for level, count in counts.items() if count >= LEAST_COUNTED]
    rare = int((counts < LEAST_COUNTED).sum())
    told += [f"{rare} {'other ' if told else ''}level{'s' * (rare > 1)} of fewer than {LEAST_COUNTED}"] if rare else []
    return ", ".join(told)


def _few(count: int) -> str:
    return f"{count:,}" if count == 0 or count >= LEAST_COUNTED else f"fewer than {LEAST_COUNTED}"


def stand_out(runs: pd.DataFrame) -> str:
    """How many stored runs are unlike the others, in a sentence; "" where nothing is known of them.

    Args:
        runs: one row a run, as the store's table has it.
    """
    told = []
    for name, words in (("num_frames", "frames"), ("voxels", "in-mask voxels")):
        if name in runs and len(runs):
            told.append(
                f"{int((runs[name] < SHARE_OF_MEDIAN * runs[name].median()).sum())} have less than half the median {words}"
            )
    if {"depth", "height", "width"} <= set(runs):
        told.append(f"grids: {len(runs[['depth', 'height', 'width']].drop_duplicates())}")
    if "tr_s" in runs:
        told.append(f"TRs: {runs['tr_s'].round(3).nunique()}")
    return f"Of {len(runs):,} stored runs {', '.join(told)}." if told else ""


def _notes(run: RunFiles) -> list[Any]:
    return [Lines([run.hide(str(note)) for note in run.notes])] if run.notes else []


def _caption_of_runs(runs: pd.DataFrame | None) -> str:
    told = "Stored scans, all runs together"
    if runs is None or "subject_id" not in runs:
        return f"{told}."
    return f"{told}: {len(runs):,} runs of {runs['subject_id'].nunique():,} people."


def _caption_of_people(people: pd.DataFrame | None) -> str:
    return "" if people is None else f"People of the cohort: {len(people):,}. Counts and values of few are not told."

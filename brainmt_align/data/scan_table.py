"""Scan table: runs of a BIDS folder or of a pair table flow in; one clean row a run, and what is wrong with them, flow out."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from brainmt_align.data.bids import run_id_of
from brainmt_align.data.tables import clean_ids
from brainmt_align.listing import some

SHOWN = 10  # ids or files that a line of the complaint shows
RUN_COLUMNS = ["subject_id", "run_id", "bold_path", "mask_path"]
MASK_RULES = ("file", "nonzero")


def names_scans(pairs: pd.DataFrame | None) -> bool:
    """Whether a pair table says where the scans are."""
    return pairs is not None and "bold_path" in pairs


def runs_of_pairs(pairs: pd.DataFrame, root: str | Path | None) -> pd.DataFrame:
    """The scans that a pair table names, in the columns of `find_runs`; a row without a path names none.

    An id that is unusable is missing; the pair table's own reader complains of it.
    """
    scans = pairs.drop(columns=["participant_id", "sample_id"], errors="ignore").assign(
        subject_id=clean_ids(pairs["participant_id"]).ids
    )
    scans = scans[scans["bold_path"].notna()]
    for column in {"bold_path", "mask_path"} & set(scans):
        scans = scans.assign(**{column: [path if pd.isna(path) else str(Path(root or "") / path) for path in scans[column]]})
    if "run_id" not in scans:
        stems = [(who, run_id_of(path)) for who, path in zip(scans["subject_id"], scans["bold_path"], strict=True)]
        # File names such as filtered_func_data_clean.nii.gz are the same for everybody.
        scans = scans.assign(run_id=[stem if pd.isna(who) or who in stem else f"{who}_{stem}" for who, stem in stems])
    return scans


def clean_runs(runs: pd.DataFrame, mask: str | Path | None, faults: list[str]) -> pd.DataFrame:
    """All rows with all of RUN_COLUMNS in front; a subject_id that is unusable is missing, and repetitions are complained of.

    Args:
        runs: subject_id, run_id, bold_path, and mask_path where there are masks.
        mask: one mask for all runs, in place of any that the table names.
        faults: the list that complaints go on.
    """
    if mask is not None or "mask_path" not in runs:
        runs = runs.assign(mask_path=None if mask is None else str(mask))
    for column, what in (("bold_path", "files"), ("run_id", "run ids")):
        repeated = runs.loc[runs[column].duplicated(), column].drop_duplicates().astype(str).tolist()
        if repeated:
            faults.append(f"scans: {what} that stand in several rows: {some(repeated, SHOWN)}")
    runs = runs.astype(dict.fromkeys(RUN_COLUMNS, "str"))
    return runs[RUN_COLUMNS + [column for column in runs if column not in RUN_COLUMNS]]


def find_file_faults(scans: pd.DataFrame, mask_rule: str) -> list[str]:
    """Files that do not exist and, under mask_rule "file", runs without a mask, one sentence a kind."""
    faults = []
    for column, what in (("bold_path", "BOLD files"), ("mask_path", "masks")):
        absent = [path for path in sorted(scans[column].dropna().unique()) if not Path(path).is_file()]
        if absent:
            faults.append(f"scans: {what} that do not exist: {some(absent, SHOWN)}")
    bare = sorted(scans.loc[scans["mask_path"].isna(), "run_id"].astype(str))
    if bare and mask_rule == "file":
        faults.append(
            f"scans: no brain mask for {len(bare)} of {len(scans)} runs: {some(bare, SHOWN)} (add …_desc-brain_mask files or the "
            "column mask_path, or set data.mask=FILE; data.mask_rule=nonzero takes the voxels that are non-zero in any frame)"
        )
    return faults


def describe_bare_runs(scans: pd.DataFrame) -> list[str]:
    """A sentence on the runs whose mask is a rule instead of a file; none where all have a file."""
    bare = int(scans["mask_path"].isna().sum())
    return [f"No brain mask for {bare} of {len(scans)} runs: their voxels that are non-zero in any frame count."] if bare else []


def check_mask_rule(mask_rule: str) -> None:
    """Refuse a rule that is none of MASK_RULES.

    Raises:
        ValueError: naming those that are.
    """
    if mask_rule not in MASK_RULES:
        raise ValueError(
            f"Cohort: mask_rule must be one of {', '.join(MASK_RULES)}, got {mask_rule!r}.\n  fix: set data.mask_rule=file."
        )


def of_people(scans: pd.DataFrame, people: Iterable[str]) -> pd.DataFrame:
    """The runs of these people, sorted by subject and run, rows numbered from 0."""
    return scans[scans["subject_id"].isin(list(people))].sort_values(["subject_id", "run_id"], ignore_index=True)

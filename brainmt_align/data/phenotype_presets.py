"""Phenotype presets: tables as UK Biobank and HCP hand them out flow in; columns with friendly names, cleaned, flow out."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainmt_align.data.tables import read_table
from brainmt_align.listing import some, with_nearest

SHOWN = 10  # values that a line of the complaint shows
IMAGING_VISIT = 2  # UK Biobank's first visit with a scan
ID_COLUMNS = ("subject_id", "participant_id")
PLATFORM_COLUMN = re.compile(r"p(\d+)(?:_i(\d+))?(?:_a(\d+))?")  # the research platform's spelling: p21003_i2 is 21003-2.0
WHOLE = r"^(-?\d+)\.0+$"


class Field(NamedTuple):
    """One friendly column: where its values stand and what they mean."""

    source: str  # a column; {i} stands for the instance, the visit
    kind: str  # "number", "category" or "text"
    unit: str | None = None
    coding: Mapping[str, str] | None = None  # code → meaning; any other value is a fault. None: values stay as they are
    missing: Mapping[str, str] = {}  # code → meaning of answers that tell nothing; they become missing


class Preset(NamedTuple):
    """The columns of one study."""

    id_column: str
    fields: Mapping[str, Field]


class Participants(NamedTuple):
    """A table as `apply_preset` gives it, and a sentence on each field that it has of another instance only."""

    table: pd.DataFrame
    notes: list[str]


REFUSED = {"-3": "Prefer not to answer"}
UNTOLD = {"-1": "Do not know"} | REFUSED
SEX = {"0": "Female", "1": "Male"}
HABIT = {"0": "Never", "1": "Previous", "2": "Current"}
HOW_OFTEN = ("Daily or almost daily", "Three or four times a week", "Once or twice a week", "One to three times a month")
DRINKS = {str(code): word for code, word in enumerate((*HOW_OFTEN, "Special occasions only", "Never"), start=1)}
HANDS = {"1": "Right-handed", "2": "Left-handed", "3": "Use both right and left hands equally"}
HEALTH = {"1": "Excellent", "2": "Good", "3": "Fair", "4": "Poor"}

UK_BIOBANK = Preset(
    id_column="eid",
    fields={
        "sex": Field("31-0.0", "category", coding=SEX),
        "genetic_sex": Field("22001-0.0", "category", coding=SEX),
        "year_of_birth": Field("34-0.0", "number", "years"),
        "age": Field("21003-{i}.0", "number", "years"),
        "site": Field("54-{i}.0", "category"),
        "head_motion": Field("25741-{i}.0", "number", "mm"),
        "head_motion_task": Field("25742-{i}.0", "number", "mm"),
        "fluid_intelligence": Field("20016-{i}.0", "number", "points"),
        "reaction_time": Field("20023-{i}.0", "number", "ms"),
        "neuroticism": Field("20127-0.0", "number", "points"),
        "body_mass_index": Field("21001-{i}.0", "number", "kg/m2"),
        "sleep_duration": Field("1160-{i}.0", "number", "hours", missing=UNTOLD),
        "overall_health": Field("2178-{i}.0", "category", coding=HEALTH, missing=UNTOLD),
        "smoking": Field("20116-{i}.0", "category", coding=HABIT, missing=REFUSED),
        "alcohol": Field("20117-{i}.0", "category", coding=HABIT, missing=REFUSED),
        "alcohol_frequency": Field("1558-{i}.0", "category", coding=DRINKS, missing=REFUSED),
        "handedness": Field("1707-0.0", "category", coding=HANDS, missing=REFUSED),
        "ethnic_background": Field("21000-0.0", "category", missing=UNTOLD),
        "genetic_ethnic_grouping": Field("22006-0.0", "category", coding={"1": "Caucasian"}),
        "genotype_batch": Field("22000-0.0", "category"),
        **{f"genetic_pc_{k}": Field(f"22009-0.{k}", "number") for k in range(1, 41)},
    },
)

HCP = Preset(
    id_column="Subject",
    fields={
        "sex": Field("Gender", "category", coding={"F": "Female", "M": "Male"}),
        "age": Field("Age_in_Yrs", "number", "years"),
        "age_band": Field("Age", "category", "years"),
        "family_id": Field("Family_ID", "text"),
        "mother_id": Field("Mother_ID", "text"),
        "father_id": Field("Father_ID", "text"),
        "zygosity": Field("ZygosityGT", "category", coding={"MZ": "MZ", "DZ": "DZ"}),
        "race": Field("Race", "category", missing={"Unknown or Not Reported": "not told"}),
        "ethnicity": Field("Ethnicity", "category", missing={"Unknown or Not Reported": "not told"}),
        "education": Field("SSAGA_Educ", "number", "years"),
        "body_mass_index": Field("BMI", "number", "kg/m2"),
        "handedness_score": Field("Handedness", "number", "points"),
        "cognition_total": Field("CogTotalComp_AgeAdj", "number", "points"),
        "cognition_total_unadjusted": Field("CogTotalComp_Unadj", "number", "points"),
        "cognition_fluid": Field("CogFluidComp_AgeAdj", "number", "points"),
        "cognition_fluid_unadjusted": Field("CogFluidComp_Unadj", "number", "points"),
        "cognition_crystallised": Field("CogCrystalComp_AgeAdj", "number", "points"),
        "cognition_crystallised_unadjusted": Field("CogCrystalComp_Unadj", "number", "points"),
        "fluid_intelligence": Field("PMAT24_A_CR", "number", "points"),
        "neuroticism": Field("NEOFAC_N", "number", "points"),
        "acquisition_quarter": Field("Acquisition", "category"),
    },
)

PRESETS = {"uk_biobank": UK_BIOBANK, "hcp": HCP}


def find_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        ValueError: a name that is none of PRESETS.
    """
    if name not in PRESETS:
        raise ValueError(f"Preset: expected one of {', '.join(PRESETS)}, got {name!r}.\n  fix: set one of these, or none.")
    return PRESETS[name]


def read_participants(path: str | Path, preset: str, instance: int = IMAGING_VISIT) -> Participants:
    """Read a table as a study hands it out; ids and the columns of kind "text" never pass through a number.

    Args:
        path: .csv, .tsv or .parquet, see `tables.read_table`; ids are as the table has them, unchecked.
        preset: name of one of PRESETS.
        instance: visit whose values are taken, where a field has several.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown preset, and what `read_table` and `apply_preset` complain of.
    """
    chosen = find_preset(preset)
    texts = [field.source for field in chosen.fields.values() if field.kind == "text"]
    table = read_table(path, chosen.id_column, text_columns=texts, check_ids=False)
    columns = _known_columns(table)
    notes = [
        f"{name} left out: {_describe_absent(field, instance, columns)}"
        for name, field in chosen.fields.items()
        if field.source.format(i=instance) not in columns and _instances(field, columns)
    ]
    return Participants(apply_preset(table, preset, instance=instance), notes)


def apply_preset(
    table: pd.DataFrame, preset: str, names: Sequence[str] | None = None, instance: int = IMAGING_VISIT
) -> pd.DataFrame:
    """A table with its columns under friendly names beside their own; answers that tell nothing are missing.

    Args:
        table: one row a person, with the id column of the study (eid, Subject) and columns as it names them: UK Biobank's as
            21003-2.0 or p21003_i2, with codes or their words.
        preset: name of one of PRESETS.
        names: friendly columns that must be there; None: those that the table has.
        instance: visit whose values are taken, where a field has several: 0 the first, 2 the first with a scan in UK Biobank.

    Returns:
        participant_id in place of the study's id column, the friendly columns (float64 or text), and all others as they are.

    Raises:
        ValueError: an unknown preset, no id column, columns that have a friendly name already, or the list of all faults: names
            that are unknown or absent, values outside a coding (counted), text where numbers are due.
    """
    chosen = find_preset(preset)
    require_columns(table, [chosen.id_column])
    faults: list[str] = []
    columns = _known_columns(table)
    fields = _choose_fields(chosen, names, instance, columns, faults)
    taken = [name for name in ("participant_id", *fields) if name in table]
    if taken:
        raise ValueError(
            f"Preset: {preset} gives columns names that the table has already: {some(taken, SHOWN)}.\n"
            "  fix: rename these columns, or read the table without a preset."
        )
    ids, friendly = table[chosen.id_column], {}
    for name, field in fields.items():
        column = columns[field.source.format(i=instance)]
        friendly[name] = _translate(table[column], ids, field, f"{name} ({column})", faults)
    if faults:
        raise ValueError(
            f"Preset: the table does not fit {preset}; faults found: {len(faults)}\n  - "
            + "\n  - ".join(faults)
            + "\n  where: the participants table\n  fix: correct the table, or choose another instance or other names."
        )
    front = pd.DataFrame({"participant_id": ids, **friendly}, index=table.index)
    return pd.concat([front, table.drop(columns=chosen.id_column)], axis=1)


def unit_of(preset: str | None, name: str) -> str | None:
    """The unit of a preset's field by its friendly name; None where there is none to know."""
    fields = {} if preset is None else find_preset(preset).fields
    return fields[name].unit if name in fields else None


def require_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse names that are no columns of the table.

    Raises:
        ValueError: each unknown name with the nearest columns.
    """
    absent = [name for name in names if name not in table]
    if absent:
        columns = [str(column) for column in table]
        raise ValueError(
            f"Table: unknown columns: {'; '.join(with_nearest(name, columns) for name in absent)}.\n"
            f"  where: a table of {len(columns)} columns: {some(columns, 12)}\n  fix: correct the names, or add the columns."
        )


def as_numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """A column as float64, missing values as NaN.

    Args:
        table: one row a person; subject_id or participant_id names them.
        column: a column of it.

    Raises:
        ValueError: no such column, or values that are no finite numbers, named with their people.
    """
    require_columns(table, [column])
    ids = next((table[name] for name in ID_COLUMNS if name in table), pd.Series(table.index, index=table.index))
    faults: list[str] = []
    numbers = _to_numbers(table[column], ids, column, faults)
    if faults:
        raise ValueError(
            f"Table: {faults[0]}.\n  where: column {column}\n"
            "  fix: write them as numbers or as n/a, or treat the column as a category."
        )
    return numbers


def _known_columns(table: pd.DataFrame) -> dict[str, str]:
    """Column as a preset spells it → as the table does."""
    columns = {}
    for column in map(str, table):
        if platform := PLATFORM_COLUMN.fullmatch(column):
            field, instance, array = platform.groups(default="0")
            columns.setdefault(f"{field}-{instance}.{array}", column)
    return columns | {str(column): column for column in table}


def _choose_fields(
    preset: Preset, names: Sequence[str] | None, instance: int, columns: Mapping[str, str], faults: list[str]
) -> dict[str, Field]:
    """The fields whose columns are there; those that were asked for and are not are complained of."""
    unknown = [name for name in names or () if name not in preset.fields]
    faults += [f"unknown name: {with_nearest(name, list(preset.fields))}" for name in unknown]
    wanted = preset.fields if names is None else {name: preset.fields[name] for name in names if name in preset.fields}
    there = {name: field for name, field in wanted.items() if field.source.format(i=instance) in columns}
    if names is not None:
        faults += [f"{n}: {_describe_absent(field, instance, columns)}" for n, field in wanted.items() if n not in there]
    return there


def _instances(field: Field, columns: Mapping[str, str]) -> list[str]:
    """Instances of a field that the table has."""
    if "{i}" not in field.source:
        return []
    pattern = re.compile(re.escape(field.source).replace(r"\{i\}", r"(\d+)"))
    return sorted(match[1] for column in columns if (match := pattern.fullmatch(column)))


def _describe_absent(field: Field, instance: int, columns: Mapping[str, str]) -> str:
    there = _instances(field, columns)
    source = field.source.format(i=instance)
    if there:
        return f"column {source} is not there; the table has instance {', '.join(there)} of it, not {instance}"
    return f"column {with_nearest(source, list(columns))} is not there"


def _translate(values: pd.Series, ids: pd.Series, field: Field, name: str, faults: list[str]) -> pd.Series:
    """Values of one field as its kind wants them; what is no answer is missing, what cannot be goes on the list."""
    text = _as_text(values, whole=field.kind != "text")
    untold = text.isin([*field.missing, *field.missing.values()])
    if field.kind == "number":
        return _to_numbers(values.mask(untold), ids, name, faults)
    text = text.mask(untold)
    if field.coding is None:
        return text
    meaning = text.map({**{word: word for word in field.coding.values()}, **field.coding})
    strange = text[text.notna() & meaning.isna()].value_counts()
    if len(strange):
        listed = some([f"{value!r} ({count} people)" for value, count in strange.items()], SHOWN)
        known = ", ".join(f"{code} {word}" if code != word else code for code, word in field.coding.items())
        faults.append(f"{name}: values outside the coding {known}: {listed}")
    return meaning.astype("str")


def _as_text(values: pd.Series, whole: bool) -> pd.Series:
    """Cells as text; blank cells are missing. Numbers that are whole lose their decimal point, in text cells where `whole`."""
    text = (values.astype("Int64") if pd.api.types.is_bool_dtype(values) else values).astype("str").str.strip()
    if whole or not pd.api.types.is_string_dtype(values):
        text = text.str.replace(WHOLE, r"\1", regex=True)
    return text.mask(values.isna() | text.eq(""))


def _to_numbers(values: pd.Series, ids: pd.Series, name: str, faults: list[str]) -> pd.Series:
    """Values as float64; those that are no finite numbers go on the list with their people."""
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.astype("Float64").astype("float64")
        blank = numbers.isna()
    else:
        text = _as_text(values, whole=False)
        numbers, blank = pd.to_numeric(text, errors="coerce").astype("float64"), text.isna()
    wrong = ~blank & ~np.isfinite(numbers)
    if wrong.any():
        shown = [f"{value!r} of {person}" for value, person in zip(values[wrong].astype("str"), ids[wrong], strict=True)]
        faults.append(f"{name} must hold numbers, got other values for {len(shown)} of {len(values)} people: {some(shown)}")
    return numbers

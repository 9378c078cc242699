"""Sections of any report: a run's files flow in; what was run, its data, curves, phenotypes, provenance flow out as Sections."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from brainmt_align.evaluation.metrics import chance_levels
from brainmt_align.reporting.page import Lines, Picture, Section, Table, Text, picture, picture_of_png
from brainmt_align.reporting.phenotype_table import METRICS, closing_verdict, difference, in_order, interval, p_value
from brainmt_align.reporting.plots import training_curve
from brainmt_align.reporting.retrieval_plots import WIDTH
from brainmt_align.reporting.run_files import ID_COLUMNS, RunFiles

PER_RUN = ("out", "threads", "stores.bold", "stores.dna")  # say nothing of a result
KEY_DATA = (
    "data.root", "data.bold", "data.space", "data.participants", "data.genotypes", "data.reference", "data.regions",
    "dna.encoder", "dna.checkpoint", "fmri.checkpoint", "checkpoint", "seed",
)  # fmt: skip
MOST_FITS = 6  # curves of a run that trains several models
MOST_ROWS = 60
MOST_LEVELS = 8
PICTURE_BYTES = 4_000_000  # of all figures that the phenotype recipe drew; base64 makes a third more of them
DRAWN = {
    "predicted": "Predictions over true values, a dot a test person, of a model that never saw that person. Dashed: both agree.",
    "residuals": "True − predicted over the prediction, test people.",
    "roc": "Receiver operating characteristic of the model and its rivals, test people pooled over folds of the first seed.",
    "calibration": "Share of true cases among test people of similar predicted probability.",
    "confusion": "Test people by true and predicted class.",
}


def number(value: Any, digits: int = 3) -> str:
    """A figure as the tables show it; None and NaN are n/a."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "n/a" if value is None else str(value)
    if value != value:
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.{digits}g}"


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(values, Mapping) or not values:
        return {prefix: values}
    return {
        name: leaf for key, each in values.items() for name, leaf in flat(each, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def what_was_run(run: RunFiles, recipe: str, defaults: Mapping[str, Any] | None) -> Section:
    """The command, people per part, the data, and the settings; paths by their last part alone."""
    settings = {key: value for key, value in flat(run.config).items() if key not in PER_RUN}
    blocks: list[Any] = [Text(f"recipes/{recipe}.py" if recipe else "A run of this project.")]
    if people := _people_rows(run.metrics.get("people")):
        head = ["", *people[0][1]]
        blocks.append(Table(head, [[name or "people", *counts.values()] for name, counts in people], "People in each part."))
    key_data = [[key, _setting(run, settings[key])] for key in KEY_DATA if settings.get(key) is not None]
    if key_data and recipe != "simulate_cohort":  # which reads nothing
        blocks.append(Table(["key", "value"], key_data, "What it read. Of a path its last part is shown.", prose=True))
    if defaults is not None:
        usual = flat(defaults)
        differ = [[key, _setting(run, value), _setting(run, usual.get(key))] for key, value in settings.items()]
        differ = [row for row, (key, value) in zip(differ, settings.items(), strict=True) if usual.get(key) != value]
        caption = "Settings that differ from the default."
        blocks.append(
            Table(["key", "this run", "default"], differ, caption, prose=True)
            if differ
            else Text("All settings are the default.")
        )
    rows = [[key, _setting(run, value)] for key, value in settings.items()]
    blocks.append(Table(["key", "value"], rows, f"All {len(rows)} settings", folded=True, prose=True))
    return Section("What was run, and on what", blocks)


def data_checks(run: RunFiles) -> Section | None:
    """What the checks said during the run, and the tables of people, scans and sequences in sums; nobody's own row."""
    blocks: list[Any] = [Lines([run.hide(str(note)) for note in run.notes])] if run.notes else []
    dropped = flat(run.metrics.get("dropped_regions") or {})
    for encoder, regions in dropped.items():
        if regions:
            named = f"{', '.join(map(str, regions[:20]))}{' …' if len(regions) > 20 else ''}"
            blocks.append(
                Text(f"{encoder}: left out, because they do not vary among the training people: {named} ({len(regions)}).")
            )
    for table, caption in ((run.runs, "Stored scans, all runs together."), (run.participants, "People of the cohort.")):
        if rows := [] if table is None else summarise_columns(table):
            blocks.append(Table(["column", "median or levels", "least", "most", "missing"], rows, caption, prose=True))
    if run.sensitivity is not None and len(run.sensitivity):
        shown = run.sensitivity[[name for name in run.sensitivity if name != "below_noise"]]
        words = (
            "Whether the encoder tells people apart, region by region: distances between the embeddings of distinct haplotypes "
            "(signal) against what changes when nothing about the person does (noise)."
        )
        blocks.append(table_of(shown, words))
    return Section("Data checks and quality", blocks) if blocks else None


def figures_of_preparation(run: RunFiles) -> Section | None:
    """The plain figures of a recipe that prepares."""
    if {"retrieval", "phenotype"} & set(run.metrics):
        return None
    rows = [[key, run.hide(_last_part(number(value)))] for key, value in flat(run.metrics).items() if key]
    rows = [row for row in rows if not row[0].startswith("parameters.")]  # they stand among the settings
    return Section("What was made", [Table(["figure", "value"], rows, "From metrics.json.", prose=True)]) if rows else None


def summarise_columns(table: pd.DataFrame) -> list[list[str]]:
    """Each column in one row: median and range of numbers, counts of few levels; columns of ids, families, paths are left out.

    Args:
        table: one row a person or scan.
    """
    rows = []
    for name in table:
        column = table[name].dropna()
        words = str(name).lower()
        if words in ID_COLUMNS or words.endswith(("_id", "path", "hash", "sha256")) or column.empty:
            continue
        missing = str(len(table) - len(column))
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            rows.append([str(name), *(number(float(each)) for each in (column.median(), column.min(), column.max())), missing])
        elif column.nunique() <= MOST_LEVELS and not any(isinstance(each, list | dict | set) for each in column):
            counts = ", ".join(f"{level}: {count:,}" for level, count in column.astype(str).value_counts().items())
            rows.append([str(name), counts, "", "", missing])
    return rows


def curves(run: RunFiles) -> Section | None:
    """How the training went, fit by fit."""
    drawn: list[Any] = []
    fits = {fit: table for fit, table in run.epochs.items() if len(table) and "epoch" in table}
    for fit, table in list(fits.items())[:MOST_FITS]:
        validation = (run.metrics.get("people") or {}).get("validation")
        chance = chance_levels(validation) if not fit and isinstance(validation, int) and validation > 0 else None
        best = run.metrics.get("best_epoch") if not fit else _best_epoch(table)
        loss = "loss, mean over targets" if fit else "contrastive loss (nats)"
        figure = training_curve(table, chance, best, fit or None, loss)
        figure.set_size_inches(WIDTH, figure.get_size_inches()[1])
        told = "Dotted: the epoch whose weights were kept." if best is not None else ""
        words = f"Training, epoch by epoch, {len(table)} epochs, as written in epochs.csv{f' of {fit}' if fit else ''}. {told}"
        drawn.append(picture(figure, f"Curves of the training{f' of {fit}' if fit else ''} over its epochs", words.strip()))
    if len(fits) > MOST_FITS:
        drawn.append(Text(f"The first {MOST_FITS} of {len(fits)} fits; each folder holds its own training_curve.png.", "note"))
    return Section("Training", drawn) if drawn else None


def phenotypes(run: RunFiles) -> list[Section]:
    """One section a target: verdict, rivals with intervals, and the figures that the recipe drew."""
    sections, spent = [], 0
    for target, figures in (run.metrics.get("phenotype") or {}).items():
        blocks: list[Any] = []
        entry = figures.get("comparison")
        if entry is not None:
            blocks += [Text(closing_verdict(target, entry)), _rivals(target, entry)]
        plain = [[key, number(value)] for key, value in figures.items() if key != "comparison"]
        if plain:
            blocks.append(Table(["metric", "model"], plain, "All figures of the model, test people.", folded=entry is not None))
        left_out = []
        for kind, words in DRAWN.items():
            path = run.folder / f"{kind}_{_stem(target)}.png"
            if not path.is_file():
                continue
            spent += path.stat().st_size
            if spent > PICTURE_BYTES:
                left_out.append(path.name)
            else:
                blocks.append(_recipe_picture(path, kind, target, words))
        if left_out:
            blocks.append(Text(f"Left out to keep this file small, in the run folder: {', '.join(left_out)}.", "note"))
        if blocks:
            sections.append(Section(f"Phenotype: {target}", blocks))
    return sections


def provenance(run: RunFiles) -> Section | None:
    """Versions, commit, and hashes of what was read."""
    record = dict(run.provenance)
    if not record:
        return None
    inputs = record.pop("inputs", {}) or {}
    versions = record.pop("versions", {}) or {}
    blocks: list[Any] = []
    first = [[key, _setting(run, record.pop(key))] for key in ("written", "git_commit", "python", "platform") if key in record]
    blocks.append(
        Table(["what", "version"], [*first, *([name, number(each)] for name, each in versions.items())], "Versions.", prose=True)
    )
    if inputs:
        rows = [
            [key, *(run.hide(_last_part(number(flat(each).get(name)))) for name in ("name", "bytes", "sha256"))]
            for key, each in inputs.items()
        ]
        blocks.append(Table(["input", "file", "bytes", "SHA-256"], rows, "Files that the run read."))
    rest = [[key, _setting(run, value)] for key, value in flat(record).items() if key]
    if rest:
        shown = rest[: 3 * MOST_ROWS]
        told = f"Further facts{'' if len(shown) == len(rest) else f', the first {len(shown)} of {len(rest)}'}"
        blocks.append(Table(["fact", "value"], shown, told, folded=True, prose=True))
    return Section("Provenance", blocks)


def _people_rows(people: Any) -> list[tuple[str, dict[str, str]]]:
    """(name of the fold or "", part → how many)."""
    if not isinstance(people, Mapping) or not people:
        return []
    nested = {str(name): each for name, each in people.items() if isinstance(each, Mapping)} or {"": people}
    return [(name, {str(part): number(each) for part, each in parts.items()}) for name, parts in list(nested.items())[:MOST_ROWS]]


def _rivals(target: str, entry: dict[str, Any]) -> Table:
    metrics = METRICS[entry["task"]]
    rows = []
    for rival in in_order(entry):
        cells = [interval(entry["figures"][rival].get(metric), small=metric == "mae") for metric in metrics]
        against = difference(entry, rival, metrics[0])
        rows.append([rival, *cells, *(["", ""] if rival == entry["reference"] else [interval(against), p_value(against)])])
    names = [metric.replace("_", " ") for metric in metrics]
    caption = (
        f"{target}: {entry['task']}, {entry['n']:,} test people. In brackets 95 % bootstrap intervals over families; "
        f"differences are {entry['reference']} − rival in {names[0]}, paired on the same resamples."
    )
    return Table(["", *names, f"difference in {names[0]}", "p"], rows, caption)


def _recipe_picture(path: Path, kind: str, target: str, words: str) -> Picture:
    return picture_of_png(path.read_bytes(), f"{kind} plot of {target}", words)


def _best_epoch(table: pd.DataFrame) -> float | None:
    name = "loss_validation"
    known = name in table and table[name].notna().any()
    return float(table.loc[table[name].idxmin(), "epoch"]) if known else None


def _stem(target: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in target)


def table_of(table: pd.DataFrame, caption: str) -> Table:
    """A data frame as it is, the first rows of a long one."""
    shown = table.head(MOST_ROWS)
    told = caption if len(shown) == len(table) else f"{caption} The first {MOST_ROWS} of {len(table):,} rows."
    rows = [[number(each.item() if hasattr(each, "item") else each) for each in row] for row in shown.itertuples(index=False)]
    return Table([str(name).replace("_", " ") for name in table], rows, told)


def _setting(run: RunFiles, value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
    return run.hide(_last_part(text))


def _last_part(text: str) -> str:
    """A path by its name: where it lies is told to nobody."""
    return text.rstrip("/").rsplit("/", 1)[-1] if "/" in text and " " not in text.split("/")[0] else text

"""Sections of any report: a run's files flow in; what was run, curves, phenotypes, provenance flow out as Sections."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from brainmt_align.evaluation.metrics import chance_levels
from brainmt_align.reporting.page import Picture, Section, Table, Text, picture, picture_of_png
from brainmt_align.reporting.phenotype_figures import figures_of_target
from brainmt_align.reporting.phenotype_table import METRICS, closing_verdict, difference, in_order, interval, p_value
from brainmt_align.reporting.plots import training_curve
from brainmt_align.reporting.retrieval_plots import WIDTH
from brainmt_align.reporting.run_files import RunFiles

PER_RUN = ("out", "threads", "stores.bold", "stores.dna", "stores.alleles")  # say nothing of a result
SCAN_DATA = ("data.bold", "data.space", "data.mask", "fmri.checkpoint")
GENOME_DATA = ("data.genotypes", "data.reference", "data.regions", "data.region_window", "dna.encoder", "dna.checkpoint")
TABLE_DATA = ("data.participants", "data.preset", "data.kinship")
MOST_FITS = 6  # curves of a run that trains several models
MOST_ROWS = 60
PROCESSOR = re.compile(r"(?i)x86_64|amd64|i[3-6]86|arm64|aarch64|armv\d\w*|ppc64(le)?|riscv64|s390x")
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


class Reads(NamedTuple):
    """Which kinds of data a run reads."""

    scans: bool
    genomes: bool
    tables: bool  # of people, beside those that pair scans with genomes


def what_is_read(run: RunFiles, recipe: str) -> Reads:
    """Told from the recipe, the settings and, where a checkpoint decides, what is recorded of it."""
    told = (run.config.get("phenotype") or {}), (run.provenance.get("checkpoint_description") or {})
    inputs = next((each["inputs"] for each in told if isinstance(each.get("inputs"), str)), None)
    both = recipe == "contrastive" or "retrieval" in run.metrics
    scans = both or recipe == "prepare_fmri" or run.runs is not None or inputs in ("fmri", "both")
    genomes = both or recipe == "embed_dna" or inputs in ("dna", "both")
    return Reads(scans, genomes, recipe not in ("prepare_fmri", "embed_dna", "simulate_cohort"))


def what_was_run(run: RunFiles, recipe: str, defaults: Mapping[str, Any] | None) -> Section:
    """The command, people per part, the data, and the settings; paths by their last part alone."""
    settings = {key: value for key, value in flat(run.config).items() if key not in PER_RUN}
    blocks: list[Any] = [Text(f"recipes/{recipe}.py" if recipe else "A run of this project.")]
    if people := _people_rows(run.metrics.get("people")):
        head = ["", *people[0][1]]
        blocks.append(Table(head, [[name or "people", *counts.values()] for name, counts in people], "People in each part."))
    reads = what_is_read(run, recipe)
    keys = ["data.root", "data.pairs", "data.id_map", *(SCAN_DATA * reads.scans), *(TABLE_DATA * reads.tables)]
    keys += [*(GENOME_DATA * reads.genomes), "checkpoint", "seed"]
    key_data = [[key, setting(run, settings[key])] for key in keys if settings.get(key) is not None]
    if key_data and recipe != "simulate_cohort":  # which reads nothing
        blocks.append(Table(["key", "value"], key_data, "What it read. Of a path its last part is shown.", prose=True))
    if defaults is not None:
        usual = flat(defaults)
        differ = [[key, setting(run, value), setting(run, usual.get(key))] for key, value in settings.items()]
        differ = [row for row, (key, value) in zip(differ, settings.items(), strict=True) if usual.get(key) != value]
        caption = "Settings that differ from the default."
        blocks.append(
            Table(["key", "this run", "default"], differ, caption, prose=True)
            if differ
            else Text("All settings are the default.")
        )
    rows = [[key, setting(run, value)] for key, value in settings.items()]
    blocks.append(Table(["key", "value"], rows, f"All {len(rows)} settings", folded=True, prose=True))
    return Section("What was run, and on what", blocks)


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
        if entry is not None and not any(isinstance(each, Picture) for each in blocks):
            blocks += _pictures_of_predictions(run.predictions, target, entry)
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
    if "platform" in record:
        record["platform"] = system_of(str(record["platform"]))
    first = [[key, setting(run, record.pop(key))] for key in ("written", "git_commit", "python", "platform") if key in record]
    blocks.append(
        Table(["what", "version"], [*first, *([name, number(each)] for name, each in versions.items())], "Versions.", prose=True)
    )
    if inputs:
        rows = [
            [key, *(run.hide(last_part(number(flat(each).get(name)))) for name in ("name", "bytes", "sha256"))]
            for key, each in inputs.items()
        ]
        blocks.append(Table(["input", "file", "bytes", "SHA-256"], rows, "Files that the run read."))
    rest = [[key, setting(run, value)] for key, value in flat(record).items() if key]
    if rest:
        shown = rest[: 3 * MOST_ROWS]
        told = f"Further facts{'' if len(shown) == len(rest) else f', the first {len(shown)} of {len(rest)}'}"
        blocks.append(Table(["fact", "value"], shown, told, folded=True, prose=True))
    return Section("Provenance", blocks)


def system_of(platform: str) -> str:
    """Operating system and processor of a machine, without the kernel's build.

    Args:
        platform: as `platform.platform()` words it.
    """
    name, *rest = platform.split("-")
    release = rest[:1] if name in ("macOS", "Windows") else []  # elsewhere the release is that of one machine's kernel
    processor = [each for each in rest if PROCESSOR.fullmatch(each)][:1]
    return " ".join([name, *release, *processor])


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
    caption = f"{target}: {entry['task']}, {entry['n']:,} test people. In brackets 95 % bootstrap intervals over families"
    if len(rows) == 1:  # nobody to differ from
        return Table(["", *names], [row[:-2] for row in rows], f"{caption}.")
    caption += f"; differences are {entry['reference']} − rival in {names[0]}, paired on the same resamples."
    return Table(["", *names, f"difference in {names[0]}", "p"], rows, caption)


def _pictures_of_predictions(table: pd.DataFrame | None, target: str, entry: dict[str, Any]) -> list[Picture]:
    """The plots of a target from predictions.csv, of people who are new to the checkpoint and have a value.

    None where the scores are of values freed of covariates: those are not in the table.
    """
    known = f"{target} (observed)"
    if table is None or known not in table or entry["residualised_on"]:
        return []
    new = table[~table["seen_in_training"] & table[known].notna()]
    mark = f"{target}: p("
    of_class = {name.removeprefix(mark)[:-1]: name for name in table if name.startswith(mark)}
    if of_class:
        observed_N = new[known].astype(str).map({label: number for number, label in enumerate(of_class)})
        predicted = new[list(of_class.values())].to_numpy(float)
    else:
        observed_N, predicted = pd.to_numeric(new[known], errors="coerce"), new[target].to_numpy(float)
    if len(new) < 2 or observed_N.isna().any():  # classes coded otherwise than they are named
        return []
    task = entry["task"] if not of_class or observed_N.nunique() == 2 else "multiclass"
    model = entry["reference"]
    area = {model: f"AUROC {interval(entry['figures'][model].get('auroc'))}"}
    drawn = figures_of_target(target, task, list(of_class), observed_N.to_numpy(float), {model: predicted}, area)
    return [picture(figure, f"{kind} plot of {target}", DRAWN[kind], pixels=True) for kind, figure in drawn.items()]


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


def setting(run: RunFiles, value: Any) -> str:
    """A setting as the tables show it: nobody's id, of a path its last part."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
    return run.hide(last_part(text))


def last_part(text: str) -> str:
    """A path by its name: where it lies is told to nobody."""
    return text.rstrip("/").rsplit("/", 1)[-1] if "/" in text and " " not in text.split("/")[0] else text

"""The report: a finished run's folder flows in; report.html, one self-contained file for reading and sending, flows out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from brainmt_align.atomic import write_atomically
from brainmt_align.reporting import data_sections, report_sections, retrieval_sections
from brainmt_align.reporting.page import Page, Section, render
from brainmt_align.reporting.phenotype_table import closing_verdict
from brainmt_align.reporting.run_files import RunFiles, read_run
from brainmt_align.reporting.tables import DIRECTIONS

NAME = "report.html"
TITLES = {
    "contrastive": "Alignment of brain activity and DNA",
    "evaluate": "Evaluation of a checkpoint",
    "phenotype": "Prediction of phenotypes",
    "simulate_cohort": "A simulated cohort",
    "prepare_fmri": "Prepared scans",
    "embed_dna": "Embedded genomes",
    "": "A run",
}
SIMULATED = "Simulated data: no person was measured. What is found here was planted by the simulation."
ARTIFICIAL = "Artificial pairs: no scan belongs to its genome. Chance is the right answer, and anything above it a fault."


def write_report(folder: Path, defaults: str | None = None) -> Path:
    """Write `report.html` into a run folder: figures inline, no script, no request to anywhere, nobody's id.

    A section appears only where its data lie in the folder, so folders of every recipe and of earlier versions do.

    Args:
        folder: of a run that has written config.yaml and metrics.json; further files of the recipes are read where they lie.
        defaults: the recipe's default configuration as YAML; settings that differ from it are then listed.

    Returns:
        the path of the report; the file of an earlier call is replaced whole.

    Raises:
        FileNotFoundError: no config.yaml or no metrics.json.
        ValueError: a damaged file, which is named.
    """
    folder = Path(folder)
    text = render(describe_run(read_run(folder), None if defaults is None else yaml.safe_load(defaults)))
    return write_atomically(folder / NAME, lambda path: path.write_text(text, encoding="utf-8"))


def describe_run(run: RunFiles, defaults: Mapping[str, Any] | None = None) -> Page:
    """The report's page: title, verdict and sections in their order.

    Args:
        run: contents of the folder.
        defaults: nested settings of the recipe as it comes.
    """
    recipe = recipe_of(run)
    sections: list[Section | None] = [
        report_sections.what_was_run(run, recipe, defaults),
        data_sections.what_was_made(run, recipe),
        data_sections.data_checks(run, recipe),
        report_sections.curves(run),
        retrieval_sections.retrieval(run),
        retrieval_sections.strata(run),
        retrieval_sections.rivals(run),
        retrieval_sections.permutations(run),
        retrieval_sections.towers(run),
        retrieval_sections.similarity(run),
        retrieval_sections.attribution(run),
        *report_sections.phenotypes(run),
        report_sections.provenance(run),
    ]
    banners = [ARTIFICIAL] * bool(run.metrics.get("artificial_pairs")) + [SIMULATED] * is_simulated(run)
    footer = (
        "Made from the files of the run folder. It names nobody: no id of a person, no genotype, no row of a table of people."
    )
    return Page(TITLES[recipe], verdict_of(run), banners, [each for each in sections if each is not None], footer)


def recipe_of(run: RunFiles) -> str:
    """Which recipe left the folder, told from its settings and figures; "" where nothing tells."""
    settings, figures = run.config, run.metrics
    if "retrieval" in figures or "phenotype" in figures:
        trained = "contrastive" if "retrieval" in figures else "phenotype"
        return trained if "train" in settings else "evaluate"
    if "parameters" in figures:
        return "simulate_cohort"
    return "embed_dna" if "bases_per_second" in figures else "prepare_fmri" if "frames" in figures else ""


def is_simulated(run: RunFiles) -> bool:
    """Whether the run says that its people are simulated."""
    told = (run.metrics.get("simulated"), run.provenance.get("simulated"), (run.config.get("data") or {}).get("simulate"))
    return any(bool(each) for each in told)


def verdict_of(run: RunFiles) -> str:
    """The run in a sentence: its own verdict, or what its figures say."""
    figures, number = run.metrics, report_sections.number
    if words := (figures.get("verdict") or {}).get("words"):
        return f"{words[0].upper()}{words[1:]}." if not words.endswith(".") else words
    if retrieval := figures.get("retrieval"):
        told = []
        for side, words in DIRECTIONS.items():
            each = retrieval[side]
            chance = number(each.get("chance_recall@5"), 2)
            told.append(
                f"{words}: recall@5 {number(each.get('recall@5'), 2)} (chance {chance}, p {number(each.get('p_value'), 2)})"
            )
        return f"{'; '.join(told)}. Whether confounds explain this was not examined."
    if phenotype := figures.get("phenotype"):
        told = [closing_verdict(name, each["comparison"]) for name, each in phenotype.items() if each.get("comparison")]
        return " ".join(told) or f"Predictions of {', '.join(phenotype)}."
    made = {
        "simulate_cohort": "{scans} simulated scans with their genomes.",
        "prepare_fmri": "{runs} runs of {people} people, {frames} frames, are in the store.",
        "embed_dna": "{regions} regions: {sequences_embedded} sequences were embedded, {sequences_reused} were there before.",
    }.get(recipe_of(run), "Finished.")
    try:
        return made.format(**{key: number(value) for key, value in figures.items()})
    except KeyError:
        return "Finished."

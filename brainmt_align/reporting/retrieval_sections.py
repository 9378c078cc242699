"""Sections of an alignment: its figures, nulls, embeddings and attributions flow in; Sections of the report flow out."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainmt_align.data.kinship import families_of
from brainmt_align.evaluation.strata import column_strata
from brainmt_align.reporting import retrieval_plots as plots
from brainmt_align.reporting.page import Lines, Section, Table, Text, picture
from brainmt_align.reporting.report_sections import MOST_ROWS, number, table_of
from brainmt_align.reporting.run_files import STRATA_COLUMNS, RunFiles
from brainmt_align.reporting.tables import DIRECTIONS

DRAWN = "recall@5"  # the figure of the plot, where it was computed
INTERVALS = "In brackets: 95 % bootstrap intervals over families."


LEADS = ("mean_log_rank", DRAWN)  # of the model over a rival; metrics.json has more


def retrieval(run: RunFiles) -> Section | None:
    """Retrieval both ways among all test people."""
    figures = run.metrics.get("retrieval")
    if not figures:
        return None
    n = figures["fmri_to_dna"]["n"]
    known = " ".join([*([INTERVALS] if _has_intervals(figures) else []), "p: permutation test over re-pairings of the people."])
    table = figures_table(
        {"": figures}, f"Where the true partner stands among {n:,} test people, ranked by the cosine of the embeddings. {known}"
    )
    blocks: list[Any] = [table]
    if drawn := _interval_plot(run.metrics):
        blocks.append(drawn)
    return Section("Retrieval", blocks)


def strata(run: RunFiles) -> Section | None:
    """The same inside strata and on matched pools."""
    pools = {"within strata": run.metrics.get("strata"), "matched pools": run.metrics.get("matched")}
    pools = {name: each for name, each in pools.items() if each}
    inside = run.metrics.get("strata") or {}
    notes = [run.hide(str(note)) for note in (*(inside.get("notes") or ()), *(run.metrics.get("left_out") or ()))]
    if not pools and not notes:
        return None
    blocks: list[Any] = []
    if inside:
        told = f"Strata by {', '.join(inside['columns'])}, of at least {inside['min_people']} people each; "
        blocks.append(Text(f"{told}{inside.get('left_out', 0)} people belong to none and are left out."))
    if notes:
        blocks.append(Lines(notes))
    if pools:
        blocks.append(figures_table(pools, f"Candidates who share the confounds with the person asked for. {INTERVALS}"))
    if inside:
        rows = [[run.hide(str(label)), number(count)] for label, count in list(inside["people"].items())[:MOST_ROWS]]
        blocks.append(Table(["stratum", "people"], rows, "Test people in each stratum.", folded=len(rows) > 12))
    if matched := run.metrics.get("matched"):
        blocks.append(
            Text(f"Matched pools: the {matched['pool_size']} candidates nearest in {', '.join(matched['covariates'])}, one true.")
        )
    return Section("Within strata and among matched people", blocks)


def rivals(run: RunFiles) -> Section | None:
    """What simpler models retrieve, and how far the model leads."""
    held = run.metrics.get("rivals") or {}
    leads = [key for key in LEADS if any(key in side.get("lead", {}) for each in held.values() for side in each.values())]
    rows = []
    for name, sides in held.items():
        rows.append([name, *[""] * (2 + len(leads))])
        for side, words in DIRECTIONS.items():
            if side in sides:
                cells = [cell(sides[side], key) for key in (DRAWN, "median_rank")]
                rows.append([f"  {words}", *cells, *(_bounds(sides[side].get("lead", {}).get(key)) for key in leads)])
    if not rows:
        return None
    head = ["", DRAWN, "median rank", *(f"lead in {key.replace('_', ' ')}" for key in leads)]
    caption = (
        "The same people, ranked by simpler models. A lead is model minus rival on the same resamples: above 0 the model is "
        f"better. {INTERVALS}"
    )
    return Section("Against simpler models", [Table(head, rows, caption)])


def permutations(run: RunFiles) -> Section | None:
    """Each permutation test, and what re-paired people scored."""
    tests = {name: each for name, each in (run.metrics.get("tests") or {}).items() if each}
    if not tests:
        return None
    rows = [
        [name, *(number(each.get(key), 3) for key in ("statistic", "effect_nats", "p_value", "min_p_value", "permutations"))]
        for name, each in tests.items()
    ]
    head = ["test", "statistic", "effect (nats)", "p", "least p possible", "re-pairings"]
    caption = (
        "The statistic is the mean log rank of the true partners in nats: smaller is better. Families move as whole blocks, "
        "strata stay together. n/a: nothing to permute."
    )
    blocks: list[Any] = [Table(head, rows, caption)]
    for name, each in tests.items():
        null_K = [] if run.nulls is None else run.nulls.loc[run.nulls["test"] == name, "statistic"].dropna().to_numpy()
        if len(null_K) and each.get("statistic") is not None:
            figure = plots.permutation_histogram(null_K, each["statistic"], name, each.get("p_value"))
            words = f"{name}: what {len(null_K):,} re-pairings of the test people score, and what the true pairing does."
            blocks.append(picture(figure, f"Histogram of the permutation test {name} with the observed value", words))
    return Section("Permutation tests", blocks)


def towers(run: RunFiles) -> Section | None:
    """What both towers share as a whole: canonical correlations and CKA."""
    held = run.metrics.get("towers")
    if not held:
        return None
    canonical, cka = held["canonical"], held["cka"]
    pairs = zip(canonical["correlations"], canonical["p_fwer"], strict=True)
    rows = [[f"canonical pair {at}", number(r), number(p)] for at, (r, p) in enumerate(pairs, 1)]
    rows.append(["CKA, unbiased", number(cka["value"]), number(cka["p_value"])])
    freed = ", ".join(held["freed_of"]) or "nothing: no covariates were named"
    exact = "" if canonical["exact"] else " With families and covariates the test holds nearly, not exactly."
    caption = (
        f"Embeddings of scans and genomes, freed of {freed}; {' and '.join(map(str, canonical['components']))} principal "
        f"components. p of the pairs: permutation, at family-wise error (Winkler et al. 2020).{exact}"
    )
    return Section("What the towers share", [Table(["", "value", "p"], rows, caption)])


def similarity(run: RunFiles) -> Section | None:
    """All scans against all genomes, people ordered by the columns that the run examined, then by family."""
    if run.embeddings is None or not len(run.embeddings["people"]):
        return None
    people = run.embeddings["people"]
    order = order_of_people(run, people)
    kept = plots.order_people(order.codes)
    blocks_N = None if order.blocks is None else order.blocks.iloc[kept].tolist()
    figure = plots.similarity_matrix(run.embeddings["fmri"][kept], run.embeddings["dna"][kept], blocks_N)
    ordered = f"ordered by {', then '.join(order.codes)}" if len(order.codes.columns) else "in the order of the table"
    part = "" if len(kept) == len(people) else f" {len(kept)} of {len(people):,} people, evenly taken from that order."
    words = (
        f"Cosine similarity of every test person's scan (row) with everyone's genome (column), people {ordered}; own pairs lie "
        f"on the diagonal.{part}"
    )
    alt = f"Matrix of similarities of {len(kept)} scans and genomes"
    return Section("Similarity of scans and genomes", [picture(figure, alt, words, pixels=True)])


class PeopleOrder(NamedTuple):
    """By what people are ordered."""

    codes: pd.DataFrame  # (N, …) text that sorts as the levels do; the first column decides first
    blocks: pd.Series | None  # (N,) names of the first column's levels; None where only families order people


def order_of_people(run: RunFiles, people: pd.DataFrame) -> PeopleOrder:
    """The columns in which the run looks for confounds, then the usual ones, then families, as far as people have them.

    Args:
        run: whose settings name strata, bands and columns of relatives.
        people: one row a person; columns of numbers are cut as the strata are, columns of one level or too many left out.
    """
    settings = run.config.get("evaluation") or {}
    named = [*(settings.get("strata") or []), *((run.metrics.get("strata") or {}).get("columns") or []), *STRATA_COLUMNS]
    people = people.assign(subject_id=[f"{row:07d}" for row in range(len(people))])  # rows, whoever they are
    codes, blocks = {}, None
    for name in dict.fromkeys(named):
        if name not in people or name in run.families:  # a family orders people, but names nobody
            continue
        levels = _levels(people, name, settings.get("bands") or {})
        if 1 < levels.nunique() <= plots.MOST_BLOCKS:
            values = people[name] if pd.api.types.is_numeric_dtype(people[name]) else people[name].astype("string")
            ordered = values.groupby(levels).min().sort_values(kind="stable").index
            codes[name] = levels.map({level: f"{at:04d}" for at, level in enumerate(ordered)})
            blocks = levels if blocks is None else blocks
    if known := [name for name in run.families if name in people]:
        codes["family"] = families_of(people, known)
    return PeopleOrder(pd.DataFrame(codes, index=people.index), blocks)


def _levels(people: pd.DataFrame, name: str, bands: Mapping[str, float]) -> pd.Series:
    """Each person's level of a column, named as the strata name it; "other" where nobody is alike, "unknown" without a value."""
    known = people[people[name].notna()]
    levels = pd.Series("unknown", index=people.index)
    if len(known):
        cut = column_strata(known, [name], {key: width for key, width in bands.items() if key == name}, min_people=2)
        labels = cut[name].labels_N if name in cut else [None] * len(known)
        levels[known.index] = ["other" if label is None else label.removeprefix(f"{name}=") for label in labels]
    return levels


def attribution(run: RunFiles) -> Section | None:
    """Which regions, which voxels."""
    blocks: list[Any] = []
    if run.regions is not None and run.regions["change"].notna().any():
        table = run.regions.dropna(subset="change").rename(columns={"change": "value"})
        figure = plots.region_bars(table, "change of the log rank (nats)")
        words = (
            "How much worse true partners rank when a region is left out of everybody's genome: mean change of the log rank, "
            "both directions, test people. Blue: false discovery rate at most 5 % over all regions, by one-sided sign flips of "
            "whole families."
        )
        blocks.append(picture(figure, "Bars of what each region adds to finding partners", words))
        blocks.append(
            table_of(run.regions, "The same in figures, with the controls: haplotypes shuffled between families, other regions.")
        )
    blocks += voxel_pictures(run)
    return Section("Attribution: which regions, which voxels", blocks) if blocks else None


def voxel_pictures(run: RunFiles) -> list[Any]:
    """The group's voxels and, where the run says how many pass against the control, their t, through a glass brain."""
    sight = (
        "The largest absolute value along each line of sight; the outlines are those of the MNI brain, whatever space the scans "
        "are in."
    )
    told, blocks = run.metrics.get("voxels"), []
    if run.voxels is not None:
        words = "What each voxel adds to the similarity of scan and own genome, as written in voxel_attribution.nii.gz. "
        if told:
            words += f"Mean of the absolute maps of {told['people']} people; maps that miss completeness: {told['incomplete']}. "
        blocks.append(
            picture(glass_brain(run.voxels), "Voxels of the similarity, through a glass brain", words + sight, pixels=True)
        )
    if run.voxels_t is not None and told:
        words = (
            "The same less its control, these scans with other families' genomes, as shares of each map's sum: t over families, "
            f"as written in voxel_attribution_t.nii.gz. {told['passing']} of {told['voxels']} voxels have a larger share with "
            f"the own genome (one-sided, false discovery rate {told['false_discovery_rate']:g}). "
        )
        blocks.append(
            picture(glass_brain(run.voxels_t), "Voxels against the control, through a glass brain", words + sight, pixels=True)
        )
    return blocks


def glass_brain(image: nib.spatialimages.SpatialImage) -> Figure:
    """A map of one value a voxel (X, Y, Z), through a glass brain from three sides.

    Args:
        image: in MNI space; not-finite voxels count as 0.
    """
    from nilearn.plotting import plot_glass_brain  # slow to import, needed by few runs

    values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32), posinf=0, neginf=0)
    clean = nib.Nifti1Image(values, image.affine)
    figure = Figure(figsize=(plots.WIDTH, 1.8))
    limit = float(np.percentile(np.abs(values[values != 0]), 99)) if values.any() else 1.0
    plot_glass_brain(
        clean,
        figure=figure,
        display_mode="ortho",
        colorbar=True,
        plot_abs=False,
        vmax=limit,
        vmin=-limit,
        cmap="RdBu_r",
        cbar_tick_format="%.1g",
    )
    return figure


def figures_table(pools: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    """Recall, mean reciprocal rank, median rank and p of each pool and direction, chance and oracle below.

    Args:
        pools: name → direction → figures of `retrieval_metrics`; the name "" is left out.
        caption: of the table.
    """
    first = next(iter(pools.values()))["fmri_to_dna"]
    recalls = sorted((key for key in first if re.fullmatch(r"recall@\d+", key)), key=lambda key: int(key.split("@")[1]))
    shown = [*recalls, *(["mrr"] if "mrr" in first else []), "median_rank"]
    rows = []
    for name, figures in pools.items():
        for side, words in DIRECTIONS.items():
            if side not in figures:
                continue
            label = f"{name}, {words}" if name else words
            rows.append([label, number(figures[side].get("p_value"), 2), *(cell(figures[side], key) for key in shown)])
            for rival in ("chance", "oracle"):
                values = [figures[side].get(f"{rival}_{key}") for key in shown]
                if any(value is not None for value in values):
                    rows.append([f"  {rival}", "", *("" if value is None else number(value) for value in values)])
    return Table(["", "p", *("MRR" if key == "mrr" else key.replace("_", " ") for key in shown)], rows, caption)


def cell(figures: Mapping[str, Any], key: str) -> str:
    """A figure with its interval where there is one."""
    bounds = (figures.get("intervals") or {}).get(key)
    value = number(figures.get(key))
    return value if bounds is None else f"{value} [{number(bounds[0])}, {number(bounds[1])}]"


def _bounds(lead: list[float] | None) -> str:
    return "" if lead is None else f"{number(lead[0])} [{number(lead[1])}, {number(lead[2])}]"


def _has_intervals(figures: Mapping[str, Any]) -> bool:
    return any((each.get("intervals") or {}) for each in figures.values() if isinstance(each, Mapping))


def _interval_plot(metrics: Mapping[str, Any]) -> Any:
    """All pools and rivals in one figure, a panel a direction; None where the figure was not computed."""
    pools = {"all people": metrics["retrieval"], "within strata": metrics.get("strata"), "matched pools": metrics.get("matched")}
    pools |= {f"rival: {name}": each for name, each in (metrics.get("rivals") or {}).items()}
    panels = {}
    for side, words in DIRECTIONS.items():
        rows = [_dot(name, each[side]) for name, each in pools.items() if each and each.get(side, {}).get(DRAWN) is not None]
        if rows:
            panels[words] = pd.DataFrame(rows)
    if not panels:
        return None
    figure = plots.retrieval_intervals(panels, DRAWN)
    lines = (
        "lines are 95 % bootstrap intervals over families"
        if _has_intervals(metrics["retrieval"])
        else "no intervals were computed"
    )
    words = f"{DRAWN}: the share of people whose true partner is among the best five. Dots are the figures of the table, {lines}."
    return picture(figure, f"Dots of {DRAWN} in both directions with chance beside them", words)


def _dot(label: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    low, high = (figures.get("intervals") or {}).get(DRAWN, (np.nan, np.nan))
    known = {name: figures.get(f"{name}_{DRAWN}") for name in ("chance", "oracle")}
    return {"label": label, "value": figures[DRAWN], "low": low, "high": high} | {
        name: np.nan if value is None else value for name, value in known.items()
    }

"""Retrieval plots: figures, nulls and embeddings of an alignment flow in; a matplotlib Figure flows out, no window opens."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from brainmt_align.reporting.plots import COLOURS, GREY

WIDTH = 5.6  # inches: on a phone's 360 pixels the labels can still be read
MOST_PEOPLE = 400  # rows and columns of a similarity matrix that a page can tell apart
MOST_REGIONS = 40
MOST_BLOCKS = 16  # names that fit along the edge of a matrix
INTERVAL_COLUMNS = ("label", "value", "low", "high", "chance", "oracle")


def retrieval_intervals(panels: Mapping[str, pd.DataFrame], measure: str) -> Figure:
    """Draw a figure of retrieval as dots with their intervals, chance and oracle beside each; one panel a direction.

    Args:
        panels: title of the panel → one row a pool or rival: `label`, `value`, `low`, `high`, `chance`, `oracle`; NaN where
            unknown: an unknown bound leaves the interval out.
        measure: what the values are; "recall…" is drawn from 0 to 1 as per cent.

    Returns:
        a Figure outside pyplot.

    Raises:
        ValueError: no rows in any panel, or a column is missing.
    """
    _require_columns("Retrieval intervals", panels, INTERVAL_COLUMNS)
    heights = [max(1, len(rows)) for rows in panels.values()]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.62 * len(panels) + 0.34 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[0.6 + each for each in heights])[:, 0]
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        rows = rows.reset_index(drop=True)
        y_R = np.arange(len(rows))
        values_R = rows["value"].to_numpy(float)
        reach_2R = np.abs(np.stack([values_R - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - values_R]))
        words = "value, interval" if np.isfinite(reach_2R).any() else "value"
        axis.errorbar(values_R, y_R, xerr=np.nan_to_num(reach_2R), fmt="o", color=COLOURS[0], ms=6, lw=1.8, label=words)
        axis.plot(rows["chance"], y_R, ls="", marker="|", ms=14, mew=2, color=COLOURS[1], label="chance", zorder=1)
        if rows["oracle"].notna().any():
            axis.plot(rows["oracle"], y_R, ls="", marker="D", ms=6, mfc="none", color=COLOURS[2], label="oracle")
        axis.set_yticks(y_R, rows["label"])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_title(title, loc="left", fontsize=10)
        _tidy(axis, "x")
    if measure.startswith("recall"):
        axes[-1].set_xlim(-0.02, 1.02)
        axes[-1].xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes[-1].set_xlabel(measure)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def permutation_histogram(null_K: ArrayLike, observed: float, name: str, p_value: float | None = None) -> Figure:
    """Draw what re-paired people scored, and where the true pairing lies.

    Args:
        null_K: statistic of each re-pairing.
        observed: statistic of the true pairing.
        name: of the test.
        p_value: written beside the name; None: not tested.

    Returns:
        a Figure outside pyplot.

    Raises:
        ValueError: no re-pairing, or a statistic that is not finite.
    """
    null_K = np.asarray(null_K, dtype=float)
    if null_K.ndim != 1 or not null_K.size or not np.isfinite(null_K).all() or not np.isfinite(observed):
        raise ValueError(
            f"Permutation histogram of {name}: expected finite statistics of one or more re-pairings and of the true pairing; "
            f"got shape {null_K.shape}, {np.count_nonzero(~np.isfinite(null_K))} not finite, observed {observed}.\n"
            "  fix: leave out a test that had nothing to permute."
        )
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    axis = figure.subplots()
    span = np.ptp(null_K)
    bins = min(40, max(5, int(np.sqrt(null_K.size)))) if span > 1e-12 * max(1, np.abs(null_K).max()) else 1
    axis.hist(null_K, bins=bins, color="#B8C9D6", edgecolor="white", lw=0.4, label=f"{null_K.size:,} re-pairings")
    axis.axvline(observed, color=COLOURS[1], lw=2, label=f"true pairing: {observed:.4g}")
    axis.set_title(f"{name}: p {'n/a' if p_value is None else f'= {p_value:.2g}'}", loc="left", fontsize=10)
    axis.set(xlabel="mean log rank of true partners (nats)", ylabel="re-pairings")
    axis.margins(x=0.04)
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _tidy(axis, "y")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def order_people(groups: pd.DataFrame, most: int = MOST_PEOPLE) -> NDArray[np.int64]:
    """Rows in the order of their groups, evenly thinned out to `most`.

    Args:
        groups: (N, …) labels; the first column decides first. Missing labels come last.
        most: rows that are kept, ≥ 1.
    """
    order_N = np.arange(len(groups))
    if len(groups.columns):
        as_text = groups.reset_index(drop=True).astype("string")
        order_N = as_text.sort_values(list(as_text.columns), kind="stable", na_position="last").index.to_numpy()
    kept = np.unique(np.linspace(0, len(order_N) - 1, min(most, len(order_N))).round().astype(int))
    return order_N[kept]


def similarity_matrix(z_fmri_NE: ArrayLike, z_dna_NE: ArrayLike, blocks_N: Sequence[str] | None = None) -> Figure:
    """Draw the cosine similarity of every scan (row) with every genome (column); own pairs lie on the diagonal.

    Args:
        z_fmri_NE: unit rows of people in the order to be drawn.
        z_dna_NE: of the same people in the same order.
        blocks_N: label of each person's block; lines part neighbours of other labels, names stand at the left edge.

    Returns:
        a Figure outside pyplot.

    Raises:
        ValueError: no people, or shapes that do not belong together.
    """
    z_fmri_NE, z_dna_NE = np.asarray(z_fmri_NE, dtype=np.float32), np.asarray(z_dna_NE, dtype=np.float32)
    n = len(z_fmri_NE)
    if z_fmri_NE.ndim != 2 or z_fmri_NE.shape != z_dna_NE.shape or n == 0 or (blocks_N is not None and len(blocks_N) != n):
        raise ValueError(
            f"Similarity matrix: expected two arrays (N, E) of the same people and one label a person; got {z_fmri_NE.shape}, "
            f"{z_dna_NE.shape} and {'no' if blocks_N is None else len(blocks_N)} labels.\n  fix: pass rows of the same people."
        )
    similarity_NN = z_fmri_NE @ z_dna_NE.T
    limit = max(float(np.percentile(np.abs(similarity_NN), 99.5)), 1e-6)
    figure = Figure(figsize=(WIDTH, 4.3), layout="compressed")
    axis = figure.subplots()
    image = axis.imshow(similarity_NN, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", aspect="equal")
    figure.colorbar(image, ax=axis, label="cosine similarity", shrink=0.8, extend="both")
    axis.set(xlabel="genome", ylabel="scan")
    starts = [] if blocks_N is None else [i for i in range(n) if i == 0 or blocks_N[i] != blocks_N[i - 1]]
    if 1 < len(starts) <= MOST_BLOCKS:
        for start in starts[1:]:
            axis.axhline(start - 0.5, color="black", lw=0.8)
            axis.axvline(start - 0.5, color="black", lw=0.8)
        middles = [(start + end - 1) / 2 for start, end in zip(starts, [*starts[1:], n], strict=True)]
        axis.set_yticks(middles, [blocks_N[start] for start in starts])
        axis.set_xticks([])
    return figure


def region_bars(table: pd.DataFrame, label: str, level: float = 0.05) -> Figure:
    """Draw what each region contributes as bars, largest first; those that survive the false discovery rate in colour.

    Args:
        table: one row a region: `region`, `value`, and `q` (adjusted p), `low`, `high` where known.
        label: what the values are.
        level: of the false discovery rate.

    Returns:
        a Figure outside pyplot; of more than 40 regions those with the largest absolute values.

    Raises:
        ValueError: no rows, or a column is missing.
    """
    _require_columns("Region bars", {label: table}, ("region", "value"))
    largest = table["value"].abs().sort_values(ascending=False).index[:MOST_REGIONS]
    shown = table.loc[largest].sort_values("value", ascending=False)
    q_R = shown["q"].to_numpy(float) if "q" in shown else np.full(len(shown), np.nan)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.26 * len(shown)), layout="constrained")
    axis = figure.subplots()
    y_R = np.arange(len(shown))
    for chosen_R, colour, words in (
        (q_R <= level, COLOURS[0], f"false discovery rate ≤ {level:g}"),
        (~(q_R <= level), "#B8B8B8", "not told from 0" if np.isfinite(q_R).any() else "not tested"),
    ):
        if chosen_R.any():
            axis.barh(y_R[chosen_R], shown["value"].to_numpy(float)[chosen_R], color=colour, height=0.7, label=words)
    if {"low", "high"} <= set(shown):
        axis.hlines(y_R, shown["low"], shown["high"], color="black", lw=1)
    axis.axvline(0, color=GREY, lw=1)
    axis.set_yticks(y_R, shown["region"].astype(str))
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set_xlabel(label)
    _tidy(axis, "x")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _tidy(axis: Axes, grid: str) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis=grid, color="#E4E4E4", lw=0.8)
    axis.set_axisbelow(True)


def _require_columns(what: str, panels: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> None:
    lacking = sorted({name for rows in panels.values() for name in columns if name not in rows})
    if lacking or not sum(map(len, panels.values())):
        got = f"no {', '.join(lacking)}" if lacking else "no rows"
        raise ValueError(
            f"{what}: expected one or more rows with {', '.join(columns)}; got {got}.\n  fix: pass figures of a finished run."
        )

"""Phenotype plots: one row a prediction, true and predicted, flows in; a matplotlib Figure flows out, no window opens."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from brainmt_align.reporting.plots import COLOURS, GREY

MANY = 5_000  # more points than this are drawn as counts in hexagons
BINS = 10  # of equal width, as the expected calibration error has them
# Two more of Okabe and Ito's colours; past the sixth rival the lines change their dashes.
RIVAL_COLOURS = (*COLOURS, "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))


def predicted_against_true(
    observed_N: ArrayLike, predicted_N: ArrayLike, name: str, unit: str | None = None, caption: str | None = None
) -> Figure:
    """Draw predictions over the true values on equal axes, the line where both agree, and the least-squares line of the points.

    Predictions of a model that is unsure lie closer together than the truth: their line is flatter than the identity.

    Args:
        observed_N: true values in the target's own units.
        predicted_N: predictions in the same units and order.
        name: of the target.
        unit: written at both axes.
        caption: under the title, figures with their intervals for instance.

    Returns:
        a Figure outside pyplot; without a least-squares line where the true values are constant.

    Raises:
        ValueError: no rows, unequal lengths, or a value that is not finite.
    """
    observed_N, predicted_N = _rows(name, observed=observed_N, predicted=predicted_N)
    low, high = _padded(np.concatenate([observed_N, predicted_N]))
    figure, axis = _canvas(name, 5.4 if len(observed_N) <= MANY else 6.4, 6.0, caption)
    axis.plot([low, high], [low, high], color=GREY, lw=1.2, ls=(0, (4, 3)), label="predicted = true")
    _cloud(axis, observed_N, predicted_N, (low, high, low, high))
    if np.ptp(observed_N) > 0:
        centre = observed_N.mean()
        slope = np.polyfit(observed_N - centre, predicted_N, 1)[0]
        ends = np.array([observed_N.min(), observed_N.max()])
        line = predicted_N.mean() + slope * (ends - centre)
        axis.plot(ends, line, color=COLOURS[1], lw=1.8, label=f"least squares, slope {slope:.2f}")
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axis.set(xlabel=f"true{_in(unit)}", ylabel=f"predicted{_in(unit)}")
    _legend_below(figure, axis, columns=3)
    return figure


def residuals(observed_N: ArrayLike, predicted_N: ArrayLike, name: str, unit: str | None = None) -> Figure:
    """Draw what a prediction missed, true − predicted, over the prediction, and beside it how the misses are distributed.

    Args:
        observed_N: true values in the target's own units.
        predicted_N: predictions in the same units and order.
        name: of the target.
        unit: written at the axes.

    Returns:
        a Figure outside pyplot.

    Raises:
        ValueError: no rows, unequal lengths, or a value that is not finite.
    """
    observed_N, predicted_N = _rows(name, observed=observed_N, predicted=predicted_N)
    missed_N = observed_N - predicted_N
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    _title(figure, name)
    cloud, histogram = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    _caption(cloud, f"n = {len(missed_N):,}; true − predicted: mean {missed_N.mean():.3g}, SD {missed_N.std():.3g}")
    _cloud(cloud, predicted_N, missed_N, (*_padded(predicted_N), *_padded(missed_N)))
    cloud.set(xlim=_padded(predicted_N), ylim=_padded(missed_N))
    cloud.set(xlabel=f"predicted{_in(unit)}", ylabel=f"true − predicted{_in(unit)}")
    edges = np.linspace(*_padded(missed_N), 1 + min(40, max(12, int(np.sqrt(len(missed_N))))))
    histogram.hist(missed_N, bins=edges, orientation="horizontal", color=COLOURS[0], alpha=0.75)
    histogram.set_xlabel("count")
    histogram.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axis in (cloud, histogram):
        axis.axhline(0, color=GREY, lw=1.2, ls=(0, (4, 3)), zorder=3)
        _bare(axis)
    return figure


def roc(observed_N: ArrayLike, scores: Mapping[str, ArrayLike], name: str, areas: Mapping[str, str] | None = None) -> Figure:
    """Draw the receiver operating characteristic of several rivals on the same rows, and the line of a coin.

    Args:
        observed_N: 0 or 1, both present.
        scores: by rival, (N,): larger where 1 is more likely; only the order of the rows counts.
        name: of the target, and which class is 1.
        areas: words for the legend by rival, an area with its interval for instance; rivals without are named alone.

    Returns:
        a Figure outside pyplot, rivals in the order of `scores`.

    Raises:
        ValueError: no rows or rivals, unequal lengths, a score that is not finite, observed values other than 0 and 1 or all of
            one class, or an area of a rival without scores.
    """
    if not scores:
        raise ValueError(f"ROC of {name}: expected the scores of one rival at least, got none.\n  fix: pass rival → scores.")
    if unknown := sorted(set(areas or {}) - set(scores)):
        raise ValueError(
            f"ROC of {name}: expected areas of {', '.join(scores)}; got {', '.join(unknown)}.\n  fix: name rivals as in scores."
        )
    observed_N, *scores_N = _rows(name, observed=observed_N, **{f"scores of {rival}": score for rival, score in scores.items()})
    _check_binary(name, observed_N, both=True)
    figure, axis = _canvas(name, 5.4, 5.3 + 0.22 * len(scores))
    axis.plot([0, 1], [0, 1], color=GREY, lw=1.2, ls=(0, (4, 3)), label="chance")
    for position, (rival, score_N) in enumerate(zip(scores, scores_N, strict=True)):
        false_positives, true_positives, _ = roc_curve(observed_N, score_N)
        words = f"{rival}: {areas[rival]}" if areas and rival in areas else rival
        dashes = DASHES[position // len(RIVAL_COLOURS) % len(DASHES)]
        colour = RIVAL_COLOURS[position % len(RIVAL_COLOURS)]
        axis.plot(false_positives, true_positives, color=colour, ls=dashes, lw=1.8, label=_plain(words))
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axis.set(xlabel="false positives among class 0", ylabel="true positives among class 1")
    _percent(axis.xaxis, axis.yaxis)
    _legend_below(figure, axis, columns=1)
    return figure


def calibration(observed_N: ArrayLike, probability_N: ArrayLike, name: str) -> Figure:
    """Draw how often class 1 came true where it was predicted with some probability, in 10 bins of equal width.

    A point stands at the mean probability of its bin with the 95 % Wilson interval of the share; empty bins have none. Below: how
    many predictions a bin holds.

    Args:
        observed_N: 0 or 1.
        probability_N: of class 1, in [0, 1].
        name: of the target, and which class is 1.

    Returns:
        a Figure outside pyplot.

    Raises:
        ValueError: no rows, unequal lengths, a value that is not finite, observed values other than 0 and 1, or a probability
            outside [0, 1].

    Reference:
        Wilson, Journal of the American Statistical Association 1927.
    """
    observed_N, probability_N = _rows(name, observed=observed_N, probability=probability_N)
    _check_binary(name, observed_N)
    if probability_N.min() < 0 or probability_N.max() > 1:
        raise ValueError(
            f"Plot of {name}: expected probabilities in [0, 1], got {probability_N.min():g} to {probability_N.max():g}.\n"
            "  fix: pass probabilities, not logits."
        )
    bin_N = np.minimum((probability_N * BINS).astype(int), BINS - 1)
    counts = np.bincount(bin_N, minlength=BINS)
    filled = np.flatnonzero(counts)
    positives = np.bincount(bin_N, observed_N, BINS)[filled].astype(int)
    shares = positives / counts[filled]
    means = np.bincount(bin_N, probability_N, BINS)[filled] / counts[filled]
    wilson = [binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in zip(positives, counts[filled], strict=True)]
    # At a share of 0 or 1 rounding may leave the interval's end a hair on the wrong side.
    reach = np.maximum([shares - [ci.low for ci in wilson], [ci.high for ci in wilson] - shares], 0)

    figure = Figure(figsize=(5.4, 6.4), layout="constrained")
    _title(figure, name)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=GREY, lw=1.2, ls=(0, (4, 3)), label="as often as predicted")
    upper.errorbar(
        means, shares, reach, color=COLOURS[0], marker="o", ms=5, lw=1.4, elinewidth=1.2, capsize=3, label="observed, 95 %"
    )
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed share of class 1")
    _percent(upper.yaxis, lower.xaxis)
    lower.bar((np.arange(BINS) + 0.5) / BINS, counts, width=0.92 / BINS, color=COLOURS[0], alpha=0.75)
    lower.set(xlabel="predicted probability of class 1", ylabel="count")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axis in (upper, lower):
        _bare(axis)
    figure.align_ylabels()
    _legend_below(figure, upper, columns=2)
    return figure


def confusion(matrix_CC: ArrayLike, classes: Sequence[str], name: str) -> Figure:
    """Draw how many of each class were predicted as which, with the share of the row, which colours the cell too.

    Args:
        matrix_CC: counts, rows the observed class, columns the predicted one.
        classes: names in the order of rows and columns, two at least; legible up to about 12.
        name: of the target.

    Returns:
        a Figure outside pyplot; the row of a class that nobody has shows dashes for shares.

    Raises:
        ValueError: not a square matrix of whole numbers ≥ 0 with a name a row and two rows at least, or nobody in it.
    """
    matrix_CC, size = np.asarray(matrix_CC, dtype=np.float64), len(classes)
    if matrix_CC.shape != (size, size) or size < 2:
        raise ValueError(
            f"Confusion of {name}: expected a row and a column a class, two classes at least; got shape {matrix_CC.shape} for "
            f"{size} classes.\n  fix: pass counts and names of the same classes."
        )
    if not (np.isfinite(matrix_CC).all() and (matrix_CC >= 0).all() and (matrix_CC % 1 == 0).all() and matrix_CC.any()):
        raise ValueError(
            f"Confusion of {name}: expected whole numbers ≥ 0, one above 0 at least; got {matrix_CC.min():g} to "
            f"{matrix_CC.max():g} with the sum {matrix_CC.sum():g}.\n  fix: pass counts, not shares."
        )
    people_C = matrix_CC.sum(axis=1)
    share_CC = matrix_CC / np.maximum(people_C, 1)[:, None]
    side = max(2.6, 0.66 * size)
    figure = Figure(figsize=(side + 2.6, side + 1.9), layout="constrained")
    _title(figure, name)
    axis = figure.subplots()
    image = axis.imshow(share_CC, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(size, size):
        share = f"{share_CC[row, column]:.0%}" if people_C[row] else "–"
        colour = "white" if share_CC[row, column] > 0.65 else "black"
        text = f"{matrix_CC[row, column]:,.0f}\n{share}"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=10 if size <= 4 else 8)
    words = [fill(_plain(str(each)), 16) for each in classes]
    slanted = max(len(line) for word in words for line in word.splitlines() or [""]) > 6
    axis.set_xticks(
        range(size),
        words,
        fontsize=9,
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else None,
    )
    axis.set_yticks(range(size), [f"{word}\nn = {n:,.0f}" for word, n in zip(words, people_C, strict=True)], fontsize=9)
    axis.set(xlabel="predicted class", ylabel="observed class")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, shrink=0.8, label="share of the observed class")
    bar.outline.set_visible(False)
    _percent(bar.ax.yaxis)
    return figure


def _rows(name: str, **columns: ArrayLike) -> list[NDArray[np.float64]]:
    """The columns as (N,) float64, checked to stand side by side and to be drawable."""
    arrays = {words: np.asarray(column, dtype=np.float64) for words, column in columns.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or any(len(shape) != 1 or shape[0] == 0 for shape in shapes):
        got = ", ".join(f"{words} {array.shape}" for words, array in arrays.items())
        raise ValueError(
            f"Plot of {name}: expected one value a row and one row at least; got {got}.\n  fix: pass rows that belong together."
        )
    for words, array in arrays.items():
        if missing := np.count_nonzero(~np.isfinite(array)):
            raise ValueError(
                f"Plot of {name}: expected finite values; got {missing} of {len(array)} in {words} that are not.\n"
                "  fix: leave out rows without a value."
            )
    return list(arrays.values())


def _check_binary(name: str, observed_N: NDArray[np.float64], both: bool = False) -> None:
    seen = np.unique(observed_N)
    if not np.isin(seen, (0, 1)).all() or (both and len(seen) < 2):
        got = ", ".join(f"{value:g}" for value in seen[:5])
        raise ValueError(
            f"Plot of {name}: expected observed values 0 and 1{', both present' if both else ''}; got {got}.\n"
            "  fix: pass the class index of people of both classes."
        )


def _cloud(axis: Axes, x_N: NDArray[np.float64], y_N: NDArray[np.float64], extent: tuple[float, float, float, float]) -> None:
    """Points that let each other through; counts in hexagons where there are too many to see."""
    if len(x_N) <= MANY:
        alpha = float(np.clip(12 / np.sqrt(len(x_N)), 0.15, 0.75))
        axis.scatter(x_N, y_N, s=18, color=COLOURS[0], alpha=alpha, linewidths=0, zorder=2, label=f"n = {len(x_N):,}")
        return
    hexagons = axis.hexbin(x_N, y_N, gridsize=45, extent=extent, mincnt=1, bins="log", cmap="Blues", linewidths=0.1, zorder=1)
    axis.figure.colorbar(hexagons, ax=axis.figure.axes, shrink=0.7, label=f"count, n = {len(x_N):,}")


def _padded(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits with room around the values, and around a constant too."""
    pad = 0.05 * np.ptp(values) or 0.05 * abs(values[0]) or 1.0
    return float(values.min() - pad), float(values.max() + pad)


def _canvas(name: str, width: float, height: float, caption: str | None = None) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    _title(figure, name)
    axis = figure.subplots()
    _bare(axis)
    _caption(axis, caption)
    return figure, axis


def _title(figure: Figure, name: str) -> None:
    width = int(figure.get_figwidth() * 10)
    figure.suptitle(fill(_plain(name), width), x=0.01, ha="left", fontsize=11, fontweight="bold")


def _caption(axis: Axes, words: str | None) -> None:
    if words:
        axis.set_title(fill(_plain(words), 64), loc="left", fontsize=9, color=GREY)


def _plain(words: str) -> str:
    """Dollar signs are money here, never mathematics."""
    return words.replace("$", r"\$")


def _in(unit: str | None) -> str:
    return f" ({_plain(unit)})" if unit else ""


def _percent(*axes: Any) -> None:
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _bare(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#E4E4E4", lw=0.8)
    axis.set_axisbelow(True)


def _legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """Outside the axes, where long names cover nothing."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8)

"""Plots: figures of a finished run flow in; a matplotlib Figure flows out, and no window is ever opened."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Okabe and Ito's colours keep apart for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#6B6B6B"
# Label and colour of the usual columns: training blue, validation vermilion. Others take their name and the colours in turn.
STYLES = {
    "loss": ("training", COLOURS[0]),
    "loss_train": ("training", COLOURS[0]),
    "loss_validation": ("validation", COLOURS[1]),
    "mean_rank": ("mean rank", COLOURS[1]),
    "recall@5": ("recall@5", COLOURS[1]),
    "learning_rate": ("learning rate", GREY),
}


class _Panel(NamedTuple):
    prefix: str  # columns that start so are drawn here
    label: str
    height: float


PANELS = (
    _Panel("loss", "contrastive loss (nats)", 2.6),
    _Panel("recall@", "recall,\nvalidation people", 2.6),
    _Panel("mean_rank", "mean rank,\nvalidation people", 2),
    _Panel("learning_rate", "learning\nrate", 1),
)


def training_curve(
    history: pd.DataFrame | Sequence[Mapping[str, Any]],
    chance: Mapping[str, float] | None = None,
    best: float | None = None,
    title: str | None = None,
    loss_label: str = "contrastive loss (nats)",
) -> Figure:
    """Draw how a run trained: loss, recall of the validation people, mean rank, learning rate, one panel each where recorded.

    Args:
        history: one row an epoch or step: `epoch` or `step`, and any of `loss…`, `recall@k…`, `mean_rank…`, `learning_rate`;
            missing values are passed over, other columns are not drawn.
        chance: level of a model that knows nothing, by column.
        best: the epoch (or step) whose weights were kept.
        title: one line above the panels.
        loss_label: what the loss is.

    Returns:
        a Figure outside pyplot; `figure.savefig(path)` writes it.

    Raises:
        ValueError: no rows, no `epoch` or `step`, or nothing to draw.
    """
    table = pd.DataFrame(history)
    along = next((name for name in ("epoch", "step") if name in table), None)
    recorded = [str(name) for name in table if table[name].notna().any()]
    known = [panel._replace(label=loss_label) if panel.prefix == "loss" else panel for panel in PANELS]
    columns = {panel: [name for name in recorded if name.startswith(panel.prefix)] for panel in known}
    panels = [panel for panel in known if columns[panel]]
    if table.empty or along is None or not panels:
        raise ValueError(
            f"Training curve: expected rows with epoch or step and one of {', '.join(panel.prefix + '…' for panel in PANELS)}; "
            f"got {len(table)} rows with {', '.join(map(str, table.columns)) or 'no columns'}.\n"
            "  fix: pass the epochs of a run's history."
        )
    heights = [panel.height for panel in panels]
    figure = Figure(figsize=(7.2, 0.9 + 0.85 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, axis in zip(panels, axes, strict=True):
        _draw_series(axis, table, along, columns[panel], chance or {})
        if best is not None:
            axis.axvline(best, color=GREY, lw=1, ls=":", zorder=1, label=f"best {along}: {best:g}" if axis is axes[0] else None)
        _finish_panel(axis, panel)
    axes[-1].set_xlabel(along)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _draw_series(axis: Axes, table: pd.DataFrame, along: str, names: Sequence[str], chance: Mapping[str, float]) -> None:
    """One line a column, and its chance level, dashed in the same colour."""
    for position, name in enumerate(names):
        label, default = STYLES.get(name, (name.replace("_", " "), None))
        colour = default or COLOURS[position % len(COLOURS)]
        drawn = table[[along, name]].dropna()
        axis.plot(drawn[along], drawn[name], color=colour, lw=1.6, marker="o" if len(drawn) <= 60 else "", ms=3.2, label=label)
        if name in chance:
            level = f"{chance[name]:.1%}" if name.startswith("recall@") else f"{chance[name]:g}"
            axis.axhline(chance[name], color=colour, lw=1.2, ls=(0, (4, 3)), alpha=0.75, zorder=1, label=f"chance: {level}")


def _finish_panel(axis: Axes, panel: _Panel) -> None:
    axis.set_ylabel(panel.label)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#E4E4E4", lw=0.8)
    axis.set_axisbelow(True)
    if panel.prefix == "recall@":
        axis.set_ylim(-0.02, 1.02)
        axis.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    if panel.prefix == "learning_rate":
        axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axis.set_ylim(bottom=0)
    else:
        axis.legend(frameon=False, fontsize=8, loc="best")

"""Phenotype table: a target's entry of metrics.json flows in; a rich Table of all rivals and one sentence of verdict flow out."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

# Columns by task; the first is the main metric, by which the rivals are judged. Of all these first ones larger is better.
METRICS = {
    "regression": ("r2", "pearson", "mae"),
    "binary": ("auroc", "balanced_accuracy", "auprc"),
    "multiclass": ("balanced_accuracy", "auroc", "accuracy"),
    "ordinal": ("balanced_accuracy", "auroc", "accuracy"),
}
# Rivals whose names say so know the planted truth, learnt from shuffled labels, or learnt nothing but the training people's mean.
ORACLE, PERMUTED, MEAN = "oracle", "permuted", "mean of the training people"


def comparison_table(target: str, entry: dict[str, Any]) -> Table:
    """All rivals of one target: the reference first, the oracle last, each with its metrics and its distance to the reference.

    Args:
        target: name of the phenotype.
        entry: what metrics.json says of it: `task`, `n` (test people), `folds`, `unit`, `residualised_on`, `reference`, `figures`
            (rival → metric → value, low, high), `differences` (rival → metric → value, low, high, p; reference − rival) and
            `planted` (metric → value, or None). None and NaN are shown as n/a.

    Returns:
        a Table that fits 120 columns.

    Raises:
        ValueError: an unknown task, or a reference without figures.
    """
    main = _main_metric(target, entry)
    residualised = f"residualised on {', '.join(entry['residualised_on'])}" if entry["residualised_on"] else "not residualised"
    folds = f"{entry['folds']} fold{'' if entry['folds'] == 1 else 's'}"
    positive = f" (positive: {entry['positive_class']})" if entry.get("positive_class") else ""
    table = Table(
        title=Text(f"{target}: {entry['task']}{positive}, {entry['n']:,} test people, {folds}, {residualised}", style="italic"),
        caption=Text(_how_to_read(entry), style="dim"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("rival", min_width=14)
    for metric in METRICS[entry["task"]]:
        unit = f" ({entry['unit']})" if metric == "mae" and entry["unit"] else ""
        table.add_column(Text(_words(metric) + unit), justify="right")
    table.add_column(Text(f"reference − rival,\n{_words(main)}"), justify="right")
    table.add_column("p", justify="right")
    for rival in in_order(entry):
        figures = [interval(entry["figures"][rival].get(metric), small=metric == "mae") for metric in METRICS[entry["task"]]]
        style = "bold" if rival == entry["reference"] else "dim" if ORACLE in rival else ""
        against = difference(entry, rival, main)
        distance = ("", "") if rival == entry["reference"] else (interval(against), p_value(against))
        # As Text, so that no bracket is taken for markup.
        table.add_row(*(Text(cell) for cell in (rival, *figures, *distance)), style=style)
    return table


def closing_verdict(target: str, entry: dict[str, Any]) -> str:
    """One sentence on whether the reference holds against its strongest rival and against the training people's mean.

    The strongest rival has the largest main metric; the oracle and permuted labels are none. The interval of the paired
    difference decides: all above 0 the reference wins, nowhere above 0 it falls behind, and around 0 nobody can tell.

    Args:
        target: name of the phenotype.
        entry: as of `comparison_table`.

    Raises:
        ValueError: an unknown task, or a reference without figures.
    """
    main = _main_metric(target, entry)
    reference, figures = entry["reference"], entry["figures"]
    values = {rival: _known(figures[rival].get(main), "value") for rival in figures}
    us = f"{target}: {reference}, {_words(main)} {_number(values[reference])},"
    if values[reference] is None:
        return f"{us} cannot be judged: the metric is undefined on these test people."
    rivals = [rival for rival in figures if rival != reference and ORACLE not in rival and PERMUTED not in rival]
    judged = {rival: _judge(difference(entry, rival, main)) for rival in rivals}
    if judged.get(MEAN) == "worse":
        return f"{us} is worse than the {MEAN}{_brackets(entry, MEAN, main)}."
    valued = [rival for rival in rivals if values[rival] is not None and judged[rival] is not None]
    if not valued:
        return f"{us} cannot be judged: no rival with a paired difference stands beside it."
    strongest = max(valued, key=lambda rival: values[rival])
    them = f"{'the ' if strongest == MEAN else ''}{strongest}, {_words(main)} {_number(values[strongest])}"
    verdict, tail = {
        "better": ("beats", f", yet cannot be told apart from the {MEAN}"),
        "worse": ("does not beat but falls behind", f", and cannot be told apart from the {MEAN}"),
        "unclear": ("cannot be told apart from", f", nor from the {MEAN}"),
    }[judged[strongest]]
    if strongest == MEAN or judged.get(MEAN) != "unclear":
        tail = ""
    return f"{us} {verdict} its strongest rival, {them}{_brackets(entry, strongest, main)}{tail}."


def _main_metric(target: str, entry: dict[str, Any]) -> str:
    """The metric that a task is judged by, of an entry that can be judged.

    Raises:
        ValueError: an unknown task, or a reference without figures.
    """
    if entry["task"] not in METRICS:
        raise ValueError(
            f"Figures of {target}: expected a task of {', '.join(METRICS)}; got {entry['task']!r}.\n"
            "  fix: pass a target's entry of metrics.json."
        )
    if entry["reference"] not in entry["figures"]:
        raise ValueError(
            f"Figures of {target}: expected the reference {entry['reference']!r} among the rivals; got "
            f"{', '.join(entry['figures']) or 'none'}.\n  fix: name a rival that has figures as the reference."
        )
    return METRICS[entry["task"]][0]


def in_order(entry: dict[str, Any]) -> list[str]:
    """Rivals of a target: the reference, the others as they come, the oracle."""
    return sorted(entry["figures"], key=lambda rival: (rival != entry["reference"], ORACLE in rival))


def _how_to_read(entry: dict[str, Any]) -> str:
    lines = ["[ ]: 95 % percentile bootstrap over families; differences are paired, on the same resamples"]
    delongs = [f"{rival} {_number(each['delong']['p'])}" for rival, each in entry["differences"].items() if "delong" in each]
    if delongs:
        lines.append(f"DeLong's p, people being independent: {', '.join(delongs)}")
    if entry["planted"]:
        truth = ", ".join(f"{_words(metric)} {_number(value)}" for metric, value in entry["planted"].items())
        lines.append(f"planted truth: {truth}")
    return "\n".join(lines)


def difference(entry: dict[str, Any], rival: str, metric: str) -> dict[str, Any] | None:
    """Reference − rival in a metric, with its interval and p; None where it was not computed."""
    return entry["differences"].get(rival, {}).get(metric)


def _judge(difference: dict[str, Any] | None) -> str | None:
    """ "better", "worse", "unclear" from the interval; None without one."""
    low, high = _known(difference, "low"), _known(difference, "high")
    if low is None or high is None:
        return None
    return "better" if low > 0 else "worse" if high <= 0 and low < 0 else "unclear"


def _known(figure: dict[str, Any] | None, part: str) -> float | None:
    """A part of a figure; None where it is missing or NaN."""
    value = figure[part] if figure else None
    return None if value is None or value != value else value


def _brackets(entry: dict[str, Any], rival: str, metric: str) -> str:
    return f" (difference {interval(difference(entry, rival, metric))})"


def interval(figure: dict[str, Any] | None, small: bool = False) -> str:
    """A figure as `0.30 [0.10, 0.50]`; `small`: in units of its own, where two decimals may say nothing."""
    value, low, high = (_known(figure, part) for part in ("value", "low", "high"))
    return "n/a" if value is None else f"{_number(value, small)} [{_number(low, small)}, {_number(high, small)}]"


def _number(value: float | None, small: bool = False) -> str:
    """Two decimals; three digits where those would say nothing: of huge values, and of small ones in units of their own."""
    if value is None or value != value:
        return "n/a"
    if abs(value) >= 1e6 or (small and 0 < abs(value) < 0.1):
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def p_value(difference: dict[str, Any] | None) -> str:
    """The p of a difference as the tables show it."""
    value = _known(difference, "p")
    return "n/a" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")

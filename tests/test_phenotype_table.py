"""Tests of the phenotype table: what stands in its cells, how wide it is, and each verdict."""

import io

import pytest
from rich.console import Console

from brainmt_align.reporting.phenotype_table import METRICS, closing_verdict, comparison_table

MODEL, RIDGE, MEAN, ORACLE = "brainmt (fmri)", "connectivity + ridge", "mean of the training people", "planted (oracle)"


def figure(value, low=None, high=None, **more):
    return {"value": value, "low": low, "high": high, **more}


def entry_of(task="regression", differences=None, values=None, **changes):
    """An entry of metrics.json; differences and values in the main metric by rival."""
    main = METRICS[task][0]
    values = {ORACLE: 0.5, RIDGE: 0.4, MODEL: 0.3, "covariates only": 0.2, MEAN: -0.1} if values is None else values
    figures = {
        rival: {main: figure(value, -0.25, 0.75)} | {metric: figure(0.125, 0.0, 0.25) for metric in METRICS[task][1:]}
        for rival, value in values.items()
    }
    entry = {
        "task": task,
        "n": 1080,
        "folds": 5,
        "unit": None,
        "residualised_on": ["age", "sex"],
        "reference": MODEL,
        "figures": figures,
        "differences": {rival: {main: interval} for rival, interval in (differences or {}).items()},
        "planted": None,
    }
    return entry | changes


def shown(table, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()


def row_of(table, rival):
    return next(line for line in shown(table) if line.strip().startswith(rival)).split(rival)[1]


@pytest.mark.parametrize("task", METRICS)
def test_comparison_table_has_the_metrics_of_its_task_in_order(task):
    table = comparison_table("cognition", entry_of(task))
    headings = [str(column.header) for column in table.columns]
    main, *others = (metric.replace("_", " ") for metric in METRICS[task])
    assert headings == ["rival", main, *others, f"reference − rival,\n{main}", "p"]


def test_comparison_table_shows_figures_with_intervals_and_paired_differences():
    table = comparison_table("cognition", entry_of(differences={RIDGE: figure(-0.1, -0.2, -0.004, p=0.04)}))
    ridge = row_of(table, RIDGE).split("  ")
    cells = [cell.strip() for cell in ridge if cell.strip()]
    assert cells == ["0.40 [-0.25, 0.75]", "0.12 [0.00, 0.25]", "0.12 [0.00, 0.25]", "-0.10 [-0.20, -0.00]", "0.040"]
    assert " ".join(row_of(table, MODEL).split()) == "0.30 [-0.25, 0.75] 0.12 [0.00, 0.25] 0.12 [0.00, 0.25]"
    assert row_of(table, "covariates only").split()[-2:] == ["n/a", "n/a"]


def test_comparison_table_puts_the_reference_first_in_bold_and_the_oracle_last_and_dim():
    table = comparison_table("cognition", entry_of())
    names = [str(cell) for cell in table.columns[0].cells]
    assert names == [MODEL, RIDGE, "covariates only", MEAN, ORACLE]
    assert [row.style for row in table.rows] == ["bold", "", "", "", "dim"]


def test_comparison_table_says_in_title_and_caption_how_to_read_it():
    table = comparison_table("cognition", entry_of(planted={"r2": 0.5}))
    assert str(table.title) == "cognition: regression, 1,080 test people, 5 folds, residualised on age, sex"
    assert "95 % percentile bootstrap over families" in str(table.caption) and "planted truth: r2 0.50" in str(table.caption)
    table = comparison_table("cognition", entry_of(folds=1, residualised_on=[]))
    assert str(table.title).endswith("1 fold, not residualised") and "planted" not in str(table.caption)


def test_comparison_table_shows_na_for_what_is_undefined_and_missing():
    entry = entry_of(differences={RIDGE: figure(0.1, None, float("nan"), p=None)})
    entry["figures"][RIDGE] = {"r2": figure(float("nan")), "pearson": figure(0.5, None, float("nan"))}
    cells = row_of(comparison_table("cognition", entry), RIDGE).split()
    assert " ".join(cells) == "n/a 0.50 [n/a, n/a] n/a 0.10 [n/a, n/a] n/a"


def test_comparison_table_names_the_unit_and_gives_values_of_every_size_their_digits():
    entry = entry_of(unit="mm", differences={RIDGE: figure(1e-9, -1e-9, 2e9, p=0.0004)})
    entry["figures"][RIDGE]["mae"] = figure(0.001234, 0.0011, 0.0, undefined=0.0)
    entry["figures"][MEAN]["mae"] = figure(12345.6, 999.0, 1e7, undefined=0.0)
    table = comparison_table("thickness", entry)
    assert str(table.columns[3].header) == "mae (mm)"
    assert row_of(table, RIDGE).endswith("0.00123 [0.0011, 0.00]  0.00 [-0.00, 2e+09]  <0.001 ")
    assert "12,346 [999.00, 1e+07]" in [str(cell) for cell in table.columns[3].cells]


def test_comparison_table_fits_120_columns_without_breaking_a_figure():
    values = {MODEL: -0.3, "connectivity + ridge, permuted labels": -0.3, MEAN: -0.3, ORACLE: -0.3}
    entry = entry_of(values=values, differences={rival: figure(-0.3, -0.4, -0.2, p=0.04) for rival in values})
    for rival in values:
        entry["figures"][rival] = {"r2": figure(-0.3, -0.4, -0.2), "pearson": figure(-0.3, -0.4, -0.2), "mae": figure(12, 11, 13)}
    lines = shown(comparison_table("cognition", entry))
    assert max(map(len, lines)) <= 120
    assert sum("-0.30 [-0.40, -0.20]  -0.30 [-0.40, -0.20]  12.00 [11.00, 13.00]" in line for line in lines) == 4


def test_comparison_table_takes_brackets_in_names_for_what_they_are():
    lines = shown(comparison_table("fluid [bold]", entry_of(values={"[red]": 0.3}, reference="[red]")))
    assert "fluid [bold]: regression" in lines[0] and any("[red] " in line for line in lines)


BETTER, WORSE, UNCLEAR = figure(0.1, 0.02, 0.2), figure(-0.1, -0.2, 0.0), figure(-0.1, -0.3, 0.1)


@pytest.mark.parametrize(
    ("against_ridge", "against_mean", "verdict"),
    [
        (BETTER, BETTER, "beats its strongest rival, connectivity + ridge, r2 0.40 (difference 0.10 [0.02, 0.20])."),
        (BETTER, UNCLEAR, "0.20]), yet cannot be told apart from the mean of the training people."),
        (WORSE, BETTER, "does not beat but falls behind its strongest rival, connectivity + ridge, r2 0.40 (difference -0.10 ["),
        (WORSE, UNCLEAR, "0.00]), and cannot be told apart from the mean of the training people."),
        (UNCLEAR, BETTER, "cannot be told apart from its strongest rival, connectivity + ridge, r2 0.40 (difference -0.10 ["),
        (UNCLEAR, UNCLEAR, "0.10]), nor from the mean of the training people."),
        (BETTER, WORSE, "is worse than the mean of the training people (difference -0.10 [-0.20, 0.00])."),
        (figure(0.0, 0.0, 0.0), BETTER, "cannot be told apart from its strongest rival, connectivity + ridge"),
        (figure(0.1, 0.0, 0.2), BETTER, "cannot be told apart from its strongest rival, connectivity + ridge"),
        (figure(0.1, None, None), BETTER, "beats its strongest rival, the mean of the training people, r2 -0.10 (difference 0"),
    ],
)
def test_closing_verdict_is_judged_by_the_interval_of_the_difference(against_ridge, against_mean, verdict):
    sentence = closing_verdict("cognition", entry_of(differences={RIDGE: against_ridge, MEAN: against_mean}))
    assert sentence.startswith("cognition: brainmt (fmri), r2 0.30, ") and verdict in sentence
    assert sentence.count(". ") == 0 and sentence.endswith(".")


def test_closing_verdict_looks_at_the_strongest_rival_and_never_at_oracle_or_permuted_labels():
    shuffled = f"{RIDGE}, permuted labels"
    values = {MODEL: 0.6, ORACLE: 0.9, shuffled: 0.8, "covariates only": 0.55, RIDGE: 0.5, MEAN: 0.5}
    differences = dict.fromkeys([ORACLE, shuffled], WORSE) | dict.fromkeys([RIDGE, MEAN], UNCLEAR) | {"covariates only": BETTER}
    sentence = closing_verdict("smoker", entry_of("binary", differences, values))
    assert sentence == (
        "smoker: brainmt (fmri), auroc 0.60, beats its strongest rival, covariates only, auroc 0.55 "
        "(difference 0.10 [0.02, 0.20]), yet cannot be told apart from the mean of the training people."
    )


def test_closing_verdict_names_the_mean_once_when_it_is_the_strongest():
    values = {MODEL: -0.2, RIDGE: -0.4, MEAN: -0.1}
    sentence = closing_verdict("age", entry_of(values=values, differences={RIDGE: BETTER, MEAN: UNCLEAR}))
    assert sentence.count(MEAN) == 1 and "apart from its strongest rival, the mean of the training people, r2 -0.10" in sentence


def test_closing_verdict_does_not_judge_without_figures():
    undefined = entry_of(values={MODEL: float("nan"), RIDGE: 0.4}, differences={RIDGE: BETTER})
    assert closing_verdict("age", undefined) == (
        "age: brainmt (fmri), r2 n/a, cannot be judged: the metric is undefined on these test people."
    )
    assert "no rival with a paired difference" in closing_verdict("age", entry_of(values={MODEL: 0.3, ORACLE: 0.5}))
    assert "no rival with a paired difference" in closing_verdict("age", entry_of(differences={}))


@pytest.mark.parametrize("speak", [comparison_table, closing_verdict])
def test_phenotype_table_refuses_an_unknown_task_and_a_reference_without_figures(speak):
    with pytest.raises(ValueError, match="age: expected a task of regression, binary, multiclass, ordinal; got 'survival'"):
        speak("age", entry_of() | {"task": "survival"})
    with pytest.raises(ValueError, match=r"expected the reference 'brainmt' among the rivals; got planted \(oracle\), conn"):
        speak("age", entry_of(reference="brainmt"))

"""Retrieval plots: what they draw of figures with a known answer, and what they refuse."""

import numpy as np
import pandas as pd
import pytest

from brainmt_align.reporting import retrieval_plots as plots


def rows(**columns) -> pd.DataFrame:
    empty = dict.fromkeys(plots.INTERVAL_COLUMNS, np.nan)
    return pd.DataFrame([empty | {key: values[i] for key, values in columns.items()} for i in range(len(columns["label"]))])


def test_retrieval_intervals_draws_values_intervals_and_chance_where_known():
    table = rows(label=["all", "strata"], value=[0.6, 0.4], low=[0.5, np.nan], high=[0.8, np.nan], chance=[0.1, 0.2])
    axis = plots.retrieval_intervals({"there": table}, "recall@5").axes[0]
    dots, chance = axis.lines
    assert dots.get_xdata().tolist() == [0.6, 0.4] and chance.get_xdata().tolist() == [0.1, 0.2]
    reach = [segment[:, 0].tolist() for segment in axis.collections[0].get_segments()]
    np.testing.assert_allclose(reach, [[0.5, 0.8], [0.4, 0.4]])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["all", "strata"] and axis.get_ylim() == (1.5, -0.5)


def test_retrieval_intervals_shows_the_oracle_only_where_one_is_known():
    without = rows(label=["all"], value=[0.6], chance=[0.1])
    assert len(plots.retrieval_intervals({"a": without, "b": without}, "MRR").axes) == 2
    lines = plots.retrieval_intervals({"a": without.assign(oracle=0.9)}, "MRR").axes[0].lines
    assert lines[-1].get_label() == "oracle" and lines[-1].get_xdata() == [0.9]


@pytest.mark.parametrize("panels", [{}, {"a": rows(label=["x"], value=[1.0]).iloc[:0]}])
def test_retrieval_intervals_refuses_no_rows(panels):
    with pytest.raises(ValueError, match=r"Retrieval intervals: expected one or more rows.*got no rows"):
        plots.retrieval_intervals(panels, "recall@5")


def test_retrieval_intervals_names_missing_columns():
    with pytest.raises(ValueError, match="got no chance, high, low, oracle"):
        plots.retrieval_intervals({"a": pd.DataFrame({"label": ["x"], "value": [1.0]})}, "recall@5")


def test_permutation_histogram_counts_every_draw_and_marks_the_observed_value():
    null_K = np.random.default_rng(0).normal(2, 0.1, 400)
    axis = plots.permutation_histogram(null_K, 1.2, "overall", 0.0025).axes[0]
    assert sum(bar.get_height() for bar in axis.patches) == 400
    assert list(axis.lines[0].get_xdata()) == [1.2, 1.2] and axis.get_title(loc="left") == "overall: p = 0.0025"
    low, high = axis.get_xlim()
    assert low < 1.2 < high


def test_permutation_histogram_draws_one_bar_when_all_draws_are_equal():
    axis = plots.permutation_histogram([2.0, 2.0], 2.0, "within families").axes[0]
    assert [bar.get_height() for bar in axis.patches] == [2] and "n/a" in axis.get_title(loc="left")


@pytest.mark.parametrize(("null", "observed"), [([], 1.0), ([1.0, np.nan], 1.0), ([1.0], np.inf), ([[1.0]], 1.0)])
def test_permutation_histogram_refuses_what_is_no_row_of_numbers(null, observed):
    with pytest.raises(ValueError, match="Permutation histogram of x: expected finite statistics"):
        plots.permutation_histogram(null, observed, "x")


def test_order_people_sorts_by_the_first_column_first_and_keeps_ties_in_place():
    groups = pd.DataFrame({"site": ["b", "a", None, "a", "b"], "family_id": ["2", "1", "1", "0", "1"]}, index=[9, 8, 7, 6, 5])
    assert plots.order_people(groups).tolist() == [3, 1, 4, 0, 2]
    assert plots.order_people(groups[[]]).tolist() == [0, 1, 2, 3, 4]


def test_order_people_thins_out_evenly():
    kept = plots.order_people(pd.DataFrame({"site": ["a"] * 500 + ["b"] * 500}), most=10)
    assert len(kept) == 10 and kept[0] == 0 and kept[-1] == 999 and (kept < 500).sum() == 5


def test_similarity_matrix_is_the_product_of_rows_and_parts_its_blocks():
    z_NE = np.eye(4, dtype=np.float32)
    figure = plots.similarity_matrix(z_NE, z_NE[::-1], ["a", "a", "b", "b"])
    axis = figure.axes[0]
    np.testing.assert_array_equal(axis.images[0].get_array(), np.eye(4)[:, ::-1])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert {line.get_ydata()[0] for line in axis.lines} >= {1.5} and len(axis.lines) == 2


@pytest.mark.parametrize("shapes", [((3, 2), (4, 2), 3), ((3, 2), (3, 2), 2), ((0, 2), (0, 2), 0), ((3,), (3,), 3)])
def test_similarity_matrix_refuses_arrays_of_different_people(shapes):
    fmri, dna, labels = shapes
    with pytest.raises(ValueError, match="Similarity matrix: expected two arrays"):
        plots.similarity_matrix(np.ones(fmri), np.ones(dna), ["a"] * labels)


def test_region_bars_stand_largest_first_and_colour_what_survives():
    table = pd.DataFrame({"region": ["A", "B", "C"], "value": [0.1, 0.3, -0.2], "q": [0.2, 0.01, 0.9]})
    axis = plots.region_bars(table, "change").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["B", "A", "C"]
    blue, grey = axis.containers
    assert [bar.get_width() for bar in blue] == [0.3] and [bar.get_width() for bar in grey] == [0.1, -0.2]
    assert blue.get_label() == "false discovery rate ≤ 0.05" and grey.get_label() == "not told from 0"


def test_region_bars_draw_the_largest_of_many_and_say_when_nothing_was_tested():
    table = pd.DataFrame({"region": [f"R{i}" for i in range(100)], "value": np.arange(100.0), "low": 0.0, "high": 1.0})
    axis = plots.region_bars(table, "change").axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[0] == "R99" and len(labels) == plots.MOST_REGIONS and axis.containers[0].get_label() == "not tested"


def test_region_bars_refuse_a_table_without_values():
    with pytest.raises(ValueError, match="Region bars: expected one or more rows with region, value; got no value"):
        plots.region_bars(pd.DataFrame({"region": ["A"]}), "change")

"""Tests of the phenotype plots: what the Figures say, not their pixels."""

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from sklearn.metrics import roc_auc_score

from brainmt_align.reporting.phenotype_plots import calibration, confusion, predicted_against_true, residuals, roc


@pytest.fixture
def people(rng):
    true = rng.normal(100, 15, 60)
    return true, 100 + 0.4 * (true - 100) + rng.normal(0, 5, 60)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def lines_of(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def drawn(axis, kind):
    return [each for each in axis.collections if isinstance(each, kind)]


def inside(figure):
    """Whether all that is drawn, tick labels and legends too, lies within the figure."""
    figure.savefig(io.BytesIO())  # the layout settles as a picture is written
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return box.x0 >= -0.02 and box.y0 >= -0.02 and box.x1 <= width + 0.02 and box.y1 <= height + 0.02


def test_predicted_against_true_draws_the_points_the_identity_and_the_least_squares_line(people):
    figure = predicted_against_true(*people, "cognition", unit="points", caption="R² 0.3")
    (axis,) = figure.axes
    lines = lines_of(axis)
    np.testing.assert_array_equal(drawn(axis, PathCollection)[0].get_offsets(), np.transpose(people))
    np.testing.assert_array_equal(*lines["predicted = true"].get_data())
    slope, level = np.polyfit(*people, 1)
    fitted = lines[f"least squares, slope {slope:.2f}"]
    np.testing.assert_allclose(fitted.get_ydata(), level + slope * fitted.get_xdata())
    assert axis.get_xlim() == axis.get_ylim() and axis.get_aspect() == 1
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("true (points)", "predicted (points)")
    assert figure.get_suptitle() == "cognition" and axis.get_title(loc="left") == "R² 0.3"


def test_predicted_against_true_has_no_least_squares_line_when_the_truth_is_constant():
    (axis,) = predicted_against_true([3, 3, 3], [1, 2, 3], "flat").axes
    assert list(lines_of(axis)) == ["predicted = true"]
    (axis,) = predicted_against_true([0], [0], "one").axes
    assert axis.get_xlim() == (-1, 1)


def test_predicted_against_true_and_residuals_count_in_hexagons_when_points_are_many(rng):
    true = rng.normal(size=5001)
    for draw in (predicted_against_true, residuals):
        axis = draw(true, 0.5 * true, "many").axes[0]
        assert not drawn(axis, PathCollection)
        assert drawn(axis, PolyCollection)[0].get_array().sum() == 5001
        assert drawn(draw(true[1:], true[1:], "fewer").axes[0], PathCollection)


def test_residuals_draw_what_was_missed_over_the_prediction_and_its_histogram(people):
    true, predicted = people
    cloud, histogram = residuals(true, predicted, "cognition", unit="points").axes
    np.testing.assert_array_equal(drawn(cloud, PathCollection)[0].get_offsets(), np.column_stack([predicted, true - predicted]))
    assert sum(bar.get_width() for bar in histogram.patches) == 60
    assert cloud.get_ylim() == histogram.get_ylim() and cloud.get_ylabel() == "true − predicted (points)"
    assert f"mean {np.mean(true - predicted):.3g}, SD {np.std(true - predicted):.3g}" in cloud.get_title(loc="left")


def test_roc_encloses_the_area_of_each_rival_and_shows_the_chance_line(rng):
    observed = rng.integers(0, 2, 80)
    scores = {f"rival {k}": observed * k / 4 + rng.normal(size=80) for k in range(8)} | {"constant": np.zeros(80)}
    figure = roc(observed, scores, "smoker", areas={"rival 3": "AUROC 0.7 [0.6, 0.8]"})
    lines = lines_of(figure.axes[0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)
    assert list(lines)[:5] == ["chance", "rival 0", "rival 1", "rival 2", "rival 3: AUROC 0.7 [0.6, 0.8]"]
    np.testing.assert_array_equal(*lines["chance"].get_data())
    for line, score in zip(list(lines.values())[1:], scores.values(), strict=True):
        area = np.trapezoid(line.get_ydata(), line.get_xdata())
        assert area == pytest.approx(roc_auc_score(observed, score))
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines.values()}) == 10


def test_calibration_stands_at_bin_means_with_wilson_intervals_and_counts(rng):
    probability = np.append(rng.random(200) * 0.7, 1.0)  # bins 7 and 8 are empty, 1 belongs to the last
    observed = np.append(rng.random(200) < probability[:-1], 1)
    upper, lower = calibration(observed, probability, "smoker").axes
    points, _, (bars,) = upper.containers[0]
    z, means, shares, counts, ends = 1.959963984540054, [], [], [], []
    for low in np.arange(10) / 10:
        held = (probability >= low) & ((probability < low + 0.1) | (low == 0.9))
        counts.append(held.sum())
        if n := held.sum():
            means.append(probability[held].mean())
            shares.append(share := observed[held].mean())
            centre, reach = share + z**2 / 2 / n, z * np.sqrt(share * (1 - share) / n + z**2 / 4 / n**2)
            ends.append([(centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)])
    np.testing.assert_allclose(points.get_data(), [means, shares])
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], ends, atol=1e-9)
    assert [bar.get_height() for bar in lower.patches] == counts and counts[7:9] == [0, 0]
    assert calibration([0, 0], [0, 1], "one class").axes


def test_confusion_writes_counts_and_row_shares_and_colours_by_them():
    axis, bar = confusion([[3, 1, 0], [0, 0, 0], [0, 1000, 0]], ["never", "past", "now"], "smoking").axes
    texts = {text.get_position(): text for text in axis.texts}
    assert texts[0, 0].get_text() == "3\n75%" and texts[1, 0].get_text() == "1\n25%"
    assert texts[1, 2].get_text() == "1,000\n100%"
    assert [texts[column, 1].get_text() for column in range(3)] == ["0\n–"] * 3
    np.testing.assert_array_equal(axis.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [0, 1, 0]])
    assert (texts[0, 0].get_color(), texts[1, 0].get_color()) == ("white", "black")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["never\nn = 4", "past\nn = 0", "now\nn = 1,000"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted class", "observed class") and bar.get_ylim() == (0, 1)


@pytest.mark.parametrize("size", [2, 4, 12])
def test_confusion_keeps_its_texts_within_their_cells_and_the_figure(size):
    figure = confusion(np.full((size, size), 1234), [f"prefer not to answer {k}" for k in range(size)], "a long question")
    assert inside(figure)
    axis = figure.axes[0]
    cell = axis.get_window_extent().width / size
    assert all(max(text.get_window_extent().width, text.get_window_extent().height) < cell for text in axis.texts)


def test_every_plot_stays_within_its_figure_and_takes_dollars_for_money(people, rng):
    name = "income before tax in $ or in £, of all in the household, in a year of $ 100 steps, as told"
    observed = np.arange(60) % 2
    scores = {f"connectivity + ridge number {k} with $ and $": rng.normal(size=60) for k in range(9)}
    figures = [
        predicted_against_true(*people, name, unit="$/£/$", caption="an interval in $ of $ " * 6),
        residuals(*people, name, unit="$/£/$"),
        roc(observed, scores, name, areas=dict.fromkeys(scores, "AUROC 0.71 [0.60, 0.80]")),
        calibration(observed, rng.random(60), name),
        confusion([[3, 1], [1, 3]], ["$1 to $2", "$3 to $4"], name),
    ]
    assert all(inside(figure) for figure in figures)
    assert "\\$" in figures[0].get_suptitle()


def test_phenotype_plots_save_pictures_and_leave_pyplot_alone(tmp_path):
    code = (
        "import sys; from brainmt_align.reporting.phenotype_plots import *; y, p = [0, 1, 1], [0.1, 0.6, 0.7]; "
        "figures = predicted_against_true(y, p, 'a'), residuals(y, p, 'a'), roc(y, {'b': p}, 'a'), calibration(y, p, 'a'), "
        "confusion([[1, 0], [0, 2]], 'xy', 'a'); "
        f"[figure.savefig(rf'{tmp_path}/{{k}}.png', dpi=40) for k, figure in enumerate(figures)]; "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert all((tmp_path / f"{k}.png").read_bytes().startswith(b"\x89PNG") for k in range(5))


PLOTS = [predicted_against_true, residuals, calibration, lambda y, p, name: roc(y, {"model": p}, name)]


@pytest.mark.parametrize("draw", PLOTS)
@pytest.mark.parametrize(
    ("observed", "predicted", "message"),
    [
        ([], [], r"Plot of age: expected one value a row and one row at least; got observed \(0,\)"),
        ([0, 1], [0.5], r"expected one value a row(?s:.*)observed \(2,\),(?s:.*)\(1,\)"),
        ([[0, 1]], [[0.5, 0.5]], r"expected one value a row(?s:.*)observed \(1, 2\)"),
        ([0, 1, 1], [0.5, np.nan, np.inf], "expected finite values; got 2 of 3 in (predicted|probability|scores of model)"),
        ([0, np.nan], [0.5, 0.5], "expected finite values; got 1 of 2 in observed"),
    ],
)
def test_plots_refuse_rows_that_cannot_be_drawn(draw, observed, predicted, message):
    with pytest.raises(ValueError, match=message):
        draw(observed, predicted, "age")


def test_roc_and_calibration_refuse_values_that_are_no_classes_or_probabilities():
    with pytest.raises(ValueError, match="smoker: expected observed values 0 and 1, both present; got 1"):
        roc([1, 1], {"model": [0.2, 0.3]}, "smoker")
    with pytest.raises(ValueError, match="expected observed values 0 and 1, both present; got 0, 1, 2"):
        roc([0, 1, 2], {"model": [0.2, 0.3, 0.4]}, "smoker")
    with pytest.raises(ValueError, match=r"expected observed values 0 and 1; got 0, 0\.5"):
        calibration([0, 0.5], [0.2, 0.3], "smoker")
    with pytest.raises(ValueError, match=r"expected probabilities in \[0, 1\], got -2 to 3"):
        calibration([0, 1], [-2, 3], "smoker")


def test_roc_refuses_no_rivals_and_areas_of_a_stranger():
    with pytest.raises(ValueError, match="expected the scores of one rival at least, got none"):
        roc([0, 1], {}, "smoker")
    with pytest.raises(ValueError, match="expected areas of model; got modle"):
        roc([0, 1], {"model": [0.2, 0.3]}, "smoker", areas={"modle": "0.5"})


@pytest.mark.parametrize(
    ("matrix", "classes", "message"),
    [
        ([[1]], ["a"], r"two classes at least; got shape \(1, 1\) for 1 classes"),
        ([], [], r"two classes at least; got shape \(0,\) for 0 classes"),
        ([[1, 2, 3], [4, 5, 6]], ["a", "b"], r"got shape \(2, 3\) for 2 classes"),
        ([[1, 2], [3, 4]], ["a", "b", "c"], r"got shape \(2, 2\) for 3 classes"),
        ([[0.5, 0.5], [0, 1]], ["a", "b"], "expected whole numbers ≥ 0, one above 0 at least; got 0 to 1"),
        ([[-1, 2], [3, 4]], ["a", "b"], "expected whole numbers ≥ 0(?s:.*)got -1 to 4"),
        ([[np.nan, 2], [3, 4]], ["a", "b"], "expected whole numbers ≥ 0(?s:.*)got nan"),
        ([[0, 0], [0, 0]], ["a", "b"], "one above 0 at least; got 0 to 0 with the sum 0"),
    ],
)
def test_confusion_refuses_what_is_no_table_of_counts(matrix, classes, message):
    with pytest.raises(ValueError, match=message):
        confusion(matrix, classes, "smoking")

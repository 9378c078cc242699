"""Tests of the plots room: what the Figure says, not its pixels."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from brainmt_align.reporting.plots import training_curve


@pytest.fixture
def history():
    epochs = np.arange(6)
    return pd.DataFrame(
        {
            "epoch": epochs,
            "loss": 3.0 - 0.3 * epochs,
            "loss_validation": [np.nan, 2.9, np.nan, 2.5, np.nan, 2.2],
            "recall@5": 0.1 + 0.1 * epochs,
            "mean_rank": 20.0 - 2 * epochs,
            "learning_rate": 1e-3,
            "seconds": 7.0,
        }
    )


def lines_of(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_training_curve_has_a_panel_for_each_kind_of_figure_and_names_it(history):
    figure = training_curve(history, title="a run")
    labels = [axis.get_ylabel().replace("\n", " ") for axis in figure.axes]
    assert labels == ["contrastive loss (nats)", "recall, validation people", "mean rank, validation people", "learning rate"]
    assert figure.axes[-1].get_xlabel() == "epoch" and figure.get_suptitle() == "a run"


def test_training_curve_draws_the_numbers_and_passes_over_missing_ones(history):
    loss, recall, rank, rate = training_curve(history).axes
    np.testing.assert_array_equal(lines_of(loss)["training"].get_xydata(), history[["epoch", "loss"]])
    np.testing.assert_array_equal(lines_of(loss)["validation"].get_xydata(), [[1, 2.9], [3, 2.5], [5, 2.2]])
    np.testing.assert_array_equal(lines_of(recall)["recall@5"].get_ydata(), history["recall@5"])
    np.testing.assert_array_equal(lines_of(rank)["mean rank"].get_ydata(), history["mean_rank"])
    np.testing.assert_array_equal(lines_of(rate)["learning rate"].get_ydata(), history["learning_rate"])


def test_training_curve_marks_chance_and_the_best_epoch(history):
    figure = training_curve(history, chance={"recall@5": 0.125, "mean_rank": 20.5}, best=4)
    assert set(lines_of(figure.axes[1])["chance: 12.5%"].get_ydata()) == {0.125}
    assert set(lines_of(figure.axes[2])["chance: 20.5"].get_ydata()) == {20.5}
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["training", "validation", "best epoch: 4"]
    assert all(any(set(line.get_xdata()) == {4} for line in axis.get_lines()) for axis in figure.axes)


def test_training_curve_takes_a_list_of_steps_and_draws_only_what_is_there():
    figure = training_curve([{"step": 0, "loss": 2.0, "recall@5": None}, {"step": 1, "loss": 1.0, "recall@5": None}])
    assert len(figure.axes) == 1 and figure.axes[0].get_xlabel() == "step"


def test_training_curve_tells_several_recalls_apart():
    rows = [{"epoch": 0, "recall@1_fmri_to_dna": 0.1, "recall@5_fmri_to_dna": 0.2}]
    lines = lines_of(training_curve(rows).axes[0])
    assert list(lines) == ["recall@1 fmri to dna", "recall@5 fmri to dna"]
    assert len({line.get_color() for line in lines.values()}) == 2


def test_training_curve_saves_a_picture(history, tmp_path):
    training_curve(history, chance={"recall@5": 0.125}, best=2).savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_training_curve_leaves_pyplot_alone():
    code = (
        "import sys; from brainmt_align.reporting.plots import training_curve; "
        "training_curve([{'epoch': 0, 'loss': 1.0}]); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ([], "got 0 rows with no columns"),
        ([{"loss": 1.0}], "got 1 rows with loss"),
        ([{"epoch": 1, "seconds": 2.0}], "got 1 rows with epoch, seconds"),
        ([{"epoch": 1, "loss": None}], "got 1 rows with epoch, loss"),
    ],
)
def test_training_curve_refuses_a_history_with_nothing_to_draw(rows, got):
    with pytest.raises(ValueError, match=f"expected rows with epoch or step and one of loss(?s:.*){got}"):
        training_curve(rows)


def test_training_curve_says_what_the_loss_is_when_told():
    figure = training_curve(
        [{"epoch": 0, "loss_train": 1.0}, {"epoch": 1, "loss_train": 0.5}], loss_label="loss, mean over targets"
    )
    assert figure.axes[0].get_ylabel() == "loss, mean over targets"

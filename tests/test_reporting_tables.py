"""The terminal's retrieval table."""

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from brainmt_align.evaluation.retrieval_metrics import retrieval_metrics
from brainmt_align.reporting.tables import closing_words, retrieval_table


def shown(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in console.file.getvalue().splitlines()
    ]


def test_retrieval_table_shows_model_chance_and_oracle_with_na_where_k_takes_everyone():
    lines = shown(retrieval_table(retrieval_metrics(np.eye(6), np.eye(6), oracle_scores=np.eye(6), permutations=50)))
    assert lines[-1] == ["p: permutation test over 50 re-pairings of the people"]
    assert lines[0] == ["Retrieval among 6 test people"]
    rows = {line[0]: line[1:] for line in lines if len(line) == 6}
    assert rows["scan → genome"][:4] == ["1", "1", "n/a", "1"]
    assert rows["chance"][:4] == ["0.167", "0.833", "n/a", "3.5"]
    assert rows["oracle"][:4] == ["1", "1", "n/a", "1"]
    assert float(rows["genome → scan"][4]) < 0.05


def test_retrieval_table_has_no_oracle_row_where_the_truth_is_unknown():
    lines = shown(retrieval_table(retrieval_metrics(np.eye(6), np.eye(6), permutations=50)))
    assert not any(line[0] == "oracle" for line in lines)
    assert sum(line[0] == "chance" for line in lines) == 2


def test_retrieval_table_shows_no_p_where_no_re_pairing_is_admissible():
    lines = shown(retrieval_table(retrieval_metrics(np.eye(6), np.eye(6), groups=list("abbccc"))))
    assert {line[0]: line[5] for line in lines if len(line) == 6}["scan → genome"] == "n/a"


def test_closing_words_say_what_chance_means_and_what_to_try_next():
    real = closing_words(Path("runs/my run"), 3, artificial=True, simulated=False).splitlines()
    assert real[0] == "Everything is in runs/my run" and "chance is the right answer" in real[1]
    assert "'config=runs/my run/config.yaml' seed=4 'out=runs/my run_seed4' split.file=null split.seed=null" in real[2]
    simulated = closing_words(Path("runs/a"), 0, artificial=False, simulated=True)
    assert "The cohort is simulated" in simulated and "contrastive_real.yaml" in simulated and "artificial" not in simulated

"""Words for the terminal: figures of metrics.json flow in, a rich Table and how to read it flow out."""

import shlex
from pathlib import Path
from typing import Any

from rich.table import Table

KS = (1, 5, 10)
DIRECTIONS = {"fmri_to_dna": "scan → genome", "dna_to_fmri": "genome → scan"}
RIVALS = {"": "", "chance_": "  chance", "oracle_": "  oracle"}


def retrieval_table(retrieval: dict[str, dict[str, Any]]) -> Table:
    """Recall, median rank and permutation p of both directions, each above chance and, where it is known, the oracle.

    Args:
        retrieval: as `evaluation.retrieval_metrics.retrieval_metrics` returns it; None is shown as n/a.
    """
    fewest = min(figures["permutations"] for figures in retrieval.values())
    table = Table(
        title=f"Retrieval among {retrieval['fmri_to_dna']['n']} test people",
        caption=f"p: permutation test over {fewest:,} re-pairings of the people",
    )
    table.add_column("")
    for heading in (*(f"recall@{k}" for k in KS), "median rank", "p"):
        table.add_column(heading, justify="right")
    for direction, name in DIRECTIONS.items():
        figures = retrieval[direction]
        for prefix, rival in RIVALS.items():
            keys = [f"{prefix}{figure}" for figure in (*(f"recall@{k}" for k in KS), "median_rank")]
            if keys[-1] in figures:
                p_value = "" if prefix else _cell(figures["p_value"], digits=2)
                table.add_row(rival or name, *(_cell(figures[key]) for key in keys), p_value)
    return table


def closing_words(out: Path, seed: int, artificial: bool, simulated: bool) -> str:
    """Where a run's files are, how to read its table, and the next command to try.

    Args:
        out: the run folder.
        seed: of the run.
        artificial: no scan belongs to its genome.
        simulated: the truth is known.
    """
    lines = [f"Everything is in {out}"]
    if artificial:
        lines.append("The pairs are artificial: no scan belongs to its genome, so chance is the right answer.")
    if simulated:
        lines += [
            "The cohort is simulated. The oracle knows what was planted: close to the most that these windows tell of it.",
            "next, real files: accelerate launch recipes/contrastive.py config=recipes/configs/contrastive_real.yaml",
        ]
    else:
        words = [f"config={out}/config.yaml", f"seed={seed + 1}", f"out={out}_seed{seed + 1}"]
        words += ["split.file=null", "split.seed=null", "checkpoint=null"]
        lines.append(f"next, another split: accelerate launch recipes/contrastive.py {shlex.join(words)}")
    return "\n".join(lines)


def _cell(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}g}"

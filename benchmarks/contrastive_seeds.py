"""Claim: the first README line aligns under every seed. In: seeds. Out: retrieval, chance, oracle, p and wall time of each.

    python benchmarks/contrastive_seeds.py [seeds] [key=value …]

A seed passes when recall@5 is at least 4 × chance and p < 0.01 in both directions. Each seed has a training of its own (split,
weights, batches) and, with `cohorts`, a simulated cohort of its own as well: python benchmarks/contrastive_seeds.py 5 cohorts
"""

import json
import subprocess
import sys
import time
from pathlib import Path

DIRECTIONS = ("fmri_to_dna", "dna_to_fmri")


def main(words: list[str]) -> None:
    seeds = int(words.pop(0)) if words and words[0].isdigit() else 5
    own_cohort = "cohorts" in words
    words = [word for word in words if word != "cohorts"]
    passed = 0
    print("seed | recall@5 scan→genome | recall@5 genome→scan | chance | oracle | median ranks | p | wall")
    for seed in range(seeds):
        out = Path("runs") / f"benchmark_seed{seed}"
        command = ["accelerate", "launch", "recipes/contrastive.py", f"seed={seed}", f"out={out}", *words]
        if own_cohort:
            command.append(f"simulation.seed={seed}")
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - began
        both = json.loads((out / "metrics.json").read_text())["retrieval"]
        figures = [both[direction] for direction in DIRECTIONS]
        ok = all(each["recall@5"] >= 4 * each["chance_recall@5"] and each["p_value"] < 0.01 for each in figures)
        passed += ok
        recalls = " | ".join(f"{each['recall@5']:.3f}" for each in figures)
        rivals = f"{figures[0]['chance_recall@5']:.4f} | {figures[0].get('oracle_recall@5', float('nan')):.3f}"
        ranks, p_values = (", ".join(f"{each[key]:.2g}" for each in figures) for key in ("median_rank", "p_value"))
        print(f"{seed} | {recalls} | {rivals} | {ranks} | {p_values} | {seconds:.0f} s", flush=True)
    print(f"{passed} of {seeds} seeds: recall@5 at least 4 x chance and p < 0.01 in both directions")


if __name__ == "__main__":
    main(sys.argv[1:])

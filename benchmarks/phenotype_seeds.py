"""Claim: intervals cover what was planted, seed by seed. In: seeds. Out: figures of model, linear model and oracle; coverage.

    python benchmarks/phenotype_seeds.py [seeds] [key=value …]

Each seed has a cohort, split and training of its own. The oracle predicts from the planted brain part alone, so that the
population's figure for it is known: r2 of `cognition` freed of age and sex, area under the ROC curve of `diagnosis`. A 95 %
interval should cover it in 19 of 20 seeds or so. A model of permuted labels has an area of 0.5.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

SHOWN = {"cognition": ("r2", "r2_residualised"), "diagnosis": ("auroc", "auroc")}
MODEL, LINEAR, PERMUTED, ORACLE = "BrainMT", "connectivity + linear", "connectivity, permuted labels", "planted (oracle)"


def main(words: list[str]) -> None:
    seeds = int(words.pop(0)) if words and words[0].isdigit() else 20
    covered, null_covered, higher = dict.fromkeys(SHOWN, 0), 0, dict.fromkeys(SHOWN, 0)
    print("seed | target | BrainMT | connectivity + linear | difference | oracle | planted | covered | wall")
    for seed in range(seeds):
        out, began = Path("runs") / f"benchmark_phenotype{seed}", time.perf_counter()
        command = [
            "accelerate",
            "launch",
            "recipes/phenotype.py",
            f"seed={seed}",
            f"simulation.seed={seed}",
            f"out={out}",
            *words,
        ]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - began
        phenotypes = json.loads((out / "metrics.json").read_text())["phenotype"]
        for target, (metric, planted_as) in SHOWN.items():
            entry = phenotypes[target]["comparison"]
            figures = {rival: entry["figures"][rival][metric] for rival in (MODEL, LINEAR, ORACLE, PERMUTED)}
            planted, difference = entry["planted"][planted_as], entry["differences"][LINEAR][metric]
            inside = covers(figures[ORACLE], planted)
            covered[target] += inside
            higher[target] += difference["value"] > 0
            null_covered += target == "diagnosis" and covers(figures[PERMUTED], 0.5)
            cells = " | ".join(shown(each) for each in (figures[MODEL], figures[LINEAR], difference, figures[ORACLE]))
            print(f"{seed} | {target} | {cells} | {planted:.3f} | {'yes' if inside else 'no'} | {seconds:.0f} s", flush=True)
    for target in SHOWN:
        print(f"{target}: {covered[target]} of {seeds} intervals cover the planted figure; BrainMT higher in {higher[target]}")
    print(f"diagnosis: {null_covered} of {seeds} intervals of the model of permuted labels cover 0.5")


def covers(figure: dict, truth: float) -> bool:
    return figure["low"] <= truth <= figure["high"]


def shown(figure: dict) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


if __name__ == "__main__":
    main(sys.argv[1:])

"""Claim: intervals cover what was planted, seed by seed. In: seeds. Out: figures of model, linear model and oracle; coverage.

    python benchmarks/phenotype_seeds.py [seeds] [key=value …]
    python benchmarks/phenotype_seeds.py people [cohorts]     the oracle's coverage on cohorts of which only the people are drawn
    python benchmarks/phenotype_seeds.py normal [trials]      the same where the latent trait is normal, 60 families of two

Each seed has a cohort, split and training of its own. The oracle predicts from the planted brain part alone, so that the
population's figure for it is known: r2 of `cognition` freed of age and sex, area under the ROC curve of `diagnosis`. A 95 %
interval should cover it in 19 of 20 seeds or so. A model of permuted labels has an area of 0.5.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import norm

from brainmt_align.config import SIMULATED_PHENOTYPES
from brainmt_align.data import simulate
from brainmt_align.data.planted_phenotypes import planted_figures
from brainmt_align.data.simulated_genomes import draw_genomes
from brainmt_align.data.simulated_parameters import CohortParameters
from brainmt_align.data.simulated_phenotypes import draw_phenotype, plan_phenotypes
from brainmt_align.evaluation.bootstrap import compare

TESTED = 120  # people, of 60 families
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


def coverage_of_people(cohorts: int) -> None:
    """Draw people of the default cohort, seeds from 100 on, and score the oracle on the first 60 families."""
    rows = range(TESTED)
    hits = []
    for seed in range(100, 100 + cohorts):
        parameters = CohortParameters(seed=seed, **SIMULATED_PHENOTYPES)
        genomes = draw_genomes(parameters)
        people = simulate._draw_people(parameters, genomes.values_PK)
        planned = {phenotype.name: phenotype for phenotype in plan_phenotypes(parameters, genomes)}
        parts = {name: draw_phenotype(parameters, planned[name], genomes, people).iloc[rows] for name in SHOWN}
        freed_N = parts["cognition"]["liability"] - np.sqrt(parameters.confound_share) * parts["cognition"]["confound"]
        ill_N = parts["diagnosis"]["liability"] > norm.isf(parameters.prevalence)
        hits.append(oracle_covers(freed_N, ill_N, parts["cognition"]["brain"], parts["diagnosis"]["brain"], seed))
    print(f"{cohorts} cohorts: intervals cover r2 in {np.mean(hits, 0)[0]:.3f}, AUROC in {np.mean(hits, 0)[1]:.3f}")


def coverage_of_normal_families(trials: int) -> None:
    """Siblings whose brain and genes correlate by one half, all parts normal."""
    rng = np.random.default_rng(0)

    def siblings() -> np.ndarray:
        return np.sqrt(0.5) * (np.repeat(rng.standard_normal(TESTED // 2), 2) + rng.standard_normal(TESTED))

    hits = []
    for trial in range(trials):
        brain_N, genes_N, chance_N, confound_N = siblings(), siblings(), *rng.standard_normal((2, TESTED))
        freed_N = np.sqrt(0.5) * brain_N + np.sqrt(0.15) * genes_N + np.sqrt(0.2) * chance_N
        ill_N = freed_N + np.sqrt(0.15) * confound_N > norm.isf(0.3)
        hits.append(oracle_covers(freed_N, ill_N, brain_N, brain_N, trial))
    print(f"{trials} trials: intervals cover r2 in {np.mean(hits, 0)[0]:.3f}, AUROC in {np.mean(hits, 0)[1]:.3f}")


def oracle_covers(freed_N, ill_N, brain_of_score_N, brain_of_illness_N, seed: int) -> tuple[bool, bool]:
    """Whether the intervals of one who knows the brain's part cover r2 and AUROC of the default shares."""
    folds, families = [0] * TESTED, np.arange(TESTED) // 2
    score = compare(
        "regression", np.array(freed_N), {"a": np.sqrt(0.5) * np.array(brain_of_score_N)}, folds, families, "a", 1000, seed
    )
    risk_N = norm.cdf(np.array(brain_of_illness_N))  # any rising function ranks alike
    illness = compare(
        "binary", np.array(ill_N).astype(int), {"a": np.stack([1 - risk_N, risk_N], 1)}, folds, families, "a", 1000, seed
    )
    figures = score.figures["a"]["r2"]._asdict(), illness.figures["a"]["auroc"]._asdict()
    known = planted_figures(0.5, 0.15, [])["r2_residualised"], planted_figures(0.5, 0.15, [norm.isf(0.3)])["auroc"]
    return covers(figures[0], known[0]), covers(figures[1], known[1])


def covers(figure: dict, truth: float) -> bool:
    return figure["low"] <= truth <= figure["high"]


def shown(figure: dict) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


if __name__ == "__main__":
    modes = {"people": (coverage_of_people, 60), "normal": (coverage_of_normal_families, 300)}
    if sys.argv[1:] and sys.argv[1] in modes:
        run, usual = modes[sys.argv[1]]
        run(int(sys.argv[2]) if len(sys.argv) > 2 else usual)
    else:
        main(sys.argv[1:])

"""Claim: a step of recipes/phenotype.py takes at most 5 % more than a bare loop around the same model. Out: the ratios.

The recipe trains on the default simulated cohort; a step is told from one loss to the next. The bare loop is a plain one on the
same windows: forward, loss, backward, clipping, AdamW. It is timed twice: reading the windows from the store as it goes, as the
recipe must, and with all of them in memory beforehand. One process, by turns.

    python benchmarks/phenotype_step.py [rounds] [key=value …]
"""

import itertools
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from brainmt_align.config import PhenotypeConfig, load_config
from brainmt_align.data.datasets import EpochBatches, collate_people
from brainmt_align.training.distributed import set_threads
from brainmt_align.training.optimisation import adamw
from recipes import phenotype

OUT = "runs/benchmark_step"


def main(words: list[str]) -> None:
    rounds = int(words.pop(0)) if words and words[0].isdigit() else 3
    words = ["train.epochs=2", "evaluation.baselines=[mean]", "evaluation.resamples=100", f"out={OUT}", *words]
    config = load_config(PhenotypeConfig, words)
    phenotype.main(words)  # fills the stores and compiles the scan
    set_threads(None, 1)
    ratios: dict[str, list[float]] = {"reading": [], "in memory": []}
    for _ in range(rounds):
        bare = bare_steps_s(config, words)
        recipe = recipe_step_s(words)
        for name, step_s in bare.items():
            ratios[name].append(recipe / step_s)
        told = ", ".join(f"bare loop {name} {step_s * 1e3:.1f} ms ({recipe / step_s:.3f})" for name, step_s in bare.items())
        print(f"recipe {recipe * 1e3:.1f} ms a step, {told}", flush=True)
    for name, each in ratios.items():
        print(f"median ratio to the bare loop {name}: {statistics.median(each):.3f} (at most 1.05 was asked for)")


def recipe_step_s(words: list[str]) -> float:
    """Seconds a step of the recipe's second epoch, measured around its loop between validations."""
    times: list[float] = []
    original = phenotype.require_finite

    def stamped(what, value, *where):
        if what == "loss":
            times.append(time.perf_counter())
        return original(what, value, *where)

    phenotype.require_finite = stamped
    try:
        phenotype.main(words)
    finally:
        phenotype.require_finite = original
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def bare_steps_s(config: PhenotypeConfig, words: list[str]) -> dict[str, float]:
    """Median seconds of a step of the same model in a plain loop, its windows read as it goes and in memory beforehand."""
    captured: dict = {}
    original = phenotype.train

    def capture(config, fold, model, datasets, *rest):
        captured.update(fold=fold, model=model, datasets=datasets)
        return original(config, fold, model, datasets, *rest)

    phenotype.train = capture
    try:
        phenotype.main(words)
    finally:
        phenotype.train = original
    model, dataset, fold = captured["model"].train(), captured["datasets"]["train"], captured["fold"]
    sampler = EpochBatches(len(dataset), config.train.batch_size, 0)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_people)
    values_NP = torch.from_numpy(fold.targets.encode(dataset.people).values_NP)
    optimiser = adamw(model, config.train.learning_rate, config.train.weight_decay)

    def step(batch) -> float:
        logits_BO, values_BP = model(batch.bold_BTCDHW, {}), values_NP[batch.person_B]
        loss = F.mse_loss(logits_BO[:, 0], values_BP[:, 0]) + F.binary_cross_entropy_with_logits(logits_BO[:, 1], values_BP[:, 1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.gradient_clip)
        optimiser.step()
        optimiser.zero_grad()
        return time.perf_counter()

    ends = {"reading": [step(batch) for _ in range(2) for batch in loader]}
    kept = list(loader)
    ends["in memory"] = [step(batch) for batch in kept * 2]
    return {name: statistics.median(after - before for before, after in itertools.pairwise(each)) for name, each in ends.items()}


if __name__ == "__main__":
    Path("runs").mkdir(exist_ok=True)
    main(sys.argv[1:])

"""Claim: connectivity and a linear model with nested cross-validation take under 60 s for 1,000 runs. In: nothing. Out: times.

1,000 runs of (200 frames, 100 regions), two people a family; the target sets the strength of one network. Connectivity of all of
them once, then 5 outer folds, each with 5 inner folds over 21 (ridge) or 15 (logistic) penalties.
Run: python benchmarks/baselines.py
"""

import time

import numpy as np

from brainmt_align.evaluation.baselines import Fold, linear_predictions
from brainmt_align.evaluation.bootstrap import compare
from brainmt_align.evaluation.connectivity import connectivity

RUNS, FRAMES, REGIONS, OUTER_FOLDS, LIMIT_S = 1000, 200, 100, 5, 60


def main() -> None:
    rng = np.random.default_rng(0)
    trait_N = rng.standard_normal(RUNS)
    map_K = rng.standard_normal(REGIONS)
    groups_N = np.arange(RUNS) // 2
    folds_N = groups_N % OUTER_FOLDS
    print(f"{RUNS} runs of ({FRAMES}, {REGIONS}), {OUTER_FOLDS} outer folds")
    began = time.perf_counter()
    z = connectivity(simulated_run(rng, trait, map_K) for trait in trait_N)
    connectivity_s = time.perf_counter() - began
    print(f"connectivity, simulation of the runs included: {connectivity_s:.1f} s, features {z.shape}")
    quartile_N = np.searchsorted(np.quantile(trait_N, [0.25, 0.5, 0.75]), trait_N)
    for task, classes, target_N, metric in (
        ("regression", 1, trait_N, "r2"),
        ("binary", 2, quartile_N // 2, "auroc"),
        ("multiclass", 4, quartile_N, "balanced_accuracy"),
    ):
        began = time.perf_counter()
        predicted = predict_all(task, classes, z, target_N, groups_N, folds_N)
        fitted_s = time.perf_counter() - began
        began = time.perf_counter()
        figure = compare(task, target_N, {"linear": predicted}, folds_N, groups_N, "linear").figures["linear"][metric]
        compared_s = time.perf_counter() - began
        whole_s = connectivity_s + fitted_s
        print(
            f"{task}: nested cross-validation {fitted_s:.1f} s, with connectivity {whole_s:.1f} s, {whole_s / LIMIT_S:.2f} × the "
            f"{LIMIT_S} s allowed; 2,000 resamples {compared_s:.1f} s; {metric} {figure.value:.3f} "
            f"({figure.low:.3f} … {figure.high:.3f})"
        )


def simulated_run(rng: np.random.Generator, trait: float, map_K: np.ndarray) -> np.ndarray:
    """White noise and one network, the stronger the larger the trait."""
    network_T = rng.standard_normal(FRAMES)
    noise_TK = rng.standard_normal((FRAMES, REGIONS))
    return (noise_TK + np.exp(0.15 * trait - 0.7) * network_T[:, None] * map_K).astype(np.float32)


def predict_all(task: str, classes: int, z: np.ndarray, target_N, groups_N, folds_N) -> np.ndarray:
    predicted = np.empty(RUNS if task == "regression" else (RUNS, classes))
    for each in range(OUTER_FOLDS):
        fold = Fold(np.flatnonzero(folds_N != each), np.flatnonzero(folds_N == each))
        predicted[fold.test_N] = linear_predictions(task, classes, z, target_N, fold, groups_N)
    return predicted


if __name__ == "__main__":
    main()

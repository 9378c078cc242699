"""Claim: an alignment of 2,000 people is examined for confounds in under 60 s on 2 cores. In: nothing. Out: seconds, a verdict.

2,000 scans against 2,000 genomes of width 512, two people a family, two populations whose offset both sides share: figures with
1,000 resamples both ways, tests with 1,000 block permutations overall, within strata of population, sex, site and bands of age,
within each of these alone and within families, matched pools of 20, and one rival that sees the covariates only.
Run: python benchmarks/alignment_evaluation.py
"""

import time

import numpy as np
import pandas as pd

from brainmt_align.evaluation.confounds import EvaluationSettings, evaluate_alignment
from brainmt_align.evaluation.verdict import COVARIATES_ONLY

PEOPLE, WIDTH, LIMIT_S = 2000, 512, 60
COLUMNS = ("population", "sex", "site", "age")


def main() -> None:
    rng = np.random.default_rng(0)
    families_N = np.arange(PEOPLE) // 2
    population_N = rng.integers(0, 2, PEOPLE // 2)[families_N]
    people = pd.DataFrame(
        {
            "subject_id": [f"sub-{person:04d}" for person in range(PEOPLE)],
            "population": np.array(["A", "B"])[population_N],
            "sex": rng.choice(["F", "M"], PEOPLE),
            "site": rng.choice(["site1", "site2", "site3"], PEOPLE),
            "age": rng.integers(45, 80, PEOPLE),
        }
    )
    offset_NE = rng.standard_normal((2, WIDTH))[population_N]
    z_fmri, z_dna = (unit(rng.standard_normal((PEOPLE, WIDTH)) + offset_NE) for _ in range(2))
    guess_NE = unit(offset_NE + 0.01 * rng.standard_normal((PEOPLE, WIDTH)))
    rival = {"fmri_to_dna": (guess_NE, z_dna), "dna_to_fmri": (guess_NE, z_fmri)}
    settings = EvaluationSettings(
        families_N.tolist(), COLUMNS, {"age": 10}, covariates=COLUMNS, pool_size=20, permutations=1000, resamples=1000
    )
    began, began_cpu = time.perf_counter(), time.process_time()
    evaluation = evaluate_alignment(z_fmri, z_dna, people, settings, rivals={COVARIATES_ONLY: rival})
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    tests = ", ".join(evaluation.metrics["tests"])
    print(f"{PEOPLE} × {PEOPLE} people, width {WIDTH}, {len(evaluation.metrics['strata']['people'])} strata; tests: {tests}")
    print(f"{seconds:.1f} s, {seconds / LIMIT_S:.2f} × the {LIMIT_S} s allowed; {cpu_seconds:.1f} s of the processors")
    print(evaluation.metrics["verdict"]["words"])


def unit(z_NE: np.ndarray) -> np.ndarray:
    return (z_NE / np.linalg.norm(z_NE, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()

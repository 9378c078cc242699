"""Claim: tests within strata err as often as they say, and verdicts are right. In: kinds of simulated cohorts. Out: one table.

    python benchmarks/calibration.py [null cohorts] [planted cohorts of a strength] [cohorts of each other kind]

Cohorts are embeddings alone (`simulate_embeddings`), so that hundreds are examined in a minute or so. With 499 re-pairings p is
k / 500, and under the null hypothesis p <= 0.05 has a probability of 0.05 at most.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from brainmt_align.data.covariates import fit_covariates
from brainmt_align.data.simulated_embeddings import simulate_embeddings
from brainmt_align.evaluation.confounds import EvaluationSettings, evaluate_alignment
from brainmt_align.evaluation.covariate_rival import covariates_only

PEOPLE, PERMUTATIONS, RESAMPLES, LEVEL = 120, 499, 50, 0.05
STRATA, COVARIATES = ("ancestry", "sex"), ("ancestry", "sex", "age", "site")
STRENGTHS = (0.03, 0.07, 0.15, 0.3)
# Kind → settings that are not as the others': the cause named last, where small strata merge over it; bands of ten years; kinship
# known; and what recipes add, pools and a rival that follows curves.
DESIGNS: dict[str, dict[str, Any]] = {
    "site": {"strata": (*STRATA, "site"), "covariates": COVARIATES},
    "age": {"strata": ("ancestry", "age"), "bands": {"age": 10}, "covariates": COVARIATES},
    "siblings": {"shared_N": [0.5] * PEOPLE, "covariates": COVARIATES},
    "twins": {"shared_N": [0.98] * PEOPLE, "covariates": COVARIATES},
}
FLAGGED = ("nothing", "explained", "partly explained")
DIRECTIONS, TESTS = ("fmri_to_dna", "dna_to_fmri"), ("p_overall", "p_within", "p_families")


class Examined(NamedTuple):
    """What one cohort's evaluation said."""

    p_overall: float
    p_within: float
    p_families: float | None  # None where relatives are identical twins, who may not be exchanged
    kind: str
    explained_by: tuple[str, ...]
    words: str
    recall: float  # at 5, mean of both directions
    oracle: float  # the same of the oracle


def main(words: Sequence[str]) -> None:
    nulls, planted, others = [int(word) for word in words] + [200, 20, 50][len(words) :]
    print(f"{PEOPLE} people in families of two, strata {' x '.join(STRATA)}, {PERMUTATIONS} permutations")
    print("cohorts | p <= 0.05: overall | within strata | within families | verdicts | recall@5 | oracle | share of it | wall")
    wanted = [("null", nulls, 0.0), ("ancestry", nulls, 0.0), ("family", nulls, 0.0)]
    wanted += [("planted", planted, each) for each in STRENGTHS] + [("site", others, 0.0), ("age", others, 0.0)]
    wanted += [(kind, others, each) for kind in ("siblings", "twins") for each in STRENGTHS]
    for kind, cohorts, strength in wanted:
        began = time.perf_counter()
        examined = [examine(kind, seed, strength) for seed in range(cohorts)]
        print(show(kind, strength, examined) + f" | {time.perf_counter() - began:.0f} s", flush=True)
        for verdict, count in Counter(each.words for each in examined).most_common(2):
            print(f"    {count} of {cohorts}: {verdict}")


def examine(kind: str, seed: int, strength: float = 0.0) -> Examined:
    """Draw a cohort and evaluate it as a recipe would."""
    cohort = simulate_embeddings(kind, PEOPLE, seed, strength=strength)
    families = cohort.people["family_id"].tolist()
    settings = EvaluationSettings(
        groups_N=families, strata=STRATA, permutations=PERMUTATIONS, resamples=RESAMPLES, seed=seed, ks=(5,)
    )._replace(**DESIGNS.get(kind, {}))
    rivals = {}
    with threadpool_limits(1, user_api="blas"):
        if not settings.covariates:
            known_NK = fit_covariates(cohort.people, COVARIATES).encode(cohort.people)
            rivals = {"covariates only": covariates_only(cohort.z_fmri, cohort.z_dna, known_NK, families, seed=seed)}
        metrics = evaluate_alignment(
            cohort.z_fmri, cohort.z_dna, cohort.people, settings, oracle_scores=cohort.oracle_scores, rivals=rivals
        ).metrics
    recall, oracle = (np.mean([metrics["retrieval"][way][f"{who}recall@5"] for way in DIRECTIONS]) for who in ("", "oracle_"))
    tests, verdict = metrics["tests"], metrics["verdict"]
    return Examined(
        tests["overall"]["p_value"],
        tests["within strata"]["p_value"],
        tests["within families"]["p_value"],
        verdict["kind"],
        tuple(verdict["explained_by"]),
        verdict["words"],
        float(recall),
        float(oracle),
    )


def significant(p_values: Sequence[float | None]) -> tuple[int, float, float]:
    """How many p are at most 0.05, and the exact 95 % interval of their share."""
    count = sum(p is not None and p <= LEVEL for p in p_values)
    interval = binomtest(count, len(p_values)).proportion_ci()
    return count, float(interval.low), float(interval.high)


def show(kind: str, strength: float, examined: Sequence[Examined]) -> str:
    """A row of the table."""
    cells = [f"{len(examined)} {kind}" + (f" {strength:g}" if strength else "")]
    for test in TESTS:
        count, low, high = significant([getattr(each, test) for each in examined])
        cells.append(f"{count} = {count / len(examined):.3f} [{low:.3f}, {high:.3f}]")
    cells.append(", ".join(f"{count} {verdict}" for verdict, count in Counter(each.kind for each in examined).most_common()))
    recall, oracle = np.mean([each.recall for each in examined]), np.mean([each.oracle for each in examined])
    return " | ".join([*cells, f"{recall:.3f}", f"{oracle:.3f}", f"{recall / oracle:.2f}"])


if __name__ == "__main__":
    main(sys.argv[1:])

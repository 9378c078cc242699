"""Claim: FAISS proposes what exact search finds once it was measured. In: people, width, cosine. Out: recall, seconds.

A scan is its genome at a modest cosine plus chance, which is what scan and genome have of each other. "As FAISS comes" is the
setting before its agreement with exact search is measured (target 0); the rows below it are the index's own at its target. The
500 queries are drawn apart from those of that measurement. A query's time is that of all 500 at once, over 500.
Run: python benchmarks/approximate_search.py [people, 20,000 by default] [width, 512] [cosine, 0.25]
"""

import sys
import time
import warnings

import numpy as np

from brainmt_align.evaluation.nearest import TARGET_AGREEMENT, FaissSearch, search_exact

K, QUERIES = 10, 500


def main(arguments: list[str]) -> None:
    given = [*arguments, *("20000", "512", "0.25")[len(arguments) :]]
    people, width, cosine = int(given[0]), int(given[1]), float(given[2])
    rng = np.random.default_rng(0)
    dna_NE, noise_NE = unit_rows(rng, people, width), unit_rows(rng, people, width)
    fmri_NE = cosine * dna_NE + (1 - cosine**2) ** 0.5 * noise_NE
    fmri_NE /= np.linalg.norm(fmri_NE, axis=1, keepdims=True)
    asked = np.sort(rng.choice(people, min(QUERIES, people), replace=False))
    began = time.perf_counter()
    best = np.stack([each.people for each in search_exact(list(fmri_NE[asked][:, None]), dna_NE, np.arange(people), K)])
    seconds = time.perf_counter() - began
    print(f"{people:,} people, {width} wide, cosine {cosine}; {len(asked)} queries")
    print("| search | setting | share searched | recall of exact's 10 best | own partner among 10 | opening, s | a query, ms |")
    print("|---|---|---|---|---|---|---|")
    report("exact", "", best, best, asked, 0, seconds)
    for kind, target in (("flat", 0), ("ivf", 0), ("hnsw", 0), ("ivf", TARGET_AGREEMENT), ("hnsw", TARGET_AGREEMENT)):
        measure(kind, target, dna_NE, fmri_NE, asked, best)


def measure(kind: str, target: float, dna_NE, fmri_NE, asked: np.ndarray, best: np.ndarray) -> None:
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        search = FaissSearch(kind, dna_NE, fmri_NE, target=target)
    opened_s, began = time.perf_counter() - began, time.perf_counter()
    proposed = search.propose(fmri_NE[asked], K)
    seconds = time.perf_counter() - began
    setting = ""
    if search.agreement:
        name = {"ivf": "nprobe", "hnsw": "efSearch"}[kind]
        setting = f"{name} {search.agreement.setting}{' as FAISS comes' * (target == 0)} | {search.agreement.share:.2f}"
    report(kind, setting, proposed, best, asked, opened_s, seconds)


def report(
    kind: str, setting: str, found: np.ndarray, best: np.ndarray, asked: np.ndarray, opened_s: float, seconds: float
) -> None:
    recall = np.mean([np.isin(each, rows).mean() for each, rows in zip(best, found, strict=True)])
    own = (found == asked[:, None]).any(axis=1).mean()
    milliseconds = 1000 * seconds / len(asked)
    print(f"| {kind} | {setting or ' | 1'} | {recall:.3f} | {own:.3f} | {opened_s:.1f} | {milliseconds:.2f} |", flush=True)


def unit_rows(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    z = rng.standard_normal((rows, width), dtype=np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return z


if __name__ == "__main__":
    main(sys.argv[1:])

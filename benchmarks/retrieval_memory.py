"""Claim: figures both ways of 100,000 scans × 100,000 genomes × 512 fit in 4 GiB. In: people. Out: peak memory, seconds.

Every size runs in a process of its own, whose peak (VmHWM of /proc/self/status: all resident memory, interpreter and libraries
included) is what counts. Scans are genomes with noise, so that ranks are neither all first nor chance. With a second number each
person has so many windows of scan. Linux only.
Run: python benchmarks/retrieval_memory.py [people, 100000 by default] [windows a person, 1 by default]
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from brainmt_align.evaluation.retrieval import EmbeddingIndex

PEOPLE, WIDTH, NOISE, LIMIT_GIB = 100_000, 512, 0.2, 4
CHILD = "--here"


def main(arguments: list[str]) -> None:
    here = CHILD in arguments
    sizes = [int(each) for each in arguments if each != CHILD]
    people, windows = (*sizes, *(PEOPLE, 1)[len(sizes) :])
    if here:
        measure(people, windows)
    else:
        subprocess.run([sys.executable, __file__, str(people), str(windows), CHILD], check=True)


def measure(people: int, windows: int) -> None:
    rng = np.random.default_rng(0)
    dna_NE = unit_rows(rng, people)
    owner_M = np.repeat(np.arange(people), windows)
    fmri_ME = unit_rows(rng, len(owner_M))
    for row, person in enumerate(owner_M):  # a row at a time: the benchmark's own peak must not hide the index's
        mixed = dna_NE[person] * NOISE + fmri_ME[row]
        fmri_ME[row] = mixed / np.linalg.norm(mixed)
    table = pd.DataFrame({"subject_id": [f"s{each:07}" for each in range(people)]})
    began = time.perf_counter()
    index = EmbeddingIndex(fmri_ME, dna_NE, table, fmri_person=owner_M)
    opened_s, began = time.perf_counter() - began, time.perf_counter()
    figures = index.metrics()
    figures_s, began = time.perf_counter() - began, time.perf_counter()
    index.query_people(list(table["subject_id"][:100]), k=10)
    asked_s = time.perf_counter() - began
    peak = peak_gib()
    print(
        f"{len(fmri_ME):,} scans × {people:,} genomes × {WIDTH}: figures both ways {figures_s:.1f} s, checks {opened_s:.1f} s, "
        f"100 queries {asked_s:.2f} s; peak {peak:.2f} GiB, {peak / LIMIT_GIB:.2f} × the {LIMIT_GIB} GiB allowed"
    )
    for direction, of in figures.items():
        print(f"{direction}: " + ", ".join(f"{key} {of[key]:.4g}" for key in ("recall@1", "mrr", "map", "median_rank")))


def unit_rows(rng: np.random.Generator, rows: int) -> np.ndarray:
    z = rng.standard_normal((rows, WIDTH), dtype=np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return z


def peak_gib() -> float:
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) / 2**20


if __name__ == "__main__":
    main(sys.argv[1:])

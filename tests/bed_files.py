"""PLINK 1 files for the tests: variants, alleles and counts flow in; a `.bed` with its `.bim` and `.fam` flows out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from bed_reader import to_bed

SAMPLES = ("anna", "ben")


class Triple(NamedTuple):
    """What the three files hold: 1-based positions, (A1, A2) of each variant, copies of A1 (samples × variants), -127 missing."""

    positions: list[int]
    alleles: list[tuple[str, str]]
    count_SV: list[list[int]]
    contigs: list[str] | str = "1"
    samples: tuple[str, ...] = SAMPLES
    families: tuple[str, ...] | None = None


def write_triple(path: Path, triple: Triple, major: str = "SNP") -> Path:
    """The three files under one name; variants are called v0, v1, …"""
    total = len(triple.positions)
    properties = {
        "fid": list(triple.families or triple.samples),
        "iid": list(triple.samples),
        "chromosome": [triple.contigs] * total if isinstance(triple.contigs, str) else triple.contigs,
        "sid": [f"v{i}" for i in range(total)],
        "bp_position": triple.positions,
        "allele_1": [a1 for a1, _ in triple.alleles],
        "allele_2": [a2 for _, a2 in triple.alleles],
    }
    to_bed(path, np.array(triple.count_SV, dtype=np.int8), properties=properties, major=major)
    return path

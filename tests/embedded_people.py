"""Embedded people for tests: random unit rows, partners alike but for noise, people with any number of windows."""

import numpy as np
import pandas as pd

from brainmt_align.evaluation.retrieval import EmbeddingIndex

WIDTH = 16


def unit(n, seed, width=WIDTH):
    z = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def people(n, **columns):
    return pd.DataFrame({"subject_id": [f"{each:04}" for each in range(n)], **columns})


def partners(n, noise=0.3, seed=0):
    """Scans and genomes of n people, alike but for noise."""
    dna = unit(n, seed)
    fmri = dna + noise * unit(n, seed + 1)
    return fmri / np.linalg.norm(fmri, axis=1, keepdims=True), dna


def modest(n, width, cosine, seed=0):
    """Scans and genomes of n people, each pair at about one cosine: chance, not the person, makes most of a row."""
    dna = unit(n, seed, width)
    fmri = cosine * dna + (1 - cosine**2) ** 0.5 * unit(n, seed + 1, width)
    return fmri / np.linalg.norm(fmri, axis=1, keepdims=True), dna


def windows(n=40, seed=0):
    """Index whose people have 0 to 3 scans and 0 to 2 genomes, in no order."""
    rng = np.random.default_rng(seed)
    fmri_person, dna_person = (rng.permutation(np.repeat(np.arange(n), rng.integers(0, most + 1, n))) for most in (3, 2))
    centre = unit(n, seed)

    def rows(person, seed):
        z = centre[person] + 0.8 * unit(len(person), seed)
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    return EmbeddingIndex(
        rows(fmri_person, seed + 1), rows(dna_person, seed + 2), people(n), fmri_person=fmri_person, dna_person=dna_person
    )

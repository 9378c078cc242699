"""CCA rival: functional connectivity and allele dosages flow in; canonical coordinates of people it was not fitted to flow out.

N people, F edges, V variants, P principal components, K canonical components.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold

from brainmt_align.evaluation.canonical import canonical_rotations
from brainmt_align.evaluation.covariate_rival import RivalVectors
from brainmt_align.evaluation.families import number_families
from brainmt_align.evaluation.ranks import rank_both_ways

INNER_FOLDS = 4
FEWEST_TO_LEARN_FROM = 20  # people
PRINCIPAL_COMPONENTS = (3, 5, 10, 20, 40, 80, 160)  # tried on each side alike


def rows_to_learn_from(subject_ids: Sequence[str], learned_from: Sequence[str] | None, checkpoint: str | Path) -> np.ndarray:
    """Row numbers of the people whom a checkpoint was trained on, refused before anything is read of their scans and genomes.

    Args:
        subject_ids: one id a person.
        learned_from: ids of `seen_people.training_people`; None: nothing tells.
        checkpoint: for the message.

    Raises:
        ValueError: fewer than 20 of them are among the people.
    """
    rows = np.flatnonzero(np.isin(list(subject_ids), list(learned_from or [])))
    if len(rows) < FEWEST_TO_LEARN_FROM:
        raise ValueError(
            f"{FEWEST_TO_LEARN_FROM} of the checkpoint's training people were expected in this cohort, got {len(rows)}.\n"
            f"  file: {checkpoint}\n  fix: evaluate on the cohort of the training, with split.json beside the checkpoint."
        )
    return rows


def cca_rival(
    connectivity_NF,
    dosage_NV,
    fit_rows,
    score_rows,
    groups_N: Sequence[Hashable] | None = None,
    components: int = 10,
    seed: int = 0,
) -> RivalVectors:
    """Canonical correlation analysis of connectivity and dosages, the linear model of two sides, on people it never saw.

    Each side is standardised and rotated to its first P principal components, both as the fit rows have them; with U and W the
    fit rows' components scaled to unit length, U' W = A diag(r) B' gives canonical coordinates of correlation r. A person's
    vector is the first K coordinates times sqrt(r), at unit length, so that a dot product weighs every coordinate by r. P, of
    3, 5, 10, 20 … up to a third of the people learned from, is the number with the best mean log rank of held-out partners in
    4 folds over the families of the fit rows.

    Args:
        connectivity_NF: (N, F) edges of everybody.
        dosage_NV: (N, V) allele counts of everybody, see `read_dosages`.
        fit_rows: row numbers to learn from.
        score_rows: row numbers to give vectors of; none of them, nor their families, among fit_rows.
        groups_N: (N,) family of each person; None: everyone is alone.
        components: K at most.
        seed: deals the families into folds and starts large decompositions.

    Returns:
        both directions → (query, candidate), each (n_score, K) float32 of unit norm, in the order of score_rows.

    Raises:
        ValueError: lengths that differ, values that are not finite, people or families on both sides, fewer than 20 people or 4
            families to learn from, a side that is constant, components below 1.

    Reference:
        Hotelling 1936; Björck and Golub 1973 (by singular values); Smith et al. 2015 (components first, then CCA).
    """
    x, y = np.asarray(connectivity_NF, dtype=np.float32), np.asarray(dosage_NV, dtype=np.float32)
    fit_rows, score_rows = np.asarray(fit_rows, dtype=int), np.asarray(score_rows, dtype=int)
    labels = list(range(len(x))) if groups_N is None else list(groups_N)
    _check(x, y, fit_rows, score_rows, labels, components)
    kept = _choose(x[fit_rows], y[fit_rows], number_families(labels)[fit_rows], components, seed)
    query, candidate = _fit_and_score(x, y, fit_rows, score_rows, (kept,), components, seed)[0]
    return {"fmri_to_dna": (query, candidate), "dna_to_fmri": (candidate, query)}


def _choose(x: np.ndarray, y: np.ndarray, family: np.ndarray, components: int, seed: int) -> int:
    """The number of principal components whose held-out partners rank best."""
    folds = list(GroupKFold(INNER_FOLDS, shuffle=True, random_state=seed).split(x, groups=family))
    most = min(len(rows) for rows, _ in folds) // 3
    tried = tuple(count for count in PRINCIPAL_COMPONENTS if count <= most)
    logs = np.zeros(len(tried))
    for rows, held_out in folds:
        for at, (query, candidate) in enumerate(_fit_and_score(x, y, rows, held_out, tried, components, seed)):
            ranks = rank_both_ways(query, candidate)
            logs[at] += np.log(ranks.fmri_to_dna).sum() + np.log(ranks.dna_to_fmri).sum()
    return tried[int(logs.argmin())]


def _fit_and_score(x, y, fit_rows, score_rows, counts: Sequence[int], components: int, seed: int) -> list[tuple]:
    """Unit vectors of the score rows by CCA of the fit rows, for each number of principal components."""
    fitted_x, scored_x = _principal(x, fit_rows, score_rows, max(counts), "connectivity", seed)
    fitted_y, scored_y = _principal(y, fit_rows, score_rows, max(counts), "dosages", seed)
    vectors = []
    for count in counts:
        turned = canonical_rotations(fitted_x[:, :count], fitted_y[:, :count])
        weights_K = np.sqrt(turned.correlations_K[:components])
        sides = (scored_x, turned.rotation_PP), (scored_y, turned.rotation_QQ)
        vectors.append(tuple(_unit(scored[:, :count] @ rotation[:, : len(weights_K)] * weights_K) for scored, rotation in sides))
    return vectors


def _principal(table, fit_rows, score_rows, count: int, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n_fit, P) and (n_score, P) whitened principal components of standardised columns; fewer where the rank is lower."""
    mean_F, spread_F = table[fit_rows].mean(0, dtype=np.float64), table[fit_rows].std(0, dtype=np.float64)
    varies_F = spread_F > 1e-6 * np.maximum(1, np.abs(mean_F))
    if not varies_F.any():
        raise ValueError(
            f"CCA: expected {name} that differ between people, got {table.shape[1]} constant columns in {len(fit_rows)} rows to "
            "learn from.\n  fix: bring other regions or scans, or leave this rival out."
        )
    scale_F = mean_F[varies_F].astype(np.float32), spread_F[varies_F].astype(np.float32)
    fitted, scored = ((table[rows][:, varies_F] - scale_F[0]) / scale_F[1] for rows in (fit_rows, score_rows))
    pca = PCA(min(count, *fitted.shape), random_state=seed).fit(fitted)
    real = pca.singular_values_ > 1e-4 * pca.singular_values_[0]
    lengths = pca.singular_values_[real]
    return pca.transform(fitted)[:, real] / lengths, pca.transform(scored)[:, real] / lengths


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _check(x, y, fit_rows, score_rows, labels: list, components: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or not len(x) == len(y) == len(labels):
        raise ValueError(
            f"CCA: expected edges, dosages and families of the same people, got {x.shape}, {y.shape} and {len(labels)}.\n"
            "  fix: bring all three into the same rows."
        )
    for name, table in (("connectivity", x), ("dosages", y)):
        if not np.isfinite(table).all():
            raise ValueError(
                f"CCA: expected finite numbers, got others in {name}, first in row "
                f"{int(np.flatnonzero(~np.isfinite(table).all(1))[0])}.\n  fix: leave out this person, or fill what is missing."
            )
    families = {labels[row] for row in fit_rows}
    both = sorted({int(row) for row in score_rows if labels[row] in families})
    if both:
        raise ValueError(
            f"CCA: expected nobody to be scored by what was fitted to them or their relatives, got {len(both)} such people, "
            f"first in row {both[0]}.\n  fix: fit on the training part of a split by families."
        )
    if len(fit_rows) < FEWEST_TO_LEARN_FROM or len(families) < INNER_FOLDS or components < 1:
        raise ValueError(
            f"CCA: expected {FEWEST_TO_LEARN_FROM} people or more of {INNER_FOLDS} families or more to learn from and 1 "
            f"component or more, got {len(fit_rows)} people of {len(families)} families and {components} components.\n"
            "  fix: bring more training people, or leave this rival out."
        )

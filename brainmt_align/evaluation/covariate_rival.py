"""Covariate rival: embeddings, covariates and families flow in; vectors that know nothing but the covariates flow out.

N people, E shared width, K covariates, F folds.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from brainmt_align.evaluation.families import number_families

# "fmri_to_dna", "dna_to_fmri" → query and candidate vectors, (N, any width) each, ranked by dot product; row i is person i.
RivalVectors = dict[str, tuple[np.ndarray, np.ndarray]]

PENALTIES = np.logspace(-1, 5, 13)  # of standardised covariates


def covariates_only(z_fmri, z_dna, covariates_NK, groups_N: Sequence[Hashable], folds: int = 5, seed: int = 0) -> RivalVectors:
    """What the query person's covariates alone tell of the partner: ridge regression to the other side's embedding.

    For fmri_to_dna the query is what the person's covariates predict of z_dna, for dna_to_fmri of z_fmri, less the mean of the
    people learned from; candidates are the embeddings less the mean of all. Families are dealt into F folds, and the score of
    a query from fold f and a candidate from fold g comes from a model that learned from neither:

        score(i, j) = B_fg (x_i - mean_fg x) . (z_j - mean z)

    A model that left out the query's family alone would have learned from every candidate but the true one: chance agreements
    with what it learned spread the others' scores, the true partner stays in the middle, and a rival that knows nothing has a
    recall below chance. Where g = f, another fold is left out as well, so that all models learn from as many. As vectors:
    block g of a query is its prediction by model fg, and a candidate stands in its own fold's block, with zeros elsewhere. The
    penalty is chosen once a query fold, by the leave-one-out error of the people outside it.

    Covariates that are constant say nothing: all candidates tie.

    Args:
        z_fmri: (N, E) embeddings, row i pairs with row i of z_dna.
        z_dna: (N, E) embeddings.
        covariates_NK: (N, K) numbers without gaps.
        groups_N: (N,) family of each person; never divided between folds.
        folds: F, at least 3.
        seed: deals the families.

    Returns:
        direction → (query, candidate), each (N, F * E) float32.

    Raises:
        ValueError: lengths that differ, values that are not finite, fewer than 3 folds or fewer families than folds.

    Reference:
        Chernozhukov et al. 2018, section 3 (cross-fitting).
    """
    z_fmri, z_dna, covariates_NK = (np.asarray(each, dtype=np.float64) for each in (z_fmri, z_dna, covariates_NK))
    _check({"z_fmri": z_fmri, "z_dna": z_dna, "covariates": covariates_NK}, groups_N)
    fold_N = _deal(groups_N, folds, seed)
    return {
        "fmri_to_dna": _vectors(covariates_NK, z_dna, fold_N, folds),
        "dna_to_fmri": _vectors(covariates_NK, z_fmri, fold_N, folds),
    }


def _vectors(covariates_NK: np.ndarray, z_NE: np.ndarray, fold_N: np.ndarray, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of z from covariates, and z itself, in blocks by the candidate's fold."""
    people, width = z_NE.shape
    queries = np.zeros((people, folds, width), dtype=np.float32)
    candidates = np.zeros_like(queries)
    centred_NE = z_NE - z_NE.mean(0)
    for fold in range(folds):
        asked = fold_N == fold
        candidates[asked, fold] = centred_NE[asked]
        scaler = StandardScaler().fit(covariates_NK[~asked])
        scaled_NK = scaler.transform(covariates_NK)
        penalty = RidgeCV(PENALTIES).fit(scaled_NK[~asked], z_NE[~asked]).alpha_
        for other in range(folds):
            left_out = (fold + 1) % folds if other == fold else other
            learned = ~asked & (fold_N != left_out)
            ridge = Ridge(penalty).fit(scaled_NK[learned], z_NE[learned])
            queries[asked, other] = ridge.predict(scaled_NK[asked]) - z_NE[learned].mean(0)
    return queries.reshape(people, -1), candidates.reshape(people, -1)


def _deal(groups_N: Sequence[Hashable], folds: int, seed: int) -> np.ndarray:
    """(N,) fold of each person, families whole."""
    family_N = number_families(groups_N)
    families = int(family_N.max()) + 1
    if not 3 <= folds <= families:
        raise ValueError(
            f"Covariates only: expected between 3 folds and one a family, got {folds} folds of {families} families.\n"
            "  fix: ask for fewer folds, evaluate more people, or leave this rival out."
        )
    fold_N = np.empty(len(family_N), dtype=int)
    dealt = GroupKFold(folds, shuffle=True, random_state=seed).split(family_N, groups=family_N)
    for fold, (_, rows) in enumerate(dealt):
        fold_N[rows] = fold
    return fold_N


def _check(tables: dict[str, np.ndarray], groups_N: Sequence[Hashable]) -> None:
    shapes = {name: table.shape for name, table in tables.items()}
    if any(len(shape) != 2 or shape[0] != len(groups_N) or not shape[1] for shape in shapes.values()):
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"Covariates only: expected tables of one row for each of {len(groups_N)} people with a family, got {got}.\n"
            "  fix: bring embeddings, covariates and families into the same rows."
        )
    for name, table in tables.items():
        if not np.isfinite(table).all():
            row = int(np.flatnonzero(~np.isfinite(table).all(1))[0])
            raise ValueError(
                f"Covariates only: expected finite numbers, got others in {name}, first in row {row}.\n"
                "  fix: fill or leave out people without a value."
            )

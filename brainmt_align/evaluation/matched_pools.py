"""Matched pools: covariates of people flow in; for each of them the candidates that are most alike, the own first, flow out."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from brainmt_align.evaluation.families import number_families, require_families

# Of the unit in which covariates are standardised: decides among people who are alike in all of them, and nothing else.
TIE_BREAK = 1e-6


def matched_pools(covariates_NK, pool_size: int, groups_N: Sequence[Hashable] | None = None, seed: int = 0) -> np.ndarray:
    """For every person the row numbers of a pool: the own row, then the people nearest in covariates who are no relatives.

    Near is by Mahalanobis distance over all people; covariates that others tell already add nothing. People equally near are
    taken at random.

    Covariates that vary within a pool leave the own row, whose covariates are the query's exactly, above chance even for a model
    that knows nothing else; dividing people into blocks of equal size leaves more, as blocks are wider than the nearest people.
    So hold a model against one that sees covariates only on the same pools, not against chance alone.

    Args:
        covariates_NK: (N, K) finite regressors, as `CovariateCoding.encode` gives them.
        pool_size: m, the own row included.
        groups_N: (N,) families; the query's relatives are left out of its pool.
        seed: decides among people equally near.

    Returns:
        (N, m) int64, column 0 the own row, the others by distance.

    Raises:
        ValueError: covariates that are no table of finite numbers or do not vary, labels of another length or blank, or pools
            larger than the people who are no relatives.
    """
    covariates_NK = np.asarray(covariates_NK, dtype=np.float64)
    _check(covariates_NK, pool_size, groups_N)
    n = len(covariates_NK)
    family_N = number_families(range(n) if groups_N is None else groups_N)
    scaled_NK = covariates_NK - covariates_NK.mean(0)
    spread_K = scaled_NK.std(0)
    scaled_NK = scaled_NK[:, spread_K > 0] / spread_K[spread_K > 0]
    white_NK = PCA(int(np.linalg.matrix_rank(scaled_NK)), whiten=True, svd_solver="full").fit_transform(scaled_NK)
    white_NK = np.column_stack([white_NK, TIE_BREAK * np.random.default_rng(seed).standard_normal(n)])
    asked = min(n, pool_size - 1 + int(np.bincount(family_N).max()))
    nearest = NearestNeighbors(n_neighbors=asked).fit(white_NK).kneighbors(white_NK, return_distance=False)
    strangers = family_N[nearest] != family_N[:, None]
    first = np.argsort(~strangers, axis=1, kind="stable")[:, : pool_size - 1]
    return np.column_stack([np.arange(n), np.take_along_axis(nearest, first, axis=1)]).astype(np.int64)


def _check(covariates_NK: np.ndarray, pool_size: int, groups_N) -> None:
    shape = covariates_NK.shape
    if covariates_NK.ndim != 2 or not covariates_NK.size or not np.isfinite(covariates_NK).all():
        bad = int((~np.isfinite(covariates_NK)).sum())
        raise ValueError(
            f"Matched pools: finite covariates (people, covariates) were expected, got shape {shape} with {bad} not finite.\n"
            "  fix: encode the covariates, and fill or drop missing ones."
        )
    if not (np.ptp(covariates_NK, axis=0) > 0).any():
        raise ValueError(
            f"Matched pools: a covariate that varies was expected, got {shape[1]} constant ones.\n"
            "  fix: name covariates in which people differ."
        )
    if groups_N is not None:
        require_families("Matched pools", groups_N, shape[0])
    largest = 1 if groups_N is None else max(Counter(groups_N).values())
    most = shape[0] - largest + 1
    if not 2 <= pool_size <= most:
        raise ValueError(
            f"Matched pools: 2 to {most} people a pool were expected for {shape[0]} people in families of up to {largest}, got "
            f"{pool_size}.\n  fix: ask for smaller pools."
        )

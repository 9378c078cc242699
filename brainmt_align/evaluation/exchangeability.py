"""Exchangeability: nuisance and families flow in; rows that a permutation may deal anew, and the permutations, flow out.

N people, M rows that may be permuted, Z nuisance columns, D features.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack, qr

from brainmt_align.evaluation.families import require_families
from brainmt_align.evaluation.permutation import draw_repairings, exchangeable_blocks

SAME = 1e-9  # columns are taken to depend on each other when less than this share of the largest is left of them
SMALLEST_LEFT = 1e-10  # share of a feature's length that projection leaves when the nuisance is the feature
LARGEST_SHARE_DROPPED = 1 / 8  # false positives of families with nuisance grow with it, see `exchangeable_rows`


class ExchangeableRows(NamedTuple):
    """Features without nuisance, on rows that may be permuted."""

    features: tuple[np.ndarray, ...]  # (M, D) of each side
    groups_M: list[Hashable] | None  # group of each row; None where rows move freely
    rank: int  # of the nuisance with its constant; the constant alone is removed with all rows kept
    exact: bool  # False: families with nuisance, where permutation holds nearly


def exchangeable_rows(
    sides: Sequence[np.ndarray], nuisance_NZ: np.ndarray | None = None, groups_N: Sequence[Hashable] | None = None
) -> ExchangeableRows:
    """Remove nuisance from both sides and bring them to rows that a permutation may deal anew.

    What is valid, and why:

    * No nuisance: means are removed and all N rows stay. Permuting centred rows is permuting rows, so the test is exact for
      exchangeable people, and with groups for exchangeable blocks of the same size.
    * Nuisance, everybody free: least-squares residuals of N people have rank N - r and are not exchangeable, which makes their
      naive permutation too liberal, the more so the larger r. Both sides are projected by Q' with Q (N, N - r) semi-orthogonal
      and QQ' the residual-forming matrix (Huh and Jhun), here from Householder reflections. Errors of the same variance stay
      uncorrelated on M = N - r rows: exact for normal errors, near for others.
    * Nuisance and groups of several: that Q would mix families. Theil's residuals instead: whole groups are dropped that hold r
      people who identify the nuisance, and Q = R S'(S R S')^(-1/2), with S selecting the M others, is the semi-orthogonal basis
      nearest to them: row m stands for a person and blocks stay blocks. What a row takes up of other people's errors vanishes
      as r / N does, and so does the distance from exchangeability: near, not exact. With families that
      correlate at 0.8 and nuisance that differs within them, tests at 0.05 reject 0.059 to 0.063 of 1,500 null cohorts up to
      a tenth of the people dropped, and 0.075 to 0.083 at a quarter; more than an eighth is refused. For an exact test keep
      one member of each family.

    Args:
        sides: (N, D) features, as many arrays as wanted, all of the same people.
        nuisance_NZ: (N, Z) regressors such as `CovariateCoding.encode` makes; a constant is added. None or Z = 0 for none.
        groups_N: (N,) label of each person's family; None or all different makes everybody free.

    Raises:
        ValueError: other lengths, values that are not finite, blank labels, fewer than 4 rows left, families with so much
            nuisance that more than an eighth of the people would be dropped.

    Reference:
        Winkler et al. 2020, NeuroImage 220:117065; Huh and Jhun 2001; Theil 1965.
    """
    sides, nuisance_NZ = _check(sides, nuisance_NZ, groups_N)
    free = groups_N is None or len(set(groups_N)) == len(groups_N)
    groups = None if free else list(groups_N)
    if nuisance_NZ is None:
        return ExchangeableRows(_without_rounding(sides, [side - side.mean(0) for side in sides]), groups, 1, True)
    n = len(nuisance_NZ)
    design_NZ = np.column_stack([np.ones(n), nuisance_NZ - nuisance_NZ.mean(0)])
    scale_Z = np.linalg.norm(design_NZ, axis=0)
    design_NZ = design_NZ / np.where(scale_Z > 0, scale_Z, 1)
    (reflections, factors), upper, _ = qr(design_NZ, mode="raw", pivoting=True)
    sizes = np.abs(np.diag(upper))
    rank = int((sizes > SAME * sizes[0]).sum())
    if n - rank < 4:
        raise ValueError(
            f"Exchangeable rows: 4 or more were expected to be left, got {n} people less nuisance of rank {rank}.\n"
            "  fix: name fewer nuisance columns, or columns of fewer categories."
        )
    reflections, factors = np.asfortranarray(reflections[:, :rank]), factors[:rank]
    if free:
        projected = [_reflect(reflections, factors, side, "T")[rank:] for side in sides]
        return ExchangeableRows(_without_rounding(sides, projected), None, rank, True)
    basis_NZ = _reflect(reflections, factors, np.eye(n, rank), "N")
    kept = _kept_rows(basis_NZ, groups, rank)
    projected = _theil(sides, basis_NZ, kept)
    return ExchangeableRows(_without_rounding(sides, projected), [groups[row] for row in kept], rank, False)


def draw_pairings(
    n: int, groups: Sequence[Hashable] | None = None, permutations: int = 2000, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield (up to a batch, n) row numbers, drawn evenly from the re-pairings that move groups whole, to places of their size.

    Args:
        n: rows.
        groups: (n,) label of each row's group; None makes all rows free.
        permutations: how many are drawn in all, 1 or more.
        seed: of the drawing.

    Raises:
        ValueError: fewer than 1 permutation, or no re-pairing but the true one.
    """
    if permutations < 1:
        raise ValueError(f"Pairings: expected 1 permutation or more, got {permutations}.\n  fix: ask for 2000.")
    classes = exchangeable_blocks(n, groups)
    if all(len(blocks) == 1 for blocks in classes):
        raise ValueError(
            f"Pairings: expected two groups of the same size or more, got {len(classes)} of different sizes; only the true "
            "pairing is admissible.\n  fix: keep as many members of each family as another family has."
        )
    return draw_repairings(n, classes, permutations, seed)


def _reflect(reflections: np.ndarray, factors: np.ndarray, values: np.ndarray, transpose: str) -> np.ndarray:
    """Q values or Q' values of a Householder QR, without the (N, N) matrix."""
    values = np.asfortranarray(values)
    room = max(1, 64 * values.shape[1])  # LAPACK's own block size
    product, _, _ = lapack.dormqr("L", transpose, reflections, factors, values, room)
    return product


def _kept_rows(basis_NZ: np.ndarray, groups: list[Hashable], rank: int) -> np.ndarray:
    """Rows outside the groups of those people who identify the nuisance best; no feature has a say in it."""
    _, _, order = qr(basis_NZ.T, mode="economic", pivoting=True)
    dropped = {groups[row] for row in order[:rank]}
    kept = np.array([row for row, group in enumerate(groups) if group not in dropped], dtype=np.int64)
    if len(kept) < max(4, (1 - LARGEST_SHARE_DROPPED) * len(groups)):
        raise ValueError(
            f"Exchangeable rows: families and nuisance together need {1 - LARGEST_SHARE_DROPPED:.0%} of the people to be kept, "
            f"got {len(kept)} of {len(groups)} beside {len(dropped)} families that go for nuisance of rank {rank}.\n"
            "  fix: name fewer nuisance columns, or keep one member of each family."
        )
    return kept


def _theil(sides: Sequence[np.ndarray], basis_NZ: np.ndarray, kept: np.ndarray) -> list[np.ndarray]:
    """(S R S')^(-1/2) S R of every side; S R S' = 1 - B B' with B the kept rows of the nuisance's orthonormal basis."""
    left_MZ, sizes_Z, _ = np.linalg.svd(basis_NZ[kept], full_matrices=False)
    stretch_Z = 1 / np.sqrt(np.maximum(1 - sizes_Z**2, SAME)) - 1
    residuals = [(side - basis_NZ @ (basis_NZ.T @ side))[kept] for side in sides]
    return [each + (left_MZ * stretch_Z) @ (left_MZ.T @ each) for each in residuals]


def _without_rounding(sides: Sequence[np.ndarray], projected: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Columns of which nothing is left are exactly 0, so that no later step scales their rounding up to a signal."""
    pairs = zip(sides, projected, strict=True)
    return tuple(
        np.where(np.linalg.norm(after, axis=0) > SMALLEST_LEFT * np.linalg.norm(before, axis=0), after, 0.0)
        for before, after in pairs
    )


def _check(sides, nuisance_NZ, groups_N) -> tuple[list[np.ndarray], np.ndarray | None]:
    sides = [np.asarray(side, dtype=np.float64) for side in sides]
    nuisance_NZ = None if nuisance_NZ is None or not np.size(nuisance_NZ) else np.asarray(nuisance_NZ, dtype=np.float64)
    tables = [*sides] if nuisance_NZ is None else [*sides, nuisance_NZ]
    shapes = [table.shape for table in tables]
    lengths = {shape[0] for shape in shapes if shape} | ({len(groups_N)} if groups_N is not None else set())
    if len(lengths) != 1 or any(len(shape) != 2 or not math.prod(shape) for shape in shapes) or min(lengths) < 4:
        raise ValueError(
            "Exchangeable rows: tables of the same 4 people or more were expected, got shapes "
            + ", ".join(map(str, shapes))
            + (f" and {len(groups_N)} group labels" if groups_N is not None else "")
            + ".\n  fix: bring both sides, nuisance and groups into the same rows."
        )
    broken = [row for row in range(len(tables[0])) if not all(np.isfinite(table[row]).all() for table in tables)]
    if broken:
        raise ValueError(
            f"Exchangeable rows: finite values were expected, got others for {len(broken)} people, first in row {broken[0]}.\n"
            "  fix: leave these people out, or fill their covariates."
        )
    if groups_N is not None:
        require_families("Exchangeable rows", groups_N, len(tables[0]))
    return sides, nuisance_NZ

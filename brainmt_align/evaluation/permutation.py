"""Permutation test: ranks of every candidate for every query flow in; p of the pairing, effect and null draws flow out."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from brainmt_align.data.tables import is_blank

# Numbers of one batch of permutations that are in memory at once: 2²¹ float64 take 16 MiB.
BATCH_NUMBERS = 2**21


class PermutationTest(NamedTuple):
    """A permutation p-value and what it rests on."""

    p_value: float | None  # None: the true pairing is the only admissible one, so nothing was tested
    min_p_value: float  # the least p that perfect ranks could have had; above 0.05 nothing can be significant
    statistic: float  # geometric mean rank of the true partners, 1 is best
    permutations: int  # how many re-pairings it was compared with, the true one included when all were listed
    exact: bool  # all admissible re-pairings were listed instead of drawn


class PairingTest(NamedTuple):
    """A permutation test of a mean of log ranks, with the draws it was compared with."""

    p_value: float | None  # None: the true pairing is the only admissible one, so nothing was tested
    min_p_value: float  # the least p that perfect ranks could have had
    statistic: float  # mean log rank of the true pairing, in nats; smaller is better
    effect_nats: float  # mean of the null's statistics less the statistic: what the pairing gains a person
    permutations: int
    exact: bool
    null_R: np.ndarray  # (permutations,) float64 the statistic of each re-pairing


def permutation_p_value(
    ranks_QC,
    *,
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> PermutationTest:
    """Test whether true partners rank better than partners dealt out anew.

    The statistic is the geometric mean rank (the mean of log rank): the mean rank misses a few sharp hits among many misses,
    the mean reciprocal rank misses a small gain of everybody, and the log keeps most of the power in both cases.

    Which re-pairings are admissible under the null hypothesis: with `strata` people are dealt only within their stratum.
    With `groups` (families, repeated people) a group moves as a whole block and only to the place of a group of the same size,
    and with both, of the same make-up by stratum; members keep their order, within a block sorted by stratum.

    Args:
        ranks_QC: (n, n) average rank of candidate c for query q, 1 is best; query i belongs to candidate i.
        groups: (n,) label of each person's group; None makes everyone free.
        strata: (n,) label of each person's stratum.
        permutations: how many re-pairings are drawn; when there are no more than this, all are listed and p is exact.
        seed: of the drawing.

    Returns:
        p = (1 + #{drawn as good or better}) / (1 + drawn), or exactly #{as good or better} / #{all} when all were listed; no p
        where the true pairing is the only admissible one (families of different sizes, strata of one person).

    Raises:
        ValueError: ranks that are not a square of numbers ≥ 1, labels of another length, or fewer than 1 permutation.

    Reference:
        Phipson and Smyth 2010 (p-values are never zero); Winkler et al. 2015 (whole-block exchangeability).
    """
    ranks_QC = _check(ranks_QC, groups, strata, permutations)
    test = _test(
        len(ranks_QC),
        lambda rows, columns: np.log(ranks_QC[rows, columns].astype(np.float64)),
        groups,
        strata,
        permutations,
        seed,
    )
    return PermutationTest(test.p_value, test.min_p_value, math.exp(test.statistic), test.permutations, test.exact)


def pairing_test(
    log_NN,
    *,
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> PairingTest:
    """Test a matrix of log ranks, such as the mean of both directions', by the re-pairings of `permutation_p_value`.

    Args:
        log_NN: (n, n) log rank, 0 or more, of pairing person i's scan with person j's genome; the true pairs on the diagonal.
            Both directions at once: (log ranks of genomes for scans + transposed log ranks of scans for genomes) / 2.
        groups: as in `permutation_p_value`.
        strata: as in `permutation_p_value`.
        permutations: as in `permutation_p_value`.
        seed: of the drawing.

    Raises:
        ValueError: no square of numbers of 0 or more, labels of another length, or fewer than 1 permutation.
    """
    log_NN = np.asarray(log_NN)
    if log_NN.ndim != 2 or log_NN.shape[0] != log_NN.shape[1] or not log_NN.size or not (log_NN >= 0).all():
        raise ValueError(
            f"Permutation: expected a square of log ranks of 0 or more, got shape {log_NN.shape}.\n"
            "  fix: pass the logarithm of the ranks that rank_matrix gives."
        )
    _check_labels(len(log_NN), groups, strata, permutations)
    return _test(len(log_NN), lambda rows, columns: log_NN[rows, columns], groups, strata, permutations, seed)


def _test(n: int, log_ranks: Callable, groups, strata, permutations: int, seed: int) -> PairingTest:
    classes = exchangeable_blocks(n, groups, strata)
    admissible = math.prod(math.factorial(len(blocks)) for blocks in classes)
    exact = admissible <= permutations
    draws = _list_all(n, classes) if exact else draw_repairings(n, classes, permutations, seed)
    queries = np.arange(n)
    observed = float(log_ranks(queries, queries).sum(dtype=np.float64))
    null_R = np.concatenate([log_ranks(queries, draw).sum(axis=-1, dtype=np.float64) for draw in draws])
    # A sum in another order differs in its last bits; without slack equal statistics would count as worse.
    as_good = int((null_R <= observed + 1e-12 * n * math.log(n + 1)).sum())
    compared, least, of = (admissible, as_good, admissible) if exact else (permutations, 1 + as_good, 1 + permutations)
    p_value = least / of if admissible > 1 else None
    null_R = null_R / n
    return PairingTest(p_value, 1 / of, observed / n, float(null_R.mean()) - observed / n, compared, exact, null_R)


def exchangeable_blocks(
    n: int, groups: Sequence[Hashable] | None = None, strata: Sequence[Hashable] | None = None
) -> list[np.ndarray]:
    """Sort n people into classes of blocks that may take each other's place.

    Returns:
        for each class the row numbers (blocks, members) of its people; every person stands in exactly one class.
    """
    stratum = list(strata) if strata is not None else [0] * n
    members = defaultdict(list)
    for person, group in enumerate(groups if groups is not None else range(n)):
        members[group].append(person)
    rank_of = {label: at for at, label in enumerate(dict.fromkeys(stratum))}
    classes = defaultdict(list)
    for block in members.values():
        block.sort(key=lambda person: rank_of[stratum[person]])
        classes[tuple(stratum[person] for person in block)].append(block)
    return [np.array(blocks) for blocks in classes.values()]


def draw_repairings(n: int, classes: Sequence[np.ndarray], permutations: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield (up to a batch, n) int64 candidate rows of each query, drawn evenly from the admissible re-pairings.

    Args:
        n: people.
        classes: (blocks, members) row numbers of each class of blocks, as `exchangeable_blocks` gives them.
        permutations: how many are drawn in all.
        seed: of the drawing.
    """
    generator = np.random.default_rng(seed)
    batch = max(1, BATCH_NUMBERS // n)
    for start in range(0, permutations, batch):
        size = min(batch, permutations - start)
        draw = np.empty((size, n), dtype=np.int64)
        for blocks in classes:
            order = generator.random((size, len(blocks))).argsort(axis=1)
            draw[:, blocks.ravel()] = blocks[order].reshape(size, -1)
        yield draw


def _list_all(n: int, classes: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield (up to a batch, n) candidate rows of each query until every admissible re-pairing was given once."""
    batch = max(1, BATCH_NUMBERS // n)
    orders = itertools.product(*(itertools.permutations(range(len(blocks))) for blocks in classes))
    while chunk := list(itertools.islice(orders, batch)):
        draw = np.empty((len(chunk), n), dtype=np.int64)
        for blocks, order in zip(classes, zip(*chunk, strict=True), strict=True):
            draw[:, blocks.ravel()] = blocks[np.array(order)].reshape(len(chunk), -1)
        yield draw


def _check(ranks_QC, groups, strata, permutations: int) -> np.ndarray:
    ranks_QC = np.asarray(ranks_QC)
    if ranks_QC.ndim != 2 or ranks_QC.shape[0] != ranks_QC.shape[1] or not ranks_QC.size or not (ranks_QC >= 1).all():
        raise ValueError(
            f"Permutation: expected a square of ranks of 1 or more, got shape {ranks_QC.shape}"
            + (f" with smallest value {ranks_QC.min():g}" if ranks_QC.size else "")
            + ".\n  fix: pass the rank of every candidate for every query, as rank_matrix gives it."
        )
    _check_labels(len(ranks_QC), groups, strata, permutations)
    return ranks_QC


def _check_labels(n: int, groups, strata, permutations: int) -> None:
    for name, labels in (("groups", groups), ("strata", strata)):
        if labels is not None and len(labels) != n:
            raise ValueError(
                f"Permutation: expected one label of {name} for each of {n} people, got {len(labels)}.\n"
                f"  fix: pass {name} in the order of the embeddings' rows."
            )
        blank = [row for row, label in enumerate(labels if labels is not None else ()) if is_blank(label)]
        if blank:
            raise ValueError(
                f"Permutation: expected a label of {name} for everyone, got none for {len(blank)} people, "
                f"first in row {blank[0]}.\n  fix: give people without relatives a label of their own."
            )
    if permutations < 1:
        raise ValueError(f"Permutation: expected 1 permutation or more, got {permutations}.\n  fix: ask for 10000, say.")

"""Confounds: embeddings, people's table and rivals flow in; retrieval overall, in strata and pools, and a verdict flow out.

N people, M people of a pool, R resamples.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.preprocessing import SplineTransformer

from brainmt_align.data.covariates import fit_covariates
from brainmt_align.evaluation.bootstrap import family_weights
from brainmt_align.evaluation.covariate_rival import RivalVectors, covariates_only
from brainmt_align.evaluation.matched_pools import matched_pools
from brainmt_align.evaluation.permutation import PairingTest, pairing_test
from brainmt_align.evaluation.ranks import RankedPairs, rank_both_ways, rank_in_pools, rank_pairs
from brainmt_align.evaluation.retrieval_metrics import DIRECTIONS, leads, rank_figures, retrieval_metrics
from brainmt_align.evaluation.strata import Strata, column_strata, make_strata
from brainmt_align.evaluation.verdict import COVARIATES_ONLY, SHARED_BY_TWINS, give_verdict
from brainmt_align.evaluation.within_strata import StratifiedRanks, pair_within, rank_within, surviving_share
from brainmt_align.memory import require_memory

MANY_VALUES, KNOTS = 20, 8  # of a covariate that gets splines
BYTES_A_PAIR = 48  # of people, measured: the largest arrays that are in memory at once hold a number a pair
FOLDS = 5  # over families, of the model that sees covariates only


class EvaluationSettings(NamedTuple):
    """What an alignment is examined for."""

    groups_N: Sequence[Hashable] | None = None  # (N,) families; None makes everyone free
    strata: Sequence[str] = ()  # columns, most important first
    bands: Mapping[str, float] = {}  # column of strata → width of its bands, in its unit
    min_stratum: int = 10  # people
    covariates: Sequence[str] = ()  # columns that pools are matched by and the covariates-only rival sees; none: neither is made
    categories: Sequence[str] = ()  # columns that are categories though they hold numbers
    pool_size: int = 20  # people, the own row included; fewer where there are not so many unrelated ones
    ks: Sequence[int] = (1, 5, 10)
    permutations: int = 10_000
    resamples: int = 2_000
    seed: int = 0
    shared_N: Sequence[float] | None = None  # (N,) of `kinship.family_shares`, 0 to 1; None takes relatives for siblings


class AlignmentEvaluation(NamedTuple):
    """What the embeddings of an alignment are worth."""

    metrics: dict[
        str, Any
    ]  # JSON-ready: retrieval, strata, matched, rivals, tests, verdict, and left_out: sentences on what could not be made
    nulls: pd.DataFrame  # columns test and statistic (mean log rank over both directions), one row a draw


def evaluate_alignment(
    z_fmri,
    z_dna,
    people: pd.DataFrame,
    settings: EvaluationSettings,
    oracle_scores=None,
    rivals: Mapping[str, RivalVectors] | None = None,
) -> AlignmentEvaluation:
    """Examine retrieval overall, within strata, within families, in matched pools and against rivals, and give a verdict.

    Every test is a permutation of the mean log rank over both directions. Overall and within strata, families move as whole
    blocks; within families, members change places inside their own, and one of
    several identical twins stands for all. Within strata both the ranks and the re-pairings are those
    of the own stratum; people whom the strata leave out take no part. Intervals draw families and keep the candidates.

    Memory grows with the square of the people, as every re-pairing may ask for any pair: about 48 bytes a pair, which is 1.6 GiB
    for 5,000 people and 5 GiB for 10,000, and refused where this machine has less available. Of more people evaluate a random
    part, families whole; `EmbeddingIndex.metrics` gives retrieval alone of any number.

    Args:
        z_fmri: (N, E) embeddings, one row a person; row i pairs with row i of z_dna.
        z_dna: (N, E) embeddings.
        people: (N rows) subject_id and the columns that the settings name, in the order of the embeddings.
        settings: what to examine.
        oracle_scores: (N, N) scores of a model that knows what was planted, row a scan, column a genome.
        rivals: name → vectors of a model that knows less, besides the one that sees the settings' covariates only.

    Raises:
        ValueError: embeddings, table, families or rivals of different people, values that are not finite, and what strata and
            covariates complain of: unknown columns, people without a value, nobody left in any stratum; more people than there is
            memory for.
    """
    rivals = dict(rivals or {})
    _check(z_fmri, z_dna, people, settings, rivals)
    n = len(z_fmri)
    _require_room(n)
    groups_N = list(settings.groups_N) if settings.groups_N is not None else list(range(n))
    strata, alone = _strata_of(people, settings)
    covariates_NK = encode_covariates(people, settings)
    pools_NM = None if covariates_NK is None else _pools_of(covariates_NK, groups_N, settings)
    left_out = _left_out(alone, covariates_NK, pools_NM, groups_N, settings)
    folds = min(FOLDS, len(set(groups_N)))
    if covariates_NK is not None and folds > 2 and np.ptp(covariates_NK, axis=0).any():
        rivals = {
            COVARIATES_ONLY: covariates_only(z_fmri, z_dna, _flexible(covariates_NK), groups_N, folds, settings.seed)
        } | rivals
    drawn = {"permutations": settings.permutations, "seed": settings.seed}
    ranked = rank_pairs(z_fmri, z_dna)
    asked = {"groups": groups_N, "resamples": settings.resamples, "ranked": ranked}
    retrieval = retrieval_metrics(z_fmri, z_dna, settings.ks, oracle_scores=oracle_scores, **asked, **drawn)
    weights_RN = family_weights(groups_N, settings.resamples, settings.seed)
    ranks = {direction: (getattr(ranked.own, direction), getattr(ranked.own, f"ties_{direction}")) for direction in DIRECTIONS}
    told_apart = _told_apart(groups_N, settings.shared_N)
    tests, shares, stratified = _tests(z_fmri, z_dna, ranked, strata, alone, groups_N, told_apart, drawn)
    told = {name: _told(test) | ({"share": shares[name]} if name in shares else {}) for name, test in tests.items()}
    if "within families" in told:
        told["within families"] |= _family_power(tests, groups_N, told_apart, settings.shared_N)
    z = {"fmri_to_dna": (z_fmri, z_dna), "dna_to_fmri": (z_dna, z_fmri)}
    matched = None if pools_NM is None else _matched(z, rivals.get(COVARIATES_ONLY), pools_NM, settings, weights_RN)
    against = {name: _against(_ranks_of(each), ranks, n, settings.ks, weights_RN) for name, each in rivals.items()}
    metrics = {
        "retrieval": retrieval,
        "strata": None if strata is None else _stratified_figures(strata, stratified, groups_N, settings),
        "matched": matched,
        "rivals": against,
        "tests": told,
        "verdict": give_verdict(told, settings.strata, against, matched),
        "left_out": left_out,
    }
    draws = [pd.DataFrame({"test": name, "statistic": test.null_R}) for name, test in tests.items()]
    return AlignmentEvaluation(metrics, pd.concat(draws, ignore_index=True))


def require_examinable(people: pd.DataFrame, settings: EvaluationSettings) -> None:
    """Refuse, before any training, people whom `evaluate_alignment` could not put into strata or encode; errors as there."""
    _require_room(len(people))
    _strata_of(people, settings)
    encode_covariates(people, settings)


def _require_room(people: int) -> None:
    require_memory(
        BYTES_A_PAIR * people**2,
        f"Evaluation of {people} people by all their pairs",
        "evaluate a random part of the people, families whole, or take EmbeddingIndex.metrics, which holds few scores at once",
    )


def _strata_of(people: pd.DataFrame, settings: EvaluationSettings) -> tuple[Strata | None, dict[str, Strata]]:
    """The strata of all columns together, and "within <column>" → the strata of each column alone."""
    if not settings.strata:
        return None, {}
    named = people.copy(deep=False)
    for name in set(settings.categories) & set(people):
        named[name] = people[name].map(str, na_action="ignore")
    arguments = (settings.strata, settings.bands, settings.min_stratum)
    alone = column_strata(named, *arguments)
    return make_strata(named, *arguments), {f"within {name}": each for name, each in alone.items()}


def encode_covariates(people: pd.DataFrame, settings: EvaluationSettings) -> np.ndarray | None:
    """(N, K) centred regressors of the settings' covariates, coded by these people; None where none are named."""
    if not settings.covariates:
        return None
    return fit_covariates(people, settings.covariates, categories=settings.categories).encode(people)


def _flexible(covariates_NK: np.ndarray) -> np.ndarray:
    """(N, K + splines): columns of many values as cubic splines too, so that a curved relation is seen."""
    many_K = [len(np.unique(column)) > MANY_VALUES for column in covariates_NK.T]
    if not any(many_K):
        return covariates_NK
    splines = SplineTransformer(KNOTS, knots="quantile", include_bias=False).fit_transform(covariates_NK[:, many_K])
    return np.concatenate([covariates_NK, splines], axis=1)


def _pools_of(covariates_NK: np.ndarray, groups_N: list, settings: EvaluationSettings) -> np.ndarray | None:
    """Pools of the wanted size, or of as many people as there are without relatives; None where that tells nobody apart."""
    size = min(settings.pool_size, len(groups_N) - max(Counter(groups_N).values()) + 1)
    if size < 2 or not np.ptp(covariates_NK, axis=0).any():
        return None
    return matched_pools(covariates_NK, size, groups_N, settings.seed)


def _left_out(alone: Mapping[str, Strata], covariates_NK, pools_NM, groups_N: list, settings: EvaluationSettings) -> list[str]:
    """A sentence for each thing that was asked for and cannot be made of these people."""
    sentences = [
        f"No test within {name} alone: no {settings.min_stratum} people are alike in it."
        for name in settings.strata
        if f"within {name}" not in alone
    ]
    if covariates_NK is None:
        return sentences
    named, families = ", ".join(settings.covariates), len(set(groups_N))
    if not np.ptp(covariates_NK, axis=0).any():
        return [*sentences, f"No model of {COVARIATES_ONLY} and no matched pools: all people are alike in {named}."]
    if families < 3:
        sentences.append(f"No model of {COVARIATES_ONLY}: it learns from 3 families or more, got {families}.")
    if pools_NM is None:
        sentences.append(f"No pools matched by {named}: the largest family leaves no stranger to be matched with.")
    return sentences


def _told_apart(groups_N: list, shared_N: Sequence[float] | None) -> list[int]:
    """Rows of people with relatives who are no identical twins of theirs; nobody's where all relatives are."""
    rows = [row for row in range(len(groups_N)) if shared_N is None or shared_N[row] < SHARED_BY_TWINS]
    counts = Counter(groups_N[row] for row in rows)
    return [row for row in rows if counts[groups_N[row]] > 1]


def _tests(
    z_fmri,
    z_dna,
    ranked: RankedPairs,
    strata: Strata | None,
    alone: dict[str, Strata],
    groups_N: list,
    told_apart: list[int],
    drawn: dict,
) -> tuple[dict[str, PairingTest], dict[str, float | None], StratifiedRanks | None]:
    """Every test by name, the share of the effect that strata leave, and the ranks within the strata of all columns."""
    n = len(z_fmri)
    log_NN = (np.log(ranked.fmri_to_dna_NN) + np.log(ranked.dna_to_fmri_NN).T) / 2
    tests = {"overall": pairing_test(log_NN, groups=groups_N, **drawn)}
    shares: dict[str, float | None] = {}
    stratified = None if strata is None else rank_within(z_fmri, z_dna, strata.labels_N)
    for name, each in ({} if strata is None else {"within strata": strata} | alone).items():
        same = each.columns == strata.columns and "within strata" in tests
        within = stratified if same or each is strata else rank_within(z_fmri, z_dna, each.labels_N)
        tests[name] = tests["within strata"] if same else pair_within(within, groups_N, **drawn)
        overall = [getattr(ranked.own, direction)[within.rows_S] for direction in DIRECTIONS]
        shares[name] = surviving_share(tests[name].statistic, overall, within.sizes_S, n, drawn["seed"])
    if len(set(groups_N)) < n:
        rows = told_apart or list(range(n))
        families = [groups_N[row] for row in rows]
        blocks = None if told_apart else families  # nobody may take another's place
        tests["within families"] = pairing_test(log_NN[np.ix_(rows, rows)], strata=families, groups=blocks, **drawn)
    return tests, shares, stratified


def _told(test: PairingTest) -> dict[str, float | int | None]:
    """JSON-ready, without the draws."""
    return {name: value for name, value in test._asdict().items() if name != "null_R"}


def _family_power(
    tests: Mapping[str, PairingTest], groups_N: list, told_apart: list[int], shared_N: Sequence[float] | None
) -> dict[str, float | None]:
    """What the test within families would show of an effect that is everybody's own, the SD of its null, and what they share.

    A re-pairing gives a member of a family of m the place of another with probability 1 - 1 / m, and where relatives share
    nothing that matters, a relative ranks as a stranger does overall.
    """
    if not told_apart:
        return {"expected_nats": 0.0, "null_sd": 0.0, "shared": 1.0}
    tested = [groups_N[row] for row in told_apart]
    moved_T = 1 - 1 / np.array([*map(Counter(tested).get, tested)])
    shared = None if shared_N is None else float(np.average(np.asarray(shared_N)[told_apart], weights=moved_T))
    expected = tests["overall"].effect_nats * float(moved_T.mean())
    return {"expected_nats": expected, "null_sd": float(tests["within families"].null_R.std()), "shared": shared}


def _stratified_figures(strata: Strata, within: StratifiedRanks, groups_N: list, settings: EvaluationSettings) -> dict[str, Any]:
    groups_S = [groups_N[row] for row in within.rows_S]
    weights_RS = family_weights(groups_S, settings.resamples, settings.seed)
    figures = {
        "columns": list(strata.columns),
        "min_people": settings.min_stratum,
        "notes": list(strata.notes),
        "people": dict(strata.people),
        "left_out": len(groups_N) - len(groups_S),
    }
    for direction, log_SS in (("fmri_to_dna", within.log_fmri_to_dna_SS), ("dna_to_fmri", within.log_dna_to_fmri_SS)):
        test = pairing_test(
            log_SS, groups=groups_S, strata=within.labels_S, permutations=settings.permutations, seed=settings.seed
        )
        tested = {name: getattr(test, name) for name in ("p_value", "min_p_value", "permutations", "exact")}
        figures[direction] = rank_figures(*within.ranks[direction], within.sizes_S, settings.ks, weights_RS) | tested
    return figures


def _matched(
    z: dict, rival: RivalVectors | None, pools_NM: np.ndarray, settings: EvaluationSettings, weights_RN: np.ndarray
) -> dict[str, Any]:
    """Figures on pools of the model and of the rival that sees covariates only.

    The people of a pool are alike, not equal: only the own covariates are exactly the query's, so that a model that knows nothing
    else is above chance as well. What it reaches on the same pools is the level to beat.
    """
    size = pools_NM.shape[1]
    told: dict[str, Any] = {"covariates": list(settings.covariates), "pool_size": size, "rivals": {}}
    ranks = {direction: rank_in_pools(*pair, pools_NM) for direction, pair in z.items()}
    told |= {direction: rank_figures(*each, size, settings.ks, weights_RN) for direction, each in ranks.items()}
    if rival is not None:
        theirs = {direction: rank_in_pools(*rival[direction], pools_NM) for direction in DIRECTIONS}
        told["rivals"][COVARIATES_ONLY] = _against(theirs, ranks, size, settings.ks, weights_RN)
    return told


def _ranks_of(rival: RivalVectors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Direction → ranks and ties of the true partners among all."""
    ranked = {direction: rank_both_ways(*rival[direction]) for direction in DIRECTIONS}
    return {direction: (each.fmri_to_dna, each.ties_fmri_to_dna) for direction, each in ranked.items()}


def _against(theirs: dict, ours: dict, candidates: int, ks: Sequence[int], weights_RN: np.ndarray) -> dict[str, Any]:
    """A rival's own figures in each direction, and the model's lead over it."""
    return {
        direction: rank_figures(*theirs[direction], candidates, ks, weights_RN)
        | {"lead": leads(ours[direction], theirs[direction], candidates, ks, weights_RN)}
        for direction in DIRECTIONS
    }


def _check(z_fmri, z_dna, people: pd.DataFrame, settings: EvaluationSettings, rivals: Mapping[str, RivalVectors]) -> None:
    n = len(z_fmri)
    lengths = {"genomes": len(z_dna), "rows of the people's table": len(people)}
    if settings.groups_N is not None:
        lengths["families"] = len(settings.groups_N)
    if settings.shared_N is not None:
        lengths["shares of families"] = len(settings.shared_N)
    faults = [f"{length} {what}" for what, length in lengths.items() if length != n]
    for name, rival in rivals.items():
        if set(rival) != set(DIRECTIONS):
            faults.append(f"the rival {name!r} with directions {', '.join(map(str, rival)) or 'none'}")
            continue
        rows = {len(vectors) for pair in rival.values() for vectors in pair}
        faults += [f"{min(rows - {n})} rows of the rival {name!r}"] if rows != {n} else []
    shared_N = np.asarray(settings.shared_N if settings.shared_N is not None else [], dtype=float)
    outside = int((~((shared_N >= 0) & (shared_N <= 1))).sum())
    faults += [f"{outside} shares of families that are not from 0 to 1"] if outside else []
    if faults:
        raise ValueError(
            f"Evaluation: the same people as the {n} scans were expected everywhere, and rivals in both directions "
            f"{' and '.join(DIRECTIONS)}; got {'; '.join(faults)}.\n"
            "  fix: bring embeddings, table, families and rivals into one order, one row a person."
        )

"""Retrieval within strata: embeddings and labels flow in; log ranks in the own stratum, a test, figures and a share flow out.

N people in all, S people who stand in a stratum.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from brainmt_align.evaluation.permutation import PairingTest, pairing_test
from brainmt_align.evaluation.ranks import rank_pairs

# Places in random strata that are drawn for the expected effect: its error is then below 0.003 nats.
RANDOM_STRATA = 200_000


class StratifiedRanks(NamedTuple):
    """Ranks among the people of the own stratum alone, of the S people who have one."""

    rows_S: np.ndarray  # row number of each person among all N
    labels_S: list[str]
    sizes_S: np.ndarray  # people in the own stratum
    log_fmri_to_dna_SS: np.ndarray  # log rank of candidate j for query i; 0 outside the stratum
    log_dna_to_fmri_SS: np.ndarray
    ranks: dict[str, tuple[np.ndarray, np.ndarray]]  # direction → (S,) ranks of the true partners and (S,) their ties


def rank_within(z_fmri, z_dna, labels_N: Sequence[str | None]) -> StratifiedRanks:
    """Rank both ways stratum by stratum.

    Args:
        z_fmri: (N, E) embeddings.
        z_dna: (N, E) embeddings.
        labels_N: stratum of each person; None leaves a person out, as query and as candidate.

    Raises:
        ValueError: embeddings that do not pair or are not finite.
    """
    rows_S = np.array([row for row, label in enumerate(labels_N) if label is not None], np.int64)
    labels_S = [labels_N[row] for row in rows_S]
    s = len(rows_S)
    sizes_S = np.empty(s, np.int64)
    logs = {"fmri_to_dna": np.zeros((s, s), np.float32), "dna_to_fmri": np.zeros((s, s), np.float32)}
    own = {direction: (np.empty(s), np.empty(s, np.int64)) for direction in logs}
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels_S):
        places.setdefault(label, []).append(place)
    for here in map(np.array, places.values()):
        ranked = rank_pairs(z_fmri[rows_S[here]], z_dna[rows_S[here]])
        sizes_S[here] = len(here)
        for direction in logs:
            logs[direction][np.ix_(here, here)] = np.log(getattr(ranked, f"{direction}_NN"))
            own[direction][0][here] = getattr(ranked.own, direction)
            own[direction][1][here] = getattr(ranked.own, f"ties_{direction}")
    return StratifiedRanks(rows_S, labels_S, sizes_S, logs["fmri_to_dna"], logs["dna_to_fmri"], own)


def pair_within(within: StratifiedRanks, groups_N: Sequence[Hashable], permutations: int, seed: int) -> PairingTest:
    """Test both directions at once; families move as blocks within strata, as in `permutation_p_value`.

    Args:
        within: of `rank_within`.
        groups_N: (N,) families of all people.
        permutations: how many re-pairings.
        seed: of the drawing.
    """
    log_SS = (within.log_fmri_to_dna_SS + within.log_dna_to_fmri_SS.T) / 2
    groups_S = [groups_N[row] for row in within.rows_S]
    return pairing_test(log_SS, groups=groups_S, strata=within.labels_S, permutations=permutations, seed=seed)


def surviving_share(
    statistic: float, overall_ranks: Sequence[np.ndarray], sizes_S, num_people: int, seed: int = 0
) -> float | None:
    """The effect within strata over the effect that strata of these sizes would leave, were people dealt to them at random.

    Smaller pools leave less to gain, so the effects overall and within strata cannot be compared as they are. Of the r - 1 people
    who beat a true partner overall, those who fall into a random stratum of m people are hypergeometric. Both effects are against
    ranks that know nothing, all of 1 … m alike; against re-pairings, a family that few others can stand in for would lower one.

    Args:
        statistic: mean log rank of the true pairs within strata, both directions averaged.
        overall_ranks: a direction each: (S,) ranks among all people.
        sizes_S: (S,) people in the own stratum.
        num_people: N, candidates of the overall ranks.
        seed: of the random strata.

    Returns:
        about 1 where strata have nothing to do with the ranks, about 0 where they explain them; None where no effect is expected.
    """
    sizes_S = np.asarray(sizes_S)
    sizes, counts = np.unique(sizes_S, return_counts=True)
    blind = float(np.average([np.log(np.arange(1, size + 1)).mean() for size in sizes], weights=counts))
    generator = np.random.default_rng(seed)
    draws = max(1, RANDOM_STRATA // len(sizes_S))
    dealt = []
    for ranks_S in overall_ranks:
        beaten_by_S = np.rint(ranks_S).astype(np.int64) - 1
        others_S = num_people - 1 - beaten_by_S
        dealt.append(np.log1p(generator.hypergeometric(beaten_by_S, others_S, sizes_S - 1, (draws, len(sizes_S)))).mean())
    expected = blind - float(np.mean(dealt))
    return (blind - statistic) / expected if expected > 0 else None

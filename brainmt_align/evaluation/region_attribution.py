"""Region attribution: a trained DNA tower, people's region features and scans' embeddings flow in; what each region adds to
finding partners, with its tests and controls, flows out.

N people, R regions, H haplotypes, D features a region, E shared width, F families, K rows of changes.
"""

import warnings
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import false_discovery_control
from torch import Tensor
from tqdm import tqdm

from brainmt_align.evaluation.embedding import evaluating
from brainmt_align.evaluation.families import number_families, require_families
from brainmt_align.evaluation.metrics import recall_at_k
from brainmt_align.evaluation.ranks import RanksBothWays, rank_both_ways
from brainmt_align.model.alignment import AlignmentModel, DNATower

RECALL_AT = 5
MIN_OTHER_REGIONS = 19  # fewer could not make a p of 0.05
CHUNK_NUMBERS = 2**24  # features of some people that are float32 at once: 64 MiB
BATCH_NUMBERS = 2**21  # signs that are float64 at once: 16 MiB
COLUMNS = ("change", f"change_recall@{RECALL_AT}", "p", "q", "shuffled_change", "shuffled_p", "percentile", "random_region_p")


class AttributionSettings(NamedTuple):
    """Whose changes are flipped together, and how often chance is drawn."""

    groups_N: Sequence[Hashable]  # (N,) family of each person
    draws: int = 10  # of the shuffled control
    permutations: int = 10_000  # sign flips; all are listed, and p is exact, where there are no more than this
    seed: int = 0  # of the draws and the flips


def attribute_regions(
    model: AlignmentModel,
    name: str,
    features_NRHD: np.ndarray,
    z_fmri_NE,
    regions: Sequence[str],
    settings: AttributionSettings,
    progress: bool = False,
) -> pd.DataFrame:
    """How much worse partners are found when one region is left out of everybody's genome.

    Left out means: the region's standardised features are 0, the mean of the training people. A region is thus asked what it
    adds to the trained model beside the other regions; of two regions that say the same, each may look idle.

    The change of a person is that of the log rank of the true partner, averaged over scan → genome and genome → scan. Its
    test is one-sided, that the region helps, and flips the signs of whole families. Queries share their candidates, which ties
    their changes a little; over null cohorts the test keeps its level.

    Controls. Shuffled haplotypes: the region's features come from somebody of another family, drawn anew `settings.draws`
    times, so that the genome stays one that people have and only its tie to the scan is cut. Random regions: where the region's
    change stands among those of all other regions; not told with fewer than 19 others, which could not make a p of 0.05.

    Args:
        model: trained; left in the mode it came in.
        name: of the DNA encoder.
        features_NRHD: as the tower reads them, perhaps a memory map; some people or one region are read at a time.
        z_fmri_NE: the scans' embeddings, unit rows in the same order.
        regions: R names.
        settings: families, draws and flips.
        progress: show a bar.

    Returns:
        One row a region in the order of `regions`: region, kept (False: does not vary among the training people, all else NaN,
        and a warning names it), change (nats, positive: the region helps), change_recall@5 (NaN for 5 people or fewer), p, q
        (Benjamini-Hochberg over the kept regions), shuffled_change (nats), shuffled_p, percentile (0 … 1, ties count half)
        and random_region_p (NaN with fewer than 19 other regions).

    Raises:
        ValueError: no such encoder, arrays, names or families that do not pair, features that are not finite, fewer than two
            families, no draws or no permutations.

    Reference:
        Winkler et al. 2014 (sign flips); Winkler et al. 2015 (whole blocks); Benjamini and Hochberg 1995; Phipson and Smyth 2010.
    """
    groups_N, draws, permutations, seed = settings
    family_N = _check(model, name, features_NRHD, z_fmri_NE, regions, groups_N, draws)
    tower, kept = model.dna[name], model.dna[name].kept.cpu().numpy()
    if note := tower.describe_dropped(list(regions)):
        warnings.warn(f"Region attribution: {note}.", UserWarning, stacklevel=2)
    donors = _draw_donors(family_N, draws, np.random.default_rng([seed, 1]))
    rows = np.flatnonzero(kept)
    changes, shuffled, recall = np.empty((len(rows), len(family_N))), np.zeros((len(rows), len(family_N))), np.empty(len(rows))
    with evaluating(model), torch.no_grad():
        hidden_NJ = _hidden(tower, features_NRHD)
        whole = rank_both_ways(z_fmri_NE, _project(tower, hidden_NJ))
        before_N, recall_before = _log_rank(whole), _recall(whole)
        for place, region in enumerate(tqdm(rows, desc="Regions left out", unit="region", disable=not progress)):
            share_NJ = _share(tower, features_NRHD, int(region), place)
            without_NJ = hidden_NJ - share_NJ
            ranks = rank_both_ways(z_fmri_NE, _project(tower, without_NJ))
            changes[place], recall[place] = _log_rank(ranks) - before_N, recall_before - _recall(ranks)
            for donor_N in donors:
                swapped = rank_both_ways(z_fmri_NE, _project(tower, without_NJ + share_NJ[donor_N]))
                shuffled[place] += (_log_rank(swapped) - before_N) / draws
    p, shuffled_p = np.split(sign_flip_p_values(np.concatenate([changes, shuffled]), groups_N, permutations, seed), 2)
    change = changes.mean(1)
    figures = (change, recall, p, false_discovery_control(p), shuffled.mean(1), shuffled_p, *_among_others(change))
    table = pd.DataFrame({"region": list(regions), "kept": kept} | dict.fromkeys(COLUMNS, np.nan))
    table.loc[kept, list(COLUMNS)] = np.column_stack(figures)
    return table


def sign_flip_p_values(
    changes_KN: np.ndarray, groups_N: Sequence[Hashable], permutations: int = 10_000, seed: int = 0
) -> np.ndarray:
    """One-sided p of each row's mean exceeding 0, against flips of the signs of whole families; the same flips for all rows.

    Args:
        changes_KN: change of each person.
        groups_N: family of each person.
        permutations: flips that are drawn; where all 2^F are no more than this, they are listed and p is exact.
        seed: of the flips.

    Returns:
        (K,) p, at least 1 / (1 + permutations), or 1 / 2^F where all were listed.

    Raises:
        ValueError: changes that are not finite, families that do not pair with them, or fewer than 1 permutation.

    Reference:
        Winkler et al. 2014, section on sign flipping; Phipson and Smyth 2010.
    """
    changes_KN = np.asarray(changes_KN, np.float64)
    if changes_KN.ndim != 2 or changes_KN.shape[1] != len(groups_N) or not np.isfinite(changes_KN).all() or permutations < 1:
        raise ValueError(
            f"Sign flips: expected finite changes (rows, people), a family for each of the people and 1 permutation or more, got "
            f"shape {changes_KN.shape}, {len(groups_N)} families and {permutations} permutations.\n"
            "  fix: pass one change and one family a person, in one order."
        )
    family_N = number_families(groups_N)
    count = int(family_N.max()) + 1
    sums_FK = np.zeros((count, len(changes_KN)))
    np.add.at(sums_FK, family_N, changes_KN.T)
    observed_K = sums_FK.sum(0)
    # A sum in another order differs in its last bits; without slack equal sums would count as smaller.
    threshold_K = observed_K - 1e-12 * np.abs(sums_FK).sum(0)
    exact = count < 63 and 2**count <= permutations
    flips = _list_signs(count) if exact else _draw_signs(count, permutations, np.random.default_rng([seed, 2]))
    as_large_K = sum(((signs @ sums_FK) >= threshold_K).sum(0) for signs in flips)
    return as_large_K / 2**count if exact else (1 + as_large_K) / (1 + permutations)


def _draw_signs(count: int, permutations: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    batch = max(1, BATCH_NUMBERS // count)
    for start in range(0, permutations, batch):
        yield 1.0 - 2.0 * rng.integers(2, size=(min(batch, permutations - start), count), dtype=np.int8)


def _list_signs(count: int) -> Iterator[np.ndarray]:
    yield 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)


def _draw_donors(family_N: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, N) rows: for each person somebody of another family, all of these equally likely."""
    order = np.argsort(family_N, kind="stable")
    first = np.searchsorted(family_N[order], family_N)
    size = np.bincount(family_N)[family_N]
    among = rng.integers(len(family_N) - size, size=(draws, len(family_N)))
    return order[among + np.where(among >= first, size, 0)]


def _hidden(tower: DNATower, features_NRHD: np.ndarray) -> Tensor:
    """(N, J): what the projector's first layer makes of all regions, some people at a time."""
    step = max(1, CHUNK_NUMBERS // int(np.prod(features_NRHD.shape[1:])))
    first = tower.projector.layers[0]
    chunks = (_tensor(features_NRHD[at : at + step], tower) for at in range(0, len(features_NRHD), step))
    return torch.cat([first(tower.features(chunk)) for chunk in chunks])


def _share(tower: DNATower, features_NRHD: np.ndarray, region: int, place: int) -> Tensor:
    """(N, J): the part of `_hidden` that comes from one region, the `place`-th of those kept; the first layer is linear."""
    features_NHD = _tensor(features_NRHD[:, region], tower)
    standardised_ND = (features_NHD.mean(1) - tower.mean[region]) / tower.sd[region]
    weight_JI, width = tower.projector.layers[0].weight, standardised_ND.shape[1]
    if tower.pooling == "mean":
        return standardised_ND @ weight_JI.T / int(tower.kept.sum())
    return standardised_ND @ weight_JI[:, place * width : (place + 1) * width].T


def _project(tower: DNATower, hidden_NJ: Tensor) -> Tensor:
    """(N, J) → (N, E) of unit norm: the projector's layers after the first."""
    return F.normalize(tower.projector.layers[1:](hidden_NJ), dim=-1)


def _tensor(features: np.ndarray, tower: DNATower) -> Tensor:
    return torch.from_numpy(np.array(features, np.float32)).to(tower.mean.device)


def _log_rank(ranks: RanksBothWays) -> np.ndarray:
    """(N,) nats, the mean of both directions."""
    return (np.log(ranks.fmri_to_dna) + np.log(ranks.dna_to_fmri)) / 2


def _recall(ranks: RanksBothWays) -> float:
    if len(ranks.fmri_to_dna) <= RECALL_AT:
        return np.nan
    both = (ranks.fmri_to_dna, ranks.ties_fmri_to_dna), (ranks.dna_to_fmri, ranks.ties_dna_to_fmri)
    return float(np.mean([recall_at_k(rank_N, RECALL_AT, ties_N) for rank_N, ties_N in both]))


def _among_others(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each region: its percentile among all other regions' changes, and the share as large, itself included."""
    others = len(change) - 1
    if others < MIN_OTHER_REGIONS:
        return np.full(len(change), np.nan), np.full(len(change), np.nan)
    ordered = np.sort(change)
    smaller, up_to = (np.searchsorted(ordered, change, side) for side in ("left", "right"))
    return (smaller + up_to - 1) / 2 / others, (len(change) - smaller) / len(change)


def _check(model, name, features_NRHD, z_fmri_NE, regions, groups_N, draws) -> np.ndarray:
    """(N,) number of each person's family, after everything was found to pair."""
    if name not in model.dna:
        raise ValueError(
            f"Region attribution: one of the model's DNA encoders {', '.join(model.dna)} was expected, got {name!r}.\n"
            "  fix: name the encoder that the model was trained with."
        )
    people, (count, width) = len(z_fmri_NE), model.dna[name].mean.shape
    expected, got = (people, count, 2, width), tuple(features_NRHD.shape)
    if got != expected or (len(regions), len(groups_N)) != (count, people):
        raise ValueError(
            f"Region attribution: features (people, regions, haplotypes, width) = {expected}, {count} region names and "
            f"{people} families were expected, got {got}, {len(regions)} names and {len(groups_N)} families.\n"
            "  fix: pass the same people in one order, and the regions that the model was trained on."
        )
    finite_R = np.array([np.isfinite(features_NRHD[:, region]).all() for region in range(count)])
    if not finite_R.all():
        raise ValueError(
            f"Region attribution: finite features were expected, got others in region {regions[int(np.argmin(finite_R))]}.\n"
            "  fix: embed this region again."
        )
    require_families("Region attribution", groups_N, people)
    if len(set(groups_N)) < 2 or draws < 1:
        raise ValueError(
            f"Region attribution: 2 families or more and 1 draw or more were expected, got {len(set(groups_N))} families and "
            f"{draws} draws.\n  fix: bring people of several families, and ask for 10 draws."
        )
    return number_families(groups_N)

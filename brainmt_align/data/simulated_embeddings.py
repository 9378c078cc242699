"""Simulated embeddings: a kind of cohort flows in; embeddings of both sides, their people and the best possible scores flow out.

Seconds rather than minutes a cohort, to calibrate tests and verdicts on many of them.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

# Kind → column of the label whose part both sides share; only here do they share one.
LABELS = {
    "ancestry": "ancestry",
    "site": "site",
    "age": "age",
    "family": "family_id",
    "planted": "ancestry",
    "siblings": "ancestry",
    "twins": "ancestry",
}
KINDS = ("null", *LABELS)
RELATIVES = {"planted": 0.0, "siblings": 0.5, "twins": 1.0}  # how much of a person's own part the members of a family share
ANCESTRIES, SITES = ("A", "B", "C"), ("site1", "site2")
YOUNGEST, OLDEST = 45, 80  # years
GENOTYPING_ERROR = 1e-3  # SD of what sets the genomes of identical twins apart, in SDs of a genome
LABEL_SHARE = 0.3  # of a side's variance that ancestry, family or what shapes one side alone has


class SimulatedEmbeddings(NamedTuple):
    """A cohort of N people.

    Attributes:
        z_fmri, z_dna: (N, E) float32 of unit norm, row i person i.
        people: subject_id, sex (F, M), age (years), site, ancestry, family_id.
        oracle_scores: (N, N) float64 log-likelihood ratios, row a scan, column a genome.
    """

    z_fmri: np.ndarray
    z_dna: np.ndarray
    people: pd.DataFrame
    oracle_scores: np.ndarray


def simulate_embeddings(
    kind: str,
    people: int,
    seed: int,
    strength: float = 0.3,
    families: int = 2,
    width: int = 64,
) -> SimulatedEmbeddings:
    """Draw a cohort of which it is known what scan and genome share.

    With l(i) a label of person i and all vectors standard normal of E dimensions, before both are scaled to unit length

        fmri_i = sqrt(w) c_l(i) + sqrt(s) u_i + sqrt(1 - w - s) e_i
        dna_i  = sqrt(w) d_l(i) + sqrt(s) u_i + sqrt(1 - w - s) e'_i

    and by kind, with w = 0.3:

        null      s = 0; scans carry site, sex, age and a family part, genomes ancestry and another family part: c and d are
                  independent, and so are the labels but for the family's, whose members are alike on each side
        ancestry  s = 0, c = d, label: ancestry
        site      s = 0, c = d, label: site
        age       s = 0, c = d, one direction times the squared distance from the middle age, of mean 0 and variance 1
        family    s = 0, c = d, label: family
        planted   s = strength, c = d, label: ancestry
        siblings  planted, but the u of two members of a family correlate by 0.5
        twins     planted, but the members of a family have one u and one genome, e' included, but for
                  normal errors of SD 0.001 a dimension, of everyone's own

    Families are of equal size (the last may be smaller) and of one ancestry out of three; site (of two), sex and age (uniform
    from 45 to 80 years) are drawn for everyone alone. The oracle knows c, d, w, s and the shares p_l of the labels in the
    cohort (of age: all years alike), but nobody's label or family, and scores before the scaling

        log  sum_l p_l N(x_i, y_j | c_l, d_l, r) / (sum_l p_l N(x_i | c_l) sum_l p_l N(y_j | d_l))

    with r = s / (1 - w) the correlation of each dimension beside the label's part; 0 for everybody where nothing is shared.

    Args:
        kind: one of the above.
        people: N, at least 2.
        seed: of everything drawn.
        strength: s, 0 to 0.7; of planted, siblings and twins alone.
        families: people a family, 1 or more.
        width: E.

    Raises:
        ValueError: an unknown kind or a number out of range.
    """
    _check(kind, people, strength, families, width)
    rng = np.random.default_rng(seed)
    table = _draw_people(people, families, rng)
    own = strength if kind in RELATIVES else 0.0
    if kind == "null":
        label_x, label_y = _alone(table, width, rng)
    else:
        centres_LE, shares_L, label_x = _labels(table[LABELS[kind]], width, rng)
        label_y = label_x
    shared = _shared(table["family_id"], RELATIVES.get(kind, 0.0), width, rng)
    x, y = (
        np.sqrt(LABEL_SHARE) * label + np.sqrt(own) * shared + np.sqrt(1 - LABEL_SHARE - own) * rng.standard_normal(label.shape)
        for label in (label_x, label_y)
    )
    if kind == "twins":
        y = y[_first_of(table["family_id"])] + GENOTYPING_ERROR * rng.standard_normal(y.shape)
    if kind == "null":
        scores = np.zeros((people, people))
    else:
        scores = _log_ratios(x, y, centres_LE, shares_L, own / (1 - LABEL_SHARE))
    return SimulatedEmbeddings(_unit(x), _unit(y), table, scores)


def _draw_people(people: int, size: int, rng: np.random.Generator) -> pd.DataFrame:
    family_N = np.arange(people) // size
    ancestry_F = rng.permutation(np.arange(family_N[-1] + 1) % len(ANCESTRIES))
    return pd.DataFrame(
        {
            "subject_id": [f"sim{row:05d}" for row in range(people)],
            "sex": rng.choice(["F", "M"], people),
            "age": np.round(rng.uniform(YOUNGEST, OLDEST, people), 1),
            "site": rng.choice(SITES, people),
            "ancestry": np.array(ANCESTRIES)[ancestry_F[family_N]],
            "family_id": [f"F{family:04d}" for family in family_N],
        }
    )


def _labels(labels: pd.Series, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(L, E) what each label adds to both sides, (L,) its share of the people, (N, E) what it adds to each person."""
    if labels.name != "age":
        codes_N, _ = pd.factorize(labels)
        centres_LE = rng.standard_normal((codes_N.max() + 1, width))
        return centres_LE, np.bincount(codes_N) / len(labels), centres_LE[codes_N]
    direction_E = rng.standard_normal(width)
    years = np.arange(YOUNGEST, OLDEST) + 0.5
    return _curved(years) * direction_E, np.full(len(years), 1 / len(years)), _curved(labels.to_numpy()) * direction_E


def _curved(age_N: np.ndarray) -> np.ndarray:
    """(N, 1) the squared distance from the middle age, of mean 0 and variance 1 where ages are uniform."""
    place_N1 = ((age_N - (YOUNGEST + OLDEST) / 2) / ((OLDEST - YOUNGEST) / 2))[:, None]  # -1 to 1
    return (place_N1**2 - 1 / 3) / np.sqrt(4 / 45)


def _shared(family_N: pd.Series, relatives: float, width: int, rng: np.random.Generator) -> np.ndarray:
    """(N, E) what scan and genome of a person share, standard normal, with this correlation between members of a family."""
    own_NE = rng.standard_normal((len(family_N), width))
    if not relatives:
        return own_NE
    return np.sqrt(relatives) * rng.standard_normal(own_NE.shape)[_first_of(family_N)] + np.sqrt(1 - relatives) * own_NE


def _first_of(family_N: pd.Series) -> np.ndarray:
    """(N,) row of the first member of each person's family."""
    codes_N, _ = pd.factorize(family_N)
    return np.unique(codes_N, return_index=True)[1][codes_N]


def _alone(people: pd.DataFrame, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(N, E) each: what shapes scans alone and genomes alone, of variance 1."""

    def of(column: str) -> np.ndarray:
        codes_N, labels = pd.factorize(people[column])
        return rng.standard_normal((len(labels), width))[codes_N]

    age_N1 = ((people["age"].to_numpy() - 62.5) / (35 / np.sqrt(12)))[:, None]
    scans = [of("site"), of("sex"), age_N1 * rng.standard_normal(width), of("family_id")]
    genomes = [of("ancestry"), of("family_id")]
    return sum(scans) / np.sqrt(len(scans)), sum(genomes) / np.sqrt(len(genomes))


def _log_ratios(x_NE, y_NE, centres_LE: np.ndarray, shares_L: np.ndarray, correlation: float) -> np.ndarray:
    """(N, N) log-likelihood ratios of belonging together, the labels summed over."""
    variance, width = 1 - LABEL_SHARE, x_NE.shape[1]
    alone_x, alone_y = np.full(len(x_NE), -np.inf), np.full(len(y_NE), -np.inf)
    both = np.full((len(x_NE), len(y_NE)), -np.inf)
    rest = 1 - correlation**2
    for centre_E, share in zip(np.sqrt(LABEL_SHARE) * centres_LE, shares_L, strict=True):
        x, y = (x_NE - centre_E) / np.sqrt(variance), (y_NE - centre_E) / np.sqrt(variance)
        squares_x, squares_y = (x**2).sum(1), (y**2).sum(1)
        alone_x = np.logaddexp(alone_x, np.log(share) - squares_x / 2)
        alone_y = np.logaddexp(alone_y, np.log(share) - squares_y / 2)
        exponent = (correlation * x @ y.T - (squares_x[:, None] + squares_y) / 2) / rest
        both = np.logaddexp(both, np.log(share) + exponent - width / 2 * np.log(rest))
    return both - alone_x[:, None] - alone_y


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _check(kind: str, people: int, strength: float, families: int, width: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"Simulated embeddings: expected a kind of {', '.join(KINDS)}, got {kind!r}.\n  fix: name one of them.")
    if people < 2 or families < 1 or width < 1 or not 0 <= strength <= 1 - LABEL_SHARE:
        raise ValueError(
            "Simulated embeddings: expected 2 people or more, families and width of 1 or more and a strength of 0 to "
            f"{1 - LABEL_SHARE:g}, got {people}, {families}, {width} and {strength}.\n  fix: correct the one out of range."
        )

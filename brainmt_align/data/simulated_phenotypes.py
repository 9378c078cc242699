"""Simulated phenotypes: parameters, genomes and latent traits flow in; liabilities, values and what was planted flow out.

The liability of a person, in SDs of the founders' population, and what is made of it:

    L         = sqrt(brain_share) x + sqrt(genetic_share) d + sqrt(confound_share) c + sqrt(rest) e
    cognition = 100 + 15 L, to one decimal                                          (regression)
    diagnosis = case where L > Phi^-1(1 - prevalence), else control                 (binary)
    severity  = mild where L > Phi^-1(1 - prevalence), severe where L > Phi^-1(1 - prevalence / 3), else none    (ordinal)

x is a sum of latent traits that the scans show, d a genetic value that they do not show, c age and sex, e standard normal. Each
phenotype has its own traits (as far as there are enough), its own d and its own e. x and d are of mean 0 and variance 1 under
random mating of the founders, c over the distributions that age and sex are drawn from; all four are uncorrelated, so that L has
variance 1. Reference: Falconer 1965, Annals of Human Genetics 29:51 (liability and its threshold).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from brainmt_align.data.planted_phenotypes import planted_figures, planted_predictions, planted_targets, planted_truth
from brainmt_align.data.simulated_bold import Person
from brainmt_align.data.simulated_genomes import (
    CausalVariant,
    FounderRegion,
    Genomes,
    Trait,
    draw_traits,
    genetic_values,
    population_moments,
)
from brainmt_align.data.simulated_parameters import PHENOTYPES, CohortParameters, generator

__all__ = [
    "Phenotype",
    "brain_traits",
    "describe",
    "draw_phenotype",
    "plan_phenotypes",
    "planted_predictions",
    "planted_targets",
    "planted_truth",
    "shares",
    "thresholds",
]

MEAN, POINTS = 100.0, 15.0  # of cognition: as intelligence quotients are scaled
SEVERE = 1 / 3  # of the people with any severity
MOST_SHOWN = 0.95  # of the variance of a phenotype's own variants that the traits may explain
AGE_MEAN, AGE_SD = 62.5, 35 / np.sqrt(12)  # uniform from 45 to 80 years
TASKS = {"cognition": "regression", "diagnosis": "binary", "severity": "ordinal"}
CLASSES = {"cognition": (), "diagnosis": ("control", "case"), "severity": ("none", "mild", "severe")}
COLUMNS = {
    "cognition": {"Description": "simulated test score of mean 100 and SD 15", "Units": "points"},
    "diagnosis": {"Description": "simulated diagnosis", "Levels": {"control": "no diagnosis", "case": "has the diagnosis"}},
    "severity": {
        "Description": "simulated severity of another condition, in rising order none, mild, severe",
        "Levels": {"none": "does not have it", "mild": "mild", "severe": "severe"},
    },
}
MODEL = (
    "liability = sqrt(shares.brain) * brain + sqrt(shares.genetic) * direct + sqrt(shares.confound) * confound + "
    "sqrt(shares.chance) * chance. brain = sum of the latent brain_traits / brain_sd, and brain_genetic is the genetic part of "
    "it; direct = sum(effect * number of ALT alleles) - mean, which no latent trait shows: its variants are its own, and those "
    "of the traits with what makes it uncorrelated with them; confound = standardised age (years, mean 62.5, SD 10.10) and "
    "sex (M 1, F -1), summed and standardised. A regression is mean + points_per_sd * liability; classes change where the "
    "liability passes the thresholds. heritability: share of the liability's variance (for a regression, of the phenotype's, "
    "but for its rounding) that the additive effects of the simulated variants explain in the founders' population. planted: "
    "what the best prediction reaches that knows the latent traits (fmri), the genotypes (dna) or both without error, and "
    "neither age nor sex; liability_r2 is the share of the liability's variance that it explains, r2_residualised that of a "
    "regression freed of age and sex; the classes' figures take all components for Gaussian. blank: n/a in participants.tsv."
)


class Phenotype(NamedTuple):
    """What a phenotype depends on, the same for everybody.

    Attributes:
        name: one of PHENOTYPES.
        traits: numbers of the latent traits that make up its brain part, from 0.
        brain_sd: SD of their sum in the population.
        brain_heritability: share of that sum's variance that is genetic; the coupling, but for linkage of the traits' variants.
        direct: its genetic value that no latent trait shows.
    """

    name: str
    traits: tuple[int, ...]
    brain_sd: float
    brain_heritability: float
    direct: Trait


def plan_phenotypes(parameters: CohortParameters, genomes: Genomes) -> list[Phenotype]:
    """Choose the traits of each phenotype and draw its causal variants.

    Raises:
        RuntimeError: the variants left for a phenotype's own genetic value are told by those of the traits.
    """
    rng = generator(parameters.seed, "direct")
    raw = draw_traits(genomes.regions, parameters, rng, [f"{name}_direct" for name in PHENOTYPES], genomes.traits)
    shown, phenotypes = list(genomes.traits), []
    for name, own in zip(PHENOTYPES, raw, strict=True):
        direct = _unseen(own, shown, genomes.regions, parameters)
        shown.append(direct)
        traits = brain_traits(name, parameters.traits)
        variants = [variant for trait in traits for variant in genomes.traits[trait].variants]
        genetic = parameters.coupling * population_moments(variants, genomes.regions, parameters)[1] ** 2
        variance = genetic + (1 - parameters.coupling) * len(traits)
        phenotypes.append(Phenotype(name, traits, float(np.sqrt(variance)), genetic / variance, direct))
    return phenotypes


def brain_traits(name: str, count: int) -> tuple[int, ...]:
    """Numbers of a phenotype's traits: of cognition the first two, of diagnosis the last two, of severity those midway."""
    start = {"cognition": 0, "diagnosis": count - 2, "severity": (count - 2) // 2}[name]
    return tuple(range(max(start, 0), min(max(start, 0) + 2, count)))


def _unseen(own: Trait, shown: Sequence[Trait], regions: list[FounderRegion], parameters: CohortParameters) -> Trait:
    """What the `shown` genetic values do not tell of `own` by linear regression in the population, scaled to variance 1."""
    covariance_KK = np.array([[_covariance(a.variants, b.variants, regions, parameters) for b in shown] for a in shown])
    with_own_K = np.array([_covariance(trait.variants, own.variants, regions, parameters) for trait in shown])
    # Traits that are told by each other leave the equations singular; the smallest solution is as good as any.
    slopes_K = np.linalg.lstsq(covariance_KK, with_own_K, rcond=1e-9)[0]
    effects = {(variant.region, variant.site): variant.effect for variant in own.variants}
    for trait, slope in zip(shown, slopes_K.tolist(), strict=True):
        for variant in trait.variants:
            place = (variant.region, variant.site)
            effects[place] = effects.get(place, 0.0) - slope * variant.effect
    variants = [CausalVariant(region, site, effect) for (region, site), effect in effects.items()]
    mean, sd = population_moments(variants, regions, parameters)
    if sd**2 < 1 - MOST_SHOWN:
        raise RuntimeError(
            f"Simulated phenotype {own.name.removesuffix('_direct')}: expected variants of which the latent traits tell at most "
            f"{MOST_SHOWN:.0%}, got {1 - sd**2:.0%}.\n  where: {len(regions)} regions, {len(shown)} genetic values before it\n"
            "  fix: raise regions or common_variants, lower traits or causal_variants, or change the seed."
        )
    return Trait(own.name, [variant._replace(effect=variant.effect / sd) for variant in variants], mean / sd)


def _covariance(
    first: list[CausalVariant], second: list[CausalVariant], regions: list[FounderRegion], parameters: CohortParameters
) -> float:
    """Covariance of two genetic values in the population, by the variances of their sum and their difference."""
    negative = [variant._replace(effect=-variant.effect) for variant in second]
    of_sum, of_difference = (population_moments([*first, *other], regions, parameters)[1] for other in (second, negative))
    return (of_sum**2 - of_difference**2) / 4


def draw_phenotype(
    parameters: CohortParameters, phenotype: Phenotype, genomes: Genomes, people: Sequence[Person]
) -> pd.DataFrame:
    """Draw one phenotype of everybody.

    Args:
        parameters: checked parameters.
        phenotype: as planned.
        genomes: of the people, in their order.
        people: with their latent traits, ages and sexes.

    Returns:
        One row a person, the index their sample ids: the components brain, brain_genetic (sums of latent traits and of their
        genetic part, both in SDs of the former), direct, confound, chance; liability; value (points to one decimal, or a
        class); blank (bool: the table does not tell the value).
    """
    index = PHENOTYPES.index(phenotype.name)
    chosen = list(phenotype.traits)
    numbers = [person.index for person in people]
    sample_ids = parameters.sample_ids
    table = pd.DataFrame(index=[sample_ids[number] for number in numbers])
    table["brain"] = np.stack([person.latent_K for person in people])[:, chosen].sum(axis=1) / phenotype.brain_sd
    inherited_P = genomes.values_PK[:, chosen].sum(axis=1)
    table["brain_genetic"] = np.sqrt(parameters.coupling) * inherited_P / phenotype.brain_sd
    table["direct"] = genetic_values(phenotype.direct, genomes.regions, genomes.founders_PHR)
    table["confound"] = _confound(parameters, people)
    table["chance"] = [generator(parameters.seed, "phenotypes", index, number).standard_normal() for number in numbers]
    share = shares(parameters)
    table["liability"] = sum(
        np.sqrt(share[name]) * table[column]
        for name, column in {"brain": "brain", "genetic": "direct", "confound": "confound", "chance": "chance"}.items()
    )
    table["value"] = _value(parameters, phenotype.name, table["liability"].to_numpy())
    draws_P = np.array([generator(parameters.seed, "missing", index, number).random() for number in numbers])
    table["blank"] = draws_P < parameters.missing_share
    return table


def shares(parameters: CohortParameters) -> dict[str, float]:
    """Shares of the liability's variance; they sum to 1."""
    known = {
        "brain": parameters.brain_share,
        "genetic": parameters.genetic_share,
        "confound": parameters.confound_share,
    }
    return {**known, "chance": max(0.0, 1 - sum(known.values()))}


def _confound(parameters: CohortParameters, people: Sequence[Person]) -> np.ndarray:
    """(P,) standardised sum of what is simulated of age and sex; 0 where neither is."""
    parts = []
    if parameters.age:
        parts.append([(person.age - AGE_MEAN) / AGE_SD for person in people])
    if parameters.sex:
        parts.append([1.0 if person.sex == "M" else -1.0 for person in people])
    return np.sum(parts, axis=0) / np.sqrt(len(parts)) if parts else np.zeros(len(people))


def _value(parameters: CohortParameters, name: str, liability_P: np.ndarray) -> np.ndarray:
    """(P,) points or class labels."""
    if TASKS[name] == "regression":
        return np.round(MEAN + POINTS * liability_P, 1)
    return np.array(CLASSES[name], dtype=object)[np.searchsorted(thresholds(parameters, name), liability_P)]


def thresholds(parameters: CohortParameters, name: str) -> list[float]:
    """Liabilities, rising, above which the next class begins; none for a regression."""
    above = {"cognition": [], "diagnosis": [1.0], "severity": [1.0, SEVERE]}[name]
    return [float(ndtri(1 - share * parameters.prevalence)) for share in above]


def describe(parameters: CohortParameters, phenotype: Phenotype) -> dict:
    """JSON-ready: the phenotype's entry in truth.json, but for its direct variants."""
    name, share = phenotype.name, shares(parameters)
    heritability = share["brain"] * phenotype.brain_heritability + share["genetic"]
    known = {"fmri": share["brain"], "dna": heritability, "both": share["brain"] + share["genetic"]}
    entry = {
        "task": TASKS[name],
        "shares": share,
        "heritability": heritability,
        "brain_traits": [f"trait{trait + 1}" for trait in phenotype.traits],
        "brain_sd": phenotype.brain_sd,
        "brain_heritability": phenotype.brain_heritability,
        "classes": list(CLASSES[name]),
        "thresholds": thresholds(parameters, name),
        "planted": {
            inputs: planted_figures(each, share["confound"], thresholds(parameters, name)) for inputs, each in known.items()
        },
    }
    return entry if CLASSES[name] else {**entry, "unit": "points", "mean": MEAN, "points_per_sd": POINTS}

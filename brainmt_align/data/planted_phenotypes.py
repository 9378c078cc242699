"""Planted phenotypes: truth.json of a simulated cohort flows in; the best predictions and the figures they reach flow out.

The oracle knows some components of a person's liability L without error and takes the rest of it for Gaussian:

    L | known ~ N(s, 1 - share),   s = the known components' sum, of variance `share`

From fmri it knows the latent traits, from dna the genotypes, from both both. It is a ceiling in two ways: a scan shows the
latent traits with noise, and nobody knows effects exactly. In one way it is none: a model may also tell age and sex from the
static image, and then goes beyond it, up to the confounds' share, unless the phenotype is freed of them.

Few causal variants, age and sex are not quite Gaussian: with the default three variants a trait, the AUROC in 20,000 people lies
within 0.02 of the planted one where one trait makes up the brain part, and mostly within 0.01 where two do. r2 is exact.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import ndtr
from scipy.stats import norm

from brainmt_align.data.simulated_truth import read_truth, require_simulated

INPUTS = ("fmri", "dna", "both")
GRID = np.linspace(-9, 9, 18_001)  # SDs of the known part; the trapezoid rule is exact to 1e-7 for shares up to 0.9999


def planted_targets(truth: Path | str) -> list[str]:
    """Names of the phenotypes that were planted; none for a cohort without phenotypes.

    Raises:
        FileNotFoundError: no such truth.json.
    """
    return list(read_truth(truth).get("phenotypes", {}))


def planted_truth(truth: Path | str, target: str, inputs: str = "fmri") -> dict[str, float]:
    """What the best prediction of a phenotype reaches in the population, from what was planted.

    Args:
        truth: truth.json of the cohort.
        target: name of the phenotype.
        inputs: what is known: "fmri" (the latent traits), "dna" (the genotypes) or "both".

    Returns:
        Figures from 0 to 1. Regression: r2 of the phenotype as it is, r2_residualised of the phenotype freed of age and sex
        (missing where nothing is left of it). Classes: liability_r2, auroc (of more than two classes the mean one, each against
        the rest), balanced_accuracy of the most probable class. Both: heritability of the liability.

    Raises:
        FileNotFoundError: no such truth.json.
        ValueError: a phenotype that was not planted, or unknown inputs.
    """
    entry = _entry(truth, read_truth(truth), target, inputs)
    return {**entry["planted"][inputs], "heritability": entry["heritability"]}


def planted_predictions(
    truth: Path | str,
    sample_ids: Sequence[str],
    target: str,
    inputs: str = "fmri",
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """The oracle's predictions of a phenotype.

    Args:
        truth: truth.json of the cohort.
        sample_ids: N people, without `sub-`.
        target: name of the phenotype.
        inputs: what is known: "fmri" (the latent traits), "dna" (the genotypes) or "both".
        classes: labels in the order of the columns; None = as planted, control and case or from none to severe.

    Returns:
        Regression: (N,) float64 points. Classes: (N, C) float64 probabilities that sum to 1.

    Raises:
        FileNotFoundError: no such truth.json.
        ValueError: a phenotype that was not planted, people who are not of the cohort, unknown inputs, or other classes.
    """
    known = read_truth(truth)
    entry, people = _entry(truth, known, target, inputs), known["people"]
    require_simulated(truth, known, sample_ids)
    score_N = np.array([_known_part(entry["shares"], people[each]["phenotypes"][target], inputs) for each in sample_ids])
    if entry["task"] == "regression":
        return entry["mean"] + entry["points_per_sd"] * score_N
    probabilities_NC = class_probabilities(score_N, entry["planted"][inputs]["liability_r2"], entry["thresholds"])
    wanted = entry["classes"] if classes is None else list(classes)
    if sorted(wanted) != sorted(entry["classes"]):
        raise ValueError(
            f"Planted phenotypes: classes of {target} are {', '.join(entry['classes'])}, got {', '.join(wanted) or 'none'}.\n"
            f"  file: {truth}\n  fix: name these labels, each once, in the order of the columns."
        )
    return probabilities_NC[:, [entry["classes"].index(label) for label in wanted]]


def class_probabilities(score_N: np.ndarray, share: float, thresholds: Sequence[float]) -> np.ndarray:
    """Probabilities of the classes of a liability whose known part is `score`.

    Args:
        score_N: known part, in SDs of the liability.
        share: its variance, 0 to 1.
        thresholds: C - 1, rising.

    Returns:
        (N, C), rows sum to 1.
    """
    unknown = np.sqrt(max(1 - share, 1e-24))
    above = ndtr((np.asarray(score_N)[:, None] - np.asarray(thresholds)) / unknown)
    padded = np.concatenate([np.ones((len(above), 1)), above, np.zeros((len(above), 1))], axis=1)
    return -np.diff(padded, axis=1)


def planted_figures(share: float, confound_share: float, thresholds: Sequence[float]) -> dict[str, float]:
    """What a prediction reaches that knows a Gaussian part of the liability.

    Args:
        share: of the liability's variance that is known.
        confound_share: of the liability's variance that residualisation takes away.
        thresholds: between classes, rising; none for a regression.

    Returns:
        As `planted_truth`, but for the heritability.

    Reference:
        Wray et al. 2010, PLoS Genetics 6:e1000864: the AUROC under the liability threshold model; here integrated numerically.
    """
    if not thresholds:
        left = 1 - confound_share
        return {"r2": share} | ({"r2_residualised": share / left} if left > 1e-9 else {})
    weights_G = norm.pdf(GRID) / norm.pdf(GRID).sum()
    probabilities_GC = class_probabilities(np.sqrt(share) * GRID, share, thresholds)
    masses_GC = weights_G[:, None] * probabilities_GC
    # Two classes are one question asked twice.
    asked = range(1, 2) if len(thresholds) == 1 else range(len(thresholds) + 1)
    aurocs = [_weighted_auroc(probabilities_GC[:, c], masses_GC[:, c], weights_G - masses_GC[:, c]) for c in asked]
    chosen_G = probabilities_GC.argmax(axis=1)
    recalls = [masses_GC[chosen_G == c, c].sum() / masses_GC[:, c].sum() for c in range(masses_GC.shape[1])]
    return {"liability_r2": share, "auroc": float(np.mean(aurocs)), "balanced_accuracy": float(np.mean(recalls))}


def _weighted_auroc(score_G: np.ndarray, positive_G: np.ndarray, negative_G: np.ndarray) -> float:
    """P(score of a positive > score of a negative), equal scores counting half; masses need not sum to 1."""
    _, group_G = np.unique(score_G, return_inverse=True)
    positives, negatives = np.bincount(group_G, positive_G), np.bincount(group_G, negative_G)
    below = np.cumsum(negatives) - negatives / 2
    return float((positives * below).sum() / (positives.sum() * negatives.sum()))


def _known_part(shares: dict[str, float], person: dict[str, float], inputs: str) -> float:
    """A person's liability as far as the inputs tell, in SDs of the liability."""
    brain = np.sqrt(shares["brain"]) * (person["brain_genetic"] if inputs == "dna" else person["brain"])
    return brain + (0.0 if inputs == "fmri" else np.sqrt(shares["genetic"]) * person["direct"])


def _entry(truth: Path | str, known: dict, target: str, inputs: str) -> dict:
    if inputs not in INPUTS:
        raise ValueError(
            f"Planted phenotypes: inputs must be one of {', '.join(INPUTS)}, got {inputs!r}.\n  file: {truth}\n"
            "  fix: name one of them."
        )
    planted = known.get("phenotypes", {})
    if target not in planted:
        there = ", ".join(planted) or "none at all (simulation.phenotypes was off)"
        raise ValueError(
            f"Planted phenotypes: the cohort has {there}, got {target!r}.\n"
            f"  file: {truth}\n  fix: name one of them, or simulate a cohort with simulation.phenotypes=true."
        )
    return planted[target]

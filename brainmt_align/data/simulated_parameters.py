"""Simulation parameters: numbers flow in; one checked dataclass and the seeded generators of its parts flow out."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

STREAMS = (
    "reference",
    "ancestry",
    "indels",
    "traits",
    "transmission",
    "latent",
    "covariates",
    "sites",
    "static",
    "motion",
    "bold",
    "direct",
    "phenotypes",
    "missing",
)
PHENOTYPES = ("cognition", "diagnosis", "severity")
NOISE_SD = 10.0  # of one voxel's noise, in the arbitrary intensity units of the written runs


class _Range(NamedTuple):
    kind: type
    low: float
    high: float = math.inf


@dataclasses.dataclass
class CohortParameters:
    """All that a simulated cohort depends on. The defaults are small enough for two CPU cores; whatever confounds is off.

    The signal of one person, for voxel v and frame t, in units where one voxel's noise has SD `NOISE_SD`:

        BOLD(v, t) = static(v) + signal_sd * sum_k exp(amplitude * z_k) * map_k(v) * s_k(t) + noise(v, t)
        z_k        = sqrt(coupling) * g_k + sqrt(1 - coupling) * e_k

    with map_k of peak 1, s_k an AR(1) course of unit variance, g_k the genetic value of trait k in SDs and e_k standard normal.

    Attributes:
        people: number of people; the data of person i are the same whatever this number is.
        seed: the one seed of everything; 0 or more.
        regions: number of genomic regions (genes), each on a contig of its own (chr1, chr2, … up to chr22, then round again).
        region_bases: length of a region, bases.
        flank_bases: bases on both sides of a region that the FASTA and VCF also cover.
        common_variants: a region is redrawn until it holds at least this many variants of `common_maf`.
        common_maf: minor allele frequency among the founders from which a variant counts as common and may be causal.
        indel_share: share of the variants that are insertions or deletions of 1 to 6 bases.
        effective_size: diploid effective population size of the coalescent.
        mutation_rate: per base and generation.
        recombination_rate: per base and generation.
        founder_haplotypes: size of the pool that people (or, in families, parents) take their haplotypes from, without
            replacement. The pool's frequencies define what is common and standardise the genetic values.
        traits: number of latent traits, each with one spatial map.
        causal_variants: causal variants of a trait, in as many different regions as there are.
        coupling: 0 (brain and genome independent) … 1 (the latent trait is the genetic value).
        amplitude: change of a map's log SD for one SD of the latent trait.
        volume_shape: (D, H, W) = (Y, X, Z) voxels of the NIfTI array.
        voxel_mm: isotropic voxel size, millimetres.
        frames: frames of a run.
        tr_s: repetition time, seconds.
        signal_to_noise: SD of the signal at a map's peak, for z = 0, in SDs of one voxel's noise.
        signal_autocorrelation: lag-one autocorrelation of s_k.
        noise_autocorrelation: lag-one autocorrelation of the noise.
        static_to_signal: brightness of the static image in SDs of the signal: 1 or less is easy, real runs have 10 to 50.
        populations: 1 or 2; two of them split `split_generations` ago, and people alternate between them.
        split_generations: age of the split, generations; 3,000 give an F_ST of about 0.13.
        sites: number of scanners; a person's scanner is drawn at random.
        site_scale_sd: SD of a scanner's log gain, when there are several.
        age: simulate ages (45 to 80 years) that shift the static image.
        sex: simulate sexes (F, M) that shift the static image.
        confound_effect: size of the shift of the static image by population, site, age and sex, in SDs of the signal.
        motion_mm: mean framewise displacement, millimetres; 0 = the heads are still.
        motion_effect: size of the motion artefact at the brain's edge in SDs of the signal, for a displacement of `motion_mm`.
        family_size: siblings in a family; 1 = unrelated people. Parents are not part of the cohort.
        phenotypes: simulate phenotypes (`simulated_phenotypes` has the model). The shares below are those of the variance of
            each phenotype's liability; what they leave is chance.
        brain_share: from the latent traits that the scans show.
        genetic_share: from a genetic value of its own that the scans do not show.
        confound_share: from age and sex, as far as they are simulated; 0 where neither is.
        prevalence: share of cases, and of severities above `none`.
        missing_share: probability that a phenotype's value is blank in the table.
    """

    people: int = 360
    seed: int = 0
    regions: int = 6
    region_bases: int = 4096
    flank_bases: int = 1024
    common_variants: int = 4
    common_maf: float = 0.1
    indel_share: float = 0.04
    effective_size: int = 10_000
    mutation_rate: float = 1.25e-8
    recombination_rate: float = 1e-8
    founder_haplotypes: int = 2048
    traits: int = 6
    causal_variants: int = 3
    coupling: float = 1.0
    amplitude: float = 0.7
    volume_shape: tuple[int, int, int] = (24, 28, 20)
    voxel_mm: float = 8.0
    frames: int = 48
    tr_s: float = 2.0
    signal_to_noise: float = 3.0
    signal_autocorrelation: float = 0.5
    noise_autocorrelation: float = 0.3
    static_to_signal: float = 1.0
    populations: int = 1
    split_generations: int = 3000
    sites: int = 1
    site_scale_sd: float = 0.1
    age: bool = False
    sex: bool = False
    confound_effect: float = 0.5
    motion_mm: float = 0.0
    motion_effect: float = 1.0
    family_size: int = 1
    phenotypes: bool = False
    brain_share: float = 0.5
    genetic_share: float = 0.15
    confound_share: float = 0.15
    prevalence: float = 0.3
    missing_share: float = 0.0

    @property
    def signal_sd(self) -> float:
        """SD of the signal at a map's peak for z = 0, in intensity units."""
        return self.signal_to_noise * NOISE_SD

    @property
    def sample_ids(self) -> list[str]:
        """People's ids as in the VCF, without `sub-`."""
        return [f"{person + 1:04d}" for person in range(self.people)]

    @property
    def families(self) -> int:
        """Number of families; the last one may be smaller."""
        return -(-self.people // self.family_size)

    def check(self) -> None:
        """Refuse values that cannot be simulated, all of them in one list.

        Raises:
            ValueError: naming every parameter at fault, its range and its value.
        """
        faults = [fault for name, rule in _RANGES.items() if (fault := _fault(name, getattr(self, name), rule))]
        shape = self.volume_shape
        if (
            not isinstance(shape, (tuple, list))
            or len(shape) != 3
            or any(_fault("volume_shape", size, _Range(int, 8)) for size in shape)
        ):
            faults.append(f"volume_shape must be three whole numbers (D, H, W) from 8 up; got {shape!r}.")
        if not faults:
            faults = self._conflicts()
        if faults:
            lines = "".join(f"\n  {fault}" for fault in faults)
            raise ValueError(
                f"Cohort parameters: {len(faults)} of them cannot be simulated.{lines}\n  fix: change the values named above."
            )

    def _conflicts(self) -> list[str]:
        """What no single value shows: combinations that leave too few founders or variants, or more than a whole of variance."""
        faults = []
        needed = self.families * (2 if self.family_size == 1 else 4) + 4 * self.populations
        if needed > self.founder_haplotypes:
            faults.append(
                f"founder_haplotypes must be at least {needed} for people={self.people}, family_size={self.family_size} and "
                f"populations={self.populations}; got {self.founder_haplotypes}."
            )
        if self.traits * self.causal_variants > self.regions * self.common_variants:
            faults.append(
                f"traits * causal_variants must not exceed regions * common_variants = {self.regions * self.common_variants}; "
                f"got {self.traits * self.causal_variants}."
            )
        shares = self.brain_share + self.genetic_share + self.confound_share
        if shares > 1 + 1e-9:
            faults.append(f"brain_share + genetic_share + confound_share must not exceed 1; got {shares:g}.")
        return faults + (self._conflicts_of_phenotypes() if self.phenotypes else [])

    def _conflicts_of_phenotypes(self) -> list[str]:
        faults = []
        if self.confound_share > 0 and not (self.age or self.sex):
            faults.append(
                f"confound_share must be 0 where neither age nor sex is simulated; got {self.confound_share:g} "
                "(age=true or sex=true simulates them)."
            )
        needed, there = len(PHENOTYPES) * self.causal_variants, self.regions * self.common_variants
        if needed > there:
            faults.append(
                f"{len(PHENOTYPES)} phenotypes * causal_variants must not exceed regions * common_variants = {there}; "
                f"got {needed}."
            )
        return faults


_RANGES = {
    "people": _Range(int, 1),
    "seed": _Range(int, 0),
    "regions": _Range(int, 1),
    "region_bases": _Range(int, 64),
    "flank_bases": _Range(int, 0),
    "common_variants": _Range(int, 1),
    "common_maf": _Range(float, 0.01, 0.4),
    "indel_share": _Range(float, 0, 0.5),
    "effective_size": _Range(int, 1),
    "mutation_rate": _Range(float, 1e-12, 1e-3),
    "recombination_rate": _Range(float, 0, 1e-3),
    "founder_haplotypes": _Range(int, 4),
    "traits": _Range(int, 1, 32),
    "causal_variants": _Range(int, 1),
    "coupling": _Range(float, 0, 1),
    "amplitude": _Range(float, 0, 3),
    "voxel_mm": _Range(float, 0.1, 100),
    "frames": _Range(int, 2),
    "tr_s": _Range(float, 1e-3, 100),
    "signal_to_noise": _Range(float, 1e-6, 1e6),
    "signal_autocorrelation": _Range(float, -0.99, 0.99),
    "noise_autocorrelation": _Range(float, -0.99, 0.99),
    "static_to_signal": _Range(float, 0, 1000),
    "populations": _Range(int, 1, 2),
    "split_generations": _Range(int, 1),
    "sites": _Range(int, 1),
    "site_scale_sd": _Range(float, 0, 2),
    "age": _Range(bool, 0, 1),
    "sex": _Range(bool, 0, 1),
    "confound_effect": _Range(float, 0, 100),
    "motion_mm": _Range(float, 0, 10),
    "motion_effect": _Range(float, 0, 100),
    "family_size": _Range(int, 1),
    "phenotypes": _Range(bool, 0, 1),
    "brain_share": _Range(float, 0, 1),
    "genetic_share": _Range(float, 0, 1),
    "confound_share": _Range(float, 0, 1),
    "prevalence": _Range(float, 0.001, 0.999),
    "missing_share": _Range(float, 0, 0.99),
}
_KIND_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _fault(name: str, value: object, rule: _Range) -> str | None:
    """One line on what is wrong with a value, or None. A whole number passes as a number, a bool as nothing but a bool."""
    kinds = (int, float) if rule.kind is float else (rule.kind,)
    fits = isinstance(value, kinds) and (rule.kind is bool or not isinstance(value, bool))
    if fits and math.isfinite(value) and rule.low <= value <= rule.high:
        return None
    span = "" if rule.kind is bool else f" from {rule.low:g}" + (" up" if rule.high == math.inf else f" to {rule.high:g}")
    return f"{name} must be {_KIND_WORDS[rule.kind]}{span}; got {value!r}."


def generator(seed: int, stream: str, *index: int) -> np.random.Generator:
    """The generator of one part of the cohort: a stream of `STREAMS` and, in it, a person, region or family.

    Each part has its own, so that none depends on how many others there are.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(STREAMS.index(stream), *index)))

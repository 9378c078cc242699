"""Simulated genomes: parameters flow in; founders' and people's haplotypes, causal variants and genetic values flow out."""

from collections.abc import Sequence
from typing import NamedTuple

import msprime
import numpy as np

from brainmt_align.data.simulated_parameters import CohortParameters, generator

AUTOSOMES = 22
MAX_DRAWS = 2000
BASES = "ACGT"
BASE_SHARES = (0.295, 0.205, 0.205, 0.295)  # 41 % GC, as in the human genome
TRANSITION = {"A": "G", "G": "A", "C": "T", "T": "C"}
TRANSITION_SHARE = 2 / 3
MAX_INDEL = 6


class FounderRegion(NamedTuple):
    """One region with its flanks, as all founders of the pool carry it.

    Attributes:
        name: name of the region in the BED.
        contig: name of its contig.
        offset: 0-based position on the contig of `reference[0]`, bases.
        start: 0-based first base of the region on the contig.
        end: first base after the region.
        reference: reference sequence of flank, region and flank.
        positions: (S,) 0-based positions of the variants on the contig, increasing.
        refs: S REF alleles.
        alts: S ALT alleles.
        alleles_SF: (S, founders) uint8, 1 = ALT; with two populations the first half of the founders is the first one.
    """

    name: str
    contig: str
    offset: int
    start: int
    end: int
    reference: str
    positions: np.ndarray
    refs: list[str]
    alts: list[str]
    alleles_SF: np.ndarray


class CausalVariant(NamedTuple):
    """A variant that a trait depends on: `site` in its region, `effect` of one ALT allele in SDs of the genetic value."""

    region: int
    site: int
    effect: float


class Trait(NamedTuple):
    """A trait: genetic value = sum of effect * ALT alleles - mean; mean 0 and variance 1 in the founders' population."""

    name: str
    variants: list[CausalVariant]
    mean: float


class Genomes(NamedTuple):
    """The genomes of a cohort.

    Attributes:
        regions: R founder regions.
        founders_PHR: (people, 2, R) founder whose haplotype a person carries in a region; [:, 0] is the one left of the `|`.
        traits: K traits.
        values_PK: (people, K) genetic values.
    """

    regions: list[FounderRegion]
    founders_PHR: np.ndarray
    traits: list[Trait]
    values_PK: np.ndarray


def draw_genomes(parameters: CohortParameters) -> Genomes:
    """Draw founders, people and traits of a cohort.

    Args:
        parameters: checked parameters.

    Raises:
        RuntimeError: a region held too few common variants in `MAX_DRAWS` draws.
    """
    regions = _with_indels([_draw_region(parameters, index) for index in range(parameters.regions)], parameters)
    founders_PHR = _draw_people(parameters)
    names = [f"trait{trait + 1}" for trait in range(parameters.traits)]
    traits = draw_traits(regions, parameters, generator(parameters.seed, "traits"), names)
    values_PK = np.stack([genetic_values(trait, regions, founders_PHR) for trait in traits], axis=1)
    return Genomes(regions, founders_PHR, traits, values_PK)


def _draw_region(parameters: CohortParameters, index: int) -> FounderRegion:
    """Draw ancestry and mutations of one region until it holds enough common variants; every variant is a SNP so far."""
    flank, bases = parameters.flank_bases, parameters.region_bases
    length = bases + 2 * flank
    offset = (index // AUTOSOMES) * length
    for attempt in range(MAX_DRAWS):
        seeds = generator(parameters.seed, "ancestry", index, attempt).integers(1, 2**31, size=2)
        positions, alleles_SF = _coalescent(parameters, length, *seeds.tolist())
        inside = (positions >= flank) & (positions < flank + bases)
        if (inside & _is_common(alleles_SF, parameters)).sum() >= parameters.common_variants:
            break
    else:
        raise RuntimeError(
            f"Simulated region {index + 1}: expected {parameters.common_variants} variants of minor allele frequency "
            f"{parameters.common_maf} or more, got fewer in each of {MAX_DRAWS} draws.\n"
            "  fix: raise region_bases, effective_size or mutation_rate, or lower common_variants or common_maf."
        )
    rng = generator(parameters.seed, "reference", index)
    reference = "".join(rng.choice(list(BASES), size=length, p=BASE_SHARES))
    refs = [reference[position] for position in positions]
    return FounderRegion(
        name=f"GENE{index + 1}",
        contig=f"chr{index % AUTOSOMES + 1}",
        offset=offset,
        start=offset + flank,
        end=offset + flank + bases,
        reference=reference,
        positions=positions + offset,
        refs=refs,
        alts=[_other_base(ref, rng) for ref in refs],
        alleles_SF=alleles_SF,
    )


def _coalescent(
    parameters: CohortParameters, length: int, ancestry_seed: int, mutation_seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (S,) and alleles (S, founders) of one draw of the coalescent with recombination."""
    demography = msprime.Demography.isolated_model([parameters.effective_size])
    samples = [msprime.SampleSet(parameters.founder_haplotypes, ploidy=1)]
    if parameters.populations == 2:
        demography = msprime.Demography()
        for name in ("A", "B", "ancestral"):
            demography.add_population(name=name, initial_size=parameters.effective_size)
        demography.add_population_split(time=parameters.split_generations, derived=["A", "B"], ancestral="ancestral")
        half = parameters.founder_haplotypes // 2
        samples = [msprime.SampleSet(half, population=name, ploidy=1) for name in ("A", "B")]
    ancestry = msprime.sim_ancestry(
        samples=samples,
        demography=demography,
        ploidy=2,
        sequence_length=length,
        recombination_rate=parameters.recombination_rate,
        random_seed=ancestry_seed,
    )
    mutated = msprime.sim_mutations(
        ancestry, rate=parameters.mutation_rate, model=msprime.BinaryMutationModel(), random_seed=mutation_seed
    )
    alleles_SF = mutated.genotype_matrix().astype(np.uint8)
    varies = (alleles_SF.min(axis=1, initial=1) == 0) & (alleles_SF.max(axis=1, initial=0) == 1)
    return mutated.sites_position.astype(np.int64)[varies], alleles_SF[varies]


def _is_common(alleles_SF: np.ndarray, parameters: CohortParameters) -> np.ndarray:
    frequency_S = alleles_SF.mean(axis=1)
    return np.minimum(frequency_S, 1 - frequency_S) >= parameters.common_maf


def _other_base(base: str, rng: np.random.Generator) -> str:
    """An ALT base: a transition in two of three cases, as in human genomes."""
    if rng.random() < TRANSITION_SHARE:
        return TRANSITION[base]
    return str(rng.choice([other for other in BASES if other not in (base, TRANSITION[base])]))


def _with_indels(regions: list[FounderRegion], parameters: CohortParameters) -> list[FounderRegion]:
    """Turn a share of all variants into indels: one drawn from each block of equally many variants, ordered by frequency.

    The blocks keep the share in cohorts of any size, which lack the founders' rarest variants.
    """
    rng = generator(parameters.seed, "indels")
    counts = [
        (int(count), index, site)
        for index, region in enumerate(regions)
        for site, count in enumerate(region.alleles_SF.sum(axis=1))
    ]
    order = sorted(counts, reverse=True)
    wanted = round(parameters.indel_share * len(order))
    for block in np.array_split(np.arange(len(order)), wanted) if wanted else []:
        for choice in rng.permutation(block):
            _, index, site = order[choice]
            if _make_indel(regions[index], site, rng):
                break
    return regions


def _make_indel(region: FounderRegion, site: int, rng: np.random.Generator) -> bool:
    """Rewrite REF and ALT of one variant as an indel anchored on its position and already left-aligned; False where none fits.

    A deletion ends before the next variant and before the region's border; REF and ALT never end with the same base, so that
    the variant cannot be shifted to the left.
    """
    position = int(region.positions[site])
    anchor = region.reference[position - region.offset]
    if rng.random() < 0.5:
        size = int(rng.integers(1, MAX_INDEL + 1))
        inserted = rng.choice(list(BASES), size=size - 1).tolist() + [str(rng.choice([base for base in BASES if base != anchor]))]
        region.alts[site] = anchor + "".join(inserted)
        return True
    barriers = [region.start, region.end, region.offset + len(region.reference), *region.positions[site + 1 : site + 2].tolist()]
    room = min(barrier for barrier in barriers if barrier > position) - position - 1
    following = region.reference[position - region.offset + 1 :][: min(room, MAX_INDEL)]
    sizes = [size for size in range(1, len(following) + 1) if following[size - 1] != anchor]
    if not sizes:
        return False
    region.refs[site] = anchor + following[: int(rng.choice(sizes))]
    region.alts[site] = anchor
    return True


def _draw_people(parameters: CohortParameters) -> np.ndarray:
    """(people, 2, R) founder of each haplotype; regions are unlinked: parents pass each one on by itself."""
    per_family = 2 if parameters.family_size == 1 else 4
    half = parameters.founder_haplotypes // 2
    founders_PHR = np.empty((parameters.people, 2, parameters.regions), dtype=np.int64)
    for person in range(parameters.people):
        family = person // parameters.family_size
        own = np.arange(per_family) + per_family * (family // parameters.populations) + half * (family % parameters.populations)
        if parameters.family_size == 1:
            founders_PHR[person] = own[:, None]
        else:
            chosen_HR = generator(parameters.seed, "transmission", person).integers(2, size=(2, parameters.regions))
            founders_PHR[person] = own.reshape(2, 2)[np.arange(2)[:, None], chosen_HR]
    return founders_PHR


def draw_traits(
    regions: list[FounderRegion],
    parameters: CohortParameters,
    rng: np.random.Generator,
    names: Sequence[str],
    before: Sequence[Trait] = (),
) -> list[Trait]:
    """Draw the causal variants, dealt over the regions in turn, each used once, and scale their effects in the population.

    Args:
        regions: R founder regions.
        parameters: checked parameters.
        rng: what they are drawn from.
        names: of the traits.
        before: traits whose variants are used again only where a region has no others left.
    """
    used = [{v.site for trait in before for v in trait.variants if v.region == index} for index in range(len(regions))]
    queues = [_spread_variants(region, parameters, rng, sorted(own)) for region, own in zip(regions, used, strict=True)]
    order = rng.permutation(len(regions))
    traits = []
    for trait, name in enumerate(names):
        slots = [int(order[(trait * parameters.causal_variants + k) % len(regions)]) for k in range(parameters.causal_variants)]
        variants = []
        for region in slots:
            site = queues[region].pop(0)
            frequency = regions[region].alleles_SF[site].mean()
            size = np.exp(0.25 * rng.standard_normal()) / np.sqrt(2 * frequency * (1 - frequency))
            variants.append(CausalVariant(region, site, float(rng.choice([-1, 1]) * size)))
        mean, sd = population_moments(variants, regions, parameters)
        scaled = [variant._replace(effect=variant.effect / sd) for variant in variants]
        traits.append(Trait(name, scaled, mean / sd))
    return traits


def _spread_variants(region: FounderRegion, parameters: CohortParameters, rng: np.random.Generator, used: list[int]) -> list[int]:
    """The region's common variants, each the least correlated with those before it: traits that share a region stay apart.

    Those that are `used` count as before all others, and come last.
    """
    inside = (region.positions >= region.start) & (region.positions < region.end)
    left = rng.permutation(np.flatnonzero(inside & _is_common(region.alleles_SF, parameters))).tolist()
    left = [site for site in left if site not in used]
    r2_SS = np.corrcoef(region.alleles_SF) ** 2
    chosen = list(used) or [left.pop(0)]
    while left:
        chosen.append(left.pop(int(np.argmin([r2_SS[site, chosen].max() for site in left]))))
    return chosen[len(used) :] + used


def population_moments(
    variants: list[CausalVariant], regions: list[FounderRegion], parameters: CohortParameters
) -> tuple[float, float]:
    """Mean and SD of sum of effect * ALT alleles under random mating within populations of equal size, regions unlinked.

    A variant may stand in the list more than once.
    """
    means, variances = np.zeros(parameters.populations), np.zeros(parameters.populations)
    for region in {variant.region for variant in variants}:
        own = [variant for variant in variants if variant.region == region]
        haplotype_F = sum(variant.effect * regions[region].alleles_SF[variant.site].astype(float) for variant in own)
        for population, values in enumerate(np.array_split(haplotype_F, parameters.populations)):
            means[population] += 2 * values.mean()
            variances[population] += 2 * values.var()
    return float(means.mean()), float(np.sqrt(variances.mean() + means.var()))


def genetic_values(trait: Trait, regions: list[FounderRegion], founders_PHR: np.ndarray) -> np.ndarray:
    """(people,) genetic values of a trait."""
    values = np.full(len(founders_PHR), -trait.mean)
    for variant in trait.variants:
        values += variant.effect * regions[variant.region].alleles_SF[variant.site][founders_PHR[:, :, variant.region]].sum(
            axis=1
        )
    return values

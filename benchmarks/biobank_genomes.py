"""Claim: 40,000 people's haplotypes of 100 regions of 20 kb are told apart and spelled in under 10 minutes and 8 GiB on 2 cores.

In: nothing; msprime simulates the people (a population that grew from 10,000 to 500,000 in 200 generations, mutations 1.29e-8 and
recombinations 1e-8 a base and generation), pgenlib writes them as a phased PGEN. Out: seconds of checking and of reading,
distinct sequences, the share of an encoder's work that is saved, and the peak memory of the process.
Run: python benchmarks/biobank_genomes.py [people] [regions]
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import msprime
import numpy as np
import pgenlib
import pysam
import tskit
from tqdm import tqdm

from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotype_settings import HaplotypeSettings
from brainmt_align.data.haplotypes import read_haplotypes

BASES, LIMIT_S, LIMIT_GIB = 20_000, 600, 8
NOW, BEFORE, GENERATIONS = 5e5, 1e4, 200
LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)


def main(people: str = "40000", regions: str = "100") -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        began = time.perf_counter()
        variants = write_cohort(folder, int(people), int(regions))
        print(f"{int(people):,} people, {int(regions)} regions of {BASES:,} bases, {variants:,} variants; made in {since(began)}")
        files = folder / "cohort.pgen", folder / "reference.fa", folder / "regions.bed"
        settings = HaplotypeSettings(cache=folder / "alleles")
        began = time.perf_counter()
        report = check_genotypes(*files, settings=settings)
        sizes = f"{size(folder / 'alleles'):.2f} GB beside {size(folder):.2f} GB of PGEN"
        print(f"genotypes read, checked and kept packed in {since(began)}: {sizes}")
        read = time.perf_counter()
        distinct = bases = haplotypes = 0
        for region in tqdm(read_haplotypes(*files, settings=settings), total=int(regions), unit="region"):
            distinct, haplotypes = distinct + len(region.sequences), haplotypes + region.index.size
            bases += sum(map(len, region.sequences))
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"distinct sequences spelled from what was kept in {since(read)}: {distinct:,} of {haplotypes:,}, {bases:,} bases")
    vectors = report.regions["distinct_allele_vectors"]
    told = f"distinct vectors a region: median {int(vectors.median())}, most {vectors.max()}"
    print(f"an encoder is spared {1 - distinct / haplotypes:.2%} of its work; {told}")
    print(f"together {seconds:.0f} s of {LIMIT_S} allowed; peak memory {peak:.2f} GiB of {LIMIT_GIB} (simulation included)")


def write_cohort(folder: Path, people: int, regions: int) -> int:
    """PGEN, its tables, FASTA and BED; returns the number of variants."""
    rng = np.random.default_rng(0)
    reference = LETTERS[rng.integers(0, 4, (regions + 1) * BASES)]
    lines: list[str] = []
    trees = [simulate(people, number + 1) for number in tqdm(range(regions), desc="msprime", unit="region")]
    sites = sum(each.num_sites for each in trees)
    path = str(folder / "cohort.pgen").encode()
    with pgenlib.PgenWriter(path, people, sites, nonref_flags=False, hardcall_phase_present=True) as writer:
        for number, each in enumerate(tqdm(trees, desc="PGEN", unit="region")):
            for variant in each.variants():
                at = number * BASES + int(variant.site.position)
                ref = reference[at]
                alt = LETTERS[(np.flatnonzero(ref == LETTERS)[0] + 1 + number % 3) % 4]
                lines.append(f"1\t{at + 1}\t.\t{chr(ref)}\t{chr(alt)}\n")
                writer.append_alleles(np.minimum(variant.genotypes, 1).astype(np.int32), all_phased=True)
    (folder / "cohort.pvar").write_text("##contig=<ID=1>\n#CHROM\tPOS\tID\tREF\tALT\n" + "".join(lines))
    (folder / "cohort.psam").write_text("#IID\n" + "".join(f"p{i}\n" for i in range(people)))
    (folder / "regions.bed").write_text("".join(f"1\t{i * BASES}\t{(i + 1) * BASES}\tr{i}\n" for i in range(regions)))
    (folder / "reference.fa").write_text(f">1\n{reference.tobytes().decode()}\n")
    pysam.faidx(str(folder / "reference.fa"))
    return len(lines)


def simulate(people: int, seed: int) -> tskit.TreeSequence:
    """One region's history with its mutations, two alleles a site."""
    demography = msprime.Demography()
    demography.add_population(name="grown", initial_size=NOW, growth_rate=np.log(NOW / BEFORE) / GENERATIONS)
    demography.add_population_parameters_change(time=GENERATIONS, initial_size=BEFORE, growth_rate=0)
    trees = msprime.sim_ancestry(people, demography=demography, sequence_length=BASES, recombination_rate=1e-8, random_seed=seed)
    return msprime.sim_mutations(trees, rate=1.29e-8, model=msprime.BinaryMutationModel(), random_seed=seed)


def since(began: float) -> str:
    return f"{time.perf_counter() - began:.1f} s"


def size(folder: Path) -> float:
    """Files of a folder, in GB."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e9


if __name__ == "__main__":
    main(*sys.argv[1:])

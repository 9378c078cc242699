"""Claim: all distinct haplotypes of 19 real genes are ready 300 times faster than by one bcftools call a haplotype.

In: the real cohort A (300 people, phased VCF, FASTA, genes) and bcftools with samtools on PATH. Both ways are timed in one
process: this package on all 19 genes and 600 haplotypes, from opening the files to the last string; bcftools on a random part of
the same haplotypes, whose mean stands for all, since all of them would take more than a minute. The strings are compared.
Run: python benchmarks/haplotypes.py [shared data] [haplotypes by bcftools]
"""

import random
import subprocess
import sys
import time
from pathlib import Path

from brainmt_align.data.haplotypes import RegionHaplotypes, read_haplotypes

ROUNDS = 9  # of this package, after one that compiles its loops


def main(shared: str = "../shared", haplotypes: str = "120") -> None:
    folder = Path(shared) / "data" / "real" / "genotypes_chr20_b37"
    files = folder / "cohortA_300.phased.vcf.gz", folder / "chr20_1-2Mb.padded.fa.gz"
    seconds, distinct, total, bases = [], 0, 0, 0
    for _ in range(ROUNDS + 1):
        began, distinct, total, bases = time.perf_counter(), 0, 0, 0
        for region in read_haplotypes(*files, folder / "genes.b37.bed"):  # one region at a time in memory, as stores take them
            distinct, total = distinct + len(region.sequences), total + region.index.size
            bases += sum(map(len, region.sequences))
        seconds.append(time.perf_counter() - began)
    best, middle = min(seconds[1:]), sorted(seconds[1:])[ROUNDS // 2]
    print(f"{total // 600} genes, {total:,} haplotypes, {distinct:,} distinct sequences, {bases:,} bases")
    print(f"this package: {middle:.3f} s (median of {ROUNDS}, least {best:.3f}; the first, which compiles, {seconds[0]:.1f})")

    regions = list(read_haplotypes(*files, folder / "genes.b37.bed"))
    chosen = random.Random(0)
    picked = [(chosen.choice(regions), chosen.randrange(300), chosen.randrange(2)) for _ in range(int(haplotypes))]
    began = time.perf_counter()
    spelled = [by_bcftools(*files, *each) for each in picked]
    each_s = (time.perf_counter() - began) / len(picked)
    equal = sum(
        region.sequences[region.index[person, haplotype]] == other
        for (region, person, haplotype), other in zip(picked, spelled, strict=True)
    )
    print(f"bcftools: {1000 * each_s:.1f} ms a haplotype, {each_s * total:.0f} s for all; {equal} of {len(picked)} strings equal")
    print(f"{each_s * total / middle:.0f} × faster")


def by_bcftools(genotypes: Path, reference: Path, region: RegionHaplotypes, person: int, haplotype: int) -> str:
    """One haplotype as `bcftools consensus` writes it."""
    place = f"{region.contig}:{region.start + 1}-{region.end}"
    cut = subprocess.run(["samtools", "faidx", reference, place], capture_output=True, check=True).stdout
    command = ["bcftools", "consensus", "-H", str(haplotype + 1), "-s", region.samples[person], genotypes]
    return "".join(subprocess.run(command, input=cut, capture_output=True, check=True).stdout.decode().split("\n")[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])

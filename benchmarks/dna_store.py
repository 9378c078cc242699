"""Claim: a store costs one encoder pass a distinct sequence and strand. In: real genotypes. Out: a line a gene, and the sum.

300 people of 1000 Genomes, six genes of chromosome 20, the bases around each gene's centre or whole genes, a Caduceus with random
weights.
Run: BRAINMT_ALIGN_SHARED=DIR python benchmarks/dna_store.py [bases | whole]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from brainmt_align.data.dna_store import build, open_store
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.data.regions import Region, read_regions
from encoders import load_dna_encoder
from encoders.dna import DNAEncoder

GENES, WINDOW = 6, 2048


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else str(WINDOW)
    window = None if asked == "whole" else int(asked)
    folder = Path(os.environ["BRAINMT_ALIGN_SHARED"]) / "data" / "real" / "genotypes_chr20_b37"
    files = folder / "cohortA_300.phased.vcf.gz", folder / "chr20_1-2Mb.padded.fa.gz"
    genes = read_regions(folder / "genes.b37.bed")[:GENES]
    encoder = load_dna_encoder("caduceus", device="cpu")
    strands = 1 if encoder.strand_symmetric else 2
    print(f"{encoder.description}; {torch.get_num_threads()} threads, {asked} bases a gene, {strands} pass(es) a sequence")
    print(f"{'gene':12}{'people':>8}{'haplotypes':>12}{'distinct':>10}{'passes':>8}{'wanted':>8}{'seconds':>9}{'bases/s':>10}")
    with tempfile.TemporaryDirectory() as store:
        total = [measure(gene, files, window, encoder, strands, Path(store)) for gene in genes]
        distinct, passes, seconds = (sum(column) for column in zip(*total, strict=True))
        print(f"all: {distinct:,} distinct sequences, {passes:,} passes = {passes / distinct:g} x distinct, {seconds:.1f} s")
        before, start = encoder.counts["passes"], time.perf_counter()
        summary = build(read_haplotypes(*files, genes, window=window), encoder, store, progress=False)
        spent = encoder.counts["passes"] - before, time.perf_counter() - start
        print(f"again: {summary.sequences_reused:,} sequences, {spent[0]} passes, {spent[1]:.1f} s")


def measure(
    gene: Region, files: tuple[Path, Path], window: int | None, encoder: DNAEncoder, strands: int, folder: Path
) -> tuple[int, int, float]:
    """Distinct sequences, passes and seconds of one gene; prints its line."""
    before = encoder.counts.copy()
    start = time.perf_counter()
    summary = build(read_haplotypes(*files, [gene], window=window), encoder, folder, progress=False)
    seconds = time.perf_counter() - start
    passes, bases = (encoder.counts[key] - before[key] for key in ("passes", "bases"))
    store = open_store(summary.folder, [gene.name])
    people, distinct = len(store.sample_ids), len(store.tables[0])
    if passes != strands * distinct:
        sys.exit(f"{gene.name}: {passes} passes for {distinct} distinct sequences and {strands} strands")
    shown = f"{gene.name:12}{people:8}{2 * people:12}{distinct:10}{passes:8}{strands * distinct:8}"
    print(f"{shown}{seconds:9.2f}{bases / seconds:10,.0f}", flush=True)
    return distinct, passes, seconds


if __name__ == "__main__":
    main()

"""Simulated genome files: the genomes of a cohort flow in; VCF, FASTA and BED files flow out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pysam

from brainmt_align.data.simulated_genomes import FounderRegion, Genomes, Trait


def write_genomes(folder: Path, genomes: Genomes, sample_ids: list[str], further: Sequence[Trait] = ()) -> None:
    """Write `reference.fa` + `.fai`, `regions.bed` and `genotypes.vcf.gz` + `.tbi` into a folder.

    The VCF holds the variants that somebody of the cohort carries and all causal ones, those of `further` traits among them, as
    phased diploid genotypes.
    """
    contigs: dict[str, list[int]] = {}
    for index, region in enumerate(genomes.regions):
        contigs.setdefault(region.contig, []).append(index)
    sequences = {contig: "".join(genomes.regions[index].reference for index in own) for contig, own in contigs.items()}
    _write_fasta(folder / "reference.fa", sequences)
    rows = [f"{region.contig}\t{region.start}\t{region.end}\t{region.name}\n" for region in genomes.regions]
    (folder / "regions.bed").write_text("".join(rows))

    header = pysam.VariantHeader()
    header.add_line("##source=brainmt-align, simulated: no real person's genome")
    header.add_line('##FORMAT=<ID=GT,Number=1,Type=String,Description="Phased genotype">')
    for contig, sequence in sequences.items():
        header.contigs.add(contig, length=len(sequence))
    for sample in sample_ids:
        header.add_sample(sample)
    plain = folder / "genotypes.vcf"
    with plain.open("w") as file:
        file.write(str(header))
        for own in contigs.values():
            for index in own:
                causal = {each.site for trait in (*genomes.traits, *further) for each in trait.variants if each.region == index}
                file.writelines(_vcf_lines(genomes, index, causal))
    pysam.tabix_index(str(plain), preset="vcf", force=True)


def _write_fasta(path: Path, sequences: dict[str, str], width: int = 60) -> None:
    with path.open("w") as file:
        for contig, sequence in sequences.items():
            lines = (sequence[start : start + width] for start in range(0, len(sequence), width))
            file.write(f">{contig}\n" + "\n".join(lines) + "\n")
    pysam.faidx(str(path))


def _vcf_lines(genomes: Genomes, index: int, causal: set[int]) -> Iterator[str]:
    """VCF records of one region, in order; those of causal sites also where nobody carries them."""
    region = genomes.regions[index]
    words = np.array([["0|0", "0|1"], ["1|0", "1|1"]])
    for site, position in enumerate(region.positions.tolist()):
        alleles_PH = region.alleles_SF[site][genomes.founders_PHR[:, :, index]]
        if alleles_PH.any() or site in causal:
            genotypes = "\t".join(words[alleles_PH[:, 0], alleles_PH[:, 1]].tolist())
            fields = [region.contig, str(position + 1), variant_id(region, site), region.refs[site], region.alts[site]]
            yield "\t".join([*fields, ".", "PASS", ".", "GT", genotypes]) + "\n"


def variant_id(region: FounderRegion, site: int) -> str:
    """The variant's ID in the VCF: contig, 1-based position, REF and ALT."""
    return f"{region.contig}_{region.positions[site] + 1}_{region.refs[site]}_{region.alts[site]}"

"""Small genomes for the tests of haplotypes: variants and a reference flow in; a VCF and a FASTA with their indices flow out."""

from pathlib import Path
from typing import NamedTuple

import pysam

from brainmt_align.data.haplotypes import RegionHaplotypes, read_haplotypes

HEADER = """##fileformat=VCFv4.2
##contig=<ID=1>
##ALT=<ID=DEL,Description="Deletion">
##INFO=<ID=END,Number=1,Type=Integer,Description="End">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">
"""
SAMPLES = ("anna", "ben")


class Variant(NamedTuple):
    """One record: 0-based position, INFO/END (1-based) of a `<DEL>`, one call a sample; FORMAT is GT:PS where calls hold `:`."""

    position: int
    ref: str
    alts: tuple[str, ...]
    calls: tuple[str, ...]
    end: int | None = None


class Files(NamedTuple):
    """What `read_haplotypes` needs on disk."""

    genotypes: Path
    reference: Path


def write_files(
    folder: Path, reference: str, variants: list[Variant], contigs: tuple[str, str] = ("1", "1"), header: str = HEADER
) -> Files:
    """A bgzipped, indexed VCF and an indexed FASTA; the contig is contigs[0] in the first, contigs[1] in the second."""
    fasta = folder / "reference.fa"
    fasta.write_text("\n".join([f">{contigs[1]}", *(reference[i : i + 60] for i in range(0, len(reference), 60)), ""]))
    pysam.faidx(str(fasta))
    lines = ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *SAMPLES])]
    for v in variants:
        info = "." if v.end is None else f"END={v.end}"
        alts = ",".join(v.alts) or "."
        keys = "GT:PS" if ":" in v.calls[0] else "GT"
        lines.append("\t".join([contigs[0], str(v.position + 1), ".", v.ref, alts, ".", ".", info, keys, *v.calls]))
    plain = folder / "genotypes.vcf"
    plain.write_text(header + "\n".join(lines) + "\n")
    vcf = folder / "genotypes.vcf.gz"
    pysam.tabix_compress(str(plain), str(vcf), force=True)
    pysam.tabix_index(str(vcf), preset="vcf", force=True)
    return Files(vcf, fasta)


def read_one(files: Files, start: int, end: int, **settings) -> RegionHaplotypes:
    (region,) = read_haplotypes(files.genotypes, files.reference, [("1", start, end, "A", "+")], **settings)
    return region


def sequence_of(region: RegionHaplotypes, sample: str, haplotype: int) -> str:
    return region.sequences[region.index[region.samples.index(sample), haplotype]]

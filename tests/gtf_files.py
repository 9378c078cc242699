"""Small annotations for the tests of regions: genes flow in; the lines of a GTF flow out."""

from pathlib import Path


def line(feature: str, start: int, end: int, attributes: str, strand: str = "+", contig: str = "1") -> str:
    """One line; start and end 1-based, both in it, as a GTF has them."""
    return "\t".join([contig, "HAVANA", feature, str(start), str(end), ".", strand, ".", attributes]) + "\n"


def gene(
    gene_id: str, name: str, start: int, end: int, strand: str = "+", kind: str = "protein_coding", contig: str = "1"
) -> str:
    """As GENCODE spells it."""
    return line("gene", start, end, f'gene_id "{gene_id}"; gene_type "{kind}"; gene_name "{name}"; level 2;', strand, contig)


def exon(gene_id: str, transcript: str, start: int, end: int, *tags: str, strand: str = "+", contig: str = "1") -> str:
    """As GENCODE spells it."""
    told = "".join(f' tag "{tag}";' for tag in tags)
    return line("exon", start, end, f'gene_id "{gene_id}"; transcript_id "{transcript}"; exon_number 1;{told}', strand, contig)


def write_gtf(path: Path, *lines: str) -> Path:
    path.write_text("##description: toy\n##format: gtf\n" + "".join(lines))
    return path

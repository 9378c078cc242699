"""Genotypes: a file of any form, or one a contig, flows in; a reader of the chosen samples' alleles, region by region, flows out.

Positions are 0-based half-open, as in BED and pysam; messages show 1-based positions, as a VCF writes them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from brainmt_align.data.alleles import NO_OPTIONS, GenotypeOptions, GenotypeReader
from brainmt_align.data.genotypes_by_contig import PLACE, ContigFiles
from brainmt_align.data.genotypes_vcf import VCFReader

FORMATS: dict[str, str] = {
    ".vcf": "vcf",
    ".vcf.gz": "vcf",
    ".vcf.bgz": "vcf",
    ".bcf": "vcf",
    ".pgen": "pgen",
    ".bgen": "bgen",
    ".bed": "bed",
}


def open_genotypes(
    path: str | Path, samples: Sequence[str] | None = None, options: GenotypeOptions = NO_OPTIONS
) -> GenotypeReader:
    """Open genotypes by the ending of their name and choose samples, so that many regions cost one header.

    Args:
        path: indexed `.vcf.gz` or `.bcf`; `.pgen` with `.pvar` (or `.pvar.zst`) and `.psam` beside it; `.bgen` with its
            `.bgen.bgi`; PLINK 1 `.bed` with `.bim` and `.fam`. Where `{contig}` stands in it, there is one file a contig.
        samples: ids, in this order; all of the file without it.
        options: what some formats do not say of themselves.

    Raises:
        FileNotFoundError: no such file, or nothing of what belongs beside it.
        ValueError: another ending, damaged files, unknown or repeated samples.
        ImportError: the library of this format is not installed.
    """
    reader = _reader(str(path))
    return ContigFiles(path, samples, options, reader) if PLACE in str(path) else reader(Path(path), samples, options)


def list_samples(path: str | Path, options: GenotypeOptions = NO_OPTIONS) -> list[str]:
    """Sample ids of a file of genotypes, in its order; errors as of `open_genotypes`."""
    with open_genotypes(path, options=options) as genotypes:
        return genotypes.samples


def _reader(name: str) -> Callable[..., GenotypeReader]:
    """The reader for names of this ending; those that need an extra are imported here, where they are wanted."""
    form = next((form for ending, form in FORMATS.items() if name.endswith(ending)), None)
    if form == "vcf":
        return VCFReader
    if form == "bed":
        from brainmt_align.data.genotypes_bed import BEDReader

        return BEDReader
    if form == "bgen":
        from brainmt_align.data.genotypes_bgen import BGENReader

        return BGENReader
    if form == "pgen":
        from brainmt_align.data.genotypes_pgen import PGENReader

        return PGENReader
    raise ValueError(
        f"Genotypes: a name ending in {', '.join(FORMATS)} is expected, got {Path(name).name}.\n"
        f"  file: {name}\n  fix: convert it, e.g. `plink2 --export vcf bgz`."
    )

"""Sources of haplotypes: genotypes, a reference FASTA and regions flow in, opened; what fits together flows out.

Whatever can be told without reading a genotype is told here: files, indices, samples, contigs, their lengths, coordinates.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pysam

from brainmt_align.data.genome_builds import name_build
from brainmt_align.data.genotypes import Alleles, GenotypeFile, find_contig, show_contigs
from brainmt_align.data.regions import Region, read_regions
from brainmt_align.listing import list_faults, some


class RegionSource(NamedTuple):
    """One region's input: `bases` is the reference from its start to its end or the last REF base, upper case."""

    alleles: Alleles
    bases: str


class HaplotypeSources:
    """Open genotypes and FASTA, and the regions to read from them.

    Attributes:
        regions: after windowing, inside their contigs.
        genotypes, reference: the two files.
        builds: a clause that says which builds the two seem to be of.
    """

    def __init__(
        self,
        genotypes: str | Path,
        reference: str | Path,
        regions: str | Path | Sequence[tuple],
        samples: Sequence[str] | None = None,
        window: int | None = None,
    ):
        """Open and match the files; arguments as of `haplotypes.read_haplotypes`.

        Raises:
            FileNotFoundError: a file or its index is absent.
            ValueError: unreadable files, unknown samples; contigs that a file lacks or that have different lengths in the two
                (all of them listed); faulty regions (likewise).
        """
        wanted = read_regions(regions)
        self.reference = Path(reference)
        self._fasta = _open_reference(self.reference)
        self._variants = GenotypeFile(genotypes, samples)
        self.genotypes = self._variants.path
        fasta_lengths = dict(zip(self._fasta.references, self._fasta.lengths, strict=True))
        declared = name_build(self._variants.lengths, self._variants.build_words)
        self.builds = f"the genotypes are {declared}, the FASTA is {name_build(fasta_lengths)}"
        self._names = self._match_contigs(wanted, fasta_lengths)
        lengths = {contig: fasta_lengths[in_fasta] for contig, (in_fasta, _) in self._names.items()}
        self.regions = read_regions(regions, window, lengths)  # once more, so that a fault names the line of the BED file

    def __enter__(self) -> "HaplotypeSources":
        return self

    def __exit__(self, *exception) -> None:
        self._fasta.close()
        self._variants.__exit__(*exception)

    def read(self, region: Region) -> RegionSource:
        """One region's alleles and reference bases.

        Raises:
            ValueError: see `genotypes.GenotypeFile.read`.
        """
        in_fasta, in_variants = self._names[region.contig]
        alleles = self._variants.read(in_variants, region.start, region.end)
        stop = max(region.end, *(p + len(ref) for p, ref in zip(alleles.positions, alleles.refs, strict=True)), 0)
        return RegionSource(alleles, self._fasta.fetch(in_fasta, region.start, stop).upper())

    def _match_contigs(self, wanted: Sequence[Region], fasta_lengths: dict[str, int]) -> dict[str, tuple[str, str]]:
        """Contig → its name in the FASTA and in the genotypes; every contig that does not fit is in one message.

        Contigs without a region are not compared: chrM has two lengths on GRCh37, and decoys come and go.
        """
        names: dict[str, tuple[str, str]] = {}
        faults: list[str] = []
        for contig in dict.fromkeys(region.contig for region in wanted):
            owned = [region.name for region in wanted if region.contig == contig]
            place = f"contig {contig} (regions: {some(owned, 3)})"
            in_fasta, in_variants = find_contig(contig, fasta_lengths, self.reference), self._variants.find_contig(contig)
            if in_fasta is None:
                faults.append(f"{place} is not in the FASTA")
            if in_variants is None:
                faults.append(f"{place} is not in the genotypes")
            if in_fasta is None or in_variants is None:
                continue
            names[contig] = in_fasta, in_variants
            declared, length = self._variants.lengths.get(in_variants), fasta_lengths[in_fasta]
            if declared not in (None, length):
                faults.append(f"{place} has {declared:,} bases by the genotypes' header, {length:,} in the FASTA")
        if faults:
            raise ValueError(
                "Regions: contigs that genotypes and FASTA both hold, with the same length, are expected, "
                f"got:\n{list_faults(faults)}  known: {show_contigs(list(fasta_lengths))} in the FASTA; "
                f"{show_contigs(self._variants.contigs)} in the genotypes; {self.builds}\n"
                f"  file: {self.genotypes}, {self.reference}\n  fix: give the FASTA of the build that the genotypes were called "
                "on, with the regions' contigs named as in these files."
            )
        return names


def _open_reference(path: Path) -> pysam.FastaFile:
    """The FASTA with its index; the index is never made silently, since the folder may be shared."""
    if not path.is_file():
        raise FileNotFoundError(f"Reference: a FASTA is expected, got no such file.\n  file: {path}\n  fix: set data.reference.")
    absent = [s for s in ([".fai", ".gzi"] if path.suffix in (".gz", ".bgz") else [".fai"]) if not Path(f"{path}{s}").is_file()]
    if absent:
        raise FileNotFoundError(
            f"Reference: a FASTA with its index is expected, got none ({', '.join(absent)}) beside it.\n"
            f"  file: {path}\n  fix: samtools faidx {shlex.quote(str(path))}   (compressed: by bgzip, not gzip)"
        )
    try:
        return pysam.FastaFile(str(path))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Reference: a FASTA, plain or bgzipped, is expected, got a file that cannot be opened ({error}).\n"
            f"  file: {path}\n  fix: gzip -dc FILE | bgzip > ref.fa.gz && samtools faidx ref.fa.gz"
        ) from error

"""Sources of haplotypes: genotypes, a reference FASTA and regions flow in, opened; what fits together flows out.

Whatever can be told without reading a genotype is told here: files, indices, samples, contigs, their lengths, coordinates.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

from brainmt_align.data.allele_orientation import orient
from brainmt_align.data.alleles import NO_OPTIONS, Alleles, GenotypeOptions, find_contig, show_contigs, sort_records, take_records
from brainmt_align.data.genome_builds import name_build
from brainmt_align.data.genotypes import open_genotypes
from brainmt_align.data.region_shapes import WHOLE, RegionShape
from brainmt_align.data.regions import Region, read_regions
from brainmt_align.listing import SHOWN_FAULTS, list_faults, some


class RegionSource(NamedTuple):
    """One region's input.

    Attributes:
        alleles: the records that overlap it, REF by the FASTA where the file does not say it.
        bases: the reference from the region's start to its end or past the longest allele of a record, upper case.
        swapped: records whose REF the FASTA settled against the file's order, see `allele_orientation.orient`. Records that
            overlapped by another allele than the REF are among them.
        undecided_V: (variants,) bool, records that begin in the region and whose REF neither the file nor the FASTA tells.
    """

    alleles: Alleles
    bases: str
    swapped: int
    undecided_V: np.ndarray


class HaplotypeSources:
    """Open genotypes and FASTA, and the regions to read from them.

    Attributes:
        regions: after shaping and windowing, inside their contigs.
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
        options: GenotypeOptions = NO_OPTIONS,
        shape: RegionShape = WHOLE,
    ):
        """Open and match the files; arguments as of `haplotypes.read_haplotypes`.

        Raises:
            FileNotFoundError: a file or its index is absent.
            ValueError: unreadable files, unknown samples; contigs that a file lacks or that have different lengths in the two
                (all of them listed); faulty regions (likewise).
        """
        wanted = read_regions(regions, shape=shape)
        self.reference = Path(reference)
        self._fasta = _open_reference(self.reference)
        self._variants = open_genotypes(genotypes, samples, options)
        self.genotypes = self._variants.path
        fasta_lengths = dict(zip(self._fasta.references, self._fasta.lengths, strict=True))
        self._names = self._match_contigs(wanted, fasta_lengths)
        lengths = {contig: fasta_lengths[in_fasta] for contig, (in_fasta, _) in self._names.items()}
        self.regions = read_regions(regions, window, lengths, shape)  # once more, so that a fault names the line of its file

    def __enter__(self) -> "HaplotypeSources":
        return self

    def __exit__(self, *exception) -> None:
        self._fasta.close()
        self._variants.__exit__(*exception)

    @property
    def samples(self) -> list[str]:
        """Ids, in the order of the request."""
        return self._variants.samples

    @property
    def notes(self) -> list[str]:
        """What was read otherwise than it is written, one sentence each: contigs under other names, and of the genotypes."""
        exchanged = [
            f"{contig} as {name} of the {what}"
            for contig, names in self._names.items()
            for what, name in zip(("FASTA", "genotypes"), names, strict=True)
            if name != contig
        ]
        told = f"Contigs of the regions are read under another name: {some(exchanged, SHOWN_FAULTS)}."
        return [*([told] if exchanged else []), *self._variants.notes]

    def files_of(self, region: Region) -> list[Path]:
        """The files that the genotypes of a region's contig come from, the genotypes first."""
        return self._variants.files_of(self.contig_of(region))

    def contig_of(self, region: Region) -> str:
        """A region's contig under the name that the genotypes have for it."""
        return self._names[region.contig][1]

    def fetch_bases(self, region: Region) -> str:
        """The reference of a region in one piece, upper case.

        Raises:
            ValueError: a FASTA that does not have what its index promises.
        """
        return self._fetch(self._names[region.contig][0], region.start, region.end)

    def fetch_around(self, region: Region, flank: int) -> str:
        """The reference of a region in one piece and of `flank` bases on either side, upper case; N outside the contig."""
        start = max(region.start - flank, 0)
        bases = self.fetch_bases(region._replace(start=start, end=region.end + flank))
        return f"{'N' * (flank - (region.start - start))}{bases}".ljust(region.end - region.start + 2 * flank, "N")

    def read(self, region: Region) -> RegionSource:
        """One region's alleles and reference bases.

        Raises:
            ValueError: see `alleles.GenotypeReader.read`, and `fetch_bases`.
        """
        in_fasta, in_variants = self._names[region.contig]
        alleles = sort_records(self._variants.read(in_variants, region.start, region.end))
        spelled = zip(alleles.positions.tolist(), alleles.refs, alleles.alts, strict=True)
        stop = max([region.end, *(position + max(map(len, (ref, *alts))) for position, ref, alts in spelled)])
        unknown_V = np.zeros(len(alleles.refs), dtype=bool) if alleles.ref_known is None else ~alleles.ref_known
        start = min([region.start, *alleles.positions[unknown_V].tolist()])
        bases = self._fetch(in_fasta, start, stop)
        oriented = orient(alleles, bases, start)
        alleles, undecided_V = oriented.alleles, oriented.undecided_V & (oriented.alleles.positions >= region.start)
        outside_V = unknown_V & (alleles.stops <= region.start)  # overlapped by an allele that is not the REF
        if outside_V.any():
            alleles, undecided_V = take_records(alleles, np.flatnonzero(~outside_V)), undecided_V[~outside_V]
        return RegionSource(alleles, bases[region.start - start :], oriented.swapped, undecided_V)

    def _fetch(self, contig: str, start: int, end: int) -> str:
        """Bases by the FASTA's name of a contig, as far as that reaches, upper case."""
        expected = max(min(end, self._fasta.get_reference_length(contig)) - start, 0)
        try:
            bases = self._fasta.fetch(contig, start, end)
            got = f"{len(bases):,} of {expected:,}"
        except (OSError, ValueError) as error:
            bases, got = "", f"an error of the library: {error}"
        if len(bases) != expected:
            raise ValueError(
                f"Reference: the bases of {contig}:{start + 1}-{end} that its index promises are expected, got {got}; the FASTA "
                f"is cut short, or the index is of another file.\n  file: {self.reference}\n"
                f"  fix: copy the FASTA again, or renew its index: samtools faidx {shlex.quote(str(self.reference))}"
            )
        return bases.upper()

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
        declared = name_build(self._variants.lengths, self._variants.build_words)
        self.builds = f"the genotypes are {declared}, the FASTA is {name_build(fasta_lengths)}"
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

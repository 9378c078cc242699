"""Dosages: genotypes and regions flow in; how many copies of each ALT allele every sample has flows out.

Memory is 4 bytes a sample and ALT allele, twice that while the regions are joined.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import NO_OPTIONS, Alleles, GenotypeOptions, match_contig
from brainmt_align.data.genotypes import open_genotypes
from brainmt_align.data.region_shapes import WHOLE, RegionShape
from brainmt_align.data.regions import read_regions


class Dosages(NamedTuple):
    """Allele counts of N samples at V ALT alleles.

    Attributes:
        dosage_NV: (N, V) float32, 0 to 2 copies of the ALT allele, expected ones where the file holds dosages; what was missing
            is the mean of the others.
        variants: (V,) contig:position:REF:ALT, 1-based as in a VCF, in the order of regions and records.
        samples: (N,) sample ids.
        missing_V: (V,) how many samples' counts were missing and are filled.
        left_out: how many ALT alleles were left out because too many samples lack a call.
        left_out_rare: how many others were left out because their minor allele is too rare among these samples.
    """

    dosage_NV: np.ndarray
    variants: list[str]
    samples: list[str]
    missing_V: np.ndarray
    left_out: int
    left_out_rare: int

    def describe(self) -> str:
        """How many alleles were read and left out, in a line."""
        read = f"{len(self.variants)} dosages"
        return f"{read}; {self.left_out_rare} of rare alleles and {self.left_out} of others are left out"


def read_dosages(
    genotypes: str | Path,
    regions: str | Path | Sequence[tuple],
    samples: Sequence[str] | None = None,
    max_missing: float = 0.1,
    window: int | None = None,
    min_frequency: float = 0.01,
    shape: RegionShape = WHOLE,
    options: GenotypeOptions = NO_OPTIONS,
) -> Dosages:
    """Count the ALT alleles of all records that overlap the regions.

    A record with several ALT alleles gives one column each. A record in several regions is counted once. A haploid call counts
    twice, as PLINK codes males' X; a call that lacks one allele or both is missing. Where the file holds dosages, those of a
    record with one ALT allele are taken instead of its calls, missing where they are NaN; for several they would be of all
    together. FORMAT/DS of a VCF is not read, its calls are counted: a PGEN holds such dosages, `plink2 --vcf FILE dosage=DS
    --make-pgen`. Phase plays no part.

    No FASTA is read, so where a file does not say which allele is the reference's (PLINK 1, BGEN, a PGEN of provisional REF), REF
    and ALT are the file's own, in names and counts, and may be the other way round than in the haplotypes of the same file. A
    linear model with an intercept does not notice: either count is 2 less the other.

    Args:
        genotypes: as of `genotypes.open_genotypes`.
        regions: BED path (0-based half-open), GTF path or tuples, see `read_regions`.
        samples: ids in the wanted order; None: all of the file.
        max_missing: ALT alleles of records that a larger share of the samples lacks a call of are left out; 0 to below 1.
        window: that many bases around each region's centre instead of the region.
        min_frequency: ALT alleles whose minor allele (the ALT, or all others together) is rarer among the samples that are read
            and called are left out; 0 to 0.5, and 0 keeps all, those that do not vary too. Alleles of one or two people are
            most of what sequencing finds, and components of them would describe those people alone.
        shape: what of each region is read, see `RegionShape`.
        options: what the file does not say of itself.

    Raises:
        FileNotFoundError: no such file, or nothing of what belongs beside it.
        ValueError: a share or frequency out of range, faulty regions, contigs or samples that the file lacks, or nothing to
            count.
    """
    if not 0 <= max_missing < 1:
        raise ValueError(
            f"Dosages: expected a largest share of missing calls from 0 to below 1, got {max_missing!r}.\n  fix: set it to 0.1."
        )
    if not 0 <= min_frequency <= 0.5:
        raise ValueError(
            f"Dosages: expected a least frequency of the minor allele from 0 to 0.5, got {min_frequency!r}.\n"
            "  fix: set it to 0.01."
        )
    columns: dict[str, np.ndarray] = {}
    missing: dict[str, int] = {}
    crowded: set[str] = set()
    rare: set[str] = set()
    with open_genotypes(genotypes, samples, options) as file:
        for piece in chain.from_iterable(region.pieces() for region in read_regions(regions, window, shape=shape)):
            contig = file.find_contig(piece.contig) or match_contig(piece.contig, file.contigs, file.path)
            for name, count_N, absent_N in _count(file.read(contig, piece.start, piece.end), contig):
                if name in columns or name in crowded or name in rare:
                    continue
                if absent_N.mean() > max_missing:
                    crowded.add(name)
                    continue
                if _minor_frequency(count_N[~absent_N]) < min_frequency:
                    rare.add(name)
                    continue
                columns[name], missing[name] = np.where(absent_N, count_N[~absent_N].mean(), count_N), int(absent_N.sum())
        chosen = list(file.samples)
    if not columns:
        raise ValueError(
            f"Dosages: expected ALT alleles in the regions, got none ({len(crowded)} left out for more than {max_missing:.0%} "
            f"missing calls, {len(rare)} for a minor allele below {min_frequency:g}).\n  file: {genotypes}\n"
            "  fix: check that regions and genotypes are of one build, raise max_missing, or lower min_frequency."
        )
    dosage_NV = np.empty((len(chosen), len(columns)), dtype=np.float32)
    for at, column in enumerate(columns.values()):
        dosage_NV[:, at] = column
    return Dosages(dosage_NV, list(columns), chosen, np.array(list(missing.values())), len(crowded), len(rare))


def _minor_frequency(count_N: np.ndarray) -> float:
    """Of counts of 0 to 2; of calls a quotient of whole numbers, so that 1 in 100 is 0.01 to the last bit."""
    copies, of = float(count_N.sum(dtype=np.float64)), 2 * len(count_N)
    return min(copies, of - copies) / of


def _count(alleles: Alleles, contig: str):
    """Yield name, (N,) float32 count and (N,) whether it is missing, of each ALT allele."""
    for at, (position, ref, alts) in enumerate(zip(alleles.positions, alleles.refs, alleles.alts, strict=True)):
        if alleles.dosages is not None and len(alts) == 1:
            expected_N = alleles.dosages[:, at]
            yield f"{contig}:{position + 1}:{ref}:{alts[0]}", expected_N, np.isnan(expected_N)
            continue
        calls_N2 = alleles.alleles[:, :, at]
        absent_N = (calls_N2 < 0).any(axis=1)
        for number, alt in enumerate(alts, 1):
            yield f"{contig}:{position + 1}:{ref}:{alt}", (calls_N2 == number).sum(axis=1).astype(np.float32), absent_N

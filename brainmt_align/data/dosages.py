"""Dosages: genotypes and regions flow in; how many copies of each ALT allele every sample has flows out.

Memory is 4 bytes a sample and ALT allele, twice that while the regions are joined.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.genotypes import Alleles, GenotypeFile, match_contig
from brainmt_align.data.regions import read_regions


class Dosages(NamedTuple):
    """Allele counts of N samples at V ALT alleles.

    Attributes:
        dosage_NV: (N, V) float32, 0 to 2 copies of the ALT allele; what was missing is the mean of the others.
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
) -> Dosages:
    """Count the ALT alleles of all records that overlap the regions.

    A record with several ALT alleles gives one column each. A record in several regions is counted once. A haploid call counts
    twice, as PLINK codes males' X; a call that lacks one allele or both is missing. Phase plays no part.

    Args:
        genotypes: indexed VCF or BCF.
        regions: BED path (0-based half-open) or tuples, see `read_regions`.
        samples: ids in the wanted order; None: all of the file.
        max_missing: ALT alleles of records that a larger share of the samples lacks a call of are left out; 0 to below 1.
        window: that many bases around each region's centre instead of the region.
        min_frequency: ALT alleles whose minor allele (the ALT, or all others together) is rarer among the samples that are read
            and called are left out; 0 to 0.5, and 0 keeps all, those that do not vary too. Alleles of one or two people are
            most of what sequencing finds, and components of them would describe those people alone.

    Raises:
        FileNotFoundError: no such file or index.
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
    with GenotypeFile(genotypes, samples) as file:
        for region in read_regions(regions, window):
            contig = file.find_contig(region.contig) or match_contig(region.contig, file.contigs, file.path)
            for name, count_N, absent_N in _count(file.read(contig, region.start, region.end), contig):
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
    """Of counts of 0 to 2; a quotient of whole numbers, so that 1 in 100 is 0.01 to the last bit."""
    copies, of = int(count_N.sum(dtype=np.float64)), 2 * len(count_N)
    return min(copies, of - copies) / of


def _count(alleles: Alleles, contig: str):
    """Yield name, (N,) float32 count and (N,) whether it is missing, of each ALT allele."""
    for at, (position, ref, alts) in enumerate(zip(alleles.positions, alleles.refs, alleles.alts, strict=True)):
        calls_N2 = alleles.alleles[:, :, at]
        absent_N = (calls_N2 < 0).any(axis=1)
        for number, alt in enumerate(alts, 1):
            yield f"{contig}:{position + 1}:{ref}:{alt}", (calls_N2 == number).sum(axis=1).astype(np.float32), absent_N

"""Genotype checks: genotypes, a reference and regions flow in; every fault of all regions in one list, or a report, flows out.

All regions are read once, before anything dear is begun, and no sequence is built; memory is that of one region.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainmt_align.data.allele_cache import AlleleCache
from brainmt_align.data.genotype_faults import Fault, find_other_build, place_of, refuse
from brainmt_align.data.genotype_report import GenotypeReport, describe_region, make_report
from brainmt_align.data.haplotype_settings import DEFAULTS, HaplotypeSettings, check_policies
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.ref_match import likely_cause
from brainmt_align.data.region_alleles import RegionAlleles, open_cache, read_alleles
from brainmt_align.data.regions import Region


def check_genotypes(
    genotypes: str | Path,
    reference: str | Path,
    regions: str | Path | Sequence[tuple],
    samples: Sequence[str] | None = None,
    unphased: str = "error",
    missing: str = "error",
    window: int | None = None,
    settings: HaplotypeSettings = DEFAULTS,
) -> GenotypeReport:
    """Whether `haplotypes.read_haplotypes` with the same arguments would come to its end, and what it would find.

    Raises:
        FileNotFoundError: a file or its index is absent.
        ValueError: whatever `read_haplotypes` raises, the faults of all regions in one message; with mismatch="skip" also less
            than `ref_match.REQUIRED` of the records of all regions with the FASTA's REF. Where a shift of positions, the other
            strand, swapped alleles or another build explains that REF differs, the message says so.
    """
    check_policies(unphased, missing, settings)
    faults: list[Fault] = []
    rows: list[dict] = []
    refs: Counter[str] = Counter()
    with HaplotypeSources(genotypes, reference, regions, samples, window, settings.options, settings.own_shape) as sources:
        cache = open_cache(sources, unphased, missing, settings)
        missing_S = np.zeros(len(sources.samples), dtype=np.int64)
        for region in sources.regions:
            pieces = _read(region, sources, unphased, missing, settings, cache)
            for read in pieces:
                faults += [fault._replace(text=f"{place_of(read.piece)}: {fault.text}") for fault in read.faults]
                if read.tally is not None:
                    refs.update(read.tally.counts)
                    missing_S += read.tally.missing_S
            if not faults:
                rows.append(describe_region(region, pieces, sources.contig_of(region)))
        if settings.mismatch == "skip":
            faults += find_other_build(refs, sources)
        if faults:
            refuse(faults, f"in all {len(sources.regions)} regions", sources, likely_cause(refs, sources.builds))
        return make_report(rows, sources.regions, sources.samples, missing_S, sources.notes)


def _read(
    region: Region,
    sources: HaplotypeSources,
    unphased: str,
    missing: str,
    settings: HaplotypeSettings,
    cache: AlleleCache | None,
) -> list[RegionAlleles]:
    """A region's alleles by piece; a record that cannot be read is a fault, and stands for the rest of its region."""
    try:
        return read_alleles(region, sources, unphased, missing, settings, cache)
    except ValueError as error:
        first, _, fix = str(error).partition("\n")
        remedy = fix.rpartition("fix: ")[2].rstrip(".") or "repair or drop what cannot be read"
        return [RegionAlleles(region, "", None, [Fault(first.rstrip("."), remedy)], None)]

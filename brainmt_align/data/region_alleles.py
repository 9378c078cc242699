"""Region alleles: opened sources flow in; a region's distinct alleles and tally, from the cache or the genotypes, flow out."""

from typing import NamedTuple

import numpy as np

from brainmt_align.data.allele_cache import AlleleCache
from brainmt_align.data.alleles import take_records
from brainmt_align.data.distinct_alleles import DistinctAlleles, tell_apart
from brainmt_align.data.genotype_faults import CallRules, Fault, find_faults, find_undecided
from brainmt_align.data.genotype_tally import Tally, tally_calls
from brainmt_align.data.haplotype_settings import HaplotypeSettings
from brainmt_align.data.haplotype_sources import HaplotypeSources, RegionSource
from brainmt_align.data.phase import largest_phase_sets
from brainmt_align.data.ref_match import REACH, compare_refs, count_refs
from brainmt_align.data.regions import Region


class RegionAlleles(NamedTuple):
    """One piece of a region: its reference bases and its distinct alleles, or the faults that keep it from having any.

    tally: of its records and calls, without those that were left out because of their REF; None where records are unreadable.
    """

    piece: Region
    bases: str
    found: DistinctAlleles | None
    faults: list[Fault]
    tally: Tally | None


class _Read(NamedTuple):
    """One piece as it was read, without the records that are left out; `left_out` and `counts` of its records."""

    piece: Region
    source: RegionSource
    left_out: dict[str, int]
    counts: dict[str, int]
    faults: list[Fault]


def open_cache(sources: HaplotypeSources, unphased: str, missing: str, settings: HaplotypeSettings) -> AlleleCache | None:
    """The cache that the settings name, for these sources and policies; None where they name none."""
    if settings.cache is None:
        return None
    own = {"mismatch": settings.mismatch, "undecided": settings.undecided}
    return AlleleCache(settings.cache, sources.samples, settings.options, {"unphased": unphased, "missing": missing} | own)


def read_alleles(
    region: Region,
    sources: HaplotypeSources,
    unphased: str,
    missing: str,
    settings: HaplotypeSettings,
    cache: AlleleCache | None,
) -> list[RegionAlleles]:
    """The distinct alleles of each piece of a region; what had to be read from the genotypes, and has no fault, is kept.

    All pieces are read before the first is told apart, since one phase set has to hold over all of them.

    Args:
        region: in one piece or in parts.
        sources: opened.
        unphased, missing, settings: policies, see `haplotypes.read_haplotypes`.
        cache: of these sources and policies.

    Raises:
        ValueError: see `alleles.GenotypeReader.read`.
    """
    if cache is not None and (kept := _recall(region, sources, cache)) is not None:
        return kept
    read = [_read_piece(piece, sources, settings) for piece in region.pieces()]
    largest_S = largest_phase_sets([each.piece for each in read], [each.source.alleles for each in read])
    rules = CallRules(unphased, missing, largest_S)
    told = [_tell(each, rules, sources) for each in read]
    for each in told:
        if cache is not None and each.found is not None:
            cache.save(each.piece, each.bases, sources.files_of(each.piece), each.found, each.tally, region.parts)
    return told


def _recall(region: Region, sources: HaplotypeSources, cache: AlleleCache) -> list[RegionAlleles] | None:
    """All pieces from the cache, None where it lacks any."""
    told = []
    for piece in region.pieces():
        bases = sources.fetch_bases(piece)
        kept = cache.load(piece, bases, sources.files_of(piece), region.parts)
        if kept is None:
            return None
        told.append(RegionAlleles(piece, bases, kept.found, [], kept.tally))
    return told


def _read_piece(piece: Region, sources: HaplotypeSources, settings: HaplotypeSettings) -> _Read:
    """Records without those that the settings leave out because of their REF."""
    source = sources.read(piece)
    counts = {"swapped": source.swapped, "undecided": int(source.undecided_V.sum())}
    faults = find_undecided(piece, source, sources.genotypes.suffix) if settings.undecided == "error" else []
    left_out = {
        "undecided": counts["undecided"],
        "undecided_skipped": counts["undecided"] if settings.undecided == "skip" else 0,
    }
    if left_out["undecided_skipped"]:
        source = _drop(source, np.flatnonzero(source.undecided_V))
    compared = compare_refs(piece, source.alleles, source.bases)
    refs = count_refs(piece, source.alleles, compared, sources.fetch_around(piece, REACH))
    mismatching = compared.records[~compared.equal_n] if settings.mismatch == "skip" else compared.records[:0]
    if len(mismatching):
        source = _drop(source, mismatching)
    return _Read(piece, source, left_out | {"mismatch_skipped": len(mismatching)}, counts | refs, faults)


def _drop(source: RegionSource, records: np.ndarray) -> RegionSource:
    """The source without some records, by number."""
    kept = np.setdiff1d(np.arange(len(source.alleles.refs)), records)
    return source._replace(alleles=take_records(source.alleles, kept), undecided_V=source.undecided_V[kept])


def _tell(read: _Read, rules: CallRules, sources: HaplotypeSources) -> RegionAlleles:
    """One piece's alleles told apart, or its faults."""
    alleles, bases = read.source.alleles, read.source.bases[: read.piece.bases]
    faults = read.faults + find_faults(read.piece, read.source, rules, sources)
    tally = tally_calls(read.piece, alleles, rules.largest_S)
    tally = tally._replace(counts=tally.counts | read.counts)
    if faults:
        return RegionAlleles(read.piece, bases, None, faults, tally)
    found = tell_apart(read.piece, alleles, rules.unphased, rules.missing, rules.largest_S)
    return RegionAlleles(read.piece, bases, found._replace(counts=found.counts | read.left_out), [], tally)

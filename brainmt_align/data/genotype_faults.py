"""Genotype faults: alleles and the reference of a region flow in; what keeps them from becoming sequences flows out."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import MISSING, Alleles
from brainmt_align.data.genotype_tally import SYMBOLS
from brainmt_align.data.haplotype_sources import HaplotypeSources, RegionSource
from brainmt_align.data.phase import find_missing, in_other_phase_set, without_phase
from brainmt_align.data.ref_match import REQUIRED, Cause, compare_refs
from brainmt_align.data.regions import Region
from brainmt_align.listing import SHOWN_FAULTS, list_faults, some

BASES = frozenset("ACGTRYSWKMBDHVN")  # IUPAC
SHOWN = 3  # positions in a message


class Fault(NamedTuple):
    """What is wrong and what mends it; of_ref: REF differs from the FASTA."""

    text: str
    fix: str
    of_ref: bool = False


class CallRules(NamedTuple):
    """What becomes of calls without phase or allele, see `haplotypes.read_haplotypes`.

    largest_S: (samples,) the phase set that counts of each person, see `phase.largest_phase_sets`.
    """

    unphased: str
    missing: str
    largest_S: np.ndarray | None = None


def find_faults(region: Region, source: RegionSource, rules: CallRules, sources: HaplotypeSources) -> list[Fault]:
    """REF alleles that are not the FASTA's, ALT alleles without bases, and the genotypes that the policies refuse.

    Only records that begin in the region count: others stand in no sequence.
    """
    alleles = source.alleles
    faults = _differing_refs(region, source, sources) + _foreign_letters(region, alleles)
    if rules.unphased == "error":
        policy = "set data.unphased=as_written or skip"
        faults += _refused_for_phase(region, alleles, policy)
        what = "of another phase set (FORMAT/PS) than most of their person's in this region, so without phase to them"
        remedy = f"join the phase sets, as statistical phasing does, or {policy}"
        faults += _refused_calls(region, alleles, in_other_phase_set(region, alleles, rules.largest_S), what, remedy)
    if rules.missing == "error":
        remedy = "impute the genotypes, or set data.missing=reference or N"
        faults += _refused_calls(region, alleles, find_missing(region, alleles), "missing in whole or part", remedy)
    return faults


def find_undecided(region: Region, source: RegionSource, form: str) -> list[Fault]:
    """Records of which neither the file nor the FASTA says which allele is the reference's; form: ending of the file's name."""
    undecided = np.flatnonzero(source.undecided_V)
    if not len(undecided):
        return []
    alleles = source.alleles
    shown = [
        f"{region.contig}:{alleles.positions[v] + 1} ({'/'.join(_cut(each) for each in (alleles.refs[v], *alleles.alts[v]))})"
        for v in undecided
    ]
    text = (
        f"the file does not say which allele is the reference's at {len(undecided)} of {len(alleles.refs)} variants where the "
        f"FASTA spells several, as of most indels: {some(shown, SHOWN)}"
    )
    of_bgen = ", say data.first_allele=ref if the first allele of this BGEN is the reference's" if form == ".bgen" else ""
    fix = (
        f"give a file that says it, such as the VCF that this one was made of{of_bgen}, or set data.undecided=skip to leave such "
        "records out, or file to take the file's order"
    )
    return [Fault(text, fix)]


def refuse(faults: Sequence[Fault], where: str, sources: HaplotypeSources, cause: Cause | None = None) -> None:
    """Raise all faults as one error; when they are many, one of each kind comes before the second of any.

    Args:
        faults: at least one.
        where: the region or regions.
        sources: opened.
        cause: what explains the REF alleles that differ, where any do.

    Raises:
        ValueError: always.
    """
    if cause is not None and cause.fix is not None:
        faults = [fault._replace(fix=cause.fix) if fault.of_ref else fault for fault in faults]
    seen: Counter[str] = Counter()
    ranked = []
    for fault in faults:
        ranked.append((seen[fault.fix], fault.text))
        seen[fault.fix] += 1
    if len(ranked) > SHOWN_FAULTS:
        ranked.sort(key=lambda entry: entry[0])
    raise ValueError(
        f"Haplotypes: phased, complete genotypes of bases whose REF equals the FASTA are expected {where}, "
        f"got:\n{list_faults([text for _, text in ranked])}"
        f"{f'  likely: {cause.text}{chr(10)}' if cause is not None and any(fault.of_ref for fault in faults) else ''}"
        f"  file: {sources.genotypes}\n  fix: {'; '.join(seen)}."
    )


def find_other_build(
    counts: Mapping[str, int], sources: HaplotypeSources, required: float = REQUIRED, enough: int = 0
) -> list[Fault]:
    """A fault where so many REF alleles differ from the FASTA that leaving the records out would hide a wrong file.

    Args:
        counts: as of `ref_match.count_refs`, or their sum over regions.
        sources: opened.
        required: share of the compared records that must match.
        enough: records of which more must have been compared.
    """
    compared, matches = counts["ref_compared"], counts["ref_matches"]
    if compared <= enough or matches >= required * compared:
        return []
    text = (
        f"REF is the FASTA's at {matches} of {compared} variants; at least {required:.1%} are expected, also with mismatch=skip, "
        f"which is for a few damaged records; {sources.builds}"
    )
    return [Fault(text, f"give the FASTA of the genome build that the genotypes were called on, not {sources.reference}", True)]


def place_of(region: Region) -> str:
    """A region's name and its place, 1-based."""
    return f"{region.name} ({region.contig}:{region.start + 1}-{region.end})"


def _differing_refs(region: Region, source: RegionSource, sources: HaplotypeSources) -> list[Fault]:
    """REF alleles that are not what the FASTA has: mostly another build, seldom single damaged records.

    Where the FASTA has N or another ambiguous base it tells nothing about the build, so such records are a fault of their own.
    """
    compared = compare_refs(region, source.alleles, source.bases)
    total = len(compared.refs)
    ambiguous, differing = np.flatnonzero(compared.ambiguous_n), np.flatnonzero(~compared.equal_n & ~compared.ambiguous_n)

    def show(entries: np.ndarray) -> str:
        shown = [
            f"{region.contig}:{source.alleles.positions[compared.records[n]] + 1} "
            f"(REF {_cut(compared.refs[n])}, FASTA {_cut(compared.bases[n]) or 'ends before'})"
            for n in entries
        ]
        return some(shown, SHOWN)

    faults = []
    if len(differing):
        text = f"REF differs from the FASTA at {len(differing)} of {total} variants: {show(differing)}; {sources.builds}"
        fix = f"give the FASTA of the genome build that the genotypes were called on, not {sources.reference}"
        if 2 * len(differing) <= total:
            fix = (
                f"make sure that {sources.reference} is of the genome build that the genotypes were called on; if it is, repair "
                f"these records, e.g. `bcftools norm --check-ref x -f {shlex.quote(str(sources.reference))}`, or leave them "
                "out with data.mismatch=skip"
            )
        faults.append(Fault(text, fix, of_ref=True))
    if len(ambiguous):
        text = f"the FASTA has N or another ambiguous base at the REF of {len(ambiguous)} of {total} variants: {show(ambiguous)}"
        fix = "give a FASTA that knows these bases (soft-masked, not N-masked), or drop the records or regions"
        faults.append(Fault(text, fix))
    return faults


def _cut(bases: str) -> str:
    return bases if len(bases) <= 20 else f"{bases[:20]}… ({len(bases)} bases)"


def _foreign_letters(region: Region, alleles: Alleles) -> list[Fault]:
    """ALT alleles that are neither bases nor symbolic."""
    inside = np.flatnonzero(alleles.positions >= region.start).tolist()
    spelled = [(v, alt) for v in inside for alt in alleles.alts[v] if SYMBOLS.isdisjoint(alt)]
    foreign = [(v, alt) for v, alt in spelled if not BASES.issuperset(alt)]
    if not foreign:
        return []
    v, alt = foreign[0]
    text = (
        f"ALT holds other letters than IUPAC bases in {len(foreign)} of {len(spelled)} alleles; "
        f"the first is {alt} at {region.contig}:{alleles.positions[v] + 1}"
    )
    return [Fault(text, "repair or drop these records")]


def _refused_for_phase(region: Region, alleles: Alleles, policy: str) -> list[Fault]:
    """Heterozygotes of which nothing says which haplotype has which allele."""
    calls_SV = without_phase(region, alleles)
    if not calls_SV.any():
        return []
    somewhere = (alleles.phased & (alleles.alleles[:, 0] != alleles.alleles[:, 1])).any()
    what = "heterozygous without phase" + ("" if somewhere else " (no genotype here has phase, as in an unphased file)")
    return _refused_calls(region, alleles, calls_SV, what, f"phase the genotypes, into a file that can hold phase, or {policy}")


def _refused_calls(region: Region, alleles: Alleles, calls_SV: np.ndarray, what: str, fix: str) -> list[Fault]:
    """Genotypes that a policy refuses."""
    if not calls_SV.any():
        return []
    total = len(calls_SV) * int((alleles.positions >= region.start).sum())
    s, v = np.argwhere(calls_SV)[0]
    spelling = ("|" if alleles.phased[s, v] else "/").join("." if a == MISSING else str(a) for a in alleles.alleles[s, :, v])
    text = (
        f"{calls_SV.sum()} of {total} genotypes are {what}; the first is {spelling} of {alleles.samples[s]} "
        f"at {region.contig}:{alleles.positions[v] + 1}"
    )
    return [Fault(text, fix)]

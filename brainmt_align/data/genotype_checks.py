"""Genotype checks: alleles and the reference of regions flow in; every fault of all regions, in one list, flows out.

`check_genotypes` reads all regions once, before anything dear is begun, and builds no sequence; memory is that of one region.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.genotype_records import MISSING
from brainmt_align.data.genotypes import Alleles
from brainmt_align.data.haplotype_sources import HaplotypeSources, RegionSource
from brainmt_align.data.regions import Region
from brainmt_align.listing import SHOWN_FAULTS, list_faults, some

UNPHASED_POLICIES = ("error", "as_written", "skip")
MISSING_POLICIES = ("error", "reference", "N")
CERTAIN = frozenset("ACGT")
BASES = frozenset("ACGTRYSWKMBDHVN")  # IUPAC
SYMBOLS = frozenset("<>[]*.")  # an ALT that holds one of them is symbolic: it has no bases of its own
MOSTLY = 0.5  # share of N from which a region is mentioned
SHOWN = 3  # positions in a message


class Fault(NamedTuple):
    """What is wrong and what mends it."""

    text: str
    fix: str


def check_genotypes(
    genotypes: str | Path,
    reference: str | Path,
    regions: str | Path | Sequence[tuple],
    samples: Sequence[str] | None = None,
    unphased: str = "error",
    missing: str = "error",
    window: int | None = None,
) -> list[str]:
    """Whether `haplotypes.read_haplotypes` with the same arguments would come to its end.

    Returns:
        Notes, one sentence each: regions whose reference is half or more N, regions without any variant.

    Raises:
        FileNotFoundError: a file or its index is absent.
        ValueError: whatever `read_haplotypes` raises, the faults of all regions in one message.
    """
    check_policies(unphased, missing)
    faults: list[Fault] = []
    unknown, bare = [], []
    with HaplotypeSources(genotypes, reference, regions, samples, window) as sources:
        for region in sources.regions:
            try:
                found, share, variants = _look_at(sources, region, unphased, missing)
            except ValueError as error:  # a record that cannot be read stands for the rest of its region
                first, _, fix = str(error).partition("\n")
                found, share, variants = [Fault(first.rstrip("."), fix.rpartition("fix: ")[2].rstrip("."))], 0, 1
            faults += [Fault(f"{_place(region)}: {fault.text}", fault.fix) for fault in found]
            unknown += [f"{region.name} ({share:.0%})"] if share >= MOSTLY else []
            bare += [] if variants else [region.name]
        if faults:
            refuse(faults, f"in all {len(sources.regions)} regions", sources)
        total = len(sources.regions)
    notes = [f"Half or more N in the FASTA: {len(unknown)} of {total} regions: {some(unknown, SHOWN_FAULTS)}."] if unknown else []
    return notes + ([f"No variant: {len(bare)} of {total} regions: {some(bare, SHOWN_FAULTS)}."] if bare else [])


def check_policies(unphased: str, missing: str) -> None:
    """Policies are known words.

    Raises:
        ValueError: another word.
    """
    for key, value, known in (("unphased", unphased, UNPHASED_POLICIES), ("missing", missing, MISSING_POLICIES)):
        if value not in known:
            raise ValueError(f"Haplotypes: {key} must be one of {', '.join(known)}, got {value!r}.\n  fix: set data.{key}.")


def check_region(region: Region, source: RegionSource, unphased: str, missing: str, sources: HaplotypeSources) -> None:
    """Every fault of one region in one message.

    Raises:
        ValueError: the region has faults, see `find_faults`.
    """
    faults = find_faults(region, source, unphased, missing, sources)
    if faults:
        refuse(faults, f"in region {_place(region)}", sources)


def find_faults(region: Region, source: RegionSource, unphased: str, missing: str, sources: HaplotypeSources) -> list[Fault]:
    """REF alleles that are not the FASTA's, ALT alleles without bases, and the genotypes that the policies refuse."""
    alleles = source.alleles
    faults = _differing_refs(region, source, sources) + _foreign_letters(region, alleles)
    if unphased == "error":
        policy = "set data.unphased=as_written or skip"
        what = "heterozygous without phase"
        faults += _refused_calls(region, alleles, _without_phase(alleles), what, f"phase the genotypes, or {policy}")
        what = "of another phase set (FORMAT/PS) than most of their person's in this region, so without phase to them"
        remedy = f"join the phase sets, as statistical phasing does, or {policy}"
        faults += _refused_calls(region, alleles, _in_other_phase_set(region, alleles), what, remedy)
    if missing == "error":
        calls_SV = (alleles.alleles == MISSING).any(axis=1)
        remedy = "impute the genotypes, or set data.missing=reference or N"
        faults += _refused_calls(region, alleles, calls_SV, "missing in whole or part", remedy)
    return faults


def refuse(faults: Sequence[Fault], where: str, sources: HaplotypeSources) -> None:
    """Raise all faults as one error; when they are many, one of each kind comes before the second of any.

    Raises:
        ValueError: always.
    """
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
        f"  file: {sources.genotypes}\n  fix: {'; '.join(seen)}."
    )


def find_unphased(region: Region, alleles: Alleles) -> np.ndarray:
    """(samples, variants) bool: the two alleles differ and nothing says which haplotype has which.

    That is so without `|`, and also where `|` holds within another phase set than that of most of the person's heterozygotes
    in the region: two phase sets do not say which haplotype of one goes with which of the other.
    """
    return _without_phase(alleles) | _in_other_phase_set(region, alleles)


def _place(region: Region) -> str:
    return f"{region.name} ({region.contig}:{region.start + 1}-{region.end})"


def _look_at(sources: HaplotypeSources, region: Region, unphased: str, missing: str) -> tuple[list[Fault], float, int]:
    """Faults, share of N and number of variants of one region; a function, so that its genotypes go before the next come."""
    source = sources.read(region)
    share = source.bases.count("N", 0, region.end - region.start) / (region.end - region.start)
    return find_faults(region, source, unphased, missing, sources), share, len(source.alleles.refs)


def _differing_refs(region: Region, source: RegionSource, sources: HaplotypeSources) -> list[Fault]:
    """REF alleles that are not what the FASTA has: mostly another build, seldom single damaged records.

    Where the FASTA has N or another ambiguous base it tells nothing about the build, so such records are a fault of their own.
    """
    offsets = (source.alleles.positions - region.start).tolist()
    found = [(at, ref, source.bases[at : at + len(ref)]) for at, ref in zip(offsets, source.alleles.refs, strict=True) if at >= 0]
    unequal = [entry for entry in found if entry[1] != entry[2]]
    ambiguous = [entry for entry in unequal if _differs_by_ambiguity(*entry[1:])]
    differing = [entry for entry in unequal if not _differs_by_ambiguity(*entry[1:])]

    def show(entries: list[tuple[int, str, str]]) -> str:
        shown = [
            f"{region.contig}:{region.start + at + 1} (REF {_cut(ref)}, FASTA {_cut(base) or 'ends before'})"
            for at, ref, base in entries
        ]
        return some(shown, SHOWN)

    faults = []
    if differing:
        text = f"REF differs from the FASTA at {len(differing)} of {len(found)} variants: {show(differing)}; {sources.builds}"
        fix = f"give the FASTA of the genome build that the genotypes were called on, not {sources.reference}"
        if 2 * len(differing) <= len(found):
            fix = (
                f"make sure that {sources.reference} is of the genome build that the genotypes were called on; if it is, repair "
                f"these records, e.g. `bcftools norm --check-ref x -f {shlex.quote(str(sources.reference))}`"
            )
        faults.append(Fault(text, fix))
    if ambiguous:
        text = (
            f"the FASTA has N or another ambiguous base at the REF of {len(ambiguous)} of {len(found)} variants: "
            f"{show(ambiguous)}"
        )
        fix = "give a FASTA that knows these bases (soft-masked, not N-masked), or drop the records or regions"
        faults.append(Fault(text, fix))
    return faults


def _differs_by_ambiguity(ref: str, base: str) -> bool:
    """The FASTA spells the REF but for letters other than A, C, G, T."""
    return len(ref) == len(base) and all(a == b or b not in CERTAIN for a, b in zip(ref, base, strict=True))


def _cut(bases: str) -> str:
    return bases if len(bases) <= 20 else f"{bases[:20]}… ({len(bases)} bases)"


def _foreign_letters(region: Region, alleles: Alleles) -> list[Fault]:
    """ALT alleles that are neither bases nor symbolic."""
    spelled = [(v, alt) for v, alts in enumerate(alleles.alts) for alt in alts if SYMBOLS.isdisjoint(alt)]
    foreign = [(v, alt) for v, alt in spelled if not BASES.issuperset(alt)]
    if not foreign:
        return []
    v, alt = foreign[0]
    text = (
        f"ALT holds other letters than IUPAC bases in {len(foreign)} of {len(spelled)} alleles; "
        f"the first is {alt} at {region.contig}:{alleles.positions[v] + 1}"
    )
    return [Fault(text, "repair or drop these records")]


def _refused_calls(region: Region, alleles: Alleles, calls_SV: np.ndarray, what: str, fix: str) -> list[Fault]:
    """Genotypes that a policy refuses."""
    if not calls_SV.any():
        return []
    s, v = np.argwhere(calls_SV)[0]
    spelling = ("|" if alleles.phased[s, v] else "/").join("." if a == MISSING else str(a) for a in alleles.alleles[s, :, v])
    text = (
        f"{calls_SV.sum()} of {calls_SV.size} genotypes are {what}; the first is {spelling} of {alleles.samples[s]} "
        f"at {region.contig}:{alleles.positions[v] + 1}"
    )
    return [Fault(text, fix)]


def _without_phase(alleles: Alleles) -> np.ndarray:
    """(samples, variants) bool: heterozygous and written without `|`."""
    return ~alleles.phased & (alleles.alleles[:, 0] != alleles.alleles[:, 1])


def _in_other_phase_set(region: Region, alleles: Alleles) -> np.ndarray:
    """(samples, variants) bool: phased heterozygotes of the region outside their person's largest phase set there."""
    other_SV = np.zeros(alleles.phased.shape, dtype=bool)
    if alleles.phase_sets is None:
        return other_SV
    phased_SV = alleles.phased & (alleles.alleles[:, 0] != alleles.alleles[:, 1]) & (alleles.positions >= region.start)
    for s in np.flatnonzero(phased_SV.sum(axis=1) > 1):
        sets, times = np.unique(alleles.phase_sets[s, phased_SV[s]], return_counts=True)
        other_SV[s] = phased_SV[s] & (alleles.phase_sets[s] != sets[times.argmax()])
    return other_SV

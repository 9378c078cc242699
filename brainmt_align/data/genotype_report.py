"""Genotype report: what was read of each region flows in; a table of regions, one of people and notes on both flow out.

Ids of people stand in the table of people and in `people_notes` alone, so that everything else may leave the machine.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainmt_align.data.region_alleles import RegionAlleles
from brainmt_align.data.regions import Region
from brainmt_align.listing import SHOWN_FAULTS, some

MOSTLY = 0.5  # share of N from which a region is mentioned


class GenotypeReport(NamedTuple):
    """What genotypes, reference and regions are like.

    Attributes:
        regions: one row a region, in their order: `name`, `contig`, `contig_in_file` as the genotypes name it, `start`,
            `end` (0-based half-open), `bases`; records that
            overlap it: `variants`, `snps`, `indels`, `multiallelic`, `symbolic`; of those that begin in it `ref_compared`,
            `ref_matches` of them as the FASTA has it, `ref_match_rate`, `mismatch_skipped` and `undecided_skipped` left out for
            their REF (and not among the variants); of genotypes (people × records that begin in it) `genotypes`, `heterozygous`,
            `phase_rate` of these, `missing_rate` with a half call counted as missing; `unknown_bases`, share of N; `swapped`
            records whose REF the FASTA settled against the file's order, `undecided` where it could not; `haplotypes`, two a
            person, `distinct_allele_vectors` among them, and `monomorphic`: all alike. A rate of nothing is NaN. Records of two
            regions count in both.
        people: one row a person, in the order of the request: `sample`, `genotypes`, `missing`, `missing_rate`. It is for
            callers: no recipe writes it, since a run folder may leave the machine.
        notes: one sentence each, nobody named.
        people_notes: the same, each ending in ids behind a colon.
    """

    regions: pd.DataFrame
    people: pd.DataFrame
    notes: list[str]
    people_notes: list[str]


def make_report(
    rows: Sequence[dict], regions: Sequence[Region], samples: Sequence[str], missing_S: np.ndarray, notes: Sequence[str] = ()
) -> GenotypeReport:
    """Tables and their notes.

    Args:
        rows: as of `describe_region`, one a region.
        regions: the same.
        samples: ids.
        missing_S: (samples,) int, missing genotypes of each person in all regions.
        notes: of the files themselves, nobody named; they come first.
    """
    table = pd.DataFrame(rows)
    total = int(table["genotypes"].sum()) // len(samples)
    people = pd.DataFrame({"sample": list(samples), "genotypes": total, "missing": missing_S})
    people["missing_rate"] = people["missing"] / total if total else np.nan
    absent = people["sample"][(people["missing"] == total) & (total > 0)].tolist()
    told = f"Without any called genotype: {len(absent)} of {len(people)} people: {some(absent, SHOWN_FAULTS)}."
    return GenotypeReport(table, people, [*notes, *_write_notes(table, regions)], [told] if absent else [])


def describe_region(region: Region, pieces: Sequence[RegionAlleles], contig_in_file: str) -> dict:
    """The row of a region, of its pieces without faults, and of its contig's name in the genotypes."""
    counts: Counter[str] = Counter()
    for piece in pieces:
        counts.update(piece.tally.counts)
    vectors = _count_vectors([piece.found.index for piece in pieces])
    kinds = ("variants", "snps", "indels", "multiallelic", "symbolic", "ref_compared", "ref_matches")
    return {
        **{key: getattr(region, key) for key in ("name", "contig")},
        "contig_in_file": contig_in_file,
        **{key: getattr(region, key) for key in ("start", "end", "bases")},
        **{key: counts[key] for key in kinds},
        "ref_match_rate": _share(counts["ref_matches"], counts["ref_compared"]),
        "mismatch_skipped": sum(piece.found.counts["mismatch_skipped"] for piece in pieces),
        "undecided_skipped": sum(piece.found.counts["undecided_skipped"] for piece in pieces),
        "genotypes": counts["genotypes"],
        "heterozygous": counts["heterozygous"],
        "phase_rate": _share(counts["phased"], counts["heterozygous"]),
        "missing_rate": _share(counts["missing"], counts["genotypes"]),
        "unknown_bases": _share(sum(piece.bases.count("N") for piece in pieces), region.bases),
        "swapped": counts["swapped"],
        "undecided": counts["undecided"],
        "haplotypes": pieces[0].found.index.size,
        "distinct_allele_vectors": vectors,
        "monomorphic": vectors == 1,
    }


def _write_notes(table: pd.DataFrame, regions: Sequence[Region]) -> list[str]:
    """What is worth a sentence."""
    bare, masked = table["variants"] == 0, table["unknown_bases"] >= MOSTLY
    shares = [f"{name} ({share:.0%})" for name, share in table.loc[masked, ["name", "unknown_bases"]].itertuples(index=False)]
    alike = table["name"][table["monomorphic"] & ~bare]
    skipped, compared = int(table["mismatch_skipped"].sum()), int(table["ref_compared"].sum())
    kept = "are left out" if table["undecided_skipped"].any() else "stay in the file's order"
    swapped, undecided, variants = (int(table[key].sum()) for key in ("swapped", "undecided", "variants"))
    variants += int(table["undecided_skipped"].sum())
    notes = [
        _name_regions("Half or more N in the FASTA", shares, len(table)),
        _name_regions("No variant", table["name"][bare], len(table)),
        _name_regions("Variants, but all haplotypes alike (monomorphic)", alike, len(table)),
        _name_regions("Overlapping another region, so that records count in both", _find_overlaps(regions), len(table)),
    ]
    if skipped:
        where = _name_regions("in", table["name"][table["mismatch_skipped"] > 0], len(table))
        notes.append(f"Left out, since their REF is not the FASTA's: {skipped:,} of {compared:,} records, {where}")
    if swapped or undecided:
        notes.append(
            f"REF settled by the FASTA, since the file does not say it: {swapped:,} of {variants:,} records were the other way "
            f"round; {undecided:,} fit it either way and {kept}."
        )
    return [note for note in notes if note]


def _name_regions(what: str, names: Sequence[str], total: int) -> str | None:
    """A sentence on some regions, None where there are none."""
    names = list(names)
    return f"{what}: {len(names)} of {total} regions: {some(names, SHOWN_FAULTS)}." if names else None


def _find_overlaps(regions: Sequence[Region]) -> list[str]:
    """Names of regions that share bases with another."""
    pieces = sorted((p.contig, p.start, p.end, number) for number, region in enumerate(regions) for p in region.pieces())
    shared: set[int] = set()
    widest = ("", 0, 0, -1)  # the piece so far that reaches furthest
    for piece in pieces:
        if piece[0] == widest[0] and piece[1] < widest[2]:
            shared |= {piece[3], widest[3]}
        if piece[0] != widest[0] or piece[2] > widest[2]:
            widest = piece
    return [regions[number].name for number in sorted(shared)]


def _count_vectors(indices: Sequence[np.ndarray]) -> int:
    """Distinct haplotypes of a region in one or more pieces, each with its (samples, 2) numbers of distinct vectors."""
    if len(indices) == 1:
        return int(indices[0].max()) + 1
    return len(np.unique(np.stack([index.ravel() for index in indices], axis=1), axis=0))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")

"""Haplotypes: alleles and a reference FASTA flow in; the distinct personal sequences of each region flow out.

On an upper-case FASTA the sequence of a haplotype is what `samtools faidx REF contig:from-to | bcftools consensus -H 1|2 -s
SAMPLE` writes, with bcftools 1.16 (on lower-case bases that one writes the first base of a touching indel anew, this room never):

* records are applied from left to right; one that begins inside bases that an earlier ALT of the same haplotype has replaced is
  skipped, and so is one that shares just the last of them, unless it is an anchored indel (`A>AT`, `AT>A`) behind no insertion;
* a record that begins before the region is left out, even where its deletion reaches in;
* a record that runs over the region's end is cut there, REF and ALT to the same number of bases;
* `<DEL>` keeps its first base and drops the rest up to INFO/END.

Where bcftools stops with an error or writes the letters of a symbolic allele (`<INS>`, `<DUP>`, breakends, `*`), the record is
skipped for that haplotype and counted, and so is a `<DEL>` without an INFO/END behind its REF. Letters of an ALT that are no
IUPAC bases are a fault of the file and refused. A haploid call stands on both haplotypes; bcftools leaves the second as
reference.
Sequences are upper case and always of the plus strand; `strand` is carried along for whoever reads the gene in its own direction.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.genotype_checks import SYMBOLS, check_policies, check_region, find_unphased
from brainmt_align.data.genotype_records import MISSING
from brainmt_align.data.genotypes import Alleles
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.regions import Region


class RegionHaplotypes(NamedTuple):
    """The personal sequences of one region.

    Attributes:
        name, contig, start, end, strand: of the region, after windowing; 0-based half-open.
        samples: sample ids, the rows of `index`.
        sequences: distinct sequences, upper case, plus strand.
        index: (samples, 2) int32 into `sequences`.
        reference: the region's reference sequence, upper case, plus strand.
        counts: `variants` records that overlap the region; `unphased` heterozygous and `missing` genotypes (people × records);
            `alts_applied`, `overlapping_skipped`, `symbolic_skipped`, `outside_skipped` ALT alleles (haplotypes × records);
            `unknown_bases` N of the reference.
        unphased, missing, window: the settings that made them.
    """

    name: str
    contig: str
    start: int
    end: int
    strand: str
    samples: list[str]
    sequences: list[str]
    index: np.ndarray
    reference: str
    counts: dict[str, int]
    unphased: str = "error"
    missing: str = "error"
    window: int | None = None


class _Edit(NamedTuple):
    """One ALT allele: what replaces reference[start:stop] of the region; anchored: a pure indel behind a base that stays."""

    start: int
    stop: int
    alt: str
    anchored: bool


def read_haplotypes(
    genotypes: str | Path,
    reference: str | Path,
    regions: str | Path | Sequence[tuple],
    samples: Sequence[str] | None = None,
    unphased: str = "error",
    missing: str = "error",
    window: int | None = None,
) -> Iterator[RegionHaplotypes]:
    """The distinct haplotype sequences of each region, one region in memory at a time; each sequence is built once.

    Files, samples, contigs and coordinates are checked at the call, the genotypes of a region when it is its turn;
    `genotype_checks.check_genotypes` checks those of all regions beforehand.

    Args:
        genotypes: VCF or BCF with its index, see `genotypes.GenotypeFile`.
        reference: FASTA of the same build, plain or bgzipped, with its `.fai` (and `.gzi`).
        regions: see `read_regions`.
        samples: ids, in this order; all of the file without it.
        unphased: heterozygotes without phase: "error", "as_written" (first allele = first haplotype), "skip" (both haplotypes
            keep the reference there). A person with more than one phase set (FORMAT/PS) in a region has no phase between them:
            the heterozygotes outside the largest one count as unphased.
        missing: alleles that were not called: "error", "reference", "N" (the first REF base becomes N, as with `bcftools -M N`).
        window: bases around the centre of each region, see `read_regions`.

    Raises:
        FileNotFoundError: a file or its index is absent.
        ValueError: unknown policy, sample or contig, a region outside its contig; while iterating: REF alleles that differ from
            the FASTA, ALT alleles with other letters than bases, unphased or missing genotypes under the policy "error" (those
            of one region in one message).
    """
    check_policies(unphased, missing)
    sources = HaplotypeSources(genotypes, reference, regions, samples, window)

    def read(region: Region) -> RegionHaplotypes:  # a function, so that a region's genotypes go before the next ones come
        source = sources.read(region)
        check_region(region, source, unphased, missing, sources)
        haplotypes = _build_region(region, source.alleles, source.bases[: region.end - region.start], unphased, missing)
        return haplotypes._replace(unphased=unphased, missing=missing, window=window)

    def each_region() -> Iterator[RegionHaplotypes]:
        with sources:
            for region in sources.regions:
                yield read(region)

    return each_region()


def list_regions(
    genotypes: str | Path,
    reference: str | Path,
    regions: str | Path | Sequence[tuple],
    samples: Sequence[str] | None = None,
    unphased: str = "error",
    missing: str = "error",
    window: int | None = None,
) -> list[Region]:
    """The regions that `read_haplotypes` with the same arguments reads, after windowing; no genotype is read.

    Raises:
        FileNotFoundError, ValueError: as `read_haplotypes` does at the call.
    """
    check_policies(unphased, missing)
    with HaplotypeSources(genotypes, reference, regions, samples, window) as sources:
        return sources.regions


def describe_counts(counts: Mapping[str, int]) -> str | None:
    """One sentence on the ALT alleles that stand in no sequence, None where all do.

    Args:
        counts: as of `RegionHaplotypes`, or their sum over regions.
    """
    kinds = (
        ("outside_skipped", "of records that begin before their region, even where they reach into it"),
        ("symbolic_skipped", "symbolic"),
        ("overlapping_skipped", "overlapping one before them"),
    )
    skipped = [f"{counts[key]:,} {what}" for key, what in kinds if counts.get(key)]
    return f"ALT alleles left out, as bcftools consensus does: {'; '.join(skipped)}." if skipped else None


def _build_region(region: Region, alleles: Alleles, reference: str, unphased: str, missing: str) -> RegionHaplotypes:
    """Tell haplotypes apart by their allele vectors, build each distinct vector once, join vectors that spell the same string."""
    unphased_SV = find_unphased(region, alleles)
    numbers_SHV = alleles.alleles.copy()
    missing_count = int((numbers_SHV == MISSING).any(axis=1).sum())
    if unphased == "skip":
        numbers_SHV[np.broadcast_to(unphased_SV[:, None], numbers_SHV.shape)] = 0
    if missing == "reference":
        numbers_SHV[numbers_SHV == MISSING] = 0
    begins_before = alleles.positions < region.start
    outside = int(np.count_nonzero(numbers_SHV[:, :, begins_before]))
    numbers_SHV[:, :, begins_before] = 0

    rows, row_of, times = _distinct_rows(numbers_SHV.reshape(2 * len(alleles.samples), -1))
    edits: dict[tuple[int, int], _Edit | None] = {}
    sequences: dict[str, int] = {}
    sequence_of_row = np.empty(len(rows), dtype=np.int32)
    applied = overlapping = symbolic = 0
    for number, (row, people) in enumerate(zip(rows, times.tolist(), strict=True)):
        carried = [(v, int(row[v])) for v in np.flatnonzero(row).tolist()]
        for key in carried:
            if key not in edits:
                edits[key] = _make_edit(alleles, *key, region)
        usable = [edits[key] for key in carried if edits[key] is not None]
        sequence, skipped = _apply(reference, usable)
        sequence_of_row[number] = sequences.setdefault(sequence, len(sequences))
        applied += people * (len(usable) - skipped)
        overlapping += people * skipped
        symbolic += people * (len(carried) - len(usable))
    counts = {
        "variants": len(alleles.refs),
        "alts_applied": applied,
        "overlapping_skipped": overlapping,
        "symbolic_skipped": symbolic,
        "outside_skipped": outside,
        "unphased": int(unphased_SV.sum()),
        "missing": missing_count,
        "unknown_bases": reference.count("N"),
    }
    index = sequence_of_row[row_of].reshape(len(alleles.samples), 2)
    where = (region.name, region.contig, region.start, region.end, region.strand)
    return RegionHaplotypes(*where, alleles.samples, list(sequences), index, reference, counts)


def _distinct_rows(rows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Distinct rows in order of appearance, the number of the distinct row of each row, and how often each appears."""
    varying = np.ascontiguousarray(rows[:, rows.any(axis=0)])
    numbers: dict[bytes, int] = {}
    row_of = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in varying], dtype=np.intp)
    first = np.unique(row_of, return_index=True)[1]
    return [rows[i] for i in first], row_of, np.bincount(row_of)


def _make_edit(alleles: Alleles, v: int, number: int, region: Region) -> _Edit | None:
    """The replacement that an allele stands for, cut at the region's end; None for a symbolic allele without bases or END."""
    ref, start = alleles.refs[v], int(alleles.positions[v]) - region.start
    if number == MISSING:
        return _Edit(start, start + 1, "N", anchored=False)
    alt = alleles.alts[v][number - 1]
    room = region.end - region.start - start
    if alt == "<DEL>" and alleles.stops[v] - alleles.positions[v] > len(ref):
        return _Edit(start, start + min(int(alleles.stops[v] - alleles.positions[v]), room), ref[0], anchored=True)
    if not SYMBOLS.isdisjoint(alt):
        return None
    length = min(len(ref), room)
    return _Edit(start, start + length, alt if length == len(ref) else alt[:length], _is_anchored_indel(ref, alt))


def _is_anchored_indel(ref: str, alt: str) -> bool:
    """One allele is the other plus one inserted stretch, behind a first base that both share."""
    short, long = sorted((ref, alt), key=len)
    shared = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return shared > 0 and len(short) < len(long) and long.endswith(short[shared:])


def _apply(reference: str, edits: list[_Edit]) -> tuple[str, int]:
    """One haplotype's sequence from its edits in file order, and how many of them were skipped as overlapping."""
    pieces: list[str] = []
    done, skipped, after_insertion = 0, 0, False
    for start, stop, alt, anchored in edits:
        if start >= done:
            pieces += reference[done:start], alt
        elif start == done - 1 and anchored and not after_insertion:
            pieces.append(alt[1:])
        else:
            skipped += 1
            continue
        done, after_insertion = stop, len(alt) > stop - start
    return "".join([*pieces, reference[done:]]), skipped

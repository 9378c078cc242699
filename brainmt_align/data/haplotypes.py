"""Haplotypes: alleles and a reference FASTA flow in; the distinct personal sequences of each region flow out.

On an upper-case FASTA the sequence of a haplotype is what `samtools faidx REF contig:from-to | bcftools consensus -H 1|2 -s
SAMPLE` writes, with bcftools 1.16 (on lower-case bases that one writes the first base of a touching indel anew, this room never):

* records are applied from left to right; one that begins inside bases that an earlier ALT of the same haplotype has replaced is
  skipped, and so is one that shares just the last of them, unless it is an anchored indel (`A>AT`, `AT>A`) behind no insertion;
* a record that begins before the region is left out, even where its deletion reaches in;
* a record that runs over the region's end is cut there, REF and ALT to the same number of bases;
* `<DEL>` keeps its first base and drops the rest up to INFO/END, with symbolic="apply".

Where bcftools stops with an error or writes the letters of a symbolic allele (`<INS>`, `<DUP>`, breakends, `*`), the record is
skipped for that haplotype and counted, and so is a `<DEL>` without an INFO/END behind its REF, whatever its SVLEN. One case
differs: beside a `<DEL>` in the same record, bcftools holds the deletion's END against the spelled ALT alleles too, and stops
with an error or, where that END lies behind the region, cuts them there; this room goes by their own REF. Letters of an ALT that
are no IUPAC bases are a fault of the file and refused. A haploid call stands on both haplotypes; bcftools leaves the second as
reference. Sequences are upper case, of the plus strand unless they are asked for in the direction of their gene.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import MISSING
from brainmt_align.data.distinct_alleles import DistinctAlleles, find_distinct
from brainmt_align.data.genotype_faults import find_other_build, place_of, refuse
from brainmt_align.data.genotype_tally import SYMBOLS
from brainmt_align.data.haplotype_building import Edit, Indels, spell
from brainmt_align.data.haplotype_coordinates import CoordinateMap, Part, map_coordinates
from brainmt_align.data.haplotype_settings import DEFAULTS, HaplotypeSettings, check_policies
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.ref_match import ENOUGH, likely_cause
from brainmt_align.data.region_alleles import RegionAlleles, open_cache, read_alleles
from brainmt_align.data.regions import Region

HALF = 0.5  # of the REF alleles of the regions read so far; `genotype_checks` asks for more, of all of them
COMPLEMENT = str.maketrans("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN")


class RegionHaplotypes(NamedTuple):
    """The personal sequences of one region.

    Attributes:
        name, contig, start, end, strand: of the region, after windowing; 0-based half-open.
        samples: sample ids, the rows of `index`.
        sequences: distinct sequences, upper case.
        index: (samples, 2) int32 into `sequences`.
        reference: the region's reference sequence, as the sequences are written.
        counts: `variants` records that overlap the region; of those that begin in it `unphased` heterozygous and `missing`
            genotypes (people × records); `alts_applied`, `overlapping_skipped`, `symbolic_skipped`, `outside_skipped` ALT alleles
            (haplotypes × records); `mismatch_skipped` records whose REF is not the FASTA's and `undecided_skipped` those of which
            nothing tells the REF, neither among the variants; `unknown_bases` N of the reference; `allele_vectors` by which
            haplotypes were told apart.
        unphased, missing, window: the settings that made them.
        oriented: "plus", or "gene": regions of strand "-" are written as their reverse complement.
        symbolic, mismatch, undecided: what became of `<DEL>`, of records whose REF is not the FASTA's, and of those of which
            neither file nor FASTA tells the REF; the last two are "error" where there is no such record.
        sites: (variants,) int64 0-based positions in the contig of the records that begin in the region, each once: the same for
            everyone, whoever carries an ALT there.
        changes: of each sequence its stretches and their indels, for `map_of`.
        parts: of the region, where it is joined of some.
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
    oriented: str = "plus"
    symbolic: str = "apply"
    mismatch: str = "error"
    sites: np.ndarray = np.empty(0, dtype=np.int64)
    changes: Sequence[Sequence[Part]] = ()
    parts: tuple[tuple[int, int], ...] = ()
    undecided: str = "error"

    @property
    def reversed(self) -> bool:
        """The sequences are reverse complements of the plus strand."""
        return self.oriented == "gene" and self.strand == "-"

    @property
    def place(self) -> str:
        """Where the sequences lie, as `Region.place` writes it; with `(-)` where they are reverse complements."""
        strand = "-" if self.reversed else "+"
        return Region(self.contig, self.start, self.end, self.name, strand, self.parts).place

    def map_of(self, sequence: int) -> CoordinateMap:
        """Coordinates of `sequences[sequence]`; where several allele vectors spell it, those of the first of them."""
        return map_coordinates(self.changes[sequence], self.reversed)

    def map_of_reference(self) -> CoordinateMap:
        """Coordinates of `reference`."""
        none = np.empty(0, dtype=np.int32)
        return map_coordinates([part._replace(indels=Indels(none, none, none)) for part in self.changes[0]], self.reversed)

    def lift_sites(self, sequence: int) -> np.ndarray:
        """(variants,) int64: where each of `sites` lies in `sequences[sequence]`, so that all are pooled at the same places."""
        return self.map_of(sequence).to_sequence(self.sites)


def read_haplotypes(
    genotypes: str | Path,
    reference: str | Path,
    regions: str | Path | Sequence[tuple],
    samples: Sequence[str] | None = None,
    unphased: str = "error",
    missing: str = "error",
    window: int | None = None,
    settings: HaplotypeSettings = DEFAULTS,
) -> Iterator[RegionHaplotypes]:
    """The distinct haplotype sequences of each region, one region in memory at a time; each sequence is built once.

    Files, samples, contigs and coordinates are checked at the call, the genotypes of a region when it is its turn;
    `genotype_checks.check_genotypes` checks those of all regions beforehand.

    Args:
        genotypes: see `genotypes.open_genotypes`.
        reference: FASTA of the same build, plain or bgzipped, with its `.fai` (and `.gzi`).
        regions: see `read_regions`.
        samples: ids, in this order; all of the file without it.
        unphased: heterozygotes without phase: "error", "as_written" (first allele = first haplotype), "skip" (both haplotypes
            keep the reference there; of a half call the one that lacks its allele follows `missing`). A person with more than one
            phase set (FORMAT/PS) in a region, all parts of it together, has no phase between them: the heterozygotes outside the
            largest one count as unphased.
        missing: alleles that were not called: "error", "reference", "N" (the first REF base becomes N, as with `bcftools -M N`).
        window: bases around the centre of each region, see `read_regions`.
        settings: the rest.

    Raises:
        FileNotFoundError: a file or its index is absent.
        ValueError: unknown policy, sample or contig, a region outside its contig; while iterating: REF alleles that differ from
            the FASTA, ALT alleles with other letters than bases, unphased or missing genotypes under the policy "error" (those of
            one region in one message), records of which nothing tells the REF under undecided="error"; more than 30 records of
            which less than half have the FASTA's REF, also with mismatch="skip".
    """
    check_policies(unphased, missing, settings)
    sources = HaplotypeSources(genotypes, reference, regions, samples, window, settings.options, settings.own_shape)
    cache = open_cache(sources, unphased, missing, settings)
    refs: Counter[str] = Counter()  # of all regions so far

    def build_piece(read: RegionAlleles) -> RegionHaplotypes:
        piece = read.piece
        refs.update(read.tally.counts)
        if read.found is None:
            refuse(read.faults, f"in region {place_of(piece)}", sources, likely_cause(read.tally.counts, sources.builds))
        if faults := find_other_build(refs, sources, HALF, ENOUGH):
            refuse(faults, f"up to region {place_of(piece)}", sources, likely_cause(refs, sources.builds))
        return _build(piece, read.found, read.bases, settings.symbolic)

    def read(region: Region) -> RegionHaplotypes:
        spelled = [build_piece(each) for each in read_alleles(region, sources, unphased, missing, settings, cache)]
        haplotypes = _join(region, spelled) if len(spelled) > 1 else spelled[0]
        haplotypes = haplotypes._replace(unphased=unphased, missing=missing, window=window, parts=region.parts)
        counts, made = haplotypes.counts, {"oriented": settings.oriented, "symbolic": settings.symbolic}
        made |= {"mismatch": settings.mismatch if counts["mismatch_skipped"] else "error"}
        made |= {"undecided": settings.undecided if counts["undecided"] else "error"}
        haplotypes = haplotypes._replace(**made)
        return _reverse(haplotypes) if haplotypes.reversed else haplotypes

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
    settings: HaplotypeSettings = DEFAULTS,
) -> list[Region]:
    """The regions that `read_haplotypes` with the same arguments reads, after windowing; no genotype is read.

    Raises:
        FileNotFoundError, ValueError: as `read_haplotypes` does at the call.
    """
    check_policies(unphased, missing, settings)
    with HaplotypeSources(genotypes, reference, regions, samples, window, settings.options, settings.own_shape) as sources:
        return sources.regions


def reverse_complement(sequence: str) -> str:
    """Upper-case IUPAC bases as the other strand reads them."""
    return sequence.translate(COMPLEMENT)[::-1]


def spell_reference(region: Region, sources: HaplotypeSources, oriented: str) -> str:
    """A region's reference sequence as `read_haplotypes` gives it, without a look at the genotypes.

    Args:
        region: one of the sources' regions.
        sources: opened.
        oriented: see `HaplotypeSettings`.
    """
    bases = "".join(map(sources.fetch_bases, region.pieces()))
    return reverse_complement(bases) if oriented == "gene" and region.strand == "-" else bases


def describe_counts(counts: Mapping[str, int]) -> str | None:
    """A sentence on the ALT alleles that stand in no sequence and one on records left out, None where there is neither.

    Args:
        counts: as of `RegionHaplotypes`, or their sum over regions.
    """
    kinds = (
        ("outside_skipped", "of records that begin before their region, even where they reach into it"),
        ("symbolic_skipped", "symbolic"),
        ("overlapping_skipped", "overlapping one before them"),
    )
    skipped = [f"{counts[key]:,} {what}" for key, what in kinds if counts.get(key)]
    told = [f"ALT alleles left out, as bcftools consensus does: {'; '.join(skipped)}."] if skipped else []
    if mismatching := counts.get("mismatch_skipped"):
        told.append(f"Records left out, since their REF is not the FASTA's: {mismatching:,}.")
    if undecided := counts.get("undecided_skipped"):
        told.append(
            f"Records left out, since neither the file nor the FASTA says which allele is the reference's: {undecided:,}."
        )
    return " ".join(told) or None


def _build(region: Region, found: DistinctAlleles, reference: str, symbolic: str) -> RegionHaplotypes:
    """Spell each distinct allele vector once, and join vectors that spell the same string."""
    rows, carried = np.nonzero(found.rows)
    numbers = found.rows[rows, carried].astype(np.int64)
    span = int(numbers.max(initial=0)) + 2  # MISSING is -1
    keys, edit_of = np.unique(carried * span + numbers + 1, return_inverse=True)
    made = [_make_edit(found, key // span, key % span - 1, region, symbolic) for key in keys.tolist()]
    usable = np.array([edit is not None for edit in made], dtype=bool)
    place = np.cumsum(usable) - 1  # of each usable edit among them
    kept = usable[edit_of]
    row_starts = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(found.rows)))])
    spelled = spell(reference, [edit for edit in made if edit is not None], row_starts, place[edit_of[kept]])
    people_R = np.bincount(found.index.ravel(), minlength=len(found.rows))
    overlapping = int(people_R @ spelled.skipped_R)
    counts = found.counts | {
        "alts_applied": int(people_R @ np.diff(row_starts)) - overlapping,
        "overlapping_skipped": overlapping,
        "symbolic_skipped": int(people_R @ np.bincount(rows[~kept], minlength=len(found.rows))),
        "unknown_bases": reference.count("N"),
        "allele_vectors": len(found.rows),
    }
    where = (region.name, region.contig, region.start, region.end, region.strand)
    sites = np.unique(found.positions[found.positions >= region.start])
    changes = [(Part(region.start, region.end, indels),) for indels in spelled.indels]
    index = spelled.sequence_of_row[found.index]
    built = RegionHaplotypes(*where, found.samples, spelled.sequences, index, reference, counts)
    return built._replace(sites=sites, changes=changes)


def _make_edit(found: DistinctAlleles, v: int, number: int, region: Region, symbolic: str) -> Edit | None:
    """The replacement that an allele stands for, cut at the region's end; None for a symbolic allele without bases or END."""
    ref, start = found.refs[v], int(found.positions[v]) - region.start
    if number == MISSING:
        return Edit(start, start + 1, "N", anchored=False)
    alt = found.alts[v][number - 1]
    room = region.end - region.start - start
    if alt == "<DEL>" and symbolic == "apply" and found.stops[v] - found.positions[v] > len(ref):
        return Edit(start, start + min(int(found.stops[v] - found.positions[v]), room), ref[0], anchored=True)
    if not SYMBOLS.isdisjoint(alt):
        return None
    length = min(len(ref), room)
    return Edit(start, start + length, alt if length == len(ref) else alt[:length], _is_anchored_indel(ref, alt))


def _is_anchored_indel(ref: str, alt: str) -> bool:
    """One allele is the other plus one inserted stretch, behind a first base that both share."""
    if len(ref) == len(alt):
        return False
    short, long = sorted((ref, alt), key=len)
    shared = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return shared > 0 and long.endswith(short[shared:])


def _join(region: Region, pieces: list[RegionHaplotypes]) -> RegionHaplotypes:
    """The pieces' sequences one behind the other, each distinct combination once."""
    combinations_SH = np.stack([piece.index for piece in pieces], axis=-1)
    firsts, index = find_distinct(combinations_SH)
    sequences: dict[str, int] = {}
    changes: list[tuple[Part, ...]] = []
    number_of = np.empty(len(firsts), dtype=np.int32)
    for row, combination in enumerate(combinations_SH.reshape(-1, len(pieces))[firsts].tolist()):
        joined = "".join(piece.sequences[i] for piece, i in zip(pieces, combination, strict=True))
        number_of[row] = sequences.setdefault(joined, len(sequences))
        if number_of[row] == len(changes):
            changes.append(tuple(part for piece, i in zip(pieces, combination, strict=True) for part in piece.changes[i]))
    counts: Counter[str] = Counter()
    for piece in pieces:
        counts.update(piece.counts)
    return pieces[0]._replace(
        start=region.start,
        end=region.end,
        sequences=list(sequences),
        index=number_of[index],
        reference="".join(piece.reference for piece in pieces),
        counts=dict(counts),
        sites=np.concatenate([piece.sites for piece in pieces]),
        changes=changes,
    )


def _reverse(haplotypes: RegionHaplotypes) -> RegionHaplotypes:
    """Every sequence as its reverse complement."""
    sequences = list(map(reverse_complement, haplotypes.sequences))
    return haplotypes._replace(sequences=sequences, reference=reverse_complement(haplotypes.reference))

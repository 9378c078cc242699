"""Alleles: what every reader of genotypes returns, and the checks of contigs and samples that all of them make."""

import logging
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

logger = logging.getLogger(__name__)

MISSING = -1
FIRST_ALLELES = ("unknown", "ref")


class Alleles(NamedTuple):
    """The genotypes of one region, in the file's order of records.

    Attributes:
        positions: (variants,) int64, 0-based position of the first REF base.
        stops: (variants,) int64, 0-based end (exclusive); reaches INFO/END where a symbolic allele has one.
        refs: REF of each variant, upper case.
        alts: ALT alleles of each variant, upper case; allele number k of `alleles` is alts[v][k - 1].
        ids: ID column, "." where absent.
        alleles: (samples, 2, variants) int8 or int16: allele number, 0 = REF, -1 = missing. A haploid call (X or Y of a
            male) stands on both haplotypes, as PLINK codes it, and is marked in `haploid`.
        phased: (samples, variants) bool: it is known which haplotype has which allele; a haploid call counts as phased.
        haploid: (samples, variants) bool: one allele alone.
        samples: the sample ids of the first axis.
        phase_sets: (samples, variants) int32, FORMAT/PS numbered in the order of the file's spellings, 0 where a call has none;
            None where no record of the region has PS: then phase holds from record to record.
        dosages: (samples, variants) float32, expected copies of the ALT alleles together, 0 to 2, NaN where missing; None where
            the file holds called alleles only.
        ref_known: (variants,) bool, the file says which allele is the reference's; of the others, as in PLINK 1, the FASTA
            decides. None where the file says it of all.
    """

    positions: np.ndarray
    stops: np.ndarray
    refs: list[str]
    alts: list[tuple[str, ...]]
    ids: list[str]
    alleles: np.ndarray
    phased: np.ndarray
    haploid: np.ndarray
    samples: list[str]
    phase_sets: np.ndarray | None = None
    dosages: np.ndarray | None = None
    ref_known: np.ndarray | None = None


def take_records(alleles: Alleles, records: np.ndarray) -> Alleles:
    """Some records of a region: (n,) int, which and in which order."""
    parts = {key: getattr(alleles, key)[..., records] for key in ("positions", "stops", "alleles", "phased", "haploid")}
    parts |= {key: [getattr(alleles, key)[v] for v in records] for key in ("refs", "alts", "ids")}
    optional = {key: getattr(alleles, key) for key in ("phase_sets", "dosages")}
    parts |= {key: None if each is None else each[:, records] for key, each in optional.items()}
    return alleles._replace(**parts, ref_known=None if alleles.ref_known is None else alleles.ref_known[records])


def sort_records(alleles: Alleles) -> Alleles:
    """The same records by position, those of one position in the order they had; nothing is copied where they are sorted."""
    if (np.diff(alleles.positions) >= 0).all():
        return alleles
    return take_records(alleles, np.argsort(alleles.positions, kind="stable"))


class GenotypeOptions(NamedTuple):
    """What some formats do not say of themselves.

    Attributes:
        contig: name of the only contig of a file whose chromosome field is blank, as in UK Biobank's haplotype BGENs.
        sample_file: a `.sample`, `.psam` or `.fam` with the ids, where they are neither in the file nor beside it under its name.
        min_probability: least probability of a genotype or allele of a BGEN for it to count as called, above 0.5 to 1.
        first_allele: of a BGEN: "unknown": the FASTA decides which allele is the reference's; "ref": the first is, as in UK
            Biobank's files and those of `plink2 --export bgen-1.2 ref-first`.
    """

    contig: str | None = None
    sample_file: str | Path | None = None
    min_probability: float = 0.9
    first_allele: str = "unknown"


NO_OPTIONS = GenotypeOptions()


class GenotypeReader(Protocol):
    """An open file of genotypes and the samples to read from it; a context manager.

    Attributes:
        path: the file.
        samples: the chosen sample ids, in the order of the request (of the file, without a request).
        contigs: names of the contigs that it knows of.
        lengths: contig → bases, where the file says them.
        build_words: what it says of its genome build.
        notes: what was read otherwise than it is written, one sentence each, nobody named.
    """

    path: Path
    samples: list[str]
    contigs: list[str]
    lengths: dict[str, int]
    build_words: list[str]
    notes: list[str]

    def __enter__(self) -> "GenotypeReader": ...

    def __exit__(self, *exception) -> None: ...

    def find_contig(self, contig: str) -> str | None:
        """The name under which the file holds a contig, None where it does not."""

    def files_of(self, contig: str) -> list[Path]:
        """The files that a contig's alleles come from: the genotypes first, then what lies beside them."""

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All records that overlap a region (0-based half-open), also those that begin before it or run over its end."""


def find_contig(contig: str, known: Container[str], path: Path) -> str | None:
    """The name under which a file holds a contig, None where it holds it under neither.

    `20` finds `chr20` and the other way round, but only where the exact name is absent; the exchange is logged.
    `MT` and `chrM` are never exchanged: on GRCh37 they are two different sequences.
    """
    if contig in known:
        return contig
    other = contig.removeprefix("chr") if contig.startswith("chr") else f"chr{contig}"
    if other not in known:
        return None
    logger.info("Contig %s is read as %s of %s.", contig, other, path)
    return other


def match_contig(contig: str, known: Iterable[str], path: Path) -> str:
    """`find_contig`, where a contig that is absent is an error.

    Raises:
        ValueError: the file holds the contig under neither name.
    """
    known = list(known)
    found = find_contig(contig, known, path)
    if found is None:
        raise ValueError(
            f"Contig {contig} is not in the file; known are: {show_contigs(known)}.\n"
            f"  file: {path}\n  fix: name the contig as the file does, or give the file of this chromosome and build."
        )
    return found


def show_contigs(known: Sequence[str]) -> str:
    """The first few names of contigs for a message."""
    return (", ".join(known[:5]) + (f" … ({len(known)} in all)" if len(known) > 5 else "")) or "none"


def choose_samples(samples: Sequence[str] | None, known: Sequence[str], path: Path) -> list[str]:
    """The wanted samples, all of the file without a request; each is a text that the file holds, once.

    Raises:
        ValueError: an empty list, ids that are not text, not in the file, or twice in the file or in the request.
    """
    if repeated := [name for name, times in Counter(known).items() if times > 1]:
        raise ValueError(
            f"Genotypes: every sample is expected once in the file, got {len(repeated)} of them more often, "
            f"e.g. {', '.join(repeated[:3])}.\n  file: {path}\n  fix: rename or drop the repeated samples."
        )
    if samples is None:
        return list(known)
    samples = list(samples)
    if not samples:
        raise ValueError(
            f"Genotypes: at least one sample is expected, got an empty list; the file holds {len(known)}, "
            f"e.g. {', '.join(known[:3])}.\n  file: {path}\n  fix: name the samples, or pass None for all of the file."
        )
    other = [name for name in samples if not isinstance(name, str)]
    if other:
        raise ValueError(
            f"Genotypes: sample ids are expected as text, got {len(other)} of {len(samples)} otherwise, "
            f"e.g. {other[0]!r} ({type(other[0]).__name__}).\n"
            f"  file: {path}\n  fix: read the ids as text, so that leading zeros stay (pandas: dtype=str)."
        )
    absent = sorted(set(samples) - set(known))
    if absent:
        raise ValueError(
            f"Genotypes: {len(absent)} of {len(set(samples))} samples are not in the file, e.g. {', '.join(absent[:3])}; "
            f"it holds {len(known)}, e.g. {', '.join(known[:3])}.\n"
            f"  file: {path}\n  fix: map the ids with data.id_map, or drop these people."
        )
    repeated = [name for name, times in Counter(samples).items() if times > 1]
    if repeated:
        raise ValueError(
            f"Genotypes: each sample is expected once, got {len(repeated)} of them more often, e.g. {', '.join(repeated[:3])}.\n"
            f"  file: {path}\n  fix: drop the repeated ids."
        )
    return samples

"""Genotypes: an indexed VCF or BCF flows in; the allele numbers of one genomic region for the chosen samples flow out.

Positions are 0-based half-open, as in BED and pysam; messages show 1-based positions, as a VCF writes them.
Memory is that of one region: 4 bytes a sample and variant, two alleles and two flags (6 where a site has more than 127 ALT
alleles).
"""

import contextlib
import logging
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

logger = logging.getLogger(__name__)

MISSING = -1
SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")


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
        phased: (samples, variants) bool: `|` between the alleles; a haploid call counts as phased.
        haploid: (samples, variants) bool: the file holds a single allele.
        samples: the sample ids of the first axis.
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


class Call(NamedTuple):
    """One parsed genotype."""

    first: int
    second: int
    phased: bool
    haploid: bool


class GenotypeFile:
    """An open VCF or BCF and the samples to read from it, so that many regions cost one header.

    Attributes:
        path: the file.
        samples: the chosen sample ids, in the order of the request (of the file, without a request).
        contigs: names of the contigs that hold records (VCF) or that the header declares (BCF).
    """

    def __init__(self, path: str | Path, samples: Sequence[str] | None = None):
        """Open the file and choose samples.

        Raises:
            FileNotFoundError: no such file, or no index beside it.
            ValueError: not a VCF or BCF, no genotypes in it; sample ids that are none, not text, not in the file, or twice.
        """
        self.path = Path(path)
        self._variants = _open(self.path)
        known = list(self._variants.header.samples)
        if not known:
            self._variants.close()
            raise ValueError(
                "Genotypes: sample columns with GT are needed, got a file of sites only.\n"
                f"  file: {self.path}\n  fix: export it with its samples, without `bcftools view --drop-genotypes`."
            )
        self.samples = known if samples is None else list(samples)
        _check_samples(self.samples, known, self.path)
        if self.samples != known:
            self._variants.subset_samples(self.samples)
        chosen = set(self.samples)
        self._in_file_order = [name for name in known if name in chosen]
        row = {name: i for i, name in enumerate(self._in_file_order)}
        self._rows = np.array([row[name] for name in self.samples], dtype=np.intp)
        indexed = list(self._variants.index.keys()) if self._variants.is_vcf else []
        self.contigs = indexed or list(self._variants.header.contigs)

    def __enter__(self) -> "GenotypeFile":
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.suppress(OSError):  # a damaged file complains again when it is closed
            self._variants.close()

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All records that overlap a region, also those that begin before it or run over its end.

        Args:
            contig: name in this file or the same with or without `chr`.
            start: first base, 0-based.
            end: one past the last base.

        Raises:
            ValueError: unknown contig, a record without GT, a ploidy other than 1 or 2, a damaged file.
        """
        name = match_contig(contig, self.contigs, self.path)
        records: list[_Record] = []
        columns = _Columns(bytearray(), bytearray(), bytearray())
        kind = np.int8
        try:
            for record in self._variants.fetch(name, start, end):
                variant, calls = _parse_record(record, self._in_file_order, self.path)
                if len(variant.alts) > np.iinfo(np.int8).max and kind is np.int8:
                    kind, wider = np.int16, np.frombuffer(columns.alleles, np.int8).astype(np.int16)
                    columns = columns._replace(alleles=bytearray(wider.tobytes()))
                records.append(variant)
                columns.alleles.extend(calls.alleles[self._rows].astype(kind).tobytes())
                columns.phased.extend(calls.phased[self._rows].tobytes())
                columns.haploid.extend(calls.haploid[self._rows].tobytes())
        except OSError as error:
            raise ValueError(
                f"Genotypes: {contig}:{start + 1}-{end} cannot be read to its end ({error}); the file is damaged.\n"
                f"  file: {self.path}\n  fix: copy it again and compare its size or checksum with the source."
            ) from error
        shape = (len(records), len(self.samples))
        return Alleles(
            positions=np.array([r.position for r in records], dtype=np.int64),
            stops=np.array([r.stop for r in records], dtype=np.int64),
            refs=[r.ref for r in records],
            alts=[r.alts for r in records],
            ids=[r.id for r in records],
            alleles=np.frombuffer(columns.alleles, kind).reshape(*shape, 2).transpose(1, 2, 0),
            phased=np.frombuffer(columns.phased, bool).reshape(shape).T,
            haploid=np.frombuffer(columns.haploid, bool).reshape(shape).T,
            samples=self.samples,
        )


def list_samples(path: str | Path) -> list[str]:
    """Sample ids of a VCF or BCF, in the file's order.

    Raises:
        FileNotFoundError: no such file, or no index beside it.
        ValueError: not a VCF or BCF, or without samples.
    """
    with GenotypeFile(path) as genotypes:
        return genotypes.samples


def match_contig(contig: str, known: Iterable[str], path: Path) -> str:
    """The name under which a file holds a contig.

    `20` finds `chr20` and the other way round, but only where the exact name is absent; the exchange is logged.
    `MT` and `chrM` are never exchanged: on GRCh37 they are two different sequences.

    Raises:
        ValueError: the file holds the contig under neither name.
    """
    known = list(known)
    if contig in known:
        return contig
    other = contig.removeprefix("chr") if contig.startswith("chr") else f"chr{contig}"
    if other in known:
        logger.info("Contig %s is read as %s of %s.", contig, other, path)
        return other
    shown = ", ".join(known[:5]) + (f" … ({len(known)} in all)" if len(known) > 5 else "")
    raise ValueError(
        f"Contig {contig} is not in the file; known are: {shown or 'none'}.\n"
        f"  file: {path}\n  fix: name the contig as the file does, or give the file of this chromosome and build."
    )


def _open(path: Path) -> pysam.VariantFile:
    """The file with its index, or an error that says how to make it usable."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Genotypes: a VCF or BCF is expected, got no such file.\n  file: {path}\n  fix: correct data.genotypes."
        )
    if not path.name.endswith(SUFFIXES):
        raise ValueError(
            f"Genotypes: a name ending in {', '.join(SUFFIXES)} is expected, got {path.name}.\n"
            f"  file: {path}\n  fix: convert it to phased VCF or BCF, e.g. `plink2 --export vcf bgz`."
        )
    quoted = shlex.quote(str(path))
    if path.name.endswith(".vcf"):
        raise FileNotFoundError(
            "Genotypes: an indexed file is expected, got a plain-text VCF, which cannot be indexed.\n"
            f"  file: {path}\n  fix: bgzip -k {quoted} && tabix -p vcf {quoted}.gz"
        )
    if not any(Path(f"{path}{suffix}").is_file() for suffix in (".tbi", ".csi")):
        command = f"bcftools index {quoted}" if path.suffix == ".bcf" else f"tabix -p vcf {quoted}"
        raise FileNotFoundError(
            f"Genotypes: an index (.tbi or .csi) is expected beside the file, got none.\n  file: {path}\n  fix: {command}"
        )
    try:
        variants = pysam.VariantFile(str(path))
        if variants.index is None:
            raise OSError("its index cannot be loaded")
    except (OSError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"Genotypes: a bgzipped VCF or a BCF with its index is expected, got a file that cannot be opened ({error}).\n"
            f"  file: {path}\n  fix: copy it again if it was cut short; gzipped without blocks: "
            f"gzip -dc {quoted} | bgzip > fixed.vcf.gz && tabix -p vcf fixed.vcf.gz"
        ) from error
    return variants


def _check_samples(samples: list[str], known: list[str], path: Path) -> None:
    """Every requested sample is a text that the file holds, once."""
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


class _Calls(NamedTuple):
    """The genotypes of one record: (samples, 2) alleles, (samples,) flags, in the file's order of the chosen samples."""

    alleles: np.ndarray
    phased: np.ndarray
    haploid: np.ndarray


class _Columns(NamedTuple):
    """The genotypes of the records so far, one record behind the other: bytes that grow in place, so they are held once."""

    alleles: bytearray
    phased: bytearray
    haploid: bytearray


class _Record(NamedTuple):
    """One variant without its genotypes."""

    position: int
    stop: int
    id: str
    ref: str
    alts: tuple[str, ...]


class _Parsed(NamedTuple):
    """One line of the file."""

    variant: _Record
    calls: _Calls


def _parse_record(record: pysam.VariantRecord, names: list[str], path: Path) -> _Parsed:
    """Genotypes from the record's text: a hundred times faster than asking for them sample by sample."""
    columns = str(record).rstrip("\n").split("\t", 9)
    keys = columns[8].split(":") if len(columns) > 9 else []
    if "GT" not in keys:
        raise ValueError(
            f"Genotypes: FORMAT with GT is expected at {record.chrom}:{record.pos}, got {':'.join(keys) or 'none'}.\n"
            f"  file: {path}\n  fix: call genotypes from the likelihoods or dosages, or drop such records."
        )
    calls = _parse_plain(columns[9], len(names)) if keys == ["GT"] else None
    if calls is None:
        calls = _parse_any(columns[9].split("\t"), keys.index("GT"), f"{record.chrom}:{record.pos}", names, path)
    alts = () if columns[4] == "." else tuple(columns[4].upper().split(","))
    if calls.alleles.max() > len(alts):
        raise ValueError(
            f"Genotypes: allele numbers up to {len(alts)} are expected at {record.chrom}:{record.pos}, "
            f"which has {len(alts)} ALT alleles, got {calls.alleles.max()}.\n"
            f"  file: {path}\n  fix: repair the record; a tool has dropped ALT alleles without renumbering GT."
        )
    return _Parsed(_Record(record.start, record.stop, columns[2], columns[3].upper(), alts), calls)


def _parse_plain(text: str, num_samples: int) -> _Calls | None:
    """Diploid one-digit calls and nothing else (`0|1<tab>1|0…`) all at once; None where any call is of another form."""
    if len(text) != 4 * num_samples - 1:
        return None
    letters = np.frombuffer((text + "\t").encode(), dtype=np.uint8).reshape(num_samples, 4)
    digits = letters[:, [0, 2]]
    missing = digits == ord(".")
    phased = letters[:, 1] == ord("|")
    regular = (phased | (letters[:, 1] == ord("/"))) & (letters[:, 3] == ord("\t"))
    if not (regular.all() and (missing | ((digits >= ord("0")) & (digits <= ord("9")))).all()):
        return None
    alleles = np.where(missing, MISSING, digits.astype(np.int8) - ord("0")).astype(np.int8)
    return _Calls(alleles, phased, np.zeros(num_samples, dtype=bool))


def _parse_any(cells: list[str], column: int, where: str, names: list[str], path: Path) -> _Calls:
    """Calls of any form; each distinct spelling is parsed once."""
    spellings = [cell.split(":", column + 1)[column] for cell in cells]
    known = {spelling: _parse_call(spelling) for spelling in set(spellings)}
    odd = [(name, spelling) for name, spelling in zip(names, spellings, strict=True) if known[spelling] is None]
    if odd:
        raise ValueError(
            f"Genotypes: ploidy 1 or 2 is expected at {where}, got {len(odd)} other calls, e.g. {odd[0][1]} of {odd[0][0]}.\n"
            f"  file: {path}\n  fix: split or drop such calls, e.g. `bcftools +fixploidy`."
        )
    calls = [known[spelling] for spelling in spellings]
    return _Calls(
        np.array([(c.first, c.second) for c in calls], dtype=np.int16),
        np.array([c.phased for c in calls], dtype=bool),
        np.array([c.haploid for c in calls], dtype=bool),
    )


def _parse_call(spelling: str) -> Call | None:
    """`0|1`, `1/.`, `1`, `.` → a call; None for any other ploidy. VCF 4.4 may write the phase before the first allele too."""
    parts = spelling.lstrip("|/").replace("|", "/").split("/")
    if not all(part == "." or part.isdecimal() for part in parts) or len(parts) > 2:
        return None
    numbers = [MISSING if part == "." else int(part) for part in parts]
    haploid = len(numbers) == 1
    return Call(numbers[0], numbers[-1], haploid or "|" in spelling.lstrip("|/"), haploid)

"""Genotypes: an indexed VCF or BCF flows in; the allele numbers of one genomic region for the chosen samples flow out.

Positions are 0-based half-open, as in BED and pysam; messages show 1-based positions, as a VCF writes them.
Memory is that of one region: 4 bytes a sample and variant, two alleles and two flags (6 where a site has more than 127 ALT
alleles, 4 more where a record has FORMAT/PS).
"""

import contextlib
import gzip
import logging
import shlex
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

from brainmt_align.data.genotype_records import Record, parse_record

logger = logging.getLogger(__name__)

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
        phase_sets: (samples, variants) int32, FORMAT/PS numbered in the order of the file's spellings, 0 where a call has none;
            None where no record of the region has PS: then `|` holds from record to record.
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


class GenotypeFile:
    """An open VCF or BCF and the samples to read from it, so that many regions cost one header.

    Attributes:
        path: the file.
        samples: the chosen sample ids, in the order of the request (of the file, without a request).
        contigs: names of the contigs that hold records (by the index), then those that the header alone declares.
        lengths: contig → bases, where the header says them.
        build_words: what the header says of its build: `assembly=` of its contigs and the file name of `##reference`.
    """

    def __init__(self, path: str | Path, samples: Sequence[str] | None = None):
        """Open the file and choose samples.

        Raises:
            FileNotFoundError: no such file, or no index beside it.
            ValueError: not a VCF or BCF, no genotypes in it, a sample twice in its header; sample ids that are none, not text,
                not in the file, or twice.
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
        self._indexed = list(self._variants.index.keys())
        declared = self._variants.header.contigs
        self.contigs = list(dict.fromkeys([*self._indexed, *declared]))
        self.lengths = {name: contig.length for name, contig in declared.items() if contig.length}
        self.build_words = _build_words(self._variants.header)
        self._phase_sets = {".": 0}

    def __enter__(self) -> "GenotypeFile":
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.suppress(OSError):  # a damaged file complains again when it is closed
            self._variants.close()

    def find_contig(self, contig: str) -> str | None:
        """The name under which this file holds a contig, None where it does not.

        A name that the header alone declares counts only where no indexed one fits: after a half-done renaming the records are
        under the other.
        """
        return find_contig(contig, self._indexed, self.path) or find_contig(contig, self.contigs, self.path)

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All records that overlap a region, also those that begin before it or run over its end.

        Args:
            contig: name in this file or the same with or without `chr`.
            start: first base, 0-based.
            end: one past the last base.

        Raises:
            ValueError: unknown contig, a record without GT, a ploidy other than 1 or 2, a damaged file.
        """
        name = self.find_contig(contig) or match_contig(contig, self.contigs, self.path)
        records: list[Record] = []
        columns = _Columns(bytearray(), bytearray(), bytearray(), bytearray())
        kind = np.int8
        try:
            for record in self._variants.fetch(name, start, end):
                variant, calls, phase_sets = parse_record(record, self._in_file_order, self.path)
                if len(variant.alts) > np.iinfo(np.int8).max and kind is np.int8:
                    kind, wider = np.int16, np.frombuffer(columns.alleles, np.int8).astype(np.int16)
                    columns = columns._replace(alleles=bytearray(wider.tobytes()))
                records.append(variant)
                columns.alleles.extend(calls.alleles[self._rows].astype(kind).tobytes())
                columns.phased.extend(calls.phased[self._rows].tobytes())
                columns.haploid.extend(calls.haploid[self._rows].tobytes())
                if phase_sets is not None or columns.phase_sets:
                    self._add_phase_sets(columns.phase_sets, phase_sets, len(records))
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
            phase_sets=np.frombuffer(columns.phase_sets, np.int32).reshape(shape).T if columns.phase_sets else None,
        )

    def _add_phase_sets(self, column: bytearray, spellings: list[str] | None, num_records: int) -> None:
        """Bring the numbers of phase sets up to `num_records`; 0 stands for every call of a record without PS."""
        if spellings is None:
            spellings = ["."] * len(self.samples)
        numbers = np.array([self._phase_sets.setdefault(s, len(self._phase_sets)) for s in spellings], dtype=np.int32)
        column.extend(bytes(numbers.nbytes * (num_records - 1) - len(column)))
        column.extend(numbers[self._rows].tobytes())


def list_samples(path: str | Path) -> list[str]:
    """Sample ids of a VCF or BCF, in the file's order.

    Raises:
        FileNotFoundError: no such file, or no index beside it.
        ValueError: not a VCF or BCF, or without samples.
    """
    with GenotypeFile(path) as genotypes:
        return genotypes.samples


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
        if repeated := _repeated_samples(path):
            raise ValueError(
                f"Genotypes: every sample is expected once in the header, got {len(repeated)} of them more often, "
                f"e.g. {', '.join(repeated[:3])}.\n"
                f"  file: {path}\n  fix: rename or drop the repeated columns, e.g. `bcftools reheader --samples names.txt`."
            ) from error
        raise ValueError(
            f"Genotypes: a bgzipped VCF or a BCF with its index is expected, got a file that cannot be opened ({error}).\n"
            f"  file: {path}\n  fix: copy it again if it was cut short; gzipped without blocks: "
            f"gzip -dc {quoted} | bgzip > fixed.vcf.gz && tabix -p vcf fixed.vcf.gz"
        ) from error
    return variants


def _repeated_samples(path: Path) -> list[str]:
    """Samples that the #CHROM line names more than once, of a VCF or BCF: htslib refuses such a file without saying why."""
    try:
        with gzip.open(path, "rb") as file:  # bgzip is gzip, and a BCF holds its header as text
            line = next((line for line in file if line.startswith(b"#CHROM\t")), b"")
    except (OSError, EOFError, zlib.error):
        return []
    names = line.rstrip(b"\r\n\0").decode(errors="replace").split("\t")[9:]
    return [name for name, times in Counter(names).items() if times > 1]


def _build_words(header: pysam.VariantHeader) -> list[str]:
    """`assembly=…` and `reference=…` of a header, each once; of a path only the file's name."""
    declared = [dict(contig.header_record or {}) for contig in header.contigs.values()]
    words = [f"assembly={contig['assembly']}" for contig in declared if "assembly" in contig]
    words += [f"reference={record.value.rsplit('/', 1)[-1]}" for record in header.records if record.key == "reference"]
    return list(dict.fromkeys(words))


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


class _Columns(NamedTuple):
    """The genotypes of the records so far, one record behind the other: bytes that grow in place, so they are held once.

    `phase_sets` stays empty until a record has PS.
    """

    alleles: bytearray
    phased: bytearray
    haploid: bytearray
    phase_sets: bytearray

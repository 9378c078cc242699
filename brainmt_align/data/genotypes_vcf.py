"""VCF and BCF: an indexed file flows in; the allele numbers of one genomic region for the chosen samples flow out.

Memory is that of one region: 4 bytes a sample and variant, two alleles and two flags (6 where a site has more than 127 ALT
alleles, 4 more where a record has FORMAT/PS).
"""

import contextlib
import gzip
import shlex
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

from brainmt_align.data.alleles import NO_OPTIONS, Alleles, GenotypeOptions, choose_samples, find_contig, match_contig
from brainmt_align.data.genotype_companions import find_companions
from brainmt_align.data.genotype_records import Record, Text, parse_calls, phase_sets_of, read_text
from brainmt_align.data.vcf_index import check_index, is_older

BLOCK = 2**21  # calls that are parsed at once


class VCFReader:
    """An open VCF or BCF and the samples to read from it, so that many regions cost one header.

    Attributes:
        path: the file.
        samples: the chosen sample ids, in the order of the request (of the file, without a request).
        contigs: names of the contigs that hold records (by the index), then those that the header alone declares.
        lengths: contig → bases, where the header says them.
        build_words: what the header says of its build: `assembly=` of its contigs and the file name of `##reference`.
        notes: that the index is older than the file, where it is.
    """

    def __init__(self, path: str | Path, samples: Sequence[str] | None = None, options: GenotypeOptions = NO_OPTIONS):
        """Open the file and choose samples; it says everything itself, so that no option plays a part.

        Raises:
            FileNotFoundError: no such file, or no index beside it.
            ValueError: not a VCF or BCF, an index of another file or of a whole one where this is cut short, no genotypes in
                it, a sample twice in its header; sample ids that are none, not text, not in the file, or twice.
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
        self.samples = choose_samples(samples, known, self.path)
        if self.samples != known:
            self._variants.subset_samples(self.samples)
        chosen = set(self.samples)
        self._in_file_order = [name for name in known if name in chosen]
        row = {name: i for i, name in enumerate(self._in_file_order)}
        self._rows = None  # of the file's order, where the request has another
        if self._in_file_order != self.samples:
            self._rows = np.array([row[name] for name in self.samples], dtype=np.intp)
        self._indexed = list(self._variants.index.keys())
        declared = self._variants.header.contigs
        self.contigs = list(dict.fromkeys([*self._indexed, *declared]))
        self.lengths = {name: contig.length for name, contig in declared.items() if contig.length}
        self.build_words = build_words(self._variants.header)
        told = f"The index of {self.path.name} is older than the file itself; it fits where it was looked up."
        self.notes = [told] if is_older(self.path, find_companions(self.path)["index"]) else []
        self._lines = None  # as they are, which need no second formatting
        if self._variants.is_vcf and self._in_file_order == known:
            index = str(find_companions(self.path)["index"])  # the one that was checked
            self._lines = pysam.TabixFile(str(self.path), index=index, encoding="utf-8")
        self._phase_sets = {".": 0}

    def __enter__(self) -> "VCFReader":
        return self

    def __exit__(self, *exception) -> None:
        if self._lines is not None:
            self._lines.close()
        with contextlib.suppress(OSError):  # a damaged file complains again when it is closed
            self._variants.close()

    def find_contig(self, contig: str) -> str | None:
        """The name under which this file holds a contig, None where it does not.

        A name that the header alone declares counts only where no indexed one fits: after a half-done renaming the records are
        under the other.
        """
        return find_contig(contig, self._indexed, self.path) or find_contig(contig, self.contigs, self.path)

    def files_of(self, contig: str) -> list[Path]:
        """The file, which holds all contigs, and what lies beside it."""
        return [self.path, *find_companions(self.path).values()]

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All records that overlap a region, also those that begin before it or run over its end.

        Args:
            contig: name in this file or the same with or without `chr`.
            start: first base, 0-based.
            end: one past the last base.

        Raises:
            ValueError: unknown contig, a record that is malformed or without GT, a ploidy other than 1 or 2, a damaged file.
        """
        name = self.find_contig(contig) or match_contig(contig, self.contigs, self.path)
        columns = _Columns([], bytearray(), bytearray(), bytearray(), bytearray())
        waiting: list[Text] = []
        try:
            for line in self._fetch(name, start, end):
                text = read_text(line, self.path)
                if text.variant.stop <= start:  # an index may find it by its SVLEN
                    continue
                waiting.append(text)
                if len(waiting) * len(self.samples) >= BLOCK:
                    columns, waiting = self._parse(waiting, columns), []
        except OSError as error:
            raise ValueError(
                f"Genotypes: {contig}:{start + 1}-{end} cannot be read to its end ({error}); the file is damaged.\n"
                f"  file: {self.path}\n  fix: copy it again and compare its size or checksum with the source."
            ) from error
        columns = self._parse(waiting, columns) if waiting else columns
        records = columns.records
        shape = (len(records), len(self.samples))
        return Alleles(
            positions=np.array([r.position for r in records], dtype=np.int64),
            stops=np.array([r.stop for r in records], dtype=np.int64),
            refs=[r.ref for r in records],
            alts=[r.alts for r in records],
            ids=[r.id for r in records],
            alleles=np.frombuffer(columns.alleles, columns.kind).reshape(*shape, 2).transpose(1, 2, 0),
            phased=np.frombuffer(columns.phased, bool).reshape(shape).T,
            haploid=np.frombuffer(columns.haploid, bool).reshape(shape).T,
            samples=self.samples,
            phase_sets=np.frombuffer(columns.phase_sets, np.int32).reshape(shape).T if columns.phase_sets else None,
        )

    def _fetch(self, name: str, start: int, end: int) -> Iterator[str]:
        """Records of a region, of the chosen samples alone; one that htslib cannot parse is an error of this house."""
        if self._lines is not None:
            try:
                yield from self._lines.fetch(name, start, end) if name in self._indexed else ()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"Genotypes: UTF-8 text is expected at {name}:{start + 1}-{end}, got {error}.\n  file: {self.path}\n"
                    "  fix: write the file again as UTF-8 (iconv -f latin1 -t utf-8)."
                ) from error
            except ValueError as error:  # as pysam calls what else it calls an OSError
                raise OSError(str(error)) from error
            return
        records = self._variants.fetch(name, start, end)
        while True:
            try:
                record = next(records, None)
            except ValueError as error:
                place = f"{name}:{start + 1}-{end}"
                raise ValueError(
                    f"Genotypes: records in the form of a VCF, a call a sample, are expected at {place}, got one that cannot be "
                    f"read ({error}).\n  file: {self.path}\n"
                    f"  fix: repair or drop that record; `bcftools view {shlex.quote(str(self.path))} {place}` says which it is."
                ) from error
            if record is None:
                return
            yield str(record)

    def _parse(self, texts: list[Text], columns: "_Columns") -> "_Columns":
        """Columns with the records of `texts` behind those that they hold."""
        calls = parse_calls(texts, self._in_file_order, self.path)
        if columns.kind is np.int8 and max(len(text.variant.alts) for text in texts) > np.iinfo(np.int8).max:
            wider = np.frombuffer(columns.alleles, np.int8).astype(np.int16)
            columns = columns._replace(alleles=bytearray(wider.tobytes()), kind=np.int16)
        alleles, phased, haploid = calls if self._rows is None else (each[:, self._rows] for each in calls)
        columns.alleles.extend(alleles.astype(columns.kind, copy=False).tobytes())
        columns.phased.extend(phased.tobytes())
        columns.haploid.extend(haploid.tobytes())
        for text in texts:
            columns.records.append(text.variant)
            phase_sets = phase_sets_of(text)
            if phase_sets is not None or columns.phase_sets:
                self._add_phase_sets(columns.phase_sets, phase_sets, len(columns.records))
        return columns

    def _add_phase_sets(self, column: bytearray, spellings: list[str] | None, num_records: int) -> None:
        """Bring the numbers of phase sets up to `num_records`; 0 stands for every call of a record without PS."""
        if spellings is None:
            spellings = ["."] * len(self.samples)
        numbers = np.array([self._phase_sets.setdefault(s, len(self._phase_sets)) for s in spellings], dtype=np.int32)
        column.extend(bytes(numbers.nbytes * (num_records - 1) - len(column)))
        column.extend(numbers.tobytes() if self._rows is None else numbers[self._rows].tobytes())


def _open(path: Path) -> pysam.VariantFile:
    """The file with its index, or an error that says how to make it usable."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Genotypes: a VCF or BCF is expected, got no such file.\n  file: {path}\n  fix: correct data.genotypes."
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
    check_index(path, find_companions(path)["index"])
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


def build_words(header: pysam.VariantHeader) -> list[str]:
    """`assembly=…` and `reference=…` of a header, each once; of a path only the file's name."""
    declared = [dict(contig.header_record or {}) for contig in header.contigs.values()]
    words = [f"assembly={contig['assembly']}" for contig in declared if "assembly" in contig]
    words += [f"reference={record.value.rsplit('/', 1)[-1]}" for record in header.records if record.key == "reference"]
    return list(dict.fromkeys(words))


class _Columns(NamedTuple):
    """The records so far and their genotypes, one behind the other: bytes that grow in place, so they are held once.

    `phase_sets` stays empty until a record has PS; `kind` is the type of `alleles`.
    """

    records: list[Record]
    alleles: bytearray
    phased: bytearray
    haploid: bytearray
    phase_sets: bytearray
    kind: type = np.int8

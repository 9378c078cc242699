"""BGEN: an indexed file of probabilities flows in; the called alleles of one genomic region for the chosen samples flow out.

Memory is that of one region: 8 bytes a sample and variant (10 where a site has more than 127 ALT alleles), and the probabilities
of one variant for all samples of the file.
"""

import contextlib
import logging
import re
import shlex
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import (
    FIRST_ALLELES,
    NO_OPTIONS,
    Alleles,
    GenotypeOptions,
    choose_samples,
    find_contig,
    match_contig,
)
from brainmt_align.data.bgen_calls import Probabilities, ProbableCalls, call_alleles
from brainmt_align.data.bgen_index import BGENIndex, IndexRow
from brainmt_align.data.genotype_companions import find_companions
from brainmt_align.data.sample_files import read_sample_file
from brainmt_align.listing import some

try:
    import bgen
except ImportError as error:
    raise ImportError(
        "Genotypes: the library bgen is expected for BGEN files, got no such module.\n"
        '  fix: pip install "brainmt-align[genotypes]"'
    ) from error

logger = logging.getLogger(__name__)

PADDED = re.compile(r"0\d")  # chromosomes of UK Biobank's imputed BGENs
REDACTED = re.compile(r"-\d+")  # ids of people who withdrew, as UK Biobank writes them
SHOWN = 3  # contigs in a note
DAMAGES = (
    ValueError,
    IndexError,
    OverflowError,
    MemoryError,
    RuntimeError,
    zlib.error,
)  # what the library says of a broken record


class _Record(NamedTuple):
    """One decoded record."""

    alleles: tuple[str, ...]
    calls: ProbableCalls
    phased: bool


class BGENReader:
    """An open BGEN (layout 2) with its index, and the samples to read from it.

    The first allele of a record is taken for the REF; the format does not say so, and `ref_known` is False of all records unless
    `options.first_allele` says "ref". Symbolic alleles stay as text and end with their first allele, since there is no INFO/END.

    Attributes:
        path: the file.
        samples: the chosen sample ids, in the order of the request; without one all of the file but the redacted.
        contigs: names of the contigs that hold records; `01` of the file is called `1`, a blank one by `options.contig`.
        lengths: empty, as the format has none.
        build_words: likewise.
        notes: contigs that are named otherwise than they are written, and how many samples are redacted.
    """

    def __init__(self, path: str | Path, samples: Sequence[str] | None = None, options: GenotypeOptions = NO_OPTIONS):
        """Open the file and choose samples.

        Ids are those of `options.sample_file`, or of the BGEN, or of the `.sample` beside it under its name. Ids of people who
        withdrew (`-1`, `-2` …, in UK Biobank often the same one many times) cannot be asked for.

        Raises:
            FileNotFoundError: no such file, no index, no ids.
            ValueError: not a BGEN of layout 2, an index of another file, blank chromosomes without `options.contig`, another
                number of ids than of samples, ids unknown or repeated, a `min_probability` out of range, an unknown
                `first_allele`.
        """
        self.path = Path(path)
        if not 0.5 < options.min_probability <= 1:
            raise ValueError(
                f"Genotypes: min_probability above 0.5 and up to 1 is expected, got {options.min_probability!r}.\n"
                f"  file: {self.path}\n  fix: set it to 0.9."
            )
        if options.first_allele not in FIRST_ALLELES:
            raise ValueError(
                f"Genotypes: first_allele must be one of {', '.join(FIRST_ALLELES)}, got {options.first_allele!r}.\n"
                f"  file: {self.path}\n  fix: set data.first_allele."
            )
        self._min_probability, self._sample_file = options.min_probability, options.sample_file
        self._ref_first = options.first_allele == "ref"
        self._index, self._file = _open(self.path)
        self._bytes = self.path.open("rb")
        try:
            ids = _read_ids(self.path, self._file, options.sample_file)
            kept = [name for name in ids if not REDACTED.fullmatch(name)]
            redacted = f"Redacted, with negative ids, and not read: {len(ids) - len(kept):,} of {len(ids):,} samples."
            self.samples = choose_samples(samples, kept, self.path)
            row = {name: i for i, name in enumerate(ids)}
            self._rows = None if self.samples == ids else np.array([row[name] for name in self.samples], dtype=np.intp)
            self._stored = _name_contigs(self._index, options.contig)
        except BaseException:
            self._close()
            raise
        self.contigs = list(self._stored)
        renamed = some([f"{s or 'a blank one'} as {name}" for name, s in self._stored.items() if s != name], SHOWN)
        self.notes = [redacted] if len(kept) < len(ids) else []
        self.notes += [f"Contigs of the BGEN under another name: {renamed}."] if renamed else []
        for note in self.notes:
            logger.info("%s %s", self.path, note)
        self.lengths: dict[str, int] = {}
        self.build_words: list[str] = []

    def __enter__(self) -> "BGENReader":
        return self

    def __exit__(self, *exception) -> None:
        self._close()

    def find_contig(self, contig: str) -> str | None:
        """The name under which this file holds a contig, None where it does not."""
        return find_contig(contig, self.contigs, self.path)

    def files_of(self, contig: str) -> list[Path]:
        """The file, which holds all contigs, and what lies beside it."""
        return [self.path, *find_companions(self.path, self._sample_file).values()]

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All records that overlap a region, also those that begin before it or run over its end.

        Args:
            contig: name in this file or the same with or without `chr`.
            start: first base, 0-based.
            end: one past the last base.

        Raises:
            ValueError: unknown contig, a damaged file, a ploidy other than 1 or 2, probabilities that do not sum to 1, an index
                that does not fit.
        """
        stored = self._stored[match_contig(contig, self.contigs, self.path)]
        rows = self._index.find(stored, start, end)
        shape = (len(rows), len(self.samples))
        many = max((row.num_alleles for row in rows), default=0) - 1 > np.iinfo(np.int8).max
        alleles_VS2 = np.empty((*shape, 2), dtype=np.int16 if many else np.int8)
        phased_VS, haploid_VS, dosages_VS = np.empty(shape, bool), np.empty(shape, bool), np.empty(shape, np.float32)
        spelled: list[tuple[str, ...]] = [()] * len(rows)
        for v, record in self._decode_all(stored, rows):
            spelled[v] = record.alleles
            alleles_VS2[v], haploid_VS[v], dosages_VS[v] = record.calls
            np.logical_or(record.phased, record.calls.haploid_S, out=phased_VS[v])
        positions = np.array([row.position - 1 for row in rows], dtype=np.int64)
        return Alleles(
            positions=positions,
            stops=positions + np.array([len(names[0]) for names in spelled], dtype=np.int64),
            refs=[names[0] for names in spelled],
            alts=[names[1:] for names in spelled],
            ids=[row.id or "." for row in rows],
            alleles=alleles_VS2.transpose(1, 2, 0),
            phased=phased_VS.T,
            haploid=haploid_VS.T,
            samples=self.samples,
            dosages=dosages_VS.T,
            ref_known=None if self._ref_first else np.zeros(len(rows), dtype=bool),
        )

    def _decode_all(self, stored: str, rows: list[IndexRow]) -> Iterator[tuple[int, _Record]]:
        """Yield the number of each row and its record; one record's probabilities are held at a time."""
        if not rows:
            return
        numbers = {row.offset: v for v, row in enumerate(rows)}
        first, last = min(row.position for row in rows), max(row.position for row in rows)
        with contextlib.closing(self._file.fetch(stored, first, last)) as records:
            while (record := self._next(records, f"{stored}:{first}-{last}")) is not None:
                v = numbers.get(record.fileoffset)  # None: between two that reach into the region, and ends before it
                if v is not None:
                    yield v, self._decode(record, rows[v])

    def _next(self, records: Iterator, place: str) -> "bgen.BgenVar | None":
        try:
            return next(records, None)
        except DAMAGES as error:
            raise self._damaged(place, error) from error

    def _decode(self, record: "bgen.BgenVar", row: IndexRow) -> _Record:
        """One record, which must be what the index has at its place."""
        place = f"{record.chrom}:{row.position}"
        names = record.alleles
        found = IndexRow(record.pos, record.rsid, len(names), *[*names, None, None][:2], row.offset, row.size)
        if found != row:
            raise ValueError(
                f"Genotypes: {_show(row)} is expected by the index, got {_show(found)}.\n"
                f"  file: {self.path}\n  fix: renew the index: bgenix -g {shlex.quote(str(self.path))} -index -clobber"
            )
        try:
            self._check_sum(record)
            ploidy_S, phased, values_SK = record.ploidy, record.is_phased, record.probabilities
        except DAMAGES as error:
            raise self._damaged(place, error) from error
        if self._rows is not None:
            values_SK, ploidy_S = values_SK[self._rows], ploidy_S[self._rows]
        self._check_ploidy(ploidy_S, place)
        try:
            calls = call_alleles(Probabilities(values_SK, ploidy_S, phased, len(names)), self._min_probability)
        except ValueError as error:
            raise self._damaged(place, error) from error
        return _Record(tuple(name.upper() for name in names), calls, phased)

    def _check_sum(self, record: "bgen.BgenVar") -> None:
        """The checksum that zlib puts behind a record's probabilities, which the library does not look at.

        Raises:
            zlib.error: they are not what was written.
        """
        if record.compression != "zlib":
            return
        texts = [record.varid, record.rsid, record.chrom]
        before = sum(2 + len(text.encode()) for text in texts) + 6 + sum(4 + len(name.encode()) for name in record.alleles)
        self._bytes.seek(record.fileoffset + before + 8)  # behind the compressed and the plain size
        zlib.decompress(self._bytes.read(record.next_variant_offset - self._bytes.tell()))

    def _check_ploidy(self, ploidy_S: np.ndarray, place: str) -> None:
        odd = ((ploidy_S != 1) & (ploidy_S != 2)).nonzero()[0]
        if odd.size:
            raise ValueError(
                f"Genotypes: ploidy 1 or 2 is expected at {place}, got {odd.size} other calls, "
                f"e.g. {ploidy_S[odd[0]]} of {self.samples[odd[0]]}.\n  file: {self.path}\n  fix: drop such records or people."
            )

    def _damaged(self, place: str, error: Exception) -> ValueError:
        return ValueError(
            f"Genotypes: {place} cannot be read ({error}); the file is damaged.\n"
            f"  file: {self.path}\n  fix: copy it again and compare its size or checksum with the source."
        )

    def _close(self) -> None:
        self._bytes.close()
        self._file.close()
        self._index.close()


def _show(row: IndexRow) -> str:
    return f"{row.id} at {row.position} with alleles {row.first_allele}, {row.second_allele} ({row.num_alleles} in all)"


def _open(path: Path) -> tuple[BGENIndex, "bgen.BgenReader"]:
    """The index and the file, or an error that says how to make it usable."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Genotypes: a BGEN is expected, got no such file.\n  file: {path}\n  fix: correct data.genotypes."
        )
    index = BGENIndex(path)
    try:
        file = bgen.BgenReader(str(path))
    except DAMAGES as error:
        index.close()
        raise ValueError(
            f"Genotypes: a BGEN is expected, got a file that cannot be opened as one ({error}).\n"
            f"  file: {path}\n  fix: copy it again if it was cut short."
        ) from error
    if file.header.layout != 2:
        layout = file.header.layout
        file.close()
        index.close()
        raise ValueError(
            f"Genotypes: a BGEN of layout 2 (version 1.2 or later) is expected, got layout {layout}.\n  file: {path}\n"
            f"  fix: plink2 --bgen {shlex.quote(str(path))} ref-first --sample FILE.sample --export bgen-1.2 bits=8 ref-first"
        )
    return index, file


def _read_ids(path: Path, file: "bgen.BgenReader", sample_file: str | Path | None) -> list[str]:
    """One id a sample of the file: of the file that was asked for, of the BGEN itself, or of the `.sample` beside it."""
    beside = path.with_suffix(".sample")
    if sample_file is None and file.header.has_sample_ids:
        return file.samples
    if sample_file is None and not beside.is_file():
        raise FileNotFoundError(
            f"Genotypes: sample ids are expected in the BGEN or in {beside.name} beside it, got neither.\n"
            f"  file: {path}\n  fix: set sample_file to the .sample that came with it."
        )
    ids = read_sample_file(sample_file or beside)
    if len(ids) != file.header.nsamples:
        raise ValueError(
            f"Genotypes: {file.header.nsamples:,} ids are expected, one a sample of the BGEN, got {len(ids):,}.\n"
            f"  file: {path}, {sample_file or beside}\n  fix: give the .sample of this BGEN; an older release has other people."
        )
    return ids


def _name_contigs(index: BGENIndex, contig: str | None) -> dict[str, str]:
    """Contig → its spelling in the file: a blank one has the name that was given, `01` is 1 as elsewhere."""
    stored = index.chromosomes
    if "" in stored and (contig is None or len(stored) > 1):
        others = f" beside {', '.join(stored[1:4])}" if len(stored) > 1 else ""
        raise ValueError(
            f"Genotypes: a name of its contig is expected, got a BGEN whose chromosome field is blank{others}.\n"
            f"  file: {index.bgen}\n  fix: set contig to the chromosome that the file is of, e.g. contig=20; one a file."
        )
    if stored == [""]:
        return {contig: ""}
    names = {name: name for name in stored}
    for name in stored:
        if PADDED.fullmatch(name) and name[1:] not in names:
            names[name[1:]] = names.pop(name)
    return names

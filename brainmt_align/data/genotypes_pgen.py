"""PGEN: a `.pgen` with its `.pvar` and `.psam` flows in; the alleles of one genomic region for the chosen samples flow out.

The table of variants is held (see `genotypes_pvar`, about 33 bytes a variant, and pgenlib keeps 9 of its own). Genotypes are read
region by region: 4 bytes a sample and variant, two alleles and two flags (6 where a site has more than 127 ALT alleles, 4 more
where the file holds dosages).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from brainmt_align.data.alleles import MISSING, NO_OPTIONS, Alleles, GenotypeOptions, choose_samples, find_contig, match_contig
from brainmt_align.data.genotype_companions import find_companions
from brainmt_align.data.genotypes_pvar import find_overlapping, read_pvar, take_text
from brainmt_align.data.pgen_header import PgenHeader, read_pgen_header

BLOCK = 2**21  # calls that pgenlib writes at once, 9 bytes each
APART = ("PAR1", "PAR2", "XY", "25")  # PLINK's contigs for the pseudo-autosomal regions; their positions are those of X
X = ("X", "23")


class PGENReader:
    """An open PGEN and the samples to read from it, so that many regions cost one reading of its variants.

    PLINK keeps no ploidy: the X of a male stands as homozygous, so `haploid` is False everywhere; the sequences are the same.
    A heterozygote without phase is not phased; a homozygote or a missing call is, as its two alleles are alike. Half calls do not
    exist in the format.

    Attributes:
        path: the `.pgen`.
        samples: the chosen sample ids (IID), in the order of the request (of the file, without a request).
        contigs: names of the contigs that hold variants, then those that the header alone declares.
        lengths: contig → bases, where the header of the `.pvar` says them.
        build_words: what that header says of its build.
        notes: how many variants are on chromosome 0.
    """

    def __init__(self, path: str | Path, samples: Sequence[str] | None = None, options: GenotypeOptions = NO_OPTIONS):
        """Open the three files and choose samples.

        Args:
            path: `NAME.pgen`, with `NAME.pvar` or `NAME.pvar.zst` and `NAME.psam` beside it.
            samples: ids (IID), in this order; all of the file without it.
            options: `sample_file` counts here, a `.psam` or `.fam` in place of `NAME.psam`.

        Raises:
            FileNotFoundError: one of the files is absent.
            ValueError: damaged files, or of different numbers of variants or samples; sample ids that are none, not text, not in
                the file, or twice.
            ImportError: pgenlib is not installed.
        """
        pgenlib = _import_pgenlib()
        self.path = Path(path)
        self._sample_file = options.sample_file
        header = read_pgen_header(self.path)
        sample_file = _find_samples(self.path, options)
        known = _read_ids(sample_file)
        self.samples = choose_samples(samples, known, sample_file)
        variant_file = _find_variants(self.path)
        self._variants = read_pvar(variant_file)
        self._check_counts(header, len(known), sample_file, variant_file)
        row = {name: i for i, name in enumerate(known)}
        rows = np.array([row[name] for name in self.samples], dtype=np.uint32)
        in_file_order = np.sort(rows)
        self._rows = None if np.array_equal(rows, in_file_order) else np.searchsorted(in_file_order, rows)
        try:
            self._pgen = pgenlib.PgenReader(
                os.fsencode(self.path),
                raw_sample_ct=len(known),
                variant_ct=len(self._variants.positions),
                sample_subset=in_file_order if len(rows) < len(known) else None,
                allele_idx_offsets=self._variants.allele_offsets,
            )
        except RuntimeError as error:
            raise _damaged("the header", error, self.path) from error
        self._has_dosages, self._provisional = header.has_dosages, header.provisional
        self.contigs = [*self._variants.rows, *self._variants.declared]
        self.lengths = self._variants.lengths
        self.build_words = self._variants.build_words
        first, last = self._variants.rows.get("0", (0, 0))
        total = len(self._variants.positions)
        told = f"Without a place, so in no region: {last - first:,} of {total:,} variants of {self.path.name}."
        self.notes = [told] if last > first else []

    def __enter__(self) -> "PGENReader":
        return self

    def __exit__(self, *exception) -> None:
        self._pgen.close()

    def find_contig(self, contig: str) -> str | None:
        """The name under which this file holds a contig, None where it does not."""
        return find_contig(contig, self.contigs, self.path)

    def files_of(self, contig: str) -> list[Path]:
        """The file, which holds all contigs, and what lies beside it."""
        return [self.path, *find_companions(self.path, self._sample_file).values()]

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All variants that overlap a region, also those that begin before it or run over its end.

        Args:
            contig: name in this file or the same with or without `chr`.
            start: first base, 0-based.
            end: one past the last base.

        Raises:
            ValueError: unknown contig, X where its pseudo-autosomal variants are on contigs of their own, a damaged file.
        """
        name = match_contig(contig, self.contigs, self.path)
        apart = [known for known in self._variants.rows if known.removeprefix("chr") in APART]
        if apart and name.removeprefix("chr") in X:
            raise ValueError(
                f"Genotypes: all variants of {name} are expected on it, got pseudo-autosomal ones apart ({', '.join(apart)}).\n"
                f"  file: {self.path}\n"
                "  fix: plink2 --pfile NAME --merge-par --make-pgen --out JOINED (of XY: --merge-x --sort-vars)."
            )
        rows_V = find_overlapping(self._variants, name, start, end)
        ids, refs, alts = take_text(self._variants, rows_V)
        alleles_VS2, phased_VS = self._read_calls(rows_V, max(map(len, alts), default=0))
        self._check_numbers(alleles_VS2, alts, name, rows_V)
        return Alleles(
            positions=self._variants.positions[rows_V].astype(np.int64),
            stops=self._variants.stops[rows_V].astype(np.int64),
            refs=refs,
            alts=alts,
            ids=ids,
            alleles=alleles_VS2.transpose(1, 2, 0),
            phased=phased_VS.T,
            haploid=np.zeros(phased_VS.shape, dtype=bool).T,
            samples=self.samples,
            dosages=self._read_dosages(rows_V).T if self._has_dosages else None,
            ref_known=self._find_known(rows_V),
        )

    def _read_calls(self, rows_V: np.ndarray, most_alts: int) -> tuple[np.ndarray, np.ndarray]:
        """(V, S, 2) allele numbers and (V, S) phase."""
        shape = (len(rows_V), len(self.samples))
        alleles_VS2 = np.empty((*shape, 2), dtype=np.int8 if most_alts <= np.iinfo(np.int8).max else np.int16)
        phased_VS = np.empty(shape, dtype=bool)
        for block in self._blocks(len(rows_V)):
            numbers = np.empty((len(rows_V[block]), 2 * shape[1]), dtype=np.int32)
            phased = np.empty((len(numbers), shape[1]), dtype=bool)
            try:
                self._pgen.read_alleles_and_phasepresent_list(rows_V[block], numbers, phased)
            except RuntimeError as error:
                raise _damaged("a region's genotypes", error, self.path) from error
            numbers = np.maximum(numbers, MISSING, out=numbers).reshape(len(numbers), shape[1], 2)
            phased |= numbers[:, :, 0] == numbers[:, :, 1]
            alleles_VS2[block], phased_VS[block] = numbers, phased
            if self._rows is not None:
                alleles_VS2[block] = alleles_VS2[block].take(self._rows, axis=1)
                phased_VS[block] = phased.take(self._rows, axis=1)
        return alleles_VS2, phased_VS

    def _read_dosages(self, rows_V: np.ndarray) -> np.ndarray:
        """(V, S) expected copies of the ALT alleles together: what REF leaves of 2."""
        dosages_VS = np.empty((len(rows_V), len(self.samples)), dtype=np.float32)
        for block in self._blocks(len(rows_V)):
            copies = np.empty((len(rows_V[block]), len(self.samples)), dtype=np.float32)
            try:
                self._pgen.read_dosages_list(rows_V[block], copies, 0)
            except RuntimeError as error:
                raise _damaged("a region's dosages", error, self.path) from error
            copies[copies < 0] = np.nan
            dosages_VS[block] = 2 - (copies if self._rows is None else copies.take(self._rows, axis=1))
        return dosages_VS

    def _blocks(self, num_variants: int) -> list[slice]:
        step = max(1, BLOCK // len(self.samples))
        return [slice(first, first + step) for first in range(0, num_variants, step)]

    def _find_known(self, rows_V: np.ndarray) -> np.ndarray | None:
        """(V,) bool, REF is not provisional; None where it is of none."""
        provisional_V = np.zeros(len(rows_V), dtype=bool)
        for marks in (self._provisional, self._variants.provisional):
            if marks is not None:
                provisional_V |= marks[rows_V] if isinstance(marks, np.ndarray) else marks
        return ~provisional_V if provisional_V.any() else None

    def _check_counts(self, header: PgenHeader, num_samples: int, sample_file: Path, variant_file: Path) -> None:
        """Numbers of the three files agree; pgenlib would read beyond the end of an array where they do not."""
        pairs = [
            ("variants", header.num_variants, len(self._variants.positions), variant_file),
            ("samples", header.num_samples, num_samples, sample_file),
        ]
        for what, expected, got, file in pairs:
            if expected not in (None, got):
                raise ValueError(
                    f"Genotypes: {expected:,} {what} are expected as in the PGEN, got {got:,} in the file beside it.\n"
                    f"  file: {self.path}, {file}\n  fix: give the {file.suffix} that was written together with this PGEN."
                )

    def _check_numbers(self, alleles_VS2: np.ndarray, alts: list[tuple[str, ...]], contig: str, rows_V: np.ndarray) -> None:
        """Every allele that is called has its letters in the table of variants."""
        highest_V = alleles_VS2.max(axis=(1, 2), initial=0).tolist()
        for row, highest, known in zip(rows_V.tolist(), highest_V, alts, strict=True):
            if highest > len(known):
                raise ValueError(
                    f"Genotypes: allele numbers up to {len(known)} are expected at {contig}:{self._variants.positions[row] + 1}, "
                    f"which has {len(known)} ALT alleles, got {highest}.\n"
                    f"  file: {self.path}\n  fix: give the .pvar that was written together with this PGEN, with all ALT alleles."
                )


def _import_pgenlib() -> ModuleType:
    """pgenlib, which an extra brings."""
    try:
        import pgenlib
    except ImportError as error:
        raise ImportError('Genotypes: PGEN needs pgenlib.\n  fix: pip install "brainmt-align[genotypes]"') from error
    return pgenlib


def _find_variants(path: Path) -> Path:
    """The table of variants beside a PGEN."""
    candidates = [path.with_suffix(ending) for ending in (".pvar", ".pvar.zst")]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"Genotypes: {' or '.join(c.name for c in candidates)} is expected beside the PGEN, got neither.\n"
            f"  file: {path}\n  fix: put it there; from a .bim: plink2 --bpfile NAME --make-pgen --out NEW."
        )
    return found


def _find_samples(path: Path, options: GenotypeOptions) -> Path:
    """The table of samples: the one that is named, or the one beside a PGEN."""
    found = path.with_suffix(".psam") if options.sample_file is None else Path(options.sample_file)
    if not found.is_file():
        raise FileNotFoundError(
            f"Genotypes: a table of samples is expected with the PGEN, got no such file.\n"
            f"  file: {path}, {found}\n  fix: put {path.stem}.psam beside it, or name a .psam or .fam as its sample file."
        )
    return found


def _read_ids(path: Path) -> list[str]:
    """IID of a `.psam`; without its header line the second column, as in a `.fam`.

    Raises:
        ValueError: no samples, no column IID, lines without it.
    """
    lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    header = [line for line in lines if line[0].startswith("#")]
    names = [name.removeprefix("#") for name in header[-1]] if header else ["FID", "IID"]
    ids = [line[names.index("IID") :][:1] for line in lines if not line[0].startswith("#")] if "IID" in names else []
    if not ids or [] in ids:
        raise ValueError(
            f"Genotypes: a table of samples with IID in every line is expected, got columns {', '.join(names[:5])} and "
            f"{len(ids) - ids.count([])} ids in {len(ids)} lines.\n"
            f"  file: {path}\n  fix: give a .psam with a line `#IID …` or `#FID IID …`, or a .fam."
        )
    return [found[0] for found in ids]


def _damaged(what: str, error: RuntimeError, path: Path) -> ValueError:
    return ValueError(
        f"Genotypes: a whole PGEN that fits its .pvar is expected, got one of which {what} cannot be read ({error}).\n"
        f"  file: {path}\n  fix: copy both again and compare their sizes or checksums with the source."
    )

"""PLINK 1: a `.bed` with its `.bim` and `.fam` flows in; the alleles of one genomic region for the chosen samples flow out.

What the format leaves open, and how it is read here:

* No phase: a heterozygote has its two alleles on either haplotype, so `phased` is true of homozygotes alone.
* No reference: A2, the last column of the `.bim`, stands as REF and A1 as ALT, as plink2 reads them, but `ref_known` is False of
  all and `allele_orientation.orient` has the last word. PLINK 1.9 makes the commoner allele A2.
* Contigs by number: 23 is X, 24 Y, 26 MT (chr26 is chrM). 25, XY, PAR1 and PAR2 are the pseudo-autosomal part of X, in X's own
  coordinates, so they are read as X. MT is never taken for chrM.
* Sex: a male's only X stands as a homozygote, so the same sequence stands on both of his haplotypes. Which calls are haploid
  depends on the build's pseudo-autosomal borders, so `haploid` stays False, and a male's heterozygote on X outside of them, which
  PLINK lists as `het. haploid`, comes as what it looks like: an unphased heterozygote, of which the policy decides.

Memory is that of the `.bim` and of one region, at 4 bytes a sample and variant.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainmt_align.data.alleles import MISSING, NO_OPTIONS, Alleles, GenotypeOptions, choose_samples, find_contig, match_contig
from brainmt_align.data.genotype_companions import find_companions
from brainmt_align.data.plink_tables import ABSENT, read_ids, read_variants

MAGIC = b"\x6c\x1b"
SNP_MAJOR, SAMPLE_MAJOR = b"\x01", b"\x00"  # the third byte
SPELLED = re.compile(r"[ACGTN]+|<.+>|\*")  # bases or a symbolic allele; a lone D of an array is neither
SHOWN = 3  # records in a message


class BEDReader:
    """An open PLINK 1 file and the samples to read from it; see `alleles.GenotypeReader`.

    Attributes:
        path: the `.bed`.
        samples: the chosen sample ids (IID), in the order of the request (of the `.fam`, without a request).
        contigs: names of the contigs that hold variants, by letters where PLINK has numbers.
        lengths, build_words: empty, the format does not say them.
        notes: how many variants have no place.
        unplaced: variants on chromosome 0 or at a position below 1, which no region finds.
    """

    def __init__(self, path: str | Path, samples: Sequence[str] | None = None, options: GenotypeOptions = NO_OPTIONS):
        """Open the three files and choose samples; `options.sample_file` stands for the `.fam` where that has another name.

        Raises:
            ImportError: bed-reader is not installed.
            FileNotFoundError: one of the three is absent.
            ValueError: no PLINK 1 file, or one that goes sample by sample; a `.bim` or `.fam` that is not in its form or does not
                fit the `.bed`; an IID under several FIDs; sample ids as of `alleles.choose_samples`.
        """
        self.path = Path(path)
        self.lengths: dict[str, int] = {}
        self.build_words: list[str] = []
        self._sample_file = options.sample_file
        bim = self.path.with_suffix(".bim")
        fam = self.path.with_suffix(".fam") if options.sample_file is None else Path(options.sample_file)
        _require_files(self.path, bim, fam)
        _require_snp_major(self.path)
        known = read_ids(fam)
        self.samples = choose_samples(samples, known, fam)
        self._variants = read_variants(bim)
        self.contigs = list(self._variants.slices)
        self.unplaced = self._variants.unplaced
        told = f"Without a place, so in no region: {self.unplaced:,} of {self._variants.total:,} variants of {self.path.name}."
        self.notes = [told] if self.unplaced else []
        _require_size(self.path, self._variants.total, len(known))
        row = {name: i for i, name in enumerate(known)}
        self._rows = np.array([row[name] for name in self.samples], dtype=np.intp)
        self._bed = _open_bed(self.path, len(known), self._variants.total)

    def __enter__(self) -> "BEDReader":
        return self

    def __exit__(self, *exception) -> None:
        """Nothing stays open: each region opens the file anew."""

    def find_contig(self, contig: str) -> str | None:
        """The name under which the file holds a contig, None where it does not."""
        return find_contig(contig, self.contigs, self.path)

    def files_of(self, contig: str) -> list[Path]:
        """The file, which holds all contigs, and what lies beside it."""
        return [self.path, *find_companions(self.path, self._sample_file).values()]

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All records that overlap a region by the longer of their alleles, since either may be the reference's.

        They are sorted by position, those of one position in the order of the `.bim`, which itself may be in any order.

        Args:
            contig: X, Y and MT by letters; the same with or without `chr`.
            start: first base, 0-based.
            end: one past the last base.

        Raises:
            ValueError: unknown contig, alleles that are no bases (`I` and `D`, numbers, `0` for both), carriers of an allele `0`,
                a file that changed after it was opened.
        """
        found = self._variants.find(match_contig(contig, self.contigs, self.path), start, end)
        positions = self._variants.positions[found]
        ids = self._variants.ids[found].tolist()
        where = [f"{contig}:{p + 1} ({name})" for p, name in zip(positions.tolist(), ids, strict=True)]
        pairs = list(zip(self._variants.a1[found].tolist(), self._variants.a2[found].tolist(), strict=True))
        self._require_bases(pairs, where)
        count_SV = self._read_counts(self._variants.lines[found])
        lone = np.array([a2 == ABSENT for _, a2 in pairs], dtype=bool)  # A1 is the only allele, so it stands as REF
        count_SV[:, lone] = np.where(count_SV[:, lone] == MISSING, MISSING, 2 - count_SV[:, lone])
        refs = [a1 if a2 == ABSENT else a2 for a1, a2 in pairs]
        alts = [() if ABSENT in pair else (pair[0],) for pair in pairs]
        self._require_alts(count_SV, alts, where)
        missing_SV = count_SV == MISSING
        halves_S2V = np.stack([count_SV == 2, count_SV >= 1], axis=1).astype(np.int8)
        return Alleles(
            positions=positions,
            stops=positions + np.array([len(ref) for ref in refs], dtype=np.int64),
            refs=refs,
            alts=alts,
            ids=ids,
            alleles=np.where(missing_SV[:, None], np.int8(MISSING), halves_S2V),
            phased=(count_SV == 0) | (count_SV == 2),
            haploid=np.zeros(count_SV.shape, dtype=bool),
            samples=self.samples,
            ref_known=np.zeros(len(refs), dtype=bool),
        )

    def _read_counts(self, lines: np.ndarray) -> np.ndarray:
        """(samples, variants) int8: copies of A1, -1 where missing."""
        if not len(lines):
            return np.empty((len(self.samples), 0), dtype=np.int8)
        try:
            count_SV = self._bed.read((self._rows, lines), dtype="int8")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"Genotypes: the file as it was when it was opened is expected, got: {error}.\n"
                f"  file: {self.path}\n  fix: copy it again and compare its size or checksum with the source."
            ) from error
        count_SV[count_SV < 0] = MISSING
        return count_SV

    def _require_bases(self, pairs: list[tuple[str, str]], where: list[str]) -> None:
        """Alleles that are spelled or symbolic, one of the two at most absent."""
        odd = [v for v, pair in enumerate(pairs) if not any(map(SPELLED.fullmatch, pair)) or not all(map(_is_allele, pair))]
        if odd:
            shown = [f"{'/'.join(pairs[v])} at {where[v]}" for v in odd[:SHOWN]]
            stem = shlex.quote(str(self.path.with_suffix("")))
            raise ValueError(
                f"Genotypes: alleles spelled in A, C, G, T or N are expected, got {len(odd)} of {len(pairs)} records otherwise, "
                f"e.g. {', '.join(shown)}.\n  file: {self.path.with_suffix('.bim')}\n"
                f"  fix: write their bases into the .bim, or drop them (plink2 --bfile {stem} --snps-only just-acgt --make-bed)."
            )

    def _require_alts(self, count_SV: np.ndarray, alts: list[tuple[str, ...]], where: list[str]) -> None:
        """Nobody carries an allele that the `.bim` has no letters for."""
        bare = np.array([not each for each in alts], dtype=bool)
        odd = np.flatnonzero(bare & (count_SV > 0).any(axis=0))
        if len(odd):
            raise ValueError(
                f"Genotypes: nobody is expected to carry an allele written as 0, got carriers in {len(odd)} records, e.g. at "
                f"{where[odd[0]]}.\n  file: {self.path}\n  fix: take the .bim that was written with this .bed."
            )


def _is_allele(allele: str) -> bool:
    return allele == ABSENT or SPELLED.fullmatch(allele) is not None


def _open_bed(path: Path, num_samples: int, num_variants: int) -> Any:
    """bed-reader's own reader; the counts keep it from reading `.bim` and `.fam` again, one thread leaves the others alone."""
    try:
        from bed_reader import open_bed
    except ImportError as error:
        raise ImportError(
            "Genotypes: PLINK 1 is read by bed-reader, which is expected to be installed, got no such library.\n"
            f'  file: {path}\n  fix: pip install "brainmt-align[genotypes]"'
        ) from error
    return open_bed(path, iid_count=num_samples, sid_count=num_variants, num_threads=1)


def _require_files(bed: Path, bim: Path, fam: Path) -> None:
    """All three are there."""
    if not bed.is_file():
        raise FileNotFoundError(
            f"Genotypes: a PLINK 1 .bed is expected, got no such file.\n  file: {bed}\n  fix: correct data.genotypes."
        )
    absent = [str(each) for each in (bim, fam) if not each.is_file()]
    if absent:
        raise FileNotFoundError(
            f"Genotypes: a .bed is expected with its .bim and .fam, got no {' and no '.join(absent)}.\n"
            f"  file: {bed}\n  fix: put them beside it under its name, or link them there."
        )


def _require_snp_major(path: Path) -> None:
    """The three bytes that begin every file that is readable region by region."""
    with path.open("rb") as file:
        begin = file.read(3)
    if begin == MAGIC + SAMPLE_MAJOR:
        raise ValueError(
            "Genotypes: a .bed that goes variant by variant is expected, got one that goes sample by sample.\n"
            f"  file: {path}\n  fix: plink --bfile {shlex.quote(str(path.with_suffix('')))} --make-bed --out NEW"
        )
    if begin != MAGIC + SNP_MAJOR:
        raise ValueError(
            f"Genotypes: a PLINK 1 .bed, which begins with bytes 6c 1b 01, is expected, got {begin.hex(' ') or 'none at all'}.\n"
            f"  file: {path}\n  fix: give PLINK's .bed as data.genotypes; a table of regions goes into data.regions."
        )


def _require_size(path: Path, num_variants: int, num_samples: int) -> None:
    """Two bits a call, whole bytes a variant, three bytes in front."""
    expected, got = 3 + num_variants * ((num_samples + 3) // 4), path.stat().st_size
    if got != expected:
        raise ValueError(
            f"Genotypes: {expected:,} bytes are expected for {num_variants:,} variants of the .bim and {num_samples:,} samples "
            f"of the .fam, got {got:,}.\n  file: {path}\n  fix: take the .bim and .fam that were written with this .bed, whole."
        )

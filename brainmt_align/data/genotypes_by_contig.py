"""Genotypes by contig: a path with `{contig}` in it, as biobanks cut their files, flows in; one reader of all files flows out."""

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from brainmt_align.data.alleles import Alleles, GenotypeOptions, GenotypeReader, find_contig, match_contig
from brainmt_align.data.genotype_companions import find_companions
from brainmt_align.listing import some

PLACE = "{contig}"
CHROMOSOME = re.compile(r"(chr)?(0?[1-9]|1\d|2[0-6]|X|Y|XY|M|MT)")
SHOWN = 5  # files in a note


class ContigFiles:
    """One file a contig, opened when the contig is first asked for, all of the same samples.

    Attributes:
        path: with `{contig}` in it.
        samples: the chosen sample ids, in the order of the request; without one, of the file that was opened first, as by a
            region's contig, or of the first of `contigs`.
        contigs: what stands in the place of `{contig}`, sorted as by `find_files`.
        lengths: contig → bases, of the files that are open.
        build_words: what the open files say of their build.
        notes: of the open files, and which files beside those of chromosomes were not opened.
    """

    def __init__(
        self,
        path: str | Path,
        samples: Sequence[str] | None,
        options: GenotypeOptions,
        reader: Callable[..., GenotypeReader],
    ):
        """Find the files; each is opened, and complains, when its contig or the samples are first asked for.

        Args:
            path: a path with `{contig}`, once or more often.
            samples: ids, in this order; all of the file that is opened first without it.
            options: for every file; `{contig}` in `sample_file` too. A blank chromosome field is taken for the file's contig.
            reader: of this form of file.

        Raises:
            FileNotFoundError: no file fits.
        """
        self.path = Path(path)
        self._files = find_files(self.path)
        if not self._files:
            raise FileNotFoundError(
                f"Genotypes: files with a contig's name in the place of {PLACE} are expected, got none.\n"
                f"  file: {self.path}\n  fix: correct data.genotypes."
            )
        self._options, self._reader = options, reader
        self.contigs = list(self._files)
        self._open: dict[str, GenotypeReader] = {}
        self._wanted = None if samples is None else list(samples)

    def __enter__(self) -> "ContigFiles":
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.ExitStack() as closing:
            for each in self._open.values():
                closing.push(each)

    @property
    def samples(self) -> list[str]:
        """Opens the first file where none is open."""
        if not self._open:
            self._file(self.contigs[0])
        return next(iter(self._open.values())).samples

    @property
    def notes(self) -> list[str]:
        """Each once."""
        strays = [file.name for contig, file in self._files.items() if not (CHROMOSOME.fullmatch(contig) or contig in self._open)]
        told = f"Left alone, since what stands for {PLACE} is no contig of a region: {some(strays, SHOWN)}."
        own = [told] if 0 < len(strays) < len(self._files) else []
        return list(dict.fromkeys([*own, *(note for file in self._open.values() for note in file.notes)]))

    @property
    def lengths(self) -> dict[str, int]:
        """Contig → bases, by the contig's name in `contigs`."""
        found = {}
        for contig, file in self._open.items():
            name = file.find_contig(contig)
            found |= {contig: file.lengths[name]} if name in file.lengths else {}
        return found

    @property
    def build_words(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(word for file in self._open.values() for word in file.build_words))

    def find_contig(self, contig: str) -> str | None:
        """The name in `contigs` of the file that holds a contig, None where there is no file, or it holds another."""
        found = find_contig(contig, self.contigs, self.path)
        return None if found is None or self._file(found).find_contig(contig) is None else found

    def files_of(self, contig: str) -> list[Path]:
        """The file that holds a contig, and what lies beside it."""
        return self._file(match_contig(contig, self.contigs, self.path)).files_of(contig)

    def read(self, contig: str, start: int, end: int) -> Alleles:
        """All records of the contig's file that overlap a region (0-based half-open).

        Raises:
            FileNotFoundError, ValueError: no such contig, a file that lacks a sample, and what its reader complains of.
        """
        return self._file(match_contig(contig, self.contigs, self.path)).read(contig, start, end)

    def _file(self, contig: str) -> GenotypeReader:
        """The reader of one file, which then stays open."""
        if contig not in self._open:
            own = self._options.contig or contig
            samples = self._options.sample_file and str(self._options.sample_file).replace(PLACE, contig)
            options = self._options._replace(contig=own, sample_file=samples)
            file = self._reader(self._files[contig], self._wanted, options)
            self._open[contig] = file
            self._wanted = self._wanted or file.samples
        return self._open[contig]


def find_files(path: Path) -> dict[str, Path]:
    """Contig → its file, of all files whose name fits `path` with something in the place of `{contig}`.

    They are in order of name, chromosomes first; names with `_` or `.`, as remains of other work have them, come last.
    """
    pattern = re.escape(str(path)).replace(re.escape(PLACE), "(?P<contig>[^/]+?)", 1).replace(re.escape(PLACE), "(?P=contig)")
    fixed = Path(str(path).partition(PLACE)[0])
    folder = fixed if str(path).partition(PLACE)[0].endswith("/") else fixed.parent
    names = str(path.relative_to(folder)).replace(PLACE, "*")
    found = {}
    for each in sorted(folder.glob(names)):
        fits = re.fullmatch(pattern, str(each))
        if fits:
            found[fits["contig"]] = each
    return dict(sorted(found.items(), key=lambda entry: (not CHROMOSOME.fullmatch(entry[0]), "_" in entry[0] or "." in entry[0])))


def name_files(path: Path, sample_file: Path | None) -> dict[str, Path]:
    """`""`, ` 22`, `.pvar`, ` 22.pvar` … → a file of genotypes, or one beside it that is there, of one file or of one a contig.

    Args:
        path: with or without `{contig}`.
        sample_file: likewise; without `{contig}` it is left out, since it is one file for all.
    """
    named = {}
    for contig, file in find_files(path).items() if PLACE in str(path) else [("", path)]:
        key = f" {contig}" if contig else ""
        people = sample_file and Path(str(sample_file).replace(PLACE, contig))
        named[key] = file
        named |= {f"{key}.{kind}": each for kind, each in find_companions(file, people).items() if each != sample_file}
    return named

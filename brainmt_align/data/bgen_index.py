"""BGEN index: a `.bgen.bgi` as bgenix writes it flows in; where the records that overlap a region lie in the BGEN flows out.

The index has no end of records: the longest first allele of a contig, asked once, bounds how far before a region one begins.
"""

import shlex
import sqlite3
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote


class IndexRow(NamedTuple):
    """One record's place: `position` is 1-based, `offset` and `size` are bytes in the BGEN."""

    position: int
    id: str
    num_alleles: int
    first_allele: str
    second_allele: str | None
    offset: int
    size: int


class BGENIndex:
    """An open index that belongs to its BGEN.

    Attributes:
        path: of the index.
        chromosomes: the names it holds, sorted; "" where the BGEN's chromosome field is blank.
    """

    def __init__(self, bgen: Path):
        """Open the index beside a BGEN and compare it with that file.

        Raises:
            FileNotFoundError: no index.
            ValueError: not an index of bgenix, of another file, or of this one before it was changed or cut short.
        """
        self.bgen = bgen
        self.path = Path(f"{bgen}.bgi")
        self._longest: dict[str, int] = {}
        if not self.path.is_file():
            raise FileNotFoundError(
                f"Genotypes: an index (.bgen.bgi) is expected beside the BGEN, got none.\n"
                f"  file: {bgen}\n  fix: bgenix -g {shlex.quote(str(bgen))} -index"
            )
        # Read only, and unlocked: shared folders may forbid the one and lack the other.
        self._rows = sqlite3.connect(f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1", uri=True)
        try:
            self.chromosomes = self._list_chromosomes()
            self._compare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._rows.close()

    def find(self, chromosome: str, start: int, end: int) -> list[IndexRow]:
        """Records whose first allele overlaps a region (0-based half-open), by position, whatever the BGEN's order.

        Raises:
            ValueError: a damaged index, or a record beyond the end of the BGEN.
        """
        longest = self._find_longest(chromosome)
        rows = self._ask(
            "SELECT position, rsid, number_of_alleles, allele1, allele2, file_start_position, size_in_bytes FROM Variant "
            "WHERE chromosome = ? AND position > ? AND position <= ? AND position - 1 + LENGTH(allele1) > ? "
            "ORDER BY position, file_start_position",
            (chromosome, start + 1 - longest, end, start),
        )
        found = [IndexRow(*row) for row in rows]
        size = self.bgen.stat().st_size
        if beyond := [row for row in found if row.offset + row.size > size]:
            raise ValueError(
                f"Genotypes: {beyond[0].offset + beyond[0].size:,} bytes or more are expected by the index, got {size:,}; "
                f"the BGEN is cut short or the index is of another file.\n  file: {self.bgen}\n  fix: copy the BGEN again, "
                f"or renew its index: bgenix -g {shlex.quote(str(self.bgen))} -index -clobber"
            )
        if len({row.offset for row in found}) < len(found):
            raise ValueError(
                f"Genotypes: every record is expected once in the index, got one twice in {start + 1}-{end}.\n"
                f"  file: {self.path}\n  fix: bgenix -g {shlex.quote(str(self.bgen))} -index -clobber"
            )
        return found

    def _list_chromosomes(self) -> list[str]:
        """One step down the primary key a name, where DISTINCT would walk through millions of rows."""
        names: list[str] = []
        query, values = "SELECT MIN(chromosome) FROM Variant", ()
        while (name := self._ask(query, values)[0][0]) is not None:
            names.append(name)
            query, values = "SELECT MIN(chromosome) FROM Variant WHERE chromosome > ?", (name,)
        return names

    def _find_longest(self, chromosome: str) -> int:
        """Bases of a chromosome's longest first allele."""
        if chromosome not in self._longest:
            ((longest,),) = self._ask("SELECT MAX(LENGTH(allele1)) FROM Variant WHERE chromosome = ?", (chromosome,))
            self._longest[chromosome] = longest or 1
        return self._longest[chromosome]

    def _compare(self) -> None:
        """The size and first bytes that the index keeps of its BGEN are this one's; old indices keep none."""
        if not self._ask("SELECT name FROM sqlite_master WHERE name = 'Metadata'"):
            return
        for size, beginning in self._ask("SELECT file_size, first_1000_bytes FROM Metadata"):
            with self.bgen.open("rb") as file:
                same = file.read(len(beginning)) == beginning
            got = self.bgen.stat().st_size
            if same and got == size:
                continue
            what = "a cut copy, or one changed since" if same else "the index is of another file"
            raise ValueError(
                f"Genotypes: the BGEN that its index was made of is expected, of {size:,} bytes, got one of {got:,} bytes "
                f"({what}).\n  file: {self.bgen}\n  fix: copy the BGEN again, or renew its index: "
                f"bgenix -g {shlex.quote(str(self.bgen))} -index -clobber"
            )

    def _ask(self, query: str, values: tuple = ()) -> list[tuple]:
        try:
            return self._rows.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise ValueError(
                f"Genotypes: an index as bgenix writes it is expected, got a file that cannot be read as one ({error}).\n"
                f"  file: {self.path}\n  fix: bgenix -g {shlex.quote(str(self.bgen))} -index -clobber"
            ) from error

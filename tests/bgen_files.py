"""BGEN files for tests: records of probabilities flow in; a `.bgen` and the index that bgenix would write beside it flow out."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bgen import BgenReader, BgenWriter

NAN = float("nan")
SCHEMA = """
CREATE TABLE Metadata (filename TEXT NOT NULL, file_size INT NOT NULL, last_write_time INT NOT NULL,
    first_1000_bytes BLOB NOT NULL, index_creation_time INT NOT NULL);
CREATE TABLE Variant (chromosome TEXT NOT NULL, position INT NOT NULL, rsid TEXT NOT NULL, number_of_alleles INT NOT NULL,
    allele1 TEXT NOT NULL, allele2 TEXT NULL, file_start_position INT NOT NULL, size_in_bytes INT NOT NULL,
    PRIMARY KEY (chromosome, position, rsid, allele1, allele2, file_start_position)) WITHOUT ROWID;
"""


class Site(NamedTuple):
    """One record: `position` is 1-based, `values` are the probabilities, a row a sample."""

    position: int
    alleles: str  # blank between them
    values: list[list[float]]
    phased: bool = True
    ploidy: int | list[int] = 2


def write_bgen(path: Path, sites: list[Site], samples: list[str] | None = None, chromosome: str = "20", layout: int = 2) -> Path:
    """A BGEN of 8 bits with its index; without samples it holds no ids."""
    with BgenWriter(path, len(sites[0].values), samples=samples, compression="zlib", layout=layout) as file:
        for number, site in enumerate(sites):
            values, ploidy = np.array(site.values, dtype=float), site.ploidy
            ploidy = ploidy if isinstance(ploidy, int) else np.array(ploidy, dtype=np.uint8)
            file.add_variant("", f"rs{number}", chromosome, site.position, site.alleles.split(), values, ploidy, site.phased)
    index_bgen(path)
    return path


def index_bgen(path: Path) -> None:
    """What `bgenix -index -clobber` writes."""
    index = Path(f"{path}.bgi")
    index.unlink(missing_ok=True)
    with BgenReader(path) as file:
        rows = [
            (v.chrom, v.pos, v.rsid, len(v.alleles), *v.alleles[:2], v.fileoffset, v.next_variant_offset - v.fileoffset)
            for v in file
        ]
    change_index(path, SCHEMA)
    with sqlite3.connect(index) as database:
        database.executemany("INSERT INTO Variant VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        content = path.read_bytes()
        database.execute("INSERT INTO Metadata VALUES (?, ?, 0, ?, 0)", (path.name, len(content), content[:1000]))
    database.close()


def change_index(path: Path, statements: str) -> None:
    """SQL on the index of a BGEN."""
    database = sqlite3.connect(f"{path}.bgi")
    database.executescript(statements)
    database.close()

"""Sample files: an Oxford `.sample` flows in; the ids of its people, in its order, flow out."""

from pathlib import Path

TYPES = frozenset("0DCPBS")  # of columns, on the second line


def read_sample_file(path: str | Path) -> list[str]:
    """ID_2 of each person, or the first column in a file without ID_2.

    `plink2 --export bgen-1.2` writes the family to ID_1 and the person to ID_2; UK Biobank writes the person to both.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not of two header lines and at least as many columns a person.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"Samples: a .sample file is expected, got no such file.\n  file: {path}\n  fix: correct sample_file."
        )
    with path.open(encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip()]
    if len(rows) < 2 or not TYPES.issuperset(rows[1]) or len(rows[1]) != len(rows[0]):
        raise ValueError(
            "Samples: an Oxford .sample is expected, with two header lines such as `ID_1 ID_2 missing sex` and `0 0 0 D`, "
            f"got {' / '.join(' '.join(row) for row in rows[:2]) or 'an empty file'}.\n"
            f"  file: {path}\n  fix: give the .sample that came with the BGEN, not a .fam or .psam."
        )
    names = [name.upper() for name in rows[0]]
    column = names.index("ID_2") if "ID_2" in names else 0
    short = [number for number, row in enumerate(rows, 1) if len(row) <= column]
    if short:
        raise ValueError(
            f"Samples: {len(rows[0])} columns are expected, got fewer in {len(short)} lines, e.g. line {short[0]}.\n"
            f"  file: {path}\n  fix: copy the file again, or repair these lines."
        )
    return [row[column] for row in rows[2:]]

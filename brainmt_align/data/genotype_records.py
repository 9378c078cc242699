"""Genotype records: the text of VCF records flows in; their variants and the calls of the chosen samples flow out."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainmt_align.data.alleles import MISSING

USUAL_CALL = np.frombuffer(b"0|0\t", dtype=np.uint32)[0]
LOW_DIGITS = np.frombuffer(bytes([7, 0, 7, 0]), dtype=np.uint32)[0]  # the bits in which the letters 0 to 7 differ
END = re.compile(r"(?:^|;)END=(\d+)(?:;|$)")


class Call(NamedTuple):
    """One parsed genotype."""

    first: int
    second: int
    phased: bool
    haploid: bool


class Calls(NamedTuple):
    """The genotypes of V records of S samples in the file's order: (V, S, 2) alleles, (V, S) flags."""

    alleles: np.ndarray
    phased: np.ndarray
    haploid: np.ndarray


class Record(NamedTuple):
    """One variant without its genotypes."""

    position: int
    stop: int
    id: str
    ref: str
    alts: tuple[str, ...]


class Text(NamedTuple):
    """One line of the file: its variant, the keys of FORMAT, and the cells of the chosen samples as they are written."""

    variant: Record
    keys: list[str]
    cells: str
    where: str  # contig:position, 1-based


def read_text(line: str, path: Path) -> Text:
    """A record's line in its columns: a hundred times faster than asking for its genotypes sample by sample.

    Raises:
        ValueError: no position, no GT.
    """
    columns = line.rstrip("\n").split("\t", 9)
    where, keys = ":".join(columns[:2]), columns[8].split(":") if len(columns) > 9 else []
    if len(columns) < 8 or not columns[1].isdecimal():
        raise ValueError(
            f"Genotypes: records with the columns of a VCF and a whole position are expected, got {where!r} at the beginning of "
            f"one.\n  file: {path}\n  fix: repair or drop that record."
        )
    if "GT" not in keys:
        raise ValueError(
            f"Genotypes: FORMAT with GT is expected at {where}, got {':'.join(keys) or 'none'}.\n"
            f"  file: {path}\n  fix: call genotypes from the likelihoods or dosages, or drop such records."
        )
    alts = () if columns[4] == "." else tuple(columns[4].upper().split(","))
    if "" in alts or not columns[3]:
        raise ValueError(
            f"Genotypes: alleles with letters are expected at {where}, got REF {columns[3]!r} and ALT {columns[4]!r}.\n"
            f"  file: {path}\n  fix: repair or drop that record."
        )
    position = int(columns[1]) - 1
    stop = find_stop(position, len(columns[3]), columns[7])
    return Text(Record(position, stop, columns[2], columns[3].upper(), alts), keys, columns[9], where)


def find_stop(position: int, ref_bases: int, info: str) -> int:
    """0-based end (exclusive) of a record: of its REF, or INFO/END where that is further.

    SVLEN is not asked: htslib's own end takes it in place of an absent END, `bcftools consensus` 1.16 does not apply such a
    record.

    Args:
        position: 0-based.
        ref_bases: letters of REF.
        info: the column as it is written.
    """
    found = END.search(info) if "END=" in info else None
    return max(position + ref_bases, int(found[1]) if found else 0)


def parse_calls(texts: list[Text], names: list[str], path: Path) -> Calls:
    """The calls of consecutive records, plain ones all at once.

    Args:
        texts: one record or more.
        names: of the chosen samples, in the file's order.
        path: of the file, for messages.

    Raises:
        ValueError: a ploidy other than 1 or 2, an allele number without its ALT.
    """
    calls = _parse_plain(texts, len(names)) if all(_looks_plain(text, len(names)) for text in texts) else None
    if calls is None and len(texts) > 1:
        return _join([parse_calls([text], names, path) for text in texts])
    calls = calls or _parse_any(texts[0], names, path)
    highest_V = calls.alleles.max(axis=(1, 2))
    for text, highest in zip(texts, highest_V.tolist(), strict=True):
        if highest > len(text.variant.alts):
            raise ValueError(
                f"Genotypes: allele numbers up to {len(text.variant.alts)} are expected at {text.where}, "
                f"which has {len(text.variant.alts)} ALT alleles, got {highest}.\n"
                f"  file: {path}\n  fix: repair the record; a tool has dropped ALT alleles without renumbering GT."
            )
    return calls


def phase_sets_of(text: Text) -> list[str] | None:
    """FORMAT/PS of each sample as it is spelled, "." where absent; None where FORMAT has no PS.

    VCF lets a cell drop its last fields.
    """
    if "PS" not in text.keys:
        return None
    column = text.keys.index("PS")
    cells = [cell.split(":", column + 1) for cell in text.cells.split("\t")]
    return [(cell[column] if len(cell) > column else "") or "." for cell in cells]


def _looks_plain(text: Text, num_samples: int) -> bool:
    return text.keys == ["GT"] and len(text.cells) == 4 * num_samples - 1


def _parse_plain(texts: list[Text], num_samples: int) -> Calls | None:
    """Diploid one-digit calls and nothing else (`0|1<tab>1|0…`) all at once; None where any call is of another form."""
    letters = np.frombuffer("".join([f"{text.cells}\t" for text in texts]).encode(), dtype=np.uint8)
    letters_VS4 = letters.reshape(len(texts), num_samples, 4)
    apart_n = letters.view(np.uint32) ^ USUAL_CALL
    if not np.bitwise_or.reduce(apart_n) & ~LOW_DIGITS:  # nothing but phased calls of 0 to 7, which is most files
        alleles_VS2 = apart_n.view(np.int8).reshape(letters_VS4.shape)[:, :, ::2]
        return Calls(alleles_VS2, np.ones(alleles_VS2.shape[:2], dtype=bool), np.zeros(alleles_VS2.shape[:2], dtype=bool))
    digits_VS2 = letters_VS4[:, :, ::2]
    phased_VS = letters_VS4[:, :, 1] == ord("|")
    missing_VS2 = digits_VS2 == ord(".")
    alleles_VS2 = digits_VS2 - np.uint8(ord("0"))  # wraps around below "0", so one comparison tells digits
    fits = (alleles_VS2 < 10) | missing_VS2
    fits_VS = (letters_VS4[:, :, 3] == ord("\t")) & (phased_VS | (letters_VS4[:, :, 1] == ord("/")))
    if not (fits.all() and fits_VS.all()):
        return None
    alleles_VS2 = alleles_VS2.view(np.int8)
    alleles_VS2[missing_VS2] = MISSING
    return Calls(alleles_VS2, phased_VS, np.zeros(phased_VS.shape, dtype=bool))


def _join(calls: list[Calls]) -> Calls:
    return Calls(*(np.concatenate(parts) for parts in zip(*calls, strict=True)))


def _parse_any(text: Text, names: list[str], path: Path) -> Calls:
    """Calls of any form; each distinct spelling is parsed once."""
    column = text.keys.index("GT")
    cells = [cell.split(":", column + 1) for cell in text.cells.split("\t")]
    spellings = [cell[column] if len(cell) > column else "." for cell in cells]
    if len(spellings) != len(names):
        raise ValueError(
            f"Genotypes: a call of each of {len(names)} samples is expected at {text.where}, got {len(spellings)}.\n"
            f"  file: {path}\n  fix: repair or drop that record."
        )
    known = {spelling: _parse_call(spelling) for spelling in set(spellings)}
    odd = [(name, spelling) for name, spelling in zip(names, spellings, strict=True) if known[spelling] is None]
    if odd:
        raise ValueError(
            f"Genotypes: ploidy 1 or 2 is expected at {text.where}, got {len(odd)} other calls, "
            f"e.g. {odd[0][1]} of {odd[0][0]}.\n"
            f"  file: {path}\n  fix: split or drop such calls, e.g. `bcftools +fixploidy`."
        )
    calls = [known[spelling] for spelling in spellings]
    return Calls(
        np.array([[(c.first, c.second) for c in calls]], dtype=np.int16),
        np.array([[c.phased for c in calls]], dtype=bool),
        np.array([[c.haploid for c in calls]], dtype=bool),
    )


def _parse_call(spelling: str) -> Call | None:
    """`0|1`, `1/.`, `1`, `.` → a call; None for any other ploidy. VCF 4.4 may write the phase before the first allele too."""
    parts = spelling.lstrip("|/").replace("|", "/").split("/")
    if not all(part == "." or part.isdecimal() for part in parts) or len(parts) > 2:
        return None
    numbers = [MISSING if part == "." else int(part) for part in parts]
    haploid = len(numbers) == 1
    return Call(numbers[0], numbers[-1], haploid or "|" in spelling.lstrip("|/"), haploid)

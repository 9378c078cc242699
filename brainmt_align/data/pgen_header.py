"""The header of a `.pgen`: the file flows in; its counts, whether it holds dosages and which REF are provisional flow out.

pgenlib reads the genotypes but says none of this, and it takes the length of an array on trust that these counts can check.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = b"\x6c\x1b"
PLINK1, FIXED, FIXED_DOSAGE, FIXED_PHASED_DOSAGE, VARIABLE, EXTENDED = 0x01, 0x02, 0x03, 0x04, 0x10, 0x11
INDEX_APART = (0x20, 0x21)
VBLOCK = 2**16  # variants whose entries stand together
DOSAGE_BITS = 0x60  # of a record type of 8 bits


class PgenHeader(NamedTuple):
    """What the first bytes say.

    Attributes:
        num_variants, num_samples: None where the file does not say them (the layout of PLINK 1).
        has_dosages: some record has dosages; also true where only reading them would tell.
        provisional: (variants,) bool, REF may be any of the alleles; or one answer for all variants.
    """

    num_variants: int | None
    num_samples: int | None
    has_dosages: bool
    provisional: np.ndarray | bool


def read_pgen_header(path: Path) -> PgenHeader:
    """Read the header of a `.pgen`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a PGEN, cut short, or with its index in a file apart.

    Reference: the draft specification of PGEN, https://github.com/chrchang/plink-ng/tree/master/pgen_spec
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Genotypes: a PGEN is expected, got no such file.\n  file: {path}\n  fix: correct data.genotypes."
        )
    with path.open("rb") as file:
        head = file.read(12)
        mode = head[2] if len(head) > 2 and head[:2] == MAGIC else None
        if mode == PLINK1:
            return PgenHeader(None, None, False, True)
        if mode in INDEX_APART:
            raise ValueError(
                "Genotypes: a PGEN with its index inside is expected, got one with an index apart (.pgen.pgi).\n"
                f"  file: {path}\n  fix: plink2 --pfile NAME --make-pgen --out JOINED."
            )
        if mode not in (FIXED, FIXED_DOSAGE, FIXED_PHASED_DOSAGE, VARIABLE, EXTENDED) or len(head) < 12:
            raise ValueError(
                f"Genotypes: a PGEN (first bytes 6c 1b and a known layout) is expected, got {head[:3].hex(' ') or 'nothing'} "
                f"in {path.stat().st_size:,} bytes.\n  file: {path}\n  fix: copy it again, or give the file that plink2 wrote."
            )
        num_variants, num_samples = np.frombuffer(head, "<u4", 2, offset=3).tolist()
        control = head[11]
        known = PgenHeader(num_variants, num_samples, mode not in (FIXED, VARIABLE), control >> 6 == 2)
        return _walk(file.read, control, known) if mode == VARIABLE else known._replace(provisional=control >> 6 in (2, 3))


def _walk(read, control: int, known: PgenHeader) -> PgenHeader:
    """Record types and flags of all variants, block by block; pgenlib itself complains of a header that ends too soon."""
    storage, with_flags = control & 15, control >> 6 == 3
    if storage > 11:  # compact forms for one sample, with dosages
        return known._replace(has_dosages=True, provisional=known.provisional or with_flags)
    counted = control >> 4 & 3
    type_bits, length_bytes = (8 if storage & 4 else 4, 1 + storage % 4) if storage < 8 else ((1, 2, 2, 4)[storage - 8], 0)
    blocks = range(0, known.num_variants, VBLOCK)
    read(8 * len(blocks))
    has_dosages, flags = False, []
    for first in blocks:
        count = min(VBLOCK, known.num_variants - first)
        types = np.frombuffer(read((type_bits * count + 7) // 8), np.uint8)
        has_dosages |= type_bits == 8 and bool((types & DOSAGE_BITS).any())
        read((length_bytes + counted) * count)
        if with_flags:
            flags.append(np.unpackbits(np.frombuffer(read((count + 7) // 8), np.uint8), count=count, bitorder="little"))
    provisional = np.concatenate(flags).astype(bool) if flags else known.provisional
    return known._replace(has_dosages=has_dosages, provisional=provisional)

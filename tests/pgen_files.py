"""Small PGEN files for tests: records as text flow in; `.pgen`, `.pvar` and `.psam` flow out."""

from pathlib import Path

import numpy as np
import pgenlib

SAMPLES = ("anna", "ben", "carl")
HEADER = "##contig=<ID=20,length=1000>\n"


def write_pgen(folder: Path, records: list[str], samples=SAMPLES, header: str = HEADER, **flags) -> Path:
    """Records as `POS REF ALT INFO CALL…` or `CHROM:POS …`, separated by blanks → the path of the PGEN."""
    rows = [record.split() for record in records]
    path = folder / "small.pgen"
    num_alleles = [2 + row[2].count(",") for row in rows]
    with pgenlib.PgenWriter(
        str(path).encode(),
        len(samples),
        variant_ct=len(rows),
        allele_ct_limit=max(num_alleles),
        hardcall_phase_present=True,
        **{"nonref_flags": False} | flags,
    ) as writer:
        for row, count in zip(rows, num_alleles, strict=True):
            calls = [call.replace("|", "/").split("/") for call in row[4:]]
            numbers = np.array([-9 if n == "." else int(n) for call in calls for n in call], dtype=np.int32)
            phased = np.array(["|" in call and len(set(call)) == 3 for call in row[4:]])
            writer.append_partially_phased(numbers, phased, allele_ct=count)
    lines = [f"{header}#CHROM\tPOS\tID\tREF\tALT\tINFO"]
    for i, (position, ref, alt, info, *_) in enumerate(rows):
        contig, _, position = position.rpartition(":")
        lines.append("\t".join([contig or "20", position, f"r{i}", ref, alt, info]))
    path.with_suffix(".pvar").write_text("\n".join(lines) + "\n")
    path.with_suffix(".psam").write_text("#IID\tSEX\n" + "".join(f"{name}\tNA\n" for name in samples))
    return path

"""Genotype companions: a path of genotypes flows in; the files beside it that decide what is read flow out, unopened."""

from pathlib import Path

BESIDE: dict[str, dict[str, tuple[str, ...]]] = {  # ending → kind → endings of its file, the first that is there counts
    ".pgen": {"pvar": (".pvar", ".pvar.zst"), "psam": (".psam",)},
    ".bgen": {"bgi": (".bgen.bgi",), "sample": (".sample",)},
    ".bed": {"bim": (".bim",), "fam": (".fam",)},
}
INDICES = {"index": (".csi", ".tbi")}  # of a VCF or BCF, behind its whole name; htslib takes the first that is there
PEOPLE = ("psam", "sample", "fam")


def find_companions(path: Path, sample_file: str | Path | None = None) -> dict[str, Path]:
    """Kind of file (`pvar`, `psam`, `bgi`, `sample`, `bim`, `fam`, `index`) → its path, of those that are there.

    Args:
        path: of genotypes in one file.
        sample_file: stands for the table of people where that has another name.
    """
    kinds, stem = BESIDE.get(path.suffix), path.with_suffix("")
    if kinds is None:
        kinds, stem = INDICES, path
    found = {}
    for kind, endings in kinds.items():
        candidates = [stem.with_name(f"{stem.name}{ending}") for ending in endings]
        if kind in PEOPLE and sample_file is not None:
            candidates = [Path(sample_file)]
        if there := next((candidate for candidate in candidates if candidate.is_file()), None):
            found[kind] = there
    return found

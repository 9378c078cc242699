"""Haplotype settings: how genotypes become sequences; words flow in, checked settings flow out."""

from pathlib import Path
from typing import NamedTuple

from brainmt_align.data.alleles import NO_OPTIONS, GenotypeOptions
from brainmt_align.data.region_shapes import WHOLE, RegionShape

UNPHASED_POLICIES = ("error", "as_written", "skip")
MISSING_POLICIES = ("error", "reference", "N")
SYMBOLIC_POLICIES = ("apply", "skip")
MISMATCH_POLICIES = ("error", "skip")
UNDECIDED_POLICIES = ("error", "skip", "file")
ORIENTATIONS = ("plus", "gene")


class HaplotypeSettings(NamedTuple):
    """How regions become sequences, besides the policies on calls.

    Attributes:
        symbolic: "apply": `<DEL>` with INFO/END drops what it deletes; "skip": skipped and counted as other symbolic alleles.
        oriented: "plus": all sequences are of the plus strand; "gene": those of regions on "-" are reverse complements.
        options: what some formats of genotypes do not say of themselves.
        cache: folder of packed alleles, see `allele_cache`; None reads the genotypes each time.
        mismatch: records whose REF is not the FASTA's: "error", or "skip": left out for everybody and counted, as long as
            they are so few that both files are still of one build (`ref_match.REQUIRED` of all records of a run match).
        shape: what of each region is read, and which regions of their file.
        undecided: records of which neither the file nor the FASTA says which allele is the reference's (PLINK 1, BGEN,
            provisional REF of a PGEN; mostly indels, see `allele_orientation`): "error"; "skip": left out for everybody and
            counted; "file": the file's first allele (A2 of PLINK 1) is the reference's.
    """

    symbolic: str = "apply"
    oriented: str = "plus"
    options: GenotypeOptions = NO_OPTIONS
    cache: str | Path | None = None
    mismatch: str = "error"
    shape: RegionShape = WHOLE
    undecided: str = "error"

    @property
    def own_shape(self) -> RegionShape:
        """The shape, asking every region for its strand where sequences follow it."""
        return self.shape._replace(directed=self.shape.directed or self.oriented == "gene")


DEFAULTS = HaplotypeSettings()


def check_policies(unphased: str, missing: str, settings: HaplotypeSettings = DEFAULTS) -> None:
    """Policies are known words.

    Raises:
        ValueError: another word.
    """
    for key, value, known in (
        ("unphased", unphased, UNPHASED_POLICIES),
        ("missing", missing, MISSING_POLICIES),
        ("symbolic", settings.symbolic, SYMBOLIC_POLICIES),
        ("mismatch", settings.mismatch, MISMATCH_POLICIES),
        ("undecided", settings.undecided, UNDECIDED_POLICIES),
        ("oriented", settings.oriented, ORIENTATIONS),
    ):
        if value not in known:
            raise ValueError(f"Haplotypes: {key} must be one of {', '.join(known)}, got {value!r}.\n  fix: set data.{key}.")

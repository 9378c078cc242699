"""Cohort genomes: genotype files and a frozen encoder flow in; the store of everybody's sequences, filled, flows out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from brainmt_align.data.dna_embedding import FrozenEncoder
from brainmt_align.data.dna_store import build, describe_build
from brainmt_align.data.haplotype_settings import DEFAULTS
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.data.regions import read_regions
from brainmt_align.data.stored_dna import DNAStore, open_store


class FilledGenomes(NamedTuple):
    """A store, and what was done to fill it."""

    store: DNAStore  # regions in the order of their file
    note: str


def fill_genomes(genomes: Mapping[str, Any], encoder: FrozenEncoder, folder: str | Path, **words: Any) -> FilledGenomes:
    """Embed whatever sequences of these people the store lacks, and open it; every process of a launch calls it.

    Args:
        genomes: what `read_haplotypes` is called with: genotypes, reference, regions, samples, window, unphased, missing,
            settings.
        encoder: frozen encoder.
        folder: parent of the stores of all encoders.
        words: pooling, strands, overlap and the share of the work, see `dna_store.build`.

    Raises:
        FileNotFoundError, ValueError, PermissionError, RuntimeError: what `read_haplotypes`, `dna_store.build` and `open_store`
            complain of.
    """
    filled = build(read_haplotypes(**genomes), encoder, folder, **words)
    shape = genomes.get("settings", DEFAULTS).shape
    names = [region.name for region in read_regions(genomes["regions"], shape=shape)]
    return FilledGenomes(open_store(filled.folder, names), describe_build(filled))

"""Room under test: brainmt_align/data/cohort_genomes.py. In: genotype files and an encoder. Out: a store, filled and opened."""

import numpy as np
import pytest

from brainmt_align.data.cohort_genomes import fill_genomes
from brainmt_align.data.haplotype_settings import HaplotypeSettings
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.data.region_shapes import RegionShape
from tests.dna_files import CountingEncoder
from tests.haplotype_files import SAMPLES, Variant, write_files

REFERENCE = "ACGTACGTAGGCCTTAACGATCGATTTACG"


@pytest.fixture
def genomes(tmp_path):
    files = write_files(tmp_path, REFERENCE, [Variant(2, "G", ("A",), ("0|1", "1|1")), Variant(20, "T", ("A",), ("0|0", "0|1"))])
    bed = tmp_path / "regions.bed"
    bed.write_text("1\t16\t26\tSECOND\n1\t0\t8\tFIRST\n")
    return {"genotypes": files.genotypes, "reference": files.reference, "regions": bed, "samples": list(SAMPLES)}


def test_fill_genomes_gives_everybodys_embeddings_in_the_order_of_the_regions(genomes, tmp_path):
    encoder = CountingEncoder()
    filled = fill_genomes(genomes, encoder, tmp_path / "store", progress=False)
    assert filled.store.regions == ["SECOND", "FIRST"] and "sequences" in filled.note
    first = next(region for region in read_haplotypes(**genomes) if region.name == "FIRST")
    own = [[encoder.vector(first.sequences[row]) for row in rows] for rows in first.index]
    np.testing.assert_allclose(filled.store.features(list(SAMPLES))[:, 1], np.subtract(own, encoder.vector(REFERENCE[:8])))


def test_fill_genomes_starts_from_what_is_there(genomes, tmp_path):
    fill_genomes(genomes, CountingEncoder(), tmp_path / "store", progress=False)
    encoder = CountingEncoder()
    again = fill_genomes(genomes, encoder, tmp_path / "store", progress=False)
    assert encoder.seen == [] and again.note.startswith("0 sequences, 0 bases embedded")


def test_fill_genomes_names_the_regions_that_the_settings_choose(genomes, tmp_path):
    shape = RegionShape(flanks=(2, 2), genes=("FIRST",))
    filled = fill_genomes(genomes | {"settings": HaplotypeSettings(shape=shape)}, CountingEncoder(), tmp_path, progress=False)
    assert list(filled.store.places) == ["FIRST"] and filled.store.places["FIRST"].startswith("1:0-10 ")

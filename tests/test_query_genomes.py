"""A new genome as a query: the same features as from the training's store; another build, encoder or list is refused."""

import hashlib

import numpy as np
import pytest
import torch

from brainmt_align.data.dna_store import open_store
from brainmt_align.data.haplotype_settings import HaplotypeSettings
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.data.region_shapes import RegionShape
from brainmt_align.data.regions import Region, read_regions
from brainmt_align.evaluation.query_genomes import genome_features, recorded_regions, require_encoder
from tests.dna_files import CountingEncoder, build_quietly
from tests.gtf_files import exon, gene, write_gtf
from tests.haplotype_files import Variant, write_files

REFERENCE = "ACGTTGCAACGGTCAATTGCACGTACGGATCC"
REGIONS = [("1", 4, 12, "B"), ("1", 16, 28, "A", "-")]
VARIANTS = [
    Variant(5, "G", ("T",), ("0|1", "1|1")),
    Variant(17, "T", ("C", "G"), ("1|2", "0|0")),
    Variant(30, "C", ("A",), ("0|1", "0|0")),
]
OF_TWO = ("0/1", "0/0")
HEADER_CHR = """##fileformat=VCFv4.2
##contig=<ID=chr1>
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
"""


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path, REFERENCE, VARIANTS)


@pytest.fixture
def trained(files, tmp_path):
    """The store of both people, and what a checkpoint records of it."""
    filled = build_quietly(read_haplotypes(*files, REGIONS), CountingEncoder(), tmp_path / "store")
    store = open_store(filled.folder, ["B", "A"])
    return store, {**store.header, "regions": store.places}


def test_recorded_regions_are_those_of_the_training_in_its_order(trained):
    assert recorded_regions(trained[1]["regions"]) == [Region("1", 4, 12, "B"), Region("1", 16, 28, "A")]
    assert recorded_regions({"X": "HLA:01:02:5-9 ab"}) == [Region("HLA:01:02", 5, 9, "X")]


def test_genome_features_equal_the_stores_for_regions_of_any_source(files, trained, tmp_path):
    store, recorded = trained
    bed = tmp_path / "regions.bed"
    bed.write_text("1\t0\t9\tNEW\n1\t16\t28\tA\t0\t-\n1\t4\t12\tB\n")
    for sample in ("anna", "ben"):
        expected_RHD = store.features([sample])[0]
        assert np.any(expected_RHD)
        for regions in (None, bed, REGIONS):
            found = genome_features(*files, sample, CountingEncoder(), recorded, regions)
            assert found.dtype == torch.float32
            np.testing.assert_array_equal(found.numpy(), expected_RHD)


def test_genome_features_read_joined_exons_in_the_direction_of_their_gene(files, tmp_path):
    exons = [exon("E1", "T1", 5, 8, strand="-"), exon("E1", "T1", 15, 20, strand="-"), exon("E3", "T3", 22, 31)]
    genes = gene("E1", "AAA", 3, 20, "-"), gene("E2", "OTHER", 3, 20, kind="lncRNA"), gene("E3", "BBB", 21, 31)
    gtf = write_gtf(tmp_path / "a.gtf", *genes, *exons)
    settings = HaplotypeSettings(oriented="gene", shape=RegionShape("exons", (1, 1)))
    filled = build_quietly(read_haplotypes(*files, gtf, settings=settings), CountingEncoder(), tmp_path / "store")
    store = open_store(filled.folder, ["BBB", "AAA"])
    recorded = store.description
    places = {region.name: region.place for region in read_regions(gtf, shape=settings.shape)}
    assert places["AAA"] == "1:3-8,14-21(-)"
    assert {name: place.split()[0] for name, place in store.places.items()} == places
    for sample in ("anna", "ben"):
        expected_RHD = store.features([sample])[0]
        found = genome_features(*files, sample, CountingEncoder(), recorded, gtf, settings=settings)
        np.testing.assert_array_equal(found.numpy(), expected_RHD)
        found = genome_features(*files, sample, CountingEncoder(), recorded)  # the record says all of it
        np.testing.assert_array_equal(found.numpy(), expected_RHD)
    with pytest.raises(ValueError, match="got another reference sequence or other coordinates in 1 of 2 regions"):
        genome_features(*files, "anna", CountingEncoder(), recorded | {"oriented": "plus"}, gtf, settings=settings)


def test_genome_features_ask_the_encoder_as_the_training_did(files, trained):
    class Asked(CountingEncoder):
        def embed(self, sequences, **how):
            assert how == {"pooling": "last", "strands": "forward", "overlap": 3}
            return super().embed(sequences)

    assert genome_features(*files, "ben", Asked(), {**trained[1], "pooling": "last", "strands": "forward", "overlap": "3"}).shape


def test_genome_features_take_contigs_with_or_without_chr(trained, tmp_path):
    (tmp_path / "other").mkdir()
    named = write_files(tmp_path / "other", REFERENCE, VARIANTS, ("chr1", "chr1"), HEADER_CHR)
    regions = [("chr1", 4, 12, "B"), ("chr1", 16, 28, "A")]
    found = genome_features(*named, "anna", CountingEncoder(), trained[1], regions)
    np.testing.assert_array_equal(found.numpy(), trained[0].features(["anna"])[0])


def test_genome_features_refuse_a_genome_of_another_build_before_anything_is_embedded(trained, tmp_path):
    (tmp_path / "other").mkdir()
    inserted = REFERENCE[:15] + "T" + REFERENCE[15:]  # everything behind the first region is one base further on
    other = write_files(tmp_path / "other", inserted, [Variant(5, "G", ("T",), ("0|1", "1|1"))])
    encoder = CountingEncoder()
    got = hashlib.sha256(inserted[16:28].encode()).hexdigest()[:12]
    known = hashlib.sha256(REFERENCE[16:28].encode()).hexdigest()[:12]
    message = (
        rf"(?s)in 1 of 2 regions:\n  - region A: expected 1:16-28 of sequence {known}, got 1:16-28 of {got}\n"
        r"  where: the genotypes are of unknown build.*the FASTA is of unknown build.*  file: .*  fix: lift the genotypes over"
    )
    with pytest.raises(ValueError, match=message):
        genome_features(*other, "anna", encoder, trained[1])
    assert encoder.seen == []


def test_genome_features_name_the_build_that_contig_lengths_speak_of(trained, tmp_path):
    (tmp_path / "other").mkdir()
    header = HEADER_CHR.replace("<ID=chr1>", "<ID=1>\n##contig=<ID=22,length=50818468>")
    other = write_files(tmp_path / "other", REFERENCE[::-1], [Variant(2, "T", ("G",), ("0|1", "1|1"))], header=header)
    with pytest.raises(ValueError, match=r"in 2 of 2 regions(?s:.*)where: the genotypes are GRCh38 by contig lengths"):
        genome_features(*other, "anna", CountingEncoder(), trained[1])


def test_genome_features_refuse_other_coordinates_and_regions_that_are_not_there(files, trained):
    with pytest.raises(ValueError, match=r"region B: expected 1:4-12 of sequence \w+, got 1:5-12 of"):
        genome_features(*files, "anna", CountingEncoder(), trained[1], [("1", 5, 12, "B"), REGIONS[1]])
    with pytest.raises(ValueError, match=r"All 2 regions of the training were expected, got a list without 1 of them:\n  - B\n"):
        genome_features(*files, "anna", CountingEncoder(), trained[1], [REGIONS[1]])


def test_genome_features_follow_the_policies(tmp_path, trained):
    (tmp_path / "other").mkdir()
    unphased = write_files(tmp_path / "other", REFERENCE, [Variant(5, "G", ("T",), OF_TWO)])
    with pytest.raises(ValueError, match="unphased"):
        genome_features(*unphased, "anna", CountingEncoder(), trained[1])
    skipped = genome_features(*unphased, "anna", CountingEncoder(), trained[1], unphased="skip")
    assert not skipped.any()
    assert genome_features(*unphased, "anna", CountingEncoder(), trained[1], unphased="as_written").any()


def test_require_encoder_finds_the_tower_by_fingerprint_and_refuses_another_encoder(trained):
    stores = {"evo2": {"fingerprint": "cd" * 32, "description": "another"}, "caduceus": trained[1]}
    assert require_encoder(CountingEncoder(), stores) == "caduceus"
    with pytest.raises(
        ValueError, match=r"another \[cdcdcdcdcdcd\]; an encoder .* got an encoder that counts bases \[efefefefefef\]"
    ):
        require_encoder(CountingEncoder("ef" * 32), stores)


def test_genome_features_pool_at_the_sites_of_the_training(files, tmp_path):
    filled = build_quietly(read_haplotypes(*files, REGIONS), CountingEncoder(), tmp_path / "store", pooling="variant")
    store = open_store(filled.folder, ["B", "A"])
    alone = tmp_path / "alone"
    alone.mkdir()
    own = write_files(alone, REFERENCE, [VARIANTS[0], VARIANTS[1]._replace(calls=("1|2", "1|1"))])
    expected = store.features(["anna"])[0]
    assert np.any(expected)
    found = genome_features(own.genotypes, files.reference, "anna", CountingEncoder(), store.description)
    np.testing.assert_array_equal(found.numpy(), expected)

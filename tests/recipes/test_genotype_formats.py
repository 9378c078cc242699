"""The recipes on genotypes of every form and regions of every shape: the same people give the same store."""

import json
import random

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.dna_store import open_store
from brainmt_align.data.genotypes_vcf import VCFReader
from recipes import embed_dna
from tests.bgen_files import Site, write_bgen
from tests.haplotype_files import SAMPLES, Variant, write_files
from tests.pgen_files import write_pgen

PHASED = {"0|0": [1, 0, 1, 0], "0|1": [1, 0, 0, 1], "1|0": [0, 1, 1, 0], "1|1": [0, 1, 0, 1]}


@pytest.fixture
def cohort(tmp_path):
    """Two people's phased calls as VCF, as PGEN of the contig and as BGEN that does not name it; a FASTA, a BED and a GTF."""
    rng = random.Random(0)
    reference = "".join(rng.choices("ACGT", k=600))
    variants = [
        Variant(at, reference[at], ({"A": "C", "C": "G", "G": "T", "T": "A"}[reference[at]],), calls)
        for at, calls in ((120, ("0|1", "0|0")), (150, ("1|0", "1|1")), (210, ("0|1", "1|0")), (390, ("0|0", "0|1")))
    ]
    write_files(tmp_path, reference, variants)
    (tmp_path / "plink").mkdir()
    records = [f"1:{v.position + 1} {v.ref} {v.alts[0]} . {' '.join(v.calls)}" for v in variants]
    write_pgen(tmp_path / "plink", records, SAMPLES, "##contig=<ID=1>\n")
    for path in sorted((tmp_path / "plink").iterdir()):
        path.rename(path.with_name(f"cohort_chr1{path.suffix}"))
    sites = [Site(v.position + 1, f"{v.ref} {v.alts[0]}", [PHASED[call] for call in v.calls]) for v in variants]
    write_bgen(tmp_path / "cohort.bgen", sites, list(SAMPLES), "")
    (tmp_path / "regions.bed").write_text("1\t100\t250\tA\t0\t+\n1\t350\t420\tB\t0\t-\n")
    rows = [("A", 101, 250, "+"), ("B", 351, 420, "-")]
    lines = [
        f'1\tx\t{kind}\t{first}\t{last}\t.\t{strand}\t.\tgene_id "{name}"; transcript_id "T{name}"; gene_type "protein_coding";'
        for name, first, last, strand in rows
        for kind in ("gene", "exon")
    ]
    (tmp_path / "genes.gtf").write_text("\n".join(lines) + "\n")
    return tmp_path


def embed(cohort, name: str, *words: str):
    """The store that recipes/embed_dna.py fills, and the run's folder."""
    places = [f"out={cohort / name}", f"stores.dna={cohort / f'{name}_dna'}", f"stores.alleles={cohort / f'{name}_alleles'}"]
    usual = ["data.reference=reference.fa", "data.regions=regions.bed", "dna.audit_regions=0", "threads=1"]
    out = embed_dna.main([f"data.root={cohort}", *usual, *places, *words])
    (folder,) = (cohort / f"{name}_dna").iterdir()
    return open_store(folder, ["A", "B"]), out


def test_embed_dna_gives_one_store_whatever_the_form_of_the_genotypes(cohort):
    expected, out = embed(cohort, "vcf")
    checks = pd.read_csv(out / "genotype_checks.tsv", sep="\t")
    assert checks["variants"].tolist() == [3, 1] and checks["ref_match_rate"].tolist() == [1, 1]
    assert "data checks" in (out / "report.html").read_text().lower()
    features = expected.features(list(SAMPLES))
    assert np.any(features)
    for name, words in {
        "pgen": ["data.genotypes=plink/cohort_chr{contig}.pgen"],
        "bgen": ["data.genotypes=cohort.bgen", "data.contig=1"],
    }.items():
        found, out = embed(cohort, name, *words)
        np.testing.assert_array_equal(found.features(list(SAMPLES)), features)
        inputs = json.loads((out / "provenance.json").read_text())["inputs"]
        assert any(key.startswith("genotypes") for key in inputs)


def test_embed_dna_reads_genes_of_a_gtf_by_shape_and_pools_at_their_sites(cohort):
    shape = [
        "data.regions=genes.gtf",
        "data.region_kind=tss",
        "data.flanks=[30,100]",
        "data.oriented=gene",
        "dna.pooling=variant",
    ]
    store, _ = embed(cohort, "gtf", *shape, "dna.pooling=variant")
    assert {name: place.split()[0] for name, place in store.places.items()} == {"A": "1:70-200", "B": "1:320-450(-)"}
    assert store.sites == {"A": [120, 150], "B": [390]}
    assert store.description["oriented"] == "gene"
    people = store.features(list(SAMPLES))
    assert np.any(people[:, 0]) and np.any(people[1, 1]) and not np.any(people[0, 1])


def test_embed_dna_reads_genotypes_once_over_two_launches(cohort, monkeypatch):
    store, _ = embed(cohort, "again")
    monkeypatch.setattr(VCFReader, "read", lambda *_: pytest.fail("genotypes are read"))
    (cohort / "again").rename(cohort / "first")
    again, _ = embed(cohort, "again")
    np.testing.assert_array_equal(again.features(list(SAMPLES)), store.features(list(SAMPLES)))

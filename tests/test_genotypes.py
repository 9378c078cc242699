"""Tests of the room `genotypes`: names of files flow in; the reader of each form, and the refusal of others, are checked."""

import pytest

from brainmt_align.data.genotypes import list_samples, open_genotypes
from brainmt_align.data.genotypes_pgen import PGENReader
from brainmt_align.data.genotypes_vcf import VCFReader
from tests.pgen_files import write_pgen


def test_open_genotypes_reads_vcf_by_its_ending(real_dir):
    with open_genotypes(real_dir / "genotypes_chr20_b37" / "cohortA_300.phased.vcf.gz", ["HG00097", "HG00096"]) as found:
        assert isinstance(found, VCFReader)
        assert found.samples == ["HG00097", "HG00096"]


def test_open_genotypes_reads_pgen_by_its_ending(tmp_path):
    with open_genotypes(write_pgen(tmp_path, ["5 A C . 0|1 0/0 0|0"]), ["carl", "anna"]) as found:
        assert isinstance(found, PGENReader)
        assert found.samples == ["carl", "anna"]


def test_list_samples_returns_the_files_order(real_dir):
    samples = list_samples(real_dir / "genotypes_chr20_b37" / "cohortA_300.phased.vcf.gz")
    assert len(samples) == 300
    assert samples[:2] == ["HG00096", "HG00097"]


def test_open_genotypes_refuses_another_ending(tmp_path):
    (tmp_path / "cohort.ped").touch()
    with pytest.raises(ValueError, match=r"a name ending in \.vcf.* is expected, got cohort\.ped"):
        open_genotypes(tmp_path / "cohort.ped")

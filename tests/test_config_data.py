"""Configuration of files, stores and the DNA encoder: what reaches the encoder and the store, and what is refused."""

import inspect
from pathlib import Path

import pytest

from brainmt_align.config import ContrastiveConfig, EmbedDNAConfig, load_config, to_yaml
from brainmt_align.config_data import DataConfig, DNAConfig
from brainmt_align.data import dna_audit, dna_store
from brainmt_align.data.alleles import GenotypeOptions
from brainmt_align.data.haplotype_settings import MISSING_POLICIES, UNPHASED_POLICIES, HaplotypeSettings
from brainmt_align.data.region_shapes import RegionShape
from encoders import load_dna_encoder


@pytest.mark.parametrize("schema", [ContrastiveConfig, EmbedDNAConfig])
def test_options_of_an_encoder_come_from_the_command_line_and_yaml(schema, tmp_path):
    (tmp_path / "a.yaml").write_text("dna:\n  options:\n    truncation: left\n    frames: 1\n")
    config = load_config(schema, [f"config={tmp_path / 'a.yaml'}", "dna.options.frames=6", "dna.options.fp8=true"])
    assert config.dna.options == {"truncation": "left", "frames": 6, "fp8": True}
    (tmp_path / "b.yaml").write_text(to_yaml(config))
    assert load_config(schema, [f"config={tmp_path / 'b.yaml'}"]).dna.options == config.dna.options


def test_encoder_words_are_what_load_dna_encoder_takes():
    words = DNAConfig(dtype="bfloat16", seed=3, options={"frames": 6}).encoder_words()
    assert words == {"name": "caduceus", "checkpoint": None, "layer": None, "dtype": "bfloat16", "seed": 3, "frames": 6}
    inspect.signature(load_dna_encoder).bind(**words, device="cpu")
    with pytest.raises(ValueError, match=r"Options of caduceus are none; got frames\.\n.*dna\.options"):
        load_dna_encoder(**words)


def test_store_words_are_what_the_store_and_the_audit_take():
    words = DNAConfig(pooling="last", strands="forward", overlap=7).store_words()
    assert words == {"pooling": "last", "strands": "forward", "overlap": 7}
    inspect.signature(dna_store.build).bind([], None, "folder", **words)
    inspect.signature(dna_audit.measure_noise).bind([], None, **words)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dna.dtype=float16", r"dna\.dtype must be one of float32, bfloat16; got 'float16'"),
        ("dna.pooling=max", r"dna\.pooling must be one of mean, last, variant; got 'max'"),
        ("dna.overlap=-1", r"dna\.overlap must be at least 0; got -1.*\n.*\n  fix: set dna\.overlap=null"),
        ("dna.audit_regions=-1", r"dna\.audit_regions must be at least 0"),
        ("dna.options=3", r"dna\.options must be a group of keys with a value each; got 3"),
        (
            "dna.options={1: 6}",
            r"Keys of dna\.options must be text; got 1\.\n.*\n  fix: write dna\.options\.NAME=",
        ),
        ("dna={options: {true: 6}}", r"Keys of dna\.options must be text; got True"),
        ("dna.options={null: 6}", r"A value in YAML was expected, got 'dna\.options=\{null: 6\}': Incompatible key type"),
        ("dna.options.seed=3", r"dna\.options holds what one encoder alone has; got 'dna\.options\.seed'"),
        ("data.unphased=x", rf"data\.unphased must be one of {', '.join(UNPHASED_POLICIES)}; got 'x'"),
        ("data.missing=x", rf"data\.missing must be one of {', '.join(MISSING_POLICIES)}; got 'x'"),
    ],
)
def test_load_config_refuses_what_the_encoder_and_the_store_cannot_do(word, message):
    with pytest.raises(ValueError, match=message):
        load_config(EmbedDNAConfig, [word])


def test_load_config_refuses_keys_of_options_in_a_file_that_are_no_text(tmp_path):
    (tmp_path / "a.yaml").write_text("dna:\n  options:\n    1: 6\n")
    (tmp_path / "b.yaml").write_text("dna:\n  options:\n    null: 6\n")
    with pytest.raises(ValueError, match=r"Keys of dna\.options must be text; got 1\.\n  file: .*a\.yaml"):
        load_config(EmbedDNAConfig, [f"config={tmp_path / 'a.yaml'}"])
    with pytest.raises(ValueError, match=r"YAML configuration was expected, got something else: Incompat.*\n  file: .*b\.yaml"):
        load_config(EmbedDNAConfig, [f"config={tmp_path / 'b.yaml'}"])


def test_tables_are_the_files_whose_hashes_a_run_records():
    tables = DataConfig(root="/cohort", kinship="rel.dat").tables()
    assert tables["kinship"] == Path("/cohort/rel.dat") and tables["truth"] is None
    assert set(tables) == {
        "participants", "kinship", "genotypes", "sample_file", "reference", "regions", "pairs", "id_map", "mask", "truth",
    }  # fmt: skip


def test_tables_list_every_file_of_one_a_contig(tmp_path):
    for contig in ("1", "22"):
        (tmp_path / f"c{contig}.pgen").touch()
    (tmp_path / "c22.pvar").touch()
    tables = DataConfig(root=str(tmp_path), genotypes="c{contig}.pgen").tables()
    assert {key: path for key, path in tables.items() if key.startswith("genotypes")} == {
        "genotypes 1": tmp_path / "c1.pgen",
        "genotypes 22": tmp_path / "c22.pgen",
        "genotypes 22.pvar": tmp_path / "c22.pvar",
    }


def test_tables_list_what_lies_beside_the_genotypes_and_the_people_once(tmp_path):
    for name in ("c.pgen", "c.pvar.zst", "c.psam", "own.psam", "own1.psam", "c1.pgen"):
        (tmp_path / name).touch()
    tables = DataConfig(root=str(tmp_path), genotypes="c.pgen").tables()
    assert (tables["genotypes.pvar"].name, tables["genotypes.psam"].name) == ("c.pvar.zst", "c.psam")
    tables = DataConfig(root=str(tmp_path), genotypes="c.pgen", sample_file="own.psam").tables()
    assert "genotypes.psam" not in tables and tables["sample_file"].name == "own.psam"
    tables = DataConfig(root=str(tmp_path), genotypes="c{contig}.pgen", sample_file="own{contig}.psam").tables()
    assert "sample_file" not in tables and tables["genotypes 1.psam"].name == "own1.psam"


def test_genomes_and_dosages_are_read_as_the_keys_say():
    words = ["data.root=/cohort", "data.contig=20", "data.sample_file=a.sample", "data.region_kind=tss", "data.flanks=[100,50]"]
    words += [
        "data.genes=[APOE,BDNF]",
        "data.oriented=gene",
        "data.symbolic=skip",
        "data.mismatch=skip",
        "data.undecided=file",
        "data.first_allele=ref",
        "data.regions=genes.gtf",
    ]
    data = load_config(EmbedDNAConfig, words).data
    options = GenotypeOptions("20", Path("/cohort/a.sample"), 0.9, "ref")
    shape = RegionShape("tss", (100, 50), ("APOE", "BDNF"))
    settings = HaplotypeSettings("skip", "gene", options, "cache", "skip", shape, "file")
    assert data.genomes_of(["a"], "cache")["settings"] == settings
    dosages = data.dosages_of(["a"])
    assert (dosages["shape"], dosages["options"], dosages["regions"]) == (shape, options, Path("/cohort/genes.gtf"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.symbolic=x", r"data\.symbolic must be one of apply, skip; got 'x'"),
        ("data.mismatch=x", r"data\.mismatch must be one of error, skip; got 'x'"),
        ("data.undecided=x", r"data\.undecided must be one of error, skip, file; got 'x'"),
        ("data.first_allele=x", r"data\.first_allele must be one of unknown, ref; got 'x'"),
        ("data.oriented=x", r"data\.oriented must be one of plus, gene; got 'x'"),
        ("data.region_kind=x", r"data\.region_kind must be one of gene, tss, exons; got 'x'"),
        ("data.min_probability=0.5", r"data\.min_probability must be"),
        ("data.flanks=[1]", r"data\.flanks"),
        ("data.flanks=[-1,2]", r"flanks"),
    ],
)
def test_load_config_refuses_words_on_genotypes_and_regions(word, message):
    with pytest.raises(ValueError, match=message):
        load_config(EmbedDNAConfig, [word])

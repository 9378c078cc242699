"""Configuration of files, stores and the DNA encoder: what reaches the encoder and the store, and what is refused."""

import inspect
from pathlib import Path

import pytest

from brainmt_align.config import ContrastiveConfig, EmbedDNAConfig, load_config, to_yaml
from brainmt_align.config_data import DataConfig, DNAConfig
from brainmt_align.data import dna_audit, dna_store
from brainmt_align.data.genotype_checks import MISSING_POLICIES, UNPHASED_POLICIES
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
        ("dna.pooling=variant", r"dna\.pooling must be one of mean, last; got 'variant'"),
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
        "participants", "kinship", "genotypes", "reference", "regions", "pairs", "id_map", "mask", "truth",
    }  # fmt: skip

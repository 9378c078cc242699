"""Configuration: every YAML loads, nothing unknown or impossible passes."""

import dataclasses
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from brainmt_align.config import (
    ContrastiveConfig,
    EmbedDNAConfig,
    FMRIConfig,
    PhenotypeConfig,
    PrepareFMRIConfig,
    SimulateCohortConfig,
    load_config,
    to_yaml,
)
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.data.simulate import CohortParameters
from encoders import BrainMTConfig

CONFIGS = Path(__file__).parents[1] / "recipes" / "configs"
SCHEMAS = {"contrastive": ContrastiveConfig, "phenotype": PhenotypeConfig}


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_yaml_loads_and_opens_with_its_launch_command(file):
    recipe = file.stem.split("_")[0]
    assert file.read_text().startswith(f"# accelerate launch recipes/{recipe}.py config=recipes/configs/{file.name}\n")
    assert isinstance(load_config(SCHEMAS[recipe], [f"config={file}"]), SCHEMAS[recipe])


def test_load_config_lets_the_command_line_win_over_yaml_over_defaults(tmp_path):
    (tmp_path / "a.yaml").write_text("train:\n  epochs: 7\n  window: 8\n")
    config = load_config(ContrastiveConfig, [f"config={tmp_path / 'a.yaml'}", "train.epochs=9", "split.groups=family_id"])
    assert (config.train.epochs, config.train.window, config.train.batch_size) == (9, 8, ContrastiveConfig().train.batch_size)
    assert config.split.groups == "family_id"


@pytest.mark.parametrize("schema", [ContrastiveConfig, PrepareFMRIConfig, EmbedDNAConfig, SimulateCohortConfig])
def test_load_config_reads_its_own_resolved_yaml_back(schema, tmp_path):
    config = load_config(schema, ["threads=2"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert to_yaml(load_config(schema, [f"config={tmp_path / 'config.yaml'}"])) == to_yaml(config)


def test_load_config_gives_every_set_of_simulation_parameters_a_root_of_its_own():
    default = load_config(ContrastiveConfig, [])
    other = load_config(ContrastiveConfig, ["simulation.seed=1"])
    third = load_config(ContrastiveConfig, ["simulation.coupling=0.5"])
    assert default.data.root == "runs/simulated_cohort"
    assert len({default.data.root, other.data.root, third.data.root}) == 3
    assert default.data.simulate and default.data.truth == "truth.json"


def test_load_config_leaves_a_named_root_alone(tmp_path):
    config = load_config(ContrastiveConfig, [f"data.root={tmp_path}"])
    assert not config.data.simulate and config.data.truth is None
    assert config.data.path("bold") == tmp_path / "bold"
    assert config.data.path("pairs") is None
    assert re.fullmatch(rf"runs/stores/{tmp_path.name}-[0-9a-f]{{8}}/bold", config.stores.bold)
    assert load_config(ContrastiveConfig, [f"data.root={tmp_path / 'x' / tmp_path.name}"]).stores.bold != config.stores.bold
    assert config.simulation == CohortParameters()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.epoch=3"], r"got train\.epoch.*\n.*command line\n.*known keys here are epochs, batch_size"),
        (["windwo=3"], r"known keys here are data, stores"),
        (["resamples=500"], r"got resamples\.\n.*\n  fix: write evaluation\.resamples; known keys here are data"),
        (["split.reltives=[a]"], r"fix: write split\.relatives; known keys here are file"),
        (
            ["train.epochs=many"],
            r"train\.epochs must be a whole number; got 'many'\.\n  where: train\.epochs=many on the command",
        ),
        (["train.epochs=0"], r"train\.epochs must be at least 1; got 0"),
        (["fmri.drop_path_rate=1.5"], r"fmri\.drop_path_rate must be between 0 and 0\.99; got 1\.5"),
        (["data.unphased=guess"], r"data\.unphased must be one of error, as_written, skip; got 'guess'"),
        (["data.mask_rule=none"], r"data\.mask_rule must be one of file, nonzero; got 'none'"),
        (["--epochs"], r"form key=value were expected, got '--epochs'"),
        (["fmri.checkpoint=weights.pt"], r"need scans in LAS orientation.*; got .data\.orientation=RAS."),
        (["data.orientation=ABC"], r"data\.orientation must name one end of each axis.*; got 'ABC'"),
        (["dna.encoder=foo"], r"dna\.encoder must be one of caduceus, generator, evo2; got 'foo'"),
        (["fmri.num_heads=5"], r"fmri\.embed_dim must be a multiple of fmri\.num_heads=5; got 48"),
        (["fmri.depth=[0,1]"], r"fmri\.depth must be at least 1; got 0"),
        (["train.learning_rate=nan"], r"train\.learning_rate must be at least 1e-12; got nan"),
        (["seed=${nowhere}"], r"Values that can be resolved were expected, got: .*nowhere"),
        (["data.root=/a", "simulation.people=7"], r"simulation\.\* describes the cohort of data\.root=null.*; got '/a'"),
        (
            ["train=3"],
            r"train must be a group of the keys epochs, .*; got 3\.\n  where: train=3 on .*\n  fix: write train\.epochs=",
        ),
        (
            ["split.parts=[1,1]"],
            r"split\.parts must be a list of 3, each a number; got \[1, 1\]\.\n.*\n  fix: write split\.parts=",
        ),
        (["fmri.stem_channels=[]"], r"fmri\.stem_channels must be a list of 2, each a whole number; got \[\]"),
        (["train.window=4", "fmri.depth=3"], r"fmri\.depth must be a list of 2, each a whole number; got 3"),
        (["split.strata=site"], r"split\.strata must be a list such as \[a,b\] or \[\]; got 'site'"),
        (["threads=two"], r"threads must be a whole number or null; got 'two'"),
        (["train.epochs.x=3"], r"train\.epochs must be a whole number; got .*'x': 3|train\.epochs\.x=3"),
        (["train.epochs=[1"], r"A value in YAML was expected, got 'train\.epochs=\[1'"),
        (["data.tr_s=0"], r"data\.tr_s must be between 0\.01 and 100; got 0.*\n.*\n  fix: set data\.tr_s=null\."),
        (["split.parts=[0,1,2]"], r"split\.parts must be at least 1e-09; got 0.*\n.*\n  fix: set split\.parts=\[6,1,2\]\."),
        (["train.warm_up=0"], r"fix: set train\.warm_up=0\.1\."),
        (["fmri.depth=[0,1]"], r"fix: set fmri\.depth=\[1,1\]\."),
        (["seed=-1"], r"seed must be between 0 and 4294967295; got -1.*\n.*\n  fix: set seed=0\."),
        (["seed=4294967296"], r"seed must be between 0 and 4294967295.*\n.*\n  fix: set seed=4294967295\."),
        (["split.seed=-1"], r"split\.seed must be between 0 and 4294967295"),
        (["dna.seed=-1"], r"dna\.seed must be between 0 and 4294967295"),
        (["epochs"], r"form key=value were expected, got 'epochs'"),
    ],
)
def test_load_config_refuses_what_it_does_not_know(words, message):
    with pytest.raises(ValueError, match=message):
        load_config(ContrastiveConfig, words)


def test_load_config_refuses_an_unknown_key_in_yaml_and_a_missing_file(tmp_path):
    (tmp_path / "a.yaml").write_text("model:\n  width: 3\n")
    with pytest.raises(ValueError, match=r"got model.*\n  file: .*a\.yaml"):
        load_config(ContrastiveConfig, [f"config={tmp_path / 'a.yaml'}"])
    with pytest.raises(FileNotFoundError, match="got no file"):
        load_config(ContrastiveConfig, ["config=nowhere.yaml"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  window: 4\n  epochs: many\n", r"train\.epochs must be a whole number; got 'many'\.\n  file: .*a\.yaml"),
        ("- 3\n", r"of keys and values was expected, got ListConfig\.\n  file: .*a\.yaml"),
        ("train: [\n", r"A YAML configuration was expected, got something else: .*\n  file: .*a\.yaml"),
    ],
)
def test_load_config_names_the_key_and_the_file_of_a_fault_in_yaml(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(ContrastiveConfig, [f"config={tmp_path / 'a.yaml'}"])


def test_load_config_writes_a_cohort_of_other_parameters_where_data_root_null_looks_for_it():
    assert load_config(SimulateCohortConfig, []).out == "runs/simulated_cohort"
    word = "simulation.people=40"
    assert load_config(SimulateCohortConfig, [word]).out == load_config(ContrastiveConfig, [word]).data.root
    assert load_config(SimulateCohortConfig, [word, "out=runs/mine"]).out == "runs/mine"


def test_genomes_of_are_what_the_readers_of_genomes_take(tmp_path):
    genomes = load_config(ContrastiveConfig, [f"data.root={tmp_path}", "data.region_window=9"]).data.genomes_of(["a"])
    assert genomes["regions"] == tmp_path / "regions.bed" and genomes["window"] == 9 and genomes["samples"] == ["a"]
    assert genomes.keys() <= inspect.signature(read_haplotypes).parameters.keys()
    assert genomes.keys() <= inspect.signature(check_genotypes).parameters.keys()


def test_encoder_settings_are_fields_of_the_encoder():
    assert FMRIConfig().encoder_settings().keys() <= {field.name for field in dataclasses.fields(BrainMTConfig)}


def test_load_config_keeps_simulated_families_together():
    assert load_config(ContrastiveConfig, []).split.groups is None
    assert load_config(ContrastiveConfig, ["simulation.family_size=2"]).split.groups == "family_id"
    assert load_config(ContrastiveConfig, ["simulation.family_size=2", "split.groups=site"]).split.groups == "site"


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        (SimulateCohortConfig, "seed=5"),
        (PrepareFMRIConfig, "checkpoint=a.safetensors"),
        (PrepareFMRIConfig, "seed=5"),
        (EmbedDNAConfig, "tracker=wandb"),
        (EmbedDNAConfig, "seed=5"),
        (EmbedDNAConfig, "dna.region_pooling=mean"),
        (ContrastiveConfig, "dna.audit_regions=0"),
    ],
)
def test_load_config_refuses_shared_keys_that_a_recipe_has_no_use_for(schema, word):
    with pytest.raises(ValueError, match=rf"{word.split('=')[0]} has no use in .*must be left at"):
        load_config(schema, [word])


@pytest.mark.parametrize("key", ["stores.bold", "stores.dna", "data.root"])
def test_load_config_refuses_what_runs_share_inside_a_run_folder(tmp_path, key):
    words = [f"out={tmp_path / 'run'}", f"{key}={tmp_path / 'run' / 'inner'}", "data.simulate=true"]
    with pytest.raises(ValueError, match=rf"{key} must lie outside of the run folder out=.*run; got .*inner"):
        load_config(ContrastiveConfig, words)


def test_describe_input_says_what_a_model_of_these_inputs_must_be_fed():
    config, store = load_config(ContrastiveConfig, ["data.orientation=LPS", "dna.region_pooling=mean"]), SimpleNamespace()
    store.description = {"fingerprint": "f", "regions": {"A": "1:0-8"}}
    both = config.describe_input((5, 4, 6), {"caduceus": store})
    scans = {"volume_shape": (5, 4, 6), "orientation": "LPS", "normalisation": "global", "fmri_pooling": "cls"}
    assert both == {**scans, "region_pooling": "mean", "dna": {"caduceus": store.description}}
    assert config.describe_input((5, 4, 6), {}, "fmri") == scans
    assert config.describe_input(None, {"caduceus": store}, "dna") == {key: both[key] for key in ("region_pooling", "dna")}


def test_family_columns_are_each_named_once():
    config = load_config(ContrastiveConfig, ["data.root=x", "split.groups=clan", "split.relatives=[mother_id,clan]"])
    assert config.split.family_columns() == ["clan", "mother_id"]
    assert load_config(ContrastiveConfig, ["data.root=x"]).split.family_columns() == []
    with pytest.raises(ValueError, match=r"Columns of families are no strata.*got 'mother_id'"):
        load_config(ContrastiveConfig, ["data.root=x", "split.relatives=[mother_id]", "evaluation.strata=[mother_id]"])

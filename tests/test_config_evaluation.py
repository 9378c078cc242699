"""Tests of the evaluation's sections: impossible values, what a simulated cohort names, what the run of a checkpoint hands on."""

from pathlib import Path

import pytest

from brainmt_align.config import ContrastiveConfig, EvaluateConfig, PhenotypeConfig, default_yaml, load_config, to_yaml


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("evaluation.permutations=0", "evaluation.permutations"),
        ("evaluation.resamples=10", "evaluation.resamples"),
        ("evaluation.min_stratum=1", "evaluation.min_stratum"),
        ("evaluation.pool_size=1", "evaluation.pool_size"),
        ("evaluation.bands.age=10", "widens columns of evaluation.strata"),
        ("evaluation.bands={age: 0}", "evaluation.bands.age"),
        ("attribution.draws=-1", "attribution.draws"),
        ("attribution.people=-1", "attribution.people"),
        ("attribution.people=1", "a map of one person is no group's"),
        ("attribution.permutations=0", "attribution.permutations"),
        ("attribution.steps=1", "attribution.steps"),
        ("attribution.max_steps=16", "attribution.max_steps"),
        ("attribution.connectivity_regions=1", "attribution.connectivity_regions"),
        ("attribution.components=0", "attribution.components"),
        ("export.components=0", "export.components"),
        ("evaluation.strata=[site]|groups=site", "Columns of families are no strata"),
        ("checkpoint=null", "A checkpoint to evaluate"),
    ],
)
def test_load_config_refuses_impossible_values_of_the_evaluation(word, message):
    with pytest.raises(ValueError, match=message):
        load_config(EvaluateConfig, word.split("|"))


def test_regressors_are_the_strata_where_no_covariates_are_named():
    named = load_config(ContrastiveConfig, ["data.root=x", "evaluation.strata=[sex]", "evaluation.covariates=[age]"])
    assert named.evaluation.regressors() == ("age",)
    assert load_config(ContrastiveConfig, ["data.root=x", "evaluation.strata=[sex]"]).evaluation.regressors() == ("sex",)


def test_load_config_names_the_strata_of_a_simulated_cohort():
    words = ["simulation.populations=2", "simulation.age=true"]
    assert load_config(ContrastiveConfig, words).evaluation.strata == ("population", "age")
    assert load_config(ContrastiveConfig, [*words, "evaluation.strata=[age]"]).evaluation.strata == ("age",)
    assert load_config(ContrastiveConfig, []).evaluation.strata == ()


def run_of(folder: Path, schema: type, words: list[str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(load_config(schema, words)))
    return folder


def test_load_config_takes_the_people_of_the_run_behind_the_checkpoint(tmp_path):
    words = ["data.root=/cohort", "data.kinship=null", "split.groups=clan", "evaluation.strata=[site]", "stores.dna=/dna"]
    run = run_of(tmp_path / "run", ContrastiveConfig, [*words, "data.orientation=LPS", "dna.layer=2"])
    config = load_config(EvaluateConfig, [f"checkpoint={run / 'best.safetensors'}", "evaluation.pool_size=7"])
    assert (config.data.root, config.groups, config.stores.dna, config.dna.layer) == ("/cohort", "clan", "/dna", 2)
    assert (config.evaluation.strata, config.evaluation.pool_size) == (("site",), 7)
    assert config.data.orientation == "RAS"  # the checkpoint itself says how its scans lie


def test_load_config_takes_all_that_an_alignment_was_told_of_relatives(tmp_path):
    words = ["data.root=/cohort", "data.kinship=rel.dat", "data.kinship_threshold=0.0884", "split.relatives=[mother_id]"]
    run = run_of(tmp_path / "run", ContrastiveConfig, words)
    config = load_config(EvaluateConfig, [f"checkpoint={run / 'best.safetensors'}"])
    assert (config.data.kinship, config.data.kinship_threshold, config.relatives) == ("rel.dat", 0.0884, ("mother_id",))


def test_load_config_takes_the_encoder_alone_when_other_people_are_named(tmp_path):
    run = run_of(tmp_path / "run", ContrastiveConfig, ["data.root=/cohort", "data.bold=b", "split.groups=clan", "dna.layer=2"])
    config = load_config(EvaluateConfig, ["data.root=/other", f"checkpoint={run / 'best.safetensors'}"])
    assert (config.data.root, config.data.bold, config.groups, config.dna.layer) == ("/other", "bold", None, 2)


def test_load_config_finds_the_run_above_the_folder_of_one_fit(tmp_path):
    run = run_of(tmp_path / "run", PhenotypeConfig, ["data.root=/cohort", "phenotype.targets.iq=regression", "split.groups=clan"])
    config = load_config(EvaluateConfig, [f"checkpoint={run / 'fmri_seed0_fold0' / 'best.safetensors'}"])
    assert (config.data.root, config.groups) == ("/cohort", "clan")


def test_default_yaml_knows_nothing_of_runs_that_lie_around(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path / "runs" / "phenotype", PhenotypeConfig, ["data.root=/cohort", "phenotype.targets.iq=regression"])
    assert "/cohort" not in default_yaml(EvaluateConfig)


def test_load_config_refuses_families_as_strata_of_an_alignment():
    with pytest.raises(ValueError, match="Columns of families are no strata"):
        load_config(ContrastiveConfig, ["data.root=x", "split.groups=clan", "evaluation.strata=[clan]"])

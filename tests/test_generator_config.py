"""A published GENERator config.json in; the network's sizes, or one error that lists what is wrong with it, out."""

import json
import re

import pytest

from encoders.generator_config import GeneratorConfig


@pytest.fixture
def write(shared_dir, tmp_path):
    """Writes the published config.json with some settings changed, those that are changed to ... left out; returns its path."""
    raw = json.loads((shared_dir / "golden" / "generator_tiny" / "config.json").read_text())

    def write(**changes):
        changed = {name: value for name, value in {**raw, **changes}.items() if value is not ...}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        return tmp_path / "config.json"

    return write


def test_config_reads_the_published_form(write):
    config = GeneratorConfig.from_file(write())
    assert config == GeneratorConfig(64, 176, 3, 8, 2, max_position_embeddings=16384, rms_norm_eps=1e-5, rope_theta=5e5)
    assert config.max_bases == 98_298


@pytest.mark.parametrize("also", [..., None, 500000, 500000.0])
def test_config_reads_the_form_that_transformers_5_writes(write, also):
    path = write(
        architectures=["LlamaForCausalLM"],
        rope_theta=also,
        rope_scaling=...,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        head_dim=8,
    )
    assert GeneratorConfig.from_file(path) == GeneratorConfig.from_file(write())


def test_config_lists_everything_that_no_published_network_has(write):
    path = write(
        architectures=["MistralForCausalLM"],
        hidden_size=...,
        num_hidden_layers=True,
        vocab_size=32000,
        rms_norm_eps=0,
        rope_scaling={"rope_type": "yarn", "factor": 4.0},
        attention_bias=True,
    )
    with pytest.raises(ValueError, match="must describe the published kind of Llama") as caught:
        GeneratorConfig.from_file(path)
    for fault in (
        "architectures is ['MistralForCausalLM'], not one of GENERatorForCausalLM, LlamaForCausalLM",
        "hidden_size is missing",
        "num_hidden_layers is True, not a whole number of at least 1",
        "vocab_size is 32000, not 4128",
        "rms_norm_eps is 0, not a number above 0",
        "rope_scaling is {'rope_type': 'yarn', 'factor': 4.0}, not None",
        "attention_bias is True, not False",
        f"file: {path}",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model_type": ...}, "model_type is missing"),
        ({"rope_theta": ...}, "rope_theta is missing"),
        ({"rope_theta": 0}, "rope_theta is 0, not one number above 0"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_theta is 500000.0 and 10000.0, not one number above 0"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5}}, "not those of the plain kind, rope_type default"),
        ({"rope_parameters": 3}, "rope_parameters is 3, not those of the plain kind"),
        ({"num_attention_heads": 5}, "hidden_size is 64, not a multiple of twice the num_attention_heads (5)"),
        ({"num_key_value_heads": 3}, "num_attention_heads is 8, not a multiple of num_key_value_heads (3)"),
        ({"head_dim": 16}, "head_dim is 16, not hidden_size / num_attention_heads (8)"),
    ],
)
def test_config_says_which_setting_is_wrong(write, changes, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        GeneratorConfig.from_file(write(**changes))


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_config_refuses_a_file_that_is_no_json_object(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="it is no JSON object"):
        GeneratorConfig.from_file(tmp_path / "config.json")

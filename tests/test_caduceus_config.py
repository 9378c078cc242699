"""A published Caduceus config.json in; the network's sizes, or one error that lists what is wrong with it, out."""

import json
import re

import pytest

from encoders.caduceus_config import CaduceusConfig


@pytest.fixture
def published(golden):
    """The numbers of a published kind of network, by its name."""
    return lambda name: golden(f"caduceus/caduceus_{name}")


@pytest.fixture
def write(tmp_path):
    """Writes a network's config.json with some settings changed; returns its path."""

    def write(case, changes):
        (tmp_path / "config.json").write_text(json.dumps({**case.meta["constructor"], **changes}, sort_keys=True))
        return tmp_path / "config.json"

    return write


def test_config_reads_the_complement_map_by_key(published, write):
    case = published("ps_fused")
    sorted_as_text = dict(sorted(case.meta["constructor"]["complement_map"].items()))
    assert list(sorted_as_text) != sorted(sorted_as_text, key=int)
    config = CaduceusConfig.from_file(write(case, {"complement_map": sorted_as_text}))
    assert config.complement_map == tuple(case.meta["complement_map_after_padding"].values())
    assert config.vocab_size == case.meta["vocab_size_after_padding"]


def test_config_lists_everything_that_no_published_network_has(published, write):
    changes = {
        "rms_norm": False,
        "bidirectional_strategy": "mean",
        "ssm_cfg": {"headdim": 64, "bias": True},
        "vocab_size": 4,
        "complement_map": None,
    }
    path = write(published("ps_fused"), changes)
    with pytest.raises(ValueError, match="must describe a published kind of network") as caught:
        CaduceusConfig.from_file(path)
    for fault in (
        "rms_norm is False",
        "bidirectional_strategy is 'mean'",
        "ssm_cfg.headdim is unknown",
        "bias is True",
        "vocab_size is 4",
        "complement_map is missing",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"d_model": 3}'])
def test_config_refuses_a_file_that_is_no_caduceus_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"(it is no JSON object|n_layer is missing)"):
        CaduceusConfig.from_file(tmp_path / "config.json")


WRONG_SETTINGS = [
    *({"vocab_size": "12"}, {"vocab_size": None}, {"vocab_size": 12.5}, {"pad_vocab_size_multiple": None}, {"d_model": 0}),
    *({"pad_vocab_size_multiple": 0}, {"d_model": True}, {"n_layer": "3"}, {"complement_map": {"7": "x"}}, {"rcps": "yes"}),
    *({"complement_map": {"a": 7}}, {"complement_map": [7]}, {"complement_map": {"7": -1}}, {"norm_epsilon": "1e-5"}),
    *({"norm_epsilon": 0}, {"fused_add_norm": 1}, {"bidirectional_strategy": ["add"]}, {"ssm_cfg": [1]}, {"rms_norm": 1}),
]


@pytest.mark.parametrize("wrong", [*WRONG_SETTINGS, {"ssm_cfg": {"d_state": 2.0}}, {"ssm_cfg": {"dt_rank": "big"}}])
def test_config_lists_settings_of_the_wrong_kind(published, write, wrong):
    path = write(published("ps_fused"), {**wrong, "residual_in_fp32": "on"})
    (name, value), *_ = (wrong["ssm_cfg"] if isinstance(wrong.get("ssm_cfg"), dict) else wrong).items()
    told = rf"\n  {name} is {re.escape(repr(value))}, not (.|\n)*\n  file: .*config.json\n  fix:"
    with pytest.raises(ValueError, match=told) as caught:
        CaduceusConfig.from_file(path)
    assert "\n  residual_in_fp32 is 'on', not true or false\n" in str(caught.value)


def test_config_takes_the_default_where_a_setting_is_null(published, write):
    case = published("ph_fused")
    plain = CaduceusConfig.from_file(write(case, {}))
    nulls = {"dt_rank": None, "bidirectional_strategy": None, "norm_epsilon": None}
    assert CaduceusConfig.from_file(write(case, nulls)) == plain

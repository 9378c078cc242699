"""Evo 2's published settings, and config.json files that hold them or do not."""

import json

import pytest

from encoders.evo2_config import ATTENTION, HCL, HCM, HCS, PUBLISHED, REPOSITORIES, Evo2Config

BLOCKS_7B = {
    HCS: (0, 4, 7, 11, 14, 18, 21, 25, 28),
    HCM: (1, 5, 8, 12, 15, 19, 22, 26, 29),
    HCL: (2, 6, 9, 13, 16, 20, 23, 27, 30),
    ATTENTION: (3, 10, 17, 24, 31),
}
BLOCKS_40B = {
    HCS: (0, 4, 7, 11, 14, 18, 21, 25, 28, 32, 36, 39, 43, 46),
    HCM: (1, 5, 8, 12, 15, 19, 22, 26, 29, 33, 37, 40, 44, 47),
    HCL: (2, 6, 9, 13, 16, 20, 23, 27, 30, 34, 38, 41, 45, 48),
    ATTENTION: (3, 10, 17, 24, 31, 35, 42, 49),
}


@pytest.fixture
def write(tmp_path, shared_dir):
    """Writes the fixture's settings with changes (None drops one) as config.json."""

    def write_config(**changed):
        raw = json.loads((shared_dir / "golden" / "evo2" / "evo2_tiny_interp_config.json").read_text())
        settings = {key: value for key, value in {**raw, **changed}.items() if value is not None}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings))
        return path

    return write_config


def test_blocks_of_every_published_model_are_the_published_ones():
    for name, config in PUBLISHED.items():
        whole = BLOCKS_40B if "40b" in name else BLOCKS_7B
        for kind, blocks in whole.items():
            assert config.blocks(kind) == tuple(i for i in blocks if i < config.num_layers)


def test_models_that_shapes_do_not_tell_apart_differ_in_what_else_the_network_depends_on():
    settings = {name: (PUBLISHED[name].rotary_emb_scaling_factor, PUBLISHED[name].max_seqlen) for name in PUBLISHED}
    assert settings["evo2_7b"] == settings["evo2_20b"] == settings["evo2_40b"] == (128, 1_048_576)
    assert settings["evo2_7b_262k"] == (32, 262_144)
    assert settings["evo2_7b_base"] == settings["evo2_1b_base"] == settings["evo2_40b_base"] == (1, 8_192)
    assert all(config.hidden_size == 128 * config.num_attention_heads for config in PUBLISHED.values())


def test_default_layer_is_the_published_recommendation_or_the_same_depth():
    layers = {name: config.default_layer for name, config in PUBLISHED.items()}
    assert {layers[name] for name in layers if "7b" in name} == {"blocks.28.mlp.l3"}
    assert layers["evo2_40b"] == layers["evo2_40b_base"] == "blocks.20"
    assert layers["evo2_1b_base"] == layers["evo2_20b"] == "blocks.21.mlp.l3"


def test_every_model_has_a_repository():
    assert REPOSITORIES.keys() == PUBLISHED.keys()
    assert REPOSITORIES["evo2_7b_microviridae"] == "evo-design/evo-2-7b-8k-microviridae"


def test_from_file_reads_the_published_settings(write):
    config = Evo2Config.from_file(write())
    assert (config.hidden_size, config.num_layers, config.rotary_emb_scaling_factor) == (64, 8, 128)
    assert config.published_name is None
    assert Evo2Config.from_file(write(use_interpolated_rotary_pos_emb=None)).rotary_emb_scaling_factor == 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_to_json_is_what_from_file_reads(tmp_path, name):
    (tmp_path / "config.json").write_text(PUBLISHED[name].to_json())
    assert Evo2Config.from_file(tmp_path / "config.json") == PUBLISHED[name]


def test_from_file_takes_a_file_that_only_names_a_model_for_no_configuration(tmp_path):
    (tmp_path / "config.json").write_text('{"model_name": "shc-evo2-7b-8k-2T-v2", "model_type": "evo2"}')
    assert Evo2Config.from_file(tmp_path / "config.json") is None


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"use_fp8_input_projections": None}, "use_fp8_input_projections is missing"),
        ({"num_layers": "8"}, "num_layers is '8', not a whole number of at least 1"),
        ({"eps": 0}, "eps is 0, not a number above 0"),
        (
            {"rotary_emb_scaling_factor": None},
            "rotary_emb_scaling_factor is missing, and use_interpolated",
        ),
        ({"rotary_emb_scaling_factor": -1}, "rotary_emb_scaling_factor is -1, not a number above 0"),
        ({"column_split_hyena": True}, "column_split_hyena is True, not False"),
        ({"use_fp8_input_projections": "no"}, "use_fp8_input_projections is 'no', not true or false"),
        ({"published_name": "evo2_8b"}, "published_name is 'evo2_8b', not one of evo2_1b_base"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3: no even number of the 64 channels each"),
        ({"hcm_filter_groups": 5}, "hcm_filter_groups is 5, which does not divide hidden_size 64"),
        ({"hcs_layer_idxs": 3}, "are not lists of whole numbers"),
        ({"hcs_layer_idxs": [0, 5], "hcm_layer_idxs": [1, 4]}, "do not deal out all blocks as hcs, hcm, hcl in turn"),
        ({"attn_layer_idxs": [3, 8]}, "do not deal out all blocks"),
    ],
)
def test_from_file_lists_what_no_published_network_has(write, changed, fault):
    with pytest.raises(ValueError, match=r"must hold the settings of the published yml; got:\n  (.*\n  )*?.*" + fault):
        Evo2Config.from_file(write(**changed))


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_from_file_refuses_what_is_no_json_object(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="it is no JSON object"):
        Evo2Config.from_file(tmp_path / "config.json")

"""Which files and which model a checkpoint means."""

import huggingface_hub
import pytest

from encoders.evo2_checkpoint import INDEX, fetch, find_source
from encoders.evo2_config import PUBLISHED
from tests.evo2_files import write_tiny


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("word", ["evo2_7b_262k", "arcinstitute/evo2_7b_262k"])
def test_find_source_takes_a_published_name_or_hub_id(word):
    assert find_source(word) == ([], PUBLISHED["evo2_7b_262k"])
    assert find_source("evo-design/evo-2-7b-8k-microviridae").config.published_name == "evo2_7b_microviridae"


def test_find_source_prefers_a_path_to_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path))
    touch(tmp_path / "evo2_7b", "evo2_7b_262k.pt")
    files, config = find_source("evo2_7b")
    assert [file.name for file in files] == ["evo2_7b_262k.pt"]
    assert config is PUBLISHED["evo2_7b_262k"]


def test_find_source_knows_a_local_file_by_config_json_then_by_option_then_by_its_name(tmp_path, shared_dir):
    folder = touch(tmp_path, "evo2_7b_base.pt", "mine.pt")
    assert find_source(folder / "evo2_7b_base.pt").config is PUBLISHED["evo2_7b_base"]
    assert find_source(folder / "mine.pt").config is None
    assert find_source(folder / "mine.pt", "evo2_7b_262k").config is PUBLISHED["evo2_7b_262k"]
    assert find_source(folder / "evo2_7b_base.pt", "evo2_7b_262k").config is PUBLISHED["evo2_7b_262k"]
    (folder / "config.json").write_text('{"model_name": "shc-evo2-7b-8k-2T-v2"}')  # the hub's, which configures nothing
    assert find_source(folder / "evo2_7b_base.pt").config is PUBLISHED["evo2_7b_base"]
    (folder / "config.json").write_text(PUBLISHED["evo2_7b_262k"].to_json())
    assert find_source(folder / "evo2_7b_base.pt").config == PUBLISHED["evo2_7b_262k"]
    assert find_source(write_tiny(shared_dir, tmp_path / "tiny", "interp")).config.rotary_emb_scaling_factor == 128


def test_find_source_finds_all_parts_in_order_from_the_folder_the_whole_or_any_part(tmp_path):
    folder = touch(tmp_path, *(f"evo2_40b.pt.part{i}" for i in range(11)))
    for path in (folder, folder / "evo2_40b.pt", folder / "evo2_40b.pt.part7"):
        files, config = find_source(path)
        assert [file.name for file in files] == [f"evo2_40b.pt.part{i}" for i in range(11)]
        assert config is PUBLISHED["evo2_40b"]


def test_find_source_names_the_part_that_is_missing(tmp_path):
    folder = touch(tmp_path, "evo2_40b.pt.part0", "evo2_40b.pt.part2")
    with pytest.raises(FileNotFoundError, match=r"Parts 0 to 2 of evo2_40b\.pt are needed; evo2_40b\.pt\.part1 is missing"):
        find_source(folder)


def test_find_source_lists_the_published_models_when_there_is_no_such_checkpoint():
    with pytest.raises(FileNotFoundError, match=r"no path 'evo3_7b' exists\.\n  known: evo2_1b_base, evo2_7b"):
        find_source("evo3_7b")


def test_find_source_refuses_an_unknown_model_and_one_that_contradicts_the_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"model must be one of evo2_1b_base, .*; got 'evo2_8b'"):
        find_source("evo2_7b", "evo2_8b")
    with pytest.raises(ValueError, match="model is 'evo2_7b', and the checkpoint is evo2_7b_base"):
        find_source("arcinstitute/evo2_7b_base", "evo2_7b")
    folder = touch(tmp_path, "mine.pt")
    (folder / "config.json").write_text(PUBLISHED["evo2_7b_262k"].to_json())
    with pytest.raises(ValueError, match=r"model is 'evo2_7b', and the config\.json beside the weights is of evo2_7b_262k"):
        find_source(folder, "evo2_7b")


def test_find_source_refuses_a_folder_without_weights_or_with_several(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold NAME\.pt, .*; this one holds notes\.txt"):
        find_source(touch(tmp_path / "empty", "notes.txt"))
    with pytest.raises(ValueError, match=r"must hold one model; found a\.pt, b\.pt"):
        find_source(touch(tmp_path / "two", "a.pt", "b.pt.part0"))


def test_find_source_names_the_last_part_when_a_published_model_has_more(tmp_path):
    folder = touch(tmp_path, "evo2_40b.pt.part0")
    for checkpoint in (folder, folder / "evo2_40b.pt", folder / "evo2_40b.pt.part0"):
        with pytest.raises(FileNotFoundError, match=r"evo2_40b has 2 parts; only 1 are here, and evo2_40b\.pt\.part1 is missing"):
            find_source(checkpoint)


def test_find_source_names_the_shards_that_are_missing(tmp_path):
    folder = touch(tmp_path, "model-1.safetensors")
    (folder / INDEX).write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"All 2 files that an index of weights names .*; 1 do not: model-2\.safetensors"):
        find_source(folder)
    (folder / INDEX).write_text("{}")
    with pytest.raises(ValueError, match="An index of weights must be JSON whose weight_map"):
        find_source(folder)


def test_fetch_asks_the_hub_for_the_files_of_the_model_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repository, name: asked.append((repository, name)) or f"/hub/{name}"
    )
    assert [file.name for file in fetch("evo2_40b")] == ["evo2_40b.pt.part0", "evo2_40b.pt.part1"]
    fetch("evo2_7b_microviridae")
    assert asked[1:] == [
        ("arcinstitute/evo2_40b", "evo2_40b.pt.part1"),
        ("evo-design/evo-2-7b-8k-microviridae", "evo2_7b_microviridae.pt"),
    ]


def test_fetch_says_which_file_to_put_where_when_the_hub_is_out_of_reach(monkeypatch):
    def offline(*_):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(
        FileNotFoundError, match=r"no network\n  file: evo2_7b\.pt of arcinstitute/evo2_7b\n  fix: .*FOLDER/evo2_7b\.pt"
    ):
        fetch("evo2_7b")

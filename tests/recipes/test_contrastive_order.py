"""What is cheap to refuse is refused before anything is prepared."""

import pytest
import torch

from recipes import contrastive


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("split.strata=[nope]", "unknown columns: nope"),
        ("split.groups=nope", "unknown columns: nope"),
        ("evaluation.strata=[nope]", "unknown columns: nope"),
        ("split.file=nowhere.json", r"expected a file, got none.\n  file: nowhere\.json"),
        ("train.batch_size=1", "A gathered batch needs at least 2 people"),
        ("train.batch_size=100", "got 20 training people"),
        ("dna.layer=99", "layer"),
        pytest.param(
            "train.mixed_precision=fp16",
            "fp16 needs a CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here"),
        ),
        ("dna.checkpoint=no/where", "no/where"),
        ("checkpoint=nowhere", r"got no file\.\n  file: nowhere"),
        ("fmri.checkpoint=nowhere", r"fmri\.checkpoint must name a file, got no file"),
        ("data.truth=nowhere", r"data\.truth must name a file, got no file"),
    ],
)
def test_contrastive_refuses_cheap_faults_before_it_fills_a_store(words, tmp_path, word, message):
    places = [f"stores.bold={tmp_path / 'bold'}", f"stores.dna={tmp_path / 'dna'}", f"out={tmp_path / 'out'}"]
    orientation = ["data.orientation=LAS"] if word.startswith("fmri.checkpoint") else []
    with pytest.raises((ValueError, OSError), match=message):
        contrastive.main([*words["training"], *places, *orientation, word])
    assert list(tmp_path.iterdir()) == []


def test_contrastive_loads_the_dna_encoder_once_and_warns_of_a_small_batch(words, tmp_path, monkeypatch, capsys):
    loaded, original = [], contrastive.load_dna_encoder
    monkeypatch.setattr(contrastive, "load_dna_encoder", lambda *a, **k: loaded.append(a) or original(*a, **k))
    contrastive.main([*words["training"], "train.epochs=1", f"out={tmp_path / 'out'}"])
    assert len(loaded) == 1
    assert capsys.readouterr().out.count("A gathered batch holds 8 people; below 16") == 1

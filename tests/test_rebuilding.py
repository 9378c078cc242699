"""An alignment rebuilt from its checkpoint: the same embeddings bit for bit; honest refusal; one fingerprint a model."""

import dataclasses
import hashlib
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from brainmt_align.model.alignment import AlignmentModel, DNATower, FMRITower, fit_region_statistics
from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.phenotype import PhenotypeModel, build_fmri_tower
from brainmt_align.model.rebuilding import model_fingerprint, rebuild_alignment, rebuild_phenotype
from brainmt_align.training.checkpoints import read_weights, save_weights
from encoders import BrainMT, BrainMTConfig


def trained(fmri_pooling="cls", region_pooling="concatenate", logit_bias=None):
    """A tiny model after two training passes, one of its three regions dropped, and its description."""
    torch.manual_seed(0)
    encoder = BrainMT(
        BrainMTConfig(
            volume_shape=(16, 16, 16), num_frames=4, num_classes=0, embed_dim=8, depth=(1, 1), stem_channels=(2, 2), d_state=2
        )
    )
    features_BRHD = torch.randn(10, 3, 2, 5)
    features_BRHD[:, 1] = 0.25
    tower = DNATower(fit_region_statistics([features_BRHD], torch.ones(3, 5)), region_pooling, 0.1, 12)
    model = AlignmentModel(FMRITower(encoder, fmri_pooling, 0.1, 12), {"caduceus": tower}, 0.07, logit_bias)
    for _ in range(2):
        model(torch.randn(3, 4, 1, 16, 16, 16), {"caduceus": features_BRHD[:3]})
    recorded = {
        "encoder": dataclasses.asdict(encoder.config),
        "window": 4,
        "fmri_pooling": fmri_pooling,
        "region_pooling": region_pooling,
        "width": 12,
        "dna": {"caduceus": {"regions": {"A": "", "B": "", "C": ""}}},
    }
    return model.eval(), recorded


@pytest.mark.parametrize(("fmri", "regions", "bias"), [("cls", "concatenate", None), ("mean", "mean", -10.0)])
def test_rebuild_alignment_gives_the_same_embeddings_bit_for_bit(tmp_path, fmri, regions, bias):
    model, recorded = trained(fmri, regions, bias)
    save_weights(tmp_path / "best.safetensors", model, recorded)
    weights = read_weights(tmp_path / "best.safetensors", {}, kind="an alignment")
    again = rebuild_alignment(weights.description, weights.state)
    assert not again.training
    bold_BTCDHW, features_BRHD = torch.randn(2, 4, 1, 16, 16, 16), torch.randn(2, 3, 2, 5)
    with torch.no_grad():
        expected, found = model(bold_BTCDHW, {"caduceus": features_BRHD}), again(bold_BTCDHW, {"caduceus": features_BRHD})
    assert torch.equal(found.fmri_BE, expected.fmri_BE) and torch.equal(found.dna_BE["caduceus"], expected.dna_BE["caduceus"])
    assert torch.equal(found.log_scale, expected.log_scale) and torch.equal(found.logit_bias, expected.logit_bias)


def test_rebuild_alignment_names_what_the_description_lacks():
    model, recorded = trained()
    del recorded["width"], recorded["dna"]
    with pytest.raises(ValueError, match=r"without width, dna\.\n  where: the checkpoint\n  fix: name best\.safetensors"):
        rebuild_alignment(recorded, model.state_dict())


def test_rebuild_alignment_lists_weights_that_do_not_fit():
    model, recorded = trained()
    state = {**model.state_dict(), "foreign": torch.zeros(1), "fmri.encoder.cls_token": torch.zeros(1, 1, 9)}
    del state["log_scale"]
    with pytest.raises(
        ValueError, match=r"(?s)got 3 differences.*log_scale: missing.*foreign: unexpected.*cls_token: \(1, 1, 8\) expected"
    ):
        rebuild_alignment(recorded, state)
    with pytest.raises(ValueError, match=r"… and \d+ more"):
        rebuild_alignment(recorded, {name: tensor for name, tensor in state.items() if name.startswith("dna.")})


def test_model_fingerprint_is_of_the_weights_alone(tmp_path):
    state = {"b": torch.tensor(2.0), "a": torch.arange(6.0).reshape(2, 3), "n": torch.zeros((), dtype=torch.long)}
    found = model_fingerprint(state)
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "state.safetensors")
    assert model_fingerprint(load_file(tmp_path / "state.safetensors")) == found
    assert model_fingerprint({**state, "a": torch.arange(6.0).reshape(2, 3).T.contiguous().T}) == found
    told = b"a torch.float32 (2, 3)\n" + struct.pack("<6f", *range(6)) + b"b torch.float32 ()\n" + struct.pack("<f", 2)
    assert found == hashlib.sha256(told + b"n torch.int64 ()\n" + bytes(8)).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"a": torch.arange(6.0).reshape(3, 2)},
        {"a": torch.arange(6.0).reshape(2, 3).nextafter(torch.tensor(9.0))},
        {"a": torch.arange(6).reshape(2, 3)},
        {"c": torch.tensor(2.0)},
        {"b": torch.tensor(2.0, dtype=torch.bfloat16)},
    ],
)
def test_model_fingerprint_changes_with_any_name_shape_type_or_value(change):
    state = {"b": torch.tensor(2.0), "a": torch.arange(6.0).reshape(2, 3)}
    assert model_fingerprint({**state, **change}) != model_fingerprint(state)


def predicting(inputs, adapt="full"):
    """A tiny phenotype model of those inputs, and its description."""
    aligned, recorded = trained()
    encoder, specs = aligned.fmri.encoder, [TargetSpec("score", "regression", 0), TargetSpec("case", "binary", 2)]
    fmri = None if inputs == "dna" else build_fmri_tower(encoder, "projected", "cls", 0.0, 12)
    model = PhenotypeModel(specs, fmri, {} if inputs == "fmri" else dict(aligned.dna))
    model.adapt(adapt, 2)
    recorded |= {"inputs": inputs, "readout": "projected", "adapt": adapt, "lora_rank": 2}
    unread = {"dna": ("encoder", "window", "readout", "fmri_pooling"), "fmri": ("dna", "region_pooling"), "both": ()}[inputs]
    return model.eval(), {key: value for key, value in recorded.items() if key not in unread}, specs


@pytest.mark.parametrize(("inputs", "adapt"), [("fmri", "lora"), ("dna", "full"), ("both", "probe")])
def test_rebuild_phenotype_gives_the_same_predictions_bit_for_bit(inputs, adapt):
    model, recorded, specs = predicting(inputs, adapt)
    again = rebuild_phenotype(recorded, model.state_dict(), specs)
    assert not again.training and again.targets == model.targets
    bold = None if inputs == "dna" else torch.randn(2, 4, 1, 16, 16, 16)
    dna = {} if inputs == "fmri" else {"caduceus": torch.randn(2, 3, 2, 5)}
    with torch.no_grad():
        assert torch.equal(again(bold, dna), model(bold, dna))


def test_rebuild_phenotype_names_what_is_missing_and_what_does_not_fit():
    model, recorded, specs = predicting("both")
    with pytest.raises(ValueError, match=r"without readout, dna\.\n  where: the checkpoint"):
        rebuild_phenotype({key: each for key, each in recorded.items() if key not in ("readout", "dna")}, {}, specs)
    with pytest.raises(ValueError, match="without inputs, width"):
        rebuild_phenotype({}, {}, specs)
    with pytest.raises(ValueError, match=r"got 1 differences:\n  - foreign: unexpected, \(1,\) found"):
        rebuild_phenotype(recorded, {**model.state_dict(), "foreign": torch.zeros(1)}, specs)

"""Towers: standardisation, region statistics, haplotype symmetry, unit norm."""

import math

import pytest
import torch
from torch import nn

from brainmt_align.model.alignment import (
    AlignmentModel,
    BatchStandardisation,
    DNATower,
    FMRITower,
    fit_region_statistics,
    region_statistics_of,
)
from encoders import BrainMT, BrainMTConfig


def small_brainmt(depth=(1, 1)):
    return BrainMT(
        BrainMTConfig(
            volume_shape=(16, 16, 16),
            num_frames=4,
            embed_dim=16,
            depth=depth,
            stem_channels=(2, 4),
            d_state=4,
            drop_path_rate=0.0,
        )
    )


@pytest.fixture
def region_features():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(20, 3, 2, 5, generator=generator)


def test_batch_standardisation_equals_batch_norm_without_affine_in_training():
    ours, theirs = BatchStandardisation(6), nn.BatchNorm1d(6, affine=False)
    x = (torch.randn(12, 6) * 3 + 50).requires_grad_()
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(12, 6)
    (ours(x) * weight).sum().backward()
    (theirs(y) * weight).sum().backward()
    torch.testing.assert_close(ours(x), theirs(y), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-4)


def test_batch_standardisation_keeps_running_statistics_for_eval():
    layer = BatchStandardisation(2)
    batches = [torch.randn(64, 2) * torch.tensor([1.0, 5.0]) + torch.tensor([10.0, -3.0]) for _ in range(5)]
    for batch in batches:
        layer(batch)
    torch.testing.assert_close(
        layer.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(layer.running_var, torch.stack([batch.var(0) for batch in batches]).mean(0), rtol=1e-4, atol=1e-4)
    layer.eval()
    torch.testing.assert_close(layer(layer.running_mean[None]), torch.zeros(1, 2))


def test_batch_standardisation_refuses_a_single_person():
    with pytest.raises(ValueError, match="at least 2 people in the gathered batch, got 1"):
        BatchStandardisation(3)(torch.randn(1, 3))


def test_fit_region_statistics_equals_mean_and_sd_over_people_in_any_chunking(region_features):
    person = region_features.mean(2)
    for chunk in (20, 7):
        statistics = fit_region_statistics(region_features.split(chunk), torch.ones(3, 5))
        torch.testing.assert_close(statistics.mean_RD, person.mean(0), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(statistics.sd_RD, person.std(0, unbiased=False), atol=1e-6, rtol=1e-5)
        assert statistics.kept.all()


def test_fit_region_statistics_drops_regions_that_vary_by_rounding_alone(region_features):
    region_features[:, 1] = 0.25 + 1e-8 * region_features[:, 1]
    statistics = fit_region_statistics([region_features], torch.ones(3, 5))
    assert statistics.kept.tolist() == [True, False, True]


def test_dna_tower_standardises_training_people_and_drops_constant_regions(region_features):
    region_features[:, 2] = 0.0
    tower = DNATower(fit_region_statistics([region_features], torch.ones(3, 5)))
    features_BD = tower.features(region_features)
    assert features_BD.shape == (20, 2 * 5)
    torch.testing.assert_close(features_BD.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(features_BD.std(0, unbiased=False), torch.ones(10), atol=1e-5, rtol=0)
    averaged = DNATower(fit_region_statistics([region_features], torch.ones(3, 5)), pooling="mean").features(region_features)
    torch.testing.assert_close(averaged, features_BD.view(20, 2, 5).mean(1))


def test_dna_tower_names_the_regions_that_it_drops(region_features):
    names = ["A", "B", "C"]
    assert DNATower(fit_region_statistics([region_features], torch.ones(3, 5))).describe_dropped(names) is None
    region_features[:, 2] = 0.0
    note = DNATower(fit_region_statistics([region_features], torch.ones(3, 5))).describe_dropped(names)
    assert note == "1 of 3 regions do not vary among the training people and are dropped: C"


def test_dna_tower_is_symmetric_in_the_two_haplotypes(region_features):
    tower = DNATower(fit_region_statistics([region_features], torch.ones(3, 5))).eval()
    torch.testing.assert_close(tower(region_features), tower(region_features.flip(2)), atol=1e-6, rtol=0)


def test_dna_tower_refuses_regions_without_any_variation():
    with pytest.raises(ValueError, match="At least one region must vary among the training people, got none of 3"):
        DNATower(fit_region_statistics([torch.zeros(4, 3, 2, 5)], torch.ones(3, 5)))


def test_fmri_tower_leaves_out_projector_and_standardisation():
    torch.manual_seed(0)
    whole, bold = FMRITower(small_brainmt(), output_dim=7), torch.randn(3, 4, 1, 16, 16, 16)
    plain = FMRITower(whole.encoder, output_dim=None, standardise=False)
    standardised = FMRITower(whole.encoder, output_dim=None)
    assert (whole.output_dim, plain.output_dim, standardised.output_dim) == (7, 16, 16)
    assert torch.equal(plain(bold), whole.features(bold))
    assert torch.equal(standardised(bold), whole.standardise(whole.features(bold)))
    keys = [key for key in whole.state_dict() if not key.startswith("projector.")]
    assert list(standardised.state_dict()) == keys
    assert list(plain.state_dict()) == [key for key in keys if not key.startswith("standardise.")]


@pytest.mark.parametrize("depth", [(1, 0), (1, 1)])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_alignment_model_gives_unit_rows_and_gradient_to_every_trained_parameter(region_features, pooling, depth):
    torch.manual_seed(0)
    tower = DNATower(fit_region_statistics([region_features], torch.ones(3, 5)))
    model = AlignmentModel(FMRITower(small_brainmt(depth), pooling), {"caduceus": tower})
    outputs = model(torch.randn(4, 4, 1, 16, 16, 16), {"caduceus": region_features[:4]})
    for rows in (outputs.fmri_BE, outputs.dna_BE["caduceus"]):
        assert rows.shape == (4, 512)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    loss = (outputs.fmri_BE @ outputs.dna_BE["caduceus"].T * outputs.log_scale.exp()).square().sum()
    loss.backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert idle == []


def test_alignment_model_caps_the_logit_scale_and_lets_it_come_back(region_features):
    tower = DNATower(fit_region_statistics([region_features], torch.ones(3, 5)))
    model = AlignmentModel(FMRITower(small_brainmt()), {"caduceus": tower}, temperature=1e-4)
    model.cap_scale()
    outputs = model(torch.randn(2, 4, 1, 16, 16, 16), {"caduceus": region_features[:2]})
    assert outputs.log_scale.item() == pytest.approx(math.log(100.0))
    outputs.log_scale.exp().backward()
    assert model.log_scale.grad.item() > 0


def test_alignment_model_starts_a_bias_that_no_loss_has_trained(region_features):
    def model(bias):
        tower = DNATower(fit_region_statistics([region_features], torch.ones(3, 5)))
        return AlignmentModel(FMRITower(small_brainmt()), {"caduceus": tower}, logit_bias=bias)

    clip, siglip = model(None), model(-10.0)
    siglip.load_state_dict(clip.state_dict())
    assert siglip.logit_bias.item() == 0
    siglip.start_untrained_bias()
    assert siglip.logit_bias.item() == -10
    siglip.load_state_dict(model(-7.5).state_dict())
    siglip.start_untrained_bias()
    assert siglip.logit_bias.item() == -7.5
    clip.start_untrained_bias()
    assert clip.logit_bias.item() == 0


def test_towers_refuse_an_unknown_pooling(region_features):
    with pytest.raises(ValueError, match=r"fmri\.pooling must be one of cls, mean, got 'max'"):
        FMRITower(small_brainmt(), "max")
    with pytest.raises(ValueError, match=r"dna\.region_pooling must be one of concatenate, mean, got 'sum'"):
        DNATower(fit_region_statistics([region_features], torch.ones(3, 5)), pooling="sum")


def test_region_statistics_of_gives_back_what_a_tower_was_built_with(region_features):
    statistics = fit_region_statistics([region_features], torch.ones(3, 5))
    model = AlignmentModel(FMRITower(small_brainmt()), {"caduceus": DNATower(statistics)})
    again = region_statistics_of(model.state_dict(), "caduceus")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, statistics, strict=True))
    with pytest.raises(ValueError, match=r"the DNA encoder evo2 was expected in the checkpoint, got caduceus\."):
        region_statistics_of(model.state_dict(), "evo2")

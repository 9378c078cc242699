"""Regions as a query: the whole person from all regions, each alone, mirrored; what cannot be asked."""

import pytest
import torch
import torch.nn.functional as F

from brainmt_align.evaluation.query_regions import embed_regions
from brainmt_align.model.alignment import DNATower, fit_region_statistics

NAMES = ["APOE", "BDNF", "COMT", "FLAT"]


@pytest.fixture(params=["concatenate", "mean"])
def tower(request):
    """Four regions of five features, the last of which does not vary and is dropped."""
    torch.manual_seed(1)
    features_BRHD = 3 + torch.randn(30, 4, 2, 5) * torch.tensor([0.01, 1.0, 100.0, 1.0])[:, None, None]
    features_BRHD[:, 3] = 0.25
    return DNATower(fit_region_statistics([features_BRHD], torch.ones(4, 5)), request.param, 0.1, 16).eval()


@pytest.fixture
def person(tower):
    return tower.mean[:, None] + torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(2)) * tower.sd[:, None]


def test_embed_regions_of_all_regions_is_the_whole_person_to_the_last_bit(tower, person):
    with torch.no_grad():
        whole_E = F.normalize(tower(person[None]), dim=-1)[0]
    assert torch.equal(embed_regions(tower, NAMES, person, dict.fromkeys(NAMES[:3], 1.0)), whole_E)


@pytest.mark.parametrize("weights", [{"BDNF": 1.0}, {"COMT": -1.0}, {"COMT": 2.0, "APOE": -0.5}])
def test_embed_regions_equals_the_projector_on_weighted_standardised_features(tower, person, weights):
    standard_RD = (person.mean(1) - tower.mean) / tower.sd
    inputs_RD = torch.stack([weights.get(name, 0.0) * row for name, row in zip(NAMES[:3], standard_RD, strict=False)])
    with torch.no_grad():
        expected_E = tower.projector(inputs_RD.flatten() if tower.pooling == "concatenate" else inputs_RD.mean(0))
    found_E = embed_regions(tower, NAMES, person, weights)
    torch.testing.assert_close(found_E, F.normalize(expected_E, dim=0), atol=2e-4, rtol=1e-3)
    assert found_E.norm() == pytest.approx(1.0)


def test_embed_regions_looks_at_the_named_regions_alone_and_at_no_order_of_haplotypes(tower, person):
    other = torch.randn(4, 2, 5)
    other[1] = person[1].flip(0)
    found, again = (embed_regions(tower, NAMES, each, {"BDNF": 1.0}) for each in (person, other))
    torch.testing.assert_close(found, again)
    assert not torch.allclose(found, embed_regions(tower, NAMES, other, {"COMT": 1.0}))


def test_embed_regions_does_not_depend_on_the_order_of_the_weights(tower, person):
    found = embed_regions(tower, NAMES, person, {"APOE": 1.0, "COMT": -1.0})
    assert torch.equal(found, embed_regions(tower, NAMES, person, {"COMT": -1.0, "APOE": 1.0}))


def test_embed_regions_lists_every_fault_with_the_nearest_names(tower, person):
    faulty = {"APOB": 1.0, "FLAT": 1.0, "COMT": float("nan")}
    with pytest.raises(
        ValueError, match=r"(?s)3 of 4 take part.*APOB is not among them; the nearest are APOE.*fix: give such as"
    ) as e:
        embed_regions(tower, NAMES, person, faulty)
    assert "FLAT did not vary among the training people" in str(e.value) and "the weight of COMT is nan" in str(e.value)
    with pytest.raises(ValueError, match="no region is named"):
        embed_regions(tower, NAMES, person, {})


def test_embed_regions_refuses_features_that_are_not_one_persons(tower, person):
    with pytest.raises(ValueError, match=r"= \(4, 2, 5\), were expected, got shape \(3, 2, 5\) with 0 other values"):
        embed_regions(tower, NAMES, person[:3], {"APOE": 1.0})
    person[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="with 1 other values"):
        embed_regions(tower, NAMES, person, {"APOE": 1.0})


def test_embed_regions_refuses_what_leaves_the_mean_person(tower, person):
    person[1] = tower.mean[1]
    for weights in ({"BDNF": 1.0}, {"APOE": 0.0}):
        with pytest.raises(ValueError, match=r"got nothing: \+[01] [A-Z]{4}"):
            embed_regions(tower, NAMES, person, weights)

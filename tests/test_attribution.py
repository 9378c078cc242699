"""Room under test: brainmt_align/evaluation/attribution.py. In: a scan's windows and a genome. Out: the credit of each voxel."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brainmt_align.evaluation.attribution import attribute_voxels
from brainmt_align.model.alignment import AlignmentModel, FMRITower
from encoders import BrainMT, BrainMTConfig

GRID = (8, 9, 7)


class LinearBrain(nn.Module):
    """The first of two unit-norm numbers is a weighted sum of the scan: a similarity that is linear in the voxels."""

    def __init__(self, frames):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(frames, 1, *GRID, generator=torch.Generator().manual_seed(0)) / 1000)
        self.fmri = SimpleNamespace(output_dim=2)

    def embed_fmri(self, bold):
        part = (bold * self.weight).flatten(1).sum(1)
        return torch.stack([part, (1 - part.square()).sqrt()], 1)


class BentBrain(LinearBrain):
    """The same with a jump-like bend that few steps cannot integrate."""

    def embed_fmri(self, bold):
        part = torch.sigmoid(2000 * (bold * self.weight).flatten(1).sum(1).sub(0.001)) / 2
        return torch.stack([part, (1 - part.square()).sqrt()], 1)


def tiny_brain(seed=0, depth=(1, 1)):
    torch.manual_seed(seed)
    config = BrainMTConfig(
        volume_shape=GRID, num_frames=6, embed_dim=16, depth=depth, stem_channels=(4, 4), d_state=4, num_classes=0, init_std=0.3
    )
    return AlignmentModel(FMRITower(BrainMT(config), output_dim=12), {})


def windows_of(count, frames=6, seed=10):
    return list(torch.randn(count, frames, 1, *GRID, generator=torch.Generator().manual_seed(seed)))


def genome(width=12, seed=1):
    return F.normalize(torch.randn(width, generator=torch.Generator().manual_seed(seed)), dim=0)


def test_attribute_voxels_of_a_linear_similarity_are_weight_times_way():
    model, (window,) = LinearBrain(6), windows_of(1)
    found = attribute_voxels(model, [window], torch.tensor([1.0, 0]), steps=2)
    expected = (model.weight * (window - window.mean(0))).sum((0, 1)).detach()
    np.testing.assert_allclose(found.map_DHW, expected, atol=1e-7)
    assert found.map_DHW.dtype == np.float64 and found.map_DHW.shape == GRID and found.steps == 2
    assert found.similarity == pytest.approx(float((model.weight * window).detach().sum()), abs=1e-6)
    assert found.baseline_similarity == pytest.approx(float((model.weight * window.mean(0)).detach().sum()), abs=1e-6)
    found = attribute_voxels(model, [window], np.array([1.0, 0]), steps=1, baseline=-2.0)
    np.testing.assert_allclose(found.map_DHW, (model.weight * (window + 2)).sum((0, 1)).detach(), atol=1e-7)


@pytest.mark.parametrize("baseline", [None, -3.0])
@pytest.mark.parametrize("count", [1, 3])
def test_attribute_voxels_sum_to_the_difference_of_the_similarities(count, baseline):
    model, windows, z_E = tiny_brain(), windows_of(count), genome()
    found = attribute_voxels(model.train(), iter(windows), z_E, baseline=baseline)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    with torch.no_grad():
        own = F.normalize(torch.stack([model.embed_fmri(window[None])[0] for window in windows]).mean(0), dim=0) @ z_E
    assert found.similarity == pytest.approx(float(own), abs=1e-5)
    difference = found.similarity - found.baseline_similarity
    assert abs(difference) > 0.003
    assert found.map_DHW.sum() == pytest.approx(difference, rel=0.01, abs=1e-4)
    assert found.completeness_error == pytest.approx(found.map_DHW.sum() - difference)


def test_attribute_voxels_equal_a_long_sum_of_whole_gradients():
    """Naive: every window in one graph, the similarity of their mean, sixty midpoints."""
    model, windows, z_E = tiny_brain(1).eval(), torch.stack(windows_of(2, seed=3)), genome()
    start = windows.mean(1, keepdim=True).expand_as(windows)
    total, steps = torch.zeros(GRID, dtype=torch.float64), 60
    for step in range(steps):
        point = (start + (step + 0.5) / steps * (windows - start)).requires_grad_()
        similarity = F.normalize(model.embed_fmri(point).mean(0), dim=0) @ z_E
        total += (torch.autograd.grad(similarity, point)[0] * (windows - start)).double().sum((0, 1, 2)) / steps
    found = attribute_voxels(model, windows, z_E, steps=64)
    np.testing.assert_allclose(found.map_DHW, total, atol=0.02 * total.abs().max())
    assert np.corrcoef(found.map_DHW.ravel(), total.numpy().ravel())[0, 1] > 0.999


def test_attribute_voxels_do_not_depend_on_how_many_steps_are_taken_at_once():
    model, windows, z_E = tiny_brain(), windows_of(2), genome()
    one, many = (attribute_voxels(model, windows, z_E, steps=7, steps_at_once=at_once) for at_once in (1, 7))
    np.testing.assert_allclose(one.map_DHW, many.map_DHW, atol=1e-6)


def test_attribute_voxels_give_nothing_to_what_never_changes():
    window = windows_of(1)[0].half()
    still = torch.rand(GRID, generator=torch.Generator().manual_seed(5)) < 0.5
    window[:, :, still] = -1.2345
    found = attribute_voxels(tiny_brain(), [window], genome())
    assert (found.map_DHW[still] == 0).all() and (found.map_DHW[~still] != 0).any()


def test_attribute_voxels_credit_the_cluster_that_a_brain_was_trained_to_see():
    """People differ by the sign of a slow wave in one corner; every voxel is equally loud otherwise."""
    model, rng = tiny_brain(2, depth=(1, 0)), torch.Generator().manual_seed(2)
    cluster = torch.zeros(GRID)
    cluster[4:, 5:, :4] = 1
    wave = torch.tensor([1.0, 1, 1, -1, -1, -1]).view(6, 1, 1, 1, 1)

    def draw(people):
        sign = torch.where(torch.arange(people) % 2 == 0, 1.0, -1.0)
        noise = 0.5 * torch.randn(people, 6, 1, *GRID, generator=rng)
        return noise + sign.view(-1, 1, 1, 1, 1, 1) * wave * cluster, sign

    z_E, optimiser = genome(), torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        bold, sign = draw(12)
        loss = F.softplus(-8 * sign * (model.embed_fmri(bold) @ z_E)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.2
    maps = [attribute_voxels(model, [bold], float(sign) * z_E, steps=16).map_DHW for bold, sign in zip(*draw(6), strict=True)]
    mean = np.mean(maps, 0)
    inside = cluster.numpy() == 1
    assert inside.mean() < 0.13
    assert mean.sum() > 0 and mean[inside].sum() == pytest.approx(mean.sum(), rel=0.25)
    assert mean[inside].mean() > 5 * np.abs(mean[~inside]).mean()


def test_attribute_voxels_doubles_the_steps_until_the_parts_add_up():
    window, z_E = windows_of(1)[0], torch.tensor([1.0, 0])
    found = attribute_voxels(BentBrain(6), [window], z_E, steps=2)
    assert found.steps > 2 and found.steps & (found.steps - 1) == 0
    assert abs(found.completeness_error) <= 0.01 * abs(found.similarity - found.baseline_similarity)
    with pytest.warns(UserWarning, match=r"got one that misses it by [+-]\d.* after 4 steps\.\n  fix: allow more with max_steps"):
        short = attribute_voxels(BentBrain(6), [window], z_E, steps=2, max_steps=4)
    assert short.steps == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute_voxels(tiny_brain(), [window], genome())


@pytest.mark.parametrize(
    ("windows", "z_E", "settings", "message"),
    [
        ([], genome(), {}, "of one person on one grid were expected, got 0 windows of 0 shapes"),
        ([torch.zeros(6, 1, *GRID), torch.zeros(6, 1, 8, 9, 8)], genome(), {}, "got 2 windows of 2 shapes"),
        ([torch.zeros(1, *GRID)], genome(), {}, "got 1 windows of 1 shapes"),
        (windows_of(1), genome(11), {}, r"embedding of 12 finite numbers and unit norm was expected, got shape \(11,\)"),
        (windows_of(1), 2 * genome(), {}, r"got shape \(12,\) and norm 2"),
        (windows_of(1), np.nan * genome(), {}, "and norm nan"),
        (windows_of(1), genome(), {"steps": 0}, "got 0 steps"),
        (windows_of(1), genome(), {"steps": 300}, "got 300 steps up to 256"),
        (windows_of(1), genome(), {"steps_at_once": 0}, "0 at once"),
        (windows_of(1), genome(), {"tolerance": 0.0}, "at once and 0"),
    ],
)
def test_attribute_voxels_refuses_what_cannot_be(windows, z_E, settings, message):
    with pytest.raises(ValueError, match=message):
        attribute_voxels(tiny_brain(), windows, z_E, **settings)

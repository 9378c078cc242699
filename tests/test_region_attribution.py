"""Room under test: brainmt_align/evaluation/region_attribution.py. In: a tower, features, scans. Out: what each region adds."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, false_discovery_control
from torch import nn

from brainmt_align.evaluation import region_attribution as room
from brainmt_align.evaluation.metrics import recall_at_k
from brainmt_align.evaluation.ranks import rank_both_ways
from brainmt_align.evaluation.region_attribution import AttributionSettings, attribute_regions, sign_flip_p_values
from brainmt_align.model.alignment import AlignmentModel, DNATower, fit_region_statistics

NAMES = ["A", "B", "C", "D"]


def tower_of(features, pooling="concatenate", seed=0, width=24):
    torch.manual_seed(seed)
    statistics = fit_region_statistics([torch.from_numpy(features)], torch.ones(features.shape[1], features.shape[3]))
    return AlignmentModel(nn.Identity(), {"toy": DNATower(statistics, pooling, output_dim=width)})


def draw_features(people=60, regions=4, width=3, seed=0):
    return np.random.default_rng(seed).normal(2, 3, (people, regions, 2, width)).astype(np.float32)


def embed(model, features, left_out=(), donors=None):
    """The naive way: the whole tower on features in which a region holds the training mean, or somebody else's."""
    features, tower = torch.from_numpy(features.copy()), model.dna["toy"]
    for region in left_out:
        features[:, region] = tower.mean[region] if donors is None else features[donors, region]
    with torch.no_grad():
        return model.eval().embed_dna("toy", features)


@pytest.fixture
def planted():
    """Scans that know the third region and nothing else, and a tower that looks at all four."""
    features = draw_features()
    model = tower_of(features)
    return model, features, embed(model, features, left_out=(0, 1, 3)), [f"family {i // 2}" for i in range(60)]


def test_attribute_regions_finds_the_planted_region_and_no_other(planted):
    model, features, z_fmri, families = planted
    table = attribute_regions(model.train(), "toy", features, z_fmri, NAMES, AttributionSettings(families, permutations=2000))
    assert model.training
    assert table["region"].tolist() == NAMES and table["kept"].all()
    assert table.index[table["q"] < 0.05].tolist() == [2]
    assert table["change"].idxmax() == 2 and table["change"][2] > 1 and table["change_recall@5"][2] > 0.3
    np.testing.assert_allclose(table["q"], false_discovery_control(table["p"]))
    # With its own tie cut the region's features say nothing, as when they are left out.
    assert table.index[table["shuffled_p"] < 0.05].tolist() == [2]
    assert table["shuffled_change"][2] > 1
    assert table[["percentile", "random_region_p"]].isna().all(axis=None)


@pytest.mark.parametrize("pooling", ["concatenate", "mean"])
def test_attribute_regions_equals_the_whole_tower_on_changed_features(pooling):
    features = draw_features(seed=1)
    features[:, 1] = 0.5  # does not vary
    model = tower_of(features, pooling)
    z_fmri = torch.nn.functional.normalize(embed(model, features) + 0.2 * torch.randn(60, 24), dim=1)
    with pytest.warns(UserWarning, match=r"1 of 4 regions do not vary among the training people and are dropped: B\."):
        table = attribute_regions(model, "toy", features, z_fmri, NAMES, AttributionSettings(range(60), draws=1, permutations=99))
    assert table["kept"].tolist() == [True, False, True, True]
    assert table.loc[1].drop(["region", "kept"]).isna().all()
    before = rank_both_ways(z_fmri, embed(model, features))
    for region in (0, 2, 3):
        after = rank_both_ways(z_fmri, embed(model, features, [region]))
        logs = [np.log(ranks.fmri_to_dna) + np.log(ranks.dna_to_fmri) for ranks in (before, after)]
        assert table["change"][region] == pytest.approx((logs[1] - logs[0]).mean() / 2, abs=1e-3)
        recalls = [(recall_at_k(ranks.fmri_to_dna, 5) + recall_at_k(ranks.dna_to_fmri, 5)) / 2 for ranks in (before, after)]
        assert table["change_recall@5"][region] == pytest.approx(recalls[0] - recalls[1], abs=1e-3)


@pytest.mark.parametrize("pooling", ["concatenate", "mean"])
def test_attribute_regions_takes_the_shuffled_features_from_other_families(pooling, monkeypatch):
    features = draw_features(people=40, seed=2)
    model = tower_of(features, pooling)
    z_fmri, families, seen = embed(model, features), [i // 4 for i in range(40)], []
    draw = room._draw_donors
    monkeypatch.setattr(room, "_draw_donors", lambda *args: seen.append(draw(*args)) or seen[-1])
    table = attribute_regions(model, "toy", features, z_fmri, NAMES, AttributionSettings(families, draws=3, permutations=99))
    (donors,) = seen
    assert donors.shape == (3, 40) and (donors // 4 != np.arange(40) // 4).all()
    assert len(np.unique(donors)) > 30
    before = rank_both_ways(z_fmri, embed(model, features))
    changes = []
    for donor_N in donors:
        after = rank_both_ways(z_fmri, embed(model, features, [2], donor_N))
        logs = [np.log(ranks.fmri_to_dna) + np.log(ranks.dna_to_fmri) for ranks in (before, after)]
        changes.append((logs[1] - logs[0]).mean() / 2)
    assert table["shuffled_change"][2] == pytest.approx(np.mean(changes), abs=1e-3)


def test_attribute_regions_places_a_region_among_enough_others():
    features = draw_features(people=50, regions=25, seed=3)
    model = tower_of(features)
    z_fmri = embed(model, features, left_out=range(1, 25))
    names = [str(region) for region in range(25)]
    table = attribute_regions(model, "toy", features, z_fmri, names, AttributionSettings(range(50), draws=1, permutations=99))
    change = table["change"].to_numpy()
    assert change.argmax() == 0 and table["percentile"][0] == 1 and table["random_region_p"][0] == pytest.approx(1 / 25)
    for region in range(25):
        others = np.delete(change, region)
        assert table["percentile"][region] == pytest.approx(
            (np.mean(others < change[region]) + np.mean(others <= change[region])) / 2
        )
        assert table["random_region_p"][region] == pytest.approx((1 + np.sum(others >= change[region])) / 25)


def test_attribute_regions_sets_planted_regions_apart_from_the_others_as_random_controls():
    features, planted = draw_features(people=80, regions=24, seed=5), [4, 11, 19]
    model = tower_of(features)
    unplanted = [region for region in range(24) if region not in planted]
    z_fmri = embed(model, features, left_out=unplanted)
    settings = AttributionSettings([f"family {i // 2}" for i in range(80)], draws=1, permutations=499)
    table = attribute_regions(model, "toy", features, z_fmri, [f"GENE{region}" for region in range(24)], settings)
    assert table[["percentile", "random_region_p"]].notna().all(axis=None)
    # The three best of 24: with two others as good, no planted region's p can exceed 3 / 24.
    assert (table["percentile"][planted] > 0.9).all() and (table["random_region_p"][planted] <= 3 / 24).all()
    assert table["random_region_p"].min() == pytest.approx(1 / 24)
    assert (table["percentile"][unplanted] < 0.9).all() and (table["random_region_p"][unplanted] > 3 / 24).all()
    assert table["percentile"][unplanted].mean() == pytest.approx(10 / 23, abs=0.01)
    assert (table["q"][planted] < 0.05).all()


def test_attribute_regions_is_the_same_in_any_chunking_and_for_one_seed(planted, monkeypatch):
    model, features, z_fmri, families = planted
    whole = attribute_regions(model, "toy", features, z_fmri, NAMES, AttributionSettings(families, permutations=500))
    monkeypatch.setattr("brainmt_align.evaluation.region_attribution.CHUNK_NUMBERS", 7 * features[0].size)
    monkeypatch.setattr("brainmt_align.evaluation.region_attribution.BATCH_NUMBERS", 100)
    again = attribute_regions(model, "toy", features, z_fmri, NAMES, AttributionSettings(families, permutations=500))
    np.testing.assert_allclose(again["change"], whole["change"], atol=1e-3)
    other = attribute_regions(model, "toy", features, z_fmri, NAMES, AttributionSettings(families, permutations=500, seed=1))
    assert (other["shuffled_change"] != whole["shuffled_change"]).all()


def test_attribute_regions_gives_uniform_p_when_scans_and_genomes_are_unrelated():
    p, shuffled = [], []
    for seed in range(150):
        features = draw_features(people=16, regions=2, width=2, seed=seed)
        z_fmri = np.random.default_rng([seed, 7]).standard_normal((16, 8))
        families = [i // 2 for i in range(16)]
        table = attribute_regions(
            tower_of(features, seed=seed, width=8), "toy", features, z_fmri, ["A", "B"], AttributionSettings(families, 2, 256)
        )
        p.append(table["p"][0])
        shuffled.append(table["shuffled_p"][0])
    for each in (p, shuffled):
        for level in (0.05, 0.2, 0.5):
            assert binomtest(int(np.sum(np.array(each) <= level)), 150, level, alternative="greater").pvalue > 0.001
        assert np.mean(each) == pytest.approx(0.5, abs=0.12)


def test_attribute_regions_has_no_recall_among_five_people_and_no_warning_without_cause():
    features = draw_features(people=5, seed=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = attribute_regions(tower_of(features), "toy", features, np.eye(5, 24), NAMES, AttributionSettings(range(5)))
    assert table["change_recall@5"].isna().all() and table["p"].notna().all()


def test_sign_flip_p_values_equal_a_list_of_all_flips_of_families():
    rng = np.random.default_rng(0)
    changes, families = rng.normal(0.3, 1, (3, 9)), np.array([0, 0, 1, 2, 2, 2, 3, 4, 4])
    expected = []
    for row in changes:
        sums = [row @ np.array(signs)[families] for signs in itertools.product((1, -1), repeat=5)]
        expected.append(np.mean(np.array(sums) >= row.sum() - 1e-12))
    np.testing.assert_allclose(sign_flip_p_values(changes, families), expected)
    drawn = sign_flip_p_values(np.repeat(changes, 2, 1), np.repeat(families, 2), permutations=31)
    assert ((drawn >= 1 / 32) & (drawn <= 1)).all()
    np.testing.assert_allclose(sign_flip_p_values(changes, list("aabcccdee"), permutations=32), expected)


def test_sign_flip_p_values_do_not_take_a_family_for_many_people():
    rng = np.random.default_rng(1)
    family = rng.normal(0, 1, (200, 10))
    changes = np.repeat(family, 10, axis=1)
    p = sign_flip_p_values(changes, np.repeat(np.arange(10), 10))
    assert binomtest(int((p <= 0.05).sum()), 200, 0.05).pvalue > 0.001
    alone = sign_flip_p_values(changes, np.arange(100), permutations=500)
    assert (alone <= 0.05).mean() > 0.2
    np.testing.assert_array_equal(sign_flip_p_values(np.zeros((1, 10)), range(10)), [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "evo2"}, "one of the model's DNA encoders toy was expected, got 'evo2'"),
        ({"features_NRHD": draw_features(people=59)}, r"= \(60, 4, 2, 3\), 4 region names and 60 families.*got \(59, 4, 2, 3\)"),
        ({"regions": ["A"]}, "got .* 1 names and 60 families"),
        ({"groups_N": range(3)}, "4 names and 3 families"),
        ({"features_NRHD": np.where(np.arange(4)[:, None, None] == 1, np.nan, draw_features())}, "got others in region B"),
        ({"groups_N": ["one"] * 60}, "2 families or more and 1 draw or more were expected, got 1 families and 10 draws"),
        (
            {"groups_N": [None] + ["one"] * 59},
            "Region attribution: a family for each of 60 people was expected, .* 1 of them blank",
        ),
        ({"draws": 0}, "got 30 families and 0 draws"),
        ({"permutations": 0}, "60 families and 0 permutations"),
        ({"z_fmri_NE": torch.ones(60, 7)}, "two embeddings of one shape"),
    ],
)
def test_attribute_regions_refuses_what_does_not_pair(planted, change, message):
    model, features, z_fmri, families = planted
    arguments = {"name": "toy", "features_NRHD": features, "z_fmri_NE": z_fmri, "regions": NAMES}
    changed = {name: value for name, value in change.items() if name in AttributionSettings._fields}
    settings = AttributionSettings(families)._replace(**changed)
    with pytest.raises(ValueError, match=message):
        attribute_regions(model, settings=settings, **arguments | {name: change[name] for name in change.keys() - changed})


@pytest.mark.parametrize(
    ("changes", "families"), [(np.zeros(4), range(4)), (np.zeros((2, 4)), range(3)), (np.full((1, 2), np.nan), range(2))]
)
def test_sign_flip_p_values_refuse_what_does_not_pair(changes, families):
    with pytest.raises(ValueError, match=r"finite changes \(rows, people\), a family for each of the people"):
        sign_flip_p_values(changes, families)

"""Room under test: brainmt_align/evaluation/cca_rival.py. What two sides share is found, what they do not share scores chance."""

import numpy as np
import pytest

from brainmt_align.evaluation.cca_rival import cca_rival, rows_to_learn_from
from brainmt_align.evaluation.ranks import rank_both_ways

PEOPLE, FIT, SCORED = 240, np.arange(160), np.arange(160, 240)
FAMILIES = [f"family {row // 2}" for row in range(PEOPLE)]


def two_sides(seed, shared, edges=120, variants=200):
    """Six factors a side, of which the first `shared` are the same; dosages are counts of two alleles."""
    rng = np.random.default_rng(seed)
    brain, genome = rng.standard_normal((2, PEOPLE, 6))
    genome[:, :shared] = brain[:, :shared]
    connectivity = brain @ rng.standard_normal((6, edges)) + rng.standard_normal((PEOPLE, edges))
    share = 1 / (1 + np.exp(-genome @ rng.standard_normal((6, variants))))
    return connectivity, rng.binomial(2, share).astype(np.float32)


def test_cca_rival_finds_planted_shared_components():
    rival = cca_rival(*two_sides(0, shared=4), FIT, SCORED, FAMILIES)
    ranks = rank_both_ways(*rival["fmri_to_dna"])
    assert np.median(ranks.fmri_to_dna) < 10 and np.median(ranks.dna_to_fmri) < 10
    assert (ranks.fmri_to_dna <= 5).mean() > 0.3


def test_cca_rival_scores_chance_when_nothing_is_shared():
    recall = []
    for seed in range(20):
        ranks = rank_both_ways(*cca_rival(*two_sides(seed, shared=0), FIT, SCORED, FAMILIES, seed=seed)["fmri_to_dna"])
        recall += [(ranks.fmri_to_dna <= 8).mean(), (ranks.dna_to_fmri <= 8).mean()]
    assert abs(np.mean(recall) - 0.1) < 0.02


def test_cca_rival_gives_unit_vectors_of_the_scored_people_in_their_order():
    sides = two_sides(1, shared=3)
    query, candidate = cca_rival(*sides, FIT, SCORED, FAMILIES, components=4)["fmri_to_dna"]
    assert query.shape == candidate.shape and len(query) == 80 and query.shape[1] <= 4
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, rtol=1e-5)
    order = np.random.default_rng(0).permutation(80)
    shuffled, asked = cca_rival(*sides, FIT, SCORED[order], FAMILIES, components=4)["dna_to_fmri"]
    np.testing.assert_allclose(shuffled @ asked.T, (candidate @ query.T)[np.ix_(order, order)], atol=1e-4)


def test_cca_rival_leaves_out_constant_columns():
    connectivity, dosage = two_sides(2, shared=4)
    padded = np.concatenate([dosage, np.full((PEOPLE, 3), 2.0)], axis=1)
    plain, with_constants = (cca_rival(connectivity, each, FIT, SCORED, FAMILIES)["fmri_to_dna"] for each in (dosage, padded))
    np.testing.assert_allclose(plain[0] @ plain[1].T, with_constants[0] @ with_constants[1].T, atol=1e-4)


def test_cca_rival_refuses_what_it_cannot_learn_from():
    connectivity, dosage = two_sides(4, shared=1)
    with pytest.raises(ValueError, match=r"of the same people, got \(240, 120\), \(239, 200\) and 240"):
        cca_rival(connectivity, dosage[1:], FIT, SCORED, FAMILIES)
    with pytest.raises(ValueError, match="fitted to them or their relatives, got 2 such people, first in row 160"):
        cca_rival(connectivity, dosage, FIT, SCORED, FAMILIES[:160] + ["family 3", "family 3"] + FAMILIES[162:])
    with pytest.raises(ValueError, match="got 10 people of 5 families and 10 components"):
        cca_rival(connectivity, dosage, FIT[:10], SCORED, FAMILIES)
    with pytest.raises(ValueError, match="expected dosages that differ between people, got 200 constant columns"):
        cca_rival(connectivity, np.ones_like(dosage), FIT, SCORED, FAMILIES)
    dosage[3, 5] = np.nan
    with pytest.raises(ValueError, match="got others in dosages, first in row 3"):
        cca_rival(connectivity, dosage, FIT, SCORED, FAMILIES)


def test_rows_to_learn_from_are_those_of_the_training_people_and_enough_of_them():
    ids = [f"{row:03}" for row in range(40)]
    rows = rows_to_learn_from(ids, [*ids[39:14:-1], "elsewhere"], "best.safetensors")
    np.testing.assert_array_equal(rows, range(15, 40))
    for learned_from, found in ((ids[:19], 19), (None, 0)):
        with pytest.raises(ValueError, match=rf"20 of the checkpoint's training .* got {found}\.\n  file: best\.safetensors"):
            rows_to_learn_from(ids, learned_from, "best.safetensors")

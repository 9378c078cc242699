"""Room under test: brainmt_align/evaluation/tower_comparison.py. In: two towers' embeddings. Out: one JSON-ready comparison."""

import json

import numpy as np
import pytest

from brainmt_align.evaluation.canonical import canonical_correlations
from brainmt_align.evaluation.similarity import linear_cka
from brainmt_align.evaluation.tower_comparison import compare_towers


def towers(seed, shared):
    """40 people of 20 families; two sides of six dimensions with some that are the same but for noise."""
    rng = np.random.default_rng(seed)
    fmri, dna = rng.standard_normal((2, 40, 6))
    dna[:, :shared] = fmri[:, :shared] + 0.3 * rng.standard_normal((40, shared))
    return fmri, dna, [row // 2 for row in range(40)]


def test_compare_towers_tells_what_both_tests_tell_and_json_can_hold():
    fmri, dna, families = towers(0, 2)
    age_NK = np.random.default_rng(1).standard_normal((40, 1))
    told = compare_towers(fmri, dna, age_NK, families, components=3, permutations=99, seed=5)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    drawn = {"nuisance_NZ": age_NK, "groups_N": families, "permutations": 99, "seed": 5}
    canonical, similarity = canonical_correlations(fmri, dna, components=3, **drawn), linear_cka(fmri, dna, **drawn)
    assert told["canonical"]["correlations"] == canonical.correlations_K.tolist()
    assert told["canonical"]["p_fwer"] == canonical.p_fwer_K.tolist() and told["canonical"]["components"] == [3, 3]
    assert (told["cka"]["value"], told["cka"]["p_value"]) == (similarity.cka, similarity.p_value)
    assert told["cka"]["rows"] == told["canonical"]["rows"] == similarity.rows and told["cka"]["exact"] is similarity.exact


def test_compare_towers_finds_what_is_shared():
    fmri, dna, _ = towers(0, 3)
    told = compare_towers(fmri, dna, permutations=199)
    assert told["canonical"]["p_fwer"][0] < 0.05 and told["cka"]["p_value"] < 0.05


def test_compare_towers_refuses_what_its_tests_refuse():
    fmri, dna, families = towers(0, 2)
    with pytest.raises(ValueError, match="expected 1 component or more, got 0"):
        compare_towers(fmri, dna, None, families, components=0)
    with pytest.raises(ValueError, match="features that vary beyond the nuisance were expected"):
        compare_towers(np.ones_like(fmri), dna, None, families, permutations=9)

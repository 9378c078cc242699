"""Calibration of `evaluate_alignment` on cohorts of which is known what both sides share; see benchmarks/calibration.py."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.calibration import FLAGGED, STRENGTHS, examine, significant
from brainmt_align.evaluation.verdict import give_verdict

NULLS, CONFOUNDED, PLANTED, OTHERS = 200, 40, 8, 6


@pytest.fixture(scope="module")
def nulls():
    return [examine("null", seed) for seed in range(NULLS)]


@pytest.mark.slow
@pytest.mark.parametrize("test", ["p_overall", "p_within", "p_families"])
def test_evaluate_alignment_errs_as_often_as_it_says_when_nothing_is_coupled(nulls, test):
    """Of 200 null cohorts, 4 to 17 have p of 0.05 or less: the central 95 % of the binomial distribution around 10."""
    low, high = binom.ppf([0.025, 0.975], NULLS, 0.05)
    count, share_low, share_high = significant([getattr(each, test) for each in nulls])
    assert (low, high) == (4, 16) or (low, high) == (4, 17)
    assert low <= count <= high and share_low <= 0.05 <= share_high


@pytest.mark.slow
def test_evaluate_alignment_finds_nothing_in_most_null_cohorts(nulls):
    kinds = Counter(each.kind for each in nulls)
    assert kinds["nothing"] >= 0.85 * NULLS


@pytest.mark.slow
def test_evaluate_alignment_flags_every_cohort_in_which_only_ancestry_is_shared():
    examined = [examine("ancestry", seed) for seed in range(CONFOUNDED)]
    assert all(each.p_overall <= 0.05 for each in examined)
    assert all(each.kind in FLAGGED for each in examined), Counter(each.words for each in examined)
    assert all("ancestry" in each.explained_by for each in examined), Counter(each.words for each in examined)


@pytest.mark.slow
def test_evaluate_alignment_does_not_let_what_siblings_share_survive():
    examined = [examine("family", seed) for seed in range(CONFOUNDED)]
    assert all(each.p_overall <= 0.05 for each in examined)
    assert Counter(each.kind for each in examined)["survives"] <= 0.1 * CONFOUNDED, Counter(each.words for each in examined)


@pytest.mark.slow
def test_evaluate_alignment_lets_planted_coupling_survive_and_comes_near_the_oracle():
    examined = {strength: [examine("planted", seed, strength) for seed in range(PLANTED)] for strength in STRENGTHS}
    shares = [np.mean([each.recall for each in some]) / np.mean([each.oracle for each in some]) for some in examined.values()]
    weak, strongest = examined[STRENGTHS[0]], examined[STRENGTHS[-1]]
    assert not any("family resemblance" in each.explained_by and each.kind == "explained" for each in weak)
    assert all(each.p_within <= 0.05 for each in strongest)
    assert not any(each.kind in ("nothing", "explained") for each in strongest), Counter(each.words for each in strongest)
    assert shares[-1] > 0.9 and min(shares) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cause"), [("site", "site"), ("age", "age")])
def test_evaluate_alignment_flags_a_cause_that_was_merged_and_one_that_bends_within_its_bands(kind, cause):
    examined = [examine(kind, seed) for seed in range(OTHERS)]
    assert all(each.p_overall <= 0.05 and each.kind in FLAGGED for each in examined), Counter(each.words for each in examined)
    assert all(cause in each.explained_by for each in examined), Counter(each.words for each in examined)


@pytest.mark.slow
def test_evaluate_alignment_lets_coupling_survive_that_siblings_share_half_of():
    weak, strong = ([examine("siblings", seed, strength) for seed in range(OTHERS)] for strength in (0.03, 0.3))
    assert all(each.kind == "survives" and each.p_families <= 0.05 for each in strong), Counter(each.words for each in strong)
    assert not any(each.kind == "explained" and "family resemblance" in each.explained_by for each in weak)


@pytest.mark.slow
def test_evaluate_alignment_says_that_identical_twins_test_nothing_within_families():
    examined = [examine("twins", seed, 0.3) for seed in range(OTHERS)]
    assert all(each.kind == "survives" and each.words.endswith("identical twins") for each in examined)
    assert all(each.p_families is None for each in examined)


@pytest.mark.parametrize(
    ("expected_nats", "share", "kind"),
    [(1.0, 0.9, "explained"), (0.2, 0.9, "partly explained"), (1.0, 0.2, "partly explained")],
)
def test_give_verdict_blames_family_resemblance_only_where_the_test_within_families_could_tell(expected_nats, share, kind):
    """With an SD of chance of 0.1 nats, half of what the strata leave must be 0.33 nats to be missed in no more than 5 %."""
    test = {"p_value": 0.001, "min_p_value": 0.001}
    families = {"p_value": 0.3, "min_p_value": 0.001, "expected_nats": expected_nats, "null_sd": 0.1}
    tests = {"overall": test, "within strata": test | {"share": share}, "within families": families}
    verdict = give_verdict(tests, ["ancestry"])
    assert verdict["kind"] == kind and verdict["explained_by"][-1] == "family resemblance"
    assert ("not ruled out" in verdict["words"]) == (kind == "partly explained")


def test_examine_gives_what_the_evaluation_says_of_a_cohort():
    examined = examine("planted", 0, 0.3)
    assert examined.kind == "survives" and examined.p_overall == examined.p_within == 0.002
    assert 0.9 < examined.recall <= examined.oracle <= 1

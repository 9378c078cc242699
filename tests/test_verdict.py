"""Tests of the verdict: every kind from tests made up for it, and nothing survives that was not tested."""

import pytest

from brainmt_align.evaluation.verdict import COVARIATES_ONLY, give_verdict


def result(p_value, share=1.0, min_p_value=0.001):
    return {"p_value": p_value, "min_p_value": min_p_value, "share": share}


GOOD, BAD, FEW, NONE = result(0.001), result(0.4, 0.02), result(0.5, 1.0, 0.5), result(None, None, 1.0)


FAMILY = {"expected_nats": 2.0, "null_sd": 0.1}  # a test within families that could tell


def rival(low):
    lead = {"lead": {"mean_log_rank": [0.5, low, 0.9]}}
    return {COVARIATES_ONLY: {"fmri_to_dna": lead, "dna_to_fmri": lead}}


def verdict(strata=("ancestry", "site"), rivals=None, families=None, **tests):
    named = {"overall": GOOD, "within strata": GOOD, "within ancestry": GOOD, "within site": GOOD}
    named |= {name.replace("_", " "): test for name, test in tests.items()}
    if not strata:
        named = {"overall": named["overall"]}
    return give_verdict(named | ({"within families": families} if families else {}), strata, rivals)


def test_give_verdict_says_nothing_when_chance_explains_it():
    assert verdict(overall=BAD) == {"kind": "nothing", "explained_by": [], "words": "not above chance"}


def test_give_verdict_names_the_column_that_explains_alone():
    found = verdict(within_strata=BAD, within_ancestry=BAD)
    assert found["kind"] == "explained" and found["explained_by"] == ["ancestry"]
    assert found["words"] == "above chance overall, not above chance within strata: explained by ancestry"


def test_give_verdict_names_all_columns_when_none_explains_alone():
    found = verdict(within_strata=BAD)
    assert found["explained_by"] == ["ancestry", "site"]
    assert found["words"].endswith("explained by ancestry and site together")


def test_give_verdict_says_survives_only_with_the_larger_part_left():
    assert verdict()["kind"] == "survives" and "within strata of ancestry and site" in verdict()["words"]
    small = verdict(within_strata=result(0.01, 0.2), within_ancestry=result(0.01, 0.2))
    assert small["kind"] == "partly explained" and small["explained_by"] == ["ancestry"]
    assert "20% of the effect is left" in small["words"]
    assert verdict(within_strata=result(0.01, None))["kind"] == "partly explained"


@pytest.mark.parametrize("low, kind", [(0.1, "survives"), (0.0, "partly explained"), (-0.1, "partly explained")])
def test_give_verdict_asks_for_a_sure_lead_over_covariates(low, kind):
    found = verdict(rivals=rival(low))
    assert found["kind"] == kind and ("no sure lead over covariates only" in found["words"]) == (kind != "survives")


@pytest.mark.parametrize("untested", [FEW, NONE])
def test_give_verdict_never_lets_survive_what_could_not_be_tested(untested):
    assert verdict(overall=untested)["kind"] == "not examined" and "cannot be tested" in verdict(overall=untested)["words"]
    within = verdict(within_strata=untested)
    assert within["kind"] == "not examined" and "cannot be tested within strata of ancestry and site" in within["words"]
    families = verdict(families=untested)
    assert families["kind"] == "survives" and "within families it cannot be tested" in families["words"]


def test_give_verdict_says_what_was_not_examined_without_strata():
    found = verdict(strata=())
    assert found["kind"] == "not examined" and "ancestry, sex, age, site and motion" in found["words"]
    assert "no sure lead" in verdict(strata=(), rivals=rival(-1))["words"]


@pytest.mark.parametrize("strata", [(), ("ancestry", "site")])
def test_give_verdict_blames_families_when_members_are_mistaken_for_each_other(strata):
    found = verdict(strata, families=BAD | FAMILY)
    assert found["kind"] == "explained" and found["explained_by"] == ["family resemblance"]
    guessed = "not above chance within families, relatives taken for siblings as no kinship is known"
    assert found["words"].endswith(f", and {guessed}: explained by family resemblance")
    assert "survives" not in found["words"]


def test_give_verdict_names_no_second_cause_when_strata_explain_it_already():
    found = verdict(within_strata=BAD, within_ancestry=BAD, families=BAD | FAMILY)
    assert found["explained_by"] == ["ancestry"] and found["words"].endswith("; not above chance within families either")


def test_give_verdict_cannot_test_within_families_when_relatives_are_alike_to_the_last_bit():
    found = verdict(families=BAD | {"expected_nats": 2.0, "null_sd": 0.0})
    assert found["kind"] == "survives" and found["words"].endswith("cannot be tested: relatives cannot be told apart")


@pytest.mark.parametrize("p_value", [0.001, 0.4])
def test_give_verdict_cannot_test_within_families_of_identical_twins(p_value):
    found = verdict(families=result(p_value) | {"expected_nats": 2.0, "null_sd": 0.1, "shared": 1.0})
    assert found["kind"] == "survives" and found["words"].endswith("cannot be tested: all relatives are identical twins")


@pytest.mark.parametrize(("shared", "kind"), [(0.0, "explained"), (0.5, "explained"), (0.7, "partly explained")])
def test_give_verdict_blames_families_only_where_relatives_differ_enough(shared, kind):
    close = BAD | {"expected_nats": 2.0, "null_sd": 0.25, "shared": shared}
    found = verdict(families=close)
    assert found["kind"] == kind and found["explained_by"] == ["family resemblance"]


@pytest.mark.parametrize(("low", "kind"), [(0.1, "survives"), (-0.1, "partly explained")])
def test_give_verdict_wants_a_lead_over_covariates_on_matched_pools(low, kind):
    figures = {"chance_mrr": 0.1, "intervals": {"mrr": [0.2, 0.5]}}
    matched = {"fmri_to_dna": figures, "dna_to_fmri": figures, "rivals": rival(low)}
    found = give_verdict({"overall": GOOD, "within strata": GOOD, "within age": GOOD}, ["age"], matched=matched)
    assert found["kind"] == kind and ("no sure lead over covariates only on matched pools" in found["words"]) == (low < 0)


def test_give_verdict_blames_a_column_that_merged_strata_do_not_hold():
    found = verdict(within_site=BAD)
    assert found["kind"] == "explained" and found["explained_by"] == ["site"]
    assert "within merged strata, not above chance within site alone" in found["words"]


def test_give_verdict_blames_a_column_within_which_little_is_left():
    found = verdict(within_site=result(0.001, 0.2))
    assert found["kind"] == "partly explained" and found["explained_by"] == ["site"]


def test_give_verdict_does_not_blame_strata_that_leave_the_effect_and_too_few_people():
    found = verdict(within_strata=result(0.1, 0.9))
    assert found["kind"] == "partly explained" and "too few people to tell" in found["words"]


@pytest.mark.parametrize(("low", "kind"), [(0.2, "survives"), (0.05, "partly explained")])
def test_give_verdict_wants_a_gain_on_matched_pools(low, kind):
    figures = {"chance_mrr": 0.1, "intervals": {"mrr": [low, 0.5]}}
    tests = {"overall": GOOD, "within strata": GOOD, "within age": GOOD}
    found = give_verdict(tests, ["age"], matched={"fmri_to_dna": figures, "dna_to_fmri": figures})
    assert found["kind"] == kind and ("no sure gain on matched pools" in found["words"]) == (kind != "survives")


def test_give_verdict_says_above_chance_within_families():
    assert verdict(families=GOOD)["words"].endswith("; above chance within families")


def test_give_verdict_asks_for_more_permutations_where_too_few_were_drawn():
    few = {"p_value": 0.09, "min_p_value": 1 / 11, "exact": False, "permutations": 10}
    told = "by 10 re-pairings drawn (least p 0.091): raise evaluation.permutations"
    for found in (verdict(overall=few), verdict(within_strata=few), verdict(families=few)):
        assert found["words"].endswith(told) and "admissible" not in found["words"]
    listed = verdict(overall=few | {"exact": True})["words"]
    assert listed == "retrieval cannot be tested: too few re-pairings are admissible (least p 0.091)"


def test_give_verdict_takes_the_share_of_twins_for_one_from_the_kinship_that_tells_them():
    found = verdict(families=BAD | FAMILY | {"shared": 0.708})
    assert found["kind"] == "survives" and found["words"].endswith("all relatives are identical twins")


def test_give_verdict_says_that_relatives_were_taken_for_siblings_where_no_kinship_is_known():
    assert "taken for siblings as no kinship is known" in verdict(families=BAD | FAMILY | {"shared": None})["words"]
    assert "taken for siblings" not in verdict(families=BAD | FAMILY | {"shared": 0.5})["words"]

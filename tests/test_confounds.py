"""Tests of the confounds room: cohorts whose truth is known get their verdicts, and other people's tables are refused."""

import json

import numpy as np
import pandas as pd
import pytest

from brainmt_align import memory
from brainmt_align.evaluation.confounds import EvaluationSettings, evaluate_alignment, require_examinable
from brainmt_align.evaluation.ranks import rank_pairs
from brainmt_align.evaluation.verdict import COVARIATES_ONLY

N, E = 120, 24
FAMILIES = (np.arange(N) // 2).tolist()


def cohort(kind, seed):
    """Embeddings and people: nothing shared, an offset a population, something a family, or something a person."""
    rng = np.random.default_rng(seed)
    population = (rng.random(N // 2) < 0.5).astype(int)[FAMILIES]
    shared = {
        "null": lambda: 0,
        "ancestry": lambda: rng.standard_normal((2, E))[population],
        "family": lambda: 0.8 * rng.standard_normal((N // 2, E))[FAMILIES],
        "planted": lambda: 0.8 * rng.standard_normal((N, E)),
    }[kind]()
    z = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in rng.standard_normal((2, N, E)) + shared]
    columns = {"population": np.array(["A", "B"])[population], "sex": rng.choice(["F", "M"], N), "age": rng.uniform(40, 80, N)}
    return *z, pd.DataFrame({"subject_id": [f"s{person}" for person in range(N)], **columns})


def settings(**changed):
    quick = {"permutations": 199, "resamples": 100, "groups_N": FAMILIES, "strata": ("population", "sex")}
    return EvaluationSettings(**(quick | changed))


def kinds(kind, seeds=6):
    return [evaluate_alignment(*cohort(kind, seed), settings(seed=seed)).metrics["verdict"]["kind"] for seed in range(seeds)]


def test_evaluate_alignment_gives_the_verdict_that_the_cohort_deserves():
    assert kinds("null").count("nothing") >= 4
    assert set(kinds("ancestry")) <= {"explained", "partly explained"}
    assert kinds("family").count("explained") >= 4
    assert set(kinds("planted")) == {"survives"}


def test_evaluate_alignment_names_ancestry_in_words():
    verdict = evaluate_alignment(*cohort("ancestry", 1), settings(groups_N=None)).metrics["verdict"]
    assert verdict["words"] == "above chance overall, not above chance within strata: explained by population"


def test_evaluate_alignment_has_the_names_of_the_contract_and_survives_json():
    z_fmri, z_dna, people = cohort("planted", 3)
    noise = np.random.default_rng(0).standard_normal((N, 5))
    rival = {"fmri_to_dna": (noise, z_dna[:, :5]), "dna_to_fmri": (noise, z_fmri[:, :5])}
    chosen = settings(strata=("population", "age"), bands={"age": 20}, covariates=("population", "age"), pool_size=10)
    metrics, nulls = evaluate_alignment(z_fmri, z_dna, people, chosen, z_fmri @ z_dna.T, {COVARIATES_ONLY: rival})
    assert json.loads(json.dumps(metrics)) == metrics
    assert list(metrics) == ["retrieval", "strata", "matched", "rivals", "tests", "verdict", "left_out"]
    names = ["overall", "within strata", "within population", "within age", "within families"]
    assert list(metrics["tests"]) == names and set(nulls["test"]) == set(names) and list(nulls) == ["test", "statistic"]
    for direction in ("fmri_to_dna", "dna_to_fmri"):
        assert metrics["retrieval"][direction]["oracle_recall@5"] == metrics["retrieval"][direction]["recall@5"]
        assert metrics["matched"][direction]["chance_recall@5"] == 0.5
        assert metrics["matched"][direction]["recall@5"] > 0.8 and metrics["strata"][direction]["p_value"] == 0.005
        value, low, high = metrics["rivals"][COVARIATES_ONLY][direction]["lead"]["mean_log_rank"]
        assert 0 < low <= value <= high
    assert sum(metrics["strata"]["people"].values()) + metrics["strata"]["left_out"] == N
    assert metrics["verdict"]["kind"] == "survives"


def test_evaluate_alignment_leaves_people_without_a_stratum_out_of_that_test():
    z_fmri, z_dna, people = cohort("planted", 4)
    people["population"] = ["rare"] * 4 + ["A"] * (N - 4)
    metrics = evaluate_alignment(z_fmri, z_dna, people, settings(strata=("population",))).metrics
    assert metrics["strata"]["left_out"] == 4 and metrics["strata"]["fmri_to_dna"]["n"] == N - 4
    assert metrics["tests"]["within population"] == metrics["tests"]["within strata"]


def test_evaluate_alignment_takes_codes_as_categories():
    z_fmri, z_dna, people = cohort("null", 5)
    people["site"] = np.arange(N) % 12
    strata = evaluate_alignment(z_fmri, z_dna, people, settings(strata=("site",), categories=("site",))).metrics["strata"]
    assert len(strata["people"]) == 12 and strata["notes"] == []


def test_evaluate_alignment_without_strata_or_families_examines_neither():
    metrics = evaluate_alignment(*cohort("planted", 6), settings(strata=(), groups_N=None)).metrics
    assert metrics["strata"] is metrics["matched"] is None and list(metrics["tests"]) == ["overall"]
    assert metrics["verdict"]["kind"] == "not examined"


def test_evaluate_alignment_is_the_same_for_the_same_seed():
    first, second = (evaluate_alignment(*cohort("null", 7), settings(covariates=("age",))) for _ in range(2))
    assert first.metrics == second.metrics and first.nulls.equals(second.nulls)


def test_evaluate_alignment_refuses_lengths_that_differ_all_at_once():
    z_fmri, z_dna, people = cohort("null", 8)
    rival = {"fmri_to_dna": (z_fmri[:3], z_dna), "dna_to_fmri": (z_dna, z_fmri)}
    with pytest.raises(
        ValueError, match=r"120 scans.*119 genomes; 118 rows of the people's table; 2 families; 3 rows of the rival 'x'"
    ):
        evaluate_alignment(z_fmri, z_dna[1:], people[2:], settings(groups_N=[1, 2]), rivals={"x": rival})
    with pytest.raises(ValueError, match="the rival 'x' with directions fmri_to_dna"):
        evaluate_alignment(z_fmri, z_dna, people, settings(), rivals={"x": {"fmri_to_dna": (z_fmri, z_dna)}})


def test_evaluate_alignment_refuses_embeddings_that_are_not_finite():
    z_fmri, z_dna, people = cohort("null", 9)
    z_dna[3, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 120 rows of the second argument, first in row 3"):
        evaluate_alignment(z_fmri, z_dna, people, settings())


@pytest.mark.parametrize("chosen", [{"strata": ("age",)}, {"covariates": ("age",)}])
def test_evaluate_alignment_lists_people_without_a_value(chosen):
    z_fmri, z_dna, people = cohort("null", 10)
    people.loc[[2, 5], "age"] = np.nan
    with pytest.raises(ValueError, match=r"age: none for 2 of 120.*: s2, s5"):
        evaluate_alignment(z_fmri, z_dna, people, settings(**chosen))


def test_evaluate_alignment_refuses_strata_of_one():
    z_fmri, z_dna, people = cohort("null", 11)
    with pytest.raises(ValueError, match="one stratum of 10 people or more was expected"):
        evaluate_alignment(z_fmri, z_dna, people, settings(strata=("subject_id",)))


def test_evaluate_alignment_says_what_it_could_not_make():
    z_fmri, z_dna, people = cohort("planted", 12)
    people = people.assign(field="3T", code=np.arange(N) % 40)
    quick = {"strata": ("population", "code"), "categories": ("code",)}
    constant = evaluate_alignment(z_fmri, z_dna, people, settings(**quick, covariates=("field",))).metrics
    assert constant["matched"] is None and constant["rivals"] == {} and "within code" not in constant["tests"]
    assert constant["left_out"] == [
        "No test within code alone: no 10 people are alike in it.",
        "No model of covariates only and no matched pools: all people are alike in field.",
    ]
    two = settings(groups_N=["a"] * 60 + ["b"] * 60, strata=(), covariates=("age",))
    assert evaluate_alignment(z_fmri, z_dna, people, two).metrics["left_out"] == [
        "No model of covariates only: it learns from 3 families or more, got 2."
    ]
    one = settings(groups_N=["a"] * N, strata=(), covariates=("age",))
    assert evaluate_alignment(z_fmri, z_dna, people, one).metrics["left_out"][-1] == (
        "No pools matched by age: the largest family leaves no stranger to be matched with."
    )
    assert evaluate_alignment(z_fmri, z_dna, people, settings(covariates=("age",))).metrics["left_out"] == []


def test_evaluate_alignment_takes_what_relatives_share_from_kinship():
    z_fmri, z_dna, people = cohort("planted", 13)
    families = [*FAMILIES[:60], *range(60, N)]  # 30 pairs: half of them identical twins, half siblings; 60 people alone
    shared_N = [1.0] * 30 + [0.5] * 30 + [0.0] * 60
    found = evaluate_alignment(z_fmri, z_dna, people, settings(groups_N=families, shared_N=shared_N)).metrics
    assert found["tests"]["within families"]["shared"] == 0.5  # of the siblings, who alone are told apart
    usual = evaluate_alignment(z_fmri, z_dna, people, settings(groups_N=families)).metrics
    assert usual["tests"]["within families"]["shared"] is None
    with pytest.raises(ValueError, match="3 shares of families; 2 shares of families that are not from 0 to 1"):
        evaluate_alignment(z_fmri, z_dna, people, settings(shared_N=[0.5, 1.5, np.nan]))


def test_evaluate_alignment_holds_matched_pools_against_a_model_that_sees_covariates_only():
    """Age alone is shared, so that nobody is to lead it, though both are above chance: 20 people in 120 are not of one age."""
    sure = above = 0
    for seed in range(6):
        z_fmri, z_dna, people = cohort("null", seed)
        offset_NE = np.outer((people["age"] - 60) ** 2 / 200, np.random.default_rng(seed).standard_normal(E))
        chosen = settings(strata=(), covariates=("age", "sex", "population"), seed=seed)
        matched = evaluate_alignment(z_fmri + 0.3 * offset_NE, z_dna + 0.3 * offset_NE, people, chosen).metrics["matched"]
        ways = [(matched[way], matched["rivals"][COVARIATES_ONLY][way]) for way in ("fmri_to_dna", "dna_to_fmri")]
        sure += all(theirs["lead"]["mean_log_rank"][1] > 0 for _, theirs in ways)
        above += all(ours["mrr"] > ours["chance_mrr"] < theirs["mrr"] for ours, theirs in ways)
    assert sure == 0 and above >= 5


def twins_of(families, seed, error=1e-3):
    """A planted cohort in families of this size whose first two members have one genome but for errors of typing."""
    z_fmri, z_dna, people = cohort("planted", seed)
    rng, firsts = np.random.default_rng(seed), np.arange(0, N, families)
    z_dna[firsts + 1] = z_dna[firsts]
    z_fmri[firsts + 1] = 0.7 * z_fmri[firsts] + 0.7 * z_fmri[firsts + 1]
    return z_fmri, z_dna + error * rng.standard_normal(z_dna.shape), people


@pytest.mark.parametrize("share", [0.708, 0.98, 1.0])
def test_evaluate_alignment_tests_nothing_within_families_of_twins_that_differ_by_typing_errors(share):
    for seed in range(4):
        found = evaluate_alignment(*twins_of(2, seed), settings(seed=seed, shared_N=[share] * N)).metrics
        assert found["verdict"]["kind"] == "survives" and found["verdict"]["words"].endswith("all relatives are identical twins")
        told = found["tests"]["within families"]
        assert told["p_value"] is None and told["shared"] == 1.0 and json.loads(json.dumps(told)) == told


def test_evaluate_alignment_takes_twins_for_siblings_where_no_kinship_is_known_and_says_so():
    words = [evaluate_alignment(*twins_of(2, seed), settings(seed=seed)).metrics["verdict"]["words"] for seed in range(4)]
    assert any("relatives taken for siblings as no kinship is known: explained by family resemblance" in each for each in words)


def test_evaluate_alignment_tests_siblings_of_twins_by_one_of_the_twins():
    families, shared_N = (np.arange(N) // 3).tolist(), [0.5, 1.0, 0.5] * (N // 3)
    chosen = settings(groups_N=families, shared_N=shared_N, strata=())
    told = evaluate_alignment(*twins_of(3, 5), chosen).metrics["tests"]["within families"]
    assert told["p_value"] <= 0.05 and told["shared"] == 0.5
    z_fmri, z_dna, _ = twins_of(3, 5)
    ranked, kept = rank_pairs(z_fmri, z_dna), np.flatnonzero(np.arange(N) % 3 != 1)
    log_NN = (np.log(ranked.fmri_to_dna_NN) + np.log(ranked.dna_to_fmri_NN).T) / 2
    pairs = log_NN[np.ix_(kept, kept)].reshape(N // 3, 2, N // 3, 2)[np.arange(N // 3), :, np.arange(N // 3)]
    gains = (pairs[:, 0, 1] + pairs[:, 1, 0] - pairs[:, 0, 0] - pairs[:, 1, 1]) / 2  # of each family, when both change places
    assert told["expected_nats"] > 0 and told["effect_nats"] == pytest.approx(gains.sum() / len(kept), abs=0.1)


def test_evaluate_alignment_refuses_more_people_than_there_is_memory_for(monkeypatch):
    z_fmri, z_dna, people = cohort("null", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: 48 * N**2 - 1)
    refused = r"(?s)Evaluation of 120 people by all their pairs: about .*EmbeddingIndex\.metrics"
    with pytest.raises(ValueError, match=refused):
        evaluate_alignment(z_fmri, z_dna, people, settings())
    with pytest.raises(ValueError, match=refused):
        require_examinable(people, settings())
    monkeypatch.setattr(memory, "available_bytes", lambda: 48 * N**2)
    require_examinable(people, settings())

"""Tests of the simulated phenotypes: a large population without scans in, the shares and figures that were planted out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest
from scipy.special import ndtri
from sklearn.metrics import roc_auc_score

from brainmt_align.data import planted_phenotypes as planted_room
from brainmt_align.data import simulated_genomes as genomes_room
from brainmt_align.data import simulated_phenotypes as phenotypes_room
from brainmt_align.data.simulate import CohortParameters, write_cohort
from brainmt_align.data.simulated_bold import Person
from brainmt_align.data.simulated_parameters import PHENOTYPES
from brainmt_align.data.tables import read_table

ON = CohortParameters(seed=2, coupling=0.6, phenotypes=True, age=True, sex=True)
TINY = dataclasses.replace(ON, people=12, volume_shape=(10, 12, 8), frames=8, founder_haplotypes=200, family_size=3)
MANY = 15_000  # a share's standard error is then below 0.008


def population(parameters: CohortParameters, count: int = MANY) -> tuple:
    """Parameters, genomes and people of a population that mates at random: founders' haplotypes with replacement, no scans."""
    parameters.check()
    genomes = genomes_room.draw_genomes(dataclasses.replace(parameters, people=3))
    rng = np.random.default_rng(5)
    descent_P, half = np.arange(count) % parameters.populations, parameters.founder_haplotypes // parameters.populations
    founders_PHR = rng.integers(half, size=(count, 2, parameters.regions)) + half * descent_P[:, None, None]
    values_PK = np.stack([genomes_room.genetic_values(t, genomes.regions, founders_PHR) for t in genomes.traits], axis=1)
    coupling = parameters.coupling
    latent_PK = np.sqrt(coupling) * values_PK + np.sqrt(1 - coupling) * rng.standard_normal(values_PK.shape)
    people = [
        Person(i, latent_PK[i], int(descent_P[i]), 0, round(float(rng.uniform(45, 80)), 1), str(rng.choice(["F", "M"])))
        for i in range(count)
    ]
    return dataclasses.replace(parameters, people=count), genomes._replace(founders_PHR=founders_PHR, values_PK=values_PK), people


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[pd.DataFrame, dict]]:
    """Phenotype -> components of many people, and what truth.json says."""
    parameters, genomes, people = population(ON)
    return {
        each.name: (
            phenotypes_room.draw_phenotype(parameters, each, genomes, people),
            phenotypes_room.describe(parameters, each),
        )
        for each in phenotypes_room.plan_phenotypes(parameters, genomes)
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    parameters = dataclasses.replace(TINY, missing_share=0.3)
    return write_cohort(tmp_path_factory.mktemp("simulated") / "phenotypes", parameters, progress=False)


def truth_of(folder: Path) -> dict:
    return json.loads((folder / "truth.json").read_text())


# The liability


@pytest.mark.parametrize("name", PHENOTYPES)
def test_draw_phenotype_components_have_the_shares_asked_for(drawn, name):
    table, entry = drawn[name]
    shares = entry["shares"]
    assert shares == {"brain": 0.5, "genetic": 0.15, "confound": 0.15, "chance": pytest.approx(0.2)}
    for component, share in {"brain": "brain", "direct": "genetic", "confound": "confound", "chance": "chance"}.items():
        assert table[component].mean() == pytest.approx(0, abs=0.03)
        assert table[component].std() == pytest.approx(1, abs=0.025)
        assert np.corrcoef(table[component], table["liability"])[0, 1] ** 2 == pytest.approx(shares[share], abs=0.025)
    apart = np.corrcoef(table[["brain", "direct", "confound", "chance"]].T) - np.eye(4)
    assert np.abs(apart).max() < 0.035
    assert table["liability"].std() == pytest.approx(1, abs=0.025)


@pytest.mark.parametrize("name", PHENOTYPES)
def test_draw_phenotype_has_the_heritability_that_is_written_down(drawn, name):
    table, entry = drawn[name]
    assert entry["brain_heritability"] == pytest.approx(0.6, abs=0.13)  # linkage between traits moves it off the coupling
    assert table["brain_genetic"].var() == pytest.approx(entry["brain_heritability"], abs=0.02)
    assert entry["heritability"] == pytest.approx(0.5 * entry["brain_heritability"] + 0.15)
    genetic = np.sqrt(0.5) * table["brain_genetic"] + np.sqrt(0.15) * table["direct"]
    assert np.corrcoef(genetic, table["liability"])[0, 1] ** 2 == pytest.approx(entry["heritability"], abs=0.025)


def test_draw_phenotype_gives_each_phenotype_its_own_direct_value_and_chance(drawn):
    for column in ("direct", "chance"):
        between = np.corrcoef([table[column] for table, _ in drawn.values()]) - np.eye(3)
        assert np.abs(between).max() < 0.035


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("change", [{}, {"populations": 2}, {"traits": 1}, {"traits": 12, "causal_variants": 2}], ids=str)
def test_plan_phenotypes_direct_values_are_of_variance_one_and_told_by_no_trait(seed, change):
    parameters = dataclasses.replace(ON, seed=seed, **change)
    genomes = genomes_room.draw_genomes(dataclasses.replace(parameters, people=4))
    directs = [each.direct for each in phenotypes_room.plan_phenotypes(parameters, genomes)]
    # The naive oracle: covariances of haplotypes' values, region by region, and of the populations' means.
    halves = np.array_split(np.arange(parameters.founder_haplotypes), parameters.populations)
    within, means = 0, 0
    for region in range(parameters.regions):
        values_KF = np.array(
            [
                sum(
                    v.effect * genomes.regions[region].alleles_SF[v.site].astype(float)
                    for v in trait.variants
                    if v.region == region
                )
                + np.zeros(parameters.founder_haplotypes)
                for trait in (*directs, *genomes.traits)
            ]
        )
        within = within + sum(2 * np.cov(values_KF[:, half], bias=True) for half in halves) / len(halves)
        means = means + np.array([2 * values_KF[:, half].mean(axis=1) for half in halves])
    covariance_KK = within + np.cov(means.T, bias=True)
    np.testing.assert_allclose(covariance_KK[:3, :3], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(covariance_KK[:3, 3:], 0, atol=1e-6)
    np.testing.assert_allclose(means.mean(axis=0)[:3], [direct.mean for direct in directs], atol=1e-9)


def test_plan_phenotypes_refuses_direct_values_that_the_traits_tell(monkeypatch):
    monkeypatch.setattr(phenotypes_room, "MOST_SHOWN", -1e-9)
    parameters, genomes, _ = population(ON, count=2)
    message = r"phenotype cognition: expected variants of which(.|\n)*where: 6 regions, 6 genetic values(.|\n)*fix: raise regions"
    with pytest.raises(RuntimeError, match=message):
        phenotypes_room.plan_phenotypes(parameters, genomes)


@pytest.mark.parametrize(
    ("count", "cognition", "severity", "diagnosis"),
    [(1, (0,), (0,), (0,)), (2, (0, 1), (0, 1), (0, 1)), (3, (0, 1), (0, 1), (1, 2)), (6, (0, 1), (2, 3), (4, 5))],
)
def test_brain_traits_are_two_each_and_apart_where_there_are_enough(count, cognition, severity, diagnosis):
    named = {"cognition": cognition, "severity": severity, "diagnosis": diagnosis}
    assert {name: phenotypes_room.brain_traits(name, count) for name in PHENOTYPES} == named


# Values


def test_draw_phenotype_confound_is_the_standardised_age_and_sex():
    for switches, columns in [({"age": True, "sex": False}, 1), ({"age": False, "sex": True}, 1), ({}, 2)]:
        parameters, genomes, people = population(dataclasses.replace(ON, **switches), count=2000)
        phenotype = phenotypes_room.plan_phenotypes(parameters, genomes)[0]
        confound = phenotypes_room.draw_phenotype(parameters, phenotype, genomes, people)["confound"]
        age, male = np.array([person.age for person in people]), np.array([person.sex == "M" for person in people])
        design = np.stack([np.ones(2000), *[age] * parameters.age, *[male.astype(float)] * parameters.sex], axis=1)
        coefficients, residual, *_ = np.linalg.lstsq(design, confound, rcond=None)
        assert residual[0] == pytest.approx(0, abs=1e-9) and (coefficients[1:] > 0).all()
        assert len(coefficients) == columns + 1 and confound.std() == pytest.approx(1, abs=0.05)


def test_draw_phenotype_cognition_is_points_of_mean_100_and_sd_15(drawn):
    table, entry = drawn["cognition"]
    assert (entry["unit"], entry["mean"], entry["points_per_sd"]) == ("points", 100, 15)
    np.testing.assert_allclose(table["value"], 100 + 15 * table["liability"], atol=0.0501)
    np.testing.assert_array_equal(table["value"], table["value"].round(1))


@pytest.mark.parametrize("prevalence", [0.05, 0.3, 0.6])
def test_draw_phenotype_classes_follow_thresholds_and_prevalence(prevalence):
    parameters, genomes, people = population(dataclasses.replace(ON, prevalence=prevalence), count=6000)
    _, diagnosis, severity = phenotypes_room.plan_phenotypes(parameters, genomes)
    table = phenotypes_room.draw_phenotype(parameters, diagnosis, genomes, people)
    case, (threshold,) = table["value"] == "case", phenotypes_room.thresholds(parameters, "diagnosis")
    assert threshold == pytest.approx(ndtri(1 - prevalence)) and case.mean() == pytest.approx(prevalence, abs=0.025)
    np.testing.assert_array_equal(case, table["liability"] > threshold)
    assert set(table["value"]) == {"control", "case"}
    degrees = phenotypes_room.draw_phenotype(parameters, severity, genomes, people)
    assert (degrees["value"] != "none").mean() == pytest.approx(prevalence, abs=0.025)
    assert (degrees["value"] == "severe").mean() == pytest.approx(prevalence / 3, abs=0.02)
    means = degrees.groupby("value")["liability"].mean()
    assert means["none"] < means["mild"] < means["severe"]


def test_draw_phenotype_blanks_the_share_asked_for_and_keeps_the_values(drawn):
    parameters, genomes, people = population(dataclasses.replace(ON, missing_share=0.2))
    phenotypes = phenotypes_room.plan_phenotypes(parameters, genomes)[:2]
    first, second = (phenotypes_room.draw_phenotype(parameters, each, genomes, people) for each in phenotypes)
    assert first["blank"].mean() == pytest.approx(0.2, abs=0.015)
    assert (first["blank"] & second["blank"]).mean() == pytest.approx(0.04, abs=0.01)
    np.testing.assert_array_equal(first["value"], drawn["cognition"][0]["value"])
    assert not drawn["cognition"][0]["blank"].any()


def test_draw_phenotype_siblings_are_alike_by_half_of_the_genetic_share():
    parameters = dataclasses.replace(ON, people=1400, family_size=2, founder_haplotypes=2904)
    genomes = genomes_room.draw_genomes(parameters)
    phenotype = phenotypes_room.plan_phenotypes(parameters, genomes)[0]
    people = [Person(i, np.zeros(6), 0, 0, 60.0, "F") for i in range(1400)]
    direct = phenotypes_room.draw_phenotype(parameters, phenotype, genomes, people)["direct"].to_numpy().reshape(-1, 2)
    assert np.corrcoef(direct.T)[0, 1] == pytest.approx(0.5, abs=0.1)


# Planted figures


@pytest.mark.parametrize("name", ["diagnosis", "severity"])
def test_planted_figures_are_nearly_those_of_the_simulated_population(drawn, name):
    table, entry = drawn[name]
    number = table["value"].map({label: c for c, label in enumerate(entry["classes"])})
    scores = {"fmri": np.sqrt(0.5) * table["brain"]}
    scores["both"] = scores["fmri"] + np.sqrt(0.15) * table["direct"]
    scores["dna"] = np.sqrt(0.5) * table["brain_genetic"] + np.sqrt(0.15) * table["direct"]
    for inputs, score in scores.items():
        figures = entry["planted"][inputs]
        probabilities = planted_room.class_probabilities(score.to_numpy(), figures["liability_r2"], entry["thresholds"])
        asked = [1] if name == "diagnosis" else range(3)
        auroc = np.mean([roc_auc_score(number == c, probabilities[:, c]) for c in asked])
        assert figures["auroc"] == pytest.approx(auroc, abs=0.02), inputs  # age, sex and few variants are not Gaussian


def test_planted_figures_of_a_regression_are_those_of_the_simulated_population(drawn):
    table, entry = drawn["cognition"]
    prediction = 100 + 15 * np.sqrt(0.5) * table["brain"]
    figures = entry["planted"]["fmri"]
    assert figures["r2"] == 0.5
    assert 1 - ((table["value"] - prediction) ** 2).mean() / table["value"].var() == pytest.approx(0.5, abs=0.02)
    freed = table["value"] - 15 * np.sqrt(0.15) * table["confound"]
    assert 1 - ((freed - prediction) ** 2).mean() / freed.var() == pytest.approx(figures["r2_residualised"], abs=0.02)


# On disk


def test_write_cohort_tables_and_describes_phenotypes(cohort):
    table, truth = read_table(cohort / "participants.tsv"), truth_of(cohort)
    assert list(table.columns) == ["participant_id", "age", "sex", "family_id", *PHENOTYPES]
    described = json.loads((cohort / "participants.json").read_text())
    assert list(described) == list(table.columns)
    assert list(described["severity"]["Levels"]) == ["none", "mild", "severe"]
    blanks = 0
    for _, row in table.iterrows():
        known = truth["people"][row["participant_id"]]["phenotypes"]
        assert list(known) == list(PHENOTYPES)
        for name, components in known.items():
            blanks += components["blank"]
            assert pd.isna(row[name]) if components["blank"] else row[name] == components["value"]
    assert 2 <= blanks <= 20
    assert "n/a" in (cohort / "participants.tsv").read_text()
    cells = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert (cells[list(PHENOTYPES)] == "n/a").to_numpy().sum() == blanks


def test_write_cohort_direct_values_follow_from_the_vcf(cohort):
    truth = truth_of(cohort)
    with pysam.VariantFile(str(cohort / "genotypes.vcf.gz")) as file:
        alleles = {record.id: [sum(sample["GT"]) for sample in record.samples.values()] for record in file}
    for name in PHENOTYPES:
        direct = truth["phenotypes"][name]["direct"]
        sums = sum(variant["effect"] * np.array(alleles[variant["id"]]) for variant in direct["variants"])
        planted = [person["phenotypes"][name]["direct"] for person in truth["people"].values()]
        np.testing.assert_allclose(sums - direct["mean"], planted, atol=1e-9)


def test_write_cohort_liability_is_the_written_sum_and_brain_that_of_the_latent_traits(cohort):
    truth = truth_of(cohort)
    for name, entry in truth["phenotypes"].items():
        shares, chosen = entry["shares"], [int(trait.removeprefix("trait")) - 1 for trait in entry["brain_traits"]]
        for person in truth["people"].values():
            known = person["phenotypes"][name]
            assert known["brain"] == pytest.approx(sum(person["latent"][k] for k in chosen) / entry["brain_sd"])
            inherited = sum(person["genetic_values"][k] for k in chosen)
            assert known["brain_genetic"] == pytest.approx(np.sqrt(0.6) * inherited / entry["brain_sd"])
            age, male = (person["age"] - 62.5) / (35 / np.sqrt(12)), 1 if person["sex"] == "M" else -1
            assert known["confound"] == pytest.approx((age + male) / np.sqrt(2))
            parts = {"brain": "brain", "genetic": "direct", "confound": "confound", "chance": "chance"}
            total = sum(np.sqrt(shares[share]) * known[part] for share, part in parts.items())
            assert known["liability"] == pytest.approx(total)

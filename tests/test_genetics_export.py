"""Tests of the room `genetics_export`: the file as written, PLINK 2 on it, its description; each refusal."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest

from brainmt_align.evaluation.genetics_export import export_phenotypes
from tests.programs import require_programs


@pytest.fixture
def plink2():
    """Tests skip without the program, except in CI, where that is a failure."""
    require_programs("plink2")


def cohort(n=40, width=5, seed=0):
    generator = np.random.default_rng(seed)
    people = pd.DataFrame({"subject_id": [f"sub-{at}" for at in range(n)], "sample_id": [f"S_{at:04d}" for at in range(n)]})
    return generator.standard_normal((n, width)), people, generator.standard_normal((n, 3))


def read(export):
    return pd.read_csv(export.phenotypes, sep="\t", dtype={"FID": str, "IID": str}, keep_default_na=False, na_values=["NA"])


def test_export_phenotypes_writes_one_row_a_person_with_na_where_there_is_no_embedding(tmp_path):
    z, people, covariates = cohort()
    z[3] = np.nan
    export = export_phenotypes(z, people, covariates, tmp_path / "brain.pheno")
    lines = export.phenotypes.read_text().splitlines()
    assert lines[0].split("\t") == ["FID", "IID", "fmri1", "fmri2", "fmri3", "fmri4", "fmri5"] and len(lines) == 41
    assert lines[4] == "0\tS_0003" + "\tNA" * 5
    assert export.names == ("fmri1", "fmri2", "fmri3", "fmri4", "fmri5") and export.people == 39
    assert sorted(file.name for file in tmp_path.iterdir()) == ["brain.pheno", "brain.pheno.json"]


def test_export_phenotypes_are_residuals_of_the_people_with_an_embedding(tmp_path):
    z, people, covariates = cohort()
    z[7, 2] = np.nan
    table = read(export_phenotypes(z, people, covariates, tmp_path / "p"))
    kept = np.arange(40) != 7
    design = np.column_stack([np.ones(39), covariates[kept]])
    residuals = z[kept] - design @ np.linalg.lstsq(design, z[kept], rcond=None)[0]
    assert np.allclose(table.iloc[:, 2:].to_numpy(float)[kept], residuals / residuals.std(0), atol=1e-6)


def test_export_phenotypes_without_covariates_are_standardised_dimensions(tmp_path):
    z, people, _ = cohort()
    for none in (None, np.empty((40, 0))):
        table = read(export_phenotypes(z, people, none, tmp_path / "p"))
        assert np.allclose(table.iloc[:, 2:], (z - z.mean(0)) / z.std(0), atol=1e-6)


def test_export_phenotypes_leave_nothing_of_dependent_and_constant_covariates(tmp_path):
    z, people, covariates = cohort()
    many = np.column_stack([covariates, covariates.sum(1), np.ones(40), 1e8 * covariates[:, 0]])
    export = export_phenotypes(z, people, many, tmp_path / "p")
    assert np.allclose(read(export).iloc[:, 2:].to_numpy().T @ covariates, 0, atol=1e-5)
    assert "covariates of rank 3," in json.loads(export.description.read_text())["residualised_on"]


def test_export_phenotypes_are_leading_components_of_the_residuals_when_asked_for(tmp_path):
    z, people, covariates = cohort()
    z[:, 0] *= 10
    export = export_phenotypes(z, people, covariates, tmp_path / "p", prefix="dna", components=2)
    values = read(export).iloc[:, 2:].to_numpy()
    shares = json.loads(export.description.read_text())["variance_shares"]
    assert export.names == ("dna_pc1", "dna_pc2") and shares[0] > 0.9 and len(shares) == 2
    assert np.allclose(values.T @ values / 40, np.eye(2), atol=1e-6)
    assert np.corrcoef(values[:, 0], z[:, 0])[0, 1] > 0.9  # the largest loading is positive


def test_export_phenotypes_are_normal_by_rank_when_asked_for(tmp_path):
    z, people, _ = cohort()
    values = read(export_phenotypes(np.exp(3 * z), people, None, tmp_path / "p", inverse_normal=True)).iloc[:, 2:].to_numpy()
    assert np.allclose(values.mean(0), 0, atol=1e-6) and np.allclose(values.std(0), 1, atol=0.05)
    assert (values.argsort(0) == z.argsort(0)).all() and abs(values).max() < 2.3


def test_export_phenotypes_keep_leading_zeros_and_family_ids(tmp_path):
    z, people, _ = cohort(4)
    people["sample_id"] = ["0007", "0008", "1_2", "x-3"]
    table = read(export_phenotypes(z, people, None, tmp_path / "p", family_ids=people["sample_id"]))
    assert table["IID"].tolist() == table["FID"].tolist() == ["0007", "0008", "1_2", "x-3"]


def test_export_phenotypes_describe_themselves_without_ids(tmp_path):
    z, people, covariates = cohort()
    about = {"model": "abc123", "covariates": ["age", "sex", "site"]}
    export = export_phenotypes(z, people, covariates, tmp_path / "p", components=2, about=about)
    text = export.description.read_text()
    description = json.loads(text)
    assert description["about"] == about and description["people"] == 40 and description["people_without_embedding"] == 0
    assert description["phenotypes"] == ["fmri_pc1", "fmri_pc2"] and len(description["warnings"]) == 2
    assert "S_0" not in text and "sub-" not in text


def write_vcf(path, samples, alleles_NV2):
    """Phased genotypes of one contig, variants rs1, rs2, …"""
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=chr1,length=100000>", '##FORMAT=<ID=GT,Number=1,Type=String,Description="GT">']
    lines.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]))
    for at, genotypes in enumerate(alleles_NV2.transpose(1, 0, 2), start=1):
        calls = [f"{first}|{second}" for first, second in genotypes]
        lines.append("\t".join(["chr1", str(1000 * at), f"rs{at}", "A", "C", ".", "PASS", ".", "GT", *calls]))
    path.write_text("\n".join(lines) + "\n")


def associate(folder, *options):
    done = subprocess.run(
        ["plink2", *map(str, options), "--glm", "allow-no-covars", "--out", str(folder / "glm"), "--threads", "1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        name: pd.read_csv(folder / f"glm.{name}.glm.linear", sep="\t").set_index("ID") for name in ("fmri1", "fmri2", "fmri3")
    }


@pytest.mark.parametrize("family_ids", [None, "as in the genotype file"])
def test_export_phenotypes_let_plink2_find_a_planted_variant(plink2, tmp_path, family_ids):
    z, people, covariates = cohort(200, 3)
    alleles = np.random.default_rng(1).integers(0, 2, (200, 8, 2))
    dosages = alleles.sum(2)
    z[:, 1] += 0.8 * dosages[:, 4] + 3 * covariates[:, 0]  # unseen beneath the covariate without residualising
    z[5] = np.nan
    write_vcf(tmp_path / "people.vcf", people["sample_id"], alleles)
    given = None if family_ids is None else people["sample_id"]
    export = export_phenotypes(z, people, covariates, tmp_path / "brain.pheno", family_ids=given)
    naming = [] if family_ids is None else ["--double-id"]
    found = associate(tmp_path, "--vcf", tmp_path / "people.vcf", *naming, "--pheno", export.phenotypes)
    assert (found["fmri2"]["OBS_CT"] == 199).all()
    assert found["fmri2"]["P"].idxmin() == "rs5" and found["fmri2"].loc["rs5", "P"] < 1e-8
    assert all(found[name]["P"].min() > 0.05 / 24 for name in ("fmri1", "fmri3"))
    values = read(export)["fmri2"].to_numpy()
    kept = ~np.isnan(values)
    beta = np.polyfit(dosages[kept, 4], values[kept], 1)[0]
    sign = 1 if found["fmri2"].loc["rs5", "A1"] == "C" else -1
    assert found["fmri2"].loc["rs5", "BETA"] == pytest.approx(sign * beta, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "table", "header"), [(["--make-bed"], "fam", None), (["--make-pgen", "psam-cols=+fid"], "psam", 0)]
)
def test_export_phenotypes_name_people_as_files_that_plink2_makes_for_regenie(plink2, tmp_path, options, table, header):
    z, people, covariates = cohort()
    write_vcf(tmp_path / "people.vcf", people["sample_id"], np.random.default_rng(1).integers(0, 2, (40, 3, 2)))
    command = ["plink2", "--vcf", tmp_path / "people.vcf", *options, "--out", tmp_path / "made", "--threads", "1"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    made = pd.read_csv(tmp_path / f"made.{table}", sep="\t", header=header, dtype=str)
    written = read(export_phenotypes(z, people, covariates, tmp_path / "p"))
    assert (made.iloc[:, 0] + "_" + made.iloc[:, 1]).tolist() == (written["FID"] + "_" + written["IID"]).tolist()


def test_export_phenotypes_lists_every_fault_of_the_ids(tmp_path):
    z, people, _ = cohort(8)
    people["sample_id"] = ["a", "a", None, "b c", "#d", "0", " ", "e"]
    with pytest.raises(ValueError, match="an id of its own for everyone, without whitespace, was expected") as error:
        export_phenotypes(z, people, None, tmp_path / "p", family_ids=["f", "f", "g h", "", "i", "j", "k", "l"])
    message = str(error.value)
    for fault in ("IID blank in row: 2, 6", "IID with whitespace: 'b c'", "comment: #d", "IID doubled: a", "reserves: 0"):
        assert fault in message
    assert "FID with whitespace: 'g h'" in message and "FID blank in row: 3" in message
    assert list(tmp_path.iterdir()) == []


def test_export_phenotypes_refuses_people_without_sample_ids(tmp_path):
    z, people, _ = cohort()
    with pytest.raises(ValueError, match="a column sample_id and, where given, a family id for everyone were expected"):
        export_phenotypes(z, people.drop(columns="sample_id"), None, tmp_path / "p")
    with pytest.raises(ValueError, match="40 people and 2 family ids"):
        export_phenotypes(z, people, None, tmp_path / "p", family_ids=["a", "b"])


@pytest.mark.parametrize("wrong", ["z", "flat", "covariates"])
def test_export_phenotypes_refuses_other_numbers_of_rows(tmp_path, wrong):
    z, people, covariates = cohort()
    z, covariates = {"z": (z[:5], covariates), "flat": (z[:, 0], covariates), "covariates": (z, covariates[:5])}[wrong]
    with pytest.raises(ValueError, match="a row of embedding and covariates for each of 40 people was expected"):
        export_phenotypes(z, people, covariates, tmp_path / "p")


def test_export_phenotypes_refuses_infinite_embeddings(tmp_path):
    z, people, _ = cohort()
    z[4, 1] = np.inf
    with pytest.raises(ValueError, match="got infinite values for 1 people, first in row 4"):
        export_phenotypes(z, people, None, tmp_path / "p")


def test_export_phenotypes_refuses_incomplete_covariates(tmp_path):
    z, people, covariates = cohort()
    covariates[[2, 9], 0] = np.nan
    with pytest.raises(ValueError, match="got gaps for 2 people, first in row 2"):
        export_phenotypes(z, people, covariates, tmp_path / "p")


def test_export_phenotypes_refuses_as_many_covariates_as_people(tmp_path):
    z, people, _ = cohort(6)
    with pytest.raises(ValueError, match="got 6 people and covariates of rank 5"):
        export_phenotypes(z, people, np.random.default_rng(0).standard_normal((6, 9)), tmp_path / "p")
    with pytest.raises(ValueError, match="got 0 people and covariates of rank 0"):
        export_phenotypes(np.full((6, 5), np.nan), people, None, tmp_path / "p")


def test_export_phenotypes_refuses_dimensions_that_are_constant_or_told_by_covariates(tmp_path):
    z, people, covariates = cohort()
    z[:, 1], z[:, 3] = 0.1, covariates @ [1, 2, 3]
    with pytest.raises(ValueError, match="got 2 that are constant or told by them: 2, 4"):
        export_phenotypes(z, people, covariates, tmp_path / "p")


def test_export_phenotypes_exports_all_components_when_there_are_fewer_than_asked(tmp_path):
    z, people, _ = cohort()
    assert len(export_phenotypes(z, people, None, tmp_path / "p", components=6).names) == 5


def test_export_phenotypes_refuses_no_components(tmp_path):
    z, people, _ = cohort()
    with pytest.raises(ValueError, match="1 component or more was expected, got 0"):
        export_phenotypes(z, people, None, tmp_path / "p", components=0)


@pytest.mark.parametrize("prefix", ["", "1x", "a b", "fmri-"])
def test_export_phenotypes_refuses_a_prefix_of_other_characters(tmp_path, prefix):
    z, people, _ = cohort()
    with pytest.raises(ValueError, match="a prefix of letters, digits and _"):
        export_phenotypes(z, people, None, tmp_path / "p", prefix=prefix)

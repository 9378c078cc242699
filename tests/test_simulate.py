"""Tests of the simulated cohort: small cohorts on disk in, what was planted in them out."""

import dataclasses
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pysam
import pytest

from brainmt_align.data import simulated_bold as scans
from brainmt_align.data import simulated_genomes as genomes_room
from brainmt_align.data.bids import sidecar_repetition_time
from brainmt_align.data.simulate import LATER, CohortParameters, oracle_scores, write_cohort
from brainmt_align.data.simulated_genome_files import write_genomes
from brainmt_align.data.simulated_oracle import _log_sd, _log_sd_moments, _whitening, oracle_of_people
from brainmt_align.data.simulated_parameters import NOISE_SD

TINY = CohortParameters(people=12, volume_shape=(10, 12, 8), frames=20, voxel_mm=16.0, founder_haplotypes=200)
ALL_ON = dataclasses.replace(
    TINY, people=15, seed=3, populations=2, sites=3, age=True, sex=True, motion_mm=0.3, family_size=5, static_to_signal=20.0
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("simulated") / "tiny", TINY, progress=False)


@pytest.fixture(scope="module")
def confounded(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("simulated") / "confounded", ALL_ON, progress=False)


@pytest.fixture(scope="module")
def genomes():
    """Genomes of the default cohort; no scans."""
    return genomes_room.draw_genomes(CohortParameters())


def truth_of(folder: Path) -> dict:
    return json.loads((folder / "truth.json").read_text())


def dosages(folder: Path) -> dict:
    """(contig, 1-based position, REF, ALT) -> (people, 2) alleles."""
    with pysam.VariantFile(str(folder / "genotypes.vcf.gz")) as file:
        return {
            (record.contig, record.pos, record.ref, record.alts[0]): np.array(
                [sample["GT"] for sample in record.samples.values()]
            )
            for record in file
        }


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def recall_at_5(scores: np.ndarray) -> float:
    own = np.diag(scores)[:, None]
    rank = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return float((rank <= 5).mean())


# The folder and its files


def test_write_cohort_gives_the_same_bytes_when_repeated(cohort, tmp_path):
    again = write_cohort(tmp_path / "again", TINY, progress=False)
    assert files_of(again) == files_of(cohort)


def test_write_cohort_gives_another_cohort_when_the_seed_differs(cohort, tmp_path):
    other = write_cohort(tmp_path / "other", dataclasses.replace(TINY, seed=1, people=2), progress=False)
    first = scans.bold_path(Path(), "0001")
    assert (other / first).read_bytes() != (cohort / first).read_bytes()
    assert (other / "reference.fa").read_bytes() != (cohort / "reference.fa").read_bytes()


@pytest.mark.parametrize(
    "parameters", [TINY, dataclasses.replace(ALL_ON, volume_shape=TINY.volume_shape)], ids=["plain", "all on"]
)
def test_write_cohort_keeps_a_person_when_there_are_more_people(parameters, cohort, confounded, tmp_path):
    larger = cohort if parameters is TINY else confounded
    smaller = write_cohort(tmp_path / "smaller", dataclasses.replace(parameters, people=3), progress=False)
    for sample_id in ("0001", "0003"):
        path = scans.bold_path(Path(), sample_id)
        assert (smaller / path).read_bytes() == (larger / path).read_bytes()
        assert truth_of(smaller)["people"][sample_id] == truth_of(larger)["people"][sample_id]
    few, many = dosages(smaller), dosages(larger)
    assert set(few) <= set(many)
    assert all((alleles == many[variant][:3]).all() for variant, alleles in few.items())


def test_write_cohort_lays_out_bids_derivatives(cohort):
    description = json.loads((cohort / "bold" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert "Simulated" in description["Name"]
    assert {"BIDSVersion", "GeneratedBy"} <= set(description)
    assert sidecar_repetition_time(scans.bold_path(cohort, "0012")) == (2.0, scans.shared_paths(cohort)[1])
    func = cohort / "bold" / "sub-0012" / "func"
    stem = "sub-0012_task-rest_space-MNI152NLin2009cAsym_desc"
    run, mask = nib.load(func / f"{stem}-preproc_bold.nii.gz"), nib.load(func / f"{stem}-brain_mask.nii.gz")
    assert run.shape == (12, 10, 8, 20)
    assert run.get_data_dtype() == np.int16
    assert np.isfinite(run.dataobj.slope)
    assert run.dataobj.slope != 1
    assert nib.aff2axcodes(run.affine) == ("R", "A", "S")
    assert run.header.get_zooms() == pytest.approx((16, 16, 16, 2))
    assert run.header.get_xyzt_units() == ("mm", "sec")
    assert (int(run.header["sform_code"]), int(run.header["qform_code"])) == (4, 4)
    np.testing.assert_allclose(mask.affine, run.affine)
    inside = np.asarray(mask.dataobj) == 1
    assert 0.3 < inside.mean() < 0.5
    assert not np.asarray(run.dataobj)[~inside].any()
    confounds = pd.read_csv(func / "sub-0012_task-rest_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a")
    assert len(confounds) == 20
    assert {"framewise_displacement", "trans_x", "rot_z"} <= set(confounds.columns)


def test_write_cohort_stores_the_composed_run_to_its_precision(cohort):
    truth, brain = truth_of(cohort), scans.make_brain(TINY)
    person = scans.Person(4, np.array(truth["people"]["0005"]["latent"]), population=0, site=0, age=60.0, sex="F")
    wanted_TV = scans.compose_run(TINY, brain, person)
    stored_TV = nib.load(scans.bold_path(cohort, "0005")).get_fdata()[brain.mask_XYZ].T
    np.testing.assert_allclose(stored_TV, wanted_TV, atol=0.51 * np.abs(wanted_TV).max() / 32767)


def test_write_cohort_lists_only_simulated_covariates(cohort, confounded):
    plain = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype=str)
    assert list(plain.columns) == ["participant_id"]
    assert plain["participant_id"].tolist() == [f"sub-{sample_id}" for sample_id in TINY.sample_ids]
    table = pd.read_csv(confounded / "participants.tsv", sep="\t")
    assert list(table.columns) == ["participant_id", "age", "sex", "site", "population", "family_id"]
    assert table["age"].between(45, 80).all()
    assert set(table["population"]) == {"A", "B"}
    assert table.groupby("family_id")["population"].nunique().max() == 1
    assert list(json.loads((confounded / "participants.json").read_text())) == list(table.columns)


def test_write_cohort_changes_nothing_else_when_phenotypes_are_on(confounded, tmp_path):
    parameters = dataclasses.replace(ALL_ON, phenotypes=True)
    folder = write_cohort(tmp_path / "phenotypes", parameters, progress=False)
    with_files, without = files_of(folder), files_of(confounded)
    changed = {name for name, content in with_files.items() if without[name] != content}
    assert set(with_files) == set(without)
    assert changed <= {"participants.tsv", "participants.json", "truth.json", "genotypes.vcf.gz", "genotypes.vcf.gz.tbi"}
    few, many = dosages(confounded), dosages(folder)
    assert all((alleles == many[variant]).all() for variant, alleles in few.items())
    assert not any(many[variant].any() for variant in set(many) - set(few))  # causal, and carried by nobody
    table, plain = (pd.read_csv(place / "participants.tsv", sep="\t") for place in (folder, confounded))
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    assert list(table.columns[len(plain.columns) :]) == ["cognition", "diagnosis", "severity"]
    truth, before = truth_of(folder), truth_of(confounded)
    assert "phenotypes" not in before and "phenotype_model" not in before
    for sample_id, person in before["people"].items():
        assert truth["people"][sample_id] | person == truth["people"][sample_id]
    smaller = write_cohort(tmp_path / "smaller", dataclasses.replace(parameters, people=3), progress=False)
    assert truth_of(smaller)["people"]["0003"] == truth["people"]["0003"]


# Genomes


def test_write_cohort_vcf_matches_the_fasta_at_every_record(cohort, confounded):
    for folder in (cohort, confounded):
        with pysam.FastaFile(str(folder / "reference.fa")) as fasta:
            for contig, position, ref, _ in dosages(folder):
                assert fasta.fetch(contig, position - 1, position - 1 + len(ref)) == ref


def test_write_cohort_vcf_is_phased_and_indexed(cohort):
    with pysam.VariantFile(str(cohort / "genotypes.vcf.gz")) as file:
        assert list(file.header.samples) == TINY.sample_ids
        regions = pd.read_csv(cohort / "regions.bed", sep="\t", header=None)
        for _, (contig, start, end, name) in regions.iterrows():
            records = list(file.fetch(contig, start, end))
            assert records
            assert name.startswith("GENE")
            assert all(sample.phased for record in records for sample in record.samples.values())


def test_draw_genomes_gives_enough_common_variants_in_each_region(genomes):
    for region in genomes.regions:
        assert region.end - region.start == 4096
        people_S = region.alleles_SF[:, genomes.founders_PHR[:, :, 0].ravel()].mean(axis=1)
        inside = (region.positions >= region.start) & (region.positions < region.end)
        assert (np.minimum(people_S, 1 - people_S)[inside] >= 0.05).sum() >= 4


def test_draw_genomes_turns_four_percent_of_the_sites_into_clean_indels():
    genomes = genomes_room.draw_genomes(CohortParameters(regions=12, founder_haplotypes=720))
    sizes = []
    for region in genomes.regions:
        ends = region.positions + [len(ref) for ref in region.refs]
        assert (ends[:-1] <= region.positions[1:]).all()
        assert ends[-1] <= region.offset + len(region.reference)
        for ref, alt in zip(region.refs, region.alts, strict=True):
            assert ref != alt
            sizes.append(len(alt) - len(ref))
            if sizes[-1]:
                assert ref[0] == alt[0]
                assert min(len(ref), len(alt)) == 1
                assert ref[-1] != alt[-1]
    sizes = np.array(sizes)
    assert abs((sizes != 0).mean() - 0.04) < 0.01
    assert np.abs(sizes).max() <= 6
    assert (sizes < 0).any()
    assert (sizes > 0).any()


def test_draw_genomes_has_no_indel_when_their_share_is_zero():
    genomes = genomes_room.draw_genomes(dataclasses.replace(TINY, indel_share=0.0))
    assert all(len(ref) == len(alt) == 1 for region in genomes.regions for ref, alt in zip(region.refs, region.alts, strict=True))


def test_draw_genomes_puts_regions_on_one_contig_one_behind_the_other_when_autosomes_run_out(tmp_path):
    parameters = dataclasses.replace(TINY, regions=24, region_bases=1024, flank_bases=64, common_variants=1)
    genomes = genomes_room.draw_genomes(parameters)
    first, second = genomes.regions[0], genomes.regions[22]
    assert first.contig == second.contig == "chr1"
    assert first.offset + len(first.reference) == second.offset
    write_genomes(tmp_path, genomes, parameters.sample_ids)
    test_write_cohort_vcf_matches_the_fasta_at_every_record(tmp_path, tmp_path)


def test_write_cohort_genetic_values_follow_from_the_vcf(cohort, confounded):
    for folder in (cohort, confounded):
        truth, alleles = truth_of(folder), dosages(folder)
        for k, trait in enumerate(truth["traits"]):
            variants = trait["variants"]
            assert len({variant["region"] for variant in variants}) == 3
            sums = sum(v["effect"] * alleles[v["contig"], v["position"], v["ref"], v["alt"]].sum(1) for v in variants)
            planted = [person["genetic_values"][k] for person in truth["people"].values()]
            np.testing.assert_allclose(sums - trait["mean"], planted, atol=1e-9)


def test_draw_genomes_standardises_genetic_values(genomes):
    assert np.abs(genomes.values_PK.mean(0)).max() < 0.25  # SE 0.053 at 360 people
    assert np.abs(genomes.values_PK.std(0) - 1).max() < 0.2
    used = [(variant.region, variant.site) for trait in genomes.traits for variant in trait.variants]
    assert len(set(used)) == len(used) == 18


def test_draw_genomes_gives_siblings_only_their_parents_haplotypes():
    parameters = dataclasses.replace(TINY, people=60, family_size=6, regions=12)
    founders_PHR = genomes_room.draw_genomes(parameters).founders_PHR
    families = founders_PHR.reshape(10, 6, 2, 12)
    for family, haplotypes_PHR in enumerate(families):
        assert set(haplotypes_PHR[:, 0].ravel()) == {4 * family, 4 * family + 1}
        assert set(haplotypes_PHR[:, 1].ravel()) == {4 * family + 2, 4 * family + 3}
    shared = (families[:, :, None] == families[:, None, :])[:, *np.triu_indices(6, 1)]
    assert abs(shared.mean() - 0.5) < 0.05  # two siblings are identical by descent on half of their haplotypes


def test_draw_genomes_leaves_unrelated_people_no_common_haplotype(genomes):
    assert len(np.unique(genomes.founders_PHR[:, :, 0])) == 720


def test_draw_genomes_separates_two_populations():
    def fst(populations: int, groups: int) -> float:
        parameters = dataclasses.replace(TINY, people=200, founder_haplotypes=480, regions=10, populations=populations)
        genomes = genomes_room.draw_genomes(parameters)
        group_P = np.arange(200) % groups
        between, total = 0.0, 0.0
        for region in genomes.regions:
            p, q = (region.alleles_SF[:, genomes.founders_PHR[group_P == group, :, 0].ravel()].mean(1) for group in (0, 1))
            n = 2 * (group_P == 0).sum() - 1
            between += ((p - q) ** 2 - p * (1 - p) / n - q * (1 - q) / n).sum()
            total += (p * (1 - q) + q * (1 - p)).sum()
        return between / total  # Hudson's estimator

    assert abs(fst(1, 2)) < 0.02
    assert 0.05 < fst(2, 2) < 0.3


# Scans


def test_compose_run_projections_recover_the_planted_amplitudes():
    parameters = dataclasses.replace(TINY, signal_to_noise=1e6)
    brain = scans.make_brain(parameters)
    latent_K = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
    run_TV = scans.compose_run(parameters, brain, scans.Person(7, latent_K, 0, 0, 60.0, "F")).astype(float)
    courses_TK = (run_TV - run_TV.mean(0)) @ np.linalg.pinv(brain.maps_VK.T)
    planted_TK = scans.draw_courses(parameters, 7)
    ratio_K = courses_TK.std(0) / planted_TK.std(0) / parameters.signal_sd
    np.testing.assert_allclose(ratio_K, np.exp(0.7 * latent_K), rtol=1e-3)


@pytest.mark.parametrize("traits", [1, 6, 8, 20])
def test_make_brain_maps_are_smooth_and_nearly_apart(traits):
    brain = scans.make_brain(CohortParameters(traits=traits))
    assert brain.maps_VK.shape == (brain.mask_XYZ.sum(), traits)
    np.testing.assert_allclose(brain.maps_VK.max(0), 1)
    assert brain.maps_VK.min() == 0
    unit_VK = brain.maps_VK / np.linalg.norm(brain.maps_VK, axis=0)
    overlap_KK = unit_VK.T @ unit_VK - np.eye(traits)
    assert overlap_KK.max() < 0.2


def test_ar1_has_unit_variance_and_the_autocorrelation_asked_for():
    course = scans.ar1(np.random.default_rng(0), (200, 2000), 0.6)
    np.testing.assert_allclose(course.var(axis=1), 1, atol=0.15)
    assert np.mean(course[1:] * course[:-1]) == pytest.approx(0.6, abs=0.01)


def test_write_cohort_motion_follows_the_framewise_displacement(confounded):
    brain = scans.make_brain(ALL_ON)
    correlations = []
    for sample_id in ALL_ON.sample_ids:
        path = scans.bold_path(confounded, sample_id)
        table = pd.read_csv(path.with_name(f"sub-{sample_id}_task-rest_desc-confounds_timeseries.tsv"), sep="\t", na_values="n/a")
        steps = table[list(scans.MOTION_COLUMNS)].diff().abs()
        power = steps.iloc[:, :3].sum(axis=1) + 50 * steps.iloc[:, 3:].sum(axis=1)
        np.testing.assert_allclose(table["framewise_displacement"][1:], power[1:], rtol=1e-2, atol=1e-3)
        assert np.isnan(table["framewise_displacement"][0])
        edge_T = brain.edge_V @ nib.load(path).get_fdata()[brain.mask_XYZ]
        correlations.append(np.corrcoef(table["framewise_displacement"][1:], edge_T[1:])[0, 1])
    assert np.median(correlations) > 0.7


def test_draw_motion_has_the_mean_displacement_asked_for():
    parameters = CohortParameters(motion_mm=0.2)
    means = [np.nanmean(scans.framewise_displacement(scans.draw_motion(parameters, index))) for index in range(300)]
    assert np.mean(means) == pytest.approx(0.2, rel=0.1)
    assert not scans.draw_motion(CohortParameters(), 0).any()


@pytest.mark.parametrize(
    ("switch", "change"),
    [
        ({"populations": 2}, {"population": 1}),
        ({"sites": 2, "site_scale_sd": 0.0}, {"site": 1}),
        ({"age": True}, {"age": 72.5}),
        ({"sex": True}, {"sex": "M"}),
    ],
    ids=["population", "site", "age", "sex"],
)
def test_compose_run_shifts_only_the_static_image_by_covariates_that_are_on(switch, change):
    person = scans.Person(0, np.zeros(6), population=0, site=0, age=62.5, sex="F")
    cases = [(dataclasses.replace(TINY, **switch), True)]
    if "site" not in change:  # with one scanner there is no second one to move to
        cases.append((TINY, False))
    for parameters, shifts in cases:
        brain = scans.make_brain(parameters)
        moved_TV = scans.compose_run(parameters, brain, person._replace(**change)) - scans.compose_run(parameters, brain, person)
        assert (np.abs(moved_TV.mean(0)).max() > 1) == shifts
        np.testing.assert_allclose(moved_TV, np.broadcast_to(moved_TV[0], moved_TV.shape), atol=1e-3)


def test_compose_run_is_scaled_by_the_scanner():
    parameters = dataclasses.replace(TINY, sites=2, confound_effect=0.0)
    brain, person = scans.make_brain(parameters), scans.Person(0, np.zeros(6), 0, 0, 60.0, "F")
    scales = scans.site_scales(parameters)
    first, second = (scans.compose_run(parameters, brain, person._replace(site=site)) / scales[site] for site in (0, 1))
    assert scales[0] != scales[1]
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-3)


def test_write_cohort_latent_traits_follow_the_coupling(tmp_path):
    parameters = dataclasses.replace(TINY, people=200, coupling=0.5, frames=2, volume_shape=(8, 8, 8), founder_haplotypes=408)
    people = truth_of(write_cohort(tmp_path / "half", parameters, progress=False))["people"].values()
    latent, genetic = (np.array([person[name] for person in people]).ravel() for name in ("latent", "genetic_values"))
    assert np.corrcoef(latent, genetic)[0, 1] == pytest.approx(np.sqrt(0.5), abs=0.08)
    assert latent.std() == pytest.approx(1, abs=0.12)


# Interruptions and what is there already


def test_write_cohort_leaves_no_half_cohort_and_resumes_when_interrupted(cohort, tmp_path, monkeypatch):
    folder, whole = tmp_path / "cohort", scans.write_run

    def interrupt(place, parameters, brain, person):
        if person.index == 5:
            raise KeyboardInterrupt
        whole(place, parameters, brain, person)

    monkeypatch.setattr(scans, "write_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(folder, TINY, progress=False)
    assert not folder.exists()
    monkeypatch.undo()
    first = scans.bold_path(tmp_path / "cohort.partial", "0001")
    stamp = first.stat().st_mtime_ns
    write_cohort(folder, TINY, progress=False)
    assert scans.bold_path(folder, "0001").stat().st_mtime_ns == stamp
    assert not (tmp_path / "cohort.partial").exists()
    assert files_of(folder) == files_of(cohort)


def test_write_cohort_starts_anew_when_the_interrupted_one_had_other_parameters(cohort, tmp_path):
    partial = tmp_path / "cohort.partial"
    partial.mkdir()
    (partial / "parameters.json").write_text(json.dumps({"format": 1, **dataclasses.asdict(TINY), "seed": 9}))
    scans.bold_path(partial, "0001").parent.mkdir(parents=True)
    scans.bold_path(partial, "0001").write_text("a run of the other seed")
    assert files_of(write_cohort(tmp_path / "cohort", TINY, progress=False)) == files_of(cohort)


def test_write_cohort_leaves_a_complete_cohort_as_it_is(cohort):
    stamps = {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}
    assert write_cohort(str(cohort), dataclasses.replace(TINY), progress=False) == cohort
    assert {path: path.stat().st_mtime_ns for path in cohort.rglob("*")} == stamps


def test_write_cohort_names_the_differences_when_another_cohort_is_there(cohort):
    other = dataclasses.replace(TINY, coupling=0.5, frames=24)
    with pytest.raises(
        ValueError, match=r"other parameters(.|\n)*coupling: 1\.0 there, 0\.5 asked(.|\n)*frames: 20 there, 24(.|\n)*fix:"
    ):
        write_cohort(cohort, other, progress=False)


def as_before_phenotypes(content: dict) -> dict:
    return {name: value for name, value in content.items() if name not in LATER}


def test_write_cohort_takes_a_cohort_of_before_phenotypes_for_one_without(cohort, tmp_path):
    folder, truth = shutil.copytree(cohort, tmp_path / "cohort"), truth_of(cohort)
    older = json.dumps({**truth, "parameters": as_before_phenotypes(truth["parameters"])})
    (folder / "truth.json").write_text(older)
    assert write_cohort(folder, TINY, progress=False) == folder
    assert (folder / "truth.json").read_text() == older
    with pytest.raises(ValueError, match=r"other parameters(.|\n)*phenotypes: False there, True asked for"):
        write_cohort(folder, dataclasses.replace(TINY, phenotypes=True, age=True), progress=False)


def test_write_cohort_resumes_an_interrupted_one_of_before_phenotypes(cohort, tmp_path):
    partial = tmp_path / "cohort.partial"
    partial.mkdir()
    (partial / "parameters.json").write_text(json.dumps(as_before_phenotypes(truth_of(cohort)["parameters"])))
    (partial / "kept.txt").write_text("not started anew")
    assert (write_cohort(tmp_path / "cohort", TINY, progress=False) / "kept.txt").is_file()


def test_write_cohort_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match=r"holds something else(.|\n)*fix: name another folder"):
        write_cohort(tmp_path, TINY, progress=False)
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match=r"no parameters\.json(.|\n)*fix: move it away"):
        write_cohort(tmp_path / "new", TINY, progress=False)
    assert (tmp_path / "new.partial" / "thesis.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    "lost",
    [
        "participants.json",
        "truth_maps.nii.gz",
        "regions.bed",
        "bold/dataset_description.json",
        "bold/task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.json",
        "bold/sub-0002/func/sub-0002_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
        "bold/sub-0002/func/sub-0002_task-rest_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz",
        "bold/sub-0002/func/sub-0002_task-rest_desc-confounds_timeseries.tsv",
    ],
)
def test_write_cohort_refuses_a_cohort_that_lost_files(cohort, tmp_path, lost):
    folder = shutil.copytree(cohort, tmp_path / "cohort")
    (folder / lost).unlink()
    with pytest.raises(FileExistsError, match=rf"1 of them are gone, the first {Path(lost).name}\.(.|\n)*fix: remove the folder"):
        write_cohort(folder, TINY, progress=False)


# Parameters


def test_check_lists_all_faults_at_once():
    parameters = CohortParameters(people=0, coupling=1.5, tr_s=float("nan"), age=1, frames="48", volume_shape=(24, 28))
    with pytest.raises(ValueError, match="6 of them cannot be simulated") as caught:
        parameters.check()
    message = str(caught.value)
    assert "people must be a whole number from 1 up; got 0." in message
    assert "coupling must be a number from 0 to 1; got 1.5." in message
    assert "age must be true or false; got 1." in message
    assert "frames must be a whole number from 2 up; got '48'." in message
    assert "volume_shape must be three whole numbers (D, H, W) from 8 up; got (24, 28)." in message


def test_check_finds_combinations_that_cannot_be():
    with pytest.raises(ValueError, match="founder_haplotypes must be at least 4004 for people=2000") as caught:
        CohortParameters(people=2000, causal_variants=5).check()
    assert "traits * causal_variants must not exceed regions * common_variants = 24; got 30." in str(caught.value)


def test_check_finds_phenotypes_that_cannot_be():
    with pytest.raises(ValueError, match=r"brain_share \+ genetic_share \+ confound_share must not exceed 1; got 1\.1\."):
        CohortParameters(brain_share=0.8).check()
    CohortParameters(phenotypes=True, age=True, brain_share=0.7, genetic_share=0.2, confound_share=0.1).check()
    message = r"confound_share must be 0 where neither age nor sex is simulated; got 0\.15 \(age=true or sex=true simulates"
    with pytest.raises(ValueError, match=message):
        CohortParameters(phenotypes=True).check()
    CohortParameters(phenotypes=True, confound_share=0.0).check()
    with pytest.raises(ValueError, match=r"3 phenotypes \* causal_variants must not exceed .* = 4; got 6\."):
        CohortParameters(phenotypes=True, sex=True, regions=1, traits=2, causal_variants=2).check()


def test_check_knows_a_range_for_every_parameter():
    for field in dataclasses.fields(CohortParameters):
        with pytest.raises(ValueError, match=f"{field.name} must be"):
            CohortParameters(**{field.name: "nonsense"}).check()


def test_write_cohort_checks_parameters_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="Cohort parameters"):
        write_cohort(tmp_path / "none", CohortParameters(people=-1), progress=False)
    assert not list(tmp_path.iterdir())


def test_draw_genomes_gives_up_when_regions_never_hold_enough_variants(monkeypatch):
    monkeypatch.setattr(genomes_room, "MAX_DRAWS", 2)
    with pytest.raises(RuntimeError, match=r"region 1: expected 4 variants(.|\n)*fix: raise region_bases"):
        genomes_room.draw_genomes(dataclasses.replace(TINY, region_bases=64, flank_bases=0))


# Oracle


def oracle_of(folder: Path, parameters: CohortParameters, windows=((0, 10), (10, 10))) -> np.ndarray:
    ids = parameters.sample_ids
    return oracle_scores(folder / "truth.json", [scans.bold_path(folder, sample_id) for sample_id in ids], ids, list(windows))


@pytest.fixture(scope="module")
def eighty(tmp_path_factory) -> tuple[Path, CohortParameters]:
    parameters = dataclasses.replace(TINY, people=80, frames=48)
    return write_cohort(tmp_path_factory.mktemp("simulated") / "eighty", parameters, progress=False), parameters


def test_oracle_scores_find_everybody_both_ways(eighty):
    scores = oracle_of(*eighty, windows=((0, 16), (16, 16), (32, 16)))
    assert scores.shape == (80, 80)
    assert scores.dtype == np.float64
    assert recall_at_5(scores) > 0.9
    assert recall_at_5(scores.T) > 0.9


def test_oracle_of_people_covers_their_runs_and_adds_up_several_runs_of_a_person(eighty):
    folder, parameters = eighty
    ids = parameters.sample_ids[:10]
    runs = pd.DataFrame({"subject_id": ids, "bold_path": [str(scans.bold_path(folder, each)) for each in ids], "num_frames": 48})
    people = pd.DataFrame({"subject_id": ids[::-1], "sample_id": ids[::-1]})
    once = oracle_of_people(folder / "truth.json", runs, people, window=16)
    paths, windows = runs["bold_path"].tolist()[::-1], [(0, 16), (16, 16), (32, 16)]
    np.testing.assert_allclose(once, oracle_scores(folder / "truth.json", paths, ids[::-1], windows))
    twice = oracle_of_people(folder / "truth.json", pd.concat([runs, runs]), people, window=16)
    np.testing.assert_allclose(twice, 2 * once)


def test_oracle_scores_all_tie_when_nothing_is_coupled(tmp_path):
    parameters = dataclasses.replace(TINY, coupling=0.0)
    folder = write_cohort(tmp_path / "chance", parameters, progress=False)
    np.testing.assert_allclose(oracle_of(folder, parameters), 0, atol=1e-9)


def test_oracle_scores_lie_between_when_the_coupling_is_partial(tmp_path):
    parameters = dataclasses.replace(TINY, people=80, frames=48, coupling=0.3)
    scores = oracle_of(write_cohort(tmp_path / "partial", parameters, progress=False), parameters, windows=((0, 48),))
    assert 2 * 5 / 80 < recall_at_5(scores) < 0.8
    assert 2 * 5 / 80 < recall_at_5(scores.T) < 0.8


def test_oracle_scores_see_through_scanners_and_motion(confounded):
    assert recall_at_5(oracle_of(confounded, ALL_ON)) > 0.9


def test_oracle_scores_keep_the_order_of_runs_and_samples(eighty):
    folder, parameters = eighty
    whole = oracle_of(folder, parameters)
    runs = [scans.bold_path(folder, sample_id) for sample_id in ("0009", "0002")]
    part = oracle_scores(folder / "truth.json", runs, ["0005", "0001", "0080"], [(0, 10), (10, 10)])
    np.testing.assert_allclose(part, whole[np.ix_([8, 1], [4, 0, 79])])


@pytest.mark.parametrize("windows", [[(0, 48)], [(0, 16)], [(0, 16), (30, 16)], [(0, 16), (8, 16)]])
@pytest.mark.parametrize(("signal", "noise", "noise_sd"), [(0.0, 0.0, 0.0), (0.5, 0.3, 0.0), (0.5, 0.3, 0.5), (0.9, -0.4, 0.3)])
def test_log_sd_moments_equal_those_of_simulated_courses(windows, signal, noise, noise_sd):
    rng = np.random.default_rng(1)
    courses = 7 + 3 * (scans.ar1(rng, (48, 40_000), signal) + noise_sd * scans.ar1(rng, (48, 40_000), noise))
    whitening = _whitening(windows, signal, noise)
    log_sds = _log_sd(courses.astype(float), whitening)
    moments = _log_sd_moments(whitening, np.array(3.0), np.array(3 * noise_sd))
    assert moments.mean == pytest.approx(log_sds.mean(), abs=0.005)
    assert moments.variance == pytest.approx(log_sds.var(), rel=0.06)


def test_whitening_counts_a_frame_of_two_windows_once():
    whole, twice = _whitening([(0, 24)], 0.5, 0.3), _whitening([(0, 16), (8, 16)], 0.5, 0.3)
    np.testing.assert_array_equal(whole.form_FF, twice.form_FF)
    assert whole.freedom == 23


def plain_and_whitened_residuals(folder: Path, parameters: CohortParameters, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(people, traits) log SD over what was planted: by the plain SD, and by the whitened one in units of its known error."""
    truth, brain = truth_of(folder), scans.make_brain(parameters)
    unmix_KV = np.linalg.pinv(brain.maps_VK)
    whitening = _whitening([(0, frames)], parameters.signal_autocorrelation, parameters.noise_autocorrelation)
    plain, whitened = [], []
    for sample_id, person in truth["people"].items():
        courses_TK = (unmix_KV @ nib.load(scans.bold_path(folder, sample_id)).get_fdata()[brain.mask_XYZ]).T
        planted_K = np.log(truth["signal_sd"]) + 0.7 * np.array(person["latent"])
        noise_K = truth["noise_sd"] * np.linalg.norm(unmix_KV, axis=1)
        expected_K = _log_sd_moments(whitening, np.exp(planted_K), noise_K)
        plain.append(np.log(courses_TK[:frames].std(axis=0)) - planted_K)
        whitened.append((_log_sd(courses_TK, whitening) - expected_K.mean) / np.sqrt(expected_K.variance))
    return np.array(plain), np.array(whitened)


def test_oracle_scores_residuals_have_the_mean_and_variance_they_are_given(eighty):
    _, whitened = plain_and_whitened_residuals(*eighty, frames=48)
    assert np.mean(whitened) == pytest.approx(0, abs=0.14)  # SE 0.046 at 480 courses
    assert np.std(whitened) == pytest.approx(1, abs=0.1)
    assert truth_of(eighty[0])["noise_sd"] == NOISE_SD


def test_oracle_scores_are_surer_than_those_of_the_plain_log_sd(eighty):
    plain, whitened = plain_and_whitened_residuals(*eighty, frames=16)
    error = np.sqrt(_log_sd_moments(_whitening([(0, 16)], 0.5, 0.3), np.array(1.0), np.array(0.0)).variance)
    assert (error * whitened).var() < 0.85 * plain.var()

    # The rival even knows the mean and variance that its errors turn out to have.
    values = np.array([person["genetic_values"] for person in truth_of(eighty[0])["people"].values()])
    observed = plain - plain.mean() + 0.7 * values  # coupling 1: the latent trait is the genetic value
    rival = -((observed[:, None] - 0.7 * values[None]) ** 2).sum(axis=2) / (2 * plain.var())
    ours = oracle_of(*eighty, windows=((0, 16),))

    def own_log_probability(scores):
        return np.mean(np.diag(scores) - np.log(np.exp(scores).sum(axis=1)))

    assert own_log_probability(ours) > own_log_probability(rival) + 0.01
    assert recall_at_5(ours) >= recall_at_5(rival)


def test_oracle_scores_refuse_a_cohort_whose_maps_are_gone(cohort, tmp_path):
    shutil.copy(cohort / "truth.json", tmp_path)
    message = r"the true maps were expected beside truth\.json, got no file\.\n  file: .*truth_maps\.nii\.gz\n  fix: put it back"
    with pytest.raises(FileNotFoundError, match=message):
        oracle_scores(tmp_path / "truth.json", [scans.bold_path(cohort, "0001")], ["0001"], [(0, 10)])


def test_oracle_scores_refuse_people_of_another_cohort(cohort):
    run = scans.bold_path(cohort, "0001")
    with pytest.raises(ValueError, match=r"such as 0001, 0002, 0003\), got 2 that are not: 9999, sub-0001(.|\n)*fix:"):
        oracle_scores(cohort / "truth.json", [run], ["0001", "9999", "sub-0001"], [(0, 10)])


@pytest.mark.parametrize("windows", [[(0, 21)], [(-1, 5)], [(0, 1)], []])
def test_oracle_scores_refuse_windows_outside_the_run(cohort, windows):
    with pytest.raises(ValueError, match=r"inside a run of 20(.|\n)*fix: give the windows"):
        oracle_scores(cohort / "truth.json", [scans.bold_path(cohort, "0001")], ["0001"], windows)


def test_oracle_scores_refuse_a_run_on_another_grid(cohort, tmp_path):
    run = tmp_path / "sub-0001_bold.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 20), np.float32), np.eye(4)), run)
    with pytest.raises(ValueError, match=r"grid of the true maps, \(12, 10, 8\), got \(8, 8, 8\)(.|\n)*fix:"):
        oracle_scores(cohort / "truth.json", [run], ["0001"], [(0, 10)])

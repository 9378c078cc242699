"""Tests of cohorts without genomes or without scans: what joins, what is not demanded, and what is still complained of."""

import pandas as pd
import pysam
import pytest

from brainmt_align.data.cohort import build_cohort, read_cohort, read_scans


def people_table(*ids, **columns):
    return pd.DataFrame({"participant_id": list(ids), **columns})


def pair_table(*pairs, **columns):
    return pd.DataFrame({"participant_id": [p for p, _ in pairs], "sample_id": [s for _, s in pairs], **columns})


@pytest.fixture
def runs_of(tmp_path):
    """runs_of("a", "b") touches a scan each and returns their runs table; ids may repeat for several runs."""

    def touch(*subjects):
        rows = [(who, f"sub-{who}_run-{run}", str(tmp_path / f"{who}_{run}.nii.gz")) for run, who in enumerate(subjects)]
        for _, _, path in rows:
            (tmp_path / path).touch()
        return pd.DataFrame(rows, columns=["subject_id", "run_id", "bold_path"], dtype="str").assign(mask_path=rows[0][2])

    return touch


def test_build_cohort_without_genomes_joins_scans_and_participants(runs_of):
    cohort = build_cohort(runs=runs_of("02", "01", "02"), participants=people_table("sub-01", "02", age=[51, 52]))
    assert cohort.people.to_dict("list") == {"subject_id": ["01", "02"], "age": [51, 52]}
    assert cohort.runs["subject_id"].tolist() == ["01", "02", "02"] and cohort.notes == []
    assert build_cohort(runs=runs_of("b", "a")).people.to_dict("list") == {"subject_id": ["a", "b"]}


def test_build_cohort_without_scans_joins_genomes_and_participants():
    cohort = build_cohort(
        genotype_samples=["HG1", "sub-02"],
        participants=people_table("02", "01", age=[52, 51]),
        id_map=pair_table(("01", "HG1"), ("09", "HG9")),
        scans=False,
    )
    assert cohort.people.to_dict("list") == {"subject_id": ["01", "02"], "sample_id": ["HG1", "sub-02"], "age": [51, 52]}
    assert list(cohort.runs) == ["subject_id", "run_id", "bold_path", "mask_path"] and cohort.runs.empty and cohort.notes == []


def test_build_cohort_of_genomes_alone_is_everyone_by_the_id_map_or_by_the_genome_s_own_id():
    cohort = build_cohort(genotype_samples=["HG1", "02"], id_map=pair_table(("01", "HG1"), ("09", "HG9")), scans=False)
    assert cohort.people.to_dict("list") == {"subject_id": ["01", "02"], "sample_id": ["HG1", "02"]}
    assert build_cohort(genotype_samples=["b", "a"], scans=False).people["subject_id"].tolist() == ["a", "b"]


def test_build_cohort_without_genomes_takes_the_people_of_a_pair_table_without_samples(runs_of):
    cohort = build_cohort(
        runs=runs_of("01", "02", "03"), participants=people_table("01", "03"), pairs=people_table("sub-03", "01")
    )
    assert cohort.people["subject_id"].tolist() == cohort.runs["subject_id"].tolist() == ["01", "03"]
    scans = runs_of("01", "01")
    pairs = people_table("01", "01", bold_path=scans["bold_path"].tolist(), mask_path=scans["mask_path"].tolist())
    cohort = build_cohort(pairs=pairs)
    assert cohort.people["subject_id"].tolist() == ["01"] and len(cohort.runs) == 2


def test_build_cohort_without_scans_does_not_look_at_those_of_the_pair_table():
    pairs = pair_table(("01", "HG1"), ("01", "HG1"), bold_path=["absent_1.nii", "absent_2.nii"])
    cohort = build_cohort(genotype_samples=["HG1"], pairs=pairs, scans=False)
    assert cohort.people.to_dict("list") == {"subject_id": ["01"], "sample_id": ["HG1"]} and cohort.runs.empty


def test_build_cohort_without_genomes_lists_every_fault(runs_of):
    with pytest.raises(
        ValueError, match="Cohort: one scan or more and one row for everybody were expected; faults found: 3\n"
    ) as error:
        build_cohort(runs=runs_of("01", "02"), participants=people_table("01", "03", "03"))
    for line in (
        "participants: duplicated ids: 03",
        "no scan for 1 of 3 people: 03",
        "no row in participants for 1 of 3 people: 02",
    ):
        assert f"\n  - {line}" in str(error.value)
    assert "where: data.bold, data.participants\n  fix: correct the tables; data.unmatched=drop" in str(error.value)
    cohort = build_cohort(runs=runs_of("01", "02"), participants=people_table("01", "03"), unmatched="drop")
    assert cohort.people["subject_id"].tolist() == ["01"]
    assert cohort.notes[0] == "Left out: no scan for 1 of 3 people: 03" and len(cohort.notes) == 2


def test_build_cohort_without_scans_lists_every_fault():
    with pytest.raises(
        ValueError, match="Cohort: one genome and one row for everybody were expected; faults found: 2\n"
    ) as error:
        build_cohort(genotype_samples=["01", "02"], participants=people_table("01", "03"), scans=False)
    assert "\n  - no genome for 1 of 2 people: 03" in str(error.value)
    assert "\n  - nobody in the other tables for 1 genomes: 02" in str(error.value)
    assert "where: data.genotypes, data.participants" in str(error.value)


def test_build_cohort_shows_three_ids_of_the_sides_that_there_are_when_nobody_is_left(runs_of):
    with pytest.raises(ValueError, match="nobody is in all tables\n") as error:
        build_cohort(runs=runs_of("1", "2"), participants=people_table("001", "002"), pairs=people_table("1", "002"))
    shown = "2 with a scan: 1, 2\n    2 with a row in participants: 001, 002\n    2 in pairs: 002, 1\n"
    assert shown in str(error.value) and "genome" not in str(error.value)


def test_build_cohort_refuses_neither_scans_nor_genomes():
    with pytest.raises(ValueError, match="expected scans, genomes or both; got neither"):
        build_cohort(participants=people_table("01"), scans=False)


def test_read_scans_takes_a_pair_table_without_samples(runs_of, tmp_path):
    scans = runs_of("01", "02")
    scans.rename(columns={"subject_id": "participant_id"}).to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    assert read_scans(pairs=tmp_path / "pairs.tsv")["subject_id"].tolist() == ["01", "02"]


@pytest.fixture
def files(tmp_path):
    """A BIDS folder and a VCF of 1000012 and 1000020, and their table as UK Biobank hands it out."""
    for who in ("1000012", "1000020"):
        func = tmp_path / "bold" / f"sub-{who}" / "func"
        func.mkdir(parents=True)
        (func / f"sub-{who}_task-rest_desc-preproc_bold.nii.gz").touch()
        (func / f"sub-{who}_task-rest_desc-brain_mask.nii.gz").touch()
    (tmp_path / "g.vcf").write_text(
        '##fileformat=VCFv4.2\n##contig=<ID=1>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t1000012\t1000020\n1\t5\t.\tA\tC\t.\t.\t.\tGT\t0|1\t0|0\n"
    )
    pysam.tabix_index(str(tmp_path / "g.vcf"), preset="vcf")
    (tmp_path / "ukb.csv").write_text("eid,31-0.0,20016-0.0,20016-2.0,21003-0.0\n1000020,1,5,6,50\n1000012,0,7,-,51\n")
    return tmp_path


def test_read_cohort_reads_one_modality_and_participants_by_a_preset(files):
    text = (files / "ukb.csv").read_text()
    (files / "ukb.csv").write_text(text.replace(",-,", ",,"))
    named = {"participants": files / "ukb.csv", "preset": "uk_biobank"}
    scans = read_cohort(bold=files / "bold", **named)
    assert list(scans.people)[:3] == ["subject_id", "sex", "fluid_intelligence"] and "sample_id" not in scans.people
    assert scans.people["sex"].tolist() == ["Female", "Male"] and scans.people["fluid_intelligence"].tolist()[1] == 6
    assert scans.people["20016-0.0"].tolist() == [7, 5] and len(scans.runs) == 2
    note = "age left out: column 21003-2.0 is not there; the table has instance 0 of it, not 2"
    assert scans.notes == [note]
    genomes = read_cohort(genotypes=files / "g.vcf.gz", bold=files / "absent", scans=False, instance=0, **named)
    assert genomes.people["sample_id"].tolist() == ["1000012", "1000020"] and genomes.runs.empty and genomes.notes == []
    assert genomes.people["fluid_intelligence"].tolist() == [7, 5] and genomes.people["age"].tolist() == [51, 50]
    both = read_cohort(genotypes=files / "g.vcf.gz", bold=files / "bold", **named)
    pd.testing.assert_frame_equal(both.people.drop(columns="sample_id"), scans.people)


def test_read_cohort_passes_on_what_the_preset_complains_of(files):
    with pytest.raises(ValueError, match=r"fluid_intelligence \(20016-2\.0\) must hold numbers, .* '-' of 1000012"):
        read_cohort(bold=files / "bold", participants=files / "ukb.csv", preset="uk_biobank")


def test_read_cohort_refuses_a_preset_without_participants(files):
    with pytest.raises(ValueError, match="the preset hcp names columns of a participants table, got no table"):
        read_cohort(bold=files / "bold", preset="hcp")


def test_read_cohort_refuses_neither_modality(files):
    with pytest.raises(ValueError, match="expected scans, genomes or both; got neither"):
        read_cohort(participants=files / "ukb.csv", preset="uk_biobank", instance=0, scans=False)

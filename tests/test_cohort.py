"""Tests of the cohort room: what joins, in which order, and that every fault is in one complaint."""

from pathlib import Path

import pandas as pd
import pysam
import pytest

from brainmt_align.data.cohort import build_cohort, read_cohort, read_genomes, read_scans


@pytest.fixture
def files(tmp_path):
    """files("a", "b") touches sub-a and sub-b scans with masks and returns their runs table; ids may repeat for several runs."""

    def touch(*subjects):
        rows = []
        for run, subject in enumerate(subjects):
            stem = f"sub-{subject}_run-{run}"
            bold, mask = tmp_path / f"{stem}_bold.nii.gz", tmp_path / f"{stem}_mask.nii.gz"
            bold.touch()
            mask.touch()
            rows.append((subject, stem, str(bold), str(mask), f"{stem}.tsv"))
        return pd.DataFrame(rows, columns=["subject_id", "run_id", "bold_path", "mask_path", "confounds_path"], dtype="str")

    return touch


def people_table(*ids, **columns):
    return pd.DataFrame({"participant_id": list(ids), **columns})


def pair_table(*pairs, **columns):
    return pd.DataFrame({"participant_id": [p for p, _ in pairs], "sample_id": [s for _, s in pairs], **columns})


def test_build_cohort_joins_all_tables_in_the_order_of_ids_whatever_order_they_come_in(files):
    cohort = build_cohort(
        runs=files("03", "01", "02", "01"),
        genotype_samples=["02", "sub-03", "01"],
        participants=people_table("sub-02", "03", "01", age=[52, 53, 51]),
    )
    expected = {"subject_id": ["01", "02", "03"], "sample_id": ["01", "02", "sub-03"], "age": [51, 52, 53]}
    assert cohort.people.to_dict("list") == expected
    assert list(cohort.people.index) == [0, 1, 2] and list(cohort.runs.index) == [0, 1, 2, 3]
    assert cohort.runs["subject_id"].tolist() == ["01", "01", "02", "03"]
    assert cohort.runs["run_id"].tolist() == ["sub-01_run-1", "sub-01_run-3", "sub-02_run-2", "sub-03_run-0"]
    assert list(cohort.runs) == ["subject_id", "run_id", "bold_path", "mask_path", "confounds_path"]
    assert cohort.notes == []


def test_build_cohort_needs_no_participants(files):
    cohort = build_cohort(runs=files("b", "a"), genotype_samples=["a", "b"])
    assert list(cohort.people) == ["subject_id", "sample_id"] and cohort.people["subject_id"].tolist() == ["a", "b"]


def test_build_cohort_follows_the_id_map_and_lets_equal_ids_join_without_it(files):
    id_map = pair_table(("sub-01", "HG1"), ("02", "HG2"), ("99", "HG99"))
    cohort = build_cohort(runs=files("01", "02", "03"), genotype_samples=["HG1", "HG2", "03"], id_map=id_map)
    assert cohort.people["sample_id"].tolist() == ["HG1", "HG2", "03"]


def test_build_cohort_gives_one_mask_to_all_runs_when_told(files, tmp_path):
    shared = tmp_path / "mask.nii.gz"
    shared.touch()
    cohort = build_cohort(runs=files("a", "b"), genotype_samples=["a", "b"], mask=shared)
    assert cohort.runs["mask_path"].tolist() == [str(shared)] * 2


def test_build_cohort_lists_every_fault_at_once(files):
    runs = files("01", "02", "03", "04", "05", "06")
    Path(runs["bold_path"][0]).unlink()
    Path(runs["mask_path"][1]).unlink()
    with pytest.raises(ValueError, match="one genome and one row for everybody were expected; faults found: 11\n") as error:
        build_cohort(
            runs=runs,
            genotype_samples=["01", "02", "HG3", "05", "06", "08", "08", "1.0"],
            participants=people_table("01", "01", None, "02", "03", "04", "06", "07"),
            id_map=pair_table(("03", "HG3"), ("04", "HG3"), ("06", "HG6")),
        )
    for line in (
        "participants: blank ids in data rows 3",
        "participants: duplicated ids: 01",
        "genotypes: float ids, whose text is lost: 1.0",
        "genotypes: duplicated ids: 08",
        "id_map: genomes that belong to two people: HG3 (03, 04)",
        "no scan for 1 of 7 people: 07",
        "no row in participants for 1 of 7 people: 05",
        "no genome for 2 of 7 people: 06 (sample HG6), 07",
        "nobody in the other tables for 2 genomes: 06, 08",
        "scans: BOLD files that do not exist: ",
        "scans: masks that do not exist: ",
    ):
        assert f"\n  - {line}" in str(error.value)
    assert "fix: correct the tables, or name ids that differ in data.id_map; data.unmatched=drop goes on" in str(error.value)


def test_build_cohort_names_masks_that_do_not_exist(files):
    with pytest.raises(ValueError, match=r"scans: masks that do not exist: absent\.nii"):
        build_cohort(runs=files("a", "b"), genotype_samples=["a", "b"], mask="absent.nii")


def test_build_cohort_drops_whom_a_table_lacks_and_says_so(files):
    cohort = build_cohort(
        runs=files("01", "02", "03"),
        genotype_samples=["01", "02", "05"],
        participants=people_table("01", "03", "04"),
        unmatched="drop",
    )
    assert cohort.people["subject_id"].tolist() == cohort.runs["subject_id"].tolist() == ["01"]
    assert cohort.notes == [
        "Left out: no scan for 1 of 4 people: 04",
        "Left out: no row in participants for 1 of 4 people: 02",
        "Left out: no genome for 2 of 4 people: 03, 04",
        "Left out: nobody in the other tables for 1 genomes: 05",
    ]


def test_build_cohort_does_not_look_for_files_of_people_it_leaves_out(files):
    runs = files("01", "02")
    Path(runs["bold_path"][1]).unlink()
    assert build_cohort(runs=runs, genotype_samples=["01"], unmatched="drop").people["subject_id"].tolist() == ["01"]


@pytest.mark.parametrize("unmatched", ["error", "drop"])
def test_build_cohort_shows_three_ids_of_each_side_when_nobody_is_left(files, unmatched):
    with pytest.raises(ValueError, match="found: 1\n  - nobody is in all tables\n") as error:
        build_cohort(
            runs=files("1", "2", "3", "4"),
            genotype_samples=[f"HG{i}" for i in range(300)],
            participants=people_table("001", "002"),
            unmatched=unmatched,
        )
    for side in (
        "4 with a scan: 1, 2, 3, … (4 in all)",
        "2 with a row in participants: 001, 002",
        "300 with a genome: HG0, HG1, HG10, … (300 in all)",
    ):
        assert side in str(error.value)


def test_build_cohort_takes_only_the_people_of_the_pair_table(files):
    cohort = build_cohort(
        runs=files("01", "02", "03", "02"),
        genotype_samples=["HG1", "HG2", "HG3"],
        participants=people_table("01", "02", "07"),
        pairs=pair_table(("sub-02", "HG3"), ("01", "HG1")),
    )
    assert cohort.people["sample_id"].tolist() == ["HG1", "HG3"]
    assert cohort.runs["subject_id"].tolist() == ["01", "02", "02"] and cohort.notes == []


def test_build_cohort_takes_scans_from_the_pair_table_relative_to_the_root(tmp_path):
    for name in ("a/bold.nii.gz", "b/bold.nii.gz", "b/sub-02_task-rest_bold.nii.gz", "m.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    pairs = pair_table(
        ("02", "HG2"), ("01", "HG1"), ("02", "HG2"),
        bold_path=["b/bold.nii.gz", "a/bold.nii.gz", "b/sub-02_task-rest_bold.nii.gz"], mask_path=["m.nii", None, None],
    )  # fmt: skip
    cohort = build_cohort(genotype_samples=["HG2", "HG1"], pairs=pairs, root=tmp_path)
    assert cohort.people["subject_id"].tolist() == ["01", "02"]
    assert cohort.runs["run_id"].tolist() == ["01_bold", "02_bold", "sub-02_task-rest"]
    assert cohort.runs["bold_path"][0] == str(tmp_path / "a/bold.nii.gz")
    assert cohort.runs["mask_path"].isna().tolist() == [True, False, True]
    assert cohort.runs["mask_path"][1] == str(tmp_path / "m.nii")


def test_build_cohort_lists_every_fault_of_a_pair_table(tmp_path):
    (tmp_path / "x.nii").touch()
    pairs = pair_table(
        ("01", "HG1"), ("01", "HG2"), ("02", "HG3"), ("03", "HG3"), ("04", "HG9"), ("05", "HG5"), (None, "HG6"), ("07", None),
        bold_path=["x.nii", "y.nii", "x.nii", "x.nii", "x.nii", None, "x.nii", "x.nii"],
    )  # fmt: skip
    with pytest.raises(ValueError, match="faults found: 8\n") as error:
        build_cohort(genotype_samples=["HG1", "HG2", "HG3", "HG5", "HG6"], pairs=pairs, root=tmp_path)
    for line in (
        "scans: files that stand in several rows: ",
        "pairs: blank ids in data rows 7",
        "pairs, sample_id: blank ids in data rows 8",
        "pairs: people with two genomes: 01 (HG1, HG2)",
        "pairs: genomes that belong to two people: HG3 (02, 03)",
        "no scan for 1 of 5 people: 05",
        "no genome for 1 of 5 people: 04 (sample HG9)",
        "scans: BOLD files that do not exist: ",
    ):
        assert f"\n  - {line}" in str(error.value)
    assert "where: data.pairs, data.bold" in str(error.value)


def test_build_cohort_refuses_a_repeated_person_of_a_pair_table_without_scans(files):
    with pytest.raises(ValueError, match="pairs: duplicated ids: 01"):
        build_cohort(runs=files("01"), genotype_samples=["01"], pairs=pair_table(("01", "01"), ("sub-01", "01")))


def test_build_cohort_shows_the_pairs_when_nobody_is_left(files):
    with pytest.raises(ValueError, match="2 in pairs: 01 = HG8, 02 = HG9"):
        build_cohort(runs=files("01", "02"), genotype_samples=["HG1"], pairs=pair_table(("01", "HG8"), ("02", "HG9")))


def test_build_cohort_refuses_run_ids_that_two_runs_share(files):
    with pytest.raises(ValueError, match="scans: run ids that stand in several rows: same"):
        build_cohort(runs=files("a", "b").assign(run_id="same"), genotype_samples=["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unmatched": "skip"}, "must be 'error' or 'drop', got 'skip'"),
        ({"participants": pd.DataFrame({"eid": ["a"]})}, r"participants needs the columns participant_id; it has eid"),
        ({"pairs": people_table("a")}, "pairs needs the columns participant_id, sample_id; it has participant_id"),
        ({"id_map": pd.DataFrame({"sample_id": ["a"]})}, "id_map needs the columns participant_id, sample_id; it has sample_id"),
        ({"participants": pair_table(("a", "HG1"))}, "participants has a column sample_id, a name that"),
        ({"pairs": pair_table(("a", "a")), "id_map": pair_table(("a", "a"))}, "either pairs or id_map names the genomes"),
        ({"runs": None}, "expected a folder of scans, or a pair table with bold_path; got neither"),
    ],
)
def test_build_cohort_refuses_arguments_that_cannot_be(files, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_cohort(**{"runs": files("a"), "genotype_samples": ["a"]} | arguments)


def test_read_cohort_reads_a_bids_folder_a_vcf_and_a_participants_table(tmp_path):
    func = tmp_path / "bold" / "sub-0001" / "func"
    func.mkdir(parents=True)
    (func / "sub-0001_task-rest_space-T_desc-preproc_bold.nii.gz").touch()
    plain = tmp_path / "g.vcf"
    plain.write_text(
        '##fileformat=VCFv4.2\n##contig=<ID=1>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t0001\n1\t5\t.\tA\tC\t.\t.\t.\tGT\t0|1\n"
    )
    vcf = pysam.tabix_index(str(plain), preset="vcf")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-0001\t60\n")
    cohort = read_cohort(genotypes=vcf, bold=tmp_path / "bold", participants=tmp_path / "participants.tsv")
    assert cohort.people.to_dict("list") == {"subject_id": ["0001"], "sample_id": ["0001"], "age": [60]}
    assert cohort.runs["run_id"].tolist() == ["sub-0001_task-rest_space-T"]


def test_read_cohort_joins_real_scans_and_genomes_by_their_pair_table(real_dir):
    cohort = read_cohort(
        genotypes=real_dir / "genotypes_chr20_b37/cohortA_300.phased.vcf.gz",
        pairs=real_dir / "artificial_pairs.tsv",
        mask=real_dir / "haxby2001_25mm/brain_mask.nii.gz",
        root=real_dir,
    )
    assert len(cohort.people) == len(cohort.runs) == 12 and cohort.people["sample_id"][0] == "HG00096"
    assert cohort.runs["run_id"].is_unique and cohort.runs["run_id"][0] == "sub001_task001_run001_bold_25mm"


def test_read_cohort_does_not_look_for_a_folder_of_scans_when_the_pair_table_names_them(real_dir, tmp_path):
    cohort = read_cohort(
        genotypes=real_dir / "genotypes_chr20_b37/cohortA_300.phased.vcf.gz",
        bold=tmp_path / "absent",
        pairs=real_dir / "artificial_pairs.tsv",
        root=real_dir,
    )
    assert len(cohort.runs) == 12


def test_read_scans_finds_the_runs_that_the_cohort_has_without_its_genomes(real_dir):
    settings = {
        "pairs": real_dir / "artificial_pairs.tsv",
        "mask": real_dir / "haxby2001_25mm/brain_mask.nii.gz",
        "root": real_dir,
    }
    cohort = read_cohort(genotypes=real_dir / "genotypes_chr20_b37/cohortA_300.phased.vcf.gz", **settings)
    pd.testing.assert_frame_equal(read_scans(**settings), cohort.runs)


def test_read_scans_takes_all_of_a_folder_or_the_people_of_the_pair_table(tmp_path):
    for name in ("sub-01_bold.nii.gz", "sub-02_run-2_bold.nii.gz", "sub-02_run-1_bold.nii.gz"):
        (tmp_path / "bold" / name[:6] / "func").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bold" / name[:6] / "func" / name).touch()
    assert read_scans(bold=tmp_path / "bold")["run_id"].tolist() == ["sub-01", "sub-02_run-1", "sub-02_run-2"]
    (tmp_path / "pairs.tsv").write_text("participant_id\tsample_id\nsub-02\tHG2\n")
    found = read_scans(bold=tmp_path / "bold", pairs=tmp_path / "pairs.tsv")
    assert found["subject_id"].tolist() == ["02", "02"] and list(found.index) == [0, 1]


def test_read_scans_lists_every_fault(tmp_path):
    (tmp_path / "pairs.tsv").write_text("participant_id\tsample_id\tbold_path\n01\tHG1\tx.nii\n02\tHG2\tn/a\n\tHG3\ty.nii\n")
    with pytest.raises(ValueError, match="faults found: 3\n") as error:
        read_scans(pairs=tmp_path / "pairs.tsv", root=tmp_path)
    for line in ("pairs: blank ids in data rows 3", "no scan for 1 of 2 people: 02", "scans: BOLD files that do not exist: "):
        assert f"\n  - {line}" in str(error.value)


def test_read_scans_needs_a_source():
    with pytest.raises(ValueError, match="expected a folder of scans, or a pair table with bold_path; got neither"):
        read_scans()


@pytest.fixture
def genotypes(tmp_path):
    """A VCF of sub-01, 02 and HG3."""
    plain = tmp_path / "cohort.vcf"
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=1>", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "sub-01", "02", "HG3"])]
    plain.write_text("\n".join([*lines, "\t".join(["1", "1", ".", "A", "C", ".", ".", ".", "GT", "0|1", "0|0", "1|1"]), ""]))
    pysam.tabix_compress(str(plain), f"{plain}.gz")
    pysam.tabix_index(f"{plain}.gz", preset="vcf")
    return Path(f"{plain}.gz")


def write_pairs(folder: Path, *pairs) -> Path:
    pair_table(*pairs).to_csv(folder / "pairs.tsv", sep="\t", index=False)
    return folder / "pairs.tsv"


def test_read_genomes_matches_ids_as_the_cohort_does_and_returns_them_as_the_file_writes_them(genotypes, tmp_path):
    assert read_genomes(genotypes=genotypes) == (["sub-01", "02", "HG3"], [])
    pairs = write_pairs(tmp_path, ("sub-c", "HG3"), ("b", "sub-02"), ("a", "01"))
    assert read_genomes(genotypes=genotypes, pairs=pairs) == (["sub-01", "02", "HG3"], [])


def test_read_genomes_lists_every_fault_or_drops_whom_the_file_lacks(genotypes, tmp_path):
    pairs = write_pairs(tmp_path, ("a", "01"), ("b", "HG9"), ("c", "HG8"))
    assert read_genomes(genotypes=genotypes, pairs=pairs, unmatched="drop") == (
        ["sub-01"],
        ["Left out: no genome for 2 of 3 people: b (sample HG9), c (sample HG8)"],
    )
    pairs = write_pairs(tmp_path, ("a", "01"), ("b", "01"), ("c", "HG8"), ("c", "HG8"))
    with pytest.raises(ValueError, match="faults found: 3") as caught:
        read_genomes(genotypes=genotypes, pairs=pairs)
    for fault in ("duplicated ids: c", "genomes that belong to two people: 01 (a, b)", "no genome for 1 of 3 people: c (sample"):
        assert fault in str(caught.value)
    with pytest.raises(ValueError, match=r"nobody is in all tables\n    3 with a genome: 01, 02, HG3\n    1 in pairs: a = HG7"):
        read_genomes(genotypes=genotypes, pairs=write_pairs(tmp_path, ("a", "HG7")))


def test_read_genomes_refuses_pairs_beside_an_id_map(genotypes, tmp_path):
    pairs = write_pairs(tmp_path, ("a", "01"))
    with pytest.raises(ValueError, match="either pairs or id_map names the genomes, got both"):
        read_genomes(genotypes=genotypes, pairs=pairs, id_map=pairs)

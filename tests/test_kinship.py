"""Tests of the kinship room: three programs' tables read alike, relatives joined by chains, and every fault listed."""

import gzip

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.kinship import families, families_of, family_shares, join_groups, read_kinship

KING = "FID1 ID1 FID2 ID2 N_SNP HetHet IBS0 Kinship\nf1 sub-01 f1 02 9000 0.1 0.01 0.2512\nf2 0003 f1 02 9000 0.1 0.01 -0.0130\n"
PLINK = "#FID1 IID1 FID2 IID2 NSNP HETHET IBS0 KINSHIP\nf1 01 f1 02 9000 0.1 0.01 0.2512\nf2 0003 f1 02 9000 0.1 0.01 -1.3e-2\n"
PLINK_SHORT = "#IID1 IID2 NSNP HETHET IBS0 KINSHIP\n01 02 9000 0.1 0.01 0.2512\n0003 02 9000 0.1 0.01 -0.013\n"
UKB = "ID1 ID2 HetHet IBS0 Kinship\n01 02 0.1 0.01 0.2512\n0003 02 0.1 0.01 -0.013\n"
WITHIN = "FID ID1 ID2 N_SNP Z0 Phi HetHet IBS0 Kinship Error\nf 01 02 1 0 0.25 0.1 0.01 0.2512 0\nf 0003 02 1 0 0 0 0 -0.013 0\n"


def pair_table(*pairs):
    return pd.DataFrame(pairs, columns=["id_1", "id_2", "kinship"])


@pytest.mark.parametrize("text", [KING, PLINK, PLINK_SHORT, UKB, WITHIN], ids=["king", "plink", "plink_short", "ukb", "within"])
@pytest.mark.parametrize("separator", ["\t", ",", " ", "   "])
@pytest.mark.parametrize("name", ["cohort.kin0", "rel.dat.gz"])
def test_read_kinship_reads_every_program_s_table_alike(tmp_path, text, separator, name):
    content = text.replace(" ", separator).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    table = read_kinship(tmp_path / name)
    assert table["id_1"].tolist() == ["01", "0003"] and table["id_2"].tolist() == ["02", "02"]
    assert table["kinship"].tolist() == [0.2512, -0.013]


def test_read_kinship_reads_aligned_columns_a_byte_order_mark_and_integer_ids(tmp_path):
    (tmp_path / "k.txt").write_text(
        "\ufeff   id1     ID2   KinShip \n 1000012 1000020   0.25 \n 1000031 1000012   0.5 \n", "utf-8"
    )
    assert read_kinship(tmp_path / "k.txt")["id_1"].tolist() == ["1000012", "1000031"]
    (tmp_path / "k.csv").write_text('"ID1", ID2, Kinship\n01, 02, 0.25\n')
    assert read_kinship(tmp_path / "k.csv").to_dict("list") == {"id_1": ["01"], "id_2": ["02"], "kinship": [0.25]}


def test_read_kinship_of_a_table_without_rows_is_a_cohort_without_relatives(tmp_path):
    (tmp_path / "k.kin0").write_text("ID1 ID2 Kinship\n")
    assert families(["b", "a"], read_kinship(tmp_path / "k.kin0")) == ["b", "a"]


def test_read_kinship_lists_every_fault(tmp_path):
    path = tmp_path / "k.tsv"
    path.write_text("ID1\tID2\tKinship\n1001.0\t02\t0.1\n\tsub-\tx\n03\t04\tnan\n05\t06\t0.511\n07\t08\t0.505\n")
    with pytest.raises(ValueError, match="faults found: 5\n") as error:
        read_kinship(path)
    for line in (
        "id_1: blank ids in data rows 2",
        "id_1: float ids, whose text is lost: 1001.0",
        "id_2: blank ids in data rows 2",
        "kinship that is no number: x in row 2, nan in row 3",
        "kinship above 0.5: 0.511 in row 4",
    ):
        assert f"\n  - {line}" in str(error.value)
    assert f"file: {path}\n  fix: correct these rows; a share of the genome (pi-hat, GRM) is twice" in str(error.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("ID1 ID2 PI_HAT", r"KINSHIP not found among 'ID1', 'ID2', 'PI_HAT'"),
        ("FID1 FID2 Kinship", r"IID1 or ID1, IID2 or ID2 not found among 'FID1', 'FID2', 'Kinship'"),
        ("", r"IID1 or ID1, IID2 or ID2, KINSHIP not found among nothing"),
    ],
)
def test_read_kinship_names_the_columns_that_it_does_not_find(tmp_path, header, message):
    (tmp_path / "k.kin0").write_text(f"{header}\n")
    with pytest.raises(ValueError, match=message):
        read_kinship(tmp_path / "k.kin0")


def test_read_kinship_refuses_a_missing_file_and_what_is_not_gzipped(tmp_path):
    with pytest.raises(FileNotFoundError, match="Kinship: expected a file, found none"):
        read_kinship(tmp_path / "k.kin0")
    (tmp_path / "k.kin0.gz").write_text(UKB)
    with pytest.raises(ValueError, match="Kinship: expected a gzipped file, got: Not a gzipped file"):
        read_kinship(tmp_path / "k.kin0.gz")


def test_read_kinship_refuses_rows_longer_than_the_header(tmp_path):
    (tmp_path / "k.tsv").write_text("ID1\tID2\tKinship\n1\t2\t0.1\t7\n")
    with pytest.raises(ValueError, match="expected whole rows of UTF-8 text, as long as the header"):
        read_kinship(tmp_path / "k.tsv")


def test_families_joins_chains_of_relatives_at_the_threshold_and_no_others():
    pairs = pair_table(("a", "c", 0.25), ("d", "c", 0.0442), ("d", "e", 0.0441), ("e", "e", 0.5))
    assert families(["e", "d", "c", "b", "a"], pairs) == ["e", "a", "a", "b", "a"]
    assert families(["a", "c", "d"], pairs, threshold=0.1) == ["a", "a", "d"]


def test_families_joins_nobody_through_somebody_outside_the_cohort():
    pairs = pair_table(("a", "outsider", 0.25), ("outsider", "b", 0.25), ("x", "y", 0.25))
    assert families(["a", "b", "c"], pairs) == ["a", "b", "c"]


def test_families_joins_known_groups_with_relatives():
    pairs = pair_table(("a", "b", 0.25))
    assert families(list("abcdef"), pairs, known_groups=["x", "y", "y", None, np.nan, "z"]) == ["a", "a", "a", "d", "e", "f"]


def test_families_are_the_components_that_a_naive_search_finds_whatever_the_order():
    generator = np.random.default_rng(4)
    ids = [f"{i:03d}" for i in range(150)]
    pairs = pair_table(*((*generator.choice(ids, 2).tolist(), float(k)) for k in generator.uniform(-0.05, 0.12, 150)))
    known = [None if i % 3 else f"site {i % 7}" if i < 40 else f"own {i}" for i in range(150)]
    label = {person: person for person in ids}
    links = [(a, b) for a, b, k in pairs.itertuples(index=False) if k >= 0.0442]
    links += [(ids[i], ids[j]) for i in range(150) for j in range(150) if known[i] is not None and known[i] == known[j]]
    changed = True
    while changed:
        changed = False
        for a, b in links:
            low = min(label[a], label[b])
            changed |= label[a] != low or label[b] != low
            label[a] = label[b] = low
    assert families(ids, pairs, known_groups=known) == [label[person] for person in ids]
    assert 3 < len(set(label.values())) < 150
    order = generator.permutation(150)
    shuffled = families([ids[i] for i in order], pairs[::-1], known_groups=[known[i] for i in order])
    assert shuffled == [label[ids[i]] for i in order]


def test_join_groups_joins_people_of_any_equal_label_and_keeps_equal_labels_of_two_lists_apart():
    family, site = ["f1", "f1", "f2", None, None, "s3"], ["s1", "s2", "s2", "s4", None, "s4"]
    assert join_groups(list("abcdeg"), family, site) == ["a", "a", "a", "d", "e", "d"]
    assert join_groups(list("ab"), [1, None], [None, 1]) == ["a", "b"]
    assert join_groups(list("ab"), [("f", None)] * 2) == join_groups(list("ab")) == ["a", "b"]


def test_families_shows_three_ids_of_each_side_when_none_is_in_common():
    with pytest.raises(ValueError, match="no id of the pairs is in the cohort") as error:
        families(["HG4", "HG1", "HG3", "HG2"], pair_table(("1", "2", 0.25)))
    assert "4 people in the cohort: HG1, HG2, HG3, … (4 in all)\n    2 people in the pairs: 1, 2\n" in str(error.value)


@pytest.mark.parametrize("threshold", [0, -0.1, 0.6, np.nan])
def test_families_refuses_a_threshold_that_cannot_be(threshold):
    with pytest.raises(ValueError, match=r"must be above 0 and at most 0\.5, got"):
        families(["a"], pair_table(), threshold)


def test_families_and_join_groups_refuse_repeated_people_and_labels_of_another_length():
    for call in (lambda: families(["a", "b", "a"], pair_table()), lambda: join_groups(["a", "b", "a"])):
        with pytest.raises(ValueError, match="one id a person, got repeated ones: a"):
            call()
    for call in (lambda: families(["a", "b"], pair_table(), known_groups=["x"]), lambda: join_groups(["a", "b"], ["x"])):
        with pytest.raises(ValueError, match="one label for each of 2 people, got 1"):
            call()


def test_families_of_joins_a_column_and_a_table_of_kinship(tmp_path):
    people = pd.DataFrame({"subject_id": ["01", "02", "0003", "04"], "family_id": ["a", None, "a", None]})
    (tmp_path / "rel.dat").write_text(UKB)
    assert families_of(people) == ["01", "02", "0003", "04"]
    assert families_of(people, ["family_id"]) == ["0003", "02", "0003", "04"]
    assert families_of(people, [], tmp_path / "rel.dat") == ["01", "01", "0003", "04"]
    assert families_of(people, ["family_id"], tmp_path / "rel.dat") == ["0003", "0003", "0003", "04"]
    half = people.assign(mother_id=["7", "8", None, "8"], father_id=["8", "9", None, None])
    assert families_of(half, ["mother_id", "father_id"]) == ["01", "02", "0003", "02"]
    with pytest.raises(ValueError, match="household"):
        families_of(people, ["household"])


def test_family_shares_are_twice_the_kinship_averaged_over_the_own_family(tmp_path):
    rows = ["a b 0.5", "c d 0.25", "d c 0.25", "c e 0.125", "c x 0.25", "g h 0.505", "g a 0.2", "i j -0.1"]
    (tmp_path / "k.kin0").write_text("\n".join(["ID1 ID2 Kinship", *rows]))
    people = pd.DataFrame({"subject_id": list("abcdefghij")})
    shares_N = family_shares(people, ["1", "1", "2", "2", "2", "3", "4", "4", "5", "5"], tmp_path / "k.kin0")
    assert shares_N.tolist() == [1, 1, 0.375, 0.25, 0.125, 0, 1, 1, 0, 0]  # d and e are no pair of the table, f is alone
    assert family_shares(people, list("1122233445"), None) is None
    with pytest.raises(ValueError, match="expected one label for each of 10 people, got 1"):
        family_shares(people, ["1"], tmp_path / "k.kin0")
    with pytest.raises(FileNotFoundError, match="Kinship: expected a file, found none"):
        family_shares(people, list("1122233445"), tmp_path / "none")


def test_family_shares_of_identical_twins_are_one_and_the_first_of_them_stands_for_all(tmp_path):
    rows = ["a b 0.48", "a c 0.26", "b c 0.24", "c d 0.1", "a d 0.1", "b d 0.1"]
    rows += ["e f 0.354", "g h 0.353", "i j 0.49", "j k 0.499"]
    (tmp_path / "k.kin").write_text("\n".join(["ID1 ID2 Kinship", *rows]))
    people = pd.DataFrame({"subject_id": list("abcdefghijk")})
    shares_N = family_shares(people, list("11112233444"), tmp_path / "k.kin")
    np.testing.assert_allclose(shares_N, [0.36, 1, (0.52 + 0.48 + 0.2) / 3, 0.2, 1, 1, 0.706, 0.706, 1, 1, 1])


def test_family_shares_take_half_where_columns_tell_a_family_of_which_the_table_lists_no_pair(tmp_path):
    people = pd.DataFrame({"subject_id": list("abcdefg"), "family_id": list("1122334")})
    (tmp_path / "k.kin0").write_text("FID1 ID1 FID2 ID2 Kinship\n1 b 2 c 0.125\n")  # KING's pairs between families alone
    labels = families_of(people, ["family_id"], tmp_path / "k.kin0")
    assert labels == ["a", "a", "a", "a", "e", "e", "g"]
    shares_N = family_shares(people, labels, tmp_path / "k.kin0", ["family_id"])
    np.testing.assert_allclose(shares_N, [0.5 / 3, 0.75 / 3, 0.75 / 3, 0.5 / 3, 0.5, 0.5, 0])
    alone = family_shares(people, list("1122334"), tmp_path / "k.kin0")
    np.testing.assert_allclose(alone, [0.5] * 6 + [0])
    (tmp_path / "all.kin0").write_text("ID1 ID2 Kinship\na b 0.25\ne f 0.01\n")
    listed = family_shares(people, list("1122334"), tmp_path / "all.kin0", ["family_id"])
    np.testing.assert_allclose(listed, [0.5, 0.5, 0.5, 0.5, 0.02, 0.02, 0])
    with pytest.raises(ValueError, match="clan"):
        family_shares(people, labels, tmp_path / "k.kin0", ["clan"])

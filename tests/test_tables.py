"""Tests of the tables room: files on disk in, clean ids or a complete complaint out."""

import gzip

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.tables import clean_ids, holds_numbers, is_blank, normalise_id, read_table


def write(path, text):
    path.write_text(text)
    return path


def test_normalise_id_keeps_zeros_and_strips_sub():
    assert [normalise_id(v) for v in ("sub-007", " 007 ", 7, "HG00096")] == ["007", "007", "7", "HG00096"]


@pytest.mark.parametrize("value", [1001.0, np.float32(3), "1001.0", "1.001e+06"])
def test_normalise_id_refuses_floats(value):
    with pytest.raises(ValueError, match="must be text or an integer"):
        normalise_id(value)


def test_clean_ids_names_every_kind_of_fault_at_once():
    ids, faults = clean_ids(["sub-1", "1", None, "2.0", "sub-", "3"])
    assert ids == ["1", "1", None, None, None, "3"]
    assert faults == ["blank ids in data rows 3, 5", "float ids, whose text is lost: 2.0", "duplicated ids: 1"]


def test_is_blank_looks_into_labels_of_several_columns():
    assert all(is_blank(label) for label in (None, np.nan, ("f", None)))
    assert not any(is_blank(label) for label in (("f", "site 1"), "", 0))


@pytest.mark.parametrize("name", ["p.tsv", "p.csv", "p.tsv.gz", "p.csv.gz", "P.TSV"])
def test_read_table_reads_ids_as_text_and_values_as_numbers(tmp_path, name):
    separator = "," if ".csv" in name else "\t"
    text = "participant_id\tage\tsex\tsample_id\nsub-0001\t61\tf\t0007\n0002\tn/a\tNone\t0008\n".replace("\t", separator)
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    table = read_table(path)
    assert table.participant_id.tolist() == ["0001", "0002"]
    assert table.sample_id.tolist() == ["0007", "0008"]
    assert table.age[0] == 61 and np.isnan(table.age[1])
    assert table.sex.tolist() == ["f", "None"]


def test_read_table_reads_a_byte_order_mark_and_another_id_column(tmp_path):
    path = tmp_path / "ukb.csv"
    path.write_bytes("\ufeffeid,31-0.0\n0100,1\n0200,0\n".encode())
    table = read_table(path, id_column="eid")
    assert table.eid.tolist() == ["0100", "0200"] and table["31-0.0"].tolist() == [1, 0]


def test_read_table_makes_parquet_integers_text(tmp_path):
    path = tmp_path / "p.parquet"
    pd.DataFrame({"participant_id": [1001, 1002], "sample_id": [5, 6], "age": [60.5, None]}).to_parquet(path)
    table = read_table(path)
    assert table.participant_id.tolist() == ["1001", "1002"] and table.sample_id.tolist() == ["5", "6"]
    assert table.age[0] == 60.5 and np.isnan(table.age[1])


def test_read_table_finds_the_id_that_pandas_kept_as_index(tmp_path):
    path = tmp_path / "p.parquet"
    pd.DataFrame({"age": [1, 2]}, index=pd.Index(["sub-a", "sub-b"], name="participant_id")).to_parquet(path)
    assert read_table(path).participant_id.tolist() == ["a", "b"]


def test_read_table_lists_a_parquet_blank_among_integers_as_blank_and_not_as_floats(tmp_path):
    path = tmp_path / "p.parquet"
    pd.DataFrame({"participant_id": pd.array([1001, None], dtype="Int64")}).to_parquet(path)
    with pytest.raises(ValueError, match=r"fault found: 1\n  - blank ids in data rows 2\n"):
        read_table(path)


def test_read_table_refuses_float_ids_of_parquet(tmp_path):
    path = tmp_path / "p.parquet"
    pd.DataFrame({"participant_id": [1001.0, 1002.0]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"float ids, whose text is lost: 1001\.0, 1002\.0"):
        read_table(path)


def test_read_table_lists_all_faulty_ids_in_one_error(tmp_path):
    path = write(tmp_path / "p.tsv", "participant_id\tage\nsub-01\t1\n01\t2\nn/a\t3\n1001.0\t4\n")
    with pytest.raises(ValueError, match=r"(?s)found: 3.*blank ids in data rows 3.*float ids.*1001.*duplicated ids: 01.*p\.tsv"):
        read_table(path)


def test_read_table_leaves_ids_as_they_stand_when_the_caller_checks_them(tmp_path):
    path = write(tmp_path / "p.tsv", "participant_id\tbold_path\nsub-01\ta\n01\tb\n")
    assert read_table(path, check_ids=False).participant_id.tolist() == ["sub-01", "01"]


def test_read_table_refuses_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none(?s:.*)absent\.tsv"):
        read_table(tmp_path / "absent.tsv")


@pytest.mark.parametrize("name", ["p.pkl", "p.pickle", "p.pkl.gz"])
def test_read_table_never_opens_a_pickle(tmp_path, name):
    with pytest.raises(ValueError, match=r"pickle runs code(?s:.*)to_parquet"):
        read_table(write(tmp_path / name, "x"))


@pytest.mark.parametrize("name", ["p.xlsx", "p", "p.parquet.gz"])
def test_read_table_refuses_an_unknown_suffix_and_lists_the_known(tmp_path, name):
    with pytest.raises(ValueError, match=r"unknown; known are \.tsv, \.csv"):
        read_table(write(tmp_path / name, "x"))


def test_read_table_lists_the_known_columns_when_the_id_column_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"column 'participant_id' is missing; the table has 'id', 'age'"):
        read_table(write(tmp_path / "p.tsv", "id\tage\n1\t2\n"))


def test_read_table_refuses_a_table_without_rows(tmp_path):
    with pytest.raises(ValueError, match="got none below the header"):
        read_table(write(tmp_path / "p.tsv", "participant_id\tage\n"))


def test_read_table_refuses_an_empty_file(tmp_path):
    with pytest.raises(ValueError, match="got an empty file"):
        read_table(write(tmp_path / "p.tsv", ""))


@pytest.mark.parametrize("rows", ["01\t1\n02\t2\t3\n", "01\t1\t5\n02\t2\t5\n"])
def test_read_table_refuses_rows_longer_than_the_header(tmp_path, rows):
    with pytest.raises(ValueError, match=r"as long as the header; got: .+"):
        read_table(write(tmp_path / "p.tsv", "participant_id\tage\n" + rows))


def test_read_table_refuses_a_truncated_gzip(tmp_path):
    path = tmp_path / "p.tsv.gz"
    whole = gzip.compress(("participant_id\tage\n" + "".join(f"s{i}\t{i * i}\n" for i in range(999))).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"expected whole rows(?s:.*)cut off"):
        read_table(path)


def test_read_table_refuses_a_file_that_is_not_parquet(tmp_path):
    with pytest.raises(ValueError, match=r"expected a Parquet file, got: .+"):
        read_table(write(tmp_path / "p.parquet", "participant_id\n1\n"))


def test_holds_numbers_takes_true_and_false_for_no_numbers():
    assert all(holds_numbers(pd.Series(values)) for values in ([1, 2], [0.5, None], pd.array([1, None], "Int64")))
    assert not any(holds_numbers(pd.Series(values)) for values in ([True, False], ["1", "2"]))

"""Tests of the cohort faults room: what a cohort of one modality does not need, and how gaps are told."""

import pandas as pd
import pytest

from brainmt_align.data.cohort_faults import check_arguments, check_tables, complain, describe_empty_join, find_gaps


def test_check_arguments_refuses_a_cohort_of_scans_without_any():
    nothing = {"participants": None, "pairs": None, "id_map": None}
    with pytest.raises(ValueError, match="expected a folder of scans, or a pair table with bold_path; got neither"):
        check_arguments(None, nothing, "error", "file", genomes=False)
    check_arguments(None, nothing, "error", "file", scans=False)


def test_check_tables_demands_samples_only_where_there_are_genomes():
    tables = {"participants": None, "pairs": pd.DataFrame({"participant_id": ["a"]}), "id_map": None}
    check_tables(tables, "error", genomes=False)
    with pytest.raises(ValueError, match="pairs needs the columns participant_id, sample_id; it has participant_id"):
        check_tables(tables, "error")
    with pytest.raises(ValueError, match="pairs needs the columns participant_id; it has id"):
        check_tables(tables | {"pairs": pd.DataFrame({"id": ["a"]})}, "error", genomes=False)


def test_find_gaps_and_describe_empty_join_tell_who_lacks_what():
    sample_of = {"a": "HG1", "b": "b"}
    assert find_gaps(sample_of, {"genome": set()}, ["c"]) == [
        "no genome for 2 of 2 people: a (sample HG1), b",
        "nobody in the other tables for 1 genomes: c",
    ]
    assert describe_empty_join({"scan": set()}, pd.DataFrame(), sample_of).endswith(
        "0 with a scan: none\n    2 in pairs: a = HG1, b"
    )


def test_complain_says_a_fault_once():
    with pytest.raises(
        ValueError, match="one scan or more, one genome and one row for everybody were expected; faults found: 1\n"
    ):
        complain(["no scan", "no scan"], paired=False)

"""Tests of the phenotype presets room: codes become words, answers that tell nothing are missing, and each misfit is named."""

import numpy as np
import pandas as pd
import pytest

from brainmt_align.data.phenotype_presets import (
    HCP,
    PRESETS,
    UK_BIOBANK,
    apply_preset,
    as_numbers,
    find_preset,
    read_participants,
    require_columns,
    unit_of,
)


def ukb(**columns):
    return pd.DataFrame({"eid": ["1000012", "1000020", "1000031"], **columns})


def values(table, name):
    return [None if pd.isna(value) else value for value in table[name]]


def test_apply_preset_gives_uk_biobank_columns_friendly_names_beside_their_own():
    raw = ukb(**{"31-0.0": [0, 1, np.nan], "21003-2.0": [60, 61, 62], "9999-0.0": [1, 2, 3], "22009-0.40": [0.5, -1, np.nan]})
    table = apply_preset(raw, "uk_biobank")
    assert list(table) == ["participant_id", "sex", "age", "genetic_pc_40", "31-0.0", "21003-2.0", "9999-0.0", "22009-0.40"]
    assert values(table, "participant_id") == ["1000012", "1000020", "1000031"]
    assert values(table, "sex") == ["Female", "Male", None]
    assert table["age"].dtype == "float64" and values(table, "genetic_pc_40") == [0.5, -1, None]
    pd.testing.assert_frame_equal(table[list(raw)[1:]], raw.drop(columns="eid"))


@pytest.mark.parametrize(
    "codes", [[-1, 7, -3], [-1.0, 7.0, -3.0], ["-1", "7", "-3"], ["Do not know", "7", "Prefer not to answer"]]
)
def test_apply_preset_takes_refused_answers_of_numbers_for_missing(codes):
    assert values(apply_preset(ukb(**{"1160-2.0": codes}), "uk_biobank"), "sleep_duration") == [None, 7, None]


@pytest.mark.parametrize(
    "codes",
    [
        [1, -3, 2],
        [1.0, -3.0, 2.0],
        ["1", "-3", " 2 "],
        ["1.0", "-3.0", "2.0"],
        pd.array([1, None, 2], dtype="Int64"),
        ["Previous", "Prefer not to answer", "Current"],
    ],
)
def test_apply_preset_translates_codes_however_the_table_holds_them(codes):
    assert values(apply_preset(ukb(**{"20116-2.0": codes}), "uk_biobank"), "smoking") == ["Previous", None, "Current"]


def test_apply_preset_keeps_categories_without_a_coding_as_codes():
    table = apply_preset(ukb(**{"54-2.0": [11025.0, np.nan, 11027.0], "21000-0.0": [1001, -1, -3]}), "uk_biobank")
    assert values(table, "site") == ["11025", None, "11027"] and values(table, "ethnic_background") == ["1001", None, None]


def test_apply_preset_reads_the_research_platform_s_column_names():
    table = apply_preset(ukb(p31=["Female", "Male", None], p21003_i2=[60, 61, 62], p22009_a3=[1, 2, 3]), "uk_biobank")
    assert list(table) == ["participant_id", "sex", "age", "genetic_pc_3", "p31", "p21003_i2", "p22009_a3"]


def test_apply_preset_takes_the_instance_that_is_asked_for_and_names_those_that_are_there():
    raw = ukb(**{"20016-0.0": [1, 2, 3], "20016-3.0": [4, 5, 6]})
    assert "fluid_intelligence" not in apply_preset(raw, "uk_biobank")
    assert values(apply_preset(raw, "uk_biobank", instance=3), "fluid_intelligence") == [4, 5, 6]
    with pytest.raises(
        ValueError, match=r"fluid_intelligence: column 20016-2\.0 is not there; the table has instance 0, 3 of it, not 2"
    ):
        apply_preset(raw, "uk_biobank", ["fluid_intelligence"])


def test_apply_preset_gives_hcp_columns_friendly_names():
    raw = pd.DataFrame(
        {
            "Subject": ["100206", "100307", "100408"],
            "Gender": ["M", "F", "M"],
            "Family_ID": ["0012", "56037_85858", " "],
            "ZygosityGT": ["MZ", " ", "DZ"],
            "CogTotalComp_AgeAdj": [107.9, np.nan, 120.0],
            "Age_in_Yrs": [27, 27, 33],
        }
    )
    table = apply_preset(raw, "hcp", ["cognition_total", "sex", "family_id", "zygosity", "age"])
    assert list(table)[:6] == ["participant_id", "cognition_total", "sex", "family_id", "zygosity", "age"]
    assert values(table, "sex") == ["Male", "Female", "Male"] and values(table, "family_id") == ["0012", "56037_85858", None]
    assert values(table, "zygosity") == ["MZ", None, "DZ"] and values(table, "cognition_total") == [107.9, None, 120.0]


def test_apply_preset_lists_every_fault():
    raw = ukb(**{"31-0.0": [0, 2, 2], "20116-2.0": ["Never", "x", None], "21003-2.0": ["60", "old", "inf"], "34-0.1": [1, 2, 3]})
    with pytest.raises(ValueError, match="does not fit uk_biobank; faults found: 5\n") as error:
        apply_preset(raw, "uk_biobank", ["sex", "smoking", "age", "year_of_birth", "fluid_inteligence"])
    for line in (
        "unknown name: fluid_inteligence (nearest: fluid_intelligence)",
        "year_of_birth: column 34-0.0 (nearest: 34-0.1, 31-0.0) is not there",
        "sex (31-0.0): values outside the coding 0 Female, 1 Male: '2' (2 people)",
        "smoking (20116-2.0): values outside the coding 0 Never, 1 Previous, 2 Current: 'x' (1 people)",
        "age (21003-2.0) must hold numbers, got other values for 2 of 3 people: 'old' of 1000020, 'inf' of 1000031",
    ):
        assert f"\n  - {line}" in str(error.value)


def test_apply_preset_refuses_names_that_the_table_has_already():
    with pytest.raises(ValueError, match="names that the table has already: participant_id, age"):
        apply_preset(ukb(**{"21003-2.0": [1, 2, 3], "age": 3, "participant_id": 1}), "uk_biobank")


def test_apply_preset_refuses_a_table_without_the_study_s_ids():
    with pytest.raises(ValueError, match=r"unknown columns: Subject \(nearest: subject\)"):
        apply_preset(pd.DataFrame({"subject": ["1"], "Gender": ["M"]}), "hcp")


def test_find_preset_names_the_known_ones():
    assert find_preset("hcp") is HCP
    with pytest.raises(ValueError, match="expected one of uk_biobank, hcp, got 'abcd'"):
        find_preset("abcd")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_are_whole(preset):
    sources = [field.source for field in preset.fields.values()]
    assert len(set(sources)) == len(sources)
    for field in preset.fields.values():
        assert field.kind in ("number", "category", "text") and (field.coding is None or field.kind == "category")
        assert not {*field.missing} & {*(field.coding or ())}
    assert {f"genetic_pc_{k}" for k in range(1, 41)} <= set(UK_BIOBANK.fields)


def test_read_participants_keeps_ids_and_text_as_they_are_written_and_tells_of_other_instances(tmp_path):
    (tmp_path / "hcp.csv").write_text("Subject,Family_ID,Mother_ID,Gender\n0100206,0012,7,M\n100307,0013,n/a,F\n")
    found = read_participants(tmp_path / "hcp.csv", "hcp")
    assert values(found.table, "participant_id") == ["0100206", "100307"] and found.notes == []
    assert values(found.table, "family_id") == ["0012", "0013"] and values(found.table, "mother_id") == ["7", None]
    (tmp_path / "ukb.csv").write_text("eid,20016-0.0,20016-1.0,31-0.0\n1000012,3,4,1\n")
    found = read_participants(tmp_path / "ukb.csv", "uk_biobank")
    expected = "column 20016-2.0 is not there; the table has instance 0, 1 of it, not 2"
    assert found.notes == [f"fluid_intelligence left out: {expected}"] and values(found.table, "sex") == ["Male"]
    assert read_participants(tmp_path / "ukb.csv", "uk_biobank", instance=1).notes == []
    with pytest.raises(ValueError, match="column 'Subject' is missing"):
        read_participants(tmp_path / "ukb.csv", "hcp")


def test_require_columns_names_the_nearest():
    table = pd.DataFrame(columns=["subject_id", "age", "fluid_intelligence", "BMI", "20016-0.0"])
    require_columns(table, ["age", "BMI"])
    with pytest.raises(ValueError, match="Table: unknown columns: ") as error:
        require_columns(table, ["age", "fluid_inteligence", "bmi", "20016-2.0", "zzz"])
    listed = "fluid_inteligence (nearest: fluid_intelligence); bmi (nearest: BMI); 20016-2.0 (nearest: 20016-0.0); zzz.\n"
    assert listed in str(error.value)
    assert "where: a table of 5 columns: subject_id, age, fluid_intelligence, BMI, 20016-0.0\n" in str(error.value)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 2], [1, 2]),
        (["1", " 2.5e1 "], [1, 25]),
        (["", None], [None, None]),
        ([True, False], [1, 0]),
        (pd.array([3, None], dtype="Int64"), [3, None]),
        (pd.Categorical(["1", "2"]), [1, 2]),
        ([np.nan, 2.5], [None, 2.5]),
    ],
)
def test_as_numbers_reads_what_is_a_number(column, expected):
    numbers = as_numbers(pd.DataFrame({"subject_id": ["a", "b"], "x": column}), "x")
    assert numbers.dtype == "float64" and [None if np.isnan(each) else each for each in numbers] == expected


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (["1", "high", None], r"1 of 3 people: 'high' of b"),
        ([1.0, np.inf, np.nan], r"1 of 3 people: 'inf' of b"),
        (["1,5", "2", "f"], r"2 of 3 people: '1,5' of a, 'f' of c"),
        (pd.to_datetime(["2020-01-01", None, None]), r"1 of 3 people: '2020-01-01[^']*' of a"),
    ],
)
@pytest.mark.parametrize("id_column", ["subject_id", "participant_id"])
def test_as_numbers_names_the_first_values_that_are_none_and_their_people(column, shown, id_column):
    table = pd.DataFrame({id_column: ["a", "b", "c"], "score": column})
    with pytest.raises(ValueError, match=f"score must hold numbers, got other values for {shown}"):
        as_numbers(table, "score")


def test_as_numbers_refuses_an_unknown_column():
    with pytest.raises(ValueError, match=r"unknown columns: scores \(nearest: score\)"):
        as_numbers(pd.DataFrame({"score": [1]}), "scores")


def test_unit_of_knows_the_units_of_presets_alone():
    assert unit_of("uk_biobank", "age") == "years"
    assert unit_of("uk_biobank", "sex") is None and unit_of("hcp", "nothing") is None and unit_of(None, "age") is None

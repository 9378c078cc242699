"""Tests of the room `plink_tables`: `.bim` and `.fam` tables flow in; variants in order, ids as text, and every refusal."""

from pathlib import Path

import pytest

from brainmt_align.data.plink_tables import name_contig, read_ids, read_variants


def write(folder: Path, text: str) -> Path:
    path = folder / "table.bim"
    path.write_text(text)
    return path


def test_read_variants_sorts_by_contig_and_position_and_keeps_the_order_of_lines_within(tmp_path):
    lines = ["2 b 0 7 A C", "1 a 0.5 9 AT a", "2 c 0 3 g T", "2\t d 0 7 A CCC", "0 e 0 5 A C", "1 f 0 -4 A C"]
    found = read_variants(write(tmp_path, "\n".join(lines) + "\n"))
    assert (found.total, found.unplaced) == (6, 2)
    assert found.slices == {"2": slice(0, 3), "1": slice(3, 4)}
    assert found.lines.tolist() == [2, 0, 3, 1]
    assert found.positions.tolist() == [2, 6, 6, 8]
    assert found.reaches.tolist() == [1, 1, 3, 2]
    assert found.a1.tolist() == ["G", "A", "A", "AT"] and found.a2.tolist() == ["T", "C", "CCC", "A"]
    assert found.ids.tolist() == ["c", "b", "d", "a"]
    assert found.find("2", 8, 20).tolist() == [2] and found.find("2", 9, 20).tolist() == []
    assert found.find("2", 0, 7).tolist() == [0, 1, 2] and found.find("1", 9, 10).tolist() == [3]


def test_read_variants_keeps_names_that_look_like_numbers_quotes_or_gaps(tmp_path):
    found = read_variants(write(tmp_path, '01 "NA 0 5 1 2\n01 007 0 6 NA 0\n'))
    assert list(found.slices) == ["01"] and found.ids.tolist() == ['"NA', "007"]
    assert found.a1.tolist() == ["1", "NA"] and found.a2.tolist() == ["2", "0"]


def test_read_variants_may_find_none_that_has_a_place(tmp_path):
    found = read_variants(write(tmp_path, "0 a 0 5 A C\nchr0 b 0 5 A C\n"))
    assert (found.total, found.unplaced, found.slices) == (2, 2, {})


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("23", "X"),
        ("25", "X"),
        ("XY", "X"),
        ("PAR1", "X"),
        ("24", "Y"),
        ("26", "MT"),
        ("MT", "MT"),
        ("20", "20"),
        ("chr20", "chr20"),
    ]
    + [("chr23", "chrX"), ("chrXY", "chrX"), ("chr26", "chrM"), ("chrM", "chrM"), ("X", "X"), ("GL000191.1", "GL000191.1")],
)
def test_name_contig_writes_letters_for_plinks_numbers(name, letters):
    assert name_contig(name) == letters


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("1 a 0 5 A C\n1 b 0 6 A\n", "fewer in line 2"),
        ("1 a 0 5 A C\n1 b 0 6 A C G T\n", "Error tokenizing data.*line 2, saw 8"),
        ("1 a 0 5 A C G\n", "more in line 1"),
        ("1 a 0 5 A C\n1 a 0 5 A C G\n", "more in line 2"),
        ("1 a 5 A C\n", "invalid literal|not convert|Unable"),
        ("1 a 0 5.5 A C\n", "5.5|float"),
        ("1 a 0 five A C\n", "five"),
        ("", "no line"),
    ],
)
def test_read_variants_refuses_another_form(tmp_path, text, got):
    message = (
        rf"a table of 6 columns without header \(chromosome, .*\) is expected, got: .*({got}).*\n  file: .*table\.bim\n  fix: "
    )
    with pytest.raises(ValueError, match=message):
        read_variants(write(tmp_path, text))


def test_read_ids_keeps_text(tmp_path):
    assert read_ids(write(tmp_path, "f 007 0 0 1 -9\nf NA 0 0 2 -9\n")) == ["007", "NA"]


def test_read_ids_refuses_ids_that_several_families_use(tmp_path):
    with pytest.raises(ValueError, match=r"got 1 under several FIDs, e\.g\. 1 under f, g\.\n  file: .*\n  fix: give each person"):
        read_ids(write(tmp_path, "g 1 0 0 1 -9\nf 1 0 0 2 -9\n"))

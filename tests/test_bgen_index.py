"""Tests of the room `bgen_index`: indices as bgenix writes them flow in; places of records and every refusal are checked."""

import pytest

from brainmt_align.data.bgen_index import BGENIndex
from tests.bgen_files import Site, change_index, index_bgen, write_bgen

ROW = [[1, 0, 0, 1]]


@pytest.fixture
def path(tmp_path):
    sites = [Site(100, "A C", ROW), Site(110, "ACGTACGTAC A", ROW), Site(110, "A G", ROW), Site(118, "G T", ROW)]
    return write_bgen(tmp_path / "a.bgen", sites)


def positions(path, start, end, chromosome="20"):
    index = BGENIndex(path)
    found = [(row.position, row.first_allele) for row in index.find(chromosome, start, end)]
    index.close()
    return found


def test_find_gives_records_that_reach_into_the_region(path):
    assert positions(path, 0, 1000) == [(100, "A"), (110, "ACGTACGTAC"), (110, "A"), (118, "G")]
    assert positions(path, 99, 100) == [(100, "A")]
    assert positions(path, 100, 109) == []
    assert positions(path, 110, 111) == [(110, "ACGTACGTAC")]
    assert positions(path, 118, 119) == [(110, "ACGTACGTAC")]
    assert positions(path, 119, 1000) == []
    assert positions(path, 0, 1000, "21") == []


def test_index_names_chromosomes_once_and_sorted(path):
    change_index(path, "INSERT INTO Variant SELECT '03', position, rsid, 2, 'A', 'C', file_start_position, 9 FROM Variant;")
    index = BGENIndex(path)
    assert index.chromosomes == ["03", "20"]
    index.close()


def test_index_without_what_old_versions_lack_is_read(path):
    change_index(path, "DROP TABLE Metadata;")
    assert len(positions(path, 0, 1000)) == 4


def test_index_of_an_empty_table_has_no_chromosomes(path):
    change_index(path, "DELETE FROM Variant;")
    assert BGENIndex(path).chromosomes == []


def test_index_that_is_absent_is_refused_with_the_command_that_makes_it(path):
    (path.parent / "a.bgen.bgi").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"an index \(\.bgen\.bgi\) is expected.*\n  file: .*\n  fix: bgenix -g .*a\.bgen -index"
    ):
        BGENIndex(path)


def test_index_that_is_none_is_refused(path):
    (path.parent / "a.bgen.bgi").write_text("no database, though of some length" * 50)
    with pytest.raises(
        ValueError, match=r"an index as bgenix writes it is expected, got .*not a database.*\n  file: .*bgi\n  fix: bgenix"
    ):
        BGENIndex(path)


def test_index_without_the_table_of_variants_is_refused(path):
    change_index(path, "DROP TABLE Variant;")
    with pytest.raises(ValueError, match=r"an index as bgenix writes it is expected, got .*no such table"):
        BGENIndex(path)


def test_index_of_another_file_is_refused(path):
    index = (path.parent / "a.bgen.bgi").read_bytes()
    write_bgen(path, [Site(100, "A C", ROW)])
    (path.parent / "a.bgen.bgi").write_bytes(index)
    with pytest.raises(ValueError, match=r"BGEN that its index was made of is expected, .*the index is of another file"):
        BGENIndex(path)


def test_index_of_a_file_that_was_cut_is_refused(tmp_path):
    path = write_bgen(tmp_path / "a.bgen", [Site(at, "A C", ROW) for at in range(1, 100)])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"of [\d,]+ bytes, got one of [\d,]+ bytes \(a cut copy, or one changed since\)"):
        BGENIndex(path)


def test_find_refuses_records_beyond_the_end_of_the_file(path):
    change_index(path, "DROP TABLE Metadata;")
    path.write_bytes(path.read_bytes()[:-10])
    assert positions(path, 99, 100) == [(100, "A")]
    with pytest.raises(
        ValueError, match=r"bytes or more are expected by the index, got .*cut short or the index is of another file"
    ):
        positions(path, 99, 118)


def test_find_refuses_a_record_that_stands_twice(path):
    change_index(path, "INSERT INTO Variant SELECT chromosome, position, 'b', 2, 'A', 'C', file_start_position, 9 FROM Variant;")
    with pytest.raises(ValueError, match=r"every record is expected once in the index, got one twice in 91-120"):
        positions(path, 90, 120)
    index_bgen(path)
    assert len(positions(path, 90, 120)) == 4


def test_find_sorts_by_position_when_the_bgen_is_not_sorted(tmp_path):
    site = Site(8, "A T", [[0, 1, 0, 1]])
    path = write_bgen(tmp_path / "a.bgen", [site, site._replace(position=3), site._replace(position=3, alleles="A G")])
    index = BGENIndex(path)
    found = index.find("20", 0, 10)
    index.close()
    assert [(row.position, row.second_allele) for row in found] == [(3, "T"), (3, "G"), (8, "T")]

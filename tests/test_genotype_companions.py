"""Tests of the room `genotype_companions`: the files beside genotypes, of those that are there."""

import pytest

from brainmt_align.data.genotype_companions import find_companions


@pytest.mark.parametrize(
    ("name", "beside", "expected"),
    [
        ("a.b.pgen", ["a.b.pvar", "a.b.pvar.zst", "a.b.psam", "a.psam"], {"pvar": "a.b.pvar", "psam": "a.b.psam"}),
        ("a.pgen", ["a.pvar.zst"], {"pvar": "a.pvar.zst"}),
        ("a.bgen", ["a.bgen.bgi", "a.sample"], {"bgi": "a.bgen.bgi", "sample": "a.sample"}),
        ("a.bed", ["a.bim", "a.fam"], {"bim": "a.bim", "fam": "a.fam"}),
        ("a.vcf.gz", ["a.vcf.gz.tbi", "a.vcf.gz.csi", "a.fam"], {"index": "a.vcf.gz.csi"}),
        ("a.bcf", [], {}),
    ],
)
def test_find_companions_names_what_is_there(tmp_path, name, beside, expected):
    for each in beside:
        (tmp_path / each).touch()
    assert {kind: path.name for kind, path in find_companions(tmp_path / name).items()} == expected


@pytest.mark.parametrize(("name", "kind"), [("a.pgen", "psam"), ("a.bgen", "sample"), ("a.bed", "fam")])
def test_find_companions_takes_the_people_of_the_file_that_is_named(tmp_path, name, kind):
    for each in (f"a.{kind}", "other.txt"):
        (tmp_path / each).touch()
    assert find_companions(tmp_path / name, tmp_path / "other.txt") == {kind: tmp_path / "other.txt"}
    assert find_companions(tmp_path / name, tmp_path / "absent.txt") == {}

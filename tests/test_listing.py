"""Room under test: brainmt_align/listing.py. In: many names or faults. Out: the few that a message shows."""

from brainmt_align.listing import list_faults, nearest_names, some, some_with_nearest, with_nearest


def test_some_counts_what_it_leaves_out():
    assert some(["a", "b"], 2) == "a, b"
    assert some(["a", "b", "c"], 2) == "a, b, … (3 in all)"


def test_list_faults_shows_ten_and_counts_the_others():
    assert list_faults(["a"]) == "  - a\n"
    lines = list_faults([str(i) for i in range(13)]).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "  - … and 3 more"
    assert list_faults(["a", "b", "c"], limit=3) == "  - a\n  - b\n  - c\n"


def test_nearest_names_finds_them_in_any_case_and_spells_them_as_known():
    assert nearest_names("apoe", ["BDNF", "APOE", "Apoe"]) == ["APOE"]
    assert nearest_names("zzz", ["age", "sex"]) == []
    assert len(nearest_names("zzz", ["age", "sex", "site", "height"], cutoff=0.0)) == 3


def test_with_nearest_names_what_may_have_been_meant_where_anything_may():
    assert with_nearest("Agee", ["age", "height"]) == "Agee (nearest: age)"
    assert with_nearest("x", ["age"]) == "x"


def test_some_with_nearest_counts_what_it_leaves_out():
    assert some_with_nearest(["AGE", "x", "y"], ["age"], limit=2) == "AGE (nearest: age), x, … (3 in all)"

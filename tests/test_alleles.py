"""Tests of the room `alleles`: names of contigs and samples flow in; matches and every refusal are checked."""

import logging
from pathlib import Path

import numpy as np
import pytest

from brainmt_align.data.alleles import Alleles, choose_samples, match_contig, sort_records, take_records


def test_match_contig_exchanges_chr_only_when_the_exact_name_is_absent(caplog):
    with caplog.at_level(logging.INFO):
        assert match_contig("20", ["20", "chr20"], Path("x")) == "20"
        assert match_contig("chr20", ["20", "chr20"], Path("x")) == "chr20"
        assert not caplog.records
        assert match_contig("20", ["chr20"], Path("x")) == "chr20"
        assert match_contig("chr20", ["20"], Path("x")) == "20"
    assert "chr20 is read as 20 of x" in caplog.text


def test_match_contig_lists_known_names_and_never_takes_chrM_for_MT():
    with pytest.raises(ValueError, match=r"Contig MT is not in the file; known are: chrM, a, b, c, d … \(6 in all\)"):
        match_contig("MT", ["chrM", "a", "b", "c", "d", "e"], Path("x"))


def test_choose_samples_keeps_the_order_of_the_request_and_takes_all_without_one():
    assert choose_samples(["c", "a"], ["a", "b", "c"], Path("x")) == ["c", "a"]
    assert choose_samples(None, ("a", "b"), Path("x")) == ["a", "b"]


def test_choose_samples_refuses_samples_that_the_file_repeats():
    with pytest.raises(ValueError, match=r"every sample is expected once in the file, got 1 of them more often, e\.g\. b"):
        choose_samples(["a"], ["a", "b", "b"], Path("x"))


def test_take_records_chooses_along_every_axis_of_variants():
    calls_SV = np.arange(6).reshape(2, 3)
    alleles = Alleles(
        positions=np.array([5, 7, 9]),
        stops=np.array([6, 9, 10]),
        refs=["A", "CG", "T"],
        alts=[("C",), (), ("G", "A")],
        ids=["a", "b", "c"],
        alleles=np.arange(12).reshape(2, 2, 3),
        phased=calls_SV > 2,
        haploid=calls_SV > 4,
        samples=["anna", "ben"],
        dosages=calls_SV / 3,
    )
    found = take_records(alleles, np.array([2, 0]))
    assert (found.refs, found.alts, found.ids, found.samples) == (["T", "A"], [("G", "A"), ("C",)], ["c", "a"], ["anna", "ben"])
    assert found.positions.tolist() == [9, 5] and found.stops.tolist() == [10, 6] and found.phase_sets is None
    for key in ("alleles", "phased", "haploid", "dosages"):
        np.testing.assert_array_equal(getattr(found, key), getattr(alleles, key)[..., [2, 0]])
    sets = take_records(alleles._replace(phase_sets=calls_SV, dosages=None), np.array([1]))
    assert sets.phase_sets.tolist() == [[1], [4]] and sets.dosages is None


def test_sort_records_keeps_the_order_of_one_position_and_returns_what_is_sorted_as_it_is():
    flags_SV = np.zeros((1, 4), dtype=bool)
    positions = np.array([7, 5, 7, 5])
    sites = positions, positions + 1, list("ACGT"), [()] * 4, list("wxyz")
    alleles = Alleles(*sites, np.arange(8).reshape(1, 2, 4), flags_SV, flags_SV, ["anna"])
    found = sort_records(alleles)
    assert found.positions.tolist() == [5, 5, 7, 7] and found.ids == ["x", "z", "w", "y"] and found.refs == list("CTAG")
    assert found.alleles[0].tolist() == [[1, 3, 0, 2], [5, 7, 4, 6]]
    assert sort_records(found) is found

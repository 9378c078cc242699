"""Tests of the room `allele_orientation`: records in any order of their alleles flow in; REF is what the FASTA spells."""

import numpy as np
import pytest

from brainmt_align.data.allele_orientation import orient
from brainmt_align.data.alleles import Alleles
from brainmt_align.data.haplotype_sources import HaplotypeSources
from tests.bed_files import Triple, write_triple
from tests.haplotype_files import Variant, write_files

BASES = "ACGTTTGACA"  # from position 100 on
START = 100


def make_alleles(records: list[tuple], phased: bool = False, ref_known: bool = False, dosages=None) -> Alleles:
    """Records as (position, alleles, calls of two people)."""
    numbers_S2V = np.array([calls for _, _, calls in records], dtype=np.int8).transpose(1, 2, 0)
    positions = np.array([position for position, _, _ in records], dtype=np.int64)
    calls_SV = np.full((numbers_S2V.shape[0], len(records)), phased)
    return Alleles(
        positions=positions,
        stops=positions + [len(spelled[0]) for _, spelled, _ in records],
        refs=[spelled[0] for _, spelled, _ in records],
        alts=[tuple(spelled[1:]) for _, spelled, _ in records],
        ids=["."] * len(records),
        alleles=numbers_S2V,
        phased=calls_SV | (numbers_S2V[:, 0] == numbers_S2V[:, 1]),
        haploid=np.zeros_like(calls_SV),
        samples=["anna", "ben"],
        dosages=dosages,
        ref_known=None if ref_known else np.zeros(len(records), dtype=bool),
    )


def spell(alleles: Alleles, v: int) -> list[list[str]]:
    """Both alleles of every person by letters."""
    letters = [alleles.refs[v], *alleles.alts[v], "missing"]
    return [[letters[number] for number in call] for call in alleles.alleles[:, :, v].tolist()]


CALLS = [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("position", "spelled", "order", "swapped", "undecided"),
    [
        (100, ("A", "G"), ("A", "G"), 0, 0),  # REF as it is
        (100, ("G", "A"), ("A", "G"), 1, 0),
        (102, ("GA", "G"), ("G", "GA"), 1, 0),  # an insertion, told by the base behind it
        (103, ("T", "TT"), ("T", "TT"), 0, 1),  # both are spelled
        (103, ("TT", "T"), ("TT", "T"), 0, 1),
        (100, ("T", "G"), ("T", "G"), 0, 0),  # neither is spelled
        (101, ("C", "<DEL>"), ("C", "<DEL>"), 0, 0),
        (101, ("<DEL>", "C"), ("C", "<DEL>"), 1, 0),
        (107, ("G", "T", "A"), ("A", "G", "T"), 1, 0),  # several ALT alleles
        (103, ("C", "T", "TT"), ("C", "T", "TT"), 0, 1),
        (109, ("AT", "A"), ("A", "AT"), 1, 0),  # the contig ends behind A
        (99, ("G", "A"), ("G", "A"), 0, 0),  # before the bases
        (90, ("A", "C"), ("A", "C"), 0, 0),
    ],
)
def test_orient_puts_the_one_allele_that_the_fasta_spells_first(position, spelled, order, swapped, undecided):
    before = make_alleles([(position, spelled, CALLS)], phased=True)
    found = orient(before, BASES, START)
    assert (found.alleles.refs[0], *found.alleles.alts[0]) == order
    assert (found.swapped, found.undecided_V.tolist()) == (swapped, [bool(undecided)])
    assert found.alleles.stops.tolist() == [position + len(order[0])]
    assert spell(found.alleles, 0) == spell(before, 0)


def test_orient_keeps_missing_and_phase_and_changes_no_input():
    before = make_alleles([(100, ("G", "A"), [[1, 0], [-1, 1]]), (107, ("G", "T", "A"), [[2, 0], [-1, -1]])], phased=True)
    kept = before.alleles.copy()
    found = orient(before, BASES, START)
    assert found.swapped == 2
    assert found.alleles.alleles.transpose(2, 0, 1).tolist() == [[[0, 1], [-1, 0]], [[0, 1], [-1, -1]]]
    np.testing.assert_array_equal(found.alleles.phased, before.phased)
    np.testing.assert_array_equal(before.alleles, kept)
    assert before.refs == ["G", "G"]


def test_orient_gives_unphased_heterozygotes_the_same_order_from_either_file():
    written = make_alleles([(100, ("A", "G"), [[0, 1], [1, 1]])])
    other = make_alleles([(100, ("G", "A"), [[0, 1], [0, 0]])])
    np.testing.assert_array_equal(orient(other, BASES, START).alleles.alleles, orient(written, BASES, START).alleles.alleles)


def test_orient_turns_dosages_of_swapped_records_round():
    records = [(100, ("G", "A"), CALLS), (100, ("A", "G"), CALLS), (107, ("G", "T", "A"), CALLS)]
    dosages = np.array([[0.25, 0.5, 1], [np.nan, 2, 0]], dtype=np.float32)
    found = orient(make_alleles(records, dosages=dosages), BASES, START).alleles.dosages
    np.testing.assert_array_equal(found, np.array([[1.75, 0.5, np.nan], [np.nan, 2, np.nan]], dtype=np.float32))
    np.testing.assert_array_equal(dosages[:, 0], np.float32([0.25, np.nan]))


def test_orient_changes_nothing_where_the_file_knows_its_reference():
    before = make_alleles([(100, ("G", "A"), CALLS), (103, ("T", "TT"), CALLS)], ref_known=True)
    found = orient(before, BASES, START)
    assert (found.alleles, found.swapped) == (before, 0) and not found.undecided_V.any()


def test_orient_leaves_records_alone_whose_reference_is_known_beside_others():
    records = [(100, ("G", "A"), CALLS), (100, ("G", "A"), CALLS), (103, ("T", "TT"), CALLS), (103, ("T", "TT"), CALLS)]
    found = orient(make_alleles(records)._replace(ref_known=np.array([True, False, True, False])), BASES, START)
    assert found.alleles.refs == ["G", "A", "T", "T"]
    assert (found.swapped, found.undecided_V.tolist()) == (1, [False, False, False, True])


def test_orient_is_indifferent_to_the_files_order_wherever_it_decides():
    rng = np.random.default_rng(4)
    bases = "".join(rng.choice(list("ACGT"), 400))
    decided = 0
    for _ in range(200):
        position = int(rng.integers(0, 380))
        others = ["".join(rng.choice(list("ACGT"), rng.integers(1, 4))) for _ in range(rng.integers(1, 4))]
        spelled = list(dict.fromkeys([bases[position : position + rng.integers(1, 4)], *others]))
        calls = rng.integers(-1, len(spelled), (2, 2))
        order = rng.permutation(len(spelled))
        place = {int(old): new for new, old in enumerate(order)} | {-1: -1}
        shuffled = [[place[int(number)] for number in call] for call in calls]
        one = orient(make_alleles([(position, spelled, calls)], phased=True), bases, 0)
        two = orient(make_alleles([(position, [spelled[n] for n in order], shuffled)], phased=True), bases, 0)
        assert one.undecided_V.tolist() == two.undecided_V.tolist()
        assert spell(one.alleles, 0) == spell(two.alleles, 0)
        if not one.undecided_V.any():
            decided += 1
            assert one.swapped == 0
            assert two.alleles.refs == one.alleles.refs and set(two.alleles.alts[0]) == set(one.alleles.alts[0])
    assert decided > 100


def test_sources_read_the_same_from_a_bed_with_its_alleles_either_way_round(tmp_path):
    reference = "ACGTACGTAGGCCTTAACGATCGATTTACG"
    variants = [
        Variant(4, "A", ("T",), ("0/0", "0/1")),
        Variant(8, "A", ("AC",), ("1/1", "0/1")),
        Variant(20, "T", ("G",), ("0/1", "./.")),
    ]
    files = write_files(tmp_path, reference, variants)
    alleles = [("T", "A"), ("AC", "A"), ("G", "T")]
    count_SV = [[0, 2, 1], [1, 1, -127]]
    as_is = write_triple(tmp_path / "as_is.bed", Triple([5, 9, 21], alleles, count_SV))
    turned = [[count if count < 0 else 2 - count for count in row] for row in count_SV]
    other = write_triple(tmp_path / "other.bed", Triple([5, 9, 21], [pair[::-1] for pair in alleles], turned))
    for start, end, turned_round in ((0, 30, 3), (9, 30, 2), (10, 21, 1)):  # AC of the second reaches base 9, its REF does not
        found = []
        for path in (files.genotypes, as_is, other):
            with HaplotypeSources(path, files.reference, [("1", start, end, "A")]) as sources:
                found.append(sources.read(sources.regions[0]))
        for source, swapped in zip(found, (0, 0, turned_round), strict=True):
            assert source.alleles.refs == found[0].alleles.refs and source.alleles.alts == found[0].alleles.alts
            np.testing.assert_array_equal(source.alleles.stops, found[0].alleles.stops)
            np.testing.assert_array_equal(source.alleles.alleles, found[0].alleles.alleles)
            assert source.bases[: end - start] == reference[start:end]
            assert source.swapped == swapped and not source.undecided_V.any()

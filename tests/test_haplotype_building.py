"""Tests of the room `haplotype_building`: edits flow in; strings, skips and indels are compared with plain string work."""

import random

import numpy as np
import pytest

from brainmt_align.data import haplotype_building
from brainmt_align.data.haplotype_building import Edit, spell
from brainmt_align.data.haplotype_coordinates import Part, map_coordinates


def naive(reference: str, edits: list[Edit]) -> tuple[str, int]:
    """One sequence piece by piece, and how many edits overlap one before them."""
    pieces, done, skipped, after_insertion = [], 0, 0, False
    for start, stop, alt, anchored in edits:
        touches = start == done - 1 and anchored and not after_insertion
        if start < done and not touches:
            skipped += 1
            continue
        pieces += [alt[1:]] if touches else [reference[done:start], alt]
        done, after_insertion = stop, len(alt) > stop - start
    return "".join([*pieces, reference[done:]]), skipped


def random_edits(rng: random.Random, length: int) -> list[Edit]:
    edits = []
    for start in sorted(rng.choices(range(length), k=12)):
        stop = min(start + rng.choice([1, 1, 2, 5]), length)
        alt = "".join(rng.choices("ACGT", k=rng.choice([1, 1, 3])))
        edits.append(Edit(start, stop, alt, rng.random() < 0.5))
    return edits


@pytest.mark.parametrize("chunk", [haplotype_building.CHUNK, 64])
def test_spell_equals_plain_string_work(monkeypatch, chunk):
    monkeypatch.setattr(haplotype_building, "CHUNK", chunk)
    rng = random.Random(chunk)
    for _ in range(20):
        reference = "".join(rng.choices("ACGT", k=40))
        edits = random_edits(rng, len(reference))
        rows = [sorted(rng.sample(range(12), rng.randrange(13))) for _ in range(30)]
        starts = np.cumsum([0, *map(len, rows)])
        found = spell(reference, edits, starts, np.array([i for row in rows for i in row], dtype=np.int64))
        expected = [naive(reference, [edits[i] for i in row]) for row in rows]
        assert found.sequences == list(dict.fromkeys(sequence for sequence, _ in expected))
        assert [found.sequences[i] for i in found.sequence_of_row] == [sequence for sequence, _ in expected]
        assert found.skipped_R.tolist() == [skipped for _, skipped in expected]


def test_spell_tells_where_lengths_change():
    reference = "ACGTACGTACGT"
    edits = [Edit(1, 2, "T", False), Edit(3, 6, "T", True), Edit(5, 7, "CG", False), Edit(8, 9, "ACC", True)]
    found = spell(reference, edits, np.array([0, 0, 4]), np.arange(4))
    assert found.sequences == [reference, "ATGTGTACCCGT"]
    assert found.skipped_R.tolist() == [0, 1]
    assert [column.tolist() for column in found.indels[1]] == [[3, 8], [6, 9], [1, 3]]
    assert len(found.indels[0].start) == 0
    mapped = map_coordinates([Part(0, 12, found.indels[1])])
    assert mapped.length == len(found.sequences[1])
    assert [found.sequences[1][i] for i in mapped.to_sequence([0, 2, 3, 7, 9])] == ["A", "G", "T", "T", "C"]


def test_spell_of_a_reference_without_edits_is_the_reference():
    found = spell("ACGT", [], np.array([0, 0]), np.empty(0, dtype=np.int64))
    assert found.sequences == ["ACGT"]
    assert found.sequence_of_row.tolist() == [0]

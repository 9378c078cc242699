"""Tests of the room `bgen_calls`: probabilities flow in; calls and dosages against a sample-by-sample oracle, and the refusal."""

import numpy as np
import pytest

from brainmt_align.data.bgen_calls import Probabilities, call_alleles

NAN = float("nan")


def naive_calls(given: Probabilities, least: float) -> list[tuple[list[int], bool, float]]:
    """One sample after the other, outcome by outcome."""
    n, found = given.num_alleles, []
    for values, ploidy in zip(given.values_SK.astype(float), given.ploidy_S, strict=True):
        if ploidy == 1:
            draws = [[((a,), p) for a, p in enumerate(values[:n])]]
        elif given.phased:
            draws = [[((a,), p) for a, p in enumerate(values[h * n : h * n + n])] for h in (0, 1)]
        else:
            draws = [[(pair, values[i]) for i, pair in enumerate([(a, b) for b in range(n) for a in range(b + 1)])]]
        called = [a for draw in draws for a in next((g for g, p in draw if p >= least), (-1,) * len(draw[0][0]))]
        copies = sum(p * sum(a > 0 for a in g) for draw in draws for g, p in draw)
        found.append((called * 2 if ploidy == 1 else called, ploidy == 1, copies * 2 if ploidy == 1 else copies))
    return found


@pytest.mark.parametrize("phased", [True, False])
@pytest.mark.parametrize("num_alleles", [1, 2, 3, 5])
@pytest.mark.parametrize("ploidies", [(2,), (1,), (1, 2)])
def test_call_alleles_equals_a_naive_caller(phased, num_alleles, ploidies):
    rng = np.random.default_rng(num_alleles)
    n, diploid = num_alleles, 2 * num_alleles if phased else num_alleles * (num_alleles + 1) // 2
    ploidy_S = rng.choice(ploidies, 200)
    values_SK = np.full((200, diploid if 2 in ploidies else n), NAN, dtype=np.float32)
    for s, ploidy in enumerate(ploidy_S):
        if rng.random() < 0.1:
            continue
        parts = [n] if ploidy == 1 else [n, n] if phased else [diploid]
        values = np.concatenate([rng.dirichlet([0.1] * part) for part in parts])
        values_SK[s, : len(values)] = values
    given = Probabilities(values_SK, ploidy_S, phased, n)
    calls, expected = call_alleles(given, 0.9), naive_calls(given, 0.9)
    assert calls.alleles_S2.tolist() == [entry[0] for entry in expected]
    assert calls.haploid_S.tolist() == [entry[1] for entry in expected]
    np.testing.assert_allclose(calls.dosage_S, [entry[2] for entry in expected], atol=1e-6)
    assert (calls.alleles_S2 >= 0).any() and np.isnan(calls.dosage_S).any()


def test_call_alleles_takes_the_least_probability_itself():
    values_SK = np.array([[0.1, 0.9, 0], [0.11, 0.89, 0], [0, 0, 1]], dtype=np.float32)
    given = Probabilities(values_SK, np.full(3, 2), False, 2)
    assert call_alleles(given, 0.9).alleles_S2.tolist() == [[0, 1], [-1, -1], [1, 1]]
    assert call_alleles(given, 1).alleles_S2.tolist() == [[-1, -1], [-1, -1], [1, 1]]


@pytest.mark.parametrize("phased", [True, False])
@pytest.mark.parametrize("ploidy", [1, 2])
def test_call_alleles_refuses_probabilities_that_do_not_sum_to_one(phased, ploidy):
    values = [1, 0.8] if ploidy == 1 else [1, 0.8, 0, 1] if phased else [1, 0.8, 0]
    given = Probabilities(np.array([values], dtype=np.float32), np.array([ploidy]), phased, 2)
    with pytest.raises(ValueError, match=r"probabilities that do not sum to 1"):
        call_alleles(given, 0.9)

"""Elementary functions of the compiled loops: numbers over their whole range in; agreement with float64 out."""

import numpy as np
import pytest
from numba import njit

from encoders.selective_scan import kernels


@njit
def apply_exp(x, out):
    for i in range(x.size):
        out[i] = kernels.exp(x[i])


@njit
def apply_exp2(x, out):
    for i in range(x.size):
        out[i] = kernels.exp2(x[i])


@njit
def apply_softplus(x, out):
    for i in range(x.size):
        out[i] = kernels.softplus(x[i])


@njit
def apply_sigmoid(x, out):
    for i in range(x.size):
        out[i] = kernels.sigmoid(x[i])


CASES = {
    "exp": (apply_exp, np.exp, -87, 88),
    "exp2": (apply_exp2, np.exp2, -126, 127),
    "softplus": (apply_softplus, lambda x: np.logaddexp(0, x), -80, 80),
    "sigmoid": (apply_sigmoid, lambda x: 1 / (1 + np.exp(-x)), -80, 80),
}


@pytest.mark.parametrize("name", CASES)
def test_function_is_accurate_over_its_range_in_float32(name):
    apply, exact, low, high = CASES[name]
    x = np.linspace(low, high, 1_000_001, dtype=np.float32)
    out, expected = np.empty_like(x), exact(x.astype(np.float64))
    apply(x, out)
    assert np.max(np.abs(out - expected) / expected) < {"exp": 2e-7, "exp2": 2e-7, "softplus": 4e-7, "sigmoid": 3e-7}[name]


@pytest.mark.parametrize("name", CASES)
def test_function_is_exact_in_float64(name):
    apply, exact, low, high = CASES[name]
    x = np.linspace(low, high, 1001)
    out = np.empty_like(x)
    apply(x, out)
    np.testing.assert_allclose(out, exact(x), rtol=1e-14)


@pytest.mark.parametrize(("apply", "lowest"), [(apply_exp, 2e-38), (apply_exp2, 2e-38)])
def test_exponential_is_clamped_below_and_passes_nan_on(apply, lowest):
    x = np.array([-1e30, -np.inf, 0.0, np.nan], dtype=np.float32)
    out = np.empty_like(x)
    apply(x, out)
    assert 0 < out[0] == out[1] < lowest
    assert out[2] == 1.0
    assert np.isnan(out[3])


def test_exp2_near_0_does_not_drift_over_many_factors():
    x = np.full(1, -1e-4, dtype=np.float32)
    out = np.empty_like(x)
    apply_exp2(x, out)
    assert abs(np.log2(out[0].astype(np.float64)) - x[0].astype(np.float64)) < 1e-7
    apply_exp2(np.zeros(1, np.float32), out)
    assert out[0] == 1.0

"""Elementary functions for compiled loops: a number in, a number out, in x's precision, in a form that becomes vector code.

Called inside functions compiled by numba. In float32 they are short polynomials, in float64 those of the C library.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

_strict = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # fused multiply-add, order of sums kept

LOG2_E = 1.4426950408889634
_LOWEST, _HIGHEST = np.float32(-126.0), np.float32(127.0)
_ROUND = np.float32(12582912.0)  # 1.5 * 2**23: adding and subtracting it rounds to the nearest integer
_LOG2_E = np.float32(LOG2_E)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)


def exp2(x):
    """2 to the x inside compiled code: relative error below 2e-7 in float32 for -126 <= x <= 127, clamped outside.

    Exactly 1 at 0, and its error shrinks with |x|: products of many factors near 1 do not drift.
    """


@overload(exp2, jit_options=_strict)
def _exp2(x):
    if x != types.float32:
        return lambda x: math.pow(2.0, x)

    def exp2_float32(x):
        # 2^x = 2^k 2^r with |r| <= 1/2; k is left in the low bits of `shifted`, from where it is added to the exponent of 2^r
        x = _LOWEST if x < _LOWEST else x  # written so that NaN passes through
        x = _HIGHEST if x > _HIGHEST else x
        shifted = x + _ROUND
        r = x - (shifted - _ROUND)
        p = np.float32(1.3264723820611835e-3)
        p = p * r + np.float32(9.671512991189957e-3)
        p = p * r + np.float32(5.550733581185341e-2)
        p = p * r + np.float32(2.4022242426872253e-1)
        p = p * r + np.float32(6.931470036506653e-1)
        p = p * r + np.float32(1.0)
        whole = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
        return np.int32(np.float32(p).view(np.int32) + whole).view(np.float32)

    return exp2_float32


def exp(x):
    """e to the x inside compiled code: relative error below 2e-7 in float32 for -87 <= x <= 88, clamped outside."""


@overload(exp, jit_options=_strict)
def _exp(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def exp_float32(x):
        # e^x = 2^k e^r: k ln 2 is taken off in two parts, so that large x lose nothing
        x = np.float32(-87.0) if x < np.float32(-87.0) else x
        x = np.float32(88.0) if x > np.float32(88.0) else x
        k = (x * _LOG2_E + _ROUND) - _ROUND
        r = (x - k * _LN2_HIGH) - k * _LN2_LOW
        return exp2(r * _LOG2_E) * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)

    return exp_float32


def softplus(x):
    """log(1 + e^x) inside compiled code, as PyTorch's softplus."""


@overload(softplus, jit_options=_strict)
def _softplus(x):
    if x != types.float32:
        return lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x)))

    def softplus_float32(x):
        # log1p(t) = 2 artanh(s) with s = t / (2 + t) <= 1/3, as a series in s^2
        t = exp(-abs(x))
        s = t / (np.float32(2.0) + t)
        q = s * s
        p = np.float32(1 / 13)
        p = p * q + np.float32(1 / 11)
        p = p * q + np.float32(1 / 9)
        p = p * q + np.float32(1 / 7)
        p = p * q + np.float32(1 / 5)
        p = p * q + np.float32(1 / 3)
        p = p * q + np.float32(1.0)
        return max(x, np.float32(0.0)) + np.float32(2.0) * s * p

    return softplus_float32


def sigmoid(x):
    """1 / (1 + e^-x) inside compiled code."""


@overload(sigmoid, jit_options=_strict)
def _sigmoid(x):
    one = np.float32(1.0) if x == types.float32 else np.float64(1.0)
    return lambda x: one / (one + exp(-x))

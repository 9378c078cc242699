"""The compiled loops of the cpu scan: arrays in, outputs and gradients written into arrays that the caller made.

A task is one sample times one block of LANES channels. Tasks share nothing that they write, so the result does not depend
on how many threads run them. Within a task the sequence is cut into tiles of TILE steps, and the innermost loop runs over
the channels of a block, padded with zeros to a constant length: that is the loop which the compiler turns into vector code.

Sequences of channels come either as (B, L, D) or, `across`, as (B, D, L): tiles are read and written in either order, so that
nothing has to be transposed beforehand.

The elementary functions are here because numba's cache on disk watches this file alone: in another one, a change of theirs
would go unseen. In float32 they are short polynomials in a form that becomes vector code, in float64 those of the C library.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

LANES = 64
TILE = 64
LOG2_E = 1.4426950408889634

_kernel = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}, "cache": True}
_strict = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # fused multiply-add, order of sums kept

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


@njit(**_kernel)
def _load(source, across, reverse, b, t0, c0, steps, lanes, tile):
    """tile[t, c] ← step t0 + t, counted from the end when reversed, of channel c0 + c."""
    if across:
        last = source.shape[2] - 1 - t0
        for c in range(lanes):
            for t in range(steps):
                tile[t, c] = source[b, c0 + c, last - t if reverse else t0 + t]
    else:
        last = source.shape[1] - 1 - t0
        for t in range(steps):
            for c in range(lanes):
                tile[t, c] = source[b, last - t if reverse else t0 + t, c0 + c]


@njit(**_kernel)
def _store(tile, target, across, reverse, b, t0, c0, steps, lanes):
    """The way back of `_load`."""
    if across:
        last = target.shape[2] - 1 - t0
        for c in range(lanes):
            for t in range(steps):
                target[b, c0 + c, last - t if reverse else t0 + t] = tile[t, c]
    else:
        last = target.shape[1] - 1 - t0
        for t in range(steps):
            for c in range(lanes):
                target[b, last - t if reverse else t0 + t, c0 + c] = tile[t, c]


@njit(**_kernel)
def _load_vector(source, c0, tile):
    tile[:] = 0.0
    for c in range(min(LANES, source.shape[0] - c0)):
        tile[c] = source[c0 + c]


@njit(**_kernel)
def _load_A(A, c0, tile_A, tile_A2):
    """A, and A log2(e): exp(dt A) is taken as 2^(dt A log2(e)), the cheapest form."""
    tile_A[:] = 0.0
    tile_A2[:] = 0.0
    for n in range(A.shape[1]):
        for c in range(min(LANES, A.shape[0] - c0)):
            tile_A[n, c] = A[c0 + c, n]
            tile_A2[n, c] = A[c0 + c, n] * LOG2_E


@njit(**_kernel)
def _step_sizes(tile_bias, use_softplus, steps, tile_u, tile_dt, tile_x):
    """dt ← softplus(dt + bias) in place; x ← dt u."""
    for t in range(steps):
        for c in range(LANES):
            tile_dt[t, c] += tile_bias[c]
        if use_softplus:
            for c in range(LANES):
                tile_dt[t, c] = softplus(tile_dt[t, c])
        for c in range(LANES):
            tile_x[t, c] = tile_dt[t, c] * tile_u[t, c]


@njit(**_kernel)
def scan_forward(
    u, delta, A, B, C, D, z, bias, use_softplus, reverse, across_u, across_delta, across_z, z0, out, states, first, last
):
    """Tasks first <= task < last of the forward scan.

    u, delta, z as `across_…` says, out as u; A (D, N); B, C (B, L, N); D, bias (D,). z may be empty: no gate; its channels begin
    at index z0.
    states (B, ceil(L / TILE), N, D) receives the state before each tile; empty when no gradient will be asked for.
    """
    length, channels, order = B.shape[1], A.shape[0], A.shape[1]
    blocks = (channels + LANES - 1) // LANES
    tile_u, tile_dt = np.zeros((TILE, LANES), u.dtype), np.zeros((TILE, LANES), u.dtype)
    tile_x, tile_z, y = np.zeros_like(tile_u), np.zeros_like(tile_u), np.zeros_like(tile_u)
    tile_A, h = np.zeros((order, LANES), u.dtype), np.zeros((order, LANES), u.dtype)
    tile_A2 = np.zeros_like(tile_A)
    tile_D, tile_bias = np.zeros(LANES, u.dtype), np.zeros(LANES, u.dtype)
    for task in range(first, last):
        b, c0 = task // blocks, (task % blocks) * LANES
        lanes = min(LANES, channels - c0)
        _load_A(A, c0, tile_A, tile_A2)
        _load_vector(D, c0, tile_D)
        _load_vector(bias, c0, tile_bias)
        for tile in (tile_u, tile_dt, tile_z, h):
            tile[:] = 0.0
        for t0 in range(0, length, TILE):
            steps = min(TILE, length - t0)
            _load(u, across_u, reverse, b, t0, c0, steps, lanes, tile_u)
            _load(delta, across_delta, reverse, b, t0, c0, steps, lanes, tile_dt)
            _step_sizes(tile_bias, use_softplus, steps, tile_u, tile_dt, tile_x)
            if states.size > 0:
                states[b, t0 // TILE, :, c0 : c0 + lanes] = h[:, :lanes]
            for t in range(steps):
                row = length - 1 - t0 - t if reverse else t0 + t
                for c in range(LANES):
                    y[t, c] = tile_D[c] * tile_u[t, c]
                for n in range(order):
                    B_n, C_n = B[b, row, n], C[b, row, n]
                    for c in range(LANES):
                        h[n, c] = exp2(tile_dt[t, c] * tile_A2[n, c]) * h[n, c] + tile_x[t, c] * B_n
                        y[t, c] += h[n, c] * C_n
            if z.size > 0:
                _load(z, across_z, reverse, b, t0, z0 + c0, steps, lanes, tile_z)
                for t in range(steps):
                    for c in range(LANES):
                        y[t, c] *= tile_z[t, c] * sigmoid(tile_z[t, c])
            _store(y, out, across_u, reverse, b, t0, c0, steps, lanes)


@njit(**_kernel)
def scan_backward(
    u, delta, A, B, C, D, z, bias, use_softplus, reverse, across_u, across_delta, across_z, z0, states, grad_out, across_out,
    grad_u, grad_delta, grad_z, grad_B, grad_C, grad_A, grad_D, grad_bias, first, last,
):  # fmt: skip
    """Tasks first <= task < last of the backward scan; arrays as in `scan_forward`, gradients summed by the caller.

    grad_u, grad_delta, grad_z as u, delta, z, but from channel 0 on; grad_B, grad_C (blocks, B, L, N), one slab a block of
    channels; grad_A (B, N, D); grad_D, grad_bias (B, D).
    """
    length, channels, order = B.shape[1], A.shape[0], A.shape[1]
    blocks = (channels + LANES - 1) // LANES
    tile_u, tile_dt = np.zeros((TILE, LANES), u.dtype), np.zeros((TILE, LANES), u.dtype)
    tile_x, tile_z, y = np.zeros_like(tile_u), np.zeros_like(tile_u), np.zeros_like(tile_u)
    slope, grad_y, grad_x, grad_dt = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
    decay = np.zeros((TILE, order, LANES), u.dtype)  # exp(dt A), kept from the way forth for the way back
    h = np.zeros((TILE + 1, order, LANES), u.dtype)  # h[t] is the state before step t of the tile
    tile_A = np.zeros((order, LANES), u.dtype)
    tile_A2, sum_A, grad_h = np.zeros_like(tile_A), np.zeros_like(tile_A), np.zeros_like(tile_A)
    tile_D, tile_bias = np.zeros(LANES, u.dtype), np.zeros(LANES, u.dtype)
    sum_D, sum_bias = np.zeros(LANES, u.dtype), np.zeros(LANES, u.dtype)
    one = u.dtype.type(1)
    for task in range(first, last):
        b, block = task // blocks, task % blocks
        c0 = block * LANES
        lanes = min(LANES, channels - c0)
        _load_A(A, c0, tile_A, tile_A2)
        _load_vector(D, c0, tile_D)
        _load_vector(bias, c0, tile_bias)
        for tile in (tile_u, tile_dt, tile_z, grad_y, sum_A, grad_h):
            tile[:] = 0.0
        sum_D[:] = 0.0
        sum_bias[:] = 0.0
        h[:] = 0.0
        for t0 in range((length - 1) // TILE * TILE, -1, -TILE):
            steps = min(TILE, length - t0)
            _load(u, across_u, reverse, b, t0, c0, steps, lanes, tile_u)
            _load(delta, across_delta, reverse, b, t0, c0, steps, lanes, tile_dt)
            _load(grad_out, across_out, reverse, b, t0, c0, steps, lanes, grad_y)
            slope[:] = one
            if use_softplus:
                for t in range(steps):
                    for c in range(LANES):
                        slope[t, c] = sigmoid(tile_dt[t, c] + tile_bias[c])
            _step_sizes(tile_bias, use_softplus, steps, tile_u, tile_dt, tile_x)
            h[0, :, :lanes] = states[b, t0 // TILE, :, c0 : c0 + lanes]
            for t in range(steps):
                row = length - 1 - t0 - t if reverse else t0 + t
                for c in range(LANES):
                    y[t, c] = tile_D[c] * tile_u[t, c]
                for n in range(order):
                    B_n, C_n = B[b, row, n], C[b, row, n]
                    for c in range(LANES):
                        decay[t, n, c] = exp2(tile_dt[t, c] * tile_A2[n, c])
                        h[t + 1, n, c] = decay[t, n, c] * h[t, n, c] + tile_x[t, c] * B_n
                        y[t, c] += h[t + 1, n, c] * C_n
            if z.size > 0:
                _load(z, across_z, reverse, b, t0, z0 + c0, steps, lanes, tile_z)
                for t in range(steps):
                    for c in range(LANES):
                        gate, s = tile_z[t, c], sigmoid(tile_z[t, c])
                        tile_z[t, c] = grad_y[t, c] * y[t, c] * (s + gate * s * (one - s))  # silu'(z) = s + z s (1 - s)
                        grad_y[t, c] *= gate * s
                _store(tile_z, grad_z, across_z, reverse, b, t0, c0, steps, lanes)
            grad_x[:] = 0.0
            grad_dt[:] = 0.0
            for t in range(steps - 1, -1, -1):
                row = length - 1 - t0 - t if reverse else t0 + t
                for n in range(order):
                    B_n, C_n = B[b, row, n], C[b, row, n]
                    sum_B = sum_C = u.dtype.type(0)
                    for c in range(LANES):
                        total = grad_h[n, c] + grad_y[t, c] * C_n
                        sum_C += grad_y[t, c] * h[t + 1, n, c]
                        sum_B += total * tile_x[t, c]
                        grad_x[t, c] += total * B_n
                        grad_h[n, c] = total * decay[t, n, c]
                        exponent = grad_h[n, c] * h[t, n, c]
                        grad_dt[t, c] += exponent * tile_A[n, c]
                        sum_A[n, c] += exponent * tile_dt[t, c]
                    grad_B[block, b, row, n] = sum_B
                    grad_C[block, b, row, n] = sum_C
            for t in range(steps):
                for c in range(LANES):
                    sum_D[c] += grad_y[t, c] * tile_u[t, c]
                    grad_dt[t, c] = (grad_x[t, c] * tile_u[t, c] + grad_dt[t, c]) * slope[t, c]
                    sum_bias[c] += grad_dt[t, c]
                    grad_x[t, c] = grad_x[t, c] * tile_dt[t, c] + grad_y[t, c] * tile_D[c]
            _store(grad_dt, grad_delta, across_delta, reverse, b, t0, c0, steps, lanes)
            _store(grad_x, grad_u, across_u, reverse, b, t0, c0, steps, lanes)
        grad_A[b, :, c0 : c0 + lanes] = sum_A[:, :lanes]
        grad_D[b, c0 : c0 + lanes] = sum_D[:lanes]
        grad_bias[b, c0 : c0 + lanes] = sum_bias[:lanes]

"""The compiled loops of the cpu scan: (B, L, D) arrays in, outputs and gradients written into arrays that the caller made.

A task is one sample times one block of LANES channels. Tasks share nothing that they write, so the result does not depend
on how many threads run them. Within a task the sequence is cut into tiles of TILE steps, and the innermost loop runs over
the channels of a block, padded with zeros to a constant length: that is the loop which the compiler turns into vector code.
"""

import numpy as np
from numba import njit

from encoders.vector_math import exp, sigmoid, softplus

LANES = 32
TILE = 64

_kernel = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}, "cache": True}


@njit(**_kernel)
def _load_tile(u, delta, bias, use_softplus, reverse, b, t0, c0, tile_u, tile_dt, tile_x):
    """Copies up to TILE steps of one block of channels; returns how many steps and how many channels are real."""
    length, channels = u.shape[1], u.shape[2]
    steps = min(TILE, length - t0)
    lanes = min(LANES, channels - c0)
    for t in range(steps):
        row = length - 1 - t0 - t if reverse else t0 + t
        for c in range(lanes):
            tile_u[t, c] = u[b, row, c0 + c]
            tile_dt[t, c] = delta[b, row, c0 + c] + bias[c0 + c]
        if use_softplus:
            for c in range(lanes):
                tile_dt[t, c] = softplus(tile_dt[t, c])
        for c in range(lanes):
            tile_x[t, c] = tile_dt[t, c] * tile_u[t, c]
    return steps, lanes


@njit(**_kernel)
def _load_A(A, c0, tile_A):
    tile_A[:] = 0.0
    for n in range(A.shape[1]):
        for c in range(min(LANES, A.shape[0] - c0)):
            tile_A[n, c] = A[c0 + c, n]


@njit(**_kernel)
def scan_forward(u, delta, A, B, C, D, z, bias, use_softplus, reverse, out, states, first, last):
    """Tasks first <= task < last of the forward scan.

    u, delta, z, out (B, L, D); A (D, N); B, C (B, L, N); D, bias (D,). z may be empty: no gate. states
    (B, ceil(L / TILE), N, D) receives the state before each tile; empty when no gradient will be asked for.
    """
    length, channels, order = u.shape[1], u.shape[2], A.shape[1]
    blocks = (channels + LANES - 1) // LANES
    tile_u, tile_dt = np.zeros((TILE, LANES), u.dtype), np.zeros((TILE, LANES), u.dtype)
    tile_x, y = np.zeros((TILE, LANES), u.dtype), np.zeros((TILE, LANES), u.dtype)
    tile_A, h = np.zeros((order, LANES), u.dtype), np.zeros((order, LANES), u.dtype)
    tile_D, gate = np.zeros(LANES, u.dtype), np.zeros(LANES, u.dtype)
    for task in range(first, last):
        b, c0 = task // blocks, (task % blocks) * LANES
        _load_A(A, c0, tile_A)
        tile_D[:] = 0.0
        for c in range(min(LANES, channels - c0)):
            tile_D[c] = D[c0 + c]
        for tile in (tile_u, tile_dt, tile_x, h):
            tile[:] = 0.0
        for t0 in range(0, length, TILE):
            steps, lanes = _load_tile(u, delta, bias, use_softplus, reverse, b, t0, c0, tile_u, tile_dt, tile_x)
            if states.size > 0:
                states[b, t0 // TILE, :, c0 : c0 + lanes] = h[:, :lanes]
            y[:] = 0.0
            for t in range(steps):
                row = length - 1 - t0 - t if reverse else t0 + t
                for n in range(order):
                    B_n, C_n = B[b, row, n], C[b, row, n]
                    for c in range(LANES):
                        h[n, c] = exp(tile_dt[t, c] * tile_A[n, c]) * h[n, c] + tile_x[t, c] * B_n
                        y[t, c] += h[n, c] * C_n
            for t in range(steps):
                for c in range(LANES):
                    y[t, c] += tile_D[c] * tile_u[t, c]
            if z.size > 0:
                for t in range(steps):
                    row = length - 1 - t0 - t if reverse else t0 + t
                    for c in range(lanes):
                        gate[c] = z[b, row, c0 + c]
                    for c in range(LANES):
                        y[t, c] *= gate[c] * sigmoid(gate[c])
            for t in range(steps):
                row = length - 1 - t0 - t if reverse else t0 + t
                for c in range(lanes):
                    out[b, row, c0 + c] = y[t, c]


@njit(**_kernel)
def scan_backward(
    u, delta, A, B, C, D, z, bias, use_softplus, reverse, states, grad_out,
    grad_u, grad_delta, grad_z, grad_B, grad_C, grad_A, grad_D, grad_bias, first, last,
):  # fmt: skip
    """Tasks first <= task < last of the backward scan; arrays as in `scan_forward`, gradients summed by the caller.

    grad_u, grad_delta, grad_z (B, L, D); grad_B, grad_C (blocks, B, L, N), one slab a block of channels;
    grad_A (B, N, D); grad_D, grad_bias (B, D).
    """
    length, channels, order = u.shape[1], u.shape[2], A.shape[1]
    blocks = (channels + LANES - 1) // LANES
    tile_u, tile_dt = np.zeros((TILE, LANES), u.dtype), np.zeros((TILE, LANES), u.dtype)
    tile_x, y = np.zeros((TILE, LANES), u.dtype), np.zeros((TILE, LANES), u.dtype)
    decay = np.zeros((TILE, order, LANES), u.dtype)  # exp(dt A), kept from the way forth for the way back
    h = np.zeros((TILE + 1, order, LANES), u.dtype)  # h[t] is the state before step t of the tile
    grad_y, grad_x, grad_dt = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
    tile_A = np.zeros((order, LANES), u.dtype)
    sum_A, grad_h = np.zeros_like(tile_A), np.zeros_like(tile_A)
    sum_D, sum_bias = np.zeros(LANES, u.dtype), np.zeros(LANES, u.dtype)
    for task in range(first, last):
        b, block = task // blocks, task % blocks
        c0 = block * LANES
        _load_A(A, c0, tile_A)
        for tile in (tile_u, tile_dt, tile_x, sum_A, grad_h, grad_y):
            tile[:] = 0.0
        sum_D[:] = 0.0
        sum_bias[:] = 0.0
        h[:] = 0.0
        for t0 in range((length - 1) // TILE * TILE, -1, -TILE):
            steps, lanes = _load_tile(u, delta, bias, use_softplus, reverse, b, t0, c0, tile_u, tile_dt, tile_x)
            h[0, :, :lanes] = states[b, t0 // TILE, :, c0 : c0 + lanes]
            y[:] = 0.0
            for t in range(steps):
                row = length - 1 - t0 - t if reverse else t0 + t
                for n in range(order):
                    B_n, C_n = B[b, row, n], C[b, row, n]
                    for c in range(LANES):
                        decay[t, n, c] = exp(tile_dt[t, c] * tile_A[n, c])
                        h[t + 1, n, c] = decay[t, n, c] * h[t, n, c] + tile_x[t, c] * B_n
                        y[t, c] += h[t + 1, n, c] * C_n
                for c in range(lanes):
                    grad_y[t, c] = grad_out[b, row, c0 + c]
                if z.size > 0:
                    for c in range(lanes):
                        gate = z[b, row, c0 + c]
                        s = sigmoid(gate)
                        ungated = y[t, c] + D[c0 + c] * tile_u[t, c]
                        # silu'(z) = s + z s (1 - s)
                        grad_z[b, row, c0 + c] = grad_y[t, c] * ungated * (s + gate * s * (1 - s))
                        grad_y[t, c] *= gate * s
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
                row = length - 1 - t0 - t if reverse else t0 + t
                for c in range(lanes):
                    slope = sigmoid(delta[b, row, c0 + c] + bias[c0 + c])
                    step = grad_x[t, c] * tile_u[t, c] + grad_dt[t, c]
                    if use_softplus:
                        step *= slope
                    grad_delta[b, row, c0 + c] = step
                    grad_u[b, row, c0 + c] = grad_x[t, c] * tile_dt[t, c] + grad_y[t, c] * D[c0 + c]
                    sum_bias[c] += step
                    sum_D[c] += grad_y[t, c] * tile_u[t, c]
        grad_A[b, :, c0 : c0 + lanes] = sum_A[:, :lanes]
        grad_D[b, c0 : c0 + lanes] = sum_D[:lanes]
        grad_bias[b, c0 : c0 + lanes] = sum_bias[:lanes]

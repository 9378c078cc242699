"""The Triton programs of the scan: tiles of sequences in, outputs and gradients written into tensors that the caller made.

The positions, counted from the end a direction starts at, are cut into tiles of TILE steps, and a program holds one tile of
some channels with all their states, (TILE, CHANNELS, STATES). As A does not depend on the position, what a whole tile does to
a state is exp(A sum dt): the states between tiles follow from one weighted sum a tile and a short pass over the tiles. So
every tile can be worked on at once:

    tile_states    the state that a tile adds, were it to start from zero, and its sum of dt
    pass_states    the same carried over all tiles in order: the state before each tile (or, backwards, the gradient behind it)
    tile_outputs   outputs from the state before the tile, by an associative scan
    tile_adjoints  the gradient that a tile hands to the state before it, were none to come from behind
    tile_gradients all gradients of a tile, by an associative scan each way

Sequences have channels innermost, any strides for samples and positions. A launch covers one direction or two: the last axis
of the grid is direction times sample. Sums over tiles and groups of channels are left to the caller, in a fixed order.
"""

import triton
import triton.language as tl

INTERPRETED = triton.knobs.runtime.interpret


@triton.jit
def _combine(decay_1, value_1, decay_2, value_2):
    """First (1), then (2): h ← decay h + value, twice."""
    return decay_1 * decay_2, decay_2 * value_1 + value_2


@triton.jit
def _softplus(x):
    small = tl.exp(-tl.abs(x))
    whole = 1.0 + small
    return tl.maximum(x, 0.0) + tl.where(whole == 1.0, small, tl.log(whole) * small / tl.where(whole == 1.0, 1.0, whole - 1.0))


@triton.jit
def _place(tile, direction, length, REVERSE: tl.constexpr, TILE: tl.constexpr):
    """(rows of the tile's positions in memory, which of them exist)."""
    position = tile * TILE + tl.arange(0, TILE)
    from_end = (direction == 1) != REVERSE
    row = tl.where(from_end, length - 1 - position, position)
    return row.to(tl.int64), position < length


@triton.jit
def _read(pointer, stride_b, stride_l, b, row, column, inside, ACC: tl.constexpr):
    """A tile (rows, columns) in the arithmetic's precision; zero outside."""
    places = pointer + b.to(tl.int64) * stride_b + row[:, None] * stride_l + column[None, :]
    return tl.load(places, mask=inside, other=0.0).to(ACC)


@triton.jit
def _read_states(pointer, channel, state, channels, order, ACC: tl.constexpr):
    """(CHANNELS, STATES) of a (channels, order) matrix; zero outside."""
    inside = (channel < channels)[:, None] & (state < order)[None, :]
    return tl.load(pointer + channel[:, None] * order + state[None, :], mask=inside, other=0.0).to(ACC)


@triton.jit
def _read_steps(
    delta, bias, stride_b, stride_l, b, row, channel, inside, channels, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """(step sizes, zero outside; what they are the softplus of)."""
    raw = _read(delta, stride_b, stride_l, b, row, channel, inside, ACC)
    if HAS_BIAS:
        raw += tl.load(bias + channel, mask=channel < channels, other=0.0).to(ACC)[None, :]
    steps = raw
    if SOFTPLUS:
        steps = _softplus(raw)
    return tl.where(inside, steps, 0.0), raw


@triton.jit
def tile_states(
    u0, u1, delta0, delta1, A0, A1, B0, B1, bias0, bias1, states, sums,
    u_b, u_l, delta_b, delta_l, B_b, B_l, batch, channels, order, length, tiles,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    TILE: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid (tiles, blocks of channels, directions * B); states (directions * B, tiles, D, N), sums (…, tiles, D)."""
    tile, line = tl.program_id(0), tl.program_id(2)
    direction, b = line // batch, line % batch
    u, delta, A, B, bias = u0, delta0, A0, B0, bias0
    if direction == 1:
        u, delta, A, B, bias = u1, delta1, A1, B1, bias1
    channel, state = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    row, exists = _place(tile, direction, length, REVERSE, TILE)
    inside = exists[:, None] & (channel < channels)[None, :]
    steps, _ = _read_steps(delta, bias, delta_b, delta_l, b, row, channel, inside, channels, HAS_BIAS, SOFTPLUS, ACC)
    x = steps * _read(u, u_b, u_l, b, row, channel, inside, ACC)
    B_tile = _read(B, B_b, B_l, b, row, state, exists[:, None] & (state < order)[None, :], ACC)
    A_tile = _read_states(A, channel, state, channels, order, ACC)
    total = tl.sum(steps, 0)
    left = total[None, :] - tl.cumsum(steps, 0)
    added = tl.sum(tl.exp(left[:, :, None] * A_tile[None, :, :]) * x[:, :, None] * B_tile[:, None, :], 0)
    place = (line.to(tl.int64) * tiles + tile) * channels + channel
    kept = (channel < channels)[:, None] & (state < order)[None, :]
    tl.store(states + place[:, None] * order + state[None, :], added, mask=kept)
    tl.store(sums + place, total, mask=channel < channels)


@triton.jit
def pass_states(
    A0, A1, states, sums, batch, channels, order, tiles,
    BACKWARD: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid (blocks of channels, directions * B); in place: what a tile adds ← what there is before it (backwards: behind it)."""
    line = tl.program_id(1)
    A = A0
    if line // batch == 1:
        A = A1
    channel, state = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    kept = (channel < channels)[:, None] & (state < order)[None, :]
    A_tile = _read_states(A, channel, state, channels, order, ACC)
    carry = tl.zeros((CHANNELS, STATES), ACC)
    for i in range(tiles):
        tile = tiles - 1 - i if BACKWARD else i
        place = (line.to(tl.int64) * tiles + tile) * channels + channel
        total = tl.load(sums + place, mask=channel < channels, other=0.0)
        address = states + place[:, None] * order + state[None, :]
        added = tl.load(address, mask=kept, other=0.0)
        tl.store(address, carry, mask=kept)
        carry = tl.exp(total[:, None] * A_tile) * carry + added


@triton.jit
def tile_outputs(
    u0, u1, delta0, delta1, A0, A1, B0, B1, C0, C1, D0, D1, bias0, bias1, z, states, out,
    u_b, u_l, delta_b, delta_l, B_b, B_l, C_b, C_l, z_b, z_l, out_b, out_l, batch, channels, order, length, tiles,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    TILE: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid as `tile_states`; out (directions * B, L, D)."""
    tile, line = tl.program_id(0), tl.program_id(2)
    direction, b = line // batch, line % batch
    u, delta, A, B, C, D, bias = u0, delta0, A0, B0, C0, D0, bias0
    if direction == 1:
        u, delta, A, B, C, D, bias = u1, delta1, A1, B1, C1, D1, bias1
    channel, state = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    row, exists = _place(tile, direction, length, REVERSE, TILE)
    inside = exists[:, None] & (channel < channels)[None, :]
    steps, _ = _read_steps(delta, bias, delta_b, delta_l, b, row, channel, inside, channels, HAS_BIAS, SOFTPLUS, ACC)
    u_tile = _read(u, u_b, u_l, b, row, channel, inside, ACC)
    stated = exists[:, None] & (state < order)[None, :]
    B_tile, C_tile = _read(B, B_b, B_l, b, row, state, stated, ACC), _read(C, C_b, C_l, b, row, state, stated, ACC)
    A_tile = _read_states(A, channel, state, channels, order, ACC)
    place = (line.to(tl.int64) * tiles + tile) * channels
    before = _read_states(states + place * order, channel, state, channels, order, ACC)
    added = (steps * u_tile)[:, :, None] * B_tile[:, None, :]
    decay, h = tl.associative_scan((tl.exp(steps[:, :, None] * A_tile[None, :, :]), added), 0, _combine)
    h += decay * before[None, :, :]
    y = tl.sum(h * C_tile[:, None, :], 2)
    if HAS_D:
        y += tl.load(D + channel, mask=channel < channels, other=0.0).to(ACC)[None, :] * u_tile
    if HAS_Z:
        z_tile = _read(z, z_b, z_l, b, row, channel, inside, ACC)
        y *= z_tile / (1.0 + tl.exp(-z_tile))
    places = out + line.to(tl.int64) * out_b + row[:, None] * out_l + channel[None, :]
    tl.store(places, y, mask=inside)


@triton.jit
def tile_adjoints(
    delta0, delta1, A0, A1, C0, C1, bias0, bias1, z, grad_out, adjoints,
    delta_b, delta_l, C_b, C_l, z_b, z_l, out_b, out_l, batch, channels, order, length, tiles,
    HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    TILE: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid as `tile_states`; adjoints (directions * B, tiles, D, N); grad_out (B, L, D)."""
    tile, line = tl.program_id(0), tl.program_id(2)
    direction, b = line // batch, line % batch
    delta, A, C, bias = delta0, A0, C0, bias0
    if direction == 1:
        delta, A, C, bias = delta1, A1, C1, bias1
    channel, state = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    row, exists = _place(tile, direction, length, REVERSE, TILE)
    inside = exists[:, None] & (channel < channels)[None, :]
    steps, _ = _read_steps(delta, bias, delta_b, delta_l, b, row, channel, inside, channels, HAS_BIAS, SOFTPLUS, ACC)
    grad_y = _read(grad_out, out_b, out_l, b, row, channel, inside, ACC)
    if HAS_Z:
        z_tile = _read(z, z_b, z_l, b, row, channel, inside, ACC)
        grad_y *= z_tile / (1.0 + tl.exp(-z_tile))
    C_tile = _read(C, C_b, C_l, b, row, state, exists[:, None] & (state < order)[None, :], ACC)
    A_tile = _read_states(A, channel, state, channels, order, ACC)
    passed = tl.cumsum(steps, 0)
    handed = tl.sum(tl.exp(passed[:, :, None] * A_tile[None, :, :]) * grad_y[:, :, None] * C_tile[:, None, :], 0)
    place = (line.to(tl.int64) * tiles + tile) * channels + channel
    kept = (channel < channels)[:, None] & (state < order)[None, :]
    tl.store(adjoints + place[:, None] * order + state[None, :], handed, mask=kept)


@triton.jit
def tile_gradients(
    u0, u1, delta0, delta1, A0, A1, B0, B1, C0, C1, D0, D1, bias0, bias1, z, states, adjoints, grad_out,
    grad_u, grad_delta, grad_z, grad_B, grad_C, grad_D, grad_bias,
    u_b, u_l, delta_b, delta_l, B_b, B_l, C_b, C_l, z_b, z_l, out_b, out_l, batch, channels, order, length, tiles, blocks,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    TILE: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid (tiles, groups, directions * B), a group being `blocks` blocks of channels, taken one after another.

    grad_u, grad_delta, grad_z (directions * B, L, D); grad_B, grad_C (directions * B, groups, L, N); grad_D, grad_bias
    (directions * B, tiles, D). `adjoints` is overwritten by every tile's share of the gradient of A.
    """
    tile, group, line = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    direction, b = line // batch, line % batch
    u, delta, A, B, C, D, bias = u0, delta0, A0, B0, C0, D0, bias0
    if direction == 1:
        u, delta, A, B, C, D, bias = u1, delta1, A1, B1, C1, D1, bias1
    state = tl.arange(0, STATES)
    row, exists = _place(tile, direction, length, REVERSE, TILE)
    next_row = tl.where((direction == 1) != REVERSE, row - 1, row + 1)
    next_exists = tile * TILE + tl.arange(0, TILE) + 1 < length
    stated = exists[:, None] & (state < order)[None, :]
    B_tile, C_tile = _read(B, B_b, B_l, b, row, state, stated, ACC), _read(C, C_b, C_l, b, row, state, stated, ACC)
    sum_B, sum_C = tl.zeros((TILE, STATES), ACC), tl.zeros((TILE, STATES), ACC)
    is_last = (tl.arange(0, TILE) == TILE - 1)[:, None, None]
    for block in range(blocks):
        channel = (group * blocks + block) * CHANNELS + tl.arange(0, CHANNELS)
        real = channel < channels
        inside = exists[:, None] & real[None, :]
        steps, raw = _read_steps(delta, bias, delta_b, delta_l, b, row, channel, inside, channels, HAS_BIAS, SOFTPLUS, ACC)
        u_tile = _read(u, u_b, u_l, b, row, channel, inside, ACC)
        A_tile = _read_states(A, channel, state, channels, order, ACC)
        place = (line.to(tl.int64) * tiles + tile) * channels
        before = _read_states(states + place * order, channel, state, channels, order, ACC)
        behind = _read_states(adjoints + place * order, channel, state, channels, order, ACC)
        x = steps * u_tile

        # The states, as in `tile_outputs`.
        added = x[:, :, None] * B_tile[:, None, :]
        decay, h = tl.associative_scan((tl.exp(steps[:, :, None] * A_tile[None, :, :]), added), 0, _combine)
        h += decay * before[None, :, :]

        # Through the gate and the skip connection.
        grad_y = _read(grad_out, out_b, out_l, b, row, channel, inside, ACC)
        places = line.to(tl.int64) * length * channels + row[:, None] * channels + channel[None, :]
        skip = tl.zeros((CHANNELS,), ACC)
        if HAS_D:
            skip = tl.load(D + channel, mask=real, other=0.0).to(ACC)
        if HAS_Z:
            y = tl.sum(h * C_tile[:, None, :], 2) + skip[None, :] * u_tile
            z_tile = _read(z, z_b, z_l, b, row, channel, inside, ACC)
            s = 1.0 / (1.0 + tl.exp(-z_tile))
            tl.store(grad_z + places, grad_y * y * (s + z_tile * s * (1.0 - s)), mask=inside)
            grad_y *= z_tile * s

        # The gradient of each state: its own output's, and the next state's times the next decay.
        next_inside = next_exists[:, None] & real[None, :]
        later, _ = _read_steps(
            delta, bias, delta_b, delta_l, b, next_row, channel, next_inside, channels, HAS_BIAS, SOFTPLUS, ACC
        )
        own = grad_y[:, :, None] * C_tile[:, None, :] + tl.where(is_last, behind[None, :, :], 0.0)
        next_decay = tl.where(is_last, 0.0, tl.exp(later[:, :, None] * A_tile[None, :, :]))
        _, grad_h = tl.associative_scan((next_decay, own), 0, _combine, reverse=True)

        sum_C += tl.sum(grad_y[:, :, None] * h, 1)
        sum_B += tl.sum(grad_h * x[:, :, None], 1)
        grad_x = tl.sum(grad_h * B_tile[:, None, :], 2)
        exponent = grad_h * (h - added)  # gradient of dt A: the decayed part of each state
        grad_steps = tl.sum(exponent * A_tile[None, :, :], 2) + grad_x * u_tile
        if SOFTPLUS:
            grad_steps *= 1.0 / (1.0 + tl.exp(-raw))
        grad_steps = tl.where(inside, grad_steps, 0.0)
        tl.store(grad_delta + places, grad_steps, mask=inside)
        tl.store(grad_u + places, grad_x * steps + grad_y * skip[None, :], mask=inside)
        kept = real[:, None] & (state < order)[None, :]
        share = adjoints + (place + channel)[:, None] * order + state[None, :]
        tl.store(share, tl.sum(exponent * steps[:, :, None], 0), mask=kept)
        tl.store(grad_D + place + channel, tl.sum(grad_y * u_tile, 0), mask=real)
        tl.store(grad_bias + place + channel, tl.sum(grad_steps, 0), mask=real)
    places = ((line.to(tl.int64) * tl.num_programs(1) + group) * length + row[:, None]) * order + state[None, :]
    tl.store(grad_B + places, sum_B, mask=stated)
    tl.store(grad_C + places, sum_C, mask=stated)

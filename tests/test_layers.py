"""Layers against NumPy, PyTorch and their own definitions."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import MASKS, RESET, B, T, assert_close, at, loss, poison, state_of
from marks import quick
from zoo import D, H, drawn

import seqjax as sj
from seqjax.layers.directions import reverse

KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (T, B, D))


def made(layer):
    return drawn(layer)


def test_dense():
    layer = sj.dense(D, H, activation=jnp.tanh)
    params = made(layer)
    _, ys = layer.apply(params, (), XS)
    assert_close(ys, np.tanh(np.asarray(XS) @ np.asarray(params.w) + np.asarray(params.b)))
    bare = sj.dense(D, H, b_init=None)
    assert bare.init(KEY).b is None
    _, ys = bare.apply(bare.init(KEY), (), XS)
    assert_close(ys, np.asarray(XS) @ np.asarray(bare.init(KEY).w))


def test_dense_casts_operands_only():
    layer = sj.dense(D, H, dtype=jnp.float32, compute_dtype=jnp.bfloat16)
    params = layer.init(KEY)
    assert params.w.dtype == params.b.dtype == jnp.float32
    _, ys = layer.apply(params, (), XS.astype(jnp.bfloat16))
    x, w = (np.asarray(a.astype(jnp.bfloat16), np.float64) for a in (XS, params.w))
    assert ys.dtype == jnp.float32
    assert_close(ys, (x @ w).astype(np.float32), rtol=1e-6, atol=1e-6)


def test_embedding_equals_one_hot_product():
    layer = sj.embedding(5, D)
    params = layer.init(KEY)
    symbols = jax.random.randint(KEY, (T, B), 0, 5)

    def looked_up(w):
        return layer.apply(params._replace(w=w), (), symbols)[1]

    def product(w):
        return jax.nn.one_hot(symbols, 5, dtype=w.dtype) @ w

    assert_close(looked_up(params.w), product(params.w))
    gradients = [jax.grad(lambda w, f=f: loss(f(w)))(params.w) for f in (looked_up, product)]
    assert_close(*gradients)


def test_unknown_symbols_are_loud():
    layer = sj.embedding(5, D)
    _, ys = layer.apply(layer.init(KEY), (), jnp.array([0, 5, -1, 4]))
    assert jnp.isnan(ys).all(-1).tolist() == [False, True, True, False]


def test_layer_norm():
    layer = sj.layer_norm(D, epsilon=1e-3)
    gain, b = params = made(layer)
    x = np.asarray(XS) + 1e3
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    assert_close(layer.apply(params, (), jnp.array(x))[1], expected * gain + b, rtol=1e-9)


def test_rms_norm():
    layer = sj.layers.rms_norm(D, epsilon=1e-3)
    (gain,) = params = made(layer)
    x = np.asarray(XS) + 3
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * gain
    assert_close(layer.apply(params, (), jnp.array(x))[1], expected, rtol=1e-12)


@pytest.mark.parametrize("make", [sj.layer_norm, sj.layers.rms_norm])
def test_norms_of_groups_are_those_of_their_parts(make):
    """Head by head, with one gain over all."""
    grouped, alone = make(6, groups=2), make(3)
    params = made(grouped)
    xs = jax.random.normal(KEY, (T, B, 6))
    halves = [jax.tree.map(lambda p, i=i: p[i : i + 3], params) for i in (0, 3)]
    parts = [alone.apply(half, (), x)[1] for half, x in zip(halves, jnp.split(xs, 2, axis=-1))]
    assert_close(grouped.apply(params, (), xs)[1], jnp.concatenate(parts, -1))


def test_feed_forward_jacobian():
    """dv/dx = I + (W1 diag(φ'(z)) W2)ᵀ with rows for outputs; W2 = 0 is the identity."""
    layer = sj.feed_forward(D, H, activation=jnp.tanh)
    params = made(layer)
    (w1, b1), (w2, none) = params
    assert none is None
    x = XS[:1, 0]
    jacobian = jax.jacobian(lambda x: layer.apply(params, ((), ()), x)[1])(x)[0, :, 0]
    slope = 1 - np.tanh(np.asarray(x[0] @ w1 + b1)) ** 2
    assert_close(jacobian, np.eye(D) + (np.asarray(w1) * slope @ np.asarray(w2)).T)
    still = (params[0], params[1]._replace(w=jnp.zeros_like(w2)))
    assert_close(layer.apply(still, ((), ()), x)[1], x, rtol=0, atol=0)


def test_residual_of_nothing_is_the_identity():
    layer = sj.residual(sj.recurrent(sj.lstm(D, D)))
    zero = jax.tree.map(jnp.zeros_like, layer.init(KEY))
    mask = MASKS["holes"]
    _, ys = layer.apply(zero, layer.initial_state(zero, (B,)), poison(mask, XS), mask=mask)
    assert_close(ys, sj.masks.zero(mask, XS), rtol=0, atol=0)
    assert isinstance(sj.residual(sj.lstm(D, D)), sj.Cell)


def test_dropout_draws_every_tick_and_unit_anew():
    layer = sj.dropout(0.25)
    ones = jnp.ones((400, 2, 50))
    _, ys = layer.apply((), (), ones, key=KEY)
    assert set(np.unique(ys)) == {0.0, 1 / 0.75}
    kept = np.asarray(ys > 0)
    assert abs(kept.mean() - 0.75) < 4 * np.sqrt(0.25 * 0.75 / kept.size)
    together = (
        (kept[1:] & kept[:-1]).mean(),
        (kept[:, 0] & kept[:, 1]).mean(),
        (kept[..., 1:] & kept[..., :-1]).mean(),
    )
    assert np.abs(np.array(together) - 0.75**2).max() < 0.015
    assert_close(layer.apply((), (), ones)[1], ones, rtol=0, atol=0)
    assert_close(sj.dropout(0.0).apply((), (), ones, key=KEY)[1], ones, rtol=0, atol=0)


def test_dropout_ignores_padding():
    """The same draws at real ticks whatever stands behind them."""
    layer = sj.dropout(0.5)
    pad = jnp.concatenate([XS, jnp.full_like(XS[:2], jnp.nan)])
    mask = sj.masks.from_lengths(jnp.full(B, T), T + 2)
    _, ys = layer.apply((), (), pad, mask=mask, key=KEY)
    assert_close(ys[:T], layer.apply((), (), XS, key=KEY)[1], rtol=0, atol=0)


def test_a_key_is_split_among_layers():
    both = sj.serial(sj.dropout(0.5), sj.dropout(0.5))
    ones = jnp.ones((100, 100))
    _, ys = both.apply(((), ()), ((), ()), ones, key=KEY)
    assert abs((np.asarray(ys) > 0).mean() - 0.25) < 0.03
    sides = sj.bidirectional(sj.elman(100, 2), sj.serial(sj.dropout(0.5), sj.recurrent(sj.elman(100, 2))))
    params = sides.init(KEY)
    state = sides.initial_state(params)
    runs = [sides.apply(params, state, ones, key=key)[1] for key in (KEY, KEY, jax.random.key(3))]
    assert_close(runs[0], runs[1], rtol=0, atol=0)
    assert_close(runs[0][:, :2], runs[2][:, :2], rtol=0, atol=0)
    assert np.abs(runs[0] - runs[2])[:, 2:].max() > 0


def test_redraw_in_a_serial_model():
    """Noise inside any layer is replaced; recurrent state, and models without noise, are left as they are."""
    layer = sj.serial(
        sj.dense(D, D),
        sj.recurrent(sj.lstm(D, D)),
        sj.bidirectional(sj.gru(D, 2), sj.zoneout(sj.gru(D, 2), 0.5)),
        sj.recurrent(sj.zoneout(sj.gru(4, H), 0.5)),
    )
    params = layer.init(KEY)
    state, _ = layer.apply(params, layer.initial_state(params, (B,), key=KEY), XS)
    again = sj.redraw(layer, params, state, jax.random.key(5))
    assert_close(state[1], again[1], rtol=0, atol=0)
    assert_close(state[2].forward, again[2].forward, rtol=0, atol=0)
    assert_close(state[3][0], again[3][0], rtol=0, atol=0)
    assert np.abs(layer.apply(params, again, XS)[1] - layer.apply(params, state, XS)[1]).max() > 1e-3
    quiet = layer.initial_state(params, (B,))
    assert sj.redraw(sj.recurrent(sj.lstm(D, D)), params[1], quiet[1], KEY) is quiet[1]


def test_tied_embedding_is_one_matrix_in_two_places():
    body = sj.recurrent(sj.elman(D, D))
    tied = sj.tied_embedding(5, D, body)
    params = made(tied)
    apart = sj.serial(sj.embedding(5, D), body, sj.dense(D, 5))
    symbols = jax.random.randint(KEY, (T, B), 0, 5)
    state = state_of(tied, params)

    def untied(w_in, w_out):
        given = (sj.EmbeddingParams(w_in), params.body, sj.DenseParams(w_out.T, params.b))
        return apart.apply(given, ((), state, ()), symbols)[1]

    def f(w):
        return tied.apply(params._replace(w=w), state, symbols)[1]

    assert_close(f(params.w), untied(params.w, params.w))
    by_place = jax.grad(lambda *w: loss(untied(*w)), (0, 1))(params.w, params.w)
    assert_close(jax.grad(lambda w: loss(f(w)))(params.w), by_place[0] + by_place[1])


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_reverse_of_a_layer_equals_a_recurrence_in_reverse(masked):
    cell = sj.gru(D, H)
    params = made(cell)
    state = state_of(cell, params)
    options = {"mask": MASKS["holes"], "reset": RESET} if masked else {}
    there = sj.recurrent(cell, reverse=True).apply(params, state, XS, **options)
    assert_close(there, reverse(sj.recurrent(cell)).apply(params, state, XS, **options))


def test_chunks_compose_backwards_in_reverse():
    layer = sj.recurrent(sj.gru(D, H), reverse=True)
    params = made(layer)
    state = state_of(layer, params)
    whole = layer.apply(params, state, XS, reset=RESET)
    middle, second = layer.apply(params, state, XS[3:], reset=RESET[3:])
    last, first = layer.apply(params, middle, XS[:3], reset=RESET[:3])
    assert_close(whole, (last, jnp.concatenate([first, second])))


@pytest.mark.parametrize("mask", quick(MASKS, "holes"))
def test_bidirectional_equals_its_segments(mask):
    """Each example cut at its resets, masked ticks taken out, both directions run on what is left."""
    mask = MASKS[mask]
    layer = sj.bidirectional(sj.lstm(D, H), sj.gru(D, 2))
    params = made(layer)
    state = state_of(layer, params)
    run = jax.jit(lambda xs, mask, reset: layer.apply(params, state, xs, mask=mask, reset=reset))
    after, ys = run(poison(mask, XS), mask, RESET)
    ahead, back = sj.lstm(D, H), sj.gru(D, 2)
    for b in range(B):
        expected = np.zeros((T, H + 2))
        s = at(state.forward, b)
        cuts = [0, *np.flatnonzero(RESET[:, b]).tolist(), T]
        for start, stop in pairwise(cuts):
            if RESET[start, b] and start < stop:
                s = ahead.initial_state(params.forward)
            real = start + np.flatnonzero(mask[start:stop, b])
            for t in real:
                s, expected[t, :H] = ahead.step(params.forward, s, XS[t, b])
            r = back.initial_state(params.backward)
            for t in real[::-1]:
                r, expected[t, H:] = back.step(params.backward, r, XS[t, b])
        assert_close(ys[:, b], expected)
        assert_close(at(after.forward, b), s)


def test_bidirectional_restarts_its_backward_reader_with_each_chunk():
    layer = sj.bidirectional(sj.lstm(D, H), sj.zoneout(sj.lstm(D, H), 0.5))
    params = made(layer)
    state = state_of(layer, params)
    assert jax.tree.leaves(state.noise) == []
    middle, first = layer.apply(params, state, XS[:3])
    _, second = layer.apply(params, middle, XS[3:])
    _, whole = layer.apply(params, state, XS)
    assert_close(jnp.concatenate([first, second])[..., :H], whole[..., :H])
    assert_close(second[..., H:], whole[3:, :, H:])
    assert_close(first[..., H:], layer.apply(params, state, XS[:3])[1][..., H:])
    assert np.abs(first[..., H:] - whole[:3, :, H:]).max() > 1e-3
    noisy = layer.initial_state(params, (B,), key=KEY)
    later, first = layer.apply(params, noisy, XS)
    _, second = layer.apply(params, later, XS)
    assert np.abs(first[..., H:] - second[..., H:]).max() > 1e-3, "the same zoneout mask in every chunk"


def test_bidirectional_may_be_given_the_backward_readers_first_state():
    """It then starts every chunk there; what is stored and carried keeps its structure."""
    back = sj.zoneout(sj.lstm(D, H), 0.5)
    layer = sj.bidirectional(sj.lstm(D, H), back)
    params, mask = made(layer), MASKS["lengths"]
    first = state_of(back, params.backward, key=KEY)
    plain = state_of(layer, params)
    given = plain.with_backward(first)
    ticks = {"mask": mask, "reset": RESET}
    after, ys = layer.apply(params, given, XS, **ticks)
    end, expected = sj.unroll(back, params.backward, first, XS, **ticks, reverse=True)
    assert_close(ys[..., H:], expected)
    assert_close(ys[..., :H], layer.apply(params, plain, XS, **ticks)[1][..., :H])
    assert_close(after.noise, (first[0], end[1]))
    assert jax.tree.structure(after) == jax.tree.structure(given)
    assert jax.tree.structure(layer.apply(params, plain, XS)[0]) == jax.tree.structure(plain)
    assert plain._fields == ("forward", "noise")


def test_bidirectional_keeps_the_backward_readers_last_state():
    """Behind the chunk's first tick, masked, reset or neither; no later chunk reads it."""
    back = sj.zoneout(sj.lstm(D, H), 0.5)
    plain, kept = (sj.bidirectional(sj.lstm(D, H), back, keep_backward=keep) for keep in (False, True))
    params, mask = made(plain), MASKS["holes"].at[0, 1].set(False)
    state = kept.initial_state(params, (B,), key=KEY)
    without = sj.BidirectionalState(*state[:2])
    ticks = {"mask": mask, "reset": RESET}
    after, ys = kept.apply(params, state, XS, **ticks)
    other, zs = plain.apply(params, without, XS, **ticks)
    assert_close((after.forward, after.noise, ys), (other.forward, other.noise, zs))
    assert isinstance(other, sj.BidirectionalState)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    inner, noise = after.backward
    assert noise is None
    opening = RESET.at[0].set(False)  # a reset at the first tick closes nothing that was read
    start = (back.initial_state(params.backward, (B,))[0], state.noise[1])
    assert_close(inner, sj.unroll(back, params.backward, start, XS, mask=mask, reset=opening, reverse=True)[0][0])
    real = np.flatnonzero(mask[0])
    assert bool(RESET[0, real[0]])
    np.testing.assert_allclose(inner.h[real], ys[0, real, H:], rtol=1e-12)
    again = kept.apply(params, state._replace(backward=after.backward), XS, **ticks)  # nobody reads it
    assert_close(again, (after, ys))


def test_bidirectional_equals_torch():
    """Packed sequences of unequal lengths, outputs, last states of both readers, and all gradients."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    lengths = np.array([7, 4, 1])
    layer = sj.bidirectional(sj.lstm(D, H), sj.lstm(D, H), keep_backward=True)
    params = made(layer)
    h0, c0 = rng.normal(size=(2, B, H))
    weights = rng.normal(size=(T, B, 2 * H))

    def ours(params, xs):
        state = layer.initial_state(params, (B,))._replace(forward=sj.LSTMState(jnp.array(h0), jnp.array(c0)))
        mask = sj.masks.from_lengths(jnp.array(lengths), T)
        state, ys = layer.apply(params, state, jnp.where(mask[..., None], xs, jnp.nan), mask=mask)
        return (ys * weights).sum() + jnp.cos(state.forward.h + state.backward.c).sum(), (ys, state[::2])

    (_, (ys, last)), (of_params, of_xs) = jax.value_and_grad(ours, (0, 1), has_aux=True)(params, XS)

    net = torch.nn.LSTM(D, H, bidirectional=True).double()
    suffixes = {"": params.forward, "_reverse": params.backward}
    for suffix, p in suffixes.items():
        for name, value in {
            "weight_ih_l0": p.w_x.T,
            "weight_hh_l0": p.w_h.T,
            "bias_ih_l0": p.b,
            "bias_hh_l0": 0 * p.b,
        }.items():
            getattr(net, name + suffix).data = torch.tensor(np.asarray(value))
    x = torch.tensor(np.asarray(XS), requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths))
    start = (torch.tensor(np.stack([h0, 0 * h0])), torch.tensor(np.stack([c0, 0 * c0])))
    out, (h, c) = net(packed, start)
    out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, total_length=T)
    ((out * torch.tensor(weights)).sum() + torch.cos(h[0] + c[1]).sum()).backward()

    assert_close(ys, out.detach().numpy())
    assert_close(last, tuple(sj.LSTMState(h[i].detach().numpy(), c[i].detach().numpy()) for i in range(2)))
    assert_close(of_xs, x.grad.numpy(), rtol=1e-8, atol=1e-10)
    for suffix, p in {"": of_params.forward, "_reverse": of_params.backward}.items():
        for name, value in {"weight_ih_l0": p.w_x.T, "weight_hh_l0": p.w_h.T, "bias_ih_l0": p.b}.items():
            assert_close(value, getattr(net, name + suffix).grad.numpy(), rtol=1e-8, atol=1e-10)


ZEROS = jnp.zeros((T, B, D))


def run(layer, xs=ZEROS, **options):
    params = layer.init(KEY)
    return layer.apply(params, layer.initial_state(params, (B,)), xs, **options)


def both_ways(change):
    """Runs a bidirectional layer from a changed state."""
    layer = sj.bidirectional(sj.lstm(D, H), sj.gru(D, H))
    params = made(layer)
    layer.apply(params, change(layer.initial_state(params, (B,))), XS)


ERRORS = {
    "recurrent": (
        lambda: sj.recurrent(sj.dense(2, 2)),
        TypeError,
        "recurrent: expected a Cell, got Layer.*Pass the cell",
    ),
    "serial_empty": (lambda: sj.serial(), ValueError, "serial: expected at least one layer, got none. Pass"),
    "serial_cell": (
        lambda: sj.serial(sj.lstm(2, 2)),
        TypeError,
        r"serial: expected a Layer, got Cell. Wrap a cell in rec",
    ),
    "residual": (
        lambda: sj.residual(jnp.tanh),
        TypeError,
        "residual: expected a Layer, got .*Pass a cell or a layer",
    ),
    "residual_shape": (
        lambda: run(sj.residual(sj.dense(D, H))),
        ValueError,
        r"residual: expected outputs of the inputs' shape \(7, 3, 3\), got \(7, 3, 4\). Make input",
    ),
    "bidirectional": (
        lambda: sj.bidirectional(jnp.tanh, sj.lstm(2, 2)),
        TypeError,
        "bidirectional: expected a Layer, got",
    ),
    "bidirectional_backward": (
        lambda: sj.bidirectional(sj.lstm(2, 2), jnp.tanh),
        TypeError,
        "bidirectional: expected a Layer, got",
    ),
    "bidirectional_stateless": (
        lambda: run(sj.bidirectional(sj.dense(D, 2), sj.lstm(D, 2))),
        ValueError,
        "bidirectional: expected a forward layer whose state shows its batch shape, got one without",
    ),
    "bidirectional_bare_state": (
        lambda: both_ways(lambda state: state.forward),
        TypeError,
        r"bidirectional: expected a BidirectionalState, got LSTMState. Make it with initial_state\(params",
    ),
    "bidirectional_wrong_start": (
        lambda: both_ways(lambda state: state.with_backward(state.forward)),
        ValueError,
        r"bidirectional: expected noise, or a first state, like the backward reader's state \(3, 4\), got LSTMState",
    ),
    "bidirectional_wrong_batch": (
        lambda: both_ways(lambda state: state.with_backward(jnp.zeros((2, H)))),
        ValueError,
        r"backward reader's state \(3, 4\), got \(2, 4\). Make it with initial_state of the backward reader",
    ),
    "batch_shape_for_params": (
        lambda: sj.serial(sj.dense(2, 2)).initial_state((2,)),
        TypeError,
        r"serial: expected initial_state\(params, batch_shape\), got the batch shape \(2,\) in place of params",
    ),
    "tied_body": (
        lambda: sj.tied_embedding(5, D, sj.lstm(D, D)),
        TypeError,
        "tied_embedding: expected a Layer, got Cell",
    ),
    "tied_size": (
        lambda: run(sj.tied_embedding(5, D, sj.dense(D, H)), jnp.zeros((T, B), int)),
        ValueError,
        r"tied_embedding: expected inputs \[T, \*batch, 3\], got shape \(7, 3, 4\)",
    ),
    "dense_size": (
        lambda: sj.dense(0, 2),
        ValueError,
        "dense: expected input_size to be a whole number of at least 1, got 0",
    ),
    "dense_inputs": (
        lambda: run(sj.dense(5, 2)),
        ValueError,
        r"dense: expected inputs \[T, \*batch, 5\], got shape \(7, 3, 3\). Make the size agree",
    ),
    "layer_norm_inputs": (
        lambda: run(sj.layer_norm(5)),
        ValueError,
        r"layer_norm: expected inputs \[T, \*batch, 5\]",
    ),
    "rms_norm_inputs": (
        lambda: run(sj.layers.rms_norm(5)),
        ValueError,
        r"rms_norm: expected inputs \[T, \*batch, 5\]",
    ),
    "rms_norm_groups": (
        lambda: sj.layers.rms_norm(4, groups=3),
        ValueError,
        "rms_norm: expected groups to divide size=4, got 3. Change one of them",
    ),
    "layer_norm_groups": (
        lambda: sj.layer_norm(4, groups=3),
        ValueError,
        "layer_norm: expected groups to divide size=4, got 3. Change one of them",
    ),
    "feed_forward_size": (
        lambda: sj.feed_forward(2, 0),
        ValueError,
        "feed_forward: expected hidden_size to be a whole",
    ),
    "embedding_size": (
        lambda: sj.embedding(-1, 2),
        ValueError,
        "embedding: expected vocabulary_size to be a whole number",
    ),
    "embedding_floats": (
        lambda: run(sj.embedding(5, 2)),
        TypeError,
        "embedding: expected integers, got float64. Cast the symbols",
    ),
    "dropout_rate": (
        lambda: sj.dropout(1.0),
        ValueError,
        r"dropout: expected a rate of at least 0 and below 1, got 1.0. Set",
    ),
    "dropout_negative": (lambda: sj.dropout(-0.1), ValueError, "dropout: expected a rate of at least 0"),
    "dropout_integers": (
        lambda: run(sj.dropout(0.5), jnp.zeros((T, B), int)),
        TypeError,
        "dropout: expected floats, got int64. Embed",
    ),
    "mask_type": (
        lambda: run(sj.dense(D, 2), mask=jnp.ones((T, B))),
        TypeError,
        "dense: expected mask of bool, got float64. Compare with 0 or cast it",
    ),
    "mask_shape": (
        lambda: run(sj.dense(D, 2), mask=jnp.ones((B, T), bool)),
        ValueError,
        r"dense: expected mask \[T, \*batch\] like the leading axes of xs, which has shape \(7, 3, 3\), got",
    ),
    "reset_shape": (
        lambda: run(sj.layer_norm(D), reset=jnp.ones((T + 1, B), bool)),
        ValueError,
        r"layer_norm: expected reset \[T, \*batch\] like the leading axes of xs.* got \(8, 3\). Time first",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()

"""Convolution and attention against NumPy, and what temporal convolutions can see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_close
from zoo import perturbed

import seqjax as sj

T, B = 9, 2


def normal(seed, shape):
    return np.asarray(jax.random.normal(jax.random.key(seed), shape))


def test_causal_conv_by_definition():
    layer = sj.causal_conv(3, 4, width=3, dilation=2)
    params = perturbed(layer.init(jax.random.key(0)), jax.random.key(1))
    xs = normal(2, (T, B, 3))
    state, ys = layer.apply(params, layer.initial_state(params, (B,)), xs)
    expected = np.tile(np.asarray(params.b), (T, B, 1))
    for t in range(T):
        for j in range(3):
            if t - 2 * j >= 0:
                expected[t] += xs[t - 2 * j] @ np.asarray(params.w[j])
    np.testing.assert_allclose(ys, expected, rtol=1e-12)
    ordered = [state.ring[b, (int(state.place[b]) + np.arange(4)) % 4] for b in range(B)]
    np.testing.assert_array_equal(np.stack(ordered, 1), xs[-4:])


def test_streaming_goes_round_the_ring():
    """Tick by tick, twice round the ring and from a state that is not empty, equals the chunk."""
    layer = sj.causal_conv(3, 4, width=3, dilation=2)
    params = layer.init(jax.random.key(0))
    xs = jnp.asarray(normal(2, (2 * T, B, 3)))
    start, _ = layer.apply(params, layer.initial_state(params, (B,)), xs[:3])
    whole, ys = layer.apply(params, start, xs)
    state, zs = jax.jit(lambda p, s, xs: jax.lax.scan(lambda s, x: layer.apply(p, s, x[None]), s, xs))(
        params, start, xs
    )
    assert_close((state, zs[:, 0]), (whole, ys))


def test_masked_ticks_are_absent_from_the_window():
    """The outputs at real ticks are those of the sequence without the masked ones."""
    layer = sj.causal_conv(3, 4, width=3, dilation=2)
    params = layer.init(jax.random.key(0))
    xs = normal(2, (T, 1, 3))
    mask = np.array([1, 0, 1, 1, 0, 0, 1, 1, 1], bool)[:, None]
    state, ys = layer.apply(
        params, layer.initial_state(params, (1,)), jnp.where(mask[..., None], xs, jnp.nan), mask=mask
    )
    alone, expected = layer.apply(params, layer.initial_state(params, (1,)), xs[mask[:, 0]])
    np.testing.assert_allclose(ys[mask[:, 0]], expected, rtol=1e-12)
    assert_close(state, alone)


def sensitivity(layer, params, ticks):
    """Which inputs the last output depends on."""
    xs = jax.random.uniform(jax.random.key(5), (ticks, 2))

    def last(xs):
        return layer.apply(params, layer.initial_state(params), xs)[1][-1].sum()

    return np.abs(jax.jit(jax.grad(last))(xs)).sum(-1) > 0


def test_receptive_field_is_exactly_what_is_stated():
    """Positive weights and inputs keep every relu open, so that no path is cut by chance."""
    for blocks, width in ((1, 2), (2, 3), (3, 2)):
        layer = sj.models.temporal_convolution(2, [2] * blocks, width=width)
        params = jax.tree.map(jnp.abs, layer.init(jax.random.key(0)))
        params = jax.tree.map(lambda p: p + 0.1, params)
        field = sj.models.receptive_field(blocks, width=width)
        xs_seen = sensitivity(layer, params, field + 4)
        assert field == 1 + 2 * (width - 1) * (2**blocks - 1)
        np.testing.assert_array_equal(xs_seen, np.arange(field + 4) >= 4)


def test_a_streamed_network_equals_the_whole():
    """C13: three blocks with weight norm, tick by tick, in uneven chunks and at once; then as a writer of symbols."""
    model = sj.serial(sj.embedding(5, 2), sj.models.temporal_convolution(2, [3, 3, 4], width=3), sj.dense(4, 5))
    params = perturbed(model.init(jax.random.key(0)), jax.random.key(1))
    symbols = jax.random.randint(jax.random.key(2), (40, B), 0, 5, jnp.int32)
    assert sj.models.receptive_field(3, width=3) == 29 < len(symbols)
    apply = jax.jit(model.apply)
    end, whole = apply(params, model.initial_state(params, (B,)), symbols)
    cell = sj.as_cell(model)
    last, ticks = jax.jit(lambda s, xs: jax.lax.scan(lambda s, x: cell.step(params, s, x), s, xs))(
        model.initial_state(params, (B,)), symbols
    )
    assert_close((last, ticks), (end, whole))
    middle, first = apply(params, model.initial_state(params, (B,)), symbols[:33])
    after, rest = apply(params, middle, symbols[33:])
    assert_close((after, jnp.concatenate([first, rest])), (end, whole))
    written = sj.sample(model, params, end, symbols[-1], length=6).symbols
    read = jnp.concatenate([symbols[-1:], written[:-1]])
    np.testing.assert_array_equal(written, apply(params, end, read)[1].argmax(-1))


def test_temporal_block_by_its_equation():
    layer = sj.models.temporal_block(3, 4, width=2, dilation=2)
    params = perturbed(layer.init(jax.random.key(0)), jax.random.key(1))
    xs = normal(2, (T, B, 3))
    _, ys = layer.apply(params, layer.initial_state(params, (B,)), xs)

    def conv(x, p):
        w = np.asarray(p.layer.w * p.gain / jnp.linalg.norm(p.layer.w.reshape(-1, 4), axis=0))
        past = np.concatenate([np.zeros((2, *x.shape[1:])), x])[: len(x)]
        return np.maximum(x @ w[0] + past @ w[1] + np.asarray(p.layer.b), 0)

    inner = conv(conv(xs, params.body[0]), params.body[2])
    shortcut = xs @ np.asarray(params.shortcut.w) + np.asarray(params.shortcut.b)
    np.testing.assert_allclose(ys, np.maximum(inner + shortcut, 0), rtol=1e-10, atol=1e-12)
    square = sj.models.temporal_block(3, 3, width=2, dilation=1)
    assert square.init(jax.random.key(0)).shortcut is None
    dropping = sj.models.temporal_block(3, 3, width=2, dilation=1, rate=0.5)
    p = dropping.init(jax.random.key(0))
    quiet = dropping.apply(p, dropping.initial_state(p, (B,)), xs)[1]
    noisy = dropping.apply(p, dropping.initial_state(p, (B,)), xs, key=jax.random.key(1))[1]
    assert_close(quiet, square.apply(_without_drops(p), square.initial_state(_without_drops(p), (B,)), xs)[1])
    assert np.abs(quiet - noisy).max() > 0.1


def test_temporal_block_without_weight_norm_starts_alike():
    blocks = [sj.models.temporal_block(3, 4, width=2, dilation=2, weight_norm=flag) for flag in (True, False)]
    with_, without = (block.init(jax.random.key(0)) for block in blocks)
    assert with_.body[0].layer.w.shape == without.body[0].w.shape
    xs = normal(2, (T, B, 3))
    outputs = [b.apply(p, b.initial_state(p, (B,)), xs)[1] for b, p in zip(blocks, (with_, without))]
    assert_close(*outputs)


def test_weight_norm_has_the_gradients_of_the_paper():
    """Equations 3 of Salimans and Kingma, from the gradient with respect to the plain weights."""
    plain = sj.causal_conv(3, 4, width=2)
    layer = sj.weight_norm(plain)
    params = perturbed(layer.init(jax.random.key(0)), jax.random.key(1))
    xs = normal(2, (T, 3))

    def loss(layer, params):
        return (layer.apply(params, layer.initial_state(params), xs)[1] ** 3).sum()

    v, gain = np.asarray(params.layer.w).reshape(-1, 4), np.asarray(params.gain)
    length = np.linalg.norm(v, axis=0)
    weights = params.layer._replace(w=jnp.asarray((v * gain / length).reshape(2, 3, 4)))
    np.testing.assert_allclose(loss(layer, params), loss(plain, weights), rtol=1e-12)
    of_w = np.asarray(jax.grad(lambda p: loss(plain, p))(weights).w).reshape(-1, 4)
    found = jax.grad(lambda p: loss(layer, p))(params)
    of_gain = (of_w * v).sum(0) / length
    np.testing.assert_allclose(found.gain, of_gain, rtol=1e-9)
    of_v = gain / length * of_w - gain * of_gain / length**2 * v
    np.testing.assert_allclose(found.layer.w.reshape(-1, 4), of_v, rtol=1e-9, atol=1e-10)


def test_weight_norm_of_no_direction_is_no_weight():
    layer = sj.weight_norm(sj.dense(3, 2))
    params = layer.init(jax.random.key(0))
    params = params._replace(layer=params.layer._replace(w=jnp.zeros((3, 2))))
    gradient = jax.grad(lambda p: layer.apply(p, (), jnp.ones((4, 3)))[1].sum())(params)
    assert not layer.apply(params, (), jnp.ones((4, 3)))[1].any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def _without_drops(p):
    return p._replace(body=tuple(part for i, part in enumerate(p.body) if i not in (2, 5)))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("score", ["additive", "dot"])
def test_attention_by_its_equations(score):
    cell = sj.attend(sj.elman(3 + 5, 4), query_size=4, memory_size=5, size=6, score=score)
    params = perturbed(cell.init(jax.random.key(0)), jax.random.key(1))
    values, xs = normal(2, (7, B, 5)), normal(3, (T, B, 3))
    mask = np.array([[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [0, 0], [1, 0]], bool)
    holed = jnp.where(mask[..., None], values, jnp.nan)
    params = params._replace(memory=sj.Memory(holed, jnp.asarray(mask)))
    state, ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), xs)
    p = jax.tree.map(np.asarray, params)
    for b in range(B):
        m = values[mask[:, b], b]
        h, c = np.zeros(4), np.zeros(5)
        for t in range(T):
            h = np.tanh(np.concatenate([xs[t, b], c]) @ p.cell.w_x + h @ p.cell.w_h + p.cell.b)
            query, keys = h @ p.w_q, m @ p.w_m
            scores = np.tanh(query + keys) @ p.v if score == "additive" else keys @ query / np.sqrt(6)
            weights = softmax(scores, 0)
            c = weights @ m
            np.testing.assert_allclose(ys[t, b], np.concatenate([h, c]), rtol=1e-10)
        np.testing.assert_allclose(state.weights[b][mask[:, b]], weights, rtol=1e-10)
        assert not np.asarray(state.weights[b])[~mask[:, b]].any()


def test_attention_gradients_ignore_what_is_masked():
    """NaN in the memory's padding, and a memory with nothing in it: values and gradients stay finite and "
    "right."""
    cell = sj.attend(sj.gru(3 + 5, 4), 4, 5, 6)
    params = cell.init(jax.random.key(0))
    values, xs = jnp.asarray(normal(2, (4, B, 5))), jnp.asarray(normal(3, (T, B, 3)))

    def run(params, values, mask):
        params = params._replace(memory=sj.Memory(values, mask))
        _, ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), xs)
        return (ys**2).sum()

    run = jax.jit(jax.value_and_grad(run, (0, 1)))
    mask = jnp.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    value, (of_params, of_values) = run(params, jnp.where(mask[..., None], values, jnp.nan), mask)
    clean, (clean_of_params, clean_of_values) = run(params, jnp.where(mask[..., None], values, 0.0), mask)
    assert_close((value, of_params, of_values), (clean, clean_of_params, clean_of_values))
    assert not np.asarray(of_values)[~np.asarray(mask)].any()
    assert np.isfinite(value)
    full, _ = run(params, values[:3], None), None
    one = run(params, values, mask.at[:3].set(True))
    np.testing.assert_allclose(full[0], one[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: sj.causal_conv(2, 2, width=1), ValueError, "expected a width of at least 2, got 1"),
        (lambda: sj.causal_conv(2, 2, width=3, dilation=0), ValueError, "expected dilation to be a whole"),
        (lambda: _apply(sj.causal_conv(2, 2, width=2), jnp.ones((5, 3))), ValueError, r"inputs \[T, \*batch, 2\]"),
        (lambda: _apply(sj.causal_conv(2, 2, width=2), jnp.ones((5, 4, 2))), ValueError, "expected inputs. batch of"),
        (lambda: sj.attend(sj.gru(8, 4), 4, 5, 6, score="cosine"), ValueError, "expected score to be"),
        (lambda: sj.attend(sj.dense(8, 4), 4, 5, 6), TypeError, "attend: expected a Cell, got Layer"),
        (lambda: _memoryless(), ValueError, "attend: expected parameters with a memory, got None"),
        (lambda: sj.models.temporal_convolution(2, []), ValueError, "expected blocks to be a whole number"),
        (lambda: sj.weight_norm(sj.gru(2, 2)), TypeError, "weight_norm: expected a Layer, got Cell"),
        (lambda: sj.weight_norm(sj.dropout(0.5)).init(jax.random.key(0)), TypeError, "expected a layer with weights w"),
    ],
)  # fmt: skip
def test_errors(run, error, match):
    with pytest.raises(error, match=match):
        run()


def _apply(layer, xs):
    params = layer.init(jax.random.key(0))
    return layer.apply(params, layer.initial_state(params), xs)


def _memoryless():
    cell = sj.attend(sj.gru(8, 4), 4, 5, 6)
    return cell.initial_state(cell.init(jax.random.key(0)))

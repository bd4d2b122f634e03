"""Convolution and attention against NumPy, and what temporal convolutions can see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_close, valued

import seqjax as sj

T, B = 9, 2


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


def start(module):
    """Parameters of the module's shapes, drawn in NumPy: biases and gains are not what they are initialised to."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(module.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(0.6 * rng.normal(size=leaf.shape), leaf.dtype), shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(layer, params, xs, **options):
    """From the initial state."""
    return layer.apply(params, layer.initial_state(params, xs.shape[1:2]), xs, **options)


def test_causal_conv_by_definition():
    layer = sj.causal_conv(3, 4, width=3, dilation=2)
    params = start(layer)
    xs = normal(2, (T, B, 3))
    state, ys = run(layer, params, xs)
    expected = np.tile(np.asarray(params.b), (T, B, 1))
    for t in range(T):
        for j in range(3):
            if t - 2 * j >= 0:
                expected[t] += xs[t - 2 * j] @ np.asarray(params.w[j])
    np.testing.assert_allclose(ys, expected, rtol=1e-12)
    ring, place = np.asarray(state.ring), np.asarray(state.place)
    ordered = [ring[b, (place[b] + np.arange(4)) % 4] for b in range(B)]
    np.testing.assert_array_equal(np.stack(ordered, 1), xs[-4:])


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 4, 4), (4, 8, 4), (4, 6, 2)])
def test_grouped_convolution_equals_torch(inputs, outputs, groups):
    torch = pytest.importorskip("torch")
    layer = sj.causal_conv(inputs, outputs, width=4, dilation=2, groups=groups)
    params, xs = start(layer), normal(2, (T, B, inputs))
    assert params.w.shape == (4, inputs // groups, outputs)
    w = torch.tensor(np.asarray(params.w)[::-1].transpose(2, 1, 0).copy())
    x = torch.nn.functional.pad(torch.tensor(xs.transpose(1, 2, 0)), (6, 0))
    y = torch.nn.functional.conv1d(x, w, torch.tensor(np.asarray(params.b)), dilation=2, groups=groups)
    np.testing.assert_allclose(run(layer, params, xs)[1], y.numpy().transpose(2, 0, 1), rtol=1e-12)
    half = sj.causal_conv(inputs, outputs, width=4, dilation=2, groups=groups, compute_dtype=jnp.bfloat16)
    rounded = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.bfloat16).astype(float), tree)
    wanted = run(layer, params._replace(w=rounded(params.w)), rounded(xs))[1]
    np.testing.assert_allclose(run(half, params, xs)[1], wanted, rtol=1e-6, atol=1e-6)


def test_streaming_goes_round_the_ring():
    """Tick by tick, twice round the ring and from a state that is not empty, equals the chunk."""
    layer = sj.causal_conv(3, 4, width=3, dilation=2)
    params = start(layer)
    xs = jnp.asarray(normal(2, (2 * T, B, 3)))

    @jax.jit
    def both(params, xs):
        begin, _ = layer.apply(params, layer.initial_state(params, (B,)), xs[:3])
        state, zs = jax.lax.scan(lambda s, x: layer.apply(params, s, x[None]), begin, xs)
        return layer.apply(params, begin, xs), (state, zs[:, 0])

    assert_close(*both(params, xs))


def test_masked_ticks_are_absent_from_the_window():
    """The outputs at real ticks are those of the sequence without the masked ones."""
    layer = sj.causal_conv(3, 4, width=3, dilation=2)
    params = start(layer)
    xs = normal(2, (T, 1, 3))
    mask = np.array([1, 0, 1, 1, 0, 0, 1, 1, 1], bool)[:, None]
    state, ys = run(layer, params, np.where(mask[..., None], xs, np.nan), mask=mask)
    alone, expected = run(layer, params, xs[mask[:, 0]])
    np.testing.assert_allclose(np.asarray(ys)[mask[:, 0]], expected, rtol=1e-12)
    assert_close(state, alone)


def sensitivity(layer, params, ticks):
    """Which inputs the last output depends on."""
    xs = np.random.default_rng(5).random((ticks, 2))

    def last(xs):
        return layer.apply(params, layer.initial_state(params), xs)[1][-1].sum()

    return np.abs(jax.jit(jax.grad(last))(xs)).sum(-1) > 0


def test_receptive_field_is_exactly_what_is_stated():
    """Positive weights and inputs keep every relu open, so that no path is cut by chance."""
    for blocks, width in ((1, 2), (2, 3), (3, 2)):
        layer = sj.models.temporal_convolution(2, [2] * blocks, width=width)
        params = jax.tree.map(lambda p: jnp.asarray(np.abs(p) + 0.1), start(layer))
        field = sj.models.receptive_field(blocks, width=width)
        xs_seen = sensitivity(layer, params, field + 4)
        assert field == 1 + 2 * (width - 1) * (2**blocks - 1)
        np.testing.assert_array_equal(xs_seen, np.arange(field + 4) >= 4)


@pytest.mark.slow
def test_a_streamed_network_equals_the_whole():
    """C13: three blocks with weight norm, tick by tick, in uneven chunks and at once; then as a writer of symbols."""
    model = sj.serial(sj.embedding(5, 2), sj.models.temporal_convolution(2, [3, 3, 4], width=2), sj.dense(4, 5))
    params = start(model)
    symbols = np.random.default_rng(2).integers(0, 5, (21, B), np.int32)
    assert sj.models.receptive_field(3, width=2) == 15 < len(symbols)
    apply, cell = jax.jit(model.apply), sj.as_cell(model)

    @jax.jit
    def three(params):
        fresh = model.initial_state(params, (B,))
        ticks = jax.lax.scan(lambda s, x: cell.step(params, s, x), fresh, symbols)
        middle, first = model.apply(params, fresh, symbols[:17])
        after, rest = model.apply(params, middle, symbols[17:])
        return model.apply(params, fresh, symbols), ticks, (after, jnp.concatenate([first, rest]))

    (end, whole), ticks, chunks = three(params)
    assert_close(ticks, (end, whole))
    assert_close(chunks, (end, whole))
    written = sj.sample(model, params, end, symbols[-1], length=6).symbols
    read = np.concatenate([symbols[-1:], np.asarray(written[:-1])])
    np.testing.assert_array_equal(written, apply(params, end, read)[1].argmax(-1))


def test_temporal_block_by_its_equation():
    layer = sj.models.temporal_block(3, 4, width=2, dilation=2)
    params = start(layer)
    xs = normal(2, (T, B, 3))
    _, ys = run(layer, params, xs)

    def conv(x, p):
        w = np.asarray(p.layer.w)
        w = w * np.asarray(p.gain) / np.linalg.norm(w.reshape(-1, 4), axis=0)
        past = np.concatenate([np.zeros((2, *x.shape[1:])), x])[: len(x)]
        return np.maximum(x @ w[0] + past @ w[1] + np.asarray(p.layer.b), 0)

    inner = conv(conv(xs, params.body[0]), params.body[2])
    shortcut = xs @ np.asarray(params.shortcut.w) + np.asarray(params.shortcut.b)
    np.testing.assert_allclose(ys, np.maximum(inner + shortcut, 0), rtol=1e-10, atol=1e-12)
    square = sj.models.temporal_block(3, 3, width=2, dilation=1)
    assert jax.eval_shape(square.init, jax.random.key(0)).shortcut is None
    dropping = sj.models.temporal_block(3, 3, width=2, dilation=1, rate=0.5)
    p = start(dropping)
    quiet = np.asarray(run(dropping, p, xs)[1])
    noisy = np.asarray(run(dropping, p, xs, key=jax.random.key(1))[1])
    assert_close(quiet, run(square, _without_drops(p), xs)[1])
    assert np.abs(quiet - noisy).max() > 0.1


def test_temporal_block_without_weight_norm_starts_alike():
    blocks = [sj.models.temporal_block(3, 4, width=2, dilation=2, weight_norm=flag) for flag in (True, False)]
    with_, without = (jax.jit(block.init)(jax.random.key(0)) for block in blocks)
    assert with_.body[0].layer.w.shape == without.body[0].w.shape
    xs = normal(2, (T, B, 3))
    outputs = [run(block, p, xs)[1] for block, p in zip(blocks, (with_, without))]
    assert_close(*outputs)


def test_weight_norm_has_the_gradients_of_the_paper():
    """Equations 3 of Salimans and Kingma, from the gradient with respect to the plain weights."""
    bare = sj.causal_conv(3, 4, width=2)
    layer = sj.weight_norm(bare)
    params = start(layer)
    xs = normal(2, (T, 3))

    def loss(layer, params):
        return (layer.apply(params, layer.initial_state(params), xs)[1] ** 3).sum()

    v, gain = np.asarray(params.layer.w).reshape(-1, 4), np.asarray(params.gain)
    length = np.linalg.norm(v, axis=0)
    weights = params.layer._replace(w=jnp.asarray((v * gain / length).reshape(2, 3, 4)))
    slope = jax.jit(jax.value_and_grad(loss, 1), static_argnums=0)
    value, found = slope(layer, params)
    expected, of_weights = slope(bare, weights)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    of_w = np.asarray(of_weights.w).reshape(-1, 4)
    of_gain = (of_w * v).sum(0) / length
    np.testing.assert_allclose(found.gain, of_gain, rtol=1e-9)
    of_v = gain / length * of_w - gain * of_gain / length**2 * v
    np.testing.assert_allclose(found.layer.w.reshape(-1, 4), of_v, rtol=1e-9, atol=1e-10)


def test_weight_norm_of_no_direction_is_no_weight():
    layer = sj.weight_norm(sj.dense(3, 2))
    params = start(layer)
    params = params._replace(layer=params.layer._replace(w=jnp.zeros((3, 2))))
    ys, gradient = jax.jit(valued(lambda p: layer.apply(p, (), jnp.ones((4, 3)))[1]))(params)
    np.testing.assert_array_equal(ys, np.tile(params.layer.b, (4, 1)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def _without_drops(p):
    return p._replace(body=tuple(part for i, part in enumerate(p.body) if i not in (2, 5)))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("score", ["additive", "dot"])
def test_attention_by_its_equations(score):
    cell = sj.attend(sj.elman(3 + 5, 4), query_size=4, memory_size=5, size=6, score=score)
    params = start(cell)
    values, xs = normal(2, (7, B, 5)), normal(3, (T, B, 3))
    mask = np.array([[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [0, 0], [1, 0]], bool)
    holed = jnp.asarray(np.where(mask[..., None], values, np.nan))
    params = params._replace(memory=sj.Memory(holed, jnp.asarray(mask)))
    state, ys = jax.jit(lambda p: sj.unroll(cell, p, cell.initial_state(p, (B,)), xs))(params)
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
        found = np.asarray(state.weights)[b]
        np.testing.assert_allclose(found[mask[:, b]], weights, rtol=1e-10)
        assert not found[~mask[:, b]].any()


def test_attention_gradients_ignore_what_is_masked():
    """NaN in the memory's padding, and a memory with nothing in it: values and gradients stay finite and right."""
    cell = sj.attend(sj.gru(3 + 5, 4), 4, 5, 6)
    params = start(cell)
    values, xs = normal(2, (4, B, 5)), normal(3, (T, B, 3))

    def attended(params, values, mask):
        params = params._replace(memory=sj.Memory(values, mask))
        _, ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), xs)
        return (ys**2).sum()

    slope = jax.jit(jax.value_and_grad(attended, (0, 1)))
    mask = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    value, of_all = slope(params, np.where(mask[..., None], values, np.nan), mask)
    clean, clean_of_all = slope(params, np.where(mask[..., None], values, 0.0), mask)
    assert_close((value, of_all), (clean, clean_of_all))
    assert not np.asarray(of_all[1])[~mask].any()
    assert np.isfinite(value)
    full = jax.jit(attended)(params, values[:3], None)
    one, _ = slope(params, values, np.arange(4)[:, None] < np.full(B, 3))
    np.testing.assert_allclose(full, one, rtol=1e-12)


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: sj.causal_conv(2, 2, width=1), ValueError, "expected a width of at least 2, got 1"),
        (lambda: sj.causal_conv(2, 2, width=3, dilation=0), ValueError, "expected dilation to be a whole"),
        (lambda: sj.causal_conv(4, 6, width=2, groups=4), ValueError, "groups to divide output_size=6, got 4. Change"),
        (lambda: sj.causal_conv(6, 4, width=2, groups=4), ValueError, "conv: expected groups to divide input_size=6"),
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
    params = start(layer)
    return jax.eval_shape(lambda p: layer.apply(p, layer.initial_state(p), xs), params)


def _memoryless():
    cell = sj.attend(sj.gru(8, 4), 4, 5, 6)
    return cell.initial_state(jax.eval_shape(cell.init, jax.random.key(0)))

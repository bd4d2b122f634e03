"""Blocks around cells against NumPy from their equations, deep, streamed, named, and refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_close

import seqjax as sj
from seqjax import layers, models
from seqjax.naming import named

KEY = jax.random.key(0)
T, B, D = 6, 2, 6
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(T, B, D))


def start(module):
    """Parameters of the module's shapes, drawn in NumPy: biases and gains are not what they are initialised to."""
    rng, shapes = np.random.default_rng(1), jax.eval_shape(module.init, KEY)
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(layer, params, xs):
    return layer.apply(params, layer.initial_state(params, xs.shape[1:2]), xs)[1]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def rms(x, p):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p.gain


def standardised(x, p, groups=1):
    parts = [
        (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5) for g in np.split(x, groups, -1)
    ]
    return np.concatenate(parts, -1) * p.gain + p.b


def convolved(xs, p):
    ys = np.tile(p.b, (*xs.shape[:2], 1))
    for t in range(len(xs)):
        for j in range(min(t + 1, len(p.w))):
            ys[t] += xs[t - j] * p.w[j, 0]
    return ys


def elman(xs, p):
    h, ys = np.zeros((xs.shape[1], p.b.shape[-1])), []
    for x in xs:
        h = np.tanh(x @ p.w_x + h @ p.w_h + p.b)
        ys.append(h)
    return np.stack(ys)


def mlp(xs, p):
    gate, value = np.split(xs @ p.w_x, 2, axis=-1)
    return gelu(gate) * value @ p.w_out


def griffin(params, x):
    (norm, p), (mlp_norm, mlp_params) = params
    gate, value = np.split(rms(x, norm) @ p.w_x, 2, axis=-1)
    x = x + gelu(gate) * elman(convolved(value, p.conv), p.cell) @ p.w_out
    return x + mlp(rms(x, mlp_norm), mlp_params)


def minimal(params, x):
    (norm, p), (mlp_norm, mlp_params) = params
    x = x + elman(convolved(rms(x, norm) @ p.w_x, p.conv), p.cell) @ p.w_out
    return x + mlp(rms(x, mlp_norm), mlp_params)


def mamba(params, x):
    norm, p = params
    gate, value = np.split(rms(x, norm) @ p.w_x, 2, axis=-1)
    return x + silu(gate) * elman(silu(convolved(value, p.conv)), p.cell) @ p.w_out


def xlstm(params, x):
    norm, p = params
    gate, value = np.split(standardised(x, norm) @ p.w_x, 2, axis=-1)
    u = silu(convolved(value, p.conv))
    h = standardised(elman(u, p.cell), p.norm, 3) + p.skip * u
    return x + silu(gate) * h @ p.w_out


def s5(params, x):
    norm, cell, _, gate = params
    u = gelu(elman(standardised(x, norm), cell))
    return x + u * sigmoid(u @ gate.w + gate.b)


def plain(params, x):
    """Neither convolution nor gate nor MLP."""
    norm, p = params
    return x + elman(standardised(x, norm) @ p.w_x, p.cell) @ p.w_out


BLOCKS = {
    "griffin": (models.griffin_block(D, cell=sj.elman), griffin),
    "mamba": (models.mamba_block(D, cell=sj.elman), mamba),
    "minimal": (models.minimal_block(D, cell=sj.elman), minimal),
    "xlstm": (models.xlstm_block(D, cell=sj.elman, heads=3), xlstm),
    "s5": (models.s5_block(D, cell=sj.elman), s5),
    "plain": (layers.block(sj.elman, D, hidden_size=4, norm="layer", conv=None, gate=None), plain),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_by_their_equations(name):
    layer, reference = BLOCKS[name]
    params = start(layer)
    expected = reference(jax.tree.map(lambda p: np.asarray(p, np.float64), params), XS)
    np.testing.assert_allclose(run(layer, params, XS), expected, rtol=1e-9, atol=1e-10)


def test_masked_ticks_are_absent_from_a_block_and_a_reset_begins_anew():
    """Outputs at real ticks are those of the two segments alone, whatever lies in the padding."""
    layer = BLOCKS["xlstm"][0]
    params, start_of = start(layer), lambda p: layer.initial_state(p, (B,))
    mask = np.array([1, 0, 1, 1, 0, 1], bool)
    ticks = {"mask": np.stack([mask] * B, 1), "reset": np.stack([np.arange(T) == 3] * B, 1)}
    bad = np.where(mask[:, None, None], XS, np.nan)
    ys = jax.jit(lambda p: layer.apply(p, start_of(p), bad, **ticks)[1])(params)
    for segment in ([0, 2], [3, 5]):
        np.testing.assert_allclose(ys[np.array(segment)], run(layer, params, XS[segment]), rtol=1e-9)
    assert not np.asarray(ys)[~mask].any()


def test_the_block_of_attention_is_that_of_griffin_with_attention():
    layer = models.attention_block(8, heads=2, window=3)
    params, xs = start(layer), RNG.normal(size=(T, B, 8))
    (norm, look), (mlp_norm, mlp_params) = params
    attention = layers.windowed_attention(8, 2, 3, kv_heads=1)
    x = xs + np.asarray(run(attention, look, rms(xs, norm)))
    np.testing.assert_allclose(run(layer, params, xs), x + mlp(rms(x, mlp_norm), mlp_params), rtol=1e-9)


PUBLISHED = {
    "griffin": models.griffin_block,
    "mamba": models.mamba_block,
    "minimal": models.minimal_block,
    "xlstm": functools.partial(models.xlstm_block, heads=2),
    "s5": models.s5_block,
    "attention": functools.partial(models.attention_block, heads=1, window=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_deep_body_streams_with_the_cell_of_its_paper(name):
    """Whole, with a mask and resets, equals tick by tick and two chunks; gradients are finite."""
    body = models.deep_blocks(D, block=PUBLISHED[name], layers=2)
    params, xs = body.init(KEY), jnp.asarray(RNG.normal(size=(9, B, D)))
    mask, reset = RNG.random((2, 9, B)) > np.array([0.3, 0.8])[:, None, None]

    @jax.jit
    def ways(params, xs):
        fresh = body.initial_state(params, (B,))
        masked = body.apply(params, fresh, xs, mask=mask, reset=reset)
        one = lambda s, tick: body.apply(params, s, tick[0][None], mask=tick[1][None], reset=tick[2][None])
        state, ys = jax.lax.scan(one, fresh, (xs, mask, reset))
        middle, first = body.apply(params, fresh, xs[:4], mask=mask[:4], reset=reset[:4])
        last, second = body.apply(params, middle, xs[4:], mask=mask[4:], reset=reset[4:])
        slope = jax.grad(lambda p: jnp.sin(body.apply(p, fresh, xs)[1]).sum())(params)
        return masked, (state, ys[:, 0]), (last, jnp.concatenate([first, second])), slope

    whole, ticks, chunks, slope = ways(params, xs)
    assert_close(whole, ticks, rtol=1e-8, atol=1e-9)
    assert_close(whole, chunks, rtol=1e-8, atol=1e-9)
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(slope))


def test_a_language_model_of_blocks():
    """Embedding, a map to the size of blocks, the blocks, a norm, logits; tied and dropped too."""
    block = functools.partial(models.griffin_block, cell=sj.elman)
    model = models.language_model(5, D, embedding_size=3, block=block, layers=2)
    params, symbols = model.init(KEY), RNG.integers(0, 5, (T, B))
    by_hand = sj.serial(
        models.symbols_or_nothing(5, 3),
        sj.serial(sj.dense(3, D), models.deep_blocks(D, block=block, layers=2)),
        sj.dense(D, 5),
    )
    assert_close(run(model, params, symbols), run(by_hand, params, symbols), rtol=0, atol=0)
    tied = models.language_model(5, D, block=block, tied=True, dropout=0.5)
    assert sj.summary(tied, jnp.zeros(B, int)).parameter_count > 0
    assert models.language_model(5, D, block=functools.partial(models.griffin_block, cell=sj.elman)) == (
        models.language_model(5, D, block=block)
    )


def test_names_of_a_block():
    names = list(named(BLOCKS["griffin"][0], start(BLOCKS["griffin"][0])))
    assert names == [
        "rms_norm/gain",
        "gated_recurrence/w_x",
        "gated_recurrence/conv/w",
        "gated_recurrence/conv/b",
        "gated_recurrence/cell/w_x",
        "gated_recurrence/cell/w_h",
        "gated_recurrence/cell/b",
        "gated_recurrence/w_out",
        "rms_norm_1/gain",
        "gated_mlp/w_x",
        "gated_mlp/w_out",
    ]


def test_noise_of_the_cell_is_redrawn_and_options_reach_it():
    """A cell with noise inside; engine and memory are handed on."""
    noisy = lambda d, h: sj.zoneout(sj.elman(d, h), 0.5)
    layer = layers.gated_recurrence(noisy, D, 4, engine="scan", memory=2)
    params = layer.init(KEY)
    state = layer.initial_state(params, (B,), key=KEY)
    again = sj.redraw(layer, params, state, jax.random.key(1))
    first, second = (layer.apply(params, s, jnp.asarray(XS))[1] for s in (state, again))
    assert np.abs(first - second).max() > 1e-3
    bad = layers.gated_recurrence(sj.elman, D, 4, memory="none of these")
    with pytest.raises(ValueError, match="expected memory to be"):
        run(bad, params, XS)


ERRORS = {
    "a cell": (
        lambda: layers.block(sj.lstm(3, 3), 3),
        TypeError,
        "gated_recurrence: expected a function that makes a cell of two sizes, such as lstm, got a Cell. Pass the func",
    ),
    "a name": (lambda: layers.block("lstm", 3), TypeError, "expected a function that makes a cell .*, got str. Pass"),
    "a layer": (
        lambda: layers.block(sj.dense, 3),
        TypeError,
        "gated_recurrence: expected a Cell, got Layer. Pass a function",
    ),
    "an output of another size": (
        lambda: _applied(),
        ValueError,
        r"gated_recurrence: expected a cell whose output has hidden_size=3 numbers, got shape \(6, 2, 2\). Give one",
    ),
    "heads of the cell": (
        lambda: layers.block(functools.partial(sj.cells.rglru, heads=4), 3, hidden_size=6),
        ValueError,
        "rglru: expected heads to divide hidden_size=6, got 4. Change one of them",
    ),
    "heads of the norm": (
        lambda: models.xlstm_block(3, heads=4),
        ValueError,
        "xlstm_block: expected heads to divide hidden_size=6, got 4. Change one of them",
    ),
    "one tick": (lambda: layers.block(sj.gru, 3, conv=1), ValueError, "expected a width of at least 2, got 1. Use"),
    "norm": (lambda: layers.block(sj.gru, 3, norm="batch"), ValueError, "block: expected norm to be one of 'rms', 'la"),
    "size": (lambda: layers.block(sj.gru, 0), ValueError, "gated_recurrence: expected size to be a whole number of at"),
    "option": (lambda: layers.block(sj.gru, 3, widening=2), TypeError, "unexpected keyword argument 'widening'"),
    "mlp": (lambda: layers.gated_mlp(3, 0), ValueError, "gated_mlp: expected hidden_size to be a whole number of at"),
    "inputs": (
        lambda: run(layers.gated_mlp(4, 2), layers.gated_mlp(4, 2).init(KEY), XS),
        ValueError,
        r"gated_mlp: expected inputs \[T, \*batch, 4\], got shape \(6, 2, 6\)",
    ),
    "self_gate": (
        lambda: run(layers.self_gate(4), layers.self_gate(4).init(KEY), XS),
        ValueError,
        r"self_gate: expected inputs \[T, \*batch, 4\]",
    ),
    "layers": (
        lambda: models.deep_blocks(4, block=models.s5_block, layers=0),
        ValueError,
        "deep_blocks: expected layers to be a whole number of at least 1, got 0",
    ),
    "block and cell": (
        lambda: models.language_model(5, 4, cell=sj.gru, block=models.s5_block),
        ValueError,
        "language_model: expected a block, or a cell with its engine and memory, got both. Give them to the block",
    ),
}


def _applied():
    layer = layers.block(functools.partial(sj.projected_lstm, projection_size=2), 3)
    run(layer, start(layer), XS[..., :3])


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()

"""Losses over chunks of ticks: equal to the whole, and never all logits at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_close
from marks import quick
from small_training import BATCH, FULL, KEY, PARAMS, language_model, start

import seqjax as sj

ZONEOUT = language_model(sj.zoneout(sj.lstm(3, 4), 0.3))


@functools.cache
def slope_in_chunks(size):
    """Value, state, tally, and gradients of parameters and state; over the whole where there is no size."""
    make = sj.objective if size is None else functools.partial(sj.over_chunks, size=size)
    objective, state = make(ZONEOUT, sj.cross_entropy), start(ZONEOUT, key=KEY)
    moving, noise = state[2]

    def f(params, moving):
        after, tally = objective(params, (*state[:2], (moving, noise), state[3]), FULL)
        return tally.sum + jnp.sin(after[2][0].c).sum(), (after, tally)

    return jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(PARAMS, moving)


@pytest.mark.parametrize("size", quick([3, 20], 20))
def test_chunks_equal_the_whole(size):
    """Value, count, state and gradients of parameters and state; noise, masks, resets, odd T."""
    assert_close(slope_in_chunks(size), slope_in_chunks(None), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_chunks_redraw_as_the_whole_does():
    """The state's noise is drawn before the first chunk: whole and chunks see the same."""
    model = ZONEOUT
    state, key = start(model, key=KEY), jax.random.key(7)
    whole, chunked, keeping = map(
        jax.jit,
        [
            sj.objective(model, sj.cross_entropy),
            sj.over_chunks(model, sj.cross_entropy, 3),
            sj.over_chunks(model, sj.cross_entropy, 3, redraw=False),
        ],
    )
    assert_close(chunked(PARAMS, state, FULL, key), whole(PARAMS, state, FULL, key))
    assert_close(keeping(PARAMS, state, FULL, key), whole(PARAMS, state, FULL))


def test_chunks_draw_dropout_once_for_value_and_gradient():
    """The chunk that is run again for its gradient drops what it dropped before, and no two chunks alike."""
    model = language_model(sj.lstm(3, 4), dropout=0.5)
    objective = sj.over_chunks(model, sj.cross_entropy, 2)
    direction = jax.tree.map(lambda p: np.random.default_rng(p.size).normal(size=p.shape), PARAMS)

    @jax.jit
    @jax.value_and_grad
    def f(epsilon):
        return objective(jax.tree.map(lambda p, d: p + epsilon * d, PARAMS, direction), start(), BATCH, KEY)[1].sum

    assert_close(f(0.0)[1], (f(1e-5)[0] - f(-1e-5)[0]) / 2e-5, rtol=1e-8, atol=1e-8)
    layer = sj.dropout(0.5)
    first = lambda ys, targets, mask: sj.Tally((ys * targets).sum(), jnp.array(1))
    weights = jnp.array(2.0) ** jnp.arange(8.0)[:, None]
    kept = sj.over_chunks(layer, first, 4)((), (), sj.Batch(jnp.ones((8, 1)), weights), KEY)[1].sum / 2
    bits = int(kept)
    assert bits % 16 != bits // 16


def test_chunks_never_hold_all_logits():
    """Compiler temporaries of the gradient grow by states, not by logits."""
    vocabulary = 512
    model = sj.serial(sj.embedding(vocabulary, 8), sj.recurrent(sj.gru(8, 8)), sj.dense(8, vocabulary))
    params = jax.eval_shape(model.init, KEY)

    def bytes_of(objective, length):
        state = jax.eval_shape(lambda p: model.initial_state(p, (2,)), params)
        symbols = jax.ShapeDtypeStruct((length, 2), jnp.int32)
        gradient = jax.grad(lambda p, s, b: objective(p, s, b)[1].sum)
        compiled = jax.jit(gradient).lower(params, state, sj.Batch(symbols, symbols)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    a_tick = 2 * vocabulary * 8
    whole = sj.objective(model, sj.cross_entropy)
    assert bytes_of(whole, 2048) - bytes_of(whole, 512) > 1536 * a_tick
    chunked = sj.over_chunks(model, sj.cross_entropy, 64)
    assert bytes_of(chunked, 2048) - bytes_of(chunked, 512) < 0.03 * 1536 * a_tick
    assert bytes_of(chunked, 2048) < 6 * 64 * a_tick

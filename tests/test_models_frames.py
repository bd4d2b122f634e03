"""Frames whose features belong together against all frames written out; a line that networks correct against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import seqjax as sj
from seqjax import models

pytestmark = pytest.mark.usefixtures("equal_ranks")

D, N, M = 3, 4, 5
NADE = models.nade(D, N, M)
PARAMS = jax.tree.map(lambda p: 4 * p, NADE.init(jax.random.key(0)))
FRAMES = np.array(list(itertools.product((0, 1), repeat=N)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_features(h, frame, temperature=1.0):
    """p(frame | h), one feature after the other."""
    p = jax.tree.map(np.asarray, PARAMS)
    a, b, probability = h @ p.start.w + p.start.b, h @ p.bias.w + p.bias.b, 1.0
    for j, x in enumerate(frame):
        on = sigmoid((b[j] + p.says[j] @ np.tanh(a)) / temperature)
        probability *= on if x else 1 - on
        a = a + x * p.reads[j]
    return probability


def test_the_loss_of_a_frame_is_that_of_its_features_in_order():
    hs = np.random.default_rng(0).normal(size=(2, len(FRAMES), D))
    frames = np.stack([FRAMES, FRAMES[::-1]])
    expected = np.array([[by_features(h, x) for h, x in zip(*row)] for row in zip(hs, frames)])
    mask = np.random.default_rng(1).random(expected.shape) < 0.6
    tally = NADE.loss(PARAMS, jnp.asarray(hs), jnp.asarray(frames), jnp.asarray(mask))
    np.testing.assert_allclose(tally.sum, -np.log(expected[mask]).sum(), rtol=1e-12)
    assert tally.count == mask.sum()
    one = jnp.broadcast_to(jnp.asarray(hs[0, 0]), (1, len(FRAMES), D))
    each = jax.vmap(lambda h, x: NADE.loss(PARAMS, h[None], x[None]).sum)(one[0], jnp.asarray(FRAMES))
    assert np.exp(-each).sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_drawn_frames_follow_their_distribution(temperature):
    h, n = np.array([0.3, -1.0, 0.8]), 20_000
    draw = jax.jit(lambda key: NADE.draw(PARAMS, key, jnp.broadcast_to(jnp.asarray(h), (n, D)), temperature))
    drawn = np.asarray(draw(jax.random.key(1))).astype(int)
    counts = np.bincount(drawn @ (2 ** np.arange(N)[::-1]), minlength=len(FRAMES))
    expected = n * np.array([by_features(h, x, temperature) for x in FRAMES])
    often = expected > 5
    pairs = [np.append(x[often], x[~often].sum()) for x in (counts, expected)]
    kept = pairs[1] > 0
    assert scipy.stats.chisquare(pairs[0][kept], pairs[1][kept]).pvalue > 1e-3
    assert NADE.draw(PARAMS, jax.random.key(2), jnp.asarray(h)).shape == (N,)


def test_sizes_of_frames_are_told():
    with pytest.raises(ValueError, match="nade: expected features to be a whole number of at least 1, got 0"):
        models.nade(3, 0, 4)
    with pytest.raises(ValueError, match=r"nade: expected frames of shape \(5, 4\) like the states, got \(5, 3\)"):
        NADE.loss(PARAMS, jnp.ones((5, D)), jnp.ones((5, 3)))


RNG = np.random.default_rng(0)
SERIES = np.stack([np.sin(np.arange(300) / 4), np.cos(np.arange(300) / 7) ** 3], 1) + 0.05 * RNG.normal(size=(300, 2))
NETWORK = sj.serial(sj.recurrent(sj.gru(2, 4)), sj.dense(4, 2))


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_line_is_that_of_least_squares(noise):
    """By the normal equations of rows written out, an intercept that is not shrunk among them."""
    model = models.corrected(2, 3, NETWORK)
    params = models.fitted(model.init(jax.random.key(0)), SERIES, noise=noise)
    rows = np.array([np.concatenate([SERIES[t], SERIES[t - 1], SERIES[t - 2], [1]]) for t in range(2, 299)])
    ridge = noise**2 * len(rows) * np.diag([1] * 6 + [0])
    weights = np.linalg.solve(rows.T @ rows + ridge, rows.T @ SERIES[3:])
    np.testing.assert_allclose(params.line.w.reshape(6, 2), weights[:6], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(params.line.b, weights[6], rtol=1e-6, atol=1e-9)
    left = SERIES[3:] - rows @ weights
    np.testing.assert_allclose(params.scale, left.std(0), rtol=1e-6)

    xs = jnp.asarray(SERIES[:50])
    state, ys = model.apply(params, model.initial_state(params), xs)
    corrections = np.asarray(NETWORK.apply(params.network, NETWORK.initial_state(params.network), xs)[1])
    np.testing.assert_allclose(ys[2:], rows[:48] @ weights + left.std(0) * corrections[2:], rtol=1e-6, atol=1e-8)
    _, more = model.apply(params, state, jnp.asarray(SERIES[50:52]))  # the state carries the window
    corrections = np.asarray(NETWORK.apply(params.network, state.network, jnp.asarray(SERIES[50:52]))[1])
    np.testing.assert_allclose(more, rows[48:50] @ weights + left.std(0) * corrections, rtol=1e-6, atol=1e-8)


def test_the_line_stays_and_begins_as_today():
    model = models.corrected(2, 3, NETWORK)
    params = model.init(jax.random.key(0))
    stays = sj.fixed(model, params)
    assert all(jax.tree.leaves((stays.line, stays.scale)))
    assert not any(jax.tree.leaves(stays.network))
    silent = params._replace(network=jax.tree.map(jnp.zeros_like, params.network))
    xs = jnp.asarray(SERIES[:9])
    np.testing.assert_array_equal(model.apply(silent, model.initial_state(silent), xs)[1], xs)
    with pytest.raises(ValueError, match=r"fitted: expected a series \[T, 2\] of more than 3 ticks, got shape"):
        models.fitted(params, SERIES[:3])

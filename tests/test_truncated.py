"""Truncated backpropagation through time against a slow forward computation, and against the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import B, T, assert_close
from small_training import BATCH, FULL, MASK, MODEL, OBJECTIVE, PARAMS, start

import seqjax as sj


def streams():
    """Inputs, targets, mask and reset of two scalar sequences."""
    rng = np.random.default_rng(1)
    mask = rng.random((T, 2)) > 0.2
    reset = np.zeros((T, 2), bool)
    reset[4, 0] = reset[2, 1] = True
    return sj.Batch(rng.normal(size=(T, 2, 1)), rng.normal(size=(T, 2, 1)), mask, reset)


def slow_truncated(theta, stream, h, k1, k2, rate):
    """BPTT(k1, k2) of h' = tanh(w x + u h + b), L = (h - target)², one sequence and one tick at a time.

    The derivative dh/dθ goes forward beside h, and is set to zero where a gradient no longer reaches.
    """
    h = list(h)
    counts = []
    for n in range(-(-T // k1)):
        new = range(n * k1 + max(k1 - k2, 0), min((n + 1) * k1, T))
        w, u, b = theta
        total, gradient, count = 0.0, np.zeros(3), 0
        for e in range(2):
            s, d = h[e], np.zeros(3)
            for t in range(n * k1 - max(k2 - k1, 0), (n + 1) * k1):
                if t == n * k1 + k1 - k2 and k2 < k1:
                    d = np.zeros(3)
                if 0 <= t < T:
                    if stream.reset[t, e]:
                        s, d = 0.0, np.zeros(3)
                    if stream.mask[t, e]:
                        x = stream.xs[t, e, 0]
                        after = np.tanh(w * x + u * s + b)
                        d = (1 - after**2) * (np.array([x, s, 1.0]) + u * d)
                        s = after
                        if t in new:
                            error = s - stream.targets[t, e, 0]
                            total, gradient, count = total + error**2, gradient + 2 * error * d, count + 1
                if t == n * k1 - max(k2 - k1, 0) + k1 - 1:
                    h[e] = s
        counts.append(count)
        theta = theta - rate * gradient / max(count, 1)
    return theta, h, counts


more = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("k1", "k2"), [(3, 3), (2, 5), (4, 2), (2, 20), more(1, 1), more(1, T), more(T, T), more(10, 10)]
)
def test_truncated_equals_a_slow_forward_computation(k1, k2):
    """Updates after every window, resets, masks, ragged ends; parameters, state and counts."""
    layer = sj.recurrent(sj.elman(1, 1))
    theta, h, rate = np.array([0.7, -1.3, 0.2]), [0.3, -0.4], 0.5
    params = sj.ElmanParams(*(jnp.array(v).reshape(s) for v, s in zip(theta, [(1, 1), (1, 1), (1,)])))
    stream = streams()
    objective = sj.truncated(layer, sj.mean_squared_error, k1, k2)
    step = sj.train_step(objective, optax.sgd(rate))
    train, state = sj.train_state(params, optax.sgd(rate)), jnp.array(h)[:, None]
    counts = []
    for window in sj.windows(stream, k1, k2):
        train, state, metrics = step(train, state, window)
        counts.append(int(metrics.tally.count))
    expected, h, expected_counts = slow_truncated(theta, stream, h, k1, k2, rate)
    assert counts == expected_counts
    if k2 >= k1:
        assert sum(counts) == stream.mask.sum()
    assert_close(np.concatenate([np.ravel(p) for p in train.params]), expected)
    assert_close(np.asarray(state)[:, 0], np.array(h))


def slope_of(objective):
    @jax.jit
    def gradient(params, state, window):
        def f(params):
            after, tally = objective(params, state, window)
            return tally.sum, (after, tally)

        return jax.value_and_grad(f, has_aux=True)(params)

    return gradient


slope_of_the_whole = slope_of(OBJECTIVE)


@pytest.mark.parametrize(("k1", "k2"), [(3, 9), (10, 10), more(1, T), more(T, T)])
def test_windows_that_reach_the_beginning_add_up_to_full_backpropagation(k1, k2):
    """At fixed parameters, the state carried: value, count and gradient of the whole, for a whole language model."""
    gradient = slope_of(sj.truncated(MODEL, sj.cross_entropy, k1, k2))
    mask = np.array(MASK)
    mask[:, 2] = True
    batch = FULL._replace(mask=mask)
    state, parts = start(), []
    for window in sj.windows(batch, k1, k2):
        (value, (state, tally)), slope = gradient(PARAMS, state, window)
        parts.append(jax.tree.map(np.asarray, (value, tally.count, slope)))
    (_, (after, whole)), slope = slope_of_the_whole(PARAMS, start(), batch)
    assert_close(jax.tree.map(lambda *x: sum(x), *parts), (whole.sum, whole.count, slope))
    if k2 == k1:
        assert_close(state, after)


def test_no_gradient_crosses_windows():
    """Differentiated as a whole, windows give the sum of their gradients, nothing to the first state."""
    window_objective = sj.truncated(MODEL, sj.cross_entropy, 3)

    def total(objective, cut):
        def f(params, state):
            tallies = []
            for window in sj.windows(BATCH, 3):
                state, tally = objective(params, cut(state), window)
                tallies.append(tally.sum)
            return sum(tallies)

        return jax.jit(jax.grad(f, (0, 1)))(PARAMS, start())

    of_params, of_state = total(window_objective, lambda state: state)
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_state))
    assert_close(of_params, total(OBJECTIVE, jax.lax.stop_gradient)[0])


def test_windows_of_numpy_and_jax_and_under_scan():
    """The same windows from either kind of array; a scan over stacked windows is the loop."""
    ours = list(sj.windows(FULL._replace(mask=None), 3, 5))
    theirs = list(sj.windows(jax.tree.map(jnp.asarray, FULL._replace(mask=None)), 3, 5))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=0, atol=0)
    assert [w.xs.shape for w in ours] == [(5, B)] * 3
    assert next(sj.windows(BATCH._replace(xs=BATCH.xs[:6], targets=BATCH.targets[:6]), 3)).mask is None

    optimizer = optax.adam(0.1)
    step = sj.train_step(sj.truncated(MODEL, sj.cross_entropy, 3, 5), optimizer)
    train, state = sj.train_state(PARAMS, optimizer), start()
    stacked = jax.tree.map(lambda *x: np.stack(x), *ours)

    def tick(carry, window):
        *carry, metrics = step(*carry, window)
        return tuple(carry), metrics.loss

    (scanned, _), metrics = jax.lax.scan(tick, (train, state), stacked)
    losses = []
    for window in ours:
        train, state, one = step(train, state, window)
        losses.append(one.loss)
    assert_close((scanned.params, metrics), (train.params, np.stack(losses)))

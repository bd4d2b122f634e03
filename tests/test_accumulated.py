"""Batches accumulated into one, over devices too, and the mean of the parameters over training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close

import seqjax as sj
from seqjax import models


def start(module):
    """Initial parameters, from one compiled program."""
    return jax.jit(module.init)(jax.random.key(0))


def quadratic():
    """A linear layer and a batch of eight sequences."""
    layer = sj.dense(3, 2)
    xs, ys = (np.random.default_rng(n).normal(size=(5, 8, n)) for n in (3, 2))
    return layer, start(layer), xs, ys


@pytest.mark.parametrize("decay", [None, 0.8])
def test_averaging_keeps_the_mean_of_the_parameters(decay):
    layer, params, xs, ys = quadratic()
    optimizer = sj.averaging(optax.sgd(0.1), decay=decay)
    step = sj.train_step(sj.objective(layer, sj.mean_squared_error), optimizer)
    plain = sj.train_step(sj.objective(layer, sj.mean_squared_error), optax.sgd(0.1))
    train, control = sj.train_state(params, optimizer), sj.train_state(params, optax.sgd(0.1))
    seen = []
    for _ in range(5):
        train, _, _ = step(train, (), sj.Batch(xs, ys))
        control, _, _ = plain(control, (), sj.Batch(xs, ys))
        seen.append(np.asarray(train.params.w))
    assert_close(train.params, control.params)
    weights = np.ones(5) if decay is None else decay ** np.arange(4, -1, -1)
    expected = np.tensordot(weights / weights.sum(), np.stack(seen), 1)
    np.testing.assert_allclose(sj.averaged(train.opt_state).w, expected, rtol=1e-10)


def test_accumulated_gradients_equal_one_large_batch():
    """Optax's MultiSteps in the same train step: two halves of a batch, then one update."""
    layer, params, xs, ys = quadratic()
    loss = sj.objective(layer, sj.mean_squared_error)
    whole = sj.train_step(loss, optax.sgd(0.1, 0.9))
    optimizer = optax.MultiSteps(optax.sgd(0.1, 0.9), 2)
    halves = sj.train_step(loss, optimizer)
    one, two = sj.train_state(params, optax.sgd(0.1, 0.9)), sj.train_state(params, optimizer)
    for _ in range(3):
        one, _, _ = whole(one, (), sj.Batch(xs, ys))
        for part in (slice(0, 4), slice(4, 8)):
            before = np.asarray(two.params.w)
            two, _, _ = halves(two, (), sj.Batch(xs[:, part], ys[:, part]))
            assert (before == np.asarray(two.params.w)).all() == (part.start == 0)
    assert_close(one.params, two.params, rtol=1e-6)  # the library accumulates in float32


def ragged_parts():
    """Three batches with 20, 9 and 1 real ticks, and the same as one."""
    layer, params, xs, ys = quadratic()
    lengths = np.array([5, 5, 5, 5, 5, 3, 1, 0, 1, 0, 0, 0])
    xs, ys = (np.concatenate([z, z[:, :4] + 1], axis=1) for z in (xs, ys))
    whole = sj.Batch(xs, ys, np.arange(5)[:, None] < lengths)
    parts = [jax.tree.map(lambda x, i=i: x[:, 4 * i : 4 * i + 4], whole) for i in range(3)]
    return layer, params, whole, jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


def test_accumulated_batches_of_ragged_lengths_weigh_what_they_hold():
    """The gradient of three batches is that of all their ticks in one; the mean of three means is another."""
    layer, params, whole, parts = ragged_parts()
    loss = sj.objective(layer, sj.mean_squared_error)
    taken = {}
    for name, objective, batch in (("one", loss, whole), ("three", models.accumulated(loss), parts)):
        step = sj.train_step(objective, optax.sgd(0.1))
        taken[name] = step(sj.train_state(params, optax.sgd(0.1)), (), batch)
    one, three = taken["one"], taken["three"]
    assert_close(one[0].params, three[0].params, rtol=1e-12)
    assert_close(one[2], three[2], rtol=1e-12)
    assert three[2].tally.count == 30
    optimizer = optax.MultiSteps(optax.sgd(0.1), 3)
    train, step = sj.train_state(params, optimizer), sj.train_step(loss, optimizer)
    for i in range(3):
        train, _, _ = step(train, (), jax.tree.map(lambda x, i=i: x[i], parts))
    assert np.abs(np.asarray(train.params.w) - np.asarray(one[0].params.w)).max() > 1e-3


def test_accumulated_batches_keep_their_states_and_keys_apart():
    """Each batch goes on from its own state, and draws with its own key."""
    model = models.language_model(5, 4, cell=sj.gru, dropout=0.5)
    params = start(model)
    symbols = np.random.default_rng(1).integers(0, 5, (3, 7, 2))
    objective = sj.objective(model, sj.cross_entropy)
    loss, accumulated = jax.jit(objective), jax.jit(models.accumulated(objective))
    batch = sj.Batch(symbols[:, :-1], symbols[:, 1:])
    fresh = jax.eval_shape(lambda p: model.initial_state(p, (2,)), params)
    states = jax.tree.map(lambda s: np.zeros((3, *s.shape)) + np.arange(3.0)[:, None, None], fresh)
    ends, tally = accumulated(params, states, batch)
    alone = [loss(params, *jax.tree.map(lambda x, i=i: x[i], (states, batch))) for i in range(3)]
    assert_close(ends, jax.tree.map(lambda *s: np.stack(s), *[end for end, _ in alone]))
    np.testing.assert_allclose(tally.sum, sum(t.sum for _, t in alone), rtol=1e-12)
    same = jax.tree.map(lambda x: np.stack([x[0]] * 3), (states, batch))
    keys = jax.random.split(jax.random.key(2), 3)
    each = [float(loss(params, *jax.tree.map(lambda x: x[0], same), key)[1].sum) for key in keys]
    assert len(set(each)) == 3
    _, drawn = accumulated(params, *same, jax.random.key(2))
    np.testing.assert_allclose(drawn.sum, sum(each), rtol=1e-12)


def test_accumulated_batches_need_the_memory_of_one():
    model = models.language_model(50, 16, cell=sj.gru)
    params = start(model)
    loss = sj.objective(model, sj.cross_entropy)

    def scratch(objective, *lead):
        batch = sj.Batch(*2 * [jnp.zeros((*lead[:-1], 40, lead[-1]), int)])
        fresh = jax.eval_shape(model.initial_state, params)
        state = jax.tree.map(lambda s: jnp.zeros((*lead, *s.shape)), fresh)
        run = jax.jit(jax.grad(lambda params: objective(params, state, batch)[1].sum))
        return run.lower(params).compile().memory_analysis().temp_size_in_bytes

    assert scratch(models.accumulated(loss), 8, 16) < 0.3 * scratch(loss, 128)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("decay", [None, 0.0, 0.999, 0.999999])
def test_averaging_keeps_its_digits(dtype, decay):
    """Narrow parameters that grow by a quarter: the mean in float32 is that of float64."""
    optimizer = sj.averaging(optax.sgd(1.0), decay=decay)
    params, state = jnp.zeros((), dtype), None
    state = optimizer.init(params)
    advance = jax.jit(lambda state, params: optimizer.update(-jnp.asarray(0.25, dtype), state, params))
    mean, weights = 0.0, 0.0
    for _ in range(300):
        updates, state = advance(state, params)
        params = optax.apply_updates(params, updates)
        d = 1.0 if decay is None else decay
        mean, weights = d * mean + float(params), d * weights + 1
    assert sj.averaged(state).dtype == jnp.float32
    np.testing.assert_allclose(sj.averaged(state), mean / weights, rtol=2e-5)


@pytest.mark.slow
def test_accumulated_batches_over_devices():
    """The axis of the batch is shared, not that of time, whether the model has a state or none."""
    layer, params, _, parts = ragged_parts()
    pair = models.encoder_decoder(7, 7, 4)
    symbols = np.random.default_rng(0).integers(0, 7, (3, 4, 6))
    recurrent = models.language_model(7, 4, cell=sj.gru)
    stacked = jax.tree.map(lambda x: jnp.zeros((3, 6, *x.shape)), recurrent.initial_state(start(recurrent)))
    cases = [
        (sj.objective(layer, sj.mean_squared_error), params, (), parts),
        (
            models.conditional_objective(pair, sj.cross_entropy),
            start(pair),
            (),
            sj.Batch((models.Source(symbols), symbols), symbols),
        ),
        (sj.objective(recurrent, sj.cross_entropy), start(recurrent), stacked, sj.Batch(symbols, symbols)),
    ]
    for objective, first, state, batch in cases:
        optimizer = optax.sgd(0.1)
        results = []
        for devices in (None, 2):
            step = sj.train_step(models.accumulated(objective), optimizer, devices=devices, donate=False)
            results.append(step(sj.train_state(first, optimizer), state, batch))
        (one, _, a), (two, _, b) = results
        assert_close(one.params, two.params, rtol=1e-12)
        assert_close(a, b, rtol=1e-12)

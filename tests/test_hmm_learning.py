"""Expectation maximisation against steps taken by hand, and gradient descent through the cell against both."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax import hmm, masks

RNG = np.random.default_rng(0)
TIGHT = {"rtol": 1e-9, "atol": 1e-12}


def posteriors_by_enumeration(initial, transition, likelihood):
    """``[T, N]`` state and ``[N, N]`` transition expectations of one sequence, in plain probabilities."""
    length, n = likelihood.shape
    states, moves, total = np.zeros((length, n)), np.zeros((n, n)), 0.0
    for path in itertools.product(range(n), repeat=length):
        p = initial[path[0]] * np.prod([transition[i, j] for i, j in itertools.pairwise(path)])
        p *= np.prod([likelihood[t, z] for t, z in enumerate(path)])
        total += p
        states[np.arange(length), path] += p
        for i, j in itertools.pairwise(path):
            moves[i, j] += p
    return states / total, moves / total, np.log(total)


LENGTHS = np.array([5, 3, 4])
MASK = np.asarray(masks.from_lengths(jnp.array(LENGTHS), 5))


@pytest.mark.slow
def test_one_step_over_ragged_symbols():
    """Three sequences of different lengths, one symbol missing, against Baum and Welch's formulas."""
    model = hmm.random(jax.random.key(0), 3, 4)
    xs = RNG.integers(0, 4, (5, 3))
    xs[1, 0] = hmm.MISSING
    initial, transition, emission = (np.exp(np.asarray(p)) for p in model)
    starts, moves, symbols, likelihood = np.zeros(3), np.zeros((3, 3)), np.zeros((3, 4)), 0.0
    for b, length in enumerate(LENGTHS):
        x = xs[:length, b]
        table = np.where((x >= 0)[:, None], emission.T[x], 1.0)
        states, steps, log_p = posteriors_by_enumeration(initial, transition, table)
        starts += states[0]
        moves += steps
        likelihood += log_p
        for t in range(length):
            if x[t] >= 0:
                symbols[:, x[t]] += states[t]
    found = hmm.fit(model, np.where(MASK, xs, 99), mask=MASK, steps=1)
    np.testing.assert_allclose(np.exp(found.model.log_initial), starts / starts.sum(), **TIGHT)
    np.testing.assert_allclose(np.exp(found.model.log_transition), moves / moves.sum(1, keepdims=True), **TIGHT)
    np.testing.assert_allclose(np.exp(found.model.log_emission), symbols / symbols.sum(1, keepdims=True), **TIGHT)
    np.testing.assert_allclose(found.log_likelihood[0], likelihood, **TIGHT)


def test_one_step_over_vectors():
    """Weighted means and variances of what was seen, components missing here and there."""
    model = hmm.random_gaussian(jax.random.key(1), 3, 2)
    xs = RNG.normal(size=(5, 3, 2)) * 2 + 50  # far from zero, where E[x²] - E[x]² would cancel
    model = model._replace(mean=model.mean + 50)
    xs[2, 0, 1] = xs[0, 1, 0] = np.nan
    initial, transition = np.exp(np.asarray(model.log_initial)), np.exp(np.asarray(model.log_transition))
    weights = np.zeros((5, 3, 3))
    for b, length in enumerate(LENGTHS):
        z = (xs[:length, b, None] - np.asarray(model.mean)) / np.exp(np.asarray(model.log_scale))
        density = np.where(np.isnan(z), 1, np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)).prod(-1)
        weights[:length, b] = posteriors_by_enumeration(initial, transition, density)[0]
    found = hmm.fit(model, np.where(MASK[..., None], xs, np.nan), mask=MASK, steps=1).model
    for n, d in itertools.product(range(3), range(2)):
        seen = MASK & ~np.isnan(xs[..., d])
        w, x = weights[..., n][seen], xs[..., d][seen]
        mean = (w * x).sum() / w.sum()
        np.testing.assert_allclose(found.mean[n, d], mean, rtol=1e-9)
        np.testing.assert_allclose(np.exp(2 * found.log_scale[n, d]), (w * (x - mean) ** 2).sum() / w.sum(), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["symbols", "vectors"])
def test_every_step_raises_the_likelihood(kind):
    """Ragged data, from several random starts, in float32."""
    keys = jax.random.split(jax.random.key(3), 4)
    if kind == "symbols":
        truth = hmm.random(keys[0], 3, 6, dtype=jnp.float32)
        start = jax.vmap(lambda key: hmm.random(key, 4, 6, dtype=jnp.float32))
    else:
        truth = hmm.random_gaussian(keys[0], 3, 2, dtype=jnp.float32)
        start = jax.vmap(lambda key: hmm.random_gaussian(key, 4, 2, dtype=jnp.float32))
    _, xs = hmm.sample(truth, keys[1], 20, (4,))
    mask = masks.from_lengths(jnp.arange(17, 21), 20)
    starts = start(jax.random.split(keys[2], 3))
    curves = jax.vmap(lambda m: hmm.fit(m, xs, mask=mask, steps=12).log_likelihood)(starts)
    assert curves.dtype == jnp.float32
    gains = np.diff(curves, axis=1)
    assert (gains > -1e-6 * np.abs(curves[:, 1:])).all()
    assert (curves[:, -1] - curves[:, 0] > 2).all()


def test_structure_and_unused_states_survive():
    """Zeros stay zero; a state that nothing reaches keeps its rows; an impossible sequence changes nothing."""
    model = hmm.from_probabilities(
        [1, 0, 0], [[0.7, 0.3, 0], [0, 1, 0], [0.2, 0.3, 0.5]], [[0.6, 0.3, 0.1, 0], [0.1, 0.3, 0.6, 0], [0.25] * 4]
    )
    xs = np.array([[0, 3], [0, 1], [1, 0], [2, 1], [2, 2]])
    fitted = hmm.fit(model, xs, steps=3).model
    alone = hmm.fit(model, xs[:, :1], steps=3).model
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), fitted, alone)
    assert np.isneginf(fitted.log_transition[0, 2])
    assert np.isneginf(fitted.log_transition[1, 0])
    np.testing.assert_allclose(fitted.log_transition[2], model.log_transition[2])
    np.testing.assert_allclose(fitted.log_emission[2], model.log_emission[2])
    assert np.isneginf(fitted.log_initial[1:]).all()


def test_a_state_on_one_observation_keeps_a_width():
    xs = np.append(RNG.normal(size=40), 30.0)[:, None]
    model = hmm.random_gaussian(jax.random.key(0), 2, 1)
    model = model._replace(mean=jnp.array([[0.0], [30.0]]))
    fitted = hmm.fit(model, xs, steps=20).model
    np.testing.assert_allclose(np.exp(fitted.log_scale[1, 0]), 1e-3 * xs.std(), rtol=1e-3)


def log_likelihood_by_cell(cell, model, xs):
    """ln p(x) from the outputs of the cell: each tick's evidence under what the tick before predicts."""
    batch = xs.shape[1:]
    _, filtered = sj.unroll(cell, model, cell.initial_state(model, batch), xs)
    first = jnp.broadcast_to(model.log_initial, (1, *filtered.shape[1:]))
    after = jax.nn.logsumexp(filtered[:-1, ..., :, None] + model.log_transition, -2)
    predicted = jnp.concatenate([first, after])
    return jax.nn.logsumexp(predicted + model.evidence(xs), -1).sum(0)


@pytest.mark.slow
def test_backpropagation_through_the_cell_approaches_em():
    """From the same random weights, 80 steps of Adam gain 99 % of what EM gains in 60."""
    truth = hmm.from_probabilities([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.2, 0.1, 0], [0, 0.1, 0.3, 0.6]])
    _, xs = hmm.sample(truth, jax.random.key(0), 20, (30,))
    start = hmm.random(jax.random.key(1), 2, 4)
    cell = hmm.cell(start)
    optimiser = optax.adam(0.1)

    def loss(params):
        return -log_likelihood_by_cell(cell, hmm.normalise(params), xs).mean()

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        (params, _), values = jax.lax.scan(step, (params, optimiser.init(params)), length=80)
        return hmm.normalise(params), values

    with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in integers
        trained, values = train(start)
    em = hmm.fit(start, xs, steps=60)
    before, best = em.log_likelihood[0], em.log_likelihood[-1]
    reached = hmm.forward(trained, xs).log_likelihood.sum()
    np.testing.assert_allclose(-values[0] * 30, before, rtol=1e-10)
    assert reached > best - 0.01 * (best - before)
    hmm.check(trained)
    assert best > hmm.forward(truth, xs).log_likelihood.sum() - 1  # EM itself reached the optimum

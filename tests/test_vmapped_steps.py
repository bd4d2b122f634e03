"""Many runs in one program: `jax.vmap` of a whole training step is the runs one by one, draws to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close, at, stack
from marks import quick
from small_training import OBJECTIVE, PARAMS, V, start

import seqjax as sj
from seqjax import models, tasks
from seqjax.engines import pallas

T, B, RUNS, UPDATES = 6, 2, 3, 3
SEEDS, RATES = np.arange(RUNS), np.array([0.1, 0.003, 0.0])
ADAM = optax.inject_hyperparams(optax.adamw)(learning_rate=1.0)
RNG = np.random.default_rng(0)


def symbols(*shape):
    return jnp.asarray(RNG.integers(0, V, (RUNS, UPDATES, *shape)))


WORDS = sj.Batch(symbols(T, B), symbols(T, B), jnp.asarray(RNG.random((RUNS, UPDATES, T, B)) > 0.3))
NUMBERS = sj.Batch(jnp.asarray(RNG.normal(size=(RUNS, UPDATES, T, B, 1))), symbols(T, B), WORDS.mask)


def language(cell, **options):
    return sj.serial(sj.embedding(V, 3), sj.dropout(0.4), sj.recurrent(cell, **options), sj.dense(4, V))


def written(draw=WORDS):
    """Pairs: what is read, what is written."""
    read = models.Source(draw.xs, jnp.ones_like(draw.mask))
    return sj.Batch((read, draw.xs), draw.targets, draw.mask)


def spoken():
    """Labels without an alignment."""
    said = sj.Labels(1 + symbols(2, B) % (V - 1), jnp.ones((RUNS, UPDATES, 2, B), bool))
    return sj.Batch(NUMBERS.xs, said, jnp.ones_like(WORDS.mask))


def echo():
    """A reservoir and a readout; weight decay would move what is not fixed."""
    return sj.serial(sj.recurrent(sj.echo_state(1, 4)), sj.dense(4, V))


def conditional(context):
    return models.encoder_decoder(V, V, 4, embedding_size=3, context=context, dropout=0.3)


def tagger():
    return models.tagger(V, V, embedding_size=3, hidden_size=2, both_ways=True, dropout=0.3)


LSTM, GRU, NOISY = sj.lstm(3, 4), sj.gru(3, 4), sj.variational_dropout(sj.lstm(3, 4), 0.5)
# Each case: a model, its objective, its batches.
CASES = {
    "dropout": lambda: plain(language(NOISY)),
    "truncated": lambda: (language(LSTM), sj.truncated(language(LSTM), sj.cross_entropy, 4, T), WORDS),
    "over_chunks": lambda: (language(GRU), sj.over_chunks(language(GRU), sj.cross_entropy, 4), WORDS),
    "fixed": lambda: (echo(), sj.objective(echo(), sj.cross_entropy), NUMBERS),
    "scan": lambda: plain(language(LSTM, engine="scan")),
    "pallas": lambda: plain(language(GRU, engine="pallas")),
    "sqrt": lambda: plain(language(LSTM, memory="sqrt")),
    "zoneout": lambda: plain(language(sj.zoneout(LSTM, 0.3))),
    "slstm": lambda: plain(language(sj.slstm(3, 4, 2))),
    "bidirectional": lambda: plain(tagger()),
    "crf": lambda: (models.crf_tagger(tagger(), V), models.crf_objective(tagger()), WORDS),
    "attention": lambda: pairs("attention"),
    "every_tick": lambda: pairs("every_tick"),
    "ctc": lambda: (tcn(), sj.objective(tcn(), sj.ctc), spoken()),
}


def plain(model):
    return model, sj.objective(model, sj.cross_entropy), WORDS


def pairs(context):
    return conditional(context), models.conditional_objective(conditional(context), sj.cross_entropy), written()


def tcn():
    return sj.serial(models.temporal_convolution(1, [4, 4], width=2, dropout=0.2), sj.dense(4, V))


def beginning(model, optimizer, seed, rate):
    """Where one run begins, with a learning rate of its own."""
    key = jax.random.key(seed)
    params = model.init(key)
    train = sj.train_state(params, optimizer, key=jax.random.fold_in(key, 1))
    if rate is not None:
        train = train._replace(opt_state=optax.tree.set(train.opt_state, learning_rate=jnp.asarray(rate)))
    state = model.initial_state(params, (B,), key=key) if isinstance(model, sj.Layer) else ()
    return train, state


def one_by_one(step, starts, batches):
    """Every run by itself, update by update."""
    found = []
    for run, (train, state) in enumerate(starts):
        told = []
        for n in range(UPDATES):
            train, state, metrics = step(train, state, at(batches, run, n))
            told.append(metrics)
        found.append((train, state, stack(told, 0)))
    return stack(found, 0)


@jax.jit
def _swapped(tree):
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def together(step, starts, batches):
    """A scan over updates of all runs at once, in one program."""

    @jax.jit
    def run(carry, batches):
        def update(carry, batch):
            train, state, metrics = jax.vmap(step)(*carry, batch)
            return (train, state), metrics

        return jax.lax.scan(update, carry, batches)

    (train, state), metrics = run(stack(starts, 0), _swapped(batches))
    return train, state, _swapped(metrics)


@pytest.mark.parametrize("name", quick(CASES, "dropout", "fixed"))
def test_runs_together_are_the_runs_one_by_one(name):
    model, objective, batches = CASES[name]()
    step = sj.train_step(objective, ADAM, clip=sj.clip_by_global_norm(0.1), donate=False)
    starts = [beginning(model, ADAM, int(seed), rate) for seed, rate in zip(SEEDS, RATES)]
    with pallas.target("interpreter"):
        alone, found = one_by_one(step, starts, batches), together(step, starts, batches)
    assert_close(found, alone, rtol=1e-7, atol=1e-10)  # Adam divides by the root of what may be nearly 0
    first = stack([train for train, _ in starts], 0)
    np.testing.assert_array_equal(jax.random.key_data(found[0].key), jax.random.key_data(first.key))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max((*range(1, a.ndim),)), found[0].params, first.params)
    held = jax.tree.leaves(sj.fixed(model, first.params)) if isinstance(model, sj.Layer) else []
    still = [leaf for leaf, fixed in zip(jax.tree.leaves(moved), held) if fixed]
    moving = np.max([leaf for leaf in jax.tree.leaves(moved) if not any(leaf is other for other in still)], 0)
    assert not np.any(still)
    assert (moving > 0).tolist() == [True, True, False]  # a rate of its own, the last one 0
    assert moving[0] > 10 * moving[1]
    assert np.any(found[2].clipped)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("lbfgs", "plateau", "polyak")]
)
def test_optimizers_that_look_at_the_loss(name):
    optimizer = {
        "lbfgs": optax.lbfgs(),
        "plateau": optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1)),
        "polyak": optax.polyak_sgd(),
    }[name]
    model, objective, batches = plain(language(GRU))
    step = sj.train_step(objective, optimizer, divide_by=2.0, donate=False)
    starts = [beginning(model, optimizer, seed, None) for seed in range(RUNS)]
    assert_close(together(step, starts, batches), one_by_one(step, starts, batches), rtol=1e-6, atol=1e-9)


def test_every_run_draws_as_it_would_alone():
    """Step n of a run draws with ``fold_in(train.key, n)``: bits, not only laws, are the same."""

    def objective(params, state, batch, key):
        return jax.random.bits(key, (4,)), sj.Tally(params.sum() * batch, jnp.ones(()))

    step = sj.train_step(objective, optax.sgd(0.1))
    start = lambda seed: sj.train_state(jnp.ones(2), optax.sgd(0.1), key=jax.random.key(seed))
    trains, states = jax.vmap(start)(SEEDS), jnp.zeros((RUNS, 4), jnp.uint32)
    update = jax.jit(jax.vmap(step, (0, 0, None)))
    for n in range(UPDATES):
        trains, states, _ = update(trains, states, 1.0)
        expected = [jax.random.bits(jax.random.fold_in(jax.random.key(seed), n), (4,)) for seed in SEEDS]
        np.testing.assert_array_equal(states, np.array(expected))


def test_memory_is_the_outermost_functions():
    """An eager vmap takes nothing, not even where the state is the parameters' own memory; an outer jit may."""
    step = sj.train_step(lambda w, s, x, key: (w * s, sj.Tally((w * x).sum(), jnp.ones(()))), optax.sgd(0.1))
    trains = jax.vmap(lambda seed: sj.train_state(jnp.full(2, seed, float), optax.sgd(0.1)))(SEEDS)
    moved, states, _ = jax.vmap(step, (0, 0, None))(trains, trains.params, 2.0)
    np.testing.assert_array_equal(states, np.square(np.asarray(trains.params)))
    np.testing.assert_allclose(moved.params, trains.params - 0.2)
    donating = jax.jit(jax.vmap(step, (0, None, None)), donate_argnums=0)
    again, _, _ = donating(trains, jnp.zeros(2), 2.0)
    np.testing.assert_array_equal(again.params, moved.params)
    assert trains.params.is_deleted()


def test_a_buffer_that_all_runs_read_may_be_filled_anew():
    step, buffer = sj.train_step(OBJECTIVE, optax.sgd(0.1)), np.empty((600, 64), np.int64)
    trains = jax.vmap(lambda rate: sj.train_state(PARAMS, optax.sgd(0.1)))(RATES)
    drawn = [RNG.integers(V, size=buffer.shape) for _ in range(2)]

    def losses(refilled):
        found = []
        for xs in drawn:
            if refilled:
                np.copyto(buffer, xs)
                xs = np.asarray(memoryview(buffer))
            found.append(jax.vmap(step, (0, None, None))(trains, start(batch=64), sj.Batch(xs[:-1], xs[1:]))[2].loss)
        return np.array(found)

    np.testing.assert_array_equal(losses(True), losses(False))


@pytest.mark.slow
def test_devices_share_the_batch_of_every_run():
    model, objective, batches = CASES["dropout"]()
    step = sj.train_step(objective, ADAM, devices=2, donate=False)
    starts = [beginning(model, ADAM, int(seed), rate) for seed, rate in zip(SEEDS, RATES)]
    found, first = together(step, starts, batches), jax.devices()[0]
    jax.block_until_ready(found)
    assert_close(jax.device_put(found, first), jax.device_put(one_by_one(step, starts, batches), first), rtol=1e-7)


def test_wrong_input_is_told_as_without_vmap():
    model, objective, batches = CASES["truncated"]()
    train, state = stack([beginning(model, ADAM, 0, 0.1), beginning(model, ADAM, 1, 0.1)], 0)
    with pytest.raises(TypeError, match=r"train_step: expected a state, got a Batch in its place"):
        jax.vmap(sj.train_step(objective, ADAM), (0, None, 0))(train, at(batches, 0, 0), state)
    shared = sj.train_step(objective, ADAM, devices=2)
    odd = jax.tree.map(lambda leaf: leaf[:, :, :1], at(batches, slice(2), 0))
    with pytest.raises(ValueError, match=r"a first batch axis that 2 devices can share equally, .* got shape"):
        jax.vmap(shared)(train, state, odd)


@pytest.mark.learning
def test_rates_from_a_sweep():
    """The best of twelve rates is found in one program: too low learns little, too high nothing."""
    problem, rates = tasks.copy_memory(10), np.logspace(-5, 1, 12)
    model = sj.serial(
        sj.embedding(problem.input_size, 8), sj.recurrent(sj.gru(8, 32)), sj.dense(32, problem.output_size)
    )
    step = sj.train_step(sj.objective(model, sj.cross_entropy), ADAM, clip=sj.clip_by_global_norm(1.0))
    begin = lambda rate: beginning(model, ADAM, 0, rate)[0]
    trains, update = jax.vmap(begin)(rates), jax.jit(jax.vmap(step, (0, None, None)), donate_argnums=0)
    state, rng = model.initial_state(at(trains.params, 0), (32,)), np.random.default_rng(0)
    for _ in range(300):
        xs, targets, _, _ = problem.draw(rng, 32)
        trains, _, metrics = update(trains, state, sj.Batch(xs, targets))
    best = int(np.argmin(metrics.loss))
    assert 1e-4 < rates[best] < 1
    assert metrics.loss[0] > 2 * metrics.loss[best]

"""Writers trained on their own guesses or on the truth, with resets, keys and dropout."""

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


@pytest.mark.slow
def test_scheduled_sampling_trains():
    """Rate after rate in one compiled step; with a key and rate 0, and without a key, it is teacher forcing."""
    model = models.language_model(6, 16, cell=sj.gru)
    params = start(model)
    objective = models.scheduled_objective(model, sj.cross_entropy)
    plain, loss = jax.jit(sj.objective(model, sj.cross_entropy)), jax.jit(objective)
    symbols = (np.arange(13)[:, None] + np.arange(4)) % 6
    state = model.initial_state(params, (4,))

    def batch(rate):
        return sj.Batch((symbols[:-1], jnp.asarray(rate)), symbols[1:])

    exact = plain(params, state, sj.Batch(symbols[:-1], symbols[1:]))
    assert_close(loss(params, state, batch(1.0)), exact)
    assert_close(loss(params, state, batch(0.0), jax.random.key(0)), exact)
    assert abs(loss(params, state, batch(1.0), jax.random.key(0))[1].sum - exact[1].sum) > 1e-3
    optimizer, schedule = optax.adam(3e-2), models.inverse_sigmoid_decay(20.0)
    step = sj.train_step(objective, optimizer)
    train = sj.train_state(params, optimizer, key=jax.random.key(1))
    for update in range(120):
        train, _, metrics = step(train, state, batch(0.3 * schedule(update)))
    assert step._cache_size() == 1
    assert schedule(119) > 0.85
    assert metrics.tally.mean < 0.7 * exact[1].mean
    assert plain(train.params, state, sj.Batch(symbols[:-1], symbols[1:]))[1].mean < 0.3 * exact[1].mean


@pytest.mark.slow
@pytest.mark.parametrize("context", ["every_tick", "attention"])
def test_scheduled_sampling_of_a_conditional(context):
    """A writer whose parameters hold one context a sequence."""
    model = models.encoder_decoder(6, 5, 4, context=context)
    params = start(model)
    source = models.Source(np.ones((3, 2), int), np.array([[1, 1], [1, 1], [1, 0]], bool))
    written = np.array([[0, 0], [3, 2], [4, 4]])
    scheduled = models.scheduled_objective(model, sj.cross_entropy)
    forced = models.conditional_objective(model, sj.cross_entropy)

    def run(rate, key):
        return scheduled(params, (), sj.Batch((source, written, jnp.asarray(rate)), written), key)

    exact, without_key = jax.jit(lambda: (forced(params, (), sj.Batch((source, written), written)), run(1.0, None)))()
    assert_close(without_key, exact)
    run = jax.jit(run)
    assert_close(run(0.0, jax.random.key(0)), exact)
    assert abs(run(1.0, jax.random.key(0))[1].sum - exact[1].sum) > 1e-4


@pytest.mark.slow
def test_scheduled_sampling_starts_anew_at_resets():
    """Rate 0 is `objective` with its resets; behind a reset the true symbol is read, whatever the rate."""
    model = models.language_model(6, 4, cell=sj.gru)
    params = start(model)
    symbols = np.random.default_rng(0).integers(0, 6, (5, 2))
    reset = np.zeros((4, 2), bool)
    reset[2, 0] = reset[0, 1] = True
    state = model.initial_state(params, (2,))
    exact = sj.objective(model, sj.cross_entropy)(params, state, sj.Batch(symbols[:-1], symbols[1:], None, reset))
    loss = jax.jit(models.scheduled_objective(model, sj.cross_entropy))

    def run(rate, key, reset=reset):
        return loss(params, state, sj.Batch((symbols[:-1], jnp.asarray(rate)), symbols[1:], None, reset), key)

    for key in (None, jax.random.key(0), jax.random.PRNGKey(0)):
        assert_close(run(0.0, key), exact)
    assert abs(run(0.0, None, None)[1].sum - exact[1].sum) > 1e-6
    assert_close(run(1.0, jax.random.PRNGKey(3)), run(1.0, jax.random.key(3)))
    all_new = np.ones((4, 2), bool)
    assert_close(run(1.0, jax.random.key(0), all_new), run(0.0, None, all_new))
    pair = models.encoder_decoder(6, 6, 4)
    for make, xs in (
        (models.scheduled_objective, (models.Source(symbols), symbols, 0.5)),
        (models.conditional_objective, (models.Source(symbols), symbols)),
    ):
        with pytest.raises(ValueError, match=f"{make.__name__}: expected one sequence a column, got resets"):
            make(pair, sj.cross_entropy)(start(pair), (), sj.Batch(xs, symbols, None, np.ones((5, 2), bool)))
        with pytest.raises(ValueError, match=rf"{make.__name__}: expected inputs .condition, symbols.* got ndarray"):
            make(pair, sj.cross_entropy)(start(pair), (), sj.Batch(symbols, symbols))
    with pytest.raises(TypeError, match=r"encoder_decoder: expected a Source\(symbols, mask\) to read, got ndarray"):
        pair.encode(start(pair), symbols)


@pytest.mark.slow
def test_reader_and_writer_drop_apart():
    """Of one key each has a part of its own: with the same one, the same features would be dropped of both."""
    model = models.encoder_decoder(6, 6, 16, dropout=0.5)
    params, symbols, key = start(model), np.array([[5, 2], [3, 1]]), jax.random.key(4)
    objective = models.conditional_objective(model, sj.cross_entropy)
    _, tally = objective(params, (), sj.Batch((models.Source(symbols), symbols), symbols), key)

    def by_hand(read, write):
        decoder_params, state = model.encode(params, models.Source(symbols), key=read)
        return sj.cross_entropy(model.decoder.apply(decoder_params, state, symbols, key=write)[1], symbols).sum

    assert_close(tally.sum, by_hand(*jax.random.split(key)))
    assert abs(tally.sum - by_hand(key, key)) > 1e-3

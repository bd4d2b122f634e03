"""Noise by place: the same on one device and two, and never off where a key asks for it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close
from marks import quick

import seqjax as sj
from seqjax import models

RNG = np.random.default_rng(0)
T, B, V = 5, 4, 6
SYMBOLS, TARGETS = RNG.integers(1, V, (2, T, B))
XS = RNG.normal(size=(T, B, 3))
KEY = jax.random.key(1)


def over(cell):
    return sj.serial(sj.recurrent(cell), sj.dense(4, V))


def fading():
    """A cell of a user's, whose noise is one draw of the whole batch."""
    gru = sj.gru(3, 4)

    def initial_state(params, batch_shape=(), *, key=None):
        noise = sj.Noise(None if key is None else jax.random.uniform(key, (*batch_shape, 4)))
        return gru.initial_state(params, batch_shape), noise

    def step(params, state, x):
        h, noise = state
        h, y = gru.step(params, h, x)
        return (h, noise), y if noise.value is None else y * noise.value

    return sj.Cell(gru.init, initial_state, step)


def plain(model, xs=XS, make=sj.objective, **options):
    return model, make(model, sj.cross_entropy, **options), sj.Batch(xs, TARGETS)


def writer(model):
    source = models.Source(SYMBOLS, np.arange(T)[:, None] < np.array([5, 3, 4, 2]))
    return model, models.conditional_objective(model, sj.cross_entropy), sj.Batch((source, SYMBOLS), TARGETS)


def guesses():
    model = models.language_model(V, 4)
    batch = sj.Batch((SYMBOLS, np.full((1, B, 1), 0.7)), TARGETS)
    rate = lambda batch: batch._replace(xs=(batch.xs[0], batch.xs[1][0, :, 0]))
    loss = models.scheduled_objective(model, sj.cross_entropy)
    return model, lambda params, state, batch, key=None: loss(params, state, rate(batch), key), batch


def spelled(cell):
    model = models.tagger(
        V, V, embedding_size=3, hidden_size=4, characters=5, character_hidden_size=3, cell=cell, dropout=0.5
    )
    return plain(model, models.Words(SYMBOLS, RNG.integers(0, 5, (T, B, 3))))


def noisy_lstm(input_size, hidden_size):
    return sj.variational_dropout(sj.zoneout(sj.lstm(input_size, hidden_size), 0.3), 0.3)


def several():
    model, loss, batch = plain(over(sj.zoneout(sj.gru(3, 4), 0.5)))
    return model, models.accumulated(loss), jax.tree.map(lambda x: np.stack([x, x[::-1]]), batch)


CASES = {
    "dropout": lambda: plain(sj.serial(sj.dropout(0.5), sj.recurrent(sj.gru(3, 4)), sj.dropout(0.5), sj.dense(4, V))),
    "zoneout": lambda: plain(over(sj.zoneout(sj.gru(3, 4), 0.5))),
    "variational": lambda: plain(over(sj.variational_dropout(sj.gru(3, 4), 0.5))),
    "recurrent": lambda: plain(over(sj.recurrent_dropout(sj.lstm(3, 4), 0.5))),
    "both ways": lambda: plain(
        sj.serial(sj.bidirectional(sj.zoneout(sj.gru(3, 2), 0.5), sj.zoneout(sj.gru(3, 2), 0.5)), sj.dense(4, V))
    ),
    "one's own": lambda: plain(over(fading())),
    "truncated": lambda: plain(over(sj.zoneout(sj.gru(3, 4), 0.5)), make=lambda *a: sj.truncated(*a, 5)),
    "over chunks": lambda: plain(
        sj.serial(sj.dropout(0.5), over(sj.zoneout(sj.gru(3, 4), 0.5))), make=lambda *a: sj.over_chunks(*a, 2)
    ),
    "accumulated": several,
    "sampled softmax": lambda: (
        models.output_layer(sj.recurrent(sj.gru(3, 4)), models.sampled_softmax(4, V, 3)),
        models.output_objective(sj.recurrent(sj.gru(3, 4)), models.sampled_softmax(4, V, 3)),
        sj.Batch(XS, TARGETS),
    ),
    "scheduled sampling": guesses,
    "spelled words": lambda: spelled(noisy_lstm),
    "blocks": lambda: plain(models.language_model(V, 4, block=models.griffin_block, dropout=0.5), SYMBOLS),
    "encoder and decoder": lambda: writer(models.encoder_decoder(V, V, 4, cell=noisy_lstm, dropout=0.5)),
    "attention": lambda: writer(models.encoder_decoder(V, V, 4, context="attention", cell=noisy_lstm, dropout=0.5)),
}


@pytest.mark.parametrize("name", quick(CASES, "dropout", "one's own"))
def test_noise_follows_from_the_place_in_the_whole_batch(name):
    """Three updates on one device and on two; what is random does change the loss."""
    model, loss, batch = CASES[name]()
    optimizer = optax.adam(0.05)
    params = model.init(jax.random.key(0))
    losses = {}
    for devices, key in ((1, KEY), (2, KEY), (2, None)):
        step = sj.train_step(loss, optimizer, devices=devices, donate=False)
        train = sj.train_state(params, optimizer, key=key)
        state = model.initial_state(params, (B,), key=KEY) if isinstance(model, sj.Layer) else ()
        if name == "accumulated":
            state = jax.tree.map(lambda x: jnp.stack([x, x]), state)
        for _ in range(3):
            train, state, metrics = step(train, state, batch)
            losses.setdefault((devices, key is None), []).append(float(metrics.loss))
    np.testing.assert_allclose(losses[1, False], losses[2, False], rtol=1e-9)
    assert np.abs(np.subtract(losses[2, False], losses[2, True])).min() > 1e-6


def test_a_mask_has_its_rate_and_every_example_its_own():
    xs = jnp.ones((50, 40, 30))
    ys = sj.dropout(0.3).apply((), (), xs, key=KEY)[1]
    kept = np.asarray(ys != 0)
    assert_close(ys[kept], np.full(kept.sum(), 1 / 0.7))
    for axes in ((0, 1), (0, 2), (1, 2)):  # of 1200 to 2000 draws each, within five deviations
        assert np.abs(kept.mean(axes) - 0.7).max() < 5 * (0.3 * 0.7 / 1200) ** 0.5
    assert len(np.unique(kept.transpose(1, 0, 2).reshape(40, -1), axis=0)) == 40


@pytest.mark.parametrize("kind", [jax.random.key, jax.random.PRNGKey, lambda seed: jax.random.key(seed, impl="rbg")])
@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 3, 2, 5)])
def test_dropout_of_any_shape_and_key(kind, shape):
    ys = sj.dropout(0.5).apply((), (), jnp.ones(shape), key=kind(3))[1]
    assert ys.shape == shape
    assert set(np.unique(ys)) == {0.0, 2.0}


FORGOTTEN = {
    "objective": sj.objective,
    "over_chunks": lambda *a: sj.over_chunks(*a, 2),
    "truncated": lambda *a: sj.truncated(*a, 5),
}


@pytest.mark.parametrize("name", FORGOTTEN)
@pytest.mark.parametrize("noise", [sj.zoneout, sj.variational_dropout, sj.recurrent_dropout])
def test_noise_that_was_never_drawn_is_refused(name, noise):
    """A key in the train state alone left it off, without a word."""
    model = sj.serial(sj.dropout(0.5), over(noise(sj.gru(3, 4), 0.9)))
    loss, optimizer = FORGOTTEN[name](model, sj.cross_entropy), optax.sgd(0.1)
    params = model.init(jax.random.key(0))
    step, batch = sj.train_step(loss, optimizer), sj.Batch(XS, TARGETS)
    sentence = (
        rf"{name}: expected a state with its noise drawn, as a key asks for noise, got Noise\(value=None\) at "
        r"state\[1\]\[0\]\[1\]. Make it with initial_state\(params, batch_shape, key=key\)"
    )
    quiet, train = model.initial_state(params, (B,)), sj.train_state(params, optimizer, key=KEY)
    with pytest.raises(ValueError, match=sentence):
        step(train, quiet, batch)
    jax.eval_shape(step, train._replace(key=None), quiet, batch)
    jax.eval_shape(step, train, model.initial_state(params, (B,), key=KEY), batch)


def test_a_writer_whose_noise_was_never_drawn_is_refused():
    model = models.language_model(V, 4, cell=noisy_lstm)
    params = model.init(jax.random.key(0))
    loss = models.scheduled_objective(model, sj.cross_entropy)
    with pytest.raises(ValueError, match="scheduled_objective: expected a state with its noise drawn"):
        loss(params, model.initial_state(params, (B,)), sj.Batch((SYMBOLS, 0.5), TARGETS), KEY)


def test_zoneout_around_other_noise_that_is_off():
    """Without a key it is that of the plain cell."""
    outputs = []
    for cell in (sj.lstm(3, 4), sj.variational_dropout(sj.lstm(3, 4), 0.5)):
        zoned = sj.zoneout(cell, 0.3)
        params = zoned.init(jax.random.key(0))
        outputs.append(sj.unroll(zoned, params, zoned.initial_state(params, (B,)), XS)[1])
    assert_close(*outputs, rtol=1e-12)

"""Lengths on their way through layers, models and training: the same as masks, and still lengths where it matters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import LENGTHS, MASKS, B, T, assert_close, poison, state_of, valued
from marks import quick

import seqjax as sj
from seqjax import masks, models
from seqjax.layers import inner, recurrence

pytestmark = pytest.mark.usefixtures("equal_ranks")

KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (T, B, 3))
SYMBOLS = jax.random.randint(jax.random.key(2), (T, B), 0, 5)
WORDS = models.Words(SYMBOLS, jax.random.randint(jax.random.key(3), (T, B, 4), 0, 6))

MODELS = {
    "classifier_last": (lambda: models.classifier(sj.recurrent(sj.gru(3, 4)), 4, 2), XS),
    "classifier_max": (lambda: models.classifier(models.deep(3, 2, both_ways=True), 4, 2, pool="max"), XS),
    "classifier_mean": (lambda: models.classifier(sj.dense(3, 4), 4, 2, pool="mean"), XS),
    "tagger": (lambda: models.tagger(5, 3, embedding_size=3, hidden_size=2, characters=6), WORDS),
    "crf_tagger": (lambda: models.crf_tagger(models.tagger(5, 3, embedding_size=3, hidden_size=2), 3), SYMBOLS),
    "language_model": (lambda: models.language_model(5, 4, layers=2), SYMBOLS),
    "tied": (lambda: models.language_model(5, 4, tied=True), SYMBOLS),
    "fixed_window": (lambda: models.fixed_window_model(5, 4, window=3), SYMBOLS),
    "forecaster": (lambda: models.forecaster(3, 4), XS),
    "corrected": (lambda: models.corrected(3, 2, sj.dense(3, 3)), XS),
    "temporal_convolution": (lambda: models.temporal_convolution(3, [4, 2], width=2), XS),
    "output_layer": (lambda: models.output_layer(models.language_model(5, 4), models.full_softmax(5, 7)), SYMBOLS),
    "reverse": (lambda: sj.layers.reverse(sj.recurrent(sj.gru(3, 4))), XS),
    "layers_both_ways": (lambda: sj.bidirectional(sj.recurrent(sj.gru(3, 4)), sj.recurrent(sj.gru(3, 2))), XS),
}


@pytest.mark.parametrize("name", quick(MODELS, "classifier_max", "crf_tagger", "fixed_window"))
def test_a_model_takes_lengths_for_the_mask(name):
    make, xs = MODELS[name]
    model = make()
    params = model.init(KEY)
    state, mask = state_of(model, params), MASKS["lengths"]

    def run(**ticks):
        return jax.jit(valued(lambda params: model.apply(params, state, poison(mask, xs), **ticks)))(params)

    assert_close(run(lengths=LENGTHS), run(mask=mask))


@pytest.mark.parametrize("context", quick(["state", "every_tick", "attention"], "attention"))
@pytest.mark.parametrize("both_ways", quick([False, True], False))
def test_a_source_and_a_target_take_lengths(context, both_ways):
    model = models.encoder_decoder(5, 5, 4, context=context, both_ways=both_ways)
    objective = models.conditional_objective(model, sj.cross_entropy)
    mask = MASKS["lengths"]
    of_lengths = sj.Batch((models.Source(SYMBOLS, lengths=LENGTHS), SYMBOLS), SYMBOLS, lengths=LENGTHS)
    of_mask = sj.Batch((models.Source(SYMBOLS, mask), SYMBOLS), SYMBOLS, mask)
    run = jax.jit(valued(lambda params, batch: objective(params, (), batch)[1]))
    params = model.init(KEY)
    assert_close(run(params, of_lengths), run(params, of_mask))


MODEL = sj.serial(sj.embedding(5, 3), sj.recurrent(sj.gru(3, 4)), sj.dense(4, 5))
PARAMS = MODEL.init(KEY)

OBJECTIVES = {
    "objective": sj.objective(MODEL, sj.cross_entropy),
    "over_chunks": sj.over_chunks(MODEL, sj.cross_entropy, 3),
    "truncated": sj.truncated(MODEL, sj.cross_entropy, T),
    "truncated_short": sj.truncated(MODEL, sj.cross_entropy, T, 4),
    "sampled": models.scheduled_objective(MODEL, sj.cross_entropy),
    "output": models.output_objective(MODEL, models.full_softmax(5, 5)),
    "crf": models.crf_objective(MODEL),
}


@pytest.mark.parametrize("name", quick(OBJECTIVES, "objective", "truncated_short", "crf"))
def test_an_objective_takes_lengths_for_the_mask(name):
    objective = OBJECTIVES[name]
    params = {
        "output": (PARAMS, models.full_softmax(5, 5).init(KEY)),
        "crf": models.crf_tagger(MODEL, 5).init(KEY),
    }.get(name, PARAMS)
    xs = (SYMBOLS, jnp.array(0.3)) if name == "sampled" else SYMBOLS
    state = MODEL.initial_state(PARAMS, (B,))
    run = jax.jit(valued(lambda params, batch: objective(params, state, batch, KEY)))
    of_lengths = run(params, sj.Batch(xs, SYMBOLS, lengths=LENGTHS))
    assert_close(of_lengths, run(params, sj.Batch(xs, SYMBOLS, MASKS["lengths"])))


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_windows_make_a_mask_of_lengths(kind):
    ticks = np.asarray(SYMBOLS)
    of_lengths = sj.windows(sj.Batch(ticks, ticks, lengths=kind(LENGTHS)), 3, 4)
    of_mask = sj.windows(sj.Batch(ticks, ticks, np.asarray(MASKS["lengths"])), 3, 4)
    for a, b in zip(of_lengths, of_mask, strict=True):
        assert_close(a, b)


def test_devices_share_lengths_as_they_share_the_state():
    wide = sj.Batch(jnp.tile(SYMBOLS, (1, 2)), jnp.tile(SYMBOLS, (1, 2)), lengths=jnp.tile(LENGTHS, 2))
    losses = []
    for devices in (None, 2):
        optimizer = optax.sgd(0.1)
        step = sj.train_step(OBJECTIVES["objective"], optimizer, devices=devices)
        losses.append(step(sj.train_state(PARAMS, optimizer), MODEL.initial_state(PARAMS, (2 * B,)), wide)[2].tally)
    assert_close(*losses)
    with pytest.raises(ValueError, match=r"axis 0 of batch\.lengths, got shape \(3,\)"):
        step(
            sj.train_state(PARAMS, optimizer),
            MODEL.initial_state(PARAMS, (2 * B,)),
            wide._replace(lengths=LENGTHS),
        )


@pytest.mark.slow
def test_lengths_reach_the_kernels_as_lengths(monkeypatch):
    """However deep a recurrence lies in layers, in both directions, `unroll` decides what to do with them."""
    seen = []

    def unroll(*args, mask, lengths, reset, reverse, **options):
        seen.append((mask is None, lengths is not None, reverse))
        return sj.unroll(*args, mask=mask, lengths=lengths, reset=reset, reverse=reverse, **options)

    monkeypatch.setattr(recurrence, "unroll", unroll)
    deep = sj.residual(sj.serial(sj.dense(3, 3), sj.bidirectional(sj.gru(3, 2), sj.gru(3, 1))))
    model = models.classifier(sj.serial(sj.embedding(5, 3), deep, sj.recurrent(sj.gru(3, 4))), 4, 2)
    params = model.init(KEY)
    loss = sj.objective(model, models.one_answer(sj.cross_entropy))
    loss(params, model.initial_state(params, (B,)), sj.Batch(SYMBOLS, jnp.zeros(B, int), lengths=LENGTHS))
    assert seen == [(True, True, False), (True, True, True), (True, True, False)]


def test_a_layer_that_takes_no_lengths_gets_the_mask():
    def apply(params, state, xs, *, mask=None, reset=None, key=None):
        return state, jnp.where(mask[..., None], xs, 7)

    old = sj.pointwise(len)._replace(apply=apply)
    for model in (old, sj.serial(old), sj.serial(sj.residual(sj.serial(old)))):
        params = model.init(KEY)
        state = model.initial_state(params, (B,))
        _, ys = inner.run(model, params, state, XS, lengths=LENGTHS)
        assert_close(ys, inner.run(model, params, state, XS, mask=MASKS["lengths"])[1])


ERRORS = {
    "both": (lambda: masks.given("who", MASKS["lengths"], LENGTHS, XS), ValueError, "who: expected mask or lengths"),
    "floats": (
        lambda: masks.given("who", None, jnp.ones(B), XS),
        TypeError,
        "who: expected lengths of integers, got float64. Cast them to int32",
    ),
    "shape": (
        lambda: sj.dense(3, 2).apply(sj.dense(3, 2).init(KEY), (), XS, lengths=jnp.ones(B + 1, int)),
        ValueError,
        r"dense: expected lengths of shape \(3,\) like the batch axes of xs, got \(4,\)",
    ),
    "beyond": (
        lambda: masks.given("who", None, jnp.array([1, T + 1, 2]), XS),
        ValueError,
        "who: expected lengths from 0 to the 7 ticks of xs, got 8. Cut the lengths with the inputs",
    ),
    "below": (
        lambda: jax.jit(lambda xs: masks.given("who", None, np.array([1, -2, 2]), xs))(XS),
        ValueError,
        "who: expected lengths from 0 to the 7 ticks of xs, got -2",
    ),
    "log_probability": (
        lambda: models.log_probability(MODEL, PARAMS, SYMBOLS, first=0, lengths=[1, 2, 9]),
        ValueError,
        "log_probability: expected lengths from 0 to the 7 ticks of xs, got 9",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_lengths_are_told(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()


def test_traced_lengths_pass():
    mask = jax.jit(lambda lengths: masks.given("who", None, lengths, XS))(LENGTHS + 9)
    assert mask.all()

"""Numbers that are not finite: an update that is left out leaves all as it was; where they come from is found."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close

import seqjax as sj

MODEL = sj.serial(sj.recurrent(sj.lstm(2, 4)), sj.dense(4, 1))
PARAMS = MODEL.init(jax.random.key(0))
LOSS = sj.objective(MODEL, sj.mean_squared_error)
GOOD = sj.Batch(jnp.ones((5, 4, 2)), jnp.zeros((5, 4, 1)))
NAN = GOOD._replace(xs=GOOD.xs.at[2, 3, 0].set(jnp.nan))
INF = GOOD._replace(targets=GOOD.targets.at[2, 0].set(jnp.inf))
OPTIMIZER = sj.averaging(optax.adam(optax.exponential_decay(0.1, 1, 0.5)))


def start(model=MODEL, params=PARAMS, batch=4):
    return model.initial_state(params, (batch,))


def same(a, b):
    return assert_close(a, b, rtol=0, atol=0)


def after(batches, loss=LOSS, optimizer=OPTIMIZER, state=None, **options):
    step = sj.train_step(loss, optimizer, donate=False, **options)
    train, state = sj.train_state(PARAMS, optimizer), start() if state is None else state
    for batch in batches:
        train, state, metrics = step(train, state, batch)
    return train, state, metrics


@pytest.mark.parametrize(
    "options", [{}, {"clip": sj.clip_by_global_norm(0.1)}, {"devices": 2}], ids=["plain", "clip", "devices"]
)
def test_a_bad_batch_leaves_all_as_it_was(options):
    """To the bit, the optimizer's schedule and the average too; what comes next does not know of it."""
    train, state, _ = after([GOOD], **options)
    for bad in (NAN, INF):
        kept, held, metrics = after([GOOD, bad], **options)
        same((kept.params, kept.opt_state, held), (train.params, train.opt_state, state))
        assert not np.isfinite(metrics.loss)
        assert (kept.step, kept.skipped, metrics.skipped) == (2, 1, 1)
        assert not metrics.clipped
    through, end, metrics = after([GOOD, NAN, GOOD, INF], **options)
    two, other, _ = after([GOOD, GOOD], **options)
    same((through.params, through.opt_state, end), (two.params, two.opt_state, other))
    assert (through.step, metrics.skipped) == (4, 2)


def test_keep_makes_every_update():
    train, state, metrics = after([NAN], nonfinite="keep")
    assert np.isnan(np.asarray(train.params[1].w)).all()
    assert np.isnan(np.asarray(state[0].h)).any()
    assert metrics.skipped == 0
    assert_close(after([GOOD], nonfinite="keep")[:2], after([GOOD])[:2], rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="train_step: expected nonfinite to be one of 'skip', 'keep', got 'drop'"):
        after([GOOD], nonfinite="drop")


def test_one_of_several_accumulated_batches():
    together = lambda *batches: jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    loss, two = sj.models.accumulated(LOSS), together(start(), start())
    train, state, metrics = after([together(GOOD, NAN)], loss, state=two)
    same((train.params, state), (PARAMS, two))
    assert metrics.skipped == 1
    several = optax.MultiSteps(optax.sgd(0.1), 2)
    same(
        after([GOOD, NAN, GOOD], optimizer=several)[0].params,
        after([GOOD, GOOD], optimizer=several)[0].params,
    )


def test_a_norm_beyond_its_type_is_no_reason():
    """The gradient is finite, its norm is none of float32."""
    loss = lambda params, state, batch, key=None: (state, sj.Tally((params * 1e38).sum(), jnp.array(1)))
    params, optimizer = jnp.zeros(20, jnp.float32), optax.sgd(1e-38)
    train, _, metrics = sj.train_step(loss, optimizer)(sj.train_state(params, optimizer), (), GOOD)
    assert np.isinf(metrics.gradient_norm)
    assert metrics.skipped == 0
    assert_close(train.params, -np.ones(20), rtol=1e-5)


def test_side_by_side_each_decides_for_itself():
    step = jax.vmap(sj.train_step(LOSS, OPTIMIZER), (0, None, 0))
    trains = jax.tree.map(lambda x: jnp.stack([x, x]), sj.train_state(PARAMS, OPTIMIZER))
    trains, _, metrics = step(trains, start(), jax.tree.map(lambda a, b: jnp.stack([a, b]), GOOD, INF))
    assert metrics.skipped.tolist() == [0, 1]
    same(jax.tree.map(lambda x: x[1], trains.params), PARAMS)


def test_a_state_that_comes_back_another_is_refused():
    longer = lambda params, state, batch, key=None: (jnp.zeros(3), LOSS(params, start(), batch)[1])
    sentence = (
        r"train_step: expected the state to come back as it went in, of shape \(2,\), got \(3,\).*nonfinite=\"keep\""
    )
    with pytest.raises(ValueError, match=sentence):
        after([GOOD], longer, state=jnp.zeros(2))
    with pytest.raises(ValueError, match="train_step: expected the state to come back as it went in, PyTreeDef"):
        after([GOOD], longer, state=())
    assert after([GOOD], longer, state=(), nonfinite="keep")[1].shape == (3,)


# Where it begins

doubling = sj.recurrent(sj.elman(1, 1, activation=lambda a: a, b_init=None))
GROWING = (sj.cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 1e120), None),)
root = sj.Cell(
    lambda key: jnp.ones(()),
    lambda params, batch_shape=(), *, key=None: jnp.ones(batch_shape),
    lambda params, s, x: (jnp.sqrt(params * s * x), jnp.sqrt(params * s * x)),
)
shift = sj.pointwise(lambda params, xs: xs + params, lambda key: jnp.zeros(()))
BLOWN = sj.pointwise(lambda params, xs: xs * params, lambda key: jnp.full((), 1e300))
ONES = sj.Batch(jnp.ones((6, 2)), jnp.zeros((6, 2)))
ZERO = ONES._replace(xs=ONES.xs.at[3, 1].set(0.0))


def found(layers, batch, loss=None, params=None):
    model = sj.serial(*layers)
    params = model.init(jax.random.key(0)) if params is None else params
    state = model.initial_state(params, (2,))
    place = sj.first_nonfinite(sj.objective(model, loss) if loss else model, params, state, batch)
    return place and tuple(place)


def halves(ys, targets, mask):
    """Infinite slope at the root of 0."""
    return sj.Tally(jnp.sqrt(jnp.abs(ys - targets)).sum(), jnp.array(ys.size))


wide = lambda batch: batch._replace(xs=batch.xs[..., None], targets=batch.targets[..., None])
LAST = ONES._replace(targets=ONES.targets.at[4, 0].set(1.0))
PLACES = {
    "nothing": (lambda: found([shift, sj.recurrent(root)], ONES, sj.mean_squared_error), None),
    "an input": (lambda: found([shift], ZERO._replace(xs=ZERO.xs / ZERO.xs)), (3, "batch", "xs")),
    "padding": (lambda: found([shift], ZERO._replace(xs=ZERO.xs / ZERO.xs, mask=ZERO.xs > 0)), None),
    "a target": (lambda: found([shift], ONES._replace(targets=1 / ZERO.xs)), (3, "batch", "targets")),
    "a parameter": (lambda: found([shift, shift], ONES, params=(0.0, jnp.nan)), (None, "params", "params[1]")),
    "a state": (lambda: found([doubling], wide(ONES), params=GROWING), (3, "elman", "state")),
    "a state, from the end": (
        lambda: found(
            [sj.recurrent(sj.elman(1, 1, activation=lambda a: a, b_init=None), reverse=True)],
            wide(ONES),
            params=GROWING,
        ),
        (2, "elman", "state"),
    ),
    "an output": (lambda: found([shift, BLOWN, shift, BLOWN, shift], ZERO), (0, "pointwise_3", "output")),
    "an output inside": (
        lambda: found([shift, sj.residual(sj.serial(BLOWN, BLOWN))], ZERO),
        (0, "pointwise_2", "output"),
    ),
    "the loss": (
        lambda: found([shift], LAST, lambda ys, t, mask: sj.tally(1 / (ys - t) ** 2, mask)),
        (4, "loss", "loss"),
    ),
    "the loss's slope": (lambda: found([shift], LAST, halves), (4, "loss", "gradient of the model's output")),
    "backwards in a recurrence": (
        lambda: found([sj.recurrent(root), shift], ZERO._replace(xs=ZERO.xs.at[4:].set(1.0)), sj.mean_squared_error),
        (5, "recurrent", "gradient of state"),
    ),
    "backwards in a layer": (
        lambda: found([shift, sj.pointwise(lambda p, xs: jnp.sqrt(xs)), shift], ZERO, sj.mean_squared_error),
        (3, "pointwise_1", "gradient of its input, the output of pointwise"),
    ),
    "the first layer's parameter": (
        lambda: found(
            [sj.pointwise(lambda p, xs: jnp.sqrt(xs * p), lambda key: jnp.ones(()))], ZERO, sj.mean_squared_error
        ),
        (None, "pointwise", "gradient of pointwise"),
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_place_is_found(name):
    find, expected = PLACES[name]
    assert find() == expected


def test_objectives_of_every_form_are_looked_through():
    model = sj.serial(shift, sj.recurrent(root))
    params, batch = model.init(jax.random.key(0)), ZERO
    for loss in (
        sj.over_chunks(model, sj.mean_squared_error, 4),
        sj.truncated(model, sj.mean_squared_error, 6),
        lambda params, state, batch, key=None: sj.objective(model, sj.mean_squared_error)(params, state, batch),
    ):
        place = sj.first_nonfinite(loss, params, model.initial_state(params, (2,)), batch)
        assert str(place) == "tick 5, recurrent, gradient of state"
    with pytest.raises(TypeError, match=r"first_nonfinite: expected a Batch, got ArrayImpl. Wrap inputs and targets"):
        sj.first_nonfinite(model, params, (), ONES.xs)
    with pytest.raises(TypeError, match="first_nonfinite: expected a layer, a cell or an objective, got int"):
        sj.first_nonfinite(3, params, (), ONES)

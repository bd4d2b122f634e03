"""Penalties on parameters: what is descended, by finite arithmetic, however the batch is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import B, T, assert_close
from small_training import FULL, MASK, MODEL, OBJECTIVE, PARAMS, mean_loss, norm, start

import seqjax as sj

SGD = optax.sgd(1.0)


def recurrent_weights(rate):
    """λ Σ w² of the recurrent weights, and twice that rate of |b|, written out."""

    def penalty(params):
        return rate * (params[2].w_h ** 2).sum() + 2 * rate * jnp.abs(params[2].b).sum()

    return penalty


READY = sj.losses.l2(0.3, "w_h")


def both(params):
    return READY(params) + sj.losses.l1(0.6, "b")(params[2])


def moved(train):
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), PARAMS, train.params)


def test_an_objective_says_its_penalty():
    """The same update as by the step's own; evaluated by itself it is the loss."""
    said = sj.objective(MODEL, sj.cross_entropy, penalty=READY)
    assert said == sj.objective(MODEL, sj.cross_entropy, penalty=READY) != OBJECTIVE
    results = [
        sj.train_step(*options, **named)(sj.train_state(PARAMS, SGD), start(), FULL)
        for options, named in (((said, SGD), {}), ((OBJECTIVE, SGD), {"penalty": READY}))
    ]
    assert_close(*(moved(train) for train, _, _ in results), rtol=1e-12, atol=1e-14)
    assert_close(said(PARAMS, start(), FULL)[1], OBJECTIVE(PARAMS, start(), FULL)[1])


def test_the_penalty_is_added_to_the_mean():
    """Loss, gradient, its norm and the clip are those of the sum; the tally is that of the loss alone."""
    step = sj.train_step(OBJECTIVE, SGD, penalty=both, clip=sj.clip_by_global_norm(0.5))
    train, _, metrics = step(sj.train_state(PARAMS, SGD), start(), FULL)
    value, gradient = jax.value_and_grad(lambda p: mean_loss(p, FULL, start()) + recurrent_weights(0.3)(p))(PARAMS)
    assert_close((metrics.loss, metrics.gradient_norm), (value, norm(gradient)))
    assert bool(metrics.clipped)
    assert_close(moved(train), jax.tree.map(lambda g: 0.5 * g / norm(gradient), gradient), rtol=1e-8, atol=1e-10)
    assert_close(metrics.tally.mean, mean_loss(PARAMS, FULL, start()))
    assert metrics.tally.count == MASK.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "cut",
    [
        lambda: sj.over_chunks(MODEL, sj.cross_entropy, 3),
        lambda: sj.truncated(MODEL, sj.cross_entropy, T),
    ],
    ids=["chunks", "truncated"],
)
def test_the_penalty_is_added_once(cut):
    """In chunks and windows: the update of one piece."""
    expected, _, told = sj.train_step(OBJECTIVE, SGD, penalty=READY)(sj.train_state(PARAMS, SGD), start(), FULL)
    train, _, metrics = sj.train_step(cut(), SGD, penalty=READY)(sj.train_state(PARAMS, SGD), start(), FULL)
    assert_close(moved(train), moved(expected), rtol=1e-8, atol=1e-10)
    assert_close((metrics.loss, metrics.tally), (told.loss, told.tally))


@pytest.mark.slow
def test_over_two_devices():
    batch = jax.tree.map(lambda x: jnp.concatenate([jnp.asarray(x)] * 2, axis=1), FULL)
    runs = [
        sj.train_step(OBJECTIVE, SGD, penalty=READY, devices=devices)(
            sj.train_state(PARAMS, SGD), start(batch=2 * B), batch
        )
        for devices in (None, 2)
    ]
    assert_close(moved(runs[1][0]), moved(runs[0][0]), rtol=1e-8, atol=1e-10)
    assert_close(runs[1][2].loss, runs[0][2].loss)


def test_a_number_divides_the_losses_and_not_the_penalty():
    losses = [
        sj.train_step(OBJECTIVE, SGD, divide_by=B, penalty=penalty)(sj.train_state(PARAMS, SGD), start(), FULL)[2].loss
        for penalty in (None, READY)
    ]
    np.testing.assert_allclose(losses[1] - losses[0], 0.3 * (np.asarray(PARAMS[2].w_h) ** 2).sum(), rtol=1e-10)


def test_what_is_fixed_does_not_move_or_count():
    """No gradient of the penalty reaches it, so that the norm that is clipped is that of what moves."""
    fixed = jax.tree.map(lambda _: True, PARAMS)
    step = sj.train_step(OBJECTIVE, SGD, penalty=READY, fixed=fixed)
    train, _, metrics = step(sj.train_state(PARAMS, SGD), start(), FULL)
    assert_close(train.params, PARAMS, rtol=0, atol=0)
    assert metrics.gradient_norm == 0
    assert metrics.loss > metrics.tally.mean


@pytest.mark.slow
def test_optimizers_that_ask_for_the_loss_are_told_the_whole():
    optimizer = optax.lbfgs()
    step = sj.train_step(OBJECTIVE, optimizer, penalty=sj.losses.l2(1.0))
    train, state, losses = sj.train_state(PARAMS, optimizer), start(), []
    for _ in range(3):
        train, _, metrics = step(train, state, FULL)
        losses.append(float(metrics.loss))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 1


def test_l1_and_l2_by_names():
    """Fields, keys and places; integers do not pay; bfloat16 is summed in more."""
    params = {"a": sj.ElmanParams(jnp.full((2, 3), 2.0), -jnp.ones((3, 3)), None), "n": jnp.arange(3)}
    assert sj.losses.l2(0.5)(params) == 0.5 * (6 * 4 + 9)
    assert sj.losses.l1(0.5, "w_h")(params) == 0.5 * 9
    assert sj.losses.l2(1.0, "w_x", "w_h")(params) == sj.losses.l2(1.0, "a")(params) == 33
    assert sj.losses.l1(1.0, "1")((jnp.ones(2), jnp.ones(3))) == 3
    assert sj.losses.l2(1.0)(jnp.full(2000, 0.5, jnp.bfloat16)) == 500
    assert sj.losses.l2(0.1, "w") == sj.losses.l2(0.1, "w") != sj.losses.l2(0.1, "b")
    zero = jax.grad(sj.losses.l1(1.0))(jnp.array([0.0, 2.0, -3.0]))
    assert zero.tolist() == [0.0, 1.0, -1.0]
    assert sj.train_step(OBJECTIVE, SGD, penalty=sj.losses.l2(0.1)) is sj.train_step(
        OBJECTIVE, SGD, penalty=sj.losses.l2(0.1)
    )


def test_errors():
    with pytest.raises(ValueError, match=r"l2: expected a rate of at least 0, got -1\. 0 is no penalty"):
        sj.losses.l2(-1)
    with pytest.raises(ValueError, match=r"l1: expected the name of a parameter, such as b, w_h, w_x, got 'w_hh'"):
        sj.losses.l1(0.1, "w_hh")(sj.ElmanParams(*[jnp.ones(2)] * 3))
    for wrong, got in ((lambda p: p[2].w_h, r"float64 of shape \(4, 16\)"), (lambda p: jnp.array(1), "int")):
        with pytest.raises(ValueError, match=f"train_step: expected penalty to return a float, got {got}"):
            sj.train_step(OBJECTIVE, SGD, penalty=wrong)(sj.train_state(PARAMS, SGD), start(), FULL)

"""What stands in at masked ticks: a pair of state and input that occurs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj

CLOCK = sj.Cell(
    lambda key: jnp.float64(2.0),
    lambda params, batch_shape=(), *, key=None: jnp.zeros(batch_shape),
    lambda w, t0, t: (t, w * jnp.sqrt(t - t0)),
)
# Cells whose step, or its derivative, is undefined for pairs that never occur.
UNIT = sj.Cell(  # divides by the distance of state and input
    lambda key: jnp.ones(3),
    lambda params, batch_shape=(), *, key=None: jnp.zeros((*batch_shape, 3)),
    lambda w, h, x: (x, w * (x - h) / jnp.sqrt(((x - h) ** 2).sum(-1, keepdims=True))),
)


@pytest.mark.parametrize("engine", ["scan", "split"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("place", range(4))
def test_a_step_defined_for_some_pairs_only(engine, reverse, place):
    """Times 1, 2, 3 and a masked tick anywhere: three steps of one unit, so that the gradient is 3."""
    real = np.delete(np.arange(4), place)
    times = np.full(4, np.nan)
    times[real[::-1] if reverse else real] = [1.0, 2.0, 3.0]
    mask = ~np.isnan(times)

    def total(w, state):
        return sj.unroll(CLOCK, w, state, jnp.array(times), mask=jnp.array(mask), engine=engine, reverse=reverse)[
            1
        ].sum()

    value, (of_w, of_state) = jax.value_and_grad(total, (0, 1))(2.0, 0.0)
    np.testing.assert_allclose((value, of_w, of_state), (6.0, 3.0, -1.0), rtol=1e-12)


@pytest.mark.parametrize("engine", ["scan", "split"])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_mask_and_reset_of_two_sequences(engine, reverse):
    """A row without a real tick, resets at masked ticks and real ones: gradients are those of the ticks there are."""
    rng = np.random.default_rng(0)
    xs, start = rng.normal(size=(3, 2, 3)), rng.normal(size=(2, 3))
    w = rng.normal(size=3)

    def loop(w, start, mask, reset):
        total = 0.0
        for b in range(2):
            h = start[b]
            for t in reversed(range(3)) if reverse else range(3):
                if reset[t, b] and not reverse:
                    h = jnp.zeros(3)
                if mask[t, b]:
                    h, y = UNIT.step(w, h, xs[t, b])
                    total += (y * (1 + t + b)).sum()
                if reset[t, b] and reverse:
                    h = jnp.zeros(3)
        return jnp.float64(total)

    weights = (1.0 + np.arange(3)[:, None] + np.arange(2))[..., None]

    @jax.jit
    def unrolled(w, start, mask, reset):
        inputs = jnp.where(mask[..., None], xs, jnp.nan)
        ys = sj.unroll(UNIT, w, start, inputs, mask=mask, reset=reset, engine=engine, reverse=reverse)[1]
        return (ys * weights).sum()

    both = jax.jit(jax.value_and_grad(unrolled, (0, 1)))
    for bits in itertools.islice(itertools.product([False, True], repeat=6), 0, 64, 3):
        mask = np.array(bits).reshape(3, 2)
        reset = np.array(bits[::-1]).reshape(3, 2) ^ (np.arange(6).reshape(3, 2) % 2 == 0)
        found = both(w, start, mask, reset)
        expected = jax.value_and_grad(loop, (0, 1))(w, start, mask, reset)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=f"{mask} {reset}")


def test_a_batch_without_one_real_tick_has_finite_gradients():
    xs, mask = jnp.full((3, 2, 3), jnp.nan), jnp.zeros((3, 2), bool)
    run = lambda w, state: sj.unroll(UNIT, w, state, xs, mask=mask)[1].sum()
    for g in jax.grad(run, (0, 1))(jnp.ones(3), jnp.zeros((2, 3))):
        np.testing.assert_array_equal(g, 0)

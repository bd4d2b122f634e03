"""Reservoirs whose figures would be none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import reservoir


def fitted(growth):
    """A reservoir whose readout multiplies its own output by so much a tick."""
    cell = sj.echo_state(1, 20)
    params = cell.init(jax.random.key(0))
    readout = reservoir.Readout(jnp.full((20, 1), 0.01), jnp.full((1, 1), growth), jnp.zeros(1))
    return cell, params, readout, cell.initial_state(params, (2,)), jnp.ones((2, 1))


@pytest.mark.parametrize(("growth", "tick"), [(10.0, 6), (3.0, 12), (1e200, 0)])
def test_a_free_run_that_explodes_is_told(growth, tick):
    """Whether it ends in large numbers, in infinity or in NaN."""
    with pytest.warns(RuntimeWarning, match=rf"free_run: the outputs explode, from tick {tick} on more than"):
        reservoir.free_run(*fitted(growth), 400)


def test_a_free_run_that_moves_far_but_stays_is_not_told():
    """Warnings are errors here: a decaying start, and a series of large numbers that is continued as it was."""
    reservoir.free_run(*fitted(0.9), 400)
    cell, params, readout, state, y = fitted(-1.0)
    reservoir.free_run(cell, params, readout._replace(w_h=readout.w_h * 1e12), state, 1e14 * y, 400)
    exploding = fitted(10.0)[:4]
    jax.jit(lambda y: reservoir.free_run(*exploding, y, 400)[1])(y)


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_a_series_whose_squares_are_no_numbers_is_told(where):
    cell = sj.echo_state(1, 20)
    params = cell.init(jax.random.key(0))
    xs = np.sin(np.arange(300))[:, None]
    wild = np.where(np.arange(300)[:, None] == 200, 1e308, xs)
    xs, targets = (wild, xs) if where == "inputs" else (xs, wild)
    with pytest.raises(ValueError, match=r"fit: expected .* whose squares are numbers, got 1e\+308 in the 300 ticks"):
        reservoir.fit(cell, params, xs, targets)


@pytest.mark.slow
def test_distances_of_any_size():
    """A cell that adds up keeps its distance, which float32 cannot square."""
    cell = sj.Cell(
        lambda key: (), lambda p, b=(), *, key=None: jnp.zeros((*b, 3), jnp.float32), lambda p, s, x: (s + x, s)
    )
    found = reservoir.forgetting(cell, (), jnp.ones((5, 2, 3), jnp.float32), jax.random.key(0), scale=1e25)
    np.testing.assert_allclose(found.distance, 1, rtol=1e-6)

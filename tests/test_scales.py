"""States that are a value and its scale: whoever mixes them mixes what they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import scales

T, B, D, H = 12, 2, 2, 3


def plain(params, state, x):
    """The sLSTM's equations without a stabiliser."""
    h, c, n = state
    i, f, z, o = jnp.split(x @ params.w_x + h @ params.w_h[0] + params.b, 4, -1)
    i, f = jnp.exp(i), jax.nn.sigmoid(f)
    c, n = f * c + i * jnp.tanh(z), f * n + i
    h = jax.nn.sigmoid(o) * c / n
    return (h, c, n), h


@pytest.fixture
def cells():
    scaled = sj.slstm(D, H)
    rest = lambda params, batch_shape=(), *, key=None: (jnp.zeros((*batch_shape, H)),) * 3
    return scaled, sj.Cell(scaled.init, rest, plain), scaled.init(jax.random.key(0))


def run(cell, params, xs, state=None):
    state = cell.initial_state(params, (B,)) if state is None else state
    return sj.unroll(cell, params, state, xs)[1]


XS = jax.random.normal(jax.random.key(1), (T, B, D))


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.4])
def test_zoneout_in_evaluation_mixes_what_is_kept(cells, rate):
    scaled, unscaled, params = cells
    np.testing.assert_allclose(
        run(sj.zoneout(scaled, rate), params, XS), run(sj.zoneout(unscaled, rate), params, XS), rtol=1e-9
    )


def test_zoneout_keeps_memory_and_bounds(cells):
    """The first input reaches the last output as far as without a stabiliser; |h| stays below 1, as an average does."""
    scaled, unscaled, params = cells

    def reach(cell):
        return jnp.abs(jax.grad(lambda x: run(cell, params, XS.at[0].set(x))[-1].sum())(XS[0])).max()

    np.testing.assert_allclose(reach(sj.zoneout(scaled, 0.05)), reach(sj.zoneout(unscaled, 0.05)), rtol=1e-9)
    cell = sj.zoneout(scaled, 0.3)
    for seed in range(10):
        state = cell.initial_state(params, (B,), key=jax.random.key(seed))
        assert jnp.abs(run(cell, params, 3 * XS, state)).max() < 1


def test_zoneout_holds_a_value_with_its_scale(cells):
    scaled, _, params = cells
    cell = sj.zoneout(scaled, 0.5)
    state = cell.initial_state(params, (200,), key=jax.random.key(2))
    (first, noise), _ = cell.step(params, state, jnp.ones((200, D)))
    (second, _), _ = cell.step(params, (first, noise), jnp.full((200, D), 2.0))
    held = second.m == first.m
    np.testing.assert_array_equal(held, second.c == first.c)
    np.testing.assert_array_equal(held, second.n == first.n)
    assert 0.4 < held.mean() < 0.6
    assert (held != (second.h == first.h)).any()  # h is held on its own


def test_rates_of_values_that_share_a_scale_are_one(cells):
    scaled, _, params = cells
    rates = sj.cells.SLSTMState(h=0.1, c=0.3, n=0.2, m=0.3)
    with pytest.raises(ValueError, match=r"one rate for m, c, n, which share a scale, got \[0.2, 0.3\]"):
        run(sj.zoneout(scaled, rates), params, XS)
    run(sj.zoneout(scaled, rates._replace(n=0.3)), params, XS)


def test_a_learned_state_is_learned(cells):
    """Every part of it gets a gradient, which is that of the unscaled cell from the state it stands for."""
    scaled, unscaled, params = cells
    cell = sj.learned_initial_state(scaled)
    params = cell.init(jax.random.key(0))._replace(cell=params)
    loss = lambda ys: (ys**2).sum()
    gradient = jax.grad(lambda p: loss(run(cell, p, XS)))(params).state

    def stands_for(theta):
        weight = jnp.exp(theta.m)
        state = (theta.h, theta.c * weight, jnp.exp(theta.n) * weight)
        return tuple(jnp.broadcast_to(s.reshape(H), (B, H)) for s in state)

    expected = jax.grad(lambda theta: loss(run(unscaled, params.cell, XS, stands_for(theta))))(params.state)
    for found, right in zip(gradient, expected, strict=True):
        assert np.abs(right).max() > 1e-6
        np.testing.assert_allclose(found, right, rtol=1e-9)


def test_a_random_state_matters(cells):
    scaled, _, params = cells
    cell = sj.random_initial_state(scaled, 0.5)
    state = cell.initial_state(params, (B,), key=jax.random.key(5))
    assert (state.n == 1).all()
    for name in ("h", "c", "m"):
        other = run(cell, params, XS, state._replace(**{name: 0 * getattr(state, name)}))
        assert np.abs(run(cell, params, XS, state) - other).max() > 1e-6


def test_mixing_with_nothing_kept(cells):
    scaled, _, params = cells
    state = scaled.initial_state(params, (B,))
    mixed = scales.mixed(0.3, state, state, "m")
    assert jnp.isneginf(mixed["m"]).all()
    assert (mixed["c"] == 0).all()

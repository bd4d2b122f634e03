"""Every cell that is linear in its state, by the linear engine, at lengths that chunks do and do not divide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import floats, valued
from marks import quick
from test_laws_cells import LINEAR
from zoo import CELLS, drawn

import seqjax as sj

B = 2


def of_kind(tree, floats, complexes):
    """Numbers of one precision."""
    kinds = {"f": floats, "c": complexes}
    return jax.tree.map(lambda x: x.astype(kinds.get(x.dtype.kind, x.dtype)), tree)


def sizes(expected):
    """The largest number of every leaf, at least one."""
    return [max(1.0, float(np.abs(x).max(initial=0))) for x in floats(expected)]


@pytest.mark.parametrize("length", quick([1, 2, 31, 1024, 1031], 2))
@pytest.mark.parametrize("name", quick(LINEAR, "minlstm", "gated_delta_rule"))
def test_equal_to_scan(name, length):
    """Values and gradients in everything, under masks and resets, in double precision."""
    cell, draw = CELLS[name].make(), CELLS[name].draw
    params, xs = drawn(cell), draw(jax.random.key(1), (length, B))
    start = jax.tree.map(lambda s: s + jnp.asarray(0.3, s.dtype), cell.initial_state(params, (B,)))
    rng = np.random.default_rng(length)
    mask, reset = rng.random((length, B)) > 0.2, rng.random((length, B)) > 0.97

    def run(engine, moving):
        params, start, xs = moving
        return sj.unroll(cell, params, start, xs, mask=mask, reset=reset, engine=engine)

    @jax.jit
    def both(moving):
        return [valued(functools.partial(run, engine))(moving) for engine in ("scan", "linear")]

    expected, found = both((params, start, xs))
    for a, b, size in zip(floats(found), floats(expected), sizes(expected), strict=True):
        np.testing.assert_allclose(a / size, b / size, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_ten_thousand_ticks_in_single_precision(name):
    """What a gradient computes, as forwards a CPU has no chunks; beside scan, whose own rounding is of this size."""
    cell, draw = CELLS[name].make(), CELLS[name].draw
    params, xs = of_kind(
        (cell.init(jax.random.key(0)), draw(jax.random.key(1), (10_000, 1))), jnp.float32, jnp.complex64
    )
    start = of_kind(cell.initial_state(params, (1,)), jnp.float32, jnp.complex64)

    def run(engine, params):
        return sj.unroll(cell, params, start, xs, engine=engine)

    @jax.jit
    def both(params):
        return [jax.vjp(functools.partial(run, engine), params)[0] for engine in ("scan", "linear")]

    expected, found = both(params)
    for a, b, size in zip(floats(found), floats(expected), sizes(expected), strict=True):
        np.testing.assert_allclose(a / size, b / size, rtol=0, atol=1e-5)

"""Large states and little that is told of them: what stays in the loop, and what its derivative stacks."""

import jax
import jax.numpy as jnp
import numpy as np
from steps import B, D, T, normal

import seqjax as sj
from seqjax.engines.equations import jaxprs

UNITS, ROWS = 512, 24


def ring(p, s, x):
    """Neighbours on a ring, of whom one is told."""
    f = jnp.sin(p * s)
    s = 0.8 * f + 0.1 * (jnp.roll(f, 1, -1) + jnp.roll(f, -1, -1)) + 0.01 * x[:, :1]
    return s, s[:, 0]


def fast_weights(p, s, x):
    """A' = .95 A + .5 h hᵀ, h' = tanh(x W + h U + h A')."""
    a, h = s
    a = 0.95 * a + 0.5 * h[:, :, None] * h[:, None, :]
    h = jnp.tanh(x @ p[0] + h @ p[1] + jnp.einsum("bi,bij->bj", h, a) / 8)
    return (a, h), h


RING = ring, jnp.float64(2), normal(1, B, UNITS)
FAST = fast_weights, (normal(1, D, ROWS), normal(2, ROWS, ROWS)), (jnp.zeros((B, ROWS, ROWS)), jnp.zeros((B, ROWS)))


def gradient(step, params, state, engine="split"):
    cell = sj.Cell(lambda key: None, lambda p, batch_shape=(), *, key=None: state, step)
    xs = normal(6, T, B, D)
    loss = lambda p, s, x: (sj.unroll(cell, p, s, x, engine=engine, memory="all")[1] ** 2).sum()
    return jax.grad(loss, (0, 1, 2)), (params, state, xs)


def equations(case):
    """Of the gradient, at any depth."""
    f, args = gradient(*case)
    return list(within(jaxprs.inlined(jax.make_jaxpr(f)(*args)).jaxpr))


def within(jaxpr):
    for e in jaxpr.eqns:
        yield e
        for sub in jaxprs.core.jaxprs_in_params(e.params):
            yield from within(jaxprs.opened(sub))


def made(found, primitive, *shape):
    return [e for e in found if e.primitive.name == primitive for v in e.outvars if v.aval.shape == shape]


def test_one_number_of_many_units_is_told_by_the_loop():
    """Told behind it, all states would be handed on, and copied once more for the derivative to have those before."""
    found = equations(RING)
    assert len(made(found, "scan", T, B)) == 1
    assert not made(found, "concatenate", T, B, UNITS)


def test_a_summand_of_one_number_has_no_root_of_all_units():
    """x[:, :1] is added to all units: its cotangent is a number a tick, not one of every unit."""
    (backward,) = [e for e in equations(RING) if e.primitive.name == "scan" and e.params["reverse"]]
    assert all(v.aval.shape != (T, B, UNITS) for v in backward.outvars)


def test_a_product_reads_what_was_kept_and_not_what_it_was_made_of():
    """A' is kept and not A, of which the backward loop would make it again."""
    (backward,) = [e for e in equations(FAST) if e.primitive.name == "scan" and e.params["reverse"]]
    assert not made(within(jaxprs.opened(backward.params["jaxpr"])), "add", B, ROWS, ROWS)


def test_gradients_are_those_of_a_scan():
    for case in (RING, FAST):
        (f, args), (g, _) = gradient(*case), gradient(*case, engine="scan")
        for a, b in zip(jax.tree.leaves(f(*args)), jax.tree.leaves(g(*args)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)

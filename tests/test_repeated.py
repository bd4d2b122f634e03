"""Products with a repeated factor, without axes of one entry, for which XLA has slow sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import seqjax as sj
from seqjax.engines.equations import jaxprs
from seqjax.engines.split import repeated

SHAPES = {
    "an outer product of one sequence": ((5, 1, 3, 1), (5, 1, 1, 4)),
    "one entry of two": ((5, 1, 3, 1), (5, 1, 3, 4)),
    "the same at all ticks": ((1, 1, 3), (5, 1, 3)),
    "several sequences": ((5, 2, 3, 1), (5, 2, 1, 4)),
    "nothing repeated": ((5, 1, 3), (5, 1, 3)),
    "one number": ((1, 1), (1, 1)),
    "no axis": ((), ()),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64, jnp.int32])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_a_product_is_the_product(shapes, dtype):
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.integers(-9, 9, shape) / (1 if dtype == jnp.int32 else 8), dtype) for shape in shapes)
    found, expected = (f(x, y) for f in (repeated.multiplied, jnp.multiply))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_derivatives_are_those_of_the_product(shapes):
    """Once and twice, in float64."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=shape), jnp.float64) for shape in shapes)

    def loss(f):
        return lambda x, y: jnp.sum(jnp.sin(f(x, y)) ** 2)

    def slope(f):
        return lambda *values: sum(jnp.sum(jnp.cos(g)) for g in jax.grad(loss(f), (0, 1))(*values))

    for of in (loss, slope):
        pairs = zip(*(jax.grad(of(f), (0, 1))(x, y) for f in (repeated.multiplied, jnp.multiply)))
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def slow_sums(jaxpr):
    """Shapes of products that are summed over an axis of several entries, with an axis of one entry behind time."""
    made, found = {}, []
    for e in jaxpr.eqns:
        for inner in jaxprs_in_params(e.params):
            found += slow_sums(jaxprs.opened(inner))
        made.update(dict.fromkeys(e.outvars, e.primitive.name))
        if e.primitive.name == "reduce_sum" and made.get(e.invars[0]) == "mul":
            shape = e.invars[0].aval.shape
            summed = [shape[i] for i in e.params["axes"] if shape[i] > 1]
            found += [shape] if summed and 1 in shape[1:] and len(shape) > 3 else []
    return found


CELLS = {
    "a selective state space": sj.cells.selective_state_space(5, 6),
    "linear attention": sj.cells.linear_attention(6, 6, heads=2),
    "linear attention, a decay a channel": sj.cells.linear_attention(6, 6, decay="channel"),
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_the_gradient_of_one_sequence_has_no_slow_sums(cell):
    params = cell.init(jax.random.key(0))
    xs = jnp.ones((7, 1, jax.tree.leaves(params)[0].shape[0]))
    loss = lambda params, xs: (sj.unroll(cell, params, cell.initial_state(params, (1,)), xs)[1] ** 2).sum()
    assert slow_sums(jax.make_jaxpr(jax.grad(loss, (0, 1)))(params, xs).jaxpr) == []

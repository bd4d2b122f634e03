"""What the split engine takes for granted about JAX's equations. If JAX changes it, this file says so first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from jax.extend.core import primitives

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.rewrite import rewritten


def closed_jaxpr(f, *values):
    return jaxprs.trace(f, *map(jax.typeof, values))


def test_equations_have_the_parts_we_read():
    closed = closed_jaxpr(lambda x: jnp.tanh(x) @ x, jnp.ones((2, 2)))
    first, second = closed.jaxpr.eqns
    assert first.primitive is primitives.tanh_p
    assert second.primitive is primitives.dot_general_p
    assert second.params["dimension_numbers"] == (((1,), (0,)), ((), ()))
    assert first.outvars[0] is second.invars[0]
    assert first.outvars[0].aval.shape == (2, 2)
    assert closed.jaxpr.effects == set()


def test_a_part_of_a_jaxpr_is_a_function():
    closed = closed_jaxpr(lambda x: jnp.sin(jnp.cos(x)) * 2.0, jnp.ones(3))
    cos, sin, _ = closed.jaxpr.eqns
    run = jaxprs.function(closed.jaxpr, [sin], [cos.outvars[0]], [sin.outvars[0]])
    np.testing.assert_array_equal(run([jnp.arange(3.0)])[0], np.sin(np.arange(3.0)))


def test_a_linearised_function_closes_over_its_coefficients():
    x = jnp.array([0.3, 0.7])

    def coefficients(x):
        _, linear = jax.linearize(jnp.sin, x)
        closed = jaxprs.trace(linear, jax.typeof(x))
        assert len(closed.consts) == 1
        return closed.consts

    np.testing.assert_allclose(jax.jit(coefficients)(x)[0], np.cos(x))


def test_calls_are_inlined_and_derivative_rules_kept():
    @jax.jit
    def helper(x):
        return jax.checkpoint(lambda x: jax.nn.relu(x) @ x)(x)

    closed = closed_jaxpr(lambda x: helper(x) + 1.0, jnp.ones((2, 2)))
    names = [e.primitive.name for e in jaxprs.inlined(closed).jaxpr.eqns]
    assert names == ["custom_jvp_call", "dot_general", "add"]


@pytest.mark.parametrize("side", ["left", "right", "cast"])
def test_a_product_with_a_concatenation_becomes_a_sum(side):
    x, h, w = jnp.arange(6.0).reshape(2, 3), jnp.arange(4.0).reshape(2, 2), jnp.arange(20.0).reshape(5, 4)

    def f(w, h, x):
        both = jnp.concatenate([x, h], -1)
        if side == "right":
            return jax.lax.dot_general(w.T, both, (((1,), (1,)), ((), ())))
        return (both.astype(jnp.float32) if side == "cast" else both) @ (w.astype(jnp.float32) if side == "cast" else w)

    split = rewritten(jaxprs.inlined(closed_jaxpr(f, w, h, x)), params=1, state=1, ticks=9)
    equations = jaxprs.needed(split.jaxpr.eqns, split.jaxpr.outvars)
    names = [e.primitive.name for e in equations]
    assert names.count("dot_general") == 2
    assert "concatenate" not in names
    np.testing.assert_allclose(core.jaxpr_as_fun(split)(w, h, x)[0], f(w, h, x))


def test_zeros_carry_the_mesh_axes_of_their_type():
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def f(x):
        zero = jaxprs.zeros(jax.typeof(x))
        assert jax.typeof(zero) == jax.typeof(x)
        return zero

    jax.shard_map(f, mesh=mesh, in_specs=spec("i"), out_specs=spec("i"))(jnp.ones(4))

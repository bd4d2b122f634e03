"""The split engine equals plain scan, for every kind of step, schedule and transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steps import STEPS, T

import seqjax as sj

KEEP = {
    "all": "all",
    "carries": "carries",
    "sqrt": "sqrt",
    "log": "log",
    "chunk of 4": 4,
    "budget": "1MB",
}


def cell_of(step):
    return sj.Cell(lambda key: None, lambda params, batch_shape=(), *, key=None: None, step)


def run(step, params, state, xs, **options):
    return sj.unroll(cell_of(step), params, state, xs, **options)


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def numbers(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def loss(result):
    weigh = lambda x: x * (1 + 0.01 * jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))
    return sum(jnp.sin(weigh(x)).sum() for x in floats(result))


def close(a, b, tolerance=1e-12):
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def problem(name, length=T):
    """The step and its differentiable arguments: ``(f, moving)`` with ``f(moving, **options)``."""
    step, params, state, xs = STEPS[name]
    xs = jax.tree.map(lambda x: x[:length], xs)
    leaves, tree = jax.tree.flatten((params, state, xs))
    where = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def f(moving, **options):
        full = list(leaves)
        for i, value in zip(where, moving):
            full[i] = value
        return run(step, *tree.unflatten(full), **options)

    return f, [leaves[i] for i in where]


def value_and_gradient(f, **options):
    def both(moving):
        result = f(moving, **options)
        return loss(result), result

    return jax.jit(jax.value_and_grad(both, has_aux=True))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", STEPS)
def test_equals_scan(name, reverse):
    f, moving = problem(name)
    expected = value_and_gradient(f, engine="scan", reverse=reverse)(moving)
    for memory in ("all", 4, "carries"):
        got = value_and_gradient(f, engine="split", memory=memory, reverse=reverse)(moving)
        close(got, expected)

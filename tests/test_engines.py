"""The law that every engine equals scan, for every cell, with masks, resets, noise and both directions."""

import jax
import jax.numpy as jnp
import pytest
from laws import assert_close, loss, poison, state_of
from zoo import CELLS, perturbed

import seqjax as sj

T, B = 7, 3
MASK = sj.masks.from_lengths(jnp.array([7, 4, 0]), T)
RESET = jnp.zeros((T, B), bool).at[3, 0].set(True).at[2, 1].set(True).at[0, 0].set(True)


@pytest.mark.parametrize("name", CELLS)
def test_split_equals_scan(name):
    """Chunks of 3 leave a remainder of 1; padding holds NaN; in reverse the states are recomputed in one batch."""
    case = CELLS[name]
    cell = case.make()
    params = perturbed(cell.init(jax.random.key(1)), jax.random.key(2))
    xs = poison(MASK, case.draw(jax.random.key(3), (T, B)))
    state = state_of(cell, params, key=jax.random.key(4))

    for reverse, memory in ((False, 3), (True, "carries")):

        def value(params, engine, reverse=reverse, memory=memory):
            options = {"mask": MASK, "reset": RESET, "reverse": reverse, "engine": engine}
            result = sj.unroll(cell, params, state, xs, memory=memory if engine == "split" else "all", **options)
            return loss(result), result

        both = jax.value_and_grad(value, has_aux=True)
        assert_close(jax.jit(both, static_argnums=1)(params, "split"), jax.jit(both, static_argnums=1)(params, "scan"))

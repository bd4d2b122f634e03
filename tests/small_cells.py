"""For tests of transformations: a cell with parameters off their initial values, and variants of a cell."""

import jax
import jax.numpy as jnp
from zoo import perturbed

import seqjax as sj


def drawn(cell):
    return perturbed(cell.init(jax.random.key(1)), jax.random.key(2))


def memory(size):
    """A cell that only copies: h' = h, y = x."""
    return sj.Cell(
        init=lambda key: (),
        initial_state=lambda params, batch_shape=(), *, key=None: jnp.zeros((*batch_shape, size)),
        step=lambda params, h, x: (h, x),
    )


def jitted(cell):
    return cell._replace(step=jax.jit(cell.step))

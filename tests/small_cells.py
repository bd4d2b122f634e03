"""For tests of transformations: variants of a cell."""

import jax
import jax.numpy as jnp

import seqjax as sj


def memory(size):
    """A cell that only copies: h' = h, y = x."""
    return sj.Cell(
        init=lambda key: (),
        initial_state=lambda params, batch_shape=(), *, key=None: jnp.zeros((*batch_shape, size)),
        step=lambda params, h, x: (h, x),
    )


def jitted(cell):
    return cell._replace(step=jax.jit(cell.step))

"""The ticks and the batch of a chunk as the rows of one matrix, for products with a weight."""

from collections.abc import Callable

import jax

from seqjax import spread
from seqjax.engines import platforms
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation


def are_one_axis(equation: Equation) -> bool:
    """Whether ``[B, h] @ [h, k]`` for all ticks is best one product of matrices.

    XLA on a CPU transposes a copy of the stacked cotangents where the product for the weight's gradient contracts two
    axes; training steps of LSTMs, both products so, as a share of the time with neither: T 256, B 32, h 128 .87; T 128,
    B 64, h 256 and 512 .91; of GRUs .97 and .96. Elsewhere the batch stays an axis of its own, which the compiler can
    shard.
    """
    if not jaxprs.is_matrix_product(equation) or equation.invars[0].aval.ndim != 2:
        return False
    return platforms.name() == "cpu" and not spread.is_explicit(equation.invars[0].aval)


def as_rows(f: Callable[[jax.Array], jax.Array], stack: jax.Array) -> jax.Array:
    """``f`` of ``stack [K, B, h]`` as ``[K B, h]``."""
    ticks, batch, units = stack.shape
    rows = f(stack.reshape(ticks * batch, units))
    return rows.reshape(ticks, batch, rows.shape[-1])

"""The simple recurrent network."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, preactivation


class ElmanParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``b [h]`` or None."""

    w_x: Array
    w_h: Array
    b: Bias


def elman(
    input_size: int,
    hidden_size: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[ElmanParams, Array]:
    """The Elman network: the next state is one layer of units that see the input and the state.

        h' = φ(x W + h U + b)        y = h'

    The readout y = ψ(h V + c) of the textbooks is kept apart: `seqjax.dense`.

    Args:
      input_size: d.
      hidden_size: h.
      activation: φ; tanh, `jax.nn.relu`, `jax.nn.sigmoid`, or any function of an array.
      w_x_init: initialiser of W ``[d, h]``.
      w_h_init: initialiser of U ``[h, h]``.
      b_init: initialiser of b ``[h]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.elman(3, 2)
      >>> params = cell.init(jax.random.key(0))
      >>> state, y = cell.step(params, cell.initial_state(params), jax.numpy.ones(3))
      >>> y.shape
      (2,)

    References:
      Elman (1990), Finding structure in time. https://doi.org/10.1207/s15516709cog1402_1
    """
    checks.sizes("elman", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> ElmanParams:
        return ElmanParams(*draw(key, ("h",), input_size, hidden_size))

    def initial_state(params: ElmanParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> Array:
        return zeros(batch_shape, hidden_size, params.w_h)

    def step(params: ElmanParams, h: Array, x: Array) -> tuple[Array, Array]:
        checks.inputs("elman", x, h.shape[:-1], input_size)
        h = activation(preactivation(x, h, *params, compute_dtype))
        return h, h

    return Cell(init, initial_state, step)

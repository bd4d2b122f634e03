"""The simple recurrent network."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax.numpy as jnp

from seqjax.base import Array, Cell
from seqjax.cells.factory import WeightOptions, from_gates, weighted
from seqjax.products import Bias, preactivation
from seqjax.records import maker


class ElmanParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``b [h]`` or None."""

    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted()
def elman(
    input_size: int,
    hidden_size: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    **options: Unpack[WeightOptions],
) -> Cell[ElmanParams, Array]:
    """The Elman network: the next state is one layer of units that see the input and the state.

        h' = φ(x W + h U + b)        y = h'

    The readout y = ψ(h V + c) of the textbooks is kept apart: `seqjax.dense`. With relu and
    ``w_h_init=seqjax.initializers.identity()`` it is the IRNN.

    Args:
      activation: φ; tanh, `jax.nn.relu`, `jax.nn.sigmoid`, or any function of an array.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

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

    def step(params: ElmanParams, h: Array, x: Array) -> tuple[Array, Array]:
        h = activation(preactivation(x, h, *params, options["compute_dtype"]))
        return h, h

    return from_gates("elman", ("h",), input_size, hidden_size, step, options, record=ElmanParams)

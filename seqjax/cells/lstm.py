"""Long short-term memory."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, preactivation

GATES = ("i", "f", "g", "o")


class LSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [h, 4h]``, ``b [4h]`` or None; gates in the order i, f, g, o."""

    w_x: Array
    w_h: Array
    b: Bias


def lstm(
    input_size: int,
    hidden_size: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[LSTMParams, LSTMState]:
    """Long short-term memory with a forget gate.

        i, f, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g              h' = o ⊙ tanh(c')            y = h'

    Gate order i, f, g, o as in torch and cuDNN; one bias; the forget gate's bias starts at 1. The candidate
    is g and the output gate o here; some texts call the candidate a or c̃.

    Args:
      input_size: d.
      hidden_size: h.
      w_x_init: initialiser of each gate's block of W.
      w_h_init: initialiser of each gate's block of U.
      b_init: bias initialiser, such as `initializers.chrono`; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None. Sums and the state stay in float32 or
        wider.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.lstm(3, 2)
      >>> params = cell.init(jax.random.key(0))
      >>> params.b.tolist()
      [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory. https://doi.org/10.1162/neco.1997.9.8.1735
      Gers, Schmidhuber and Cummins (2000), Learning to forget. https://doi.org/10.1162/089976600300015015
    """
    checks.sizes("lstm", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> LSTMParams:
        return LSTMParams(*draw(key, GATES, input_size, hidden_size))

    def initial_state(params: LSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def step(params: LSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("lstm", x, h.shape[:-1], input_size)
        i, f, g, o = jnp.split(preactivation(x, h, *params, compute_dtype), 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)

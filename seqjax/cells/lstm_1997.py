"""Long short-term memory as first published: no forget gate."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, preactivation

GATES = ("i", "g", "o")


class LSTM1997Params(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [h, 3h]``, ``b [3h]``; gates in the order i, g, o."""

    w_x: Array
    w_h: Array
    b: Bias


def lstm_1997(
    input_size: int,
    hidden_size: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[LSTM1997Params, LSTMState]:
    """The original LSTM: an input and an output gate around a carousel that never forgets.

        i, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = c + i ⊙ g               h' = o ⊙ tanh(c')               y = h'

    Gate order i, g, o; no forget gate, so no forget bias. The paper squashes with 4σ - 2 and 2σ - 1 where
    tanh stands here, and cuts its gradient off at the gates; here the gradient is the exact one. The paper
    also starts output gates with negative biases (its "abuse problem"): pass such a ``b_init``.

    Args:
      input_size: d.
      hidden_size: h.
      w_x_init: initialiser of each gate's block of W.
      w_h_init: initialiser of each gate's block of U.
      b_init: bias initialiser; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.lstm_1997(3, 2).init(jax.random.key(0)).w_x.shape
      (3, 6)

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory. https://doi.org/10.1162/neco.1997.9.8.1735
    """
    checks.sizes("lstm_1997", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> LSTM1997Params:
        return LSTM1997Params(*draw(key, GATES, input_size, hidden_size))

    def initial_state(
        params: LSTM1997Params, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def step(params: LSTM1997Params, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("lstm_1997", x, h.shape[:-1], input_size)
        i, g, o = jnp.split(preactivation(x, h, *params, compute_dtype), 3, axis=-1)
        c = c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)

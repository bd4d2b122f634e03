"""LSTM that feeds back a projection of its output."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, dot, preactivation

GATES = ("i", "f", "g", "o")


class ProjectedLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [p, 4h]``, ``b [4h]``, gates in the order i, f, g, o; ``w_p [h, p]``."""

    w_x: Array
    w_h: Array
    w_p: Array
    b: Bias


def projected_lstm(
    input_size: int,
    hidden_size: int,
    projection_size: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    w_p_init: Initializer = initializers.input_weights,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[ProjectedLSTMParams, LSTMState]:
    """LSTM with a recurrent projection (LSTMP): a wide memory behind a narrow output.

        i, f, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g              h' = (o ⊙ tanh(c')) P             y = h'

    Gate order i, f, g, o as in `torch.nn.LSTM` with ``proj_size``; the projection has no bias; the forget
    gate's bias starts at 1.

    Args:
      input_size: d.
      hidden_size: h, units of the memory c.
      projection_size: p, units of h and of the output.
      w_x_init: initialiser of each gate's block of W.
      w_h_init: initialiser of each gate's block ``[p, h]`` of U.
      w_p_init: initialiser of P ``[h, p]``.
      b_init: bias initialiser; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState`, ``h [*B, p]`` and ``c [*B, h]``, and output h ``[*B, p]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.projected_lstm(3, 8, 2)
      >>> state = cell.initial_state(cell.init(jax.random.key(0)))
      >>> state.h.shape, state.c.shape
      ((2,), (8,))

    References:
      Sak, Senior and Beaufays (2014), Long short-term memory based recurrent neural network architectures for
      large vocabulary speech recognition. https://arxiv.org/abs/1402.1128
    """
    checks.sizes("projected_lstm", input_size=input_size, hidden_size=hidden_size, projection_size=projection_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> ProjectedLSTMParams:
        key, p_key = jax.random.split(key)
        w_x, w_h, b = draw(key, GATES, input_size, hidden_size, recurrent_size=projection_size)
        return ProjectedLSTMParams(w_x, w_h, w_p_init(p_key, (hidden_size, projection_size), w_h.dtype), b)

    def initial_state(
        params: ProjectedLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return LSTMState(
            h=zeros(batch_shape, projection_size, params.w_h), c=zeros(batch_shape, hidden_size, params.w_h)
        )

    def step(params: ProjectedLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("projected_lstm", x, h.shape[:-1], input_size)
        a = preactivation(x, h, params.w_x, params.w_h, params.b, compute_dtype)
        i, f, g, o = jnp.split(a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = dot(jax.nn.sigmoid(o) * jnp.tanh(c), params.w_p, compute_dtype)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)

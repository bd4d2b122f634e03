"""Relatives of the LSTM that give their memory out unsquashed: h' = o ⊙ c'."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, add_bias, dot, preactivation, recurrent_input


class FiveEquationLSTMParams(NamedTuple):
    """``w_x [h, 3h]``, ``w_h [h, 3h]``; gates in the order f, i, o."""

    w_x: Array
    w_h: Array


def five_equation_lstm(
    hidden_size: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[FiveEquationLSTMParams, LSTMState]:
    """A gated cell in five equations, without bias or candidate: the input itself is written into the memory.

        f = σ(h U + x W)      i = σ(h U + x W)      o = σ(h U + x W)
        c' = f ⊙ c + i ⊙ x
        h' = o ⊙ c'           y = h'

    Inputs are as wide as the state, d = h, for they enter it unchanged: the memory is a gated sum of the
    inputs. Gate order f, i, o; each gate has weights of its own. There is no bias, so no forget bias.

    Args:
      hidden_size: h, and the size of the inputs.
      w_x_init: initialiser of each gate's block of W.
      w_h_init: initialiser of each gate's block of U.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.five_equation_lstm(2).init(jax.random.key(0)).w_h.shape
      (2, 6)

    References:
      Levy, Lee, FitzGerald and Zettlemoyer (2018), Long short-term memory as a dynamically computed
      element-wise weighted sum (which shows that such a cell keeps most of an LSTM's power).
      https://arxiv.org/abs/1805.03716
    """
    checks.sizes("five_equation_lstm", hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=None, dtype=dtype)

    def init(key: Array) -> FiveEquationLSTMParams:
        return FiveEquationLSTMParams(*draw(key, ("f", "i", "o"), hidden_size, hidden_size)[:2])

    def initial_state(
        params: FiveEquationLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def step(params: FiveEquationLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("five_equation_lstm", x, h.shape[:-1], hidden_size)
        f, i, o = map(jax.nn.sigmoid, jnp.split(preactivation(x, h, *params, None, compute_dtype), 3, axis=-1))
        c = f * c + i * x.astype(c.dtype)
        h = o * c
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)


class ResetLSTMParams(NamedTuple):
    """``w_x [d, 5h]``, ``w_h [h, 5h]``, ``b [5h]``; gates in the order r, u, f, o, g."""

    w_x: Array
    w_h: Array
    b: Bias


def reset_lstm(
    input_size: int,
    hidden_size: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[ResetLSTMParams, LSTMState]:
    """An LSTM whose candidate sees the state through a GRU's reset gate, and whose output is not squashed.

        r, u, f, o = σ(x W + h U + b)
        g = tanh(x W + (r ⊙ h) U + b)
        c' = u ⊙ g + f ⊙ c            h' = o ⊙ c'            y = h'

    Written with a for h and c̃ for g, and with one matrix over [a, x], in the lectures that teach GRU before
    LSTM. The update gate u is the LSTM's input gate. Gate order r, u, f, o, g; the forget gate's bias starts
    at 1.

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
      >>> sj.reset_lstm(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 10)

    References:
      Cho et al. (2014), Learning phrase representations using RNN encoder-decoder (the reset gate).
      https://arxiv.org/abs/1406.1078
    """
    checks.sizes("reset_lstm", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> ResetLSTMParams:
        return ResetLSTMParams(*draw(key, ("r", "u", "f", "o", "g"), input_size, hidden_size))

    def initial_state(
        params: ResetLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def step(params: ResetLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("reset_lstm", x, h.shape[:-1], input_size)
        h_in = recurrent_input(h)
        a_gates, a_g = jnp.split(add_bias(dot(x, params.w_x, compute_dtype), params.b), [4 * hidden_size], axis=-1)
        u_gates, u_g = jnp.split(params.w_h, [4 * hidden_size], axis=-1)
        r, u, f, o = map(jax.nn.sigmoid, jnp.split(a_gates + dot(h_in, u_gates, compute_dtype), 4, axis=-1))
        g = jnp.tanh(a_g + dot(r * h_in, u_g, compute_dtype))
        c = u * g + f * c
        h = o * c
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)

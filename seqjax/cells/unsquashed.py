"""Relatives of the LSTM that give their memory out unsquashed: h' = o ⊙ c'."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, ProductOptions, WeightOptions, from_gates, weighted
from seqjax.cells.states import LSTMState, lstm_zeros
from seqjax.cells.sums import through_reset
from seqjax.products import Bias, preactivation
from seqjax.records import maker


class FiveEquationLSTMParams(NamedTuple):
    """``w_x [h, 3h]``, ``w_h [h, 3h]``; gates in the order f, i, o."""

    w_x: Array
    w_h: Array


@maker
@weighted()
def five_equation_lstm(hidden_size: int, **options: Unpack[ProductOptions]) -> Cell[FiveEquationLSTMParams, LSTMState]:
    """A gated cell in five equations, without bias or candidate: the input itself is written into the memory.

        f = σ(h U + x W)      i = σ(h U + x W)      o = σ(h U + x W)
        c' = f ⊙ c + i ⊙ x
        h' = o ⊙ c'           y = h'

    Inputs are as wide as the state, d = h, for they enter it unchanged: the memory is a gated sum of the
    inputs. Gate order f, i, o; each gate has weights of its own. There is no bias, so no forget bias.

    Args:
      hidden_size: h, and the size of the inputs.
      **options: initialisers and dtypes, see `WeightOptions`; no ``b_init``.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

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

    def params_of(w_x: Array, w_h: Array, b: None) -> FiveEquationLSTMParams:
        return FiveEquationLSTMParams(w_x, w_h)

    def step(params: FiveEquationLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        a = preactivation(x, h, *params, None, options["compute_dtype"])
        f, i, o = map(jax.nn.sigmoid, jnp.split(a, 3, axis=-1))
        c = f * c + i * x.astype(c.dtype)
        h = o * c
        return LSTMState(h, c), h

    unbiased: WeightOptions = {**options, "b_init": None}
    gates = ("f", "i", "o")
    return from_gates(
        "five_equation_lstm", gates, hidden_size, hidden_size, step, unbiased, record=params_of, state=lstm_zeros
    )


class ResetLSTMParams(NamedTuple):
    """``w_x [d, 5h]``, ``w_h [h, 5h]``, ``b [5h]``; gates in the order r, u, f, o, g."""

    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted(b_init=initializers.lstm_bias)
def reset_lstm(input_size: int, hidden_size: int, **options: Unpack[GateOptions]) -> Cell[ResetLSTMParams, LSTMState]:
    """An LSTM whose candidate sees the state through a GRU's reset gate, and whose output is not squashed.

        r, u, f, o = σ(x W + h U + b)
        g = tanh(x W + (r ⊙ h) U + b)
        c' = u ⊙ g + f ⊙ c            h' = o ⊙ c'            y = h'

    Written with a for h and c̃ for g, and with one matrix over [a, x], in the lectures that teach GRU before
    LSTM. The update gate u is the LSTM's input gate. Gate order r, u, f, o, g; the forget gate's bias starts
    at 1.

    Args:
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.reset_lstm(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 10)

    References:
      Cho et al. (2014), Learning phrase representations using RNN encoder-decoder (the reset gate).
      https://arxiv.org/abs/1406.1078
    """

    def step(params: ResetLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        sums, candidate = through_reset(params, h, x, 5, options["compute_dtype"])
        r, u, f, o = map(options["gate_activation"], sums)
        c = u * options["activation"](candidate(r)) + f * c
        h = o * c
        return LSTMState(h, c), h

    gates = ("r", "u", "f", "o", "g")
    return from_gates(
        "reset_lstm", gates, input_size, hidden_size, step, options, record=ResetLSTMParams, state=lstm_zeros
    )

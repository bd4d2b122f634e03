"""LSTM whose gates look at the cell state."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, dot, preactivation

GATES = ("i", "f", "g", "o")


class PeepholeLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [h, 4h]``, ``b [4h]``; gates in the order i, f, g, o.

    ``w_c`` holds the peepholes of i, f, o in this order: ``[3h]`` if diagonal, ``[h, 3h]`` if full.
    """

    w_x: Array
    w_h: Array
    w_c: Array
    b: Bias


def peephole_lstm(
    input_size: int,
    hidden_size: int,
    *,
    peepholes: str = "diagonal",
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    w_c_init: Initializer = jax.nn.initializers.zeros,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[PeepholeLSTMParams, LSTMState]:
    """Long short-term memory with peepholes: i and f also see c, o also sees c'.

        i, f = σ(x W + h U + c ⋆ P + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g
        o = σ(x W + h U + c' ⋆ P + b)        h' = o ⊙ tanh(c')               y = h'

        c ⋆ P = c ⊙ p      diagonal: each unit's gates see its own cell (Gers; the ONNX ``LSTM`` operator)
        c ⋆ P = c P        full: each gate sees every cell (Graves' equations read as matrices)

    Gate order i, f, g, o, peephole order i, f, o (ONNX keeps i, o, f); the forget gate's bias starts at 1 and
    the peepholes at 0, so that an untrained cell equals `seqjax.lstm`.

    Args:
      input_size: d.
      hidden_size: h.
      peepholes: ``"diagonal"`` or ``"full"``.
      w_x_init: initialiser of each gate's block of W.
      w_h_init: initialiser of each gate's block of U.
      w_c_init: initialiser of each gate's block of P, ``[h]`` if diagonal, ``[h, h]`` if full.
      b_init: bias initialiser; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, unknown ``peepholes``, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.peephole_lstm(3, 2).init(jax.random.key(0)).w_c.shape
      (6,)
      >>> sj.peephole_lstm(3, 2, peepholes="full").init(jax.random.key(0)).w_c.shape
      (2, 6)

    References:
      Gers, Schraudolph and Schmidhuber (2002), Learning precise timing with LSTM recurrent networks.
      https://www.jmlr.org/papers/v3/gers02a.html
      Graves (2013), Generating sequences with recurrent neural networks. https://arxiv.org/abs/1308.0850
    """
    checks.sizes("peephole_lstm", input_size=input_size, hidden_size=hidden_size)
    checks.choice("peephole_lstm", "peepholes", peepholes, ("diagonal", "full"))
    block = (hidden_size,) if peepholes == "diagonal" else (hidden_size, hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> PeepholeLSTMParams:
        key, *peephole_keys = jax.random.split(key, 4)
        w_x, w_h, b = draw(key, GATES, input_size, hidden_size)
        w_c = jnp.concatenate([w_c_init(k, block, w_h.dtype) for k in peephole_keys], axis=-1)
        return PeepholeLSTMParams(w_x, w_h, w_c, b)

    def initial_state(
        params: PeepholeLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def peep(c: Array, w: Array) -> Array:
        return c * w.astype(c.dtype) if peepholes == "diagonal" else dot(c, w, compute_dtype)

    def step(params: PeepholeLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("peephole_lstm", x, h.shape[:-1], input_size)
        a = preactivation(x, h, params.w_x, params.w_h, params.b, compute_dtype)
        i, f, g, o = jnp.split(a, 4, axis=-1)
        p_i, p_f, p_o = jnp.split(params.w_c, 3, axis=-1)
        i = jax.nn.sigmoid(i + peep(c, p_i))
        f = jax.nn.sigmoid(f + peep(c, p_f))
        c = f * c + i * jnp.tanh(g)
        h = jax.nn.sigmoid(o + peep(c, p_o)) * jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)

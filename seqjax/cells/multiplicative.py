"""Multiplicative cells: the input chooses the recurrent weights."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros, zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, add_bias, dot, recurrent_input


class MultiplicativeParams(NamedTuple):
    """``w_mx [d, m]`` and ``w_mh [h, m]`` make m; ``w_x [d, kh]``, ``w_h [m, kh]``, ``b [kh]`` read it.

    k = 1 in the RNN; k = 4, gates in the order i, f, g, o, in the LSTM.
    """

    w_mx: Array
    w_mh: Array
    w_x: Array
    w_h: Array
    b: Bias


def multiplicative_rnn(
    input_size: int,
    hidden_size: int,
    *,
    factor_size: int | None = None,
    activation: Callable[[Array], Array] = jnp.tanh,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[MultiplicativeParams, Array]:
    """The multiplicative RNN: an Elman unit whose recurrent matrix depends on the input, in factored form.

        m = (x W_m) ⊙ (h U_m)
        h' = φ(x W + m U + b)        y = h'

    For one-hot x the recurrent matrix of symbol s is U_m diag(W_m[s]) U.

    Args:
      input_size: d.
      hidden_size: h.
      factor_size: size of m; h if None.
      activation: φ.
      w_x_init: initialiser of W_m and W.
      w_h_init: initialiser of U_m and U.
      b_init: initialiser of b ``[h]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.multiplicative_rnn(3, 2, factor_size=5).init(jax.random.key(0)).w_h.shape
      (5, 2)

    References:
      Sutskever, Martens and Hinton (2011), Generating text with recurrent neural networks.
      https://icml.cc/2011/papers/524_icmlpaper.pdf
    """
    size = hidden_size if factor_size is None else factor_size
    checks.sizes("multiplicative_rnn", input_size=input_size, hidden_size=hidden_size, factor_size=size)
    draw = functools.partial(_draw, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> MultiplicativeParams:
        return draw(key, ("h",), input_size, hidden_size, size)

    def initial_state(
        params: MultiplicativeParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> Array:
        return zeros(batch_shape, hidden_size, params.w_h)

    def step(params: MultiplicativeParams, h: Array, x: Array) -> tuple[Array, Array]:
        checks.inputs("multiplicative_rnn", x, h.shape[:-1], input_size)
        h = activation(_preactivation(params, x, h, compute_dtype))
        return h, h

    return Cell(init, initial_state, step)


def multiplicative_lstm(
    input_size: int,
    hidden_size: int,
    *,
    factor_size: int | None = None,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[MultiplicativeParams, LSTMState]:
    """The multiplicative LSTM: m takes the place of h in every recurrent product, the candidate's included.

        m = (x W_m) ⊙ (h U_m)
        i, f, o = σ(x W + m U + b)      g = tanh(x W + m U + b)
        c' = f ⊙ c + i ⊙ g              h' = o ⊙ tanh(c')            y = h'

    Gate order i, f, g, o; the forget gate's bias starts at 1. Texts differ in where they squash, some with
    h' = tanh(o ⊙ c'); here candidate and output are those of `seqjax.lstm`.

    Args:
      input_size: d.
      hidden_size: h.
      factor_size: size of m; h if None, as in the paper.
      w_x_init: initialiser of W_m and of each gate's block of W.
      w_h_init: initialiser of U_m and of each gate's block of U.
      b_init: bias initialiser; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.multiplicative_lstm(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 8)

    References:
      Krause, Lu, Murray and Renals (2016), Multiplicative LSTM for sequence modelling.
      https://arxiv.org/abs/1609.07959
    """
    size = hidden_size if factor_size is None else factor_size
    checks.sizes("multiplicative_lstm", input_size=input_size, hidden_size=hidden_size, factor_size=size)
    draw = functools.partial(_draw, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> MultiplicativeParams:
        return draw(key, ("i", "f", "g", "o"), input_size, hidden_size, size)

    def initial_state(
        params: MultiplicativeParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def step(params: MultiplicativeParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("multiplicative_lstm", x, h.shape[:-1], input_size)
        i, f, g, o = jnp.split(_preactivation(params, x, h, compute_dtype), 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)


def _draw(
    key: Array,
    gates: tuple[str, ...],
    input_size: int,
    hidden_size: int,
    factor_size: int,
    *,
    b_init: BiasInitializer | None,
    **how: Any,
) -> MultiplicativeParams:
    m_key, key = jax.random.split(key)
    m = gate_weights(m_key, ("m",), input_size, factor_size, recurrent_size=hidden_size, b_init=None, **how)
    weights = gate_weights(key, gates, input_size, hidden_size, recurrent_size=factor_size, b_init=b_init, **how)
    return MultiplicativeParams(m.w_x, m.w_h, *weights)


def _preactivation(params: MultiplicativeParams, x: Array, h: Array, compute_dtype: jnp.dtype | None) -> Array:
    m = dot(x, params.w_mx, compute_dtype) * dot(recurrent_input(h), params.w_mh, compute_dtype)
    return add_bias(dot(x, params.w_x, compute_dtype) + dot(m, params.w_h, compute_dtype), params.b)

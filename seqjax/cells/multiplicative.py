"""Multiplicative cells: the input chooses the recurrent weights."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell, Key
from seqjax.cells.factory import S, WeightOptions, checked, drawing, weighted
from seqjax.cells.states import LSTMState, lstm_zeros, zeros
from seqjax.initializers import gate_weights
from seqjax.products import Bias, add_bias, dot, recurrent_input
from seqjax.records import maker


class MultiplicativeParams(NamedTuple):
    """``w_mx [d, m]`` and ``w_mh [h, m]`` make m; ``w_x [d, kh]``, ``w_h [m, kh]``, ``b [kh]`` read it.

    k = 1 in the RNN; k = 4, gates in the order i, f, g, o, in the LSTM.
    """

    w_mx: Array
    w_mh: Array
    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted()
def multiplicative_rnn(
    input_size: int,
    hidden_size: int,
    *,
    factor_size: int | None = None,
    activation: Callable[[Array], Array] = jnp.tanh,
    **options: Unpack[WeightOptions],
) -> Cell[MultiplicativeParams, Array]:
    """The multiplicative RNN: an Elman unit whose recurrent matrix depends on the input, in factored form.

        m = (x W_m) ⊙ (h U_m)
        h' = φ(x W + m U + b)        y = h'

    For one-hot x the recurrent matrix of symbol s is U_m diag(W_m[s]) U.

    Args:
      factor_size: size of m; h if None.
      activation: φ.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.multiplicative_rnn(3, 2, factor_size=5).init(jax.random.key(0)).w_h.shape
      (5, 2)

    References:
      Sutskever, Martens and Hinton (2011), Generating text with recurrent neural networks.
      https://icml.cc/2011/papers/524_icmlpaper.pdf
    """

    def step(params: MultiplicativeParams, h: Array, x: Array) -> tuple[Array, Array]:
        h = activation(_preactivation(params, x, h, options["compute_dtype"]))
        return h, h

    return _cell("multiplicative_rnn", ("h",), input_size, hidden_size, factor_size, step, options, zeros)


@maker
@weighted(b_init=initializers.lstm_bias)
def multiplicative_lstm(
    input_size: int,
    hidden_size: int,
    *,
    factor_size: int | None = None,
    **options: Unpack[WeightOptions],
) -> Cell[MultiplicativeParams, LSTMState]:
    """The multiplicative LSTM: m takes the place of h in every recurrent product, the candidate's included.

        m = (x W_m) ⊙ (h U_m)
        i, f, o = σ(x W + m U + b)      g = tanh(x W + m U + b)
        c' = f ⊙ c + i ⊙ g              h' = o ⊙ tanh(c')            y = h'

    Gate order i, f, g, o; the forget gate's bias starts at 1. Texts differ in where they squash, some with
    h' = tanh(o ⊙ c'); here candidate and output are those of `seqjax.lstm`.

    Args:
      factor_size: size of m; h if None, as in the paper.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.multiplicative_lstm(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 8)

    References:
      Krause, Lu, Murray and Renals (2016), Multiplicative LSTM for sequence modelling.
      https://arxiv.org/abs/1609.07959
    """

    def step(params: MultiplicativeParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        i, f, g, o = jnp.split(_preactivation(params, x, h, options["compute_dtype"]), 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), h

    gates = ("i", "f", "g", "o")
    return _cell("multiplicative_lstm", gates, input_size, hidden_size, factor_size, step, options, lstm_zeros)


def _cell(
    who: str,
    gates: tuple[str, ...],
    input_size: int,
    hidden_size: int,
    factor_size: int | None,
    step: Callable[[MultiplicativeParams, S, Array], tuple[S, Array]],
    options: WeightOptions,
    state: Callable[[tuple[int, ...], int, Array], S],
) -> Cell[MultiplicativeParams, S]:
    size = hidden_size if factor_size is None else factor_size
    checks.sizes(who, input_size=input_size, hidden_size=hidden_size, factor_size=size)
    draws = drawing(options)

    def init(key: Key) -> MultiplicativeParams:
        m_key, key = jax.random.split(key)
        bare = draws | {"b_init": None}
        m = gate_weights(m_key, ("m",), input_size, size, recurrent_size=hidden_size, **bare)
        weights = gate_weights(key, gates, input_size, hidden_size, recurrent_size=size, **draws)
        return MultiplicativeParams(m.w_x, m.w_h, *weights)

    return checked(who, input_size, init, lambda params, batch: state(batch, hidden_size, params.w_h), step)


def _preactivation(params: MultiplicativeParams, x: Array, h: Array, compute_dtype: jnp.dtype | None) -> Array:
    m = dot(x, params.w_mx, compute_dtype) * dot(recurrent_input(h), params.w_mh, compute_dtype)
    return add_bias(dot(x, params.w_x, compute_dtype) + dot(m, params.w_h, compute_dtype), params.b)

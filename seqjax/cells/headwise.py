"""Cells whose units form heads: recurrent weights are block-diagonal, a head never sees another one's state."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax.numpy as jnp

from seqjax import initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, WeightOptions, from_heads, weighted
from seqjax.cells.states import LSTMState, lstm_zeros, zeros
from seqjax.products import Bias, add_bias, head_gates
from seqjax.records import maker


class HeadwiseParams(NamedTuple):
    """``w_x [d, gh]``, ``w_h [n, k, gk]``, ``b [gh]`` or None: g gates, n heads of k units, h = nk."""

    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted()
def headwise_elman(
    input_size: int,
    hidden_size: int,
    heads: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    **options: Unpack[WeightOptions],
) -> Cell[HeadwiseParams, Array]:
    """The Elman network in heads: U is block-diagonal.

        h' = φ(x W + h U + b)        y = h'

    The inputs reach every head. With one head it is `seqjax.elman`.

    Args:
      hidden_size: h, all heads together.
      heads: n, which divides h.
      activation: φ.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, n, k]`` and output h ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.headwise_elman(3, 4, 2).init(jax.random.key(0)).w_h.shape
      (2, 2, 2)

    References:
      Pöppel, Beck and Hochreiter (2024), FlashRNN. https://arxiv.org/abs/2412.07752
    """

    def step(params: HeadwiseParams, h: Array, x: Array) -> tuple[Array, Array]:
        (a,), (u,) = head_gates(x, h, *params, options["compute_dtype"])
        h = activation(a + u)
        return h, flat(h)

    return from_heads(
        "headwise_elman", ("h",), input_size, hidden_size, heads, step, options, record=HeadwiseParams, state=zeros
    )


@maker
@weighted(b_init=initializers.lstm_bias)
def headwise_lstm(
    input_size: int,
    hidden_size: int,
    heads: int,
    **options: Unpack[GateOptions],
) -> Cell[HeadwiseParams, LSTMState]:
    """Long short-term memory in heads: U is block-diagonal in every gate.

        i, f, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g              h' = o ⊙ tanh(c')            y = h'

    The inputs reach every head. With one head it is `seqjax.lstm`. Gate order i, f, g, o: in W and b the gates
    lie side by side over all heads, in U within each head. The forget gate's bias starts at 1.

    Args:
      hidden_size: h, all heads together.
      heads: n, which divides h.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state `LSTMState`, both leaves ``[*B, n, k]``, and output h ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.headwise_lstm(3, 4, 2).init(jax.random.key(0)).w_h.shape
      (2, 2, 8)

    References:
      Pöppel, Beck and Hochreiter (2024), FlashRNN. https://arxiv.org/abs/2412.07752
    """

    activation, gate = options["activation"], options["gate_activation"]

    def step(params: HeadwiseParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        i, f, g, o = (a + u for a, u in zip(*head_gates(x, h, *params, options["compute_dtype"])))
        c = gate(f) * c + gate(i) * activation(g)
        h = gate(o) * activation(c)
        return LSTMState(h, c), flat(h)

    gates = ("i", "f", "g", "o")
    return from_heads(
        "headwise_lstm", gates, input_size, hidden_size, heads, step, options, record=HeadwiseParams, state=lstm_zeros
    )


class HeadwiseGRUParams(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [n, k, 3k]``, ``b [3h]`` or None; gates in the order r, z, n.

    ``b_n [n, k]`` is c_n, the candidate's bias inside the reset; None where there is no bias.
    """

    w_x: Array
    w_h: Array
    b: Bias
    b_n: Array | None


@maker
@weighted()
def headwise_gru(
    input_size: int,
    hidden_size: int,
    heads: int,
    **options: Unpack[GateOptions],
) -> Cell[HeadwiseGRUParams, Array]:
    """The gated recurrent unit in heads: U is block-diagonal in every gate.

        r, z = σ(x W + h U + b)
        n = tanh(x Wₙ + bₙ + r ⊙ (h Uₙ + cₙ))      the reset after the recurrent product
        h' = z ⊙ h + (1-z) ⊙ n                     y = h'

    The inputs reach every head. With one head it is `seqjax.gru`. Gate order r, z, n: in W and b the gates lie
    side by side over all heads, in U within each head.

    Args:
      hidden_size: h, all heads together.
      heads: how many, a divisor of h.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state h ``[*B, heads, h / heads]`` and output h ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.headwise_gru(3, 4, 2).init(jax.random.key(0)).b_n.shape
      (2, 2)

    References:
      Pöppel, Beck and Hochreiter (2024), FlashRNN. https://arxiv.org/abs/2412.07752
    """

    activation, gate = options["activation"], options["gate_activation"]

    def params_of(w_x: Array, w_h: Array, b: Bias) -> HeadwiseGRUParams:
        b_n = None if options["b_init"] is None else jnp.zeros(w_h.shape[:2], w_h.dtype)
        return HeadwiseGRUParams(w_x, w_h, b, b_n)

    def step(params: HeadwiseGRUParams, h: Array, x: Array) -> tuple[Array, Array]:
        w_x, w_h, b, b_n = params
        (a_r, a_z, a_n), (u_r, u_z, u_n) = head_gates(x, h, w_x, w_h, b, options["compute_dtype"])
        r, z = gate(a_r + u_r), gate(a_z + u_z)
        n = activation(a_n + r * add_bias(u_n, b_n))
        h = z * h + (1 - z) * n
        return h, flat(h)

    gates = ("r", "z", "n")
    return from_heads(
        "headwise_gru", gates, input_size, hidden_size, heads, step, options, record=params_of, state=zeros
    )


def flat(h: Array) -> Array:
    """``[*B, n, k]`` as ``[*B, nk]``."""
    return h.reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1])

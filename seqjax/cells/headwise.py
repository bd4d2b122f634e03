"""Cells whose units form heads: recurrent weights are block-diagonal, a head never sees another one's state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros, zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights, head_weights
from seqjax.products import Bias, head_gates


class HeadwiseParams(NamedTuple):
    """``w_x [d, gh]``, ``w_h [n, k, gk]``, ``b [gh]`` or None: g gates, n heads of k units, h = nk."""

    w_x: Array
    w_h: Array
    b: Bias


def headwise_elman(
    input_size: int,
    hidden_size: int,
    heads: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[HeadwiseParams, Array]:
    """The Elman network in heads: U is block-diagonal.

        h' = φ(x W + h U + b)        y = h'

    The inputs reach every head. With one head it is `seqjax.elman`.

    Args:
      input_size: d.
      hidden_size: h, all heads together.
      heads: n, which divides h.
      activation: φ.
      w_x_init: initialiser of W ``[d, h]``.
      w_h_init: initialiser of each head's block ``[k, k]``, k = h / n.
      b_init: initialiser of b ``[h]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state h ``[*B, n, k]`` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, heads that do not divide h, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.headwise_elman(3, 4, 2).init(jax.random.key(0)).w_h.shape
      (2, 2, 2)

    References:
      Pöppel, Beck and Hochreiter (2024), FlashRNN. https://arxiv.org/abs/2412.07752
    """
    init, initial_state, gates = _parts(
        "headwise_elman", ("h",), input_size, hidden_size, heads, w_x_init, w_h_init, b_init, dtype, compute_dtype
    )

    def step(params: HeadwiseParams, h: Array, x: Array) -> tuple[Array, Array]:
        (a,), (u,) = gates(params, h, x)
        h = activation(a + u)
        return h, flat(h)

    return Cell(init, initial_state, step)


def headwise_lstm(
    input_size: int,
    hidden_size: int,
    heads: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[HeadwiseParams, LSTMState]:
    """Long short-term memory in heads: U is block-diagonal in every gate.

        i, f, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g              h' = o ⊙ tanh(c')            y = h'

    The inputs reach every head. With one head it is `seqjax.lstm`. Gate order i, f, g, o: in W and b the gates
    lie side by side over all heads, in U within each head. The forget gate's bias starts at 1.

    Args:
      input_size: d.
      hidden_size: h, all heads together.
      heads: n, which divides h.
      w_x_init: initialiser of each gate's block of W ``[d, h]``.
      w_h_init: initialiser of each head's and gate's block ``[k, k]``, k = h / n.
      b_init: bias initialiser; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState`, both leaves ``[*B, n, k]``, and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, heads that do not divide h, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.headwise_lstm(3, 4, 2).init(jax.random.key(0)).w_h.shape
      (2, 2, 8)

    References:
      Pöppel, Beck and Hochreiter (2024), FlashRNN. https://arxiv.org/abs/2412.07752
    """
    gate_names = ("i", "f", "g", "o")
    init, _, gates = _parts(
        "headwise_lstm", gate_names, input_size, hidden_size, heads, w_x_init, w_h_init, b_init, dtype, compute_dtype
    )

    def initial_state(
        params: HeadwiseParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros((*batch_shape, heads), hidden_size // heads, params.w_h)

    def step(params: HeadwiseParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        i, f, g, o = (a + u for a, u in zip(*gates(params, h, x)))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), flat(h)

    return Cell(init, initial_state, step)


class HeadwiseGRUParams(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [n, k, 3k]``, ``b [3h]`` or None; gates in the order r, z, n.

    ``b_n [n, k]`` is c_n, the candidate's bias inside the reset; None where there is no bias.
    """

    w_x: Array
    w_h: Array
    b: Bias
    b_n: Array | None


def headwise_gru(
    input_size: int,
    hidden_size: int,
    heads: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[HeadwiseGRUParams, Array]:
    """The gated recurrent unit in heads: U is block-diagonal in every gate.

        r, z = σ(x W + h U + b)
        n = tanh(x Wₙ + bₙ + r ⊙ (h Uₙ + cₙ))      the reset after the recurrent product
        h' = z ⊙ h + (1-z) ⊙ n                     y = h'

    The inputs reach every head. With one head it is `seqjax.gru`. Gate order r, z, n: in W and b the gates lie
    side by side over all heads, in U within each head.

    Args:
      input_size: d.
      hidden_size: h, all heads together.
      heads: how many, a divisor of h.
      w_x_init: initialiser of each gate's block of W ``[d, h]``.
      w_h_init: initialiser of each head's and gate's block of U.
      b_init: bias initialiser; None for no bias at all.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state h ``[*B, heads, h / heads]`` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, heads that do not divide h, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.headwise_gru(3, 4, 2).init(jax.random.key(0)).b_n.shape
      (2, 2)

    References:
      Pöppel, Beck and Hochreiter (2024), FlashRNN. https://arxiv.org/abs/2412.07752
    """
    gate_names = ("r", "z", "n")
    weights, initial_state, gates = _parts(
        "headwise_gru", gate_names, input_size, hidden_size, heads, w_x_init, w_h_init, b_init, dtype, compute_dtype
    )

    def init(key: Array) -> HeadwiseGRUParams:
        drawn = weights(key)
        b_n = None if b_init is None else jnp.zeros((heads, hidden_size // heads), drawn.w_h.dtype)
        return HeadwiseGRUParams(drawn.w_x, drawn.w_h, drawn.b, b_n)

    def step(params: HeadwiseGRUParams, h: Array, x: Array) -> tuple[Array, Array]:
        (a_r, a_z, a_n), (u_r, u_z, u_n) = gates(params, h, x)
        r, z = jax.nn.sigmoid(a_r + u_r), jax.nn.sigmoid(a_z + u_z)
        inner = u_n if params.b_n is None else u_n + params.b_n.astype(u_n.dtype)
        h = z * h + (1 - z) * jnp.tanh(a_n + r * inner)
        return h, flat(h)

    return Cell(init, initial_state, step)


def flat(h: Array) -> Array:
    """``[*B, n, k]`` as ``[*B, nk]``."""
    return h.reshape(*h.shape[:-2], -1)


def _parts(
    who: str,
    names: tuple[str, ...],
    input_size: int,
    hidden_size: int,
    heads: int,
    w_x_init: Initializer,
    w_h_init: Initializer,
    b_init: BiasInitializer | None,
    dtype: jnp.dtype | None,
    compute_dtype: jnp.dtype | None,
) -> tuple[Callable, Callable, Callable]:
    """What the three have in common: init, the state before the first tick, and the gates' two summands."""
    checks.sizes(who, input_size=input_size)
    checks.heads(who, hidden_size, heads)

    def init(key: Array) -> HeadwiseParams:
        own, recurrent = jax.random.split(key)
        drawn = gate_weights(own, names, input_size, hidden_size, w_x_init=w_x_init, b_init=b_init, dtype=dtype)
        w_h = head_weights(recurrent, names, hidden_size, heads, init=w_h_init, dtype=dtype)
        return HeadwiseParams(drawn.w_x, w_h, drawn.b)

    def initial_state(params: Any, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> Array:
        return zeros((*batch_shape, heads), hidden_size // heads, params.w_h)

    def gates(params: Any, h: Array, x: Array) -> tuple[list[Array], list[Array]]:
        checks.inputs(who, x, h.shape[:-2], input_size)
        return head_gates(x, h, params.w_x, params.w_h, params.b, compute_dtype)

    return init, initial_state, gates

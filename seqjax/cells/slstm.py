"""The sLSTM of xLSTM: exponential gates, a normaliser, and a stabiliser that keeps both finite."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights, head_weights
from seqjax.products import Bias, accumulator, head_gates

GATES = ("i", "f", "z", "o")


class SLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [n, k, 4k]``, ``b [4h]`` or None; gates in the order i, f, z, o."""

    w_x: Array
    w_h: Array
    b: Bias


class SLSTMState(NamedTuple):
    """Hidden state h, cell state c, normaliser n and stabiliser m, each ``[*B, heads, k]``.

    c and n are kept divided by exp(m), which cancels in h.
    """

    h: Array
    c: Array
    n: Array
    m: Array


def slstm(
    input_size: int,
    hidden_size: int,
    heads: int = 1,
    *,
    forget_gate: str = "sigmoid",
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[SLSTMParams, SLSTMState]:
    """LSTM with exponential input gate and normalised cell state, in heads.

        ĩ, f̃, z̃, õ = x W + h U + b
        i = exp(ĩ)      f = σ(f̃) or exp(f̃)      z = tanh(z̃)      o = σ(õ)
        c' = f ⊙ c + i ⊙ z      n' = f ⊙ n + i      h' = o ⊙ c' / n'      y = h'

    so that h is an average of the z seen, weighted by what the gates let in and keep. exp overflows; the same h
    comes from c and n divided by exp(m), for any m:

        m' = max(ln f + m, ĩ)      i = exp(ĩ - m')      f = exp(ln f + m - m')

    Before the first tick c = n = 0, that is m = -∞. U is block-diagonal: ``heads`` blocks of k = h / heads units.
    In W and b the gates lie side by side over all heads, in U within each head.

    Args:
      input_size: d.
      hidden_size: h, all heads together.
      heads: how many, a divisor of h.
      forget_gate: ``"sigmoid"`` or ``"exp"``.
      w_x_init: initialiser of each gate's block of W ``[d, h]``.
      w_h_init: initialiser of each head's and gate's block of U.
      b_init: bias initialiser; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `SLSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, heads that do not divide h, an unknown forget gate, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.slstm(3, 4, heads=2)
      >>> cell.initial_state(cell.init(jax.random.key(0)), (5,)).c.shape
      (5, 2, 2)

    References:
      Beck et al. (2024), xLSTM: extended long short-term memory. https://arxiv.org/abs/2405.04517
    """
    checks.sizes("slstm", input_size=input_size)
    checks.heads("slstm", hidden_size, heads)
    checks.choice("slstm", "forget_gate", forget_gate, ("sigmoid", "exp"))

    def init(key: Array) -> SLSTMParams:
        own, recurrent = jax.random.split(key)
        drawn = gate_weights(own, GATES, input_size, hidden_size, w_x_init=w_x_init, b_init=b_init, dtype=dtype)
        w_h = head_weights(recurrent, GATES, hidden_size, heads, init=w_h_init, dtype=dtype)
        return SLSTMParams(drawn.w_x, w_h, drawn.b)

    def initial_state(
        params: SLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> SLSTMState:
        shape = (*batch_shape, heads)
        h, c, n = (zeros(shape, hidden_size // heads, params.w_h) for _ in range(3))
        return SLSTMState(h, c, n, jnp.full((*shape, hidden_size // heads), -jnp.inf, accumulator(params.w_h.dtype)))

    def step(params: SLSTMParams, state: SLSTMState, x: Array) -> tuple[SLSTMState, Array]:
        h, c, n, m = state
        checks.inputs("slstm", x, h.shape[:-2], input_size)
        i, f, z, o = (a + u for a, u in zip(*head_gates(x, h, *params, compute_dtype)))
        kept = m + (jax.nn.log_sigmoid(f) if forget_gate == "sigmoid" else f)
        m = jnp.maximum(kept, i)
        i, f = jnp.exp(i - m), jnp.exp(kept - m)
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        h = jax.nn.sigmoid(o) * c / n
        return SLSTMState(h, c, n, m), h.reshape(*h.shape[:-2], -1)

    return Cell(init, initial_state, step)

"""The sLSTM of xLSTM: exponential gates, a normaliser, and a stabiliser that keeps both finite."""

from typing import Literal, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import WeightOptions, from_heads, weighted
from seqjax.cells.states import zeros
from seqjax.products import Bias, head_gates
from seqjax.records import maker


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

    @property
    def scales(self) -> dict[str, tuple[str, ...]]:
        """m is the scale of c and n, see `seqjax.scales`."""
        return {"m": ("c", "n")}

    @property
    def weights(self) -> tuple[str, ...]:
        """n is a sum of positive numbers."""
        return ("n",)


@maker
@weighted(b_init=initializers.lstm_bias)
def slstm(
    input_size: int,
    hidden_size: int,
    heads: int = 1,
    *,
    forget_gate: Literal["sigmoid", "exp"] = "sigmoid",
    **options: Unpack[WeightOptions],
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
      hidden_size: h, all heads together.
      heads: how many, a divisor of h.
      forget_gate: ``"sigmoid"`` or ``"exp"``.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state `SLSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h, or an unknown forget gate.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.slstm(3, 4, heads=2)
      >>> cell.initial_state(cell.init(jax.random.key(0)), (5,)).c.shape
      (5, 2, 2)

    References:
      Beck et al. (2024), xLSTM: extended long short-term memory. https://arxiv.org/abs/2405.04517
    """
    checks.choice("slstm", "forget_gate", forget_gate, ("sigmoid", "exp"))

    def step(params: SLSTMParams, state: SLSTMState, x: Array) -> tuple[SLSTMState, Array]:
        h, c, n, m = state
        i, f, z, o = (a + u for a, u in zip(*head_gates(x, h, *params, options["compute_dtype"])))
        kept = m + (jax.nn.log_sigmoid(f) if forget_gate == "sigmoid" else f)
        m = jnp.maximum(kept, i)
        i, f = jnp.exp(i - m), jnp.exp(kept - m)
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        h = jax.nn.sigmoid(o) * c / n
        return SLSTMState(h, c, n, m), h.reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1])

    return from_heads(
        "slstm", ("i", "f", "z", "o"), input_size, hidden_size, heads, step, options, record=SLSTMParams, state=at_rest
    )


def at_rest(batch_shape: tuple[int, ...], size: int, w: Array) -> SLSTMState:
    """h = c = n = 0 and m = -∞."""
    h, c, n, m = (zeros(batch_shape, size, w) for _ in range(4))
    return SLSTMState(h, c, n, m - jnp.inf)

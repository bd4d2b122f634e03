"""The mLSTM of xLSTM: exponential gates over a matrix memory with a normaliser."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import real
from seqjax.cells.factory import ChannelOptions, checked, weighted
from seqjax.cells.memory import blocks, joined, matrices, parts, read, sizes
from seqjax.products import accumulator, add_bias, along, dot
from seqjax.records import maker


class MLSTMParams(NamedTuple):
    """``w_x [d, 2 n k + 2 h]``, ``b`` as wide: q, k, v, o; ``w_gates [d, 2 n]``, ``b_gates [2 n]``: ĩ, f̃ a head."""

    w_x: Array
    b: Array
    w_gates: Array
    b_gates: Array


class MLSTMState(NamedTuple):
    """Memory C ``[*B, heads, k, v]``, normaliser n ``[*B, heads, k]`` and stabiliser m ``[*B, heads]``.

    C and n share the scale exp(m): C exp(m) and n exp(m) are those of the equations without a stabiliser.
    """

    c: Array
    n: Array
    m: Array

    @property
    def scales(self) -> dict[str, tuple[str, ...]]:
        """m is the scale of c and n, see `seqjax.scales`."""
        return {"m": ("c", "n")}

    @property
    def weights(self) -> tuple[str, ...]:
        """None: n is a sum of keys, of any sign."""
        return ()


@maker
@weighted()
def mlstm(
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    key_size: int | None = None,
    **options: Unpack[ChannelOptions],
) -> Cell[MLSTMParams, MLSTMState]:
    """Long short-term memory with a matrix for a memory, written and read by keys.

        q = x W_q + b       k = x W_k / √k + b       v = x W_v + b       o = σ(x W_o + b)
        i = exp(ĩ)      f = σ(f̃)                    ĩ, f̃ = x W_g + b_g, a number a head
        C' = f C + i k vᵀ                           n' = f n + i k
        y = o ⊙ qᵀC' / max(|qᵀn'|, 1)

    exp overflows; the same y comes from C and n divided by exp(m), for any m:

        m' = max(ln f + m, ĩ)       i = exp(ĩ - m')      f = exp(ln f + m - m')
        y = o ⊙ qᵀC' / max(|qᵀn'|, exp(-m'))

    Before the first tick C = n = 0, that is m = -∞.

    The start is the published one: W_g = 0, input gates at b_g drawn with deviation 0.1 around 0, forget gates spread
    from 3 to 6 over the heads; W by Glorot, b = 0.

    Args:
      hidden_size: h, of the output: values of all heads.
      heads: a divisor of h.
      key_size: k, numbers of a key in one head; as many as of a value if None.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state `MLSTMState` and output y ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h, or a size below 1.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.cells.mlstm(3, 8, heads=2)
      >>> params = cell.init(jax.random.key(0))
      >>> cell.initial_state(params, (5,)).c.shape, params.b_gates[2:].tolist()
      ((5, 2, 4, 4), [3.0, 6.0])

    References:
      Beck et al. (2024), xLSTM: extended long short-term memory. https://arxiv.org/abs/2405.04517
    """
    key_size, size = sizes("mlstm", input_size, hidden_size, heads, key_size)
    rows, compute_dtype, kind = heads * key_size, options["compute_dtype"], real(options["dtype"])

    def init(key: Key) -> MLSTMParams:
        x_key, gate_key = jax.random.split(key)
        widths = (rows, rows, hidden_size, hidden_size)
        b_i = 0.1 * jax.random.normal(gate_key, (heads,), accumulator(kind))
        return MLSTMParams(
            blocks(x_key, input_size, widths, options),
            jnp.zeros(sum(widths), kind),
            jnp.zeros((input_size, 2 * heads), kind),
            jnp.concatenate([b_i, jnp.linspace(3, 6, heads, dtype=b_i.dtype)]).astype(kind),
        )

    def step(params: MLSTMParams, state: MLSTMState, x: Array) -> tuple[MLSTMState, Array]:
        c, n, m = state
        own = parts(dot(x, params.w_x, compute_dtype), heads, key_size, key_size, size, size)
        b = parts(params.b, heads, key_size, key_size, size, size)
        q, k, v, o = (r * a + along(each, a) for r, a, each in zip((1, key_size**-0.5, 1, 1), own, b))
        i, f = jnp.split(add_bias(dot(x, params.w_gates, compute_dtype), params.b_gates), 2, axis=-1)
        kept = jax.nn.log_sigmoid(f) + m
        m = jnp.maximum(kept, i)
        i, f = jnp.exp(i - m), jnp.exp(kept - m)
        c = f[..., None, None] * c + i[..., None, None] * k[..., :, None] * v[..., None, :]
        n = f[..., None] * n + i[..., None] * k
        # Both sides of the quotient times exp(min(m, 0)): no exponent is positive.
        low = jnp.exp(jnp.minimum(m, 0))
        # Below ε² rounding hides qᵀn, and a smaller floor would only let the gradient overflow.
        floor = jnp.maximum(jnp.exp(-jnp.maximum(m, 0)), jnp.finfo(m.dtype).eps ** 2)
        weight = jnp.maximum(jnp.abs((q * n).sum(-1)) * low, floor)
        y = jax.nn.sigmoid(o) * read(q, c) * (low / weight)[..., None]
        return MLSTMState(c, n, m), joined(y)

    def start(params: MLSTMParams, batch: tuple[int, ...]) -> MLSTMState:
        c = matrices(batch, heads, key_size, size, params.w_x)
        return MLSTMState(c, jnp.zeros(c.shape[:-1], c.dtype), jnp.full(c.shape[:-2], -jnp.inf, c.dtype))

    return checked("mlstm", input_size, init, start, step, unit_axes=3)

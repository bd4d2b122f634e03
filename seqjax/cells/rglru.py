"""The real-gated linear recurrent unit of Griffin."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import before_softplus, input_projection, over_channels, real, root, wide
from seqjax.cells.factory import ChannelOptions, weighted
from seqjax.cells.states import zeros
from seqjax.products import along, head_dot
from seqjax.records import maker

SHARPNESS = 8.0  # c: a = exp(-c softplus(Λ) r)


class RGLRUParams(NamedTuple):
    """``w_x [d, h]`` or None, ``w_gates [n, k, 2k]``, ``b [2h]``, ``decay [h]``: Λ; gates in the order r, i.

    In b the gates lie side by side over all heads, in w_gates within each head.
    """

    w_x: Array | None
    w_gates: Array
    b: Array
    decay: Array


@maker
@weighted()
def rglru(
    input_size: int, hidden_size: int, *, heads: int = 1, **options: Unpack[ChannelOptions]
) -> Cell[RGLRUParams, Array]:
    """The real-gated linear recurrent unit: the input says how much each channel forgets and reads.

        r = σ(x W_r + b_r)      i = σ(x W_i + b_i)      a = exp(-8 softplus(Λ) ⊙ r)
        h' = a ⊙ h + √(1 - a²) ⊙ i ⊙ x                  y = h'

    0 < a ≤ 1, and the size of h stays that of i ⊙ x. Where an input has another size than h, x is x W. The gates'
    matrices are block-diagonal: ``heads`` blocks of k = h / heads channels.

    The start decides how far it remembers: exp(-8 softplus(Λ)), which is a at r = 1, is uniform in (0.9, 0.999); the
    gates' weights have variance 1/k, their biases are zero.

    Args:
      hidden_size: h, all heads together.
      heads: blocks of the gates' matrices, a divisor of h.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1, or heads that do not divide h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.cells.rglru(8, 8, heads=2).init(jax.random.key(0)).w_gates.shape
      (2, 4, 8)

    References:
      De et al. (2024), Griffin: mixing gated linear recurrences with local attention for efficient language models.
      https://arxiv.org/abs/2402.19427
    """
    checks.sizes("rglru", input_size=input_size)
    checks.heads("rglru", hidden_size, heads)
    size, kind, full = hidden_size // heads, real(options["dtype"]), wide(options["dtype"])

    def init(key: Key) -> RGLRUParams:
        x_key, gate_key, decay_key = jax.random.split(key, 3)
        w_gates = jax.random.normal(gate_key, (heads, size, 2 * size), full) * size**-0.5
        a = jax.random.uniform(decay_key, (hidden_size,), full, 0.9, 0.999)
        return RGLRUParams(
            input_projection(x_key, input_size, hidden_size, options),
            w_gates.astype(kind),
            jnp.zeros(2 * hidden_size, kind),
            before_softplus(-jnp.log(a) / SHARPNESS).astype(kind),
        )

    def step(params: RGLRUParams, h: Array, u: Array, dt: Array | None) -> tuple[Array, Array]:
        sums = head_dot(u.reshape(*u.shape[:-1], heads, size), params.w_gates, options["compute_dtype"])
        r, i = (s.reshape(u.shape) for s in jnp.split(sums, 2, axis=-1))
        b_r, b_i = jnp.split(along(params.b, u), 2, axis=-1)
        log_a = -SHARPNESS * jax.nn.softplus(along(params.decay, u)) * jax.nn.sigmoid(r + b_r)
        h = jnp.exp(log_a) * h + root(-jnp.expm1(2 * log_a)) * jax.nn.sigmoid(i + b_i) * u
        return h, h

    start = lambda params, batch: zeros(batch, hidden_size, params.decay)
    return over_channels("rglru", input_size, hidden_size, init, start, step, options)

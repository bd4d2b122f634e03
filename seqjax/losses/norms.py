"""The norm of a hidden state, held still."""

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array
from seqjax.losses.totals import Tally, real_ticks, tally, wide
from seqjax.normalization import norm


def norm_stabiliser(hs: Array, h_0: Array, beta: float, mask: Array | None = None) -> Tally:
    """The penalty that keeps the norm of a hidden state from drifting.

        β (1/T) Σ_{t=1..T} (‖h_t‖ - ‖h_{t-1}‖)²

    Args:
      hs: ``[T, *B, h]``: h_1 … h_T.
      h_0: ``[*B, h]``: the state before the first tick.
      beta: β.
      mask: ``[T, *B]``; a masked tick holds the state, so that the next real one is compared with the last.

    Returns:
      The sum over real ticks and their number; ``mean`` is the penalty.

    Raises:
      ValueError: shapes that do not agree.

    Example:
      >>> norm_stabiliser(jnp.array([[3.0, 4.0], [0.0, 7.0]]), jnp.array([5.0, 0.0]), beta=1.0).mean.item()
      2.0

    References:
      Krueger and Memisevic (2016), Regularizing RNNs by stabilizing activations.
      https://arxiv.org/abs/1511.08400
    """
    checks.shapes("norm_stabiliser", "h_0", h_0.shape, "hs without the first axis", hs.shape[1:])
    mask = real_ticks("norm_stabiliser", mask, hs[..., 0])
    norms = norm(wide("norm_stabiliser", hs if mask is None else jnp.where(mask[..., None], hs, 0)))
    first = norm(wide("norm_stabiliser", h_0))[None]
    before = jnp.concatenate([first, norms[:-1]])
    if mask is not None:
        tick = jnp.arange(1, hs.shape[0] + 1).reshape((-1,) + (1,) * (mask.ndim - 1))
        last_real = jax.lax.cummax(jnp.where(mask, tick, 0), axis=0)
        last_real = jnp.concatenate([jnp.zeros_like(last_real[:1]), last_real[:-1]])
        before = jnp.take_along_axis(jnp.concatenate([first, norms]), last_real, axis=0)
    return tally(beta * (norms - before) ** 2, mask)

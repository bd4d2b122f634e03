"""What clipping does to a gradient on average: a mean of clipped gradients is not the clipped mean."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array


class ClippingBias(NamedTuple):
    """Mean of clipped gradients against clipped mean gradient, at K thresholds.

    Attributes:
      mean_of_clipped: ``[K]``, ‖E clip(g)‖: what updates add up to.
      clipped_mean: ``[K]``, ‖clip(E g)‖ = min(‖E g‖, η): what the gradient of the whole loss would be clipped to.
      bias: ``[K]``, ‖E clip(g) - clip(E g)‖ / ‖clip(E g)‖.
      cosine: ``[K]``, between the two; 1 where only the length is wrong, below 0 where updates go uphill on average.
      rate: ``[K]``, the share of gradients that are clipped.
    """

    mean_of_clipped: Array
    clipped_mean: Array
    bias: Array
    cosine: Array
    rate: Array


def clipping_bias(gradients: Array, thresholds: Array) -> ClippingBias:
    """Compares E clip(g) with clip(E g) over equally likely gradients.

        clip(g) = g min(1, η / ‖g‖)

    The gradients are those of examples, or of minibatches: all of them, or as many as were drawn.

    Args:
      gradients: ``[M, n]``, one a row.
      thresholds: η ``[K]``.

    Returns:
      A `ClippingBias`.

    Raises:
      ValueError: a threshold that is not above 0.

    Example:
      One example in ten has a large gradient, the others a small one the other way. The mean is 0.1; clipped to 1, the
      many outvote the one, and the mean has the other sign:

      >>> import jax.numpy as jnp
      >>> found = clipping_bias(jnp.array([[10.0]] + 9 * [[-1.0]]), jnp.array([1.0]))
      >>> found.mean_of_clipped.round(3).tolist(), found.cosine.round(3).tolist()
      ([0.800000011920929], [-1.0])

    References:
      Chen, Wu and Hong (2020), Understanding gradient clipping in private SGD: a geometric perspective.
      https://arxiv.org/abs/2006.15429
    """
    gradients, thresholds = jnp.asarray(gradients), jnp.asarray(thresholds)
    checks.sizes("clipping_bias", gradients=len(gradients), thresholds=len(thresholds))
    if not (thresholds > 0).all():
        raise ValueError(f"clipping_bias: expected thresholds above 0, got {float(thresholds.min())!r}. Raise them.")
    mean, norms = gradients.mean(0), jnp.linalg.norm(gradients, axis=1)

    def at(threshold: Array) -> ClippingBias:
        def clip(g: Array) -> Array:
            factor = jnp.minimum(1, threshold / jnp.maximum(jnp.linalg.norm(g), jnp.finfo(g.dtype).tiny))
            return g * factor

        found, wanted = jax.vmap(clip)(gradients).mean(0), clip(mean)
        sizes = jnp.linalg.norm(found), jnp.linalg.norm(wanted)
        bias = jnp.linalg.norm(found - wanted) / sizes[1]
        return ClippingBias(*sizes, bias, found @ wanted / (sizes[0] * sizes[1]), (norms > threshold).mean())

    return jax.lax.map(at, thresholds)

"""Layer normalisation between layers."""

from typing import NamedTuple

import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Layer
from seqjax.layers.pointwise import mapped
from seqjax.normalization import standardize


class LayerNormParams(NamedTuple):
    """``gain [d]``, ``b [d]``."""

    gain: Array
    b: Array


def layer_norm(size: int, *, epsilon: float = 1e-5, dtype: jnp.dtype | None = None) -> Layer[LayerNormParams, tuple]:
    """Normalises the features of every tick, then scales and shifts each.

        y = (x - mean) / √(variance + ε) ⊙ gain + b      over the d features of one tick and example

    Args:
      size: d.
      epsilon: ε.
      dtype: of the parameters; JAX's default float if None.

    Returns:
      A layer with empty state.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    checks.sizes("layer_norm", size=size)

    def init(key: Array) -> LayerNormParams:
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        return LayerNormParams(jnp.ones(size, kind), jnp.zeros(size, kind))

    def function(params: LayerNormParams, xs: Array, key: Array | None) -> Array:
        checks.features("layer_norm", xs, size)
        return standardize(xs, epsilon) * params.gain.astype(xs.dtype) + params.b.astype(xs.dtype)

    return mapped("layer_norm", function, init)

"""Normalisation over features, and norms, right over the whole range of a dtype: 1e30 has no square in float32."""

import math

import jax
import jax.numpy as jnp

from seqjax.base import Array
from seqjax.products import accumulator

__all__ = ["norm", "rescale", "standardize", "unit"]


def standardize(a: Array, epsilon: float = 1e-5) -> Array:
    """``(a - mean) / √(variance + ε)`` over the last axis, the variance from centred values.

    `jax.nn.standardize` subtracts the squared mean instead, which cancels when the mean is large.

    >>> standardize(jnp.array([-1e30, 1e30])).tolist()
    [-1.0, 1.0]
    """
    x = a.astype(accumulator(a.dtype))
    small = 2.0 ** -math.ceil(math.log2(16 * x.shape[-1]))  # exact, and no sum overflows
    centred = x * small
    centred = centred - centred.mean(-1, keepdims=True)
    return _over_root(centred, math.sqrt(epsilon) * small).astype(a.dtype)


def rescale(a: Array, epsilon: float = 1e-6) -> Array:
    """``a / √(mean a² + ε)`` over the last axis.

    >>> rescale(jnp.array([-1e30, 1e30])).tolist()
    [-1.0, 1.0]
    """
    small = 2.0**-4  # exact; a size whose inverse is too small for the dtype is no divisor
    return _over_root(a.astype(accumulator(a.dtype)) * small, math.sqrt(epsilon) * small).astype(a.dtype)


def _over_root(x: Array, root: float) -> Array:
    """x / √(mean x² + root²)."""
    scale = jax.lax.stop_gradient(jnp.maximum(jnp.abs(x).max(-1, keepdims=True), root))
    z = x / scale
    return z * jax.lax.rsqrt((z**2).mean(-1, keepdims=True) + (root / scale) ** 2)


def norm(v: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """‖v‖ over ``axis``, with gradient zero where v = 0."""
    v, scale = _scaled(v, axis)
    square = (v**2).sum(axis)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0) * scale.squeeze(axis)


def unit(v: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """v / ‖v‖ over ``axis``; v itself, which is zero, where ‖v‖ = 0.

    >>> unit(jnp.array([0.0, -4e-30])).tolist()
    [0.0, -1.0]
    """
    v, _ = _scaled(v, axis)
    square = (v**2).sum(axis, keepdims=True)
    return v * jax.lax.rsqrt(jnp.where(square > 0, square, 1))


def _scaled(v: Array, axis: int | tuple[int, ...]) -> tuple[Array, Array]:
    """v over its largest entry, and that; 1 where all are zero. No gradient goes through it: none is due."""
    v = v.astype(accumulator(v.dtype))
    top = jax.lax.stop_gradient(jnp.abs(v).max(axis, keepdims=True, initial=0))
    least = jnp.finfo(v.dtype).tiny  # beyond it, and the inverse, a division is a product with zero or infinity
    scale = jnp.where(top > 0, jnp.clip(top, least, 0.5 / least), 1)
    return v / scale, scale

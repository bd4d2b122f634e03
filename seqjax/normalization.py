"""Normalisation over features."""

import jax

from seqjax.base import Array


def standardize(a: Array, epsilon: float = 1e-5) -> Array:
    """``(a - mean) / √(variance + ε)`` over the last axis, the variance from centred values.

    `jax.nn.standardize` subtracts the squared mean instead, which cancels when the mean is large.
    """
    centred = a - a.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + epsilon)

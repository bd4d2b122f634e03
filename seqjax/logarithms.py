"""Sums of probabilities in the log domain: -inf is probability zero, and never turns into NaN."""

import jax
import jax.numpy as jnp

from seqjax.base import Array

__all__ = ["finite", "log_softmax", "logsumexp"]


def finite(a: Array) -> Array:
    """``a`` with 0 in place of what is infinite or NaN: the offset that is safe to subtract."""
    return jnp.where(jnp.isfinite(a), a, 0)


def logsumexp(a: Array, axis: int = -1) -> Array:
    """ln Σ exp a, whose gradient is zero, not NaN, where everything is -inf."""
    top = finite(jax.lax.stop_gradient(a.max(axis, keepdims=True)))
    total = jnp.exp(a - top).sum(axis)
    possible = total != 0
    return jnp.where(possible, jnp.log(jnp.where(possible, total, 1)) + top.squeeze(axis), -jnp.inf)


def log_softmax(a: Array) -> Array:
    """ln softmax(a) over the last axis, exact at any offset that all of ``a`` share; -inf throughout where all is.

    >>> log_softmax(jnp.array([1e8, 1e8, -jnp.inf])).tolist()
    [-0.6931471824645996, -0.6931471824645996, -inf]
    """
    a = a - finite(jax.lax.stop_gradient(a.max(-1, keepdims=True)))
    total = jnp.exp(a).sum(-1, keepdims=True)
    return a - jnp.log(jnp.where(total != 0, total, 1))

"""The sum over all ways to place symbols in time, and where each is then expected: its derivative.

    β_{t-1}(s) = Σ_k β_t(s+k) w_t(s+k)      k = 0, 1, and 2 where that may be jumped to        Z = β_0(0)
    γ_t(s) = Σ_k γ_{t-1}(s-k) · β_t(s) w_t(s) / β_{t-1}(s-k)        ∂ ln Z / ∂ ln w_t(s) = γ_t(s)

The first in logarithms, each β divided by its largest, so that long sequences keep digits; the second as it stands: no
quotient exceeds 1, and what underflows is nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.base import Array
from seqjax.logarithms import finite

NEVER = -jnp.inf


class Places(NamedTuple):
    """What may follow what: ``jumps [*B, S]``, from where the next but one is reached; ``last [*B, S]``, the ends."""

    jumps: Array
    last: Array


class Messages(NamedTuple):
    """``log_z [*B]``, and of each tick ln β w ``[T, *B, S]``, divided, and the ln β before it that this makes."""

    log_z: Array
    weighted: Array
    before: Array


@jax.custom_jvp
def log_sum(log_weights: Array, places: Places, mask: Array | None) -> Array:
    """ln Z ``[*B]`` for ``log_weights [T, *B, S]``: -inf, with a gradient of zero, where nothing is possible."""
    return messages(log_weights, places, mask).log_z


@log_sum.defjvp
def _log_sum_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    found = messages(*primals)
    return found.log_z, (expected(found, *primals[1:]) * tangents[0]).sum((0, -1))


def messages(log_weights: Array, places: Places, mask: Array | None) -> Messages:
    """β from the last tick to the first."""

    def step(beta: Array, tick: tuple[Array, Array | None]) -> tuple[Array, tuple[Array, Array, Array]]:
        log_weight, real = tick
        g = beta + log_weight
        divisor = finite(g.max(-1))
        g = g - divisor[..., None]
        before = _added(g, _moved(g, -1, NEVER), jnp.where(places.jumps, _moved(g, -2, NEVER), NEVER))
        if real is None:
            return before, (divisor, g, before)
        return masks.select(real, before, beta), (jnp.where(real, divisor, 0), g, before)

    last = jnp.where(places.last, 0, NEVER).astype(log_weights.dtype)
    first, (divisors, weighted, before) = jax.lax.scan(step, last, (log_weights, mask), reverse=True)
    return Messages(first[..., 0] + divisors.sum(0), weighted, before)


def expected(found: Messages, places: Places, mask: Array | None) -> Array:
    """γ ``[T, *B, S]`` from the first tick to the last, zero at masked ticks."""

    def step(gamma: Array, tick: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
        g, before, real = tick
        before = finite(before)
        stay, on = jnp.exp(g - before), jnp.exp(_moved(g, -1, NEVER) - before)
        over = jnp.where(places.jumps, jnp.exp(_moved(g, -2, NEVER) - before), 0)
        all_ways = stay + on + over  # 1 to rounding, 0 where nothing is possible
        each = gamma / jnp.where(all_ways == 0, 1, all_ways)
        new = each * stay + _moved(each * on, 1, 0) + _moved(each * over, 2, 0)
        return (new, new) if real is None else (masks.select(real, new, gamma), masks.zero(real, new))

    begin = jnp.zeros_like(found.before[0]).at[..., 0].set(1)
    return jax.lax.scan(step, begin, (found.weighted, found.before, mask))[1]


def _added(a: Array, b: Array, c: Array) -> Array:
    """ln (exp a + exp b + exp c), as `seqjax.logarithms.logsumexp` has it of an axis."""
    top = finite(jax.lax.stop_gradient(jnp.maximum(jnp.maximum(a, b), c)))
    total = jnp.exp(a - top) + jnp.exp(b - top) + jnp.exp(c - top)
    return jnp.where(total != 0, jnp.log(jnp.where(total != 0, total, 1)) + top, NEVER)


def _moved(x: Array, places: int, fill: float) -> Array:
    """``x`` moved by so many places to the right."""
    return jax.lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0)] * (x.ndim - 1) + [(places, -places, 0)])

"""Messages where every step has transitions of its own, as in `seqjax.hmm.messages`.

p_t(j) = ⊕_i (f_{t-1}(i) + A_t(i, j))        f_t = p_t + e_t        A_t leads into tick t
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.base import Array
from seqjax.hmm.messages import before, max_product, preceded, sum_product
from seqjax.logarithms import finite, logsumexp


def entering(log_transition: Array, axes: int) -> Array:
    """Transitions ``[T-1, N, N]`` or ``[T-1, *B, N, N]`` by the tick they lead to: ``[T, *B or 1 each, N, N]``.

    Nothing leads to the first tick; its entry is not used.
    """
    steps, *batch, n, _ = log_transition.shape
    a = log_transition.reshape(steps, *(batch or [1] * axes), n, n)
    return jnp.concatenate([jnp.zeros_like(a, shape=(1, *a.shape[1:])), a])


def run(
    start: Array, a: Array, evidence: Array, mask: Array | None, *, best: bool, engine: str, reverse: bool
) -> Array:
    """The messages ``p_t [T, *B, N]`` that arrive at each tick: `seqjax.hmm.messages.run` for ``a [T, *B or 1, N, N]``.

    Where a tick is masked, the transition into it is not taken: the next real one's own leads there.
    """
    product = max_product if best else sum_product
    move = lambda f, a: product(f[..., None, :], a)[..., 0, :]
    start = jnp.broadcast_to(start, evidence.shape[1:])
    entered = preceded(evidence.shape[:-1], mask)
    parallel = engine == "associative"
    if reverse:
        back = jnp.swapaxes(a, -1, -2)
        if parallel:
            ahead = _totals(_products(a, evidence, mask, entered, best, reverse=True), best)
            ahead = jnp.concatenate([ahead[1:], jnp.zeros_like(ahead[:1])])
            left = before(move(ahead + evidence, back)[::-1], None if mask is None else mask[::-1])
            follows = preceded(evidence.shape[:-1], None if mask is None else mask[::-1])
            return jnp.where(follows[..., None], left, start)[::-1]

        def backwards(p: Array, tick: tuple) -> tuple[Array, Array]:
            a, e, real = tick
            new = move(p + e, a)
            return (new if real is None else masks.select(real, new, p)), p

        return jax.lax.scan(backwards, start, (back, evidence, mask), reverse=True)[1]
    if parallel:
        f = _combined(start[None, ..., None, :], _products(a, evidence, mask, entered, best), best)[..., 0, :]
        return jnp.where(entered[..., None], move(before(f, mask), a), start)

    def forwards(f: Array, tick: tuple) -> tuple[Array, Array]:
        a, e, real, entered = tick
        p = jnp.where(entered[..., None], move(f, a), start)
        return (p + e if real is None else masks.select(real, p + e, f)), p

    return jax.lax.scan(forwards, start, (a, evidence, mask, entered))[1]


def _products(
    a: Array, evidence: Array, mask: Array | None, entered: Array, best: bool, reverse: bool = False
) -> Array:
    """What the ticks up to each one (from it on, in reverse) do to a message, ``[T, *B, N, N]``, up to a constant."""
    still = jnp.where(jnp.eye(a.shape[-1], dtype=bool), 0, -jnp.inf).astype(evidence.dtype)
    ticks = jnp.where(entered[..., None, None], a, still) + evidence[..., None, :]
    ticks = ticks if mask is None else jnp.where(mask[..., None, None], ticks, still)
    join: Any = lambda first, second: _combined(*((second, first) if reverse else (first, second)), best)
    return jax.lax.associative_scan(join, ticks, reverse=reverse)


def _combined(left: Array, right: Array, best: bool) -> Array:
    """The product of two matrices, divided by its largest entry."""
    pairs = left[..., :, :, None] + right[..., None, :, :]
    product = pairs.max(-2) if best else logsumexp(pairs, -2)
    return product - finite(product.max((-1, -2), keepdims=True))


def _totals(matrix: Array, best: bool) -> Array:
    return matrix.max(-1) if best else logsumexp(matrix)

"""Messages along a chain, in the log domain: one recurrence for sums (belief) and maxima (best paths).

    f_t = p_t + e_t                          p_1 = start, e_t the evidence of tick t
    p_{t+1}(j) = ⊕_i (f_t(i) + A_ij) - ⊕_i f_t(i)          ⊕ = logsumexp or max

Every message is divided by its total, so a float32 chain of 100,000 ticks loses nothing; -inf is probability zero and
never turns into NaN, in values or gradients.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax import masks, symbolic
from seqjax.base import Array
from seqjax.logarithms import finite, logsumexp
from seqjax.products import along

BLOCK = 32  # ticks that the associative engine runs one after the other
SMALL = 1024  # weights times rows up to which a product is written as sums


def maximum(a: Array, axis: int = -1) -> Array:
    """max a."""
    return a.max(axis)


def divided(a: Array, total: Callable = logsumexp) -> Array:
    """``a`` divided by its total; -inf throughout where that is zero."""
    return a - finite(total(a))[..., None]


def sum_product(f: Array, log_a: Array) -> Array:
    """ln(softmax(f) A) for rows ``f [..., r, i]`` and ``log_a [..., i, j]``, exact at any spread of f."""
    return logsumexp(divided(f)[..., :, :, None] + along(log_a[..., None, :, :], f[..., None]), -2)


def max_product(f: Array, log_a: Array) -> Array:
    """max_i (f_i + ln A_ij) - max f for rows ``f [..., r, i]``."""
    return (divided(f, maximum)[..., :, :, None] + along(log_a[..., None, :, :], f[..., None])).max(-2)


def run(
    start: Array, log_a: Array, evidence: Array, mask: Array | None, *, best: bool, engine: str, reverse: bool = False
) -> Array:
    """The messages ``p_t [T, R, N]`` that arrive at each tick, before its evidence.

    Where sums are taken, Σ_t logsumexp(p_t + e_t) over real ticks is the total over all paths; of maxima the messages
    hold up to a constant a tick.

    Args:
      start: p at the first tick (the last in reverse), ``[R, N]``.
      log_a: ln A ``[N, N]``; its rows may have any totals.
      evidence: ``[T, R, N]``.
      mask: ``[T, R]``; at a masked tick the message passes on unchanged. None: all ticks are real.
      best: maxima instead of sums.
      engine: ``"scan"``, or ``"associative"``: blocks of ticks run side by side from every possible state at once, a
        parallel prefix product joins them, and each block runs again from the message that reaches it.
      reverse: from the last tick to the first.
    """
    if reverse:
        evidence, mask = jax.tree.map(lambda x: x[::-1], (evidence, mask))
    if engine == "scan":
        p = (maxima if best else sums)(start, log_a, evidence, mask)
    else:
        p = _associative(start, log_a, evidence, mask, best)
    if engine == "associative" and not best:  # a block's first message came without its total
        moved = logsumexp(divided(divided(p) + evidence) + along(logsumexp(log_a), p))
        totals = jnp.where(preceded(moved.shape, mask), before(moved, mask), logsumexp(start))
        p = divided(p) + totals[..., None]
    return p[::-1] if reverse else p


def preceded(shape: tuple[int, ...], mask: Array | None) -> Array:
    """``[T, ...]``, True at ticks that have a real tick before them."""
    if mask is None:
        return jnp.broadcast_to(jnp.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) > 0, shape)
    real = jax.lax.cummax(mask.astype(jnp.int32), axis=0) > 0
    return jnp.concatenate([jnp.zeros_like(real[:1]), real[:-1]])


def before(x: Array, mask: Array | None) -> Array:
    """``x [T, *B, ...]`` at the last real tick before each tick; at ticks that have none it means nothing."""
    if mask is not None:
        ticks = jnp.arange(mask.shape[0]).reshape(-1, *[1] * (mask.ndim - 1))
        last = jax.lax.cummax(jnp.where(mask, ticks, 0), axis=0)
        x = jnp.take_along_axis(x, last.reshape(last.shape + (1,) * (x.ndim - mask.ndim)), 0)
    return jnp.concatenate([x[:1], x[:-1]])


def maxima(start: Array, log_a: Array, evidence: Array, mask: Array | None) -> Array:
    """Messages of best paths, ``start [..., R, N]``, ``evidence [T, ..., R, N]``."""

    def step(state: tuple[Array, Array], tick: tuple) -> tuple[tuple[Array, Array], Array]:
        (p, top), (e, real) = state, tick
        f = p - finite(top) + e  # divided by the last tick's largest, which costs no pass of its own
        new = (f[..., :, None] + along(log_a, f[..., None])).max(-2), f.max(-1, keepdims=True)
        return new if real is None else masks.select(real, new, state), p

    state = start, jnp.zeros_like(start[..., :1])
    return jax.lax.scan(step, state, (evidence, mask), unroll=2 if symbolic.known(evidence.shape[0]) else 1)[1]


@jax.custom_jvp
def sums(start: Array, log_a: Array, evidence: Array, mask: Array | None) -> Array:
    """Messages of beliefs, ``start [..., R, N]``, ``evidence [T, ..., R, N]``.

    Plain probabilities, divided by their sum each tick, are several times faster than logarithms and as exact while
    nothing in them underflows. So they go first, and count where every sum of every tick lies far above what
    underflow can have taken from it; otherwise the logarithms run. Derivatives are those of the logarithms.
    """
    found, exact = _linear_sums(start, log_a, evidence, mask)
    return jax.lax.cond(exact, lambda: found, lambda: _log_sums(start, log_a, evidence, mask))


@sums.defjvp
def _sums_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    logs = lambda start, log_a, evidence: _log_sums(start, log_a, evidence, primals[3])
    return sums(*primals), jax.jvp(logs, primals[:3], tangents[:3])[1]


def _log_sums(start: Array, log_a: Array, evidence: Array, mask: Array | None) -> Array:
    @functools.partial(jax.checkpoint, prevent_cse=False)  # O(N) kept a tick, not the O(N²) of the product
    def step(p: Array, tick: tuple) -> tuple[Array, Array]:
        e, real = tick
        new = sum_product(p + e, log_a)
        return new if real is None else masks.select(real, new, p), p

    return jax.lax.scan(step, start, (evidence, mask))[1]


def _linear_sums(start: Array, log_a: Array, evidence: Array, mask: Array | None) -> tuple[Array, Array]:
    """The messages by way of probabilities, and whether they are exact to rounding."""
    n = log_a.shape[-1]
    a_top = finite(log_a.max())
    a = jnp.exp(log_a - a_top)
    weight = jnp.exp(evidence - finite(evidence.max(-1, keepdims=True)))
    summed = jnp.concatenate([a, jnp.ones_like(a[:, :1])], 1)  # one product gives the next message and its divisor

    def step(f: Array, tick: tuple) -> tuple[Array, Array]:
        w, real = tick
        q = f[..., :n] / f[..., n:]
        new = _product(q * w, summed)
        return new if real is None else masks.select(real, new, f), q

    start_top = finite(start.max(-1, keepdims=True))
    first = jnp.exp(start - start_top)
    last, q = jax.lax.scan(step, jnp.concatenate([first, jnp.ones_like(first[..., :1])], -1), (weight, mask))
    # No factor exceeds 1, so what underflows in a sum is below N times the smallest number.
    lost = n * jnp.finfo(start.dtype).tiny / jnp.finfo(start.dtype).eps
    after = jnp.concatenate([q[1:], (last[..., :n] / last[..., n:])[None]])
    sums = after * _product(q * weight, summed[:, n:])
    if mask is not None:
        sums = jnp.where(mask[..., None], sums, 1)
    known = (first > lost) | (start == -jnp.inf)
    exact = (sums > lost).all() & known.all()
    return jnp.log(q) + jnp.where(preceded(q.shape[:-1], mask)[..., None], a_top, start_top), exact


def _product(h: Array, a: Array) -> Array:
    """h A. Written as sums, a small product costs a loop over ticks no call of its own."""
    if h.ndim == 2 and symbolic.entries((h.shape[0], a.size)) <= SMALL:
        return (h[..., :, None] * along(a, h[..., None])).sum(-2)
    return jnp.matmul(h, a, precision=jax.lax.Precision.HIGHEST)


def in_blocks(x: Array, fill: float = 0) -> Array:
    """``[T, ...]`` as ``[BLOCK, blocks, ...]``, filled up at the end; a mask of bools counts that as masked."""
    blocks = -(-len(x) // BLOCK)
    x = jnp.pad(x, [(0, blocks * BLOCK - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
    return x.reshape(blocks, BLOCK, *x.shape[1:]).swapaxes(0, 1)


def out_of_blocks(x: Array, length: int) -> Array:
    """The inverse of `in_blocks`."""
    return x.swapaxes(0, 1).reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:length]


def _associative(start: Array, log_a: Array, evidence: Array, mask: Array | None, best: bool) -> Array:
    length = len(evidence)
    if mask is not None:
        mask = in_blocks(mask)
    elif length % BLOCK:
        mask = in_blocks(jnp.ones(evidence.shape[:-1], bool))
    evidence = in_blocks(evidence)
    starts = start[None]
    if length > BLOCK:
        whole = log_a, evidence[:, :-1], None if mask is None else mask[:, :-1]
        matrix, gain = _log_prefixes(*whole, best=True) if best else sum_prefixes(*whole)
        product = max_product if best else sum_product
        reached = product((along(start, gain) + gain)[:, :, None, :], matrix)[:, :, 0, :]
        starts = jnp.concatenate([starts, reached])
    return out_of_blocks((maxima if best else sums)(starts, log_a, evidence, mask), length)


@jax.custom_jvp
def sum_prefixes(log_a: Array, evidence: Array, mask: Array | None) -> tuple[Array, Array]:
    """What the blocks up to each one do to a belief, ``evidence [BLOCK, K, R, N]``; results as in `_summaries`.

    By matrix products where they are exact, as in `sums`.
    """
    found, exact = _linear_prefixes(log_a, evidence, mask)
    return jax.lax.cond(exact, lambda: found, lambda: _log_prefixes(log_a, evidence, mask, best=False))


@sum_prefixes.defjvp
def _sum_prefixes_jvp(primals: tuple, tangents: tuple) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    logs = lambda log_a, evidence: _log_prefixes(log_a, evidence, primals[2], best=False)
    return sum_prefixes(*primals), jax.jvp(logs, primals[:2], tangents[:2])[1]


def _log_prefixes(log_a: Array, evidence: Array, mask: Array | None, best: bool) -> tuple[Array, Array]:
    blocks = _summaries(log_a, evidence, mask, best)
    return jax.lax.associative_scan(lambda left, right: _join(left, right, best), blocks)


def _linear_prefixes(log_a: Array, evidence: Array, mask: Array | None) -> tuple[tuple[Array, Array], Array]:
    """The prefixes by way of probabilities, and whether they are exact to rounding."""
    n = log_a.shape[-1]
    a = jnp.exp(log_a - finite(log_a.max()))
    weight = jnp.exp(evidence - finite(evidence.max(-1, keepdims=True)))
    lost = n * jnp.finfo(a.dtype).tiny / jnp.finfo(a.dtype).eps  # as in _linear_sums
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

    def step(state: tuple, tick: tuple) -> tuple[tuple, None]:
        (m, gain, moved, exact), (w, real) = state, tick
        u = product(m * w[..., None, :], a)
        total = u.sum(-1)
        after = u / total[..., None], gain + jnp.log(total), jnp.ones_like(moved), exact & (u > lost).all((-2, -1))
        return after if real is None else masks.select(real, after, state), None

    def join(left: tuple, right: tuple) -> tuple:
        h = left[0] * jnp.exp(divided(right[1], maximum))[..., None, :]
        u, total = product(h, right[0]), h.sum(-1)
        exact = left[3] & right[3] & (u > lost).all((-2, -1))
        both = u / total[..., None], divided(left[1] + jnp.log(total), maximum), left[2] & right[2], exact
        if mask is None:
            return both
        return masks.select(left[2], masks.select(right[2], both, left), right)  # a stretch without ticks does nothing

    m = jnp.broadcast_to(jnp.eye(n, dtype=a.dtype), (*evidence.shape[1:], n))
    still = jnp.zeros(m.shape[:-2], bool)
    (m, gain, moved, exact), _ = jax.lax.scan(step, (m, jnp.zeros_like(m[..., 0]), still, ~still), (weight, mask))
    m, gain, _, exact = jax.lax.associative_scan(join, (m, divided(gain, maximum), moved, exact))
    return (jnp.log(m), gain), exact.all()


def _summaries(log_a: Array, evidence: Array, mask: Array | None, best: bool) -> tuple[Array, Array]:
    """What each block does to a message: a matrix and a gain.

    ``matrix [K, R, N, N]`` holds the message that leaves the block given the state that enters it, divided by its
    total; ``gain [K, R, N]`` is that total, up to a constant a block.
    """
    total, product = (maximum, max_product) if best else (logsumexp, sum_product)
    n = log_a.shape[-1]
    one_hot = jnp.where(jnp.eye(n, dtype=bool), 0, -jnp.inf).astype(evidence.dtype)
    start = jnp.broadcast_to(one_hot, (*evidence.shape[1:], n))

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(state: tuple[Array, Array], tick: tuple[Array, Array | None]) -> tuple[tuple[Array, Array], None]:
        (p, gain), (e, real) = state, tick
        f = p + e[..., None, :]
        new = product(f, log_a)
        after = divided(new, total), gain + total(f) + total(new)
        return after if real is None else masks.select(real, after, state), None

    (matrix, gain), _ = jax.lax.scan(step, (start, jnp.zeros_like(start[..., 0])), (evidence, mask))
    return matrix, divided(gain, maximum)


def _join(left: tuple[Array, Array], right: tuple[Array, Array], best: bool) -> tuple[Array, Array]:
    """Two neighbouring stretches as one; gains are kept relative to the largest, so that they stay small."""
    total, product = (maximum, max_product) if best else (logsumexp, sum_product)
    f = left[0] + right[1][..., None, :]
    return product(f, right[0]), divided(left[1] + total(f), maximum)

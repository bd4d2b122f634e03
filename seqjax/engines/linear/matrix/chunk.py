"""A chunk of C ticks of a matrix state: products of C × C, C × m and m × n, nothing of size [C, m, n].

    S_t = a_t ⊙ S_{t-1} + Σ_f ρ_tf ⊙ F_f + Σ_i k_ti u_tiᵀ          u_ti = known_ti + Σ_j α_tij R_tj
    R_tj = q_tjᵀ S_{t-1} = (q_tj ⊙ Λ_t)ᵀ S_0 + Σ_i Σ_{s<t} (q_tjᵀ D_ts k_si) u_si + …

with D_ts the decays between two ticks and Λ_t those before a tick. Where what is written depends on what is read, the
second line is a triangular system for all R of a chunk (C × C, once for a chunk and not once a tick).

What is not finite must not spread by products with zeros, to earlier ticks or behind a reset: it is left out of them,
and what is read is NaN from that tick on, a column of values by itself, until a selection cuts the state off.

References:
  Katharopoulos et al. (2020), Transformers are RNNs. https://arxiv.org/abs/2006.16236
  Yang et al. (2024), Gated linear attention transformers with hardware-efficient training.
  https://arxiv.org/abs/2312.06635
  Yang et al. (2024), Parallelizing linear transformers with the delta rule. https://arxiv.org/abs/2406.06484
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqjax import spread
from seqjax.engines.linear.algebra import Ticks
from seqjax.engines.linear.diagonal import How, recurrence, shifted
from seqjax.engines.linear.matrix.decay import decays, rounded_up
from seqjax.engines.linear.matrix.triangular import inverse


class Writes(NamedTuple):
    """What a chunk does to S, a factor for all ticks each, C a power of two.

    Attributes:
      decay: a ``[*B, C, m]``, or ``[*B, C, 1]`` where all rows decay alike.
      alive: ``[*B, C]`` of bool, False where S is cut off; None where it never is.
      fresh: ρ, as decay, and F ``[*B, m, n]``.
      keys: k_i ``[*B, C, m]``.
      values: what of u_i is known, ``[*B, C, n]``.
      feedback: α_ij ``[*B, C]`` by i and j.
    """

    decay: jax.Array
    alive: jax.Array | None
    fresh: list[tuple[jax.Array, jax.Array]]
    keys: list[jax.Array]
    values: list[jax.Array]
    feedback: dict[tuple[int, int], jax.Array]


class Query(NamedTuple):
    """q_j ``[*B, C, m]``; whether it looks at S at all, ``[*B, C]`` of bool or None; and how exact its products are."""

    key: jax.Array
    looks: jax.Array | None
    precision: lax.PrecisionLike


def run(first: jax.Array, writes: Writes, queries: list[Query]) -> tuple[jax.Array, list[jax.Array]]:
    """The S behind a chunk, and R_j ``[*B, C, n]``.

    Args:
      first: S before it, ``[*B, m, n]``.
      writes: what its ticks write.
      queries: what they read of the S before each.
    """
    decay, bad_decay = _finite(writes.decay)
    found = decays(decay)
    precision = queries[0].precision if queries else None
    ok_first = jnp.isfinite(first).all(-2)
    first = jnp.where(ok_first[..., None, :], first, 0)
    keys, bad_keys = [_finite(k)[0] for k in writes.keys], [_finite(k)[1] for k in writes.keys]
    bad_values = [~jnp.isfinite(v) for v in writes.values]
    values = [jnp.where(b, 0, v) for b, v in zip(bad_values, writes.values)]
    asked = sorted({j for _, j in writes.feedback})
    cleaned = {j: _finite(queries[j].key) for j in asked}
    fresh = [(*_finite(rho), matrix) for rho, matrix in writes.fresh]
    bad_fresh = [b for _, b, _ in fresh]
    bad = [b[..., None] for b in (bad_decay, *bad_fresh, *bad_keys, *(cleaned[j][1] for j in asked))] + list(bad_values)
    starts = [_started(decay, rho) for rho, _, _ in fresh]

    def old(q: jax.Array, precision: lax.PrecisionLike) -> jax.Array:
        """What a query reads of what was there before the chunk."""
        total = spread.einsum("...tm,...mn->...tn", q * found.before, first, precision=precision)
        for w, (_, matrix) in zip(starts, writes.fresh):
            total = total + spread.einsum("...tm,...mn->...tn", q * w.before, matrix, precision=precision)
        return total

    def between(q: jax.Array, precision: lax.PrecisionLike) -> list[jax.Array]:
        return [found.between(q, k, precision) for k in keys]

    by = {j: between(cleaned[j][0] if j in cleaned else q.key, q.precision) for j, q in enumerate(queries)}
    reads: dict[int, jax.Array] = {}
    written = list(values)
    if asked:
        known = []
        for j in asked:
            total = old(cleaned[j][0], queries[j].precision)
            for a, v in zip(by[j], values):
                total = total + spread.einsum("...ts,...sn->...tn", a, v, precision=queries[j].precision)
            known.append(total)
        for j, solved in zip(asked, _solved(known, by, asked, writes.feedback, precision)):
            reads[j] = solved
        for (i, j), alpha in writes.feedback.items():
            written[i] = written[i] + alpha[..., None] * reads[j]
        late = [~jnp.isfinite(u) for u in written]
        written = [jnp.where(b, 0, u) for b, u in zip(late, written)]
        bad += late
    for j, q in enumerate(queries):
        if j not in reads:
            total = old(q.key, q.precision)
            for a, u in zip(by[j], written):
                total = total + spread.einsum("...ts,...sn->...tn", a, u, precision=q.precision)
            reads[j] = total
    last = found.total[..., :, None] * first
    for w, (_, matrix) in zip(starts, writes.fresh):
        last = last + w.last[..., :, None] * matrix
    for k, u in zip(keys, written):
        last = last + spread.einsum("...tm,...tn->...mn", k * found.behind, u, precision=precision)
    dirty = _dirty(bad, ok_first, writes.alive)
    nan = jnp.asarray(jnp.nan, last.dtype)
    before = lax.concatenate([~ok_first[..., None, :], dirty[..., :-1, :]], dirty.ndim - 2)
    outs = []
    for j, q in enumerate(queries):
        spoilt = before if q.looks is None else before & q.looks[..., None]
        spoilt = spoilt | cleaned[j][1][..., None] if j in cleaned else spoilt
        outs.append(jnp.where(spoilt, nan, reads[j]))
    return jnp.where(dirty[..., -1:, :], nan, last), outs


class _Started(NamedTuple):
    """How much of F is in S: before each tick, and behind the chunk."""

    before: jax.Array
    last: jax.Array


def _started(decay: jax.Array, rho: jax.Array) -> _Started:
    time_first = lambda x: jnp.moveaxis(x, -2, 0)
    a, b = (time_first(x) for x in jnp.broadcast_arrays(decay, rho))
    nothing = jnp.zeros_like(b[0])
    after = recurrence(Ticks(a, b, None), nothing, How("tree"))
    return _Started(jnp.moveaxis(shifted(after, nothing, False), 0, -2), after[-1])


def _solved(
    known: list[jax.Array],
    by: dict[int, list[jax.Array]],
    asked: list[int],
    feedback: dict[tuple[int, int], jax.Array],
    precision: lax.PrecisionLike,
) -> list[jax.Array]:
    """R of ``R_j = known_j + Σ_{j'} N_jj' R_j'``, each N_jj' ``[*B, C, C]`` strictly below its diagonal."""
    count, length = len(asked), known[0].shape[-2]
    rows = []
    for j in asked:
        row = []
        for other in asked:
            terms = [by[j][i] * alpha[..., None, :] for (i, o), alpha in feedback.items() if o == other]
            row.append(sum(terms[1:], terms[0]))
        rows.append(jnp.stack(row, -1))
    system = jnp.stack(rows, -3)  # [*B, C, J, C, J]
    batch = system.shape[:-4]
    size = count * length
    more = rounded_up(size) - size
    square = [(0, 0, 0)] * len(batch) + [(0, more, 0)] * 2
    system = lax.pad(system.reshape(*batch, size, size), jnp.zeros((), system.dtype), square)
    right = jnp.stack(known, -2).reshape(*batch, size, known[0].shape[-1])
    solved = jnp.matmul(inverse(system, precision)[..., :size, :size], right, precision=precision)
    solved = solved.reshape(*batch, length, count, right.shape[-1])
    return [solved[..., i, :] for i in range(count)]


def _finite(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ticks ``[*B, C, m]`` of numbers, zero where some are not finite, and where."""
    ok = jnp.isfinite(x).all(-1)
    return jnp.where(ok[..., None], x, 0), ~ok


def _dirty(bad: list[jax.Array], ok_first: jax.Array, alive: jax.Array | None) -> jax.Array:
    """Which columns of S are not finite behind each tick, ``[*B, C, n]``."""
    length = bad[0].shape[-2]
    batch = jnp.broadcast_shapes(*(b.shape[:-2] for b in bad), ok_first.shape[:-1])
    shape = (*batch, length, ok_first.shape[-1])
    some = jnp.broadcast_to(bad[0], shape)
    for b in bad[1:]:
        some = some | b
    tick = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 2)
    if alive is None:
        first = jnp.where(some, tick, length).min(-2, keepdims=True)
        return (tick >= first) | ~ok_first[..., None, :]
    # Ticks between which nothing cuts, and those that nothing cuts from the state before the chunk.
    segment = lax.cumsum((~alive).astype(jnp.int32), axis=alive.ndim - 1)
    one = jnp.tril(segment[..., :, None] == segment[..., None, :])
    spoilt = spread.einsum("...ts,...sn->...tn", one.astype(jnp.float32), some.astype(jnp.float32)) > 0
    return spoilt | ((segment == 0)[..., None] & ~ok_first[..., None, :])

"""The last ticks in a ring, for layers that look back over a window: masked ticks absent, none from before a reset."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks, spread
from seqjax.base import Array


class Line(NamedTuple):
    """A chunk in a row behind what the ring held, oldest first, each sequence's real ticks moved together.

    Attributes:
      xs: ``[W + T, N, d]``: the W of the ring, the chunk's real ticks, zeros.
      segments: ``[W + T, N]``, of which segment each is, counted from that of the ring, 0; None without resets.
      real: ``[N]``, how many ticks of the chunk are real.
      own: ``[N]``, how many of them belong to the last segment.
      restarted: ``[N]``, whether the chunk had a reset.
      mask: ``[T, N]``, as given.
      order: ``[T, N]``, which tick is where on the line, masked ones last; None without a mask.
    """

    xs: Array
    segments: Array | None
    real: Array
    own: Array
    restarted: Array | None
    mask: Array | None
    order: Array | None


def line_up(ring: Array, place: Array, xs: Array, mask: Array | None, reset: Array | None) -> Line:
    """The line of a chunk ``xs [T, N, d]`` behind a ring ``[N, W, d]``, whose next tick goes to ``place [N]``."""
    length, count = xs.shape[:2]
    span = ring.shape[1]
    ring, place = spread.along_batch((ring, place), xs, 1)
    segments = jnp.zeros((length, count), jnp.int32) if reset is None else jnp.cumsum(reset, axis=0, dtype=jnp.int32)
    last = segments[-1]
    real, order = jnp.full(count, length, jnp.int32), None
    if mask is not None:
        real = mask.sum(0, dtype=jnp.int32)
        order = jnp.argsort(~mask, axis=0, stable=True)
        segments = jnp.take_along_axis(segments, order, 0)
        xs = _together(order, real, xs)
    slots = jnp.arange(span, dtype=jnp.int32)[:, None]
    before = jnp.take_along_axis(ring.swapaxes(0, 1), ((place[None] + slots) % span)[..., None], 0)
    line = jnp.concatenate([spread.exactly(before, jax.typeof(xs)), xs])
    if reset is None:
        return Line(line, None, real, real, None, mask, order)
    own = (segments == last[None]) & _present(length, real)
    owners = jnp.pad(segments, [(span, 0), (0, 0)])
    return Line(line, owners, real, own.sum(0, dtype=jnp.int32), last > 0, mask, order)


def after(line: Line, place: Array, span: int) -> tuple[Array, Array]:
    """Ring and place behind the line's chunk; of a chunk with a reset only what came behind the last one stays."""
    slots = jnp.arange(span, dtype=jnp.int32)[:, None]
    kept = jnp.take_along_axis(line.xs, (line.real[None] + slots)[..., None], 0)
    place = (place + line.real) % span
    if line.restarted is not None:
        mine = slots >= span - line.own[None]
        kept = masks.zero(mine | ~line.restarted[None], kept)
        place = masks.select(line.restarted, line.own % span, place)
    ring = jnp.take_along_axis(kept, ((slots - place[None]) % span)[..., None], 0)
    return ring.swapaxes(0, 1), place


def moved_together(line: Line, xs: Array) -> Array:
    """What belongs to the chunk's ticks ``[T, N, k]``, in their order on the line; zero behind the real ones."""
    return xs if line.order is None else _together(line.order, line.real, xs)


def moved_back(line: Line, ys: Array) -> Array:
    """Outputs ``[T, N, k]`` in the order of the line, each at its own tick again; zero at masked ones."""
    if line.mask is None:
        return ys
    rank = jnp.cumsum(line.mask, axis=0, dtype=jnp.int32) - 1
    return masks.zero(line.mask, jnp.take_along_axis(ys, jnp.maximum(rank, 0)[..., None], 0))


def _together(order: Array, real: Array, xs: Array) -> Array:
    return masks.zero(_present(xs.shape[0], real), jnp.take_along_axis(xs, order[..., None], 0))


def _present(length: int, real: Array) -> Array:
    return jnp.arange(length, dtype=jnp.int32)[:, None] < real[None]

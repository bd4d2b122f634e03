"""Where the sequences of a beam end, which ends are best, and the sequences behind them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.base import Array


class Ends(NamedTuple):
    """Where sequences end, ``[K, *B]``: behind ``traced`` symbols of the beam, the last of them in place ``place``."""

    traced: Array
    place: Array
    lengths: Array
    scores: Array
    log_probs: Array


def pick(leaf: Array, parent: Array) -> Array:
    """``leaf [K, *B, ...]`` in the order ``parent [K, *B]``."""
    grid = jnp.ix_(*(jnp.arange(n) for n in parent.shape))[1:] if parent.ndim > 1 else ()
    return leaf[(parent, *grid)]


def ends(traced: Array, n: Array, log_probs: Array, scores: Array) -> Ends:
    """Every place of the beam as the end of a sequence of n symbols, ``traced`` of them from the beam."""
    real = jnp.isfinite(log_probs)
    places = jnp.broadcast_to(
        jnp.arange(len(log_probs), dtype=jnp.int32).reshape(-1, *(1,) * (log_probs.ndim - 1)), log_probs.shape
    )
    traced, n = (jnp.where(real, x, 0).astype(jnp.int32) for x in (traced, n))
    return Ends(traced, places, n, jnp.where(real, scores, log_probs), log_probs)


def best(a: Ends, b: Ends) -> Ends:
    """The best half of two sets, best first; of equals the one found earlier."""
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)
    _, order = jax.lax.top_k(jnp.moveaxis(both.scores, 0, -1), len(a.scores))
    order = jnp.moveaxis(order, -1, 0)
    return jax.tree.map(lambda leaf: pick(leaf, order), both)


def trace_back(symbols: Array, parents: Array, found: Ends, filler: int) -> Array:
    """The sequences ``[K, L, *B]`` that end there."""

    def back(place: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        tick, written, came_from = row
        here = tick < found.traced
        symbol = jnp.where(here, jnp.take_along_axis(written, place, 0), filler)
        return jnp.where(here, jnp.take_along_axis(came_from, place, 0), place), symbol

    ticks = jnp.arange(len(symbols), dtype=jnp.int32)
    _, sequences = jax.lax.scan(back, found.place, (ticks, symbols, parents), reverse=True)
    return jnp.moveaxis(sequences, 0, 1)

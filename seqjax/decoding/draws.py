"""Drawing one symbol out of many with little noise, and the noise of many ticks at once."""

import math

import jax
import jax.numpy as jnp

from seqjax import symbolic
from seqjax.base import Array
from seqjax.decoding.ranking import highest, largest
from seqjax.logarithms import log_softmax
from seqjax.products import along

FEW = 512
"""Up to so many symbols they are drawn in one step, beyond in two."""

MOST_TICKS, MOST_NUMBERS = 64, 2**18
"""How much noise is drawn at once, at most."""


def ticks(batch: tuple[int, ...], size: int, length: int) -> int:
    """For how many ticks to draw noise at once: drawing costs as much for one as for many, until it fills memory."""
    return max(1, min(length, MOST_TICKS, MOST_NUMBERS // max(symbolic.entries(batch) * _numbers(size), 1)))


def noise(key: Array, shape: tuple[int, ...], size: int, dtype: jnp.dtype) -> Array:
    """Exponential noise for draws among ``size`` symbols: ``[*shape, size]``, or about 2 √size where they are many.

    -ln(1 - u), with all the bits of a number in u: small noise keeps its digits, and with it improbable symbols their
    chance. `jax.random.exponential` has steps of 1e-7 in float32. Never 0, which would make a forbidden symbol 0 / 0.
    """
    width = jnp.finfo(dtype).bits
    bits = jax.random.bits(key, (*shape, _numbers(size)), f"uint{width}")
    return -jnp.log1p(-(bits.astype(dtype) + 0.5) * 2.0**-width)


def choose(
    log_probs: Array,
    noise: Array | None,
    temperature: Array,
    top_k: int | None,
    top_p: Array | None,
    typical_p: Array | None = None,
) -> Array:
    """One symbol ``[*B]`` of ``log_probs [*B, V]``, the likeliest without noise.

    Args:
      log_probs: up to a constant; -∞ forbids.
      noise: from `noise`, for ``top_k`` symbols where that is given, else for V.
      temperature: above 0, one for all or ``[*B]``.
      top_k: as in `seqjax.sample`.
      top_p: as in `seqjax.sample`.
      typical_p: as in `seqjax.sample`.

    Returns:
      int32.
    """
    if noise is None:
        return highest(log_probs)
    temperature = jnp.maximum(jnp.asarray(temperature, log_probs.dtype), jnp.finfo(log_probs.dtype).tiny)
    log_probs = (log_probs - log_probs.max(-1, keepdims=True)) / along(temperature[..., None], log_probs)
    if top_k is None and top_p is None and typical_p is None:
        return draw(log_probs, noise)
    ranked, symbols = largest(log_probs, top_k or log_probs.shape[-1])
    if top_p is not None:
        ranked = _first(ranked, top_p)
    if typical_p is not None:
        known = log_softmax(ranked)
        entropy = -jnp.where(known > -jnp.inf, jnp.exp(known) * known, 0).sum(-1, keepdims=True)
        order = jnp.argsort(jnp.abs(known + entropy), axis=-1)
        ranked, symbols = (jnp.take_along_axis(x, order, -1) for x in (ranked, symbols))
        ranked = _first(ranked, typical_p)
        ranked -= ranked.max(-1, keepdims=True)
    return _at(symbols, draw(ranked, noise))


def _first(log_probs: Array, share: Array) -> Array:
    """The first of them whose probabilities sum to at least this; the others are forbidden."""
    probs = jax.nn.softmax(log_probs)
    before = jnp.cumsum(probs, axis=-1) - probs
    most = along(jnp.asarray(share, probs.dtype)[..., None], probs)
    return jnp.where((before < most) | (most >= 1), log_probs, -jnp.inf)  # the sum rounds to 1 before its last terms


def draw(log_probs: Array, noise: Array) -> Array:
    """A place ``[*B]`` in ``log_probs [*B, n]``, the largest of them 0, drawn with probability p ∝ exp(log_probs).

        few     w = argmax_w p(w) / E_w                   E independent, exponential with mean 1
        many    g = argmax_g Σ_{w ∈ g} p(w) / E_g         first of √n groups of neighbours,
                w = argmax_{w ∈ g} p(w) / E_w             then of the √n symbols in it

    A race: the time E_w / p(w) at which w arrives is exponential with rate p(w), so w comes first with probability
    p(w). Both ways follow p exactly, since p(w) = p(g) p(w | g); the second needs 2 √n random numbers instead of n,
    which for a vocabulary of words is most of the cost of a tick.
    """
    size = log_probs.shape[-1]
    probs = jnp.exp(log_probs)
    if size <= FEW:
        return highest(probs / noise)
    groups, width = _split(size)
    padding = [(0, 0)] * (probs.ndim - 1) + [(0, groups * width - size)]
    grouped = jnp.pad(probs, padding).reshape(*probs.shape[:-1], groups, width)
    group = highest(grouped.sum(-1) / noise[..., :groups])
    within = jnp.take_along_axis(grouped, group[..., None, None], -2)[..., 0, :]
    return group * width + highest(within / noise[..., groups:])


def _split(size: int) -> tuple[int, int]:
    """Groups and their width, as equal as can be, with room for ``size``."""
    width = math.isqrt(size)
    return -(-size // width), width


def _numbers(size: int) -> int:
    return size if size <= FEW else sum(_split(size))


def _at(symbols: Array, place: Array) -> Array:
    return jnp.take_along_axis(symbols, place[..., None], -1)[..., 0].astype(jnp.int32)

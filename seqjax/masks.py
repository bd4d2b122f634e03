"""Masks, lengths and resets, wrapped into a step before any engine sees it."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, PyTree, is_noise

__all__ = ["first_valid", "from_lengths", "restart", "select", "wrap", "zero"]


def from_lengths(lengths: Array, length: int) -> Array:
    """Lengths ``[*B]`` as a mask ``[length, *B]``: True at the first ``lengths`` ticks.

    >>> from seqjax import masks
    >>> masks.from_lengths(jnp.array([2, 0]), 3).astype(int).tolist()
    [[1, 0], [1, 0], [0, 0]]
    """
    ticks = jnp.arange(length, dtype=jnp.int32).reshape((length,) + (1,) * jnp.ndim(lengths))
    return ticks < jnp.asarray(lengths).astype(jnp.int32)


def given(who: str, mask: Array | None, lengths: Array | None, xs: PyTree) -> Array | None:
    """The mask that a caller gave as a mask, or as lengths, or not at all.

    Args:
      who: is asked, for errors.
      mask: ``[T, *B]`` of bool.
      lengths: ``[*B]`` of integers, in its place.
      xs: a tree of ``[T, *B, ...]``.

    Returns:
      ``[T, *B]``, or None.

    Raises:
      ValueError: both, lengths that do not fit the inputs, or of more ticks than there are.
      TypeError: lengths that are not integers.

    Example:
      >>> given("reader", None, jnp.array([2, 0]), jnp.ones((3, 2))).astype(int).tolist()
      [[1, 0], [1, 0], [0, 0]]
    """
    checks.mask_or_lengths(who, mask, lengths)
    if lengths is None:
        return None if mask is None else jnp.asarray(mask)
    length = checks.length(who, xs)
    lengths = checks.lengths(who, lengths, length)
    for leaf in jax.tree.leaves(xs):
        batch = jnp.shape(leaf)[1 : 1 + lengths.ndim]
        checks.shapes(who, "lengths", lengths.shape, "the batch axes of xs", batch)
    return from_lengths(lengths, length)


def select(mask: Array, on_true: PyTree, on_false: PyTree) -> PyTree:
    """``where(mask, on_true, on_false)`` on every leaf, the mask's axes leading."""

    def leaf(a: Array, b: Array) -> Array:
        if a is b:
            return a
        return jnp.where(mask.reshape(mask.shape + (1,) * (jnp.ndim(a) - mask.ndim)), a, b)

    return jax.tree.map(leaf, on_true, on_false)


def zero(mask: Array, tree: PyTree) -> PyTree:
    """The tree where ``mask`` is True, zeros elsewhere."""
    return select(mask, tree, jax.tree.map(jnp.zeros_like, tree))


def restart(reset: Array, fresh: PyTree, state: PyTree) -> PyTree:
    """The fresh state where ``reset`` is True, by selection so that no NaN survives; `Noise` is left alone."""
    return jax.tree.map(
        lambda new, old: old if is_noise(old) else select(reset, new, old), fresh, state, is_leaf=is_noise
    )


def first_valid(mask: Array, xs: PyTree) -> PyTree:
    """An input that stands in at masked ticks, ``[*B, ...]``: one on which the step is sure to be defined.

    The input of a sequence's first real tick; where a sequence has none, that of the first sequence that has one;
    where nothing at all is real, distinct numbers between 0 and 1 (integers: 0). Zeros would not do: a step that
    divides by the norm of its input has no finite derivative there, and zero times infinity is not zero.
    """
    if not mask.size:  # no sequence, nothing to stand in for
        return jax.tree.map(lambda x: x[0], xs)
    real = mask.any(0)
    tick = jnp.argmax(mask, axis=0)
    lender = real & (jnp.arange(real.size).reshape(real.shape) == jnp.argmax(real))
    batch = tuple(range(real.ndim))

    def leaf(x: Array) -> Array:
        index = tick.reshape((1, *tick.shape) + (1,) * (x.ndim - mask.ndim))
        own = jnp.take_along_axis(x, index, axis=0)[0] if batch else x[tick]
        if not jnp.issubdtype(x.dtype, jnp.number):
            return own
        units = x.shape[mask.ndim :]
        lent = zero(lender, own).sum(batch, dtype=x.dtype)
        if jnp.issubdtype(x.dtype, jnp.inexact):
            size = math.prod(units)
            spread = (jnp.arange(1, size + 1) / (size + 1)).astype(x.dtype).reshape(units)
            lent = jnp.where(real.any(), lent, spread)
        return select(real, own, jnp.broadcast_to(lent, own.shape))

    return jax.lax.stop_gradient(jax.tree.map(leaf, xs))


def wrap(step: Callable, *, masked: bool, resets: bool, reverse: bool) -> Callable:
    """A step that obeys masks and resets: ``((params, fill, fresh), state, (x, mask, reset)) -> (state, y)``.

    At a masked tick the state is held and the output is zero. A reset marks the first tick of a segment, masked or
    not: forwards the state restarts before it, in reverse after it.
    """
    if not masked and not resets:
        return lambda parts, state, tick: step(parts[0], state, tick[0])

    def tick_step(parts: PyTree, state: PyTree, tick: PyTree) -> tuple[PyTree, PyTree]:
        (params, fill, fresh), (x, mask, reset) = parts, tick
        if resets and not reverse:
            state = restart(reset, fresh, state)
        if masked:
            x = select(mask, x, fill)
        new, y = step(params, state, x)
        if masked:
            new, y = select(mask, new, state), zero(mask, y)
        if resets and reverse:
            new = restart(reset, fresh, new)
        return new, y

    return tick_step

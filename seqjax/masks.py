"""Masks, lengths and resets: what they do to sequences, and wrapped into a step before any engine sees it."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, spread
from seqjax.base import Array, PyTree, is_noise

__all__ = ["first_pair", "first_valid", "from_lengths", "given", "hold", "restart", "reverse", "select", "wrap", "zero"]


def from_lengths(lengths: Array, length: int) -> Array:
    """Lengths ``[*B]`` as a mask ``[length, *B]``: True at the first ``lengths`` ticks.

    >>> from seqjax import masks
    >>> masks.from_lengths(jnp.array([2, 0]), 3).astype(int).tolist()
    [[1, 0], [1, 0], [0, 0]]
    """
    ticks = jnp.arange(length, dtype=jnp.int32).reshape((length,) + (1,) * np.ndim(lengths))
    return ticks < jnp.asarray(lengths).astype(jnp.int32)[None]


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
        batch = np.shape(leaf)[1 : 1 + lengths.ndim]
        checks.shapes(who, "lengths", lengths.shape, "the batch axes of xs", batch)
    return from_lengths(lengths, length)


def select(mask: Array, on_true: PyTree, on_false: PyTree) -> PyTree:
    """``where(mask, on_true, on_false)`` on every leaf, the mask's axes leading.

    Example:
      >>> select(jnp.array([True, False]), jnp.ones((2, 3)), jnp.zeros((2, 3))).sum(1).tolist()
      [3.0, 0.0]
    """

    def leaf(a: Array, b: Array) -> Array:
        if a is b:
            return a
        which, a, b = spread.alike(mask.reshape(mask.shape + (1,) * (np.ndim(a) - mask.ndim)), a, b)
        return jnp.where(which, a, b)

    return jax.tree.map(leaf, on_true, on_false)


def zero(mask: Array, tree: PyTree) -> PyTree:
    """The tree where ``mask`` is True, zeros elsewhere.

    Example:
      >>> zero(jnp.array([True, False]), jnp.ones((2, 3))).sum(1).tolist()
      [3.0, 0.0]
    """
    return select(mask, tree, jax.tree.map(jnp.zeros_like, tree))


def restart(reset: Array, fresh: PyTree, state: PyTree) -> PyTree:
    """The fresh state where ``reset`` is True, by selection so that no NaN survives; `Noise` is left alone.

    Example:
      >>> restart(jnp.array([True, False]), jnp.zeros((2, 1)), jnp.array([[jnp.nan], [2.0]])).tolist()
      [[0.0], [2.0]]
    """
    return jax.tree.map(
        lambda new, old: old if is_noise(old) else select(reset, new, old), fresh, state, is_leaf=is_noise
    )


def reverse(xs: PyTree, *, mask: Array | None = None, lengths: Array | None = None) -> PyTree:
    """Each sequence from its last real tick to its first; padding stays where it is.

        y_t = x_{L-1-t} for t < L, x_t behind the end            lengths
        y at the k-th real tick = x at the k-th real tick from the end          mask

    Args:
      xs: a tree of ``[T, *B, ...]``; all of time is turned round without mask and lengths.
      mask: ``[T, *B]``, True at real ticks.
      lengths: ``[*B]``, in place of a mask.

    Returns:
      The same tree; done twice, it is the tree itself.

    Raises:
      ValueError: both a mask and lengths, or one that does not fit.
      TypeError: a mask of another type than bool, lengths that are not integers.

    Example:
      >>> reverse(jnp.array([[1, 1], [2, 2], [3, 0]]), lengths=jnp.array([3, 2])).T.tolist()
      [[3, 2, 1], [2, 1, 0]]
    """
    mask = checks.ticks("reverse", "mask", given("reverse", mask, lengths, xs), xs)
    if mask is None:
        return jax.tree.map(lambda x: x[::-1], xs)
    order = jnp.argsort(~mask, axis=0, stable=True)  # the k-th real tick
    last = mask.sum(0, keepdims=True, dtype=order.dtype) - 1
    rank = jnp.cumsum(mask, 0, dtype=order.dtype) - 1
    tick = jnp.arange(mask.shape[0], dtype=order.dtype).reshape(-1, *[1] * (mask.ndim - 1))
    source = jnp.where(mask, jnp.take_along_axis(order, jnp.where(mask, last - rank, 0), 0), tick)
    return jax.tree.map(lambda x: _at_ticks(x, source), xs)


def hold(mask: Array, ys: PyTree, before: PyTree = None, *, reset: Array | None = None) -> PyTree:
    """Outputs that stand still where the mask is False: those of the last real tick, in place of zero.

        y'_t = y_s      s the last real tick up to t, in the segment of t

    Args:
      mask: ``[T, *B]``, True at real ticks.
      ys: a tree of ``[T, *B, ...]``.
      before: what stands before the first real tick, ``[*B, ...]``: the last tick of what was held in the chunk
        before; zeros if None.
      reset: ``[T, *B]``, True at the first tick of a segment, which begins with zeros.

    Returns:
      A tree like ``ys``.

    Raises:
      TypeError: a mask or reset of another type than bool.
      ValueError: a mask, reset or ``before`` of another shape.

    Example:
      >>> mask = jnp.array([False, True, False, False, True])
      >>> held = hold(mask, jnp.array([0, 5, 0, 0, 7]), jnp.array(3))
      >>> held.tolist()
      [3, 5, 5, 5, 7]
      >>> hold(jnp.array([False, True]), jnp.array([0, 8]), held[-1]).tolist()
      [7, 8]
    """
    mask, reset = checks.ticks("hold", "mask", mask, ys), checks.ticks("hold", "reset", reset, ys)
    tick = jnp.arange(mask.shape[0]).reshape(-1, *[1] * (mask.ndim - 1))
    last = jax.lax.cummax(jnp.where(mask, tick, -1), axis=0)
    begun = jnp.full_like(last, -1) if reset is None else jax.lax.cummax(jnp.where(reset, tick, -1), axis=0)

    ys = jax.tree.map(jnp.asarray, ys)

    def leaf(y: Array, old: Array) -> Array:
        old = jnp.asarray(old).astype(y.dtype)
        checks.shapes("hold", "before", old.shape, "a tick of ys", y.shape[1:])
        start = select(begun < 0, jnp.broadcast_to(old[None], y.shape), jnp.zeros_like(y))
        return select((last >= 0) & (last >= begun), _at_ticks(y, jnp.maximum(last, 0)), start)

    return jax.tree.map(leaf, ys, jax.tree.map(lambda y: jnp.zeros_like(y[0]), ys) if before is None else before)


def _at_ticks(x: Array, ticks: Array) -> Array:
    """``x [T, *B, ...]`` at each sequence's own ``ticks [T, *B]``."""
    return jnp.take_along_axis(x, ticks.reshape(ticks.shape + (1,) * (np.ndim(x) - ticks.ndim)), 0)


def first_valid(mask: Array, xs: PyTree) -> PyTree:
    """An input that stands in at masked ticks, ``[*B, ...]``: one on which the step is sure to be defined.

    The input of a sequence's first real tick; where a sequence has none, that of the first sequence that has one;
    where nothing at all is real, distinct numbers between 0 and 1 (integers: 0). Zeros would not do: a step that
    divides by the norm of its input has no finite derivative there, and zero times infinity is not zero.

    Example:
      >>> mask = jnp.array([[False, True], [True, True]])
      >>> first_valid(mask, jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
      [3.0, 2.0]
    """
    return _first_inputs(mask, jnp.argmax(mask, axis=0), xs)


def first_pair(
    mask: Array, xs: PyTree, state: PyTree, *, reset: Array | None = None, fresh: PyTree = None, reverse: bool = False
) -> tuple[PyTree, PyTree]:
    """An input and a state that stand in at masked ticks: the pair that a sequence's first real tick is run on.

    A step may be defined, or have a derivative, for some pairs only: the state that is held and an input of another
    tick are a pair that never occurs. Where a sequence has no real tick, the pair of the first one that has is lent.

    Args:
      mask: ``[T, *B]``, True at real ticks.
      xs: ``[T, *B, ...]``.
      state: before the first tick, ``[*B, ...]``.
      reset: ``[T, *B]``, or None.
      fresh: the state that a reset makes.
      reverse: whether time runs backwards, so that the last real tick comes first.

    Example:
      >>> x, state = first_pair(jnp.array([False, True]), jnp.array([1.0, 3.0]), jnp.array(5.0))
      >>> float(x), float(state)
      (3.0, 5.0)
    """
    length = mask.shape[0]
    tick = jnp.argmax(mask[::-1] if reverse else mask, axis=0)
    tick = length - 1 - tick if reverse else tick
    if reset is not None:
        ticks = jnp.arange(length).reshape((length,) + (1,) * tick.ndim)
        # Forwards a reset restarts before its tick is run, in reverse after it.
        begun = reset & (ticks > tick[None] if reverse else ticks <= tick[None])
        state = restart(begun.any(0), fresh, state)
    lent = jax.tree.map(lambda s: _lent(mask.any(0), s), state)
    return _first_inputs(mask, tick, xs), jax.lax.stop_gradient(lent)


def _first_inputs(mask: Array, tick: Array, xs: PyTree) -> PyTree:
    """The inputs at each sequence's ``tick``; where it is not real, others that a step may be defined on."""
    real = mask.any(0)

    def leaf(x: Array) -> Array:
        x = spread.whole(jnp.asarray(x), 0)  # in a dtype that JAX has: NumPy's int64 may be wider
        index = tick.reshape((1, *tick.shape) + (1,) * (x.ndim - mask.ndim))
        own = jnp.take_along_axis(x, index, axis=0)[0] if tick.ndim else x[tick]
        if jnp.issubdtype(x.dtype, jnp.inexact):
            units = x.shape[mask.ndim :]
            size = math.prod(units)
            numbers = (jnp.arange(1, size + 1) / (size + 1)).astype(x.dtype).reshape(units)
            own = jnp.where(real.any(), own, numbers)
        elif jnp.issubdtype(x.dtype, jnp.number):
            own = jnp.where(real.any(), own, jnp.zeros_like(own))
        return _lent(real, own)

    return jax.lax.stop_gradient(jax.tree.map(leaf, xs))


def _lent(real: Array, own: Array) -> Array:
    """``own [*B, ...]`` where a sequence is real; elsewhere that of the first one that is, if there is one."""
    own = jnp.asarray(own)
    if not real.ndim or not real.size or not jnp.issubdtype(own.dtype, jnp.number):
        return own
    lender = real & (jnp.arange(real.size).reshape(real.shape) == jnp.argmax(real))
    lent = zero(lender, own).sum(tuple(range(real.ndim)), dtype=own.dtype)
    return select(real | ~real.any(), own, jnp.broadcast_to(lent, own.shape, out_sharding=spread.sharding_of(own)))


def wrap(step: Callable, *, masked: bool, resets: bool, reverse: bool) -> Callable:
    """A step that obeys masks and resets: ``((params, pair, fresh), state, (x, mask, reset)) -> (state, y)``.

    At a masked tick the state is held and the output is zero; the step is run on the pair of `first_pair`, and what it
    returns is thrown away. A reset marks the first tick of a segment, masked or not: forwards the state restarts before
    it, in reverse after it.

    Example:
      >>> add = wrap(lambda params, h, x: (h + params * x, h), masked=True, resets=False, reverse=False)
      >>> pair = (jnp.array(3.0), jnp.array(5.0))
      >>> state, y = add((jnp.array(2.0), pair, None), jnp.array(5.0), (jnp.array(1.0), jnp.array(False), None))
      >>> float(state), float(y)
      (5.0, 0.0)
    """
    if not masked and not resets:
        return lambda parts, state, tick: step(parts[0], state, tick[0])

    def tick_step(parts: PyTree, state: PyTree, tick: PyTree) -> tuple[PyTree, PyTree]:
        (params, pair, fresh), (x, mask, reset) = parts, tick
        if resets and not reverse:
            state = restart(reset, fresh, state)
        before = state
        if masked:
            # `Noise` is left alone: drawn once a sequence, it must not come to depend on the tick.
            x, before = select(mask, x, pair[0]), restart(~mask, pair[1], state)
        new, y = step(params, before, x)
        if masked:
            _check_outputs(mask, y)
            new, y = select(mask, new, state), zero(mask, y)
        if resets and reverse:
            new = restart(reset, fresh, new)
        return new, y

    return tick_step


def _check_outputs(mask: Array, y: PyTree) -> None:
    """Outputs have the mask's batch axes: a mask selects among them, it makes no axes."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(y)[0]:
        if np.shape(leaf)[: mask.ndim] != mask.shape:
            raise ValueError(
                f"unroll: expected outputs with the mask's batch axes {mask.shape}, got shape {np.shape(leaf)} at "
                f"y{jax.tree_util.keystr(path)}. Sum over the batch behind unroll, or leave the mask out."
            )

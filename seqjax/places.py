"""Where a device's share of a batch stands in the whole, so that what is drawn does not depend on who draws it."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax

_AXIS: contextvars.ContextVar[str | None] = contextvars.ContextVar("axis", default=None)


@contextlib.contextmanager
def shared(axis: str) -> Iterator[None]:
    """While it lasts, the first batch axis is this device's part of one that is cut along an axis of a mesh.

    For what is traced inside `jax.shard_map`.
    """
    token = _AXIS.set(axis)
    try:
        yield
    finally:
        _AXIS.reset(token)


def drawn(draw: Callable[[tuple[int, ...]], Any], batch_shape: tuple[int, ...]) -> Any:
    """``draw(batch_shape)`` of leaves ``[*B, ...]``; where a batch is shared, this device's part of the whole's.

    Every device draws for the whole batch, so that this is for what is small, such as a key an example.

    >>> drawn(lambda shape: jax.random.split(jax.random.key(0), shape), (3, 2)).shape
    (3, 2)
    """
    axis = _AXIS.get()
    if axis is None or not batch_shape:
        return draw(batch_shape)
    size, *rest = batch_shape
    token = _AXIS.set(None)
    try:
        whole = draw((size * jax.lax.axis_size(axis), *rest))
    finally:
        _AXIS.reset(token)
    first = jax.lax.axis_index(axis) * size
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size), whole)


def total(tree: Any) -> Any:
    """Sums over this device's part of a batch as sums over the whole; what they are where no batch is shared.

    >>> total(jax.numpy.ones(2)).tolist()
    [1.0, 1.0]
    """
    axis = _AXIS.get()
    return tree if axis is None else jax.lax.psum(tree, axis)

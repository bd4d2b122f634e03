"""Memory that a program may still read, or take for its results, after the call that started it has returned."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import PyTree

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def owned(tree: PyTree) -> PyTree:
    """The tree with its NumPy arrays copied, for a program that runs behind the caller's back.

    JAX returns before a program has run, and on a CPU the program reads a NumPy array where it lies: a loader that
    fills one buffer anew for every batch would change the batch of an update under way. `jnp.asarray`, `jnp.array` and
    `jax.device_put` may hand on the same memory; a copy by NumPy is done when it returns.

    Args:
      tree: any tree; arrays of JAX, tracers and scalars are passed on as they are.

    Returns:
      The same tree.

    Example:
      >>> import numpy as np
      >>> buffer = np.zeros(2)
      >>> batch = owned({"xs": buffer})
      >>> buffer += 1
      >>> batch["xs"].tolist()
      [0.0, 0.0]
    """
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, tree)


def owning(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function with its arguments `owned`: for the doors to what JAX runs behind the caller's back."""

    @functools.wraps(function)
    def door(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        args, kwargs = owned((args, kwargs))
        return function(*args, **kwargs)

    return door


def apart(donated: PyTree, *others: PyTree) -> tuple:
    """The trees with no array in two places, as far as its memory is given away: the second one is a copy.

    An optimizer that keeps the parameters, or a learned initial state that is also the state to start from, would
    else be memory that a program is given twice, or is to read and to write at once.

    Args:
      donated: the tree whose memory is given away.
      *others: the program's other arguments.

    Returns:
      ``(donated, *others)``.
    """
    taken: set[int] = set()

    def own(leaf: PyTree) -> PyTree:
        place = _place(leaf)
        if place in taken:
            return jnp.copy(leaf)
        if place is not None:
            taken.add(place)
        return leaf

    donated = jax.tree.map(own, donated)
    return donated, *(jax.tree.map(lambda leaf: jnp.copy(leaf) if _place(leaf) in taken else leaf, o) for o in others)


def _place(leaf: PyTree) -> int | None:
    """Where an array's numbers lie; of one that is spread or gone, which array it is; None for all else."""
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer) or not leaf.size:
        return None
    try:
        return leaf.unsafe_buffer_pointer()
    except (AttributeError, ValueError, RuntimeError):
        return id(leaf)

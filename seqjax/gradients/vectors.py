"""The float leaves of a state as one vector, and vectors pushed through a step."""

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.base import Array, PyTree
from seqjax.gradients.backward import change_floats, floats


def state_size(state: PyTree, batch_axes: int) -> int:
    """n, the floats in one example's state."""
    return sum(math.prod(leaf.shape[batch_axes:]) for leaf in floats(state))


def split(vectors: Array, leaves: list) -> list:
    """``[k, *B, n]`` as k tangents of the leaves, ``[k, *leaf]`` each."""
    batch_axes = vectors.ndim - 2
    sizes = [math.prod(leaf.shape[batch_axes:]) for leaf in leaves]
    pieces = jnp.split(vectors, list(itertools.accumulate(sizes))[:-1], axis=-1)
    return [piece.reshape(len(vectors), *leaf.shape).astype(leaf.dtype) for piece, leaf in zip(pieces, leaves)]


def join(tangents: list, batch_axes: int) -> Array:
    """k tangents of the leaves as ``[k, *B, n]``."""
    rows = [t.reshape(*t.shape[: batch_axes + 1], math.prod(t.shape[batch_axes + 1 :])) for t in tangents]
    return jnp.concatenate([row.astype(jnp.result_type(*rows)) for row in rows], -1)


def push(step: Callable[[PyTree], PyTree], state: PyTree, columns: Array) -> tuple[PyTree, Array]:
    """``step(state)`` and J Q, with J = d step(state) / d state and the k columns of Q ``[*B, n, k]``."""

    def move(leaves: list) -> tuple[list, PyTree]:
        new = step(change_floats(lambda _: leaves, state))
        return floats(new), new

    leaves = floats(state)
    _, linear, new = jax.linearize(move, leaves, has_aux=True)
    tangents = jax.vmap(linear)(split(jnp.moveaxis(columns, -1, 0), leaves))
    return new, jnp.moveaxis(join(tangents, columns.ndim - 2), 0, -1)

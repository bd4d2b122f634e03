"""An update that is left out because its numbers are not finite: what is kept in its place."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from seqjax.base import Array, PyTree

NonFinite = Literal["skip", "keep"]


def made_if(finite: Array, make: Callable[[], PyTree], old: PyTree, what: str) -> PyTree:
    """What ``make`` makes where ``finite``, else ``old``: a branch, so that neither is copied.

    A choice number by number would read the old values again, and where their memory is given to the new ones copy
    them: with Adam it took twice the time of the update.

    Args:
      finite: a flag.
      make: ``() -> tree``.
      old: one with as many leaves, of the same shapes.
      what: its name, for errors.

    Raises:
      ValueError: of which one can't stand in the place of the other.
    """
    kept = _like(jax.eval_shape(make), old, what)
    return jax.lax.cond(finite, make, lambda: kept)


def chosen(finite: Array, new: PyTree, old: PyTree, what: str) -> PyTree:
    """``new`` where ``finite``, else ``old``, as `made_if` has it, number by number: for what is small."""
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, _like(new, old, what))


def _like(new: PyTree, old: PyTree, what: str) -> PyTree:
    """The old leaves in the tree and the types of the new ones."""
    leaves, tree = jax.tree.flatten(new)
    before = jax.tree.leaves(old)
    if len(leaves) != len(before):
        raise _unlike(what, str(jax.tree.structure(old)), str(tree))
    for after, leaf in zip(leaves, before):
        if after.shape != leaf.shape:
            raise _unlike(what, f"of shape {leaf.shape}", f"{after.shape}")
    return tree.unflatten(b if b.dtype == a.dtype else b.astype(a.dtype) for a, b in zip(leaves, before))


def _unlike(what: str, expected: str, got: str) -> ValueError:
    return ValueError(
        f"train_step: expected {what} to come back as it went in, {expected}, got {got}: an update that is skipped "
        f'leaves it as it was. Return one alike, or make the step with nonfinite="keep".'
    )

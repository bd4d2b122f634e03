"""An update that is left out because its numbers are not finite: what is kept in its place."""

from typing import Literal

import jax
import jax.numpy as jnp

from seqjax.base import Array, PyTree

NonFinite = Literal["skip", "keep"]


def kept_unless(finite: Array, new: PyTree, old: PyTree, what: str) -> PyTree:
    """``new`` where ``finite``, else ``old``: a choice number by number, which fuses with what makes ``new``.

    Args:
      finite: a flag.
      new: a tree of arrays.
      old: one with as many, of the same shapes.
      what: its name, for errors.

    Raises:
      ValueError: trees or shapes that differ, of which one can't stand in the place of the other.
    """
    leaves, tree = jax.tree.flatten(new)
    before = jax.tree.leaves(old)
    if len(leaves) != len(before):
        raise _unlike(what, str(jax.tree.structure(old)), str(tree))

    def leaf(new: Array, old: Array) -> Array:
        if new.shape != old.shape:
            raise _unlike(what, f"of shape {old.shape}", f"{new.shape}")
        return jnp.where(finite, new, old if old.dtype == new.dtype else old.astype(new.dtype))

    return tree.unflatten(map(leaf, leaves, before))


def _unlike(what: str, expected: str, got: str) -> ValueError:
    return ValueError(
        f"train_step: expected {what} to come back as it went in, {expected}, got {got}: an update that is skipped "
        f'leaves it as it was. Return one alike, or make the step with nonfinite="keep".'
    )

"""The identity with another backward pass: what clipping inside time and watching gradients are made of."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.base import Array, PyTree, is_noise
from seqjax.products import accumulator

Rule = Callable[[list], tuple[list, Array | None]]


def identity(rule: Rule, leaves: list, z: Array | None = None) -> list:
    """``leaves`` as they are; backwards ``leaves̄, z̄ = rule(leaves̄)``.

    The argument z is not used forwards. Its "gradient" is whatever the rule reports, which is how statistics leave
    a backward pass: one z a tick goes in with the inputs, one report a tick comes out. The rule may be anything;
    forward-mode differentiation does not see it and is refused by JAX.
    """

    @jax.custom_vjp
    def same(leaves: list, z: Array | None) -> list:
        return leaves

    same.defvjp(lambda leaves, z: (leaves, None), lambda _, bars: rule(bars))
    return same(leaves, z)


def change_floats(change: Callable[[list], list], tree: PyTree) -> PyTree:
    """``change`` applied to the list of float leaves; counters, keys and `Noise` stay."""
    leaves, structure = jax.tree.flatten(tree, is_leaf=is_noise)
    moved = iter(change([leaf for leaf in leaves if _is_float(leaf)]))
    return structure.unflatten([next(moved) if _is_float(leaf) else leaf for leaf in leaves])


def floats(tree: PyTree) -> list:
    """The leaves that have a gradient."""
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_noise) if _is_float(leaf)]


def norm(leaves: list, batch_axes: int) -> Array:
    """‖·‖₂ over all leaves and all axes but the first ``batch_axes``: ``[*B]``.

    Scaled by the largest entry, for the square of 1e-25 or 1e25 is no float32.
    """
    flat = [_rows(leaf, batch_axes) for leaf in leaves]
    largest = jnp.stack([jnp.abs(leaf).max(-1) for leaf in flat]).max(0)
    usual = (largest > 0) & (largest < jnp.inf)
    unit = jnp.where(usual, largest, 1)
    square = jnp.stack([((leaf / unit[..., None]) ** 2).sum(-1) for leaf in flat]).sum(0)
    return jnp.where(usual, unit * jnp.sqrt(square), largest)


def largest(leaves: list, batch_axes: int) -> Array:
    """The largest modulus over all leaves and all axes but the first ``batch_axes``: ``[*B]``."""
    return jnp.stack([jnp.abs(_rows(leaf, batch_axes)).max(-1) for leaf in leaves]).max(0)


def scale(factor: Array, leaf: Array) -> Array:
    """``factor · leaf``, one factor an example."""
    return leaf * factor.reshape(factor.shape + (1,) * (leaf.ndim - factor.ndim)).astype(leaf.dtype)


def _rows(leaf: Array, batch_axes: int) -> Array:
    wide = leaf.astype(accumulator(leaf.dtype))
    return wide.reshape(*leaf.shape[:batch_axes], math.prod(leaf.shape[batch_axes:]))


def _is_float(leaf: PyTree) -> bool:
    return not is_noise(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)

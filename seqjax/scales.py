"""States that are a value and its scale.

Some cells keep c, n, … divided by exp(m), so that neither overflows (`seqjax.slstm`). Such leaves mean nothing one by
one: whoever mixes two states mixes c exp(m), not c. A state record says which leaf is whose scale, and which are
weights (sums of positive numbers that others are divided by):

    class SLSTMState(NamedTuple):
        h: Array
        c: Array
        n: Array
        m: Array

        @property
        def scales(self):
            return {"m": ("c", "n")}

        @property
        def weights(self):
            return ("n",)

One scale may be that of a whole vector or matrix, whose leading axes are its own (`seqjax.cells.mlstm`).
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.base import Array, PyTree


def is_scaled(node: PyTree) -> bool:
    """Whether a node of a state has leaves that share a scale; pass it as ``is_leaf`` to `jax.tree.map`."""
    return isinstance(node, tuple) and isinstance(getattr(node, "scales", None), dict)


def begun(node: Any) -> Any:
    """A record as it is after one tick of weight one that left nothing behind: its weights 1, its scales 0.

    What a learned or random state is added to: where nothing has been kept (c = n = 0, m = -∞), nothing can be added.
    """
    ones = {name: jnp.ones_like(getattr(node, name)) for name in node.weights}
    return node._replace(**{m: jnp.zeros_like(getattr(node, m)) for m in node.scales}, **ones)


def mixed(rate: float, old: Any, new: Any, m: str) -> dict[str, Array]:
    """``rate · old + (1 - rate) · new`` of the values whose scale is ``m``, by name, with the scale of the sum."""
    names = new.scales[m]
    if rate == 0:
        return {name: getattr(new, name) for name in (m, *names)}
    before, after = getattr(old, m), getattr(new, m)
    both = jnp.maximum(before, after)
    shift = jnp.where(jnp.isneginf(both), jnp.zeros_like(both), both)  # nothing kept yet on either side
    a, b = rate * jnp.exp(before - shift), (1 - rate) * jnp.exp(after - shift)
    each = {name: (getattr(old, name), getattr(new, name)) for name in names}
    return {name: over(a, c) * c + over(b, d) * d for name, (c, d) in each.items()} | {m: both}


def chosen(hold: Array, old: Any, new: Any, m: str) -> dict[str, Array]:
    """Where ``hold``, the old values and their scale ``m``, else the new ones."""
    names = (m, *new.scales[m])
    return {name: jnp.where(over(hold, getattr(new, name)), getattr(old, name), getattr(new, name)) for name in names}


def over(scale: Array, value: Array) -> Array:
    """A scale ``[*B]`` beside the value ``[*B, ...]`` it belongs to: one for a vector, or for a matrix."""
    return jax.lax.expand_dims(scale, range(scale.ndim, value.ndim))

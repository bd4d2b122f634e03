"""Time over devices: each runs a stretch of a linear recurrence, and the state before it comes from one exchange.

A stretch as a whole is linear in the state before it too, ``h_T = P h_0 + e``. Every device finds P and e of its own
stretch, all are exchanged, and each device takes the first state through the stretches before its own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from seqjax import spread


class Summary(Protocol):
    """A stretch of time as one step: a tree of arrays that knows what it does to a state."""

    def after(self, state: Sequence[jax.Array]) -> list[jax.Array]:
        """The leaves of the state behind the stretch, of those before it."""


class Devices(NamedTuple):
    """Those along one axis of an enclosing `jax.shard_map`, in the order of time.

    Attributes:
      axis: its name.
      size: how many.
      mine: which this one is, as a traced number.
    """

    axis: str
    size: int
    mine: jax.Array

    @classmethod
    def along(cls, axis: str, *, reverse: bool) -> "Devices":
        """Looks the axis up.

        Raises:
          ValueError: there is no such axis.
        """
        try:
            count, mine = lax.axis_size(axis), lax.axis_index(axis)
        except NameError as error:
            raise ValueError(
                f"unroll: expected time_axis to name an axis of an enclosing jax.shard_map, got {axis!r}. "
                "Call unroll inside jax.shard_map over a mesh with that axis."
            ) from error
        return cls(axis, count, count - 1 - mine if reverse else mine)

    def varied(self, x: jax.Array) -> jax.Array:
        """A value that is the same on all devices, as one that need not be."""
        missing = self.axis not in spread.varying_axes(jax.typeof(x))
        return lax.pcast(x, self.axis, to="varying") if missing and spread.varying_axes(jax.typeof(self.mine)) else x

    def exchanged(self, tree: Any) -> Any:
        """Everybody's tree, ``[devices, ...]`` in the order of time, the same on all."""

        def leaf(x: jax.Array) -> jax.Array:
            bits = x.astype(jnp.int32) if x.dtype == bool else x
            place = (jnp.arange(self.size, dtype=self.mine.dtype) == self.mine).reshape(-1, *(1,) * x.ndim)
            return lax.psum(jnp.where(place, bits[None], 0), self.axis).astype(x.dtype)

        return jax.tree.map(leaf, tree)

    def states(self, summary: Summary, state: list[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """The state before this device's stretch, and that behind the last one's."""
        everybody = self.exchanged(summary)
        first = state
        for device in range(self.size):
            first = [jnp.where(self.mine == device, leaf, old) for leaf, old in zip(state, first)]
            state = jax.tree.map(lambda x, device=device: x[device], everybody).after(state)
        return first, state

    def delayed(self, state: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of a leaf that is the value of the tick before: this stretch's first, and the last of all."""
        everybody = self.exchanged(last)
        before = lax.concatenate([state[None].astype(last.dtype), everybody[:-1]], 0)
        return lax.dynamic_index_in_dim(before, self.mine, 0, keepdims=False), everybody[-1]

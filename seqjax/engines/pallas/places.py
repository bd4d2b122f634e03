"""How arrays lie in a TPU's memory: what a tile of the batch has of each, of which type, and its bytes."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from seqjax import symbolic
from seqjax.engines.equations.jaxprs import Aval
from seqjax.spread import is_explicit, varying_axes


class Place(NamedTuple):
    """How an array lies in memory, where it has two axes at least and no booleans.

    Attributes:
      shape: of the whole.
      block: of the part that a tile of the batch has.
      axis: along which tiles lie; None where each has the whole.
      dtype: in memory.
      value: the type of the part in the tick.
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    axis: int | None
    dtype: np.dtype
    value: jax.ShapeDtypeStruct

    @property
    def bytes(self) -> int:
        """Of a block, in whole registers: 8 × 128 numbers of four bytes, 16 × 128 of two."""
        *lead, rows, columns = self.block
        sublanes = self.sublanes
        return math.prod(lead) * -(-rows // sublanes) * sublanes * -(-columns // 128) * 128 * self.dtype.itemsize

    @property
    def sublanes(self) -> int:
        """Rows of a register."""
        return 8 * max(1, 4 // self.dtype.itemsize)

    def spec(self, ticks: int | None = None, at: Callable = lambda step: step, **options: Any) -> pl.BlockSpec:
        """The block of a tile, the same at every tick or of some ticks."""
        lead, where = ((ticks,), lambda step: (at(step),)) if ticks else ((), lambda step: ())
        of_tile = lambda tile: tuple(tile if i == self.axis else np.int32(0) for i in range(len(self.block)))
        return pl.BlockSpec((*lead, *self.block), lambda tile, step: (*where(step), *of_tile(tile)), **options)

    def out(self, *ticks: int) -> jax.ShapeDtypeStruct:
        """The whole in memory, or as many of it as there are ticks."""
        return jax.ShapeDtypeStruct((*ticks, *self.shape), self.dtype)

    def load(self, ref: Any, *at: Any) -> jax.Array:
        """The value in the tick."""
        value = ref[at or ...].reshape(self.value.shape)
        return value != np.int32(0) if self.value.dtype == jnp.bool_ else value

    def store(self, ref: Any, value: jax.Array, *at: Any) -> None:
        """The value into memory."""
        ref[at or ...] = value.astype(self.dtype).reshape(self.block)


def no_numbers(aval: Aval) -> str | None:
    """Why a kernel cannot have an array of this type."""
    if not isinstance(aval.dtype, np.dtype) or jnp.issubdtype(aval.dtype, jnp.complexfloating):
        return f"{aval.str_short()} is no real number"
    if not symbolic.known(*aval.shape) or 0 in aval.shape:
        return f"{aval.str_short()} has a size that is zero or no number"
    if varying_axes(aval) or is_explicit(aval):
        return f"{aval.str_short()} is spread over a mesh, which kernels cannot track"
    return None


def bytes_of(places: Iterable[Place]) -> int:
    """Of all of them."""
    return sum(place.bytes for place in places)

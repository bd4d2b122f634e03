"""A sum and a count, and what all losses ask of their arguments."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array
from seqjax.products import accumulator


class Tally(NamedTuple):
    """What a loss returns: the sum over real ticks and their number.

    Tallies of chunks, windows or devices add up, with ``+`` or ``sum``; ``mean`` of the total is the mean of the
    whole.

    >>> sum([Tally(jnp.array(6.0), jnp.array(4)), Tally(jnp.array(1.0), jnp.array(3))]).mean.item()
    1.0
    """

    sum: Array
    count: Array  # type: ignore[assignment]

    def __add__(self, other: Any) -> "Tally":
        """Sums and counts added, not tuples joined; 0 adds nothing, so that ``sum(tallies)`` works."""
        if isinstance(other, int) and other == 0:
            return self
        checks.instance("Tally", other, Tally, "Add tallies only, with + or sum(tallies).")
        return Tally(self.sum + other.sum, self.count + other.count)

    def __radd__(self, other: Any) -> "Tally":
        """For `sum`, which begins with 0."""
        return self + other

    @property
    def mean(self) -> Array:
        """The sum over the count; zero where nothing was counted."""
        return self.sum / jnp.maximum(self.count, 1).astype(self.sum.dtype)


def tally(losses: Array, mask: Array | None = None) -> Tally:
    """Losses of single ticks ``[T, *B]``, summed and counted where ``mask`` is True, everywhere if None.

    The sum is kept in at least float32: in bfloat16 it would stand still after 256 ticks, in float16 overflow.

    >>> tally(jnp.full(4000, 0.5, jnp.bfloat16)).mean.item()
    0.5
    """
    mask = real_ticks("tally", mask, losses)
    if jnp.issubdtype(losses.dtype, jnp.floating):
        losses = losses.astype(accumulator(losses.dtype))
    if mask is None:
        return Tally(losses.sum(), jnp.asarray(losses.size))
    return Tally(jnp.where(mask, losses, 0).sum(), mask.sum())


def real_ticks(who: str, mask: Array | None, ticks: Array, name: str = "mask") -> Array | None:
    """A mask of exactly the shape of ``ticks``, ``[T, *B]``; None passes."""
    mask = checks.ticks(who, name, mask, ticks)
    if mask is not None:
        checks.shapes(who, name, mask.shape, "the ticks", np.shape(ticks))
    return mask


def wide(who: str, x: Array) -> Array:
    """At least float32, so that a sum of many ticks keeps its digits."""
    checks.floats(who, x)
    return jnp.asarray(x).astype(accumulator(jnp.result_type(x)))

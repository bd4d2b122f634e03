"""Sizes that are no numbers: `jax.export` puts a symbol such as ``b`` in the place of an axis of any size."""

import math
from collections.abc import Sequence
from typing import Any

import jax.export

__all__ = ["SYMBOL", "entries", "known"]

# What a symbol counts as where arrays are compared by what they hold: a batch of the usual size.
SYMBOL = 32


def known(*sizes: Any) -> bool:
    """Whether sizes are numbers, none of them a symbol.

    >>> known(3, 4), known(3, *jax.export.symbolic_shape("b"))
    (True, False)
    """
    return not any(map(jax.export.is_symbolic_dim, sizes))


def entries(shape: Sequence[Any]) -> int:
    """How many numbers an array holds; a symbol counts as `SYMBOL`.

    >>> entries((3, 4)), entries(jax.export.symbolic_shape("3, b"))
    (12, 96)
    """
    return math.prod(size if known(size) else SYMBOL for size in shape)

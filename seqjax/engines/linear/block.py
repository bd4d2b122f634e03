"""Where blocks of numbers lie in a state: along one of its axes or a part of one, over several leaves of equal shape.

h [B, 4]                 one block of 4 for each of B
h [B, 8, 2]              blocks of 2, each of B × 8
h [B, 16], in pairs      the same: the axis of 16 is 8 of 2; or 2 of 8 where it is read by halves
x [B, 3], v [B, 3]       blocks of 2 over both leaves, each of B × 3
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
from jax import lax

# What an axis is made of, in order: an axis of the state by its number, or None for numbers of a block; and how many.
Factors = tuple[tuple[int | None, int], ...]

LARGEST = 16


class Block(NamedTuple):
    """A place of blocks.

    Attributes:
      leaves: of the state, how many.
      axis: of the state, along which they lie; None for blocks over leaves only.
      size: along this axis.
      minor: whether they are the inner part of their axis rather than the outer.
      shape: of every leaf.
    """

    leaves: int
    axis: int | None
    size: int
    minor: bool
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Of one block."""
        return self.leaves * self.size

    @property
    def others(self) -> tuple[int, ...]:
        """The state's axes but for those of a block, those that are cut short by it too."""
        short = [n // self.size if i == self.axis else n for i, n in enumerate(self.shape)]
        return tuple(n for i, n in enumerate(short) if i != self.axis or n > 1)

    def factors(self) -> tuple[Factors, ...]:
        """What the axes of a leaf are made of; the axes of `others` are their numbers."""
        made: list[Factors] = []
        place = 0
        for i, n in enumerate(self.shape):
            whole = i == self.axis and n == self.size
            rest = (place, n // self.size if i == self.axis else n)
            pair = [rest, (None, self.size)] if self.minor else [(None, self.size), rest]
            made.append(joined(pair if i == self.axis else [rest]))
            place += not whole
        return tuple(made)

    @property
    def place(self) -> int:
        """Of the axis of blocks among `others`, where it lies in the state, so that nothing need be transposed."""
        whole = self.axis is not None and self.shape[self.axis] == self.size
        return 0 if self.axis is None else self.axis if whole else self.axis + self.minor

    def enter(self, state: Sequence[jax.Array]) -> jax.Array:
        """Blocks of the leaves of a state, ``[*O, n, *O]``."""
        parts = [self._entered(leaf) for leaf in state]
        return lax.concatenate(parts, self.place) if self.leaves > 1 else parts[0]

    def _entered(self, leaf: jax.Array) -> jax.Array:
        if self.axis is None:
            return leaf[None]
        if self.shape[self.axis] == self.size:
            return leaf
        rest = leaf.shape[self.axis] // self.size
        pair = (rest, self.size) if self.minor else (self.size, rest)
        return leaf.reshape(*leaf.shape[: self.axis], *pair, *leaf.shape[self.axis + 1 :])

    def leave(self, blocks: jax.Array) -> list[jax.Array]:
        """The leaves; axes of `others` may be shorter than those of the state."""
        cuts = [(i * self.size, (i + 1) * self.size) for i in range(self.leaves)]
        parts = [lax.slice_in_dim(blocks, *cut, axis=self.place) for cut in cuts] if self.leaves > 1 else [blocks]
        return [self._left(part) for part in parts]

    def _left(self, blocks: jax.Array) -> jax.Array:
        if self.axis is None:
            return blocks[0]
        if self.shape[self.axis] == self.size:
            return blocks
        size = math.prod(blocks.shape[self.axis : self.axis + 2])
        return blocks.reshape(*blocks.shape[: self.axis], size, *blocks.shape[self.axis + 2 :])


def places(leaves: int, shape: tuple[int, ...]) -> Iterator[Block]:
    """Where blocks of at most 16 may lie, small ones first."""
    found = [Block(leaves, None, 1, True, shape)] if leaves > 1 else []
    for axis, n in enumerate(shape):
        for size in range(2, LARGEST // leaves + 1):
            if n % size == 0:
                found += [Block(leaves, axis, size, minor, shape) for minor in ((True, False) if n > size else (True,))]
    return iter(sorted(found, key=lambda block: block.size))


def joined(factors: Sequence[tuple[int | None, int]]) -> Factors:
    """Without factors of one entry; neighbours of a block as one."""
    made: list[tuple[int | None, int]] = []
    for label, n in factors:
        if n == 1:
            continue
        if made and label is None and made[-1][0] is None:
            made[-1] = (None, made[-1][1] * n)
        else:
            made.append((label, n))
    return tuple(made)

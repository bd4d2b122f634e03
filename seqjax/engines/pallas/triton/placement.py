"""How a tick is laid over a device: what runs apart, in what pieces, how much of it stays on a multiprocessor."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from seqjax.engines.base import UnsupportedError
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.pallas.normal_form import canonical
from seqjax.engines.pallas.roles import FEATURE, HEAD, Roles, axes_of
from seqjax.engines.pallas.triton.packing import weight_has_heads
from seqjax.engines.pallas.triton.pieces import NARROWEST, Cuts, Piece, share

RESIDENT = 160 * 2**10  # bytes of weights that one multiprocessor keeps through all of time
STREAMED = 2**20  # bytes of weights that it may read again at every tick


# ``(rows of a tile, warps)`` for measurements; None to choose them by size.
tuning = jax.make_user_context(None)


class Placement(NamedTuple):
    """How a kernel is laid over the device.

    Attributes:
      heads: programs along heads.
      shares: programs among which the units of a head are shared out, and which meet at every tick; None for one alone.
      tiles: programs along the batch.
      rows: examples of a tile.
      weight_bytes: of one head's weights, padded.
      resident: whether they are read once rather than at every tick.
      warps: of 32 threads, that a program has.
    """

    heads: int
    shares: int | None
    tiles: int
    rows: int
    weight_bytes: int
    resident: bool
    warps: int

    def __str__(self) -> str:
        """In words."""
        read = "kept" if self.resident else "read at every tick"
        many, kind = f"{self.heads} × {self.tiles} programs (heads × tiles", "head"
        if self.shares is not None:
            many = f"{self.heads} × {self.shares} × {self.tiles} programs (heads × shares of their units × tiles"
            kind = "share"
        return (
            f"{many} of {self.rows} examples), weights of {self.weight_bytes:,} bytes a {kind} {read}, "
            f"{self.warps} warps"
        )

    @property
    def programs(self) -> int:
        """For one tile: shares of one head side by side."""
        return self.heads * (self.shares or 1)

    def head_and_share(self, program: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of one of these programs."""
        shares = np.int32(self.shares or 1)
        return (program, jnp.int32(0)) if shares == 1 else (lax.div(program, shares), lax.rem(program, shares))


class Layout:
    """A flat tick ``(once, state, x) -> (after, outputs)`` laid out for a kernel, at given types.

    The last ``totals`` outputs are summed over time rather than kept.

    Attributes:
      tick: in few kinds of equations.
      axes: roles of its values' axes.
      cuts: pieces of its values.
      products: its products with weights.
      vectors: invariants that are not weights.
      shares: among how many programs features are shared out; None where one has them all.
      plan: programs, tiles, warps.
    """

    def __init__(self, tick: Callable[[list], list], once: Sequence, state: Sequence, x: Sequence, *, totals: int = 0):
        """Finds axes and pieces.

        Raises:
          UnsupportedError: the tick does not qualify; says why.
        """
        self.tick = canonical(tick, once, state, x)
        for v in [*self.tick.once, *self.tick.state, *self.tick.x]:
            if not isinstance(v.aval.dtype, np.dtype):
                raise UnsupportedError(f"{v.aval.str_short()} is not a number")
        self.axes = axes_of(self.tick)
        self.cuts = Cuts(self.tick, self.axes)
        results = self.tick.results
        n = len(self.tick.state)
        self.after, self.outputs, self.totals = (
            results[:n],
            results[n : len(results) - totals],
            results[len(results) - totals :],
        )
        for v in [*self.after, *self.outputs]:
            if not jaxprs.is_literal(v) and v in self.axes.partial:
                raise UnsupportedError(f"{v.aval.str_short()} sums over the batch at every tick")
        for v in self.totals:
            same = not self.batched(v) and not jaxprs.is_literal(v) and v not in self.axes.partial
            if same and self.axes.batch:
                raise UnsupportedError(f"{v.aval.str_short()} is the same for every tile of the batch")
        self.products = [e for e in self.tick.equations if e.primitive.name == "dot_general"]
        self.vectors = [v for v in self.tick.once if v not in self.axes.weights]
        self.shares = self._shares()
        self.cuts.cut(self.shares)
        self.plan = self._plan()

    def roles(self, v: Var) -> Roles:
        """Axes of a value; those of the batch first where it is one number everywhere."""
        own = None if jaxprs.is_literal(v) else self.axes.roles[v]
        if own is not None:
            return own
        rank, shape = len(self.axes.batch), v.aval.shape
        lead = list(range(rank)) if rank and shape[:rank] == self.axes.batch else []
        return (*lead, *[FEATURE] * (len(shape) - len(lead)))

    def batched(self, v: Var) -> bool:
        """Whether a value has an axis of the batch."""
        return any(role not in (HEAD, FEATURE) for role in self.roles(v))

    def pieces(self, v: Var) -> list[Piece]:
        """Pieces of an output, which may be one number everywhere."""
        if not jaxprs.is_literal(v) and self.axes.roles[v] is not None:
            return self.cuts.pieces[v]
        size = math.prod(s for s, role in zip(v.aval.shape, self.roles(v)) if role == FEATURE)
        if self.shares is not None:
            return [share(0, size, self.shares)]
        return [Piece(0, size, 1 if size == 1 else max(NARROWEST, pl.next_power_of_2(size)))]

    def lanes(self, heads: bool, shares: bool) -> tuple[int, Callable]:
        """How many different ones there are of what is each head's, or each share's; and which is a program's."""
        count = (self.plan.heads if heads else 1) * ((self.plan.shares or 1) if shares else 1)

        def lane(program: jax.Array) -> jax.Array | int:
            head, share = self.plan.head_and_share(program)
            if heads and shares:
                return program
            return head if heads else share if shares else 0

        return count, lane

    def lanes_of(self, v: Var) -> tuple[int, Callable]:
        """The same for a value."""
        return self.lanes(HEAD in self.roles(v), self.shares_of(v) is not None)

    def shares_of(self, v: Var) -> int | None:
        """Among how many programs a value's features are shared out; None if all have the whole."""
        return self.shares if any(p.shared_out for p in self.pieces(v)) else None

    def _shares(self) -> int | None:
        return None

    def _plan(self) -> Placement:
        batch = math.prod(self.axes.batch)
        heads = self.axes.heads or 1
        if not self.axes.batch:
            rows = 1
        elif self.products:
            rows = 16
        else:
            rows = min(128, max(16, pl.next_power_of_2(batch)))
        # Larger tiles where the programs would otherwise not run side by side.
        while self.products and rows < 64 and heads * math.ceil(batch / rows) > 132:
            rows *= 2
        size = self.weight_bytes()
        if size > STREAMED:
            raise UnsupportedError(
                f"its weights take {size:,} bytes a head and {STREAMED:,} is what one multiprocessor can read "
                "at every tick"
            )
        warps = 8 if size > 64 * 2**10 else 4
        if tuning.value is not None:
            rows, warps = tuning.value
        return Placement(heads, None, math.ceil(batch / rows), rows, size, size <= RESIDENT, warps)

    def weight_bytes(self) -> int:
        """Of the weights that one program reads, padded."""
        size = 0
        for e in self.products:
            depth, width = self.sides(e)
            rows = sum(p.padded for pieces in self.cuts.together(depth) for p in pieces)
            columns = sum(p.padded for p in width)
            size += len(self.cuts.groups(e)) * rows * columns * self.weight(e)[0].aval.dtype.itemsize
        return size

    def sides(self, e: Equation) -> tuple[list[Piece], list[Piece]]:
        """Pieces of a product's two sides, the same in all its groups."""
        value, (out,) = self.cuts.value_of(e), e.outvars
        found = set()
        for group in self.cuts.groups(e):
            rows = within(self.cuts.pieces[value], group.source, group.depth)
            columns = within(self.cuts.pieces[out], group.target, group.width)
            found.add((tuple(rows), tuple(columns)))
        if len(found) > 1:
            raise UnsupportedError("heads of one product are cut differently")
        ((above, beside),) = found
        return list(above), list(beside)

    def weight(self, e: Equation) -> tuple[Var, int]:
        """The weight of a product, and on which side it stands."""
        side = 0 if e.invars[0] in self.axes.weights else 1
        return e.invars[side], side

    def own_weight(self, e: Equation) -> bool:
        """Whether each head has a weight of its own for this product."""
        batched = e.params["dimension_numbers"][1][1 - self.weight(e)[1]]
        return weight_has_heads(self.axes.roles[self.cuts.value_of(e)], batched)


def within(pieces: Sequence[Piece], start: int, size: int) -> list[Piece]:
    """The pieces of a stretch, counted from its start."""
    return [p._replace(start=p.start - start) for p in pieces if 0 <= p.start - start < size]

"""A tick evaluated on pieces: what runs inside a kernel, in operations that Triton knows.

A value is a list of arrays, one for each of its pieces, of ``[rows, columns]``: rows are the examples of the kernel's
tile, or one row for all; columns are the piece's features, padded, or one column for all. Columns behind a piece's
width hold anything: sums and products leave them out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.pallas.normal_form import Canonical
from seqjax.engines.pallas.roles import MOVING, POINTWISE
from seqjax.engines.pallas.triton.moves import Stretch, contiguous, runs_of
from seqjax.engines.pallas.triton.pieces import Cuts, Piece, chunks_of

Value = list[jax.Array]
# The tile of a product's weight, by group, first row and first column.
Tile = Callable[[Equation, int, int, int], jax.Array]
# A piece ``[rows, columns]`` of every program's, side by side, as `cuts.chunks_of` cuts it.
Gather = Callable[[jax.Array], Value]

EXACT = {"select_n", "convert_element_type", "not", "and", "or", "xor", "eq", "ne", "lt", "le", "gt", "ge"}
COMBINE: dict[str, Callable] = {"reduce_sum": jnp.add, "reduce_max": jnp.maximum, "reduce_min": jnp.minimum}
REDUCE: dict[str, Callable] = {"reduce_sum": jnp.sum, "reduce_max": jnp.max, "reduce_min": jnp.min}


class Blocks:
    """Runs a tick's equations on one tile of the batch.

    Attributes:
      cuts: the pieces.
      rows: examples of a tile.
      real: ``[rows, 1]`` of bool, False for rows that only fill the tile; None where none do.
      tile: loads a tile of a weight.
      gather: fetches a piece from all programs that share the features; None where one has them all.
    """

    def __init__(self, cuts: Cuts, rows: int, real: jax.Array | None, tile: Tile, gather: Gather | None = None):
        """Keeps what every equation needs."""
        self.cuts, self.rows, self.real, self.tile, self.gather = cuts, rows, real, tile, gather
        self.tick: Canonical = cuts.tick
        self.values: dict[Var, Value] = {}
        self.fetched: dict[tuple[Var, int, Any], Value] = {}

    def run(self, given: dict[Var, Value]) -> list[Value]:
        """The results of a tick from the values it reads."""
        self.values, self.fetched = dict(given), {}
        for e in self.tick.equations:
            name = e.primitive.name
            if name in POINTWISE:
                out = [self._pointwise(e)]
            elif name in MOVING:
                out = [self._moved(e, runs, self.cuts.pieces[v]) for v, runs in zip(e.outvars, self.cuts.moves(e))]
            elif name == "dot_general":
                out = [self._product(e)]
            else:
                out = [self._reduced(e)]
            self.values.update(zip(e.outvars, out))
        return [self._read(v) for v in self.tick.results]

    def _read(self, v: Var) -> Value:
        if not jaxprs.is_literal(v):
            return self.values[v]
        return [jnp.full((1, 1), v.val, v.aval.dtype)]

    def _pieces(self, v: Var) -> list[Piece]:
        return [Piece(0, 1, 1)] if jaxprs.is_literal(v) else self.cuts.pieces[v]

    def _pointwise(self, e: Equation) -> Value:
        (out,) = e.outvars
        operands = [
            [self._read(v)[0]] * len(self.cuts.pieces[out])
            if jaxprs.is_literal(v)
            else self._moved(e.replace(invars=[v]), self.cuts.spread(v, out), self.cuts.pieces[out])
            for v in e.invars
        ]
        return [pointwise(e, parts) for parts in zip(*operands)]

    def _moved(self, e: Equation, runs: Sequence[Stretch], pieces: Sequence[Piece]) -> Value:
        found = []
        for piece in pieces:
            run = next(r for r in runs if r.start <= piece.start < r.stop)
            if run.operand is None:
                found.append(self._read(e.invars[1])[0])
                continue
            v = e.invars[run.operand]
            where = run.source if run.repeated else run.source + piece.start - run.start
            found.append(self._at(v, where))
        return found

    def _at(self, v: Var, start: int) -> jax.Array:
        value = self._read(v)
        if len(value) == 1:
            return value[0]
        return next(a for a, p in zip(value, self._pieces(v)) if p.start == start)

    def _reduced(self, e: Equation) -> Value:
        """Over features, within pieces or between them; over the tile's rows where the batch is summed."""
        (v,), name = e.invars, e.primitive.name
        sources = self.cuts.reduced(e)
        pieces, value = self.cuts.pieces[v], self._read(v)
        if e.outvars[0] in self.cuts.axes.partial and v not in self.cuts.axes.partial:
            value = [self._over_rows(a, p) for a, p in zip(value, pieces)]
        if sources.shape[1] == 1 or not contiguous(sources):
            columns = [self._moved_value(value, pieces, e.outvars[0], column) for column in sources.T]
            return [_fold(COMBINE[name], parts) for parts in zip(*columns)]
        out = []
        for row in sources:
            inside = [(a, p) for a, p in zip(value, pieces) if row[0] <= p.start <= row[-1]]
            sums = {shared: [self._over_columns(name, a, p) for a, p in inside if self._shared_out(p) is shared]
                    for shared in (True, False)}  # fmt: skip
            if sums[True]:
                sums[True] = self._over_programs(name, _fold(COMBINE[name], sums[True]))
            out.append(_fold(COMBINE[name], [*sums[True], *sums[False]]))
        return out

    def _shared_out(self, piece: Piece) -> bool:
        return self.gather is not None and piece.shared_out

    def _over_programs(self, name: str, a: jax.Array) -> Value:
        """What the programs that share the features found, each over its own, combined."""
        assert self.gather is not None
        assert self.cuts.shares is not None
        return [self._over_columns(name, b, p) for b, p in zip(self.gather(a), chunks_of(1, self.cuts.shares))]

    def _moved_value(self, value: Value, pieces: Sequence[Piece], out: Var, column: np.ndarray) -> Value:
        starts = {p.start: a for a, p in zip(value, pieces)}
        runs = runs_of(column)
        found = []
        for piece in self.cuts.pieces[out]:
            run = next(r for r in runs if r.start <= piece.start < r.stop)
            found.append(starts[run.source if run.repeated else run.source + piece.start - run.start])
        return found

    def _over_rows(self, a: jax.Array, piece: Piece) -> jax.Array:
        whole = jnp.broadcast_to(a, (self.rows, a.shape[1]))
        if self.real is not None:
            whole = jnp.where(self.real, whole, jnp.zeros_like(whole))
        return whole.sum(0, keepdims=True)

    def _over_columns(self, name: str, a: jax.Array, piece: Piece) -> jax.Array:
        whole = jnp.broadcast_to(a, (a.shape[0], piece.padded))
        if piece.padded != piece.width:
            whole = jnp.where(inside(piece), whole, jnp.full_like(whole, neutral(name, whole.dtype)))
        return REDUCE[name](whole, axis=1, keepdims=True)

    def _product(self, e: Equation) -> Value:
        (out,) = e.outvars
        v = self.cuts.value_of(e)
        value, result = self._read(v), []
        for g, group in enumerate(self.cuts.groups(e)):
            own = [(a, p) for a, p in zip(value, self.cuts.pieces[v]) if 0 <= p.start - group.source < group.depth]
            together = self.cuts.together([p._replace(start=p.start - group.source) for _, p in own])
            dtype = self.weight_dtype(e)
            rows = [pair for (a, p), chunks in zip(own, together) for pair in zip(self._whole(v, a, p, dtype), chunks)]
            for target in self.cuts.pieces[out]:
                if not 0 <= target.start - group.target < group.width:
                    continue
                column = target.start - group.target
                # Each tile is read where it is used: read ahead, they would not fit.
                terms = [self._tile_product(e, a, p, target, self.tile(e, g, p.start, column)) for a, p in rows]
                result.append(_fold(jnp.add, terms))
        return result

    def _whole(self, v: Var, a: jax.Array, piece: Piece, dtype: jnp.dtype) -> Value:
        """A piece as a product reads it: every program's share of it, fetched once a tick."""
        if not self._shared_out(piece):
            return [a]
        assert self.gather is not None
        key = (v, piece.start, dtype)
        if key not in self.fetched:
            whole = jnp.broadcast_to(a, (self.rows, piece.padded))
            if piece.padded != piece.width:
                whole = jnp.where(inside(piece), whole, jnp.zeros_like(whole))
            # Narrow before it travels, as it would be at its product.
            self.fetched[key] = self.gather(whole.astype(dtype))
        return self.fetched[key]

    def weight_dtype(self, e: Equation) -> jnp.dtype:
        """Of a product's weight."""
        return next(v for v in e.invars if v in self.cuts.axes.weights).aval.dtype

    def _tile_product(self, e: Equation, a: jax.Array, piece: Piece, target: Piece, tile: jax.Array) -> jax.Array:
        wide = e.outvars[0].aval.dtype
        if piece.padded == 1 or target.padded == 1:
            # A product with a single row or column is pointwise.
            a, tile = a.astype(wide), tile.astype(wide)
            if piece.padded == 1:
                return a * tile
            row = tile.reshape(1, piece.padded)
            return self._over_columns("reduce_sum", a * row, piece)
        whole = jnp.broadcast_to(a, (self.rows, piece.padded))
        if piece.padded != piece.width:
            whole = jnp.where(inside(piece), whole, jnp.zeros_like(whole))
        if self.rows == 1:
            column = whole.reshape(piece.padded, 1)
            return (column.astype(wide) * tile.astype(wide)).sum(0, keepdims=True)
        # Tensor cores take operands of one type: cotangents meet a narrow weight as narrow numbers.
        return lax.dot_general(
            whole.astype(tile.dtype), tile, (((1,), (0,)), ((), ())),
            precision=e.params["precision"], preferred_element_type=wide,
        )  # fmt: skip


def pointwise(e: Equation, operands: Sequence[jax.Array]) -> jax.Array:
    """One equation on arrays that broadcast; narrow floats are computed in float32 and rounded."""
    shape = np.broadcast_shapes(*(a.shape for a in operands))
    operands = [jnp.broadcast_to(a, shape) for a in operands]
    if e.primitive.name == "add_any":
        return operands[0] + operands[1]
    params = dict(e.params)
    if e.primitive.name == "convert_element_type":
        return operands[0].astype(params["new_dtype"])
    dtype = e.outvars[0].aval.dtype
    narrow = e.primitive.name not in EXACT and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    if narrow:
        operands = [a.astype(jnp.float32) for a in operands]
    result = e.primitive.bind(*operands, **params)
    return result.astype(dtype) if narrow else result


def inside(piece: Piece) -> jax.Array:
    """``[1, padded]`` of bool: the columns that are features."""
    return lax.broadcasted_iota(jnp.int32, (1, piece.padded), 1) < piece.width


def neutral(name: str, dtype: jnp.dtype) -> float:
    """What does not change a sum, a maximum or a minimum."""
    if name == "reduce_sum":
        return 0
    if jnp.issubdtype(dtype, jnp.floating):
        return -jnp.inf if name == "reduce_max" else jnp.inf
    return jnp.iinfo(dtype).min if name == "reduce_max" else jnp.iinfo(dtype).max


def _fold(combine: Callable, parts: Sequence[jax.Array]) -> jax.Array:
    total, *rest = parts
    for part in rest:
        total = combine(total, part)
    return total

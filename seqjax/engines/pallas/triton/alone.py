"""A scan as one kernel: every program takes a tile of the batch, and a head, to the end of time by itself.

Weights are read once where they fit, the state stays in registers, the inputs of a tick are read and its outputs
written as they come. Nothing waits for another program.

References:
  Diamos et al. (2016), Persistent RNNs. https://proceedings.mlr.press/v48/diamos16.html
  Pöppel, Beck and Hochreiter (2024), FlashRNN. https://arxiv.org/abs/2412.07752
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.pallas.roles import HEAD
from seqjax.engines.pallas.triton.evaluate import Blocks, Value
from seqjax.engines.pallas.triton.packing import pack, pack_weight, unpack
from seqjax.engines.pallas.triton.pieces import Piece
from seqjax.engines.pallas.triton.placement import Layout
from seqjax.spread import varying_axes


class Read(NamedTuple):
    """What a program reads: weights, vectors, the state to begin with, inputs per tick."""

    weights: Sequence
    vectors: Sequence
    state: Sequence
    x: Sequence


# The state and the totals of a program.
Carry = tuple[list[Value], list[Value]]


class Kernel(Layout):
    """A laid-out tick, run over time."""

    def run(
        self, once: Sequence, state: Sequence, xs: Sequence, *, length: int, reverse: bool, interpret: bool
    ) -> tuple[list, list, list]:
        """Runs all ticks; returns the last state, outputs ``[T, ...]`` and totals."""
        inputs, specs = self._inputs(once, state, xs, length)
        shapes, out_specs = self._outputs(length)
        results = self._call(inputs, specs, shapes, out_specs, length=length, reverse=reverse, interpret=interpret)
        return self._unpacked(results, length)

    def _call(
        self, inputs: list, specs: list, shapes: list, out_specs: list, *, length: int, reverse: bool, interpret: bool
    ) -> Sequence[jax.Array]:
        plan = self.plan
        return pl.pallas_call(
            functools.partial(self._body, length=length, reverse=reverse),
            grid=(plan.programs, plan.tiles),
            in_specs=specs, out_specs=out_specs, out_shape=shapes, interpret=interpret,
            compiler_params=triton.CompilerParams(num_warps=plan.warps, num_stages=1),
            name="seqjax_recurrence",
        )(*inputs)  # fmt: skip

    def _inputs(self, once: Sequence, state: Sequence, xs: Sequence, length: int) -> tuple[list, list]:
        """Arrays as the kernel reads them: weights, vectors, state, inputs per tick; and which block is whose."""
        rows = self.plan.rows
        fixed = dict(zip(self.tick.once, self.tick.outside(list(once))))
        inputs, specs = [], []

        def add(array: jax.Array, spec: pl.BlockSpec) -> None:
            inputs.append(array)
            specs.append(spec)

        for e in self.products:
            add(self._packed_weight(e, fixed), self._weight_spec(e))
        for v, value in [*((v, fixed[v]) for v in self.vectors), *zip(self.tick.state, state)]:
            packed = pack(value, self.roles(v), self.cuts.pieces[v], rows, shares=self.shares_of(v))
            add(packed, self._spec(v, self.cuts.padded(v)))
        for v, value in zip(self.tick.x, jax.vmap(self.tick.inputs)(list(xs)) if self.tick.x else []):
            packed = pack(value, self.roles(v), self.cuts.pieces[v], rows, lead=1, shares=self.shares_of(v))
            add(packed, self._spec(v, self.cuts.padded(v), length))
        if any(varying_axes(jax.typeof(a)) for a in inputs):
            raise ValueError(
                "unroll: expected no varying mesh axes with engine='pallas', whose kernels cannot track them. "
                "Use jax.shard_map(..., check_vma=False)."
            )
        return inputs, specs

    def _outputs(self, length: int) -> tuple[list, list]:
        """Shapes of what the kernel writes, and which block is whose."""
        plan = self.plan
        shapes, out_specs = [], []
        for v, time, total in self._results(length):
            columns = sum(p.padded for p in self.pieces(v))
            batch = plan.tiles * self._rows(v) if total or self.batched(v) else 1
            lanes = plan.programs if total else self.lanes_of(v)[0]
            shape = ((time,) if time else ()) + (batch, lanes, columns)
            dtype = jnp.int8 if v.aval.dtype == jnp.bool_ else v.aval.dtype
            shapes.append(jax.ShapeDtypeStruct(shape, dtype))
            out_specs.append(self._total_spec(v, columns) if total else self._spec(v, columns, time))
        return shapes, out_specs

    def _results(self, length: int):
        """Every output of the kernel: a variable, its ticks (None for one value) and whether it is a total."""
        yield from ((v, None, False) for v in self.after_like())
        yield from ((v, length, False) for v in self.outputs)
        yield from ((v, None, True) for v in self.totals)

    def after_like(self) -> list[Var]:
        """The state's variables before a tick, whose axes and pieces the last state has."""
        return self.tick.state

    def _unpacked(self, results: Sequence[jax.Array], length: int) -> tuple[list, list, list]:
        n, m = len(self.after), len(self.outputs)
        found = []
        for (v, time, total), array in zip(self._results(length), results):
            roles = self.roles(v)
            if total:
                # One sum a program: over tiles, and over heads that have the value in common; shares have all of it.
                array = array.reshape(array.shape[0], self.plan.heads, self.plan.shares or 1, -1)
                array = array if self.shares_of(v) else array[:, :, :1]
                apart = (self.batched(v), HEAD in roles)
                array = array.sum([i for i in (0, 1) if not apart[i]], keepdims=True).astype(v.aval.dtype)
                array = array.reshape(array.shape[0], -1, array.shape[-1])
            found.append(
                unpack(
                    array, v.aval.shape, v.aval.dtype, roles, self.pieces(v), 1 if time else 0, shares=self.shares_of(v)
                )
            )
        finish = self.tick.outputs
        outputs = [jax.vmap(f)([value])[0] for f, value in zip(finish, found[n : n + m])]
        return found[:n], outputs, [f([value])[0] for f, value in zip(finish[m:], found[n + m :])]

    def _packed_weight(self, e: Equation, fixed: dict[Var, jax.Array]) -> jax.Array:
        w, side = self.weight(e)
        contracted, batched = (part[side] for part in e.params["dimension_numbers"])
        free = [i for i in range(w.aval.ndim) if i not in contracted and i not in batched]
        return pack_weight(
            fixed[w], (batched, contracted, free), self.own_weight(e), *self.sides(e), shares=self.shares
        )

    def _weight_spec(self, e: Equation) -> pl.BlockSpec:
        above, beside = self.sides(e)
        rows = sum(p.padded for pieces in self.cuts.together(above) for p in pieces)
        columns = sum(p.padded for p in beside)
        _, lane = self.lanes(self.own_weight(e), self.shares is not None)
        shape = (None, len(self.cuts.groups(e)), rows, columns)
        return pl.BlockSpec(shape, lambda program, tile: (lane(program), 0, 0, 0))

    def _spec(self, v: Var, columns: int, time: int | None = None) -> pl.BlockSpec:
        batched, (_, lane) = self.batched(v), self.lanes_of(v)
        lead, zero = ((time,), (0,)) if time else ((), ())
        shape = (*lead, self.plan.rows if batched else 1, None, columns)
        return pl.BlockSpec(shape, lambda program, tile: (*zero, tile if batched else 0, lane(program), 0))

    def _total_spec(self, v: Var, columns: int) -> pl.BlockSpec:
        return pl.BlockSpec((self._rows(v), None, columns), lambda program, tile: (tile, program, 0))

    def _body(self, *refs, length: int, reverse: bool) -> None:
        """The kernel."""
        read, written = self._read(refs), self._written(refs)
        blocks = Blocks(self.cuts, self.plan.rows, self._real(pl.program_id(1)), self._loader(read.weights))
        fixed = self.fixed(read)

        def tick(i: jax.Array, carry: Carry) -> Carry:
            t = length - 1 - i if reverse else i
            carry, outputs = self.one_tick(blocks, fixed, read.x, carry, t)
            self._write_tick(written, outputs, t)
            return carry

        self._write_last(written, lax.fori_loop(np.int32(0), np.int32(length), tick, self.start(read)))

    def _read(self, refs: Sequence) -> Read:
        rest = iter(refs)
        take = lambda count: [next(rest) for _ in range(count)]
        return Read(*(take(len(part)) for part in (self.products, self.vectors, self.tick.state, self.tick.x)))

    def _written(self, refs: Sequence) -> Sequence:
        """What follows the arrays that are read: last state, outputs, totals."""
        return refs[sum(len(part) for part in (self.products, self.vectors, self.tick.state, self.tick.x)) :]

    def start(self, read: Read) -> Carry:
        """State and totals before the first tick."""
        state = [
            self._spread(v, load(ref, self.cuts.pieces[v], v), self.cuts.pieces[v])
            for v, ref in zip(self.tick.state, read.state)
        ]
        sums = [[jnp.zeros((self._rows(v), p.padded), v.aval.dtype) for p in self.pieces(v)] for v in self.totals]
        return state, sums

    def fixed(self, read: Read) -> dict[Var, Value]:
        """What is the same at every tick and no weight."""
        return {v: load(ref, self.cuts.pieces[v], v) for v, ref in zip(self.vectors, read.vectors)}

    def one_tick(
        self, blocks: Blocks, fixed: dict[Var, Value], xs: Sequence, carry: Carry, t: jax.Array
    ) -> tuple[Carry, list[Value]]:
        """State and totals after a tick, and its outputs."""
        state, sums = carry
        n, m = len(state), len(self.outputs)
        values = fixed | dict(zip(self.tick.state, state))
        values |= {v: load(ref, self.cuts.pieces[v], v, t) for v, ref in zip(self.tick.x, xs)}
        results = blocks.run(values)
        after, outputs, more = results[:n], results[n : n + m], results[n + m :]
        after = [self._spread(v, value, self.cuts.pieces[v]) for v, value in zip(self.tick.state, after)]
        sums = [
            [total + a for total, a in zip(own, each(value, self.pieces(v)))]
            for v, own, value in zip(self.totals, sums, more)
        ]
        return (after, sums), outputs

    def _write_tick(self, written: Sequence, outputs: Sequence[Value], t: jax.Array) -> None:
        for v, ref, value in zip(self.outputs, written[len(self.after) :], outputs):
            store(ref, self.pieces(v), value, self._rows(v), t)

    def _write_last(self, written: Sequence, carry: Carry) -> None:
        state, sums = carry
        for v, ref, value in zip(self.tick.state, written, state):
            store(ref, self.cuts.pieces[v], value, self._rows(v))
        for v, ref, value in zip(self.totals, written[len(state) + len(self.outputs) :], sums):
            store(ref, self.pieces(v), value, self._rows(v))

    def _spread(self, v: Var, value: Value, pieces: Sequence[Piece]) -> Value:
        return [spread(a, p, self._rows(v)) for a, p in zip(each(value, pieces), pieces)]

    def _rows(self, v: Var) -> int:
        return self.plan.rows if self.batched(v) else 1

    def _real(self, tile: jax.Array) -> jax.Array | None:
        batch, rows = math.prod(self.axes.batch), self.plan.rows
        if batch % rows == 0 or rows == 1:
            return None
        first = tile * np.int32(rows)
        return first + lax.broadcasted_iota(jnp.int32, (rows, 1), 0) < np.int32(batch)

    def _loader(self, refs: Sequence) -> Callable:
        """Tiles of weights: all read now if they stay, else where they are used."""
        tiles: dict[tuple, Callable] = {}
        for e, ref in zip(self.products, refs):
            above, beside = self.sides(e)
            whole = [p for pieces in self.cuts.together(above) for p in pieces]
            rows, columns = ([(p, at) for p, at in zip(side, _offsets(side))] for side in (whole, beside))
            for g, (p, r), (q, c) in itertools.product(range(len(self.cuts.groups(e))), rows, columns):
                at = (g, slice(r, r + p.padded), slice(c, c + q.padded))
                tiles[id(e), g, p.start, q.start] = functools.partial(ref.__getitem__, at)
        if self.plan.resident:
            kept = {key: read() for key, read in tiles.items()}
            return lambda e, *place: kept[id(e), *place]
        return lambda e, *place: tiles[id(e), *place]()


def load(ref, pieces: Sequence[Piece], v: Var, t: jax.Array | None = None) -> Value:
    """A value's pieces, at one tick."""
    found = []
    for p, at in zip(pieces, _offsets(pieces)):
        a = ref[:, at : at + p.padded] if t is None else ref[t, :, at : at + p.padded]
        found.append(a != 0 if v.aval.dtype == jnp.bool_ else a)
    return found


def store(ref, pieces: Sequence[Piece], value: Value, rows: int, t: jax.Array | None = None) -> None:
    """Writes a value's pieces, at one tick."""
    for p, at, a in zip(pieces, _offsets(pieces), each(value, pieces)):
        a = spread(a, p, rows).astype(ref.dtype)
        if t is None:
            ref[:, at : at + p.padded] = a
        else:
            ref[t, :, at : at + p.padded] = a


def spread(a: jax.Array, piece: Piece, rows: int) -> jax.Array:
    """A piece in full."""
    return jnp.broadcast_to(a, (rows, piece.padded))


def each(value: Value, pieces: Sequence[Piece]) -> Value:
    """A value's pieces; what is one number everywhere is the same in each."""
    return value * len(pieces) if len(value) == 1 else value


def _offsets(pieces: Sequence[Piece]) -> list[int]:
    return [0, *np.cumsum([p.padded for p in pieces]).tolist()][: len(pieces)]

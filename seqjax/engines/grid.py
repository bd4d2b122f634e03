"""A scan as one kernel over the whole device: programs share the units out, and meet at every tick.

A program keeps the columns of the weights that belong to its units. What a product, or a sum over units, needs of the
others' goes through memory: each program writes its own, all wait for all, each reads everything. So weights far larger
than one multiprocessor holds are read once, for the price of a meeting a product.

All programs have to run at the same time: there are never more than multiprocessors. Should one not come all the same,
the others give up after `PATIENCE` looks, and every number of the result is NaN: late, but no hang.

References:
  Diamos et al. (2016), Persistent RNNs. https://proceedings.mlr.press/v48/diamos16.html
  Xiao and Feng (2010), Inter-block GPU communication via fast barrier synchronization.
    https://doi.org/10.1109/IPDPS.2010.5470477
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from seqjax.engines import jaxprs, layout
from seqjax.engines.blocks import Blocks, Value
from seqjax.engines.cuts import WIDEST, chunks_of
from seqjax.engines.distribute import UnsupportedError
from seqjax.engines.kernel import Carry, Kernel
from seqjax.engines.layout import Plan

PATIENCE = 2**22  # looks at the counter, of about a microsecond, before a program gives up
SHARES = "shares"

# How many programs can run at the same time; None to ask the device for its multiprocessors.
multiprocessors = jax.make_user_context(None)


class Grid(Kernel):
    """A laid-out tick, run over time by programs that share its units."""

    def _shares(self) -> int:
        """So many that weights stay, with the smallest tiles that allow it; else that each reads as few as can be."""
        widths = {b - a for v in self.cuts.sizes for a, b in self.cuts.stretches(v) if b - a > 1}
        if not widths:
            raise UnsupportedError("there is no axis of units to share out")
        batch, heads = math.prod(self.axes.batch), self.axes.heads or 1
        found: list[tuple[int, int, int, int]] = []
        for rows in (16, 32, 64) if self.axes.batch else (1,):
            for shares in _divisors(math.gcd(*widths)):
                together = heads * shares * math.ceil(batch / rows) <= _programs()
                if together and min(widths) > shares and max(widths) <= WIDEST * shares:
                    self.cuts.cut(shares)
                    size = self.weight_bytes()
                    found.append((max(size, layout.RESIDENT), rows, size, -shares))
        if not found:
            raise UnsupportedError(
                f"units in stretches of {sorted(widths)}, {heads} heads and a batch of {batch} are not shared out "
                f"among {_programs()} multiprocessors"
            )
        _, self._tile, _, shares = min(found)
        return -shares

    @property
    def among(self) -> int:
        """How many programs share the units of a head."""
        assert self.shares is not None
        return self.shares

    def _plan(self) -> Plan:
        size, rows, warps = self.weight_bytes(), self._tile, 8
        if layout.tuning.value is not None:
            rows, warps = layout.tuning.value
        tiles = math.ceil(math.prod(self.axes.batch) / rows)
        plan = Plan(self.axes.heads or 1, self.among, tiles, rows, size, size <= layout.RESIDENT, warps)
        if plan.programs * tiles > _programs():
            raise UnsupportedError(f"tiles of {rows} examples need {plan.programs * tiles} programs at the same time")
        return plan

    def _call(
        self, inputs: list, specs: list, shapes: list, out_specs: list, *, length: int, reverse: bool, interpret: bool
    ) -> Sequence[jax.Array]:
        run = self._side_by_side if interpret else self.call

        # A batch of kernels is one after the other: side by side they would be more programs than can run together.
        @jax.custom_batching.sequential_vmap
        def one(*inputs: jax.Array) -> list[jax.Array]:
            return list(run(list(inputs), specs, shapes, out_specs, length=length, reverse=reverse))

        return one(*inputs)

    def call(
        self,
        inputs: list,
        specs: list,
        shapes: list,
        out_specs: list,
        *,
        length: int,
        reverse: bool,
        interpret: bool = False,
    ) -> Sequence[jax.Array]:
        """The kernel itself. Interpreted, its programs run one after the other: only one that is alone gets through."""
        plan = self.plan
        sites = self._sites(inputs, specs)
        if length * len(sites) * self.among >= 2**31:
            raise ValueError(
                f"unroll: expected at most 2³¹ arrivals at meetings with engine='pallas', got {length} ticks of "
                f"{len(sites)} meetings of {self.among} programs. Use engine='split', or unroll in pieces."
            )
        shared = [
            jax.ShapeDtypeStruct((2, plan.heads, plan.tiles * rows, columns), dtype) for rows, columns, dtype in sites
        ]
        counter = jnp.zeros((plan.heads, plan.tiles), jnp.int32)
        everywhere = lambda array: pl.BlockSpec(array.shape, lambda share, tile: (0,) * len(array.shape))
        results = pl.pallas_call(
            functools.partial(self._meeting_body, length=length, reverse=reverse, interpret=interpret),
            grid=(plan.programs, plan.tiles),
            in_specs=[*specs, everywhere(counter)],
            out_specs=[*out_specs, *map(everywhere, shared), everywhere(counter)],
            out_shape=[*shapes, *shared, jax.ShapeDtypeStruct(counter.shape, counter.dtype)],
            input_output_aliases={len(inputs): len(shapes) + len(shared)},
            compiler_params=triton.CompilerParams(num_warps=plan.warps, num_stages=1),
            interpret=interpret,
            name="seqjax_shared_recurrence",
        )(*inputs, counter)  # fmt: skip
        return results[: len(shapes)]

    def _meeting_body(self, *refs, length: int, reverse: bool, interpret: bool) -> None:
        """The kernel."""
        read = self._read(refs)
        rest = self._written(refs)[1:]
        count = len(self.after) + len(self.outputs) + len(self.totals)
        written, shared, counter = rest[:count], rest[count:-1], rest[-1]
        meeting = Meeting(shared, counter, self.plan, interpret)
        tile = self._loader(read.weights)
        blocks = Blocks(self.cuts, self.plan.rows, self._real(pl.program_id(1)), tile, meeting.gather)
        fixed = self.fixed(read)

        def tick(i: jax.Array, carry: tuple[Carry, jax.Array]) -> tuple[Carry, jax.Array]:
            t = length - 1 - i if reverse else i
            meeting.begin(i, carry[1])
            after, outputs = self.one_tick(blocks, fixed, read.x, carry[0], t)
            after, outputs = meeting.unless_lost((after, outputs))
            self._write_tick(written, outputs, t)
            return after, meeting.lost

        carry = (self.start(read), jnp.zeros((), jnp.int32))
        last, _ = lax.fori_loop(np.int32(0), np.int32(length), tick, carry)
        self._write_last(written, last)

    def _sites(self, inputs: Sequence, specs: Sequence) -> list[tuple[int, int, jnp.dtype]]:
        """Rows, columns and type of what travels at each meeting of a tick."""
        found = []

        def gather(a: jax.Array) -> Value:
            chunks = chunks_of(a.shape[1], self.among)
            found.append((a.shape[0], chunks[-1].start + chunks[-1].padded, a.dtype))
            return [jnp.zeros((a.shape[0], p.padded), a.dtype) for p in chunks]

        def once(*blocks: jax.Array) -> list:
            read = self._read(blocks)
            run = Blocks(self.cuts, self.plan.rows, None, self._loader(read.weights), gather)
            return self.one_tick(run, self.fixed(read), read.x, self.start(read), jnp.int32(0))[1]

        jax.eval_shape(once, *(_block(a, spec, 0, 0) for a, spec in zip(inputs, specs)))
        return found

    def _side_by_side(
        self, inputs: list, specs: list, shapes: list, out_specs: list, *, length: int, reverse: bool
    ) -> list[jax.Array]:
        """The same without a device: programs as one batch, which meet by `jax.lax.all_gather`."""

        def gather(a: jax.Array) -> Value:
            chunks = chunks_of(a.shape[1], self.among)
            whole = lax.all_gather(a, SHARES, axis=1, tiled=True)
            whole = jnp.pad(whole, [(0, 0), (0, chunks[-1].start + chunks[-1].padded - whole.shape[1])])
            return [whole[:, p.start : p.start + p.padded] for p in chunks]

        def program(tile: int, *blocks: jax.Array) -> list[jax.Array]:
            read = self._read(blocks)
            real = self._real(jnp.int32(tile))
            run = Blocks(self.cuts, self.plan.rows, real, self._loader(read.weights), gather)
            fixed = self.fixed(read)

            def tick(carry: Carry, t: jax.Array) -> tuple[Carry, list]:
                carry, outputs = self.one_tick(run, fixed, read.x, carry, t)
                return carry, [self._row(v, y) for v, y in zip(self.outputs, outputs)]

            (state, sums), ys = lax.scan(tick, self.start(read), jnp.arange(length, dtype=jnp.int32), reverse=reverse)
            last = [self._row(v, value) for v, value in zip(self.tick.state, state)]
            return [*last, *ys, *(self._row(v, value) for v, value in zip(self.totals, sums))]

        results = [jnp.zeros(s.shape, s.dtype) for s in shapes]
        for tile, head in itertools.product(range(self.plan.tiles), range(self.plan.heads)):
            programs = range(head * self.among, (head + 1) * self.among)
            each = [jnp.stack([_block(a, spec, p, tile) for p in programs]) for a, spec in zip(inputs, specs)]
            found = jax.vmap(functools.partial(program, tile), axis_name=SHARES)(*each)
            for k, (blocks, spec) in enumerate(zip(found, out_specs)):
                for p, block in zip(programs, blocks):
                    results[k] = results[k].at[_place(spec, p, tile)].set(block.astype(results[k].dtype))
        return results

    def _row(self, v: jaxprs.Var, value: Value) -> jax.Array:
        """A value's pieces side by side, as they are written."""
        return jnp.concatenate(self._spread(v, value, self.pieces(v)), 1)


class Meeting:
    """How a program comes by what the others have.

    Two slots take turns from tick to tick: nobody writes to one before all have come to the next tick's meeting, and so
    have read it.
    """

    def __init__(self, shared: Sequence, counter, plan: Plan, interpret: bool):
        """``shared`` has one array a meeting; ``counter`` one number for each head and tile, of arrivals."""
        self.shared, self.counter, self.interpret = shared, counter, interpret
        self.head, self.share = plan.head_and_share(pl.program_id(0))
        self.shares, self.tile = plan.shares or 1, pl.program_id(1)
        self.lost = self.tick = jnp.zeros((), jnp.int32)
        self.met = 0

    def begin(self, tick: jax.Array, lost: jax.Array) -> None:
        """A new tick; ``lost`` says whether somebody has not come before."""
        self.tick, self.lost, self.met = tick, lost, 0

    def gather(self, a: jax.Array) -> Value:
        """Everybody's ``a``, side by side, in pieces."""
        ref, (rows, columns) = self.shared[self.met], a.shape
        slot, here = self.tick % np.int32(2), pl.ds(self.tile * np.int32(rows), rows)
        ref[slot, self.head, here, pl.ds(self.share * np.int32(columns), columns)] = a
        self.met += 1
        arrivals = (self.tick * np.int32(len(self.shared)) + np.int32(self.met)) * np.int32(self.shares)
        self._wait(arrivals)
        chunks = chunks_of(columns, self.shares)
        # Volatile: not from this multiprocessor's own cache, which the others do not write to.
        whole = [triton.load(ref.at[slot, self.head, here, pl.ds(p.start, p.padded)], volatile=True) for p in chunks]
        return self.unless_lost(whole)

    def _wait(self, arrivals: jax.Array) -> None:
        """Comes, and looks until so many have; no longer than `PATIENCE`, and not at all if somebody is lost."""
        count = functools.partial(triton.atomic_add, self.counter, (self.head, self.tile))
        nobody, nothing = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        self._barrier()  # all threads of this program have written
        count(jnp.ones((), jnp.int32))

        def look(carry: tuple) -> tuple:
            _, looks, nothing = carry  # carried, since Pallas interprets no loop that writes a constant
            return count(nothing), looks + np.int32(1), nothing

        def waits(carry: tuple) -> jax.Array:
            seen, looks, _ = carry
            return (seen < arrivals) & (looks < np.int32(PATIENCE))

        seen, *_ = lax.while_loop(waits, look, (nobody, self.lost * np.int32(PATIENCE), nothing))
        self._barrier()
        self.lost = jnp.where(seen < arrivals, np.int32(1), self.lost)

    def _barrier(self) -> None:
        if not self.interpret:
            triton.debug_barrier()

    def unless_lost(self, tree):
        """Numbers as they are, or NaN."""
        return jax.tree.map(
            lambda a: (
                jnp.where(self.lost > 0, jnp.full_like(a, jnp.nan), a) if jnp.issubdtype(a.dtype, jnp.floating) else a
            ),
            tree,
        )


def _programs() -> int:
    if multiprocessors.value is not None:
        return multiprocessors.value
    device = jax.devices()[0]
    return device.core_count if device.platform == "gpu" else 132


def _divisors(n: int) -> Iterator[int]:
    return (k for k in range(1, n + 1) if n % k == 0)


def _place(spec: pl.BlockSpec, program: int, tile: int) -> tuple:
    """Where a program's block of an array is."""
    shape: Any = spec.block_shape
    place: Any = spec.index_map
    with jax.ensure_compile_time_eval():
        blocks = [int(i) for i in place(np.int32(program), tile)]
    return tuple(i if size is None else slice(i * size, (i + 1) * size) for i, size in zip(blocks, shape))


def _block(array: jax.Array, spec: pl.BlockSpec, program: int, tile: int) -> jax.Array:
    return array[_place(spec, program, tile)]

"""A loop as one kernel on a TPU: time is the grid; weights, state and totals stay in VMEM, the core's own memory.

    for every tile of the batch                       the grid's outer axis
        s, totals = first[tile], 0                    in scratch
        for every block of ticks                      its inner axis; x is read ahead of it, y written behind it
            for t in the block
                s, y[t], more = tick(weights, s, x[t])
                totals += more

The body is the flat tick itself, on references. The backward loop is another such tick, the transpose of the linear
one; its totals are the gradients of weights that are no product behind the loop.

Weights stay in the type in which the tick reads them: a kernel rounds nothing that the scan does not. Where those of
float32 products do not fit, a cell's ``compute_dtype=jnp.bfloat16`` has products that read half the bytes; that is
asked for by name, as it changes results.

Tested by interpretation, by lowering and by XLA's compiler for v5e and v6e; not timed.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu

from seqjax import symbolic
from seqjax.engines.base import UnsupportedError
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Aval, Equation, Var
from seqjax.engines.pallas.normal_form import canonical
from seqjax.engines.pallas.places import Place, bytes_of, no_numbers
from seqjax.engines.pallas.roles import Axes, axes_of
from seqjax.engines.split.runner import FlatTick

# Neither is measured: ticks of a block, and the part of VMEM for blocks, scratch and all values of one tick.
TICKS, PART = 8, 0.75
# Parameters of equations that say how large the result is along each of its axes.
SIZES = {"broadcast_in_dim": "shape", "reshape": "new_sizes", "slice": "limit_indices"}


class Kernel:
    """A flat tick ``(once, state, x) -> (after, outputs, totals)`` over time, at given types; the totals are sums.

    Attributes:
      tick: in few kinds of equations.
      axes: what the axes of its values are; None where the batch must stay in one piece.
      tile: how much of the batch's first axis a tile has; None for all of it.
      limit: bytes of VMEM that there are.
    """

    def __init__(
        self, tick: FlatTick, once: Sequence[Aval], state: Sequence[Aval], x: Sequence[Aval],
        *, totals: int = 0, length: int, reverse: bool, interpret: bool = False,
    ):  # fmt: skip
        """Takes the largest tiles that fit; ``interpret`` to run as JAX operations, slowly, on any device.

        Raises:
          UnsupportedError: none do, or Mosaic does not lower the tick; says why.
        """
        if reason := next(filter(None, map(no_numbers, [*once, *state, *x])), None):
            raise UnsupportedError(reason)
        if not symbolic.known(length):
            raise UnsupportedError(f"{length} ticks are no number")
        self.length, self.reverse, self.interpret, self.ticks = length, reverse, interpret, min(TICKS, length)
        self.tick = canonical(tick, once, state, x)
        results, n, m = self.tick.results, len(state), len(self.tick.results) - totals
        self.parts = self.tick.once, self.tick.state, self.tick.x, results[n:m], results[m:]
        self.axes = self._axes()
        chip = tpu.get_tpu_info() if tpu.is_tpu_device() else tpu.get_tpu_info_for_chip(tpu.ChipVersion.TPU_V5E, 1)
        self.limit = int(PART * chip.vmem_capacity_bytes)
        self.tile: int | None = None
        for tile in self._tiles():
            self.tile = tile
            self.once, self.state, self.x, self.outputs, self.totals = (list(map(self._place, p)) for p in self.parts)
            if self.bytes <= self.limit:
                break
        else:
            raise UnsupportedError(self._too_much())
        if not interpret:
            self._try(once, state, x)

    def __str__(self) -> str:
        """In words."""
        cut = f"{self.tiles} tiles of the batch" if self.tiles > 1 else "the batch in one"
        return f"a kernel, {cut}, {self.bytes:,} of {self.limit:,} bytes of VMEM ({bytes_of(self.once):,} for weights)"

    def _axes(self) -> Axes | None:
        """Axes along which the batch can be cut: of what a tick gives, the totals are sums over it, nothing else is."""
        try:
            axes = axes_of(self.tick)
        except UnsupportedError:
            return None
        totals = len(self.parts[-1])
        partial = [not jaxprs.is_literal(v) and v in axes.partial for v in self.tick.results]
        kept, summed = partial[: len(partial) - totals], partial[len(partial) - totals :]
        return axes if axes.batch and not any(kept) and all(summed) else None

    def _tiles(self) -> Iterator[int | None]:
        """All of the batch, then less and less of it, in whole registers."""
        yield None
        if self.axes is not None:
            size, rows = self.axes.batch[0], max(self._place(v).sublanes for part in self.parts for v in part)
            yield from (n for n in range(size // 2, 0, -1) if size % n == 0 and n % rows == 0)

    @property
    def tiles(self) -> int:
        """How many there are."""
        return 1 if self.tile is None or self.axes is None else self.axes.batch[0] // self.tile

    @property
    def bytes(self) -> int:
        """Of VMEM: what is read and written is there twice, to be moved meanwhile, but for what never changes."""
        values = [self._place(v) for e in self.tick.equations for v in e.outvars]
        timed = 2 * self.ticks * bytes_of([*self.x, *self.outputs])
        return bytes_of([*self.once, *values]) + 4 * bytes_of(self.state) + timed + 3 * bytes_of(self.totals)

    def _too_much(self) -> str:
        weights = bytes_of(self.once)
        narrow = sum(p.bytes // 2 for p in self.once if p.dtype == np.float32)
        hint = "; with compute_dtype=jnp.bfloat16 they would" if self.bytes - narrow <= self.limit else ""
        return f"{self.bytes:,} bytes, {weights:,} of them weights, do not fit in {self.limit:,} of VMEM{hint}"

    def _cut(self, v: Var) -> int | None:
        """The axis of a value along which tiles lie."""
        if self.tile is None or self.axes is None or jaxprs.is_literal(v) or v in self.axes.weights:
            return None
        batch, roles = self.axes.batch, self.axes.roles[v]
        if roles is None:  # one number everywhere: its shape says it, and were it misread, no equation would take it
            return 0 if v.aval.shape[: len(batch)] == batch else None
        return roles.index(0) if 0 in roles else None

    def _place(self, v: Var) -> Place:
        shape, axis = v.aval.shape, self._cut(v)
        two = (*shape, 1) if len(shape) == 1 and axis == 0 else (1,) * (2 - len(shape)) + shape
        tile = lambda sizes: tuple(self.tile or 0 if i == axis else size for i, size in enumerate(sizes))
        dtype = np.dtype(np.int32) if v.aval.dtype == jnp.bool_ else v.aval.dtype
        return Place(two, tile(two), axis, dtype, jax.ShapeDtypeStruct(tile(shape), v.aval.dtype))

    def _try(self, once: Sequence[Aval], state: Sequence[Aval], x: Sequence[Aval]) -> None:
        """Lowers the kernel: what Mosaic knows, only it knows, and its refusals are errors of every kind."""
        of = lambda avals, *ticks: [jax.ShapeDtypeStruct((*ticks, *a.shape), a.dtype) for a in avals]
        try:
            jax.jit(self.run).trace(of(once), of(state), of(x, self.length)).lower(lowering_platforms=("tpu",))
        except Exception as error:
            said = str(error).rpartition("Error details: ")[2].partition(". Please file")[0].partition("\n")[0]
            raise UnsupportedError(f"Mosaic does not lower it: {said} ({type(error).__name__})") from error

    def run(self, once: list, state: list, xs: list) -> tuple[list, list, list]:
        """Runs all ticks: the last state, outputs ``[T, ...]`` and totals."""
        tick, length = self.tick, self.length
        xs = jax.vmap(tick.inputs)(xs) if self.x else []
        stay, kept = [*self.once, *self.state], [*self.state, *self.totals]
        flat = [a.astype(p.dtype).reshape(p.shape) for p, a in zip(stay, [*tick.outside(once), *state])]
        flat += [a.astype(p.dtype).reshape(length, *p.shape) for p, a in zip(self.x, xs)]
        steps = -(-length // self.ticks)
        at = (lambda step: np.int32(steps - 1) - step) if self.reverse else (lambda step: step)
        timed = lambda places: [p.spec(self.ticks, at) for p in places]
        results = pl.pallas_call(
            lambda *refs: self._body(steps, at, iter(refs)),
            grid=(self.tiles, steps),
            in_specs=[*(p.spec(pipeline_mode=pl.Buffered(1)) for p in stay), *timed(self.x)],
            out_specs=[*(p.spec() for p in kept), *timed(self.outputs)],
            out_shape=[*(p.out() for p in kept), *(p.out(length) for p in self.outputs)],
            scratch_shapes=[tpu.VMEM(p.block, p.dtype) for p in kept],
            compiler_params=tpu.CompilerParams(vmem_limit_bytes=self.limit),
            interpret=tpu.InterpretParams(detect_races=True) if self.interpret else False,
            name="seqjax_recurrence",
        )(*flat)
        read = iter(results)
        last, totals, ys = ([next(read) for _ in places] for places in (self.state, self.totals, self.outputs))
        whole = lambda stored, aval, *ticks: stored.reshape(*ticks, *aval.shape).astype(aval.dtype)
        after = [whole(a, v.aval) for a, v in zip(last, tick.state)]
        ys = [jax.vmap(f)([whole(a, v.aval, length)])[0] for f, a, v in zip(tick.outputs, ys, self.parts[3])]
        totals = [f([whole(a, v.aval)])[0] for f, a, v in zip(tick.outputs[len(ys) :], totals, self.parts[4])]
        return after, ys, totals

    def _body(self, steps: int, at: Callable, refs: Iterator) -> None:
        """The kernel."""
        take = lambda places: [next(refs) for _ in places]
        once, first, x = take(self.once), take(self.state), take(self.x)
        last, sums, ys = take(self.state), take(self.totals), take(self.outputs)
        state, totals = take(self.state), take(self.totals)
        tile, step = pl.program_id(0), pl.program_id(1)

        @pl.when(step == 0)
        def _() -> None:
            for to, value in zip(state, first):
                to[...] = value[...]

        @pl.when((step == 0) & (tile == 0))
        def _() -> None:
            for to in totals:
                to[...] = jnp.zeros(to.shape, to.dtype)

        ticks = np.int32(self.ticks)
        count = ticks if self.length % ticks == 0 else jnp.minimum(ticks, np.int32(self.length) - at(step) * ticks)

        # The loop's own counter Mosaic casts wrong where JAX has 64 bits.
        def one(_: jax.Array, i: jax.Array) -> jax.Array:
            t = count - np.int32(1) - i if self.reverse else i
            fixed = [p.load(ref) for p, ref in zip([*self.once, *self.state], [*once, *state])]
            got = iter(self._tick([*fixed, *(p.load(ref, t) for p, ref in zip(self.x, x))]))
            for p, ref in zip(self.state, state):
                p.store(ref, next(got))
            for p, ref in zip(self.outputs, ys):
                p.store(ref, next(got), t)
            for p, ref in zip(self.totals, totals):
                p.store(ref, p.load(ref) + next(got))
            return i + np.int32(1)

        lax.fori_loop(np.int32(0), count, one, np.int32(0))

        @pl.when(step == steps - 1)
        def _() -> None:
            for to, value in zip([*last, *sums], [*state, *totals]):
                to[...] = value[...]

    def _tick(self, values: list) -> list:
        """One tick of a tile."""
        tick = self.tick

        def rule(e: Equation, inputs: list) -> list | None:
            axis, name = self._cut(e.outvars[0]), SIZES.get(e.primitive.name)
            if axis is None or name is None:
                return None
            sizes = tuple(self.tile if i == axis else size for i, size in enumerate(e.params[name]))
            return jaxprs.evaluate(tick.template, e.replace(params=e.params | {name: sizes}), inputs)

        jaxpr = tick.template.replace(
            constvars=[], invars=[*tick.once, *tick.state, *tick.x], outvars=tick.results, eqns=tick.equations,
            debug_info=tick.template.debug_info.with_unknown_names(),
        )  # fmt: skip
        return jaxprs.interpret(jaxpr, [], values, rule)

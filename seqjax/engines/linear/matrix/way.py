"""A matrix state run by chunks: the tick's equations for a chunk at a time, and the products of `chunk`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.engines import forwards, memory, platforms
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Var
from seqjax.engines.linear.matrix.forms import Form, UnstructuredError, varies, wide
from seqjax.engines.linear.matrix.layout import Layout
from seqjax.engines.linear.matrix.reading import Reading
from seqjax.engines.split.loop import Loop
from seqjax.engines.split.runner import Runner
from seqjax.engines.split.tangent import Time

Chunk = Callable[[list, jax.Array, list], tuple[jax.Array, list]]


class Stretch(NamedTuple):
    """A stretch of time as one step of matrices ``[*B, m, n]``, ``S_T = P S_0 + e``.

    Attributes:
      axes: of the state, those of rows and columns.
      through: P ``[*B, m, m]``, or its diagonal ``[*B, m, 1]``.
      own: e, with the state's axes.
      alive: ``[*B]`` of bool, whether S_0 is looked at; None for always.
    """

    axes: tuple[int, int]
    through: jax.Array
    own: jax.Array
    alive: jax.Array | None

    def after(self, state: Sequence[jax.Array]) -> list[jax.Array]:
        """The state behind it."""
        (first,) = state
        s = jnp.moveaxis(first.astype(self.own.dtype), self.axes, (-2, -1))
        moved = self.through * s if self.through.shape[-1] == 1 else jnp.matmul(self.through, s)
        moved = moved if self.alive is None else jnp.where(self.alive[..., None, None], moved, 0)
        return [(jnp.moveaxis(moved, (-2, -1), self.axes) + self.own).astype(first.dtype)]


jax.tree_util.register_pytree_node(Stretch, lambda s: (s[1:], s.axes), lambda axes, leaves: Stretch(axes, *leaves))


class Matrix(NamedTuple):
    """How to run one loop whose state is a matrix with outer products for updates.

    Attributes:
      axes: of the state, the one along which it is read, and that of what is read.
      feedback: whether what is written depends on what is read.
      by_rows: whether rows decay each by itself.
    """

    axes: tuple[int, int]
    feedback: bool
    by_rows: bool

    @property
    def said(self) -> str:
        """For `explain`."""
        return "linear, a matrix by chunks" + (", a triangular system each" if self.feedback else "")

    def ticks(self, state: Var) -> int:
        """Ticks a chunk: the products within a chunk grow with it, those with its first state shrink.

        Measured on two cores, float32, value and gradient, times faster than `jax.lax.scan` by 16, 32, 64 and 128
        ticks, 4 heads of m × m: m = 16 1.15, .94, .69, .46; 32 2.9, 3.7, 2.8, 2.0; 64 5.3, 7.3, 6.9, 5.4; two of
        128 7.2, 13.6, 14.0, 9.8. A delta rule: m = 32 2.3, 2.0, 1.8, 1.2; 64 4.4, 5.2, 4.3, 2.9. Rows that decay
        each by itself, by 16, 32 and 64: m = 32 2.8, 2.6, 1.6; 64 5.9, 5.0, 4.4; 128 5.5, 5.3, 5.8.
        """
        size = max(state.aval.shape[axis] for axis in self.axes)
        if self.by_rows:
            return 16 if size < 128 else 64
        return 16 if size <= 16 else 32 if size < 64 or self.feedback else 64

    @property
    def at_work(self) -> int:
        """What a chunk's gradient stacks, in multiples of what is kept: more where pairs of ticks are solved or decay.

        Fitted to `memory_analysis` of random cases: 2 of mLSTM, 3.8 and 4.1 of gated delta rules, 3.3 to 15 of rows
        that decay each by itself.
        """
        return 4 if self.feedback or self.by_rows else 2

    @property
    def as_ticks(self) -> bool:
        """On a CPU, as it runs its own forward pass by ticks there."""
        return platforms.planned().ticks

    def run(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> tuple[list, list]:
        """As `seqjax.engines.split.tangent.run_loop`."""
        return self._chunks(loop, invariant, state[0], xs, time)

    def _either(self, loop: Loop, length: int) -> Chunk:
        """A chunk, on a CPU tick by tick where nothing is differentiated: the state stays in its cache.

        Measured as above, forwards chunks of the best length were .5 to .9 times as fast as ticks.
        """
        (state,) = loop.state
        in_chunks = lambda invariant, s, xs: self._chunk(loop, invariant, s, xs, length)
        if not platforms.planned().ticks or wide(state.aval.dtype) != state.aval.dtype:
            return in_chunks
        runner, tick = Runner(), loop.tick()

        def in_ticks(values: tuple[list, jax.Array, list]) -> tuple[jax.Array, list]:
            invariant, s, xs = values
            (s,), ys = runner.run(tick, invariant, [s], xs, length=length, reverse=False)
            return s, ys

        either = forwards.either(in_ticks, lambda values: in_chunks(*values))
        return lambda invariant, s, xs: either((invariant, s, xs))

    def summary(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> Stretch:
        """Of a stretch: e from a state of zeros; P by rows of ones, or of an identity where S is fed back."""
        (first,) = state
        (own,), _ = self._chunks(loop, invariant, jaxprs.zeros(jax.typeof(first)), list(xs), time)
        flipped = [x[::-1] for x in xs] if time.reverse else list(xs)
        rows = first.shape[self.axes[0]]
        batch = [n for i, n in enumerate(first.shape) if i not in self.axes]
        like = jnp.moveaxis(jaxprs.zeros(jax.typeof(own)).astype(wide(own.dtype)), self.axes, (-2, -1))
        through = like[..., :1] + 1
        if self.feedback:
            through = jnp.broadcast_to(like[..., :1], (*batch, rows, rows)) + jnp.eye(rows, dtype=like.dtype)
        alive = None
        ticks = self.ticks(loop.state[0])
        for start in range(0, time.length, ticks):
            some = [x[start : start + ticks] for x in flipped]
            reading = Reading(loop, invariant, some, self.axes)
            after = reading.after()
            for v in loop.outputs:
                reading.of(v)
            through, kept = Layout(reading.rules, min(ticks, time.length - start)).through(through, after)
            alive = kept if alive is None or kept is None else alive & kept
        return Stretch(self.axes, through, own.astype(like.dtype), alive)

    def _chunks(self, loop: Loop, invariant: Sequence, first: jax.Array, xs: Sequence, time: Time) -> tuple[list, list]:
        """Chunk after chunk."""
        xs = [x[::-1] for x in xs] if time.reverse else list(xs)
        ticks = self.ticks(loop.state[0])
        count, rest = divmod(time.length, ticks)
        s = first.astype(wide(first.dtype))

        def some(s: jax.Array, xs: list, length: int) -> tuple[jax.Array, list]:
            s, ys = jax.checkpoint(self._either(loop, length), prevent_cse=False)(list(invariant), s, xs)
            return memory.named(s) if time.recompute else s, ys

        parts = []
        if count > 1:
            main = [x[: count * ticks].reshape(count, ticks, *x.shape[1:]) for x in xs]
            s, ys = lax.scan(lambda s, xs: some(s, xs, ticks), s, main)
            parts.append([y.reshape(count * ticks, *y.shape[2:]) for y in ys])
        elif count:
            s, ys = some(s, [x[:ticks] for x in xs], ticks)
            parts.append(ys)
        if rest:
            s, ys = some(s, [x[count * ticks :] for x in xs], rest)
            parts.append(ys)
        ys = [lax.concatenate(each, 0) if len(each) > 1 else each[0] for each in zip(*parts)]
        return [s.astype(first.dtype)], [y[::-1] for y in ys] if time.reverse else ys

    def _chunk(self, loop: Loop, invariant: Sequence, first: jax.Array, xs: list, length: int) -> tuple:
        """The state behind so many ticks, and the outputs of each."""
        reading = Reading(loop, invariant, xs, self.axes)
        after = reading.after()
        values = [reading.of(v) for v in loop.outputs]
        layout = Layout(reading.rules, length)
        last, reads = layout.run(first, after)
        return last, [layout.value(value, v, reads) for value, v in zip(values, loop.outputs)]


def numbers_only(form: Form, row: int, column: int) -> None:
    """Checks what a chunk can solve.

    Raises:
      UnstructuredError: decays along columns, or feedback of what is read by rows or columns.
    """
    for rho in [*([] if form.decay is None else [form.decay]), *form.fresh.values()]:
        if varies(rho, column):
            raise UnstructuredError("a factor of the state along what is read of it")
    for key, columns in form.updates:
        if varies(key, column) or (columns.known is not None and varies(columns.known, row)):
            raise UnstructuredError("an update that is no outer product")
        for a in columns.reads.values():
            if varies(a, row) or varies(a, column):
                raise UnstructuredError("what is read is written again, by another factor for each number of it")


def along(loop: Loop, axes: tuple[int, int], length: int = 4) -> Matrix:
    """How to run a loop along these axes.

    Raises:
      UnstructuredError: it cannot; says by which equation.
    """
    ways = []

    def run(invariant: list, first: jax.Array, xs: list) -> list:
        reading = Reading(loop, invariant, xs, axes)
        after = reading.after()
        if after.labels != reading.rules.labels:
            raise UnstructuredError("a state that changes its axes")
        numbers_only(after, *axes)
        factors = [*([] if after.decay is None else [after.decay]), *after.fresh.values()]
        feedback = any(columns.reads for _, columns in after.updates)
        ways.append(Matrix(axes, feedback, any(varies(x, axes[0]) for x in factors)))
        values = [reading.of(v) for v in loop.outputs]
        layout = Layout(reading.rules, length)
        last, reads = layout.run(first.astype(reading.rules.dtype), after)
        return [last, *(layout.value(value, v, reads) for value, v in zip(values, loop.outputs))]

    stacked = lambda v: jaxprs.zeros(v.aval, length)
    jax.eval_shape(
        lambda: run(
            [jaxprs.zeros(v.aval) for v in loop.invariant], jaxprs.zeros(loop.state[0].aval), list(map(stacked, loop.x))
        )
    )
    return ways[-1]

"""Between the axes ``[C, axes of S]`` of forms and those of matrix products, ``[*B, C, m]``."""

import jax
import jax.numpy as jnp

from seqjax.engines.equations.jaxprs import Var
from seqjax.engines.linear.matrix import chunk
from seqjax.engines.linear.matrix.axes import Axes
from seqjax.engines.linear.matrix.decay import padded, rounded_up
from seqjax.engines.linear.matrix.forms import Form, Known, UnstructuredError, Vector, varies


class Layout:
    """One matrix state, so many ticks."""

    def __init__(self, axes: Axes, length: int):
        """Takes the state and what was read of it, and how many ticks there are."""
        self.axes, self.length = axes, length
        self.row, self.column, self.shape = axes.row, axes.column, axes.shape
        self.batch = [i for i in range(len(self.shape)) if i not in (self.row, self.column)]
        self.pad = rounded_up(length) - length

    def matrix(self, s: jax.Array) -> jax.Array:
        """``[*B, m, n]`` of S or F."""
        return jnp.broadcast_to(s, self.shape).transpose([*self.batch, self.row, self.column])

    def state(self, s: jax.Array) -> jax.Array:
        """The axes of S, of ``[*B, m, n]``."""
        order = [*self.batch, self.row, self.column]
        return s.transpose([order.index(i) for i in range(len(order))])

    def along(self, x: jax.Array, axis: int | None, fill: float | bool, *, full: bool = True) -> jax.Array:
        """``[*B, C, m]`` of rows, ``[*B, C, n]`` of columns, ``[*B, C]`` of numbers."""
        kept = [*self.batch, *([] if axis is None else [axis])]
        x = x.transpose([*(1 + i for i in self.batch), 0, *(1 + i for i in (self.row, self.column))])
        drop = [x.ndim - 2 + k for k, i in enumerate((self.row, self.column)) if i != axis]
        x = x.reshape([n for i, n in enumerate(x.shape) if i not in drop])
        sizes = [*(self.shape[i] for i in self.batch), self.length]
        if axis is not None:
            sizes.append(self.shape[axis] if full else x.shape[-1])
        assert len(kept) + 1 == len(sizes)
        x = jnp.broadcast_to(x, sizes)
        if not self.pad:
            return x
        return padded(x, self.pad, fill) if axis is not None else padded(x[..., None], self.pad, fill)[..., 0]

    def writes(self, after: Form, dtype: jnp.dtype) -> chunk.Writes:
        """What the ticks do to S."""
        one = jnp.ones((1,) * (1 + len(self.shape)), dtype)
        decay = one * 0 if after.decay is None else after.decay
        alive = jnp.zeros_like(one, bool) if after.decay is None else after.alive
        full = any(varies(x, self.row) for x in [decay, *after.fresh.values()])
        return chunk.Writes(
            decay=self.along(decay, self.row, 1, full=full),
            alive=None if alive is None else self.along(alive, None, True),
            fresh=[
                (self.along(rho, self.row, 0, full=full), self.matrix(self.axes.fresh[f][0].astype(dtype)))
                for f, rho in after.fresh.items()
            ],
            keys=[self.along(key, self.row, 0) for key, _ in after.updates],
            values=[self.along(one * 0 if c.known is None else c.known, self.column, 0) for _, c in after.updates],
            feedback={
                (i, j): self.along(a, None, 0)
                for i, (_, columns) in enumerate(after.updates)
                for j, a in columns.reads.items()
            },
        )

    def queries(self) -> list[chunk.Query]:
        """What is read of S."""
        return [
            chunk.Query(self.along(q, self.row, 0), None if looks is None else self.along(looks, None, True), precision)
            for q, looks, precision in zip(self.axes.queries, self.axes.looks, self.axes.precision)
        ]

    def run(self, first: jax.Array, after: Form) -> tuple[jax.Array, list[jax.Array]]:
        """The last S, and what every query reads, ``[C, axes of S]`` of columns."""
        last, reads = chunk.run(self.matrix(first), self.writes(after, first.dtype), self.queries())
        return self.state(last), [self.columns(read) for read in reads]

    def through(self, first: jax.Array, after: Form) -> tuple[jax.Array, jax.Array | None]:
        """The last S ``[*B, m, r]`` of such a first one where nothing known is written; whether any of it is alive."""
        writes = self.writes(after, first.dtype)
        nothing = [jnp.zeros((*k.shape[:-1], first.shape[-1]), first.dtype) for k in writes.keys]
        last, _ = chunk.run(first, writes._replace(fresh=[], values=nothing), self.queries())
        return last, None if writes.alive is None else writes.alive.all(-1)

    def columns(self, x: jax.Array) -> jax.Array:
        """``[C, axes of S]`` of ``[*B, C, n]``."""
        x = x[..., : self.length, :][..., None, :]
        order = [*(1 + i for i in self.batch), 0, 1 + self.row, 1 + self.column]
        return x.transpose([order.index(i) for i in range(len(order))])

    def value(self, value: object, v: Var, reads: list[jax.Array]) -> jax.Array:
        """An output of every tick in its own axes."""
        shape = (self.length, *v.aval.shape)
        if isinstance(value, Known):
            return jnp.broadcast_to(value.array, shape).astype(v.aval.dtype)
        if not isinstance(value, Vector):
            raise UnstructuredError(f"{v.aval.str_short()}: the state at every tick is asked for")
        known, found = value.columns
        terms = [] if known is None else [known]
        terms += [a * reads[j] for j, a in found.items()]
        total = sum(terms[1:], terms[0])
        order = [label for label in value.labels if label is not None]
        rest = [i for i in range(len(self.shape)) if i not in order]
        if any(total.shape[1 + i] > 1 for i in rest):
            raise UnstructuredError(f"{v.aval.str_short()}: what is read has other axes than the state")
        total = total.transpose([0, *(1 + i for i in order), *(1 + i for i in rest)])
        total = total.reshape(total.shape[: 1 + len(order)])
        sizes = iter(total.shape[1:])
        total = total.reshape(total.shape[0], *(1 if label is None else next(sizes) for label in value.labels))
        return jnp.broadcast_to(total, shape).astype(v.aval.dtype)

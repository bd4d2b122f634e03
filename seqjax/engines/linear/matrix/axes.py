"""Where values of a tick meet the axes of a matrix state S, and what has been read of S so far."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.linear.matrix.forms import (
    Columns,
    Form,
    Known,
    Labels,
    Pairs,
    UnstructuredError,
    Update,
    Value,
    Vector,
    said,
    varies,
    wide,
)
from seqjax.engines.linear.matrix.known import is_zero, pairs, sourced


class Axes:
    """One matrix state, and what has been read of it so far.

    Attributes:
      shape: of S.
      row: its axis along which it is read.
      column: its axis of what is read.
      dtype: of the algebra.
      queries: rows q of everything that is read of the S before the tick, ``[C, axes of S]``.
      looks: whether each read looks at S, ``[C, axes of S]`` or None for always.
      precision: of the products of each read.
      fresh: the matrices F, ``[1, axes of S]``.
    """

    def __init__(self, state: Var, axes: tuple[int, int]):
        """Of a state, along two of its axes."""
        self.shape = state.aval.shape
        self.row, self.column = axes
        self.dtype = wide(state.aval.dtype)
        self.queries: list[jax.Array] = []
        self.looks: list[jax.Array | None] = []
        self.precision: list[lax.PrecisionLike] = []
        self.fresh: list[jax.Array] = []
        self._numbers: dict[int, int] = {}

    @property
    def labels(self) -> Labels:
        """Of S itself."""
        return tuple(range(len(self.shape)))

    def aligned(self, x: jax.Array, labels: Labels) -> jax.Array:
        """An array with the axes of a value, with those of S: ``[C, axes of S]``."""
        if x.ndim == 1:
            return x.reshape(x.shape + (1,) * len(self.shape))
        kept = [(label, 1 + i) for i, label in enumerate(labels) if label is not None]
        if math.prod(x.shape[1 + i] for i, label in enumerate(labels) if label is None) != 1:
            raise UnstructuredError("a product that widens the state")
        order = [0, *(place for _, place in sorted(kept)), *(1 + i for i, label in enumerate(labels) if label is None)]
        x = x.transpose(order)
        sizes = dict(zip(sorted(label for label, _ in kept), x.shape[1:]))
        return x.reshape(x.shape[0], *(sizes.get(axis, 1) for axis in range(len(self.shape))))

    def form(self, value: Value, labels: Labels, what: str) -> Form:
        """What does not depend on S, or only on what is read of it, as a Form."""
        if isinstance(value, Form):
            return value
        if isinstance(value, Vector):
            return Form(labels, None, {}, (Update(self.one(), value.columns),), None)
        if isinstance(value, Known) and is_zero(value.array):
            return Form(labels, None, {}, (), None)
        if isinstance(value, Known):
            x = self.aligned(value.array, labels)
            if varies(x, self.row) and varies(x, self.column):
                if x.shape[0] > 1:
                    raise UnstructuredError(f"{what}: a matrix that is an input, not an outer product")
                number = self._numbers.setdefault(id(value.array), len(self.fresh))
                if number == len(self.fresh):
                    self.fresh.append(x)
                return Form(labels, None, {number: self.one()}, (), None)
        updates = []
        for pair in pairs(value):
            x, y = (self.aligned(factor, labels).astype(self.dtype) for factor in pair)
            if varies(x, self.column) or varies(y, self.row):
                x, y = y, x
            if varies(x, self.column) or varies(y, self.row):
                raise UnstructuredError(f"{what}: factors that both vary along both axes")
            updates.append(Update(x, Columns(y, {})))
        return Form(labels, None, {}, tuple(updates), None)

    def one(self) -> jax.Array:
        """1, the same everywhere."""
        return jnp.ones((1,) * (1 + len(self.shape)), self.dtype)

    def factor(self, value: Value, labels: Labels, e: Equation) -> jax.Array:
        """A known factor ``[C, axes of S]``."""
        if not isinstance(value, Known):
            raise UnstructuredError(f"{said(e)}: a product of two values that depend on the state")
        return self.aligned(value.array, labels).astype(self.dtype)

    def placed(self, e: Equation, x: Value, sources: list[int | None], shape: tuple[int, ...]) -> Value:
        """A value whose axes are those of another, by their places, or new."""
        if isinstance(x, Pairs):
            moved = [tuple(sourced(factor, sources) for factor in pair) for pair in x.pairs]
            return Pairs(tuple(moved))  # type: ignore[arg-type]
        assert not isinstance(x, Known)
        labels = [None if s is None else x.labels[s] for s in sources]
        for i, (label, size) in enumerate(zip(labels, shape)):
            if label is None and size > 1:
                missing = [axis for axis in range(len(self.shape)) if axis not in labels and self.shape[axis] == size]
                if isinstance(x, Form) or self.row not in missing:
                    raise UnstructuredError(f"{said(e)} repeats what depends on the state")
                labels[i] = self.row
        return x._replace(labels=tuple(labels))

    def labelled(self, labels: Labels, e: Equation) -> Labels:
        """Those of columns in a value of S's size: the axis that they lack is that of rows."""
        shape = e.outvars[0].aval.shape
        if len(shape) != len(labels):
            raise UnstructuredError(f"{said(e)}: columns and values of other axes")
        return tuple(self.row if label is None and size > 1 else label for label, size in zip(labels, shape))

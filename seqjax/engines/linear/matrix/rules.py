"""Equations on values that depend on a matrix state S, each by its own rule; see `forms`."""

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.engines.equations.jaxprs import Equation
from seqjax.engines.linear.detect import wider
from seqjax.engines.linear.matrix.axes import Axes
from seqjax.engines.linear.matrix.forms import (
    Columns,
    Form,
    Known,
    Pairs,
    UnstructuredError,
    Update,
    Value,
    Vector,
    said,
    varies,
)
from seqjax.engines.linear.matrix.known import pairs, pairs_times, same_but_ones


class Rules(Axes):
    """The rule of every equation, by its primitive's name."""

    def apply(self, e: Equation, values: list[Value]) -> Value:
        """An equation's result.

        Raises:
          UnstructuredError: what has no form.
        """
        name = e.primitive.name
        rule = getattr(self, "_" + {"add_any": "add", "expand_dims": "reshape"}.get(name, name), None)
        if rule is None:
            raise UnstructuredError(f"{said(e)} of a matrix state")
        return rule(e, *values)

    # ---- sums and products

    def _mul(self, e: Equation, x: Value, y: Value) -> Value:
        if isinstance(y, Form | Vector) and not isinstance(x, Form | Vector):
            x, y = y, x
        if isinstance(x, Pairs) or isinstance(y, Pairs):
            return pairs_times(x, y, e)
        if isinstance(x, Known):
            raise UnstructuredError(f"{said(e)}: a product of two values that depend on the state")
        labels = self.labelled(x.labels, e)
        factor = self.factor(y, labels, e)
        if isinstance(x, Form):
            if varies(factor, self.column):
                raise UnstructuredError(f"{said(e)}: a factor of the state along what is read of it")
            return x.scaled(factor)
        if varies(factor, self.row):
            if varies(factor, self.column):
                raise UnstructuredError(f"{said(e)}: a factor that varies along both axes of the state")
            return Form(labels, None, {}, (Update(factor, x.columns),), None)
        return Vector(labels, x.columns.times(factor))

    def _div(self, e: Equation, x: Value, y: Value) -> Value:
        if isinstance(y, Form | Vector) or isinstance(x, Known):
            raise UnstructuredError(f"{said(e)}: a division by what depends on the state")
        return self._mul(e, x, Known(1 / y.array) if isinstance(y, Known) else y)

    def _neg(self, e: Equation, x: Value) -> Value:
        if isinstance(x, Pairs):
            return Pairs(tuple((-a, b) for a, b in x.pairs))
        if isinstance(x, Form):
            return x.map(jnp.negative)
        assert isinstance(x, Vector)
        return x._replace(columns=x.columns.map(jnp.negative))

    def _add(self, e: Equation, x: Value, y: Value) -> Value:
        if isinstance(x, Form) or isinstance(y, Form):
            labels = x.labels if isinstance(x, Form) else y.labels  # type: ignore[union-attr]
            a, b = (self.form(value, labels, said(e)) for value in (x, y))
            if a.labels != b.labels:
                raise UnstructuredError(f"{said(e)}: a sum of the state and its transpose")
            return a.plus(b)
        if isinstance(x, Pairs) or isinstance(y, Pairs):
            if isinstance(x, Vector) or isinstance(y, Vector):
                labels = self.labelled((x if isinstance(x, Vector) else y).labels, e)  # type: ignore[union-attr]
                return self.form(x, labels, said(e)).plus(self.form(y, labels, said(e)))
            return Pairs((*pairs(x), *pairs(y)))
        vector, other = (x, y) if isinstance(x, Vector) else (y, x)
        assert isinstance(vector, Vector)
        if isinstance(other, Vector):
            if other.labels != vector.labels:
                raise UnstructuredError(f"{said(e)}: a sum of values with other axes")
            return vector._replace(columns=vector.columns.plus(other.columns))
        labels = self.labelled(vector.labels, e)
        known = self.factor(other, labels, e)
        if varies(known, self.row):
            rows = Form(labels, None, {}, (Update(known, Columns(self.one(), {})),), None)
            return self.form(vector, labels, said(e)).plus(rows)
        return Vector(labels, vector.columns.plus(Columns(known, {})))

    def _sub(self, e: Equation, x: Value, y: Value) -> Value:
        return self._add(e, x, Known(-y.array) if isinstance(y, Known) else self._neg(e, y))

    def _copy(self, e: Equation, x: Value) -> Value:
        return x

    def _convert_element_type(self, e: Equation, x: Value) -> Value:
        before, after = e.invars[0].aval.dtype, e.outvars[0].aval.dtype
        if not wider(before, after):
            # Of a sum of products too: its rounding is not the sum of the factors'.
            raise UnstructuredError(f"{said(e)}: a cast of the state, or of what is added to it, to {after}")
        return Pairs(tuple((a.astype(after), b.astype(after)) for a, b in x.pairs)) if isinstance(x, Pairs) else x

    # ---- selections

    def _select_n(self, e: Equation, which: Value, off: Value, on: Value, *more: Value) -> Value:
        if not isinstance(which, Known) or more:
            raise UnstructuredError(f"{said(e)}: a condition that depends on the state")
        labelled = [side for side in (on, off) if isinstance(side, Form | Vector)]
        labelled.sort(key=lambda side: isinstance(side, Vector))
        if not labelled:
            raise UnstructuredError(f"{said(e)} of outer products")
        labels = labelled[0].labels
        p = self.aligned(which.array, labels)
        if any(side.labels != labels for side in labelled if type(side) is type(labelled[0])):
            raise UnstructuredError(f"{said(e)}: a choice of values with other axes")
        if isinstance(labelled[0], Vector):
            if varies(p, self.row):
                raise UnstructuredError(f"{said(e)}: a choice of columns by rows")
            parts = [
                side.columns if isinstance(side, Vector) else Columns(self.factor(side, labels, e), {})
                for side in (on, off)
            ]
            return Vector(labels, parts[0].where(p).plus(parts[1].where(~p)))
        if varies(p, self.column):
            raise UnstructuredError(f"{said(e)}: a choice along what is read of the state")
        first, second = (self.form(side, labels, said(e)) for side in (on, off))
        total = self._where(first, p).plus(self._where(second, ~p))
        if varies(p, self.row) or all(f.decay is not None and f.alive is None for f in (first, second)):
            return total._replace(alive=None)
        always = jnp.ones((1,) * p.ndim, bool)
        alive = [~always if f.decay is None else always if f.alive is None else f.alive for f in (first, second)]
        return total._replace(alive=jnp.where(p, alive[0], alive[1]))

    def _where(self, form: Form, p: jax.Array) -> Form:
        """A Form where a condition holds, nothing elsewhere, whatever stands there."""
        masked = form.map(lambda a: jnp.where(p, a, 0))
        if varies(p, self.row):
            return masked
        updates = tuple(Update(k, u.where(p)) for k, u in masked.updates)
        return masked._replace(updates=updates)

    # ---- axes

    def _broadcast_in_dim(self, e: Equation, x: Value, *_: Value) -> Value:
        shape, places = e.params["shape"], e.params["broadcast_dimensions"]
        return self.placed(e, x, [places.index(d) if d in places else None for d in range(len(shape))], shape)

    def _transpose(self, e: Equation, x: Value) -> Value:
        return self.placed(e, x, list(e.params["permutation"]), e.outvars[0].aval.shape)

    def _squeeze(self, e: Equation, x: Value) -> Value:
        kept = [d for d in range(e.invars[0].aval.ndim) if d not in e.params["dimensions"]]
        return self.placed(e, x, kept, e.outvars[0].aval.shape)  # type: ignore[arg-type]

    def _reshape(self, e: Equation, x: Value) -> Value:
        before, after = e.invars[0].aval.shape, e.outvars[0].aval.shape
        sources = same_but_ones(before, after)
        if sources is None:
            raise UnstructuredError(f"{said(e)} of what depends on the state")
        return self.placed(e, x, sources, after)

    # ---- what is read of S

    def _dot_general(self, e: Equation, x: Value, y: Value) -> Value:
        contract, batch = (list(zip(*pair)) for pair in e.params["dimension_numbers"])
        if isinstance(y, Form | Vector):
            contract, batch = [pair[::-1] for pair in contract], [pair[::-1] for pair in batch]
            mine, other, first = y, x, False
        else:
            mine, other, first = x, y, True  # type: ignore[assignment]
        if not isinstance(other, Known) or isinstance(mine, Pairs):
            raise UnstructuredError(f"{said(e)}: a product of two values that depend on the state")
        free = [i for i in range(len(mine.labels)) if i not in {a for a, _ in [*contract, *batch]}]
        rank = other.array.ndim - 1
        theirs = [i for i in range(rank) if i not in {b for _, b in [*contract, *batch]}]
        full = [v.aval.shape for v in (e.invars if first else e.invars[::-1])][1]
        labels: list[int | None] = [None] * rank
        for a, b in [*contract, *batch]:
            labels[b] = mine.labels[a]
        if isinstance(mine, Vector):
            if contract:
                raise UnstructuredError(f"{said(e)}: a sum over what is read of the state")
            wide = [i for i in theirs if full[i] > 1]
            if len(wide) > 1:
                raise UnstructuredError(f"{said(e)} widens what is read of the state")
            for i in wide:
                labels[i] = self.row
        elif [mine.labels[a] for a, _ in contract] != [self.row]:
            raise UnstructuredError(f"{said(e)}: a product of the state along other axes than its rows'")
        elif any(full[i] > 1 for i in theirs):
            raise UnstructuredError(f"{said(e)}: several queries in one product")
        factor = self.aligned(other.array, tuple(labels)).astype(self.dtype)
        side = [[mine.labels[i] for i in free], [labels[i] for i in theirs]]
        out = (*(mine.labels[a] for a, _ in batch), *(side[0] if first else side[1]), *(side[1] if first else side[0]))
        if isinstance(mine, Vector):
            if varies(factor, self.row):
                return Form(out, None, {}, (Update(factor, mine.columns),), None)
            return Vector(out, mine.columns.times(factor))
        if varies(factor, self.column):
            raise UnstructuredError(f"{said(e)}: a query for each of what is read")
        return Vector(out, self._read(mine, factor, e.params["precision"]))

    def _reduce_sum(self, e: Equation, x: Value) -> Value:
        axes = e.params["axes"]
        if not isinstance(x, Form) or {x.labels[a] for a in axes} - {None} != {self.row}:
            raise UnstructuredError(f"{said(e)}: a sum over other axes than the rows of the state")
        kept = tuple(label for i, label in enumerate(x.labels) if i not in axes)
        return Vector(kept, self._read(x, self.one(), None))

    def _read(self, form: Form, q: jax.Array, precision: lax.PrecisionLike) -> Columns:
        """Columns ``Σ_m q_m form_m``."""
        total = Columns(None, {})
        if form.decay is not None:
            self.queries.append(q * form.decay)
            self.looks.append(form.alive)
            self.precision.append(precision)
            total = total.plus(Columns(None, {len(self.queries) - 1: self.one()}))
        for number, rho in form.fresh.items():
            matrix = self.fresh[number].astype(self.dtype)
            total = total.plus(Columns(self.contracted(q * rho, matrix, precision), {}))
        for key, columns in form.updates:
            by = (q * key).sum(1 + self.row, keepdims=True)
            if not (varies(q, self.row) or varies(key, self.row)):
                by = by * self.shape[self.row]
            total = total.plus(columns.times(by))
        return total

    def contracted(self, q: jax.Array, matrix: jax.Array, precision: lax.PrecisionLike) -> jax.Array:
        """``Σ_m q_m F_m`` in the axes of S."""
        q = jnp.broadcast_to(q, (*q.shape[: 1 + self.row], self.shape[self.row], *q.shape[2 + self.row :]))
        axes = "".join(chr(ord("a") + i) for i in range(len(self.shape)))
        row, column = axes[self.row], axes[self.column]
        q = jnp.squeeze(q, 1 + self.column)
        q_shape = (q.shape[0], *(n for i, n in enumerate(self.shape) if i != self.column))
        q = jnp.broadcast_to(q, q_shape)
        matrix = jnp.broadcast_to(matrix[0], self.shape)
        out = jnp.einsum(
            f"Z{axes.replace(column, '')},{axes}->Z{axes.replace(row, '')}", q, matrix, precision=precision
        )
        return jnp.expand_dims(out, 1 + self.row)

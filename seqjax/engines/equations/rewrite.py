"""One pass over a tick's equations that lets each part of a sum go its own way.

It has three rules:

    concat([x, h]) @ W      becomes   x @ W[:d] + h @ W[d:]
    split(x̂ + h U + b)      becomes   split(x̂ + b) + split(h U)
    W[x] V                  becomes   (W V)[x]

The first two part what recurs from what does not. The third: the table W V is the same at every tick; with few symbols
and many ticks it is by far the smaller product, forwards and backwards, and its gradient is one sum over the ticks that
read a symbol.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives

from seqjax import symbolic
from seqjax.engines.equations import jaxprs, linear_call
from seqjax.engines.equations.jaxprs import Aval, ClosedJaxpr, Equation, Jaxpr

# A table pays where every row of it is read several times: W V costs as much as the products of as many ticks as W has
# rows, and then once more to be looked up. Counted, not measured: at 4 reads three quarters of the products are saved.
READS = 4


class Value(NamedTuple):
    """A value of a tick, and what is known of where it comes from.

    Attributes:
      array: the value itself.
      recurs: whether it depends on the state.
      moves: whether it depends on the state or on the tick's inputs.
      constant: whether it is written into an equation.
      terms: what it is the sum of; empty where it is no sum.
      joined: what it is the concatenation of; None where it is none.
      rows: what was looked up to give it; None where nothing was.
    """

    array: Any
    recurs: bool = False
    moves: bool = False
    constant: bool = False
    terms: "tuple[Value, ...]" = ()
    joined: "Joined | None" = None
    rows: "Rows | None" = None

    @property
    def aval(self) -> Aval:
        """Its type."""
        return jax.typeof(self.array)


class Joined(NamedTuple):
    """Values concatenated along an axis."""

    parts: tuple[Value, ...]
    axis: int


class Rows(NamedTuple):
    """Rows of a matrix: the parameters of the look-up, the matrix and the indices."""

    params: dict
    matrix: Value
    indices: Value


def rewritten(closed: ClosedJaxpr, *, params: int, state: int, ticks: int | None) -> ClosedJaxpr:
    """The same tick by the three rules; nothing in it may be a transparent call any more.

    Args:
      closed: a tick, ``(*params, *state, *x) -> …``.
      params: how many of its arguments are parameters.
      state: how many are leaves of the state.
      ticks: T; None where the tick reads no input.
    """
    sources = [(False, False)] * params + [(True, True)] * state
    sources += [(False, True)] * (len(closed.in_avals) - params - state)

    def run(*arrays: jax.Array) -> list:
        values = [Value(array, recurs, moves) for array, (recurs, moves) in zip(arrays, sources)]
        environment = dict(zip(closed.jaxpr.invars, values))
        environment |= {v: Value(array) for v, array in zip(closed.jaxpr.constvars, closed.consts)}
        read = lambda v: Value(v.val, constant=True) if jaxprs.is_literal(v) else environment[v]
        for e in closed.jaxpr.eqns:
            inputs = [read(v) for v in e.invars]
            environment.update(zip(e.outvars, _apply(closed.jaxpr, e, inputs, ticks)))
        return [jaxprs.literal(v) if jaxprs.is_literal(v) else environment[v].array for v in closed.jaxpr.outvars]

    return jaxprs.trace(run, *closed.in_avals)


def _apply(template: Jaxpr, e: Equation, inputs: list[Value], ticks: int | None) -> Sequence[Value]:
    """One equation by the rule that fits it, or as it stands."""
    primitive = e.primitive
    if primitive is primitives.concatenate_p and len(inputs) > 1:
        return [_plain(e, inputs, joined=Joined(tuple(inputs), e.params["dimension"]))]
    if primitive is primitives.convert_element_type_p:
        return [_cast(e, inputs[0])]
    if primitive is primitives.dot_general_p:
        return [_product(e, *inputs)]
    if primitive is primitives.add_p and jaxprs.is_float(e.outvars[0].aval):
        return [_sum(inputs)]
    if primitive.name == "split":
        return _split(e, inputs[0])
    if primitive is primitives.gather_p:
        return [_look_up(e, inputs, ticks)]
    outputs = jaxprs.evaluate(template, e, [value.array for value in inputs])
    return [Value(array, _any(inputs, "recurs"), _any(inputs, "moves")) for array in outputs]


def _plain(e: Equation, inputs: Sequence[Value], **known: Any) -> Value:
    """An equation as it stands; and what is known of its result."""
    array = e.primitive.bind(*(value.array for value in inputs), **e.params)
    return Value(array, _any(inputs, "recurs"), _any(inputs, "moves"), **known)


def _any(values: Sequence[Value], what: str) -> bool:
    return any(getattr(value, what) for value in values)


def _cast(e: Equation, value: Value) -> Value:
    """The cast of a concatenation is one of casts; the cast of rows, rows of a cast."""
    joined, rows = value.joined, value.rows
    if joined is not None:
        joined = joined._replace(parts=tuple(_plain(e, [part]) for part in joined.parts))
    if rows is not None:
        rows = rows._replace(matrix=_plain(e, [rows.matrix]))
    return _plain(e, [value], joined=joined, rows=rows)


def _product(e: Equation, a: Value, b: Value) -> Value:
    """The first rule, then the third."""
    contracted, _ = e.params["dimension_numbers"]
    for side, value, other in ((0, a, b), (1, b, a)):
        if value.joined is not None and tuple(contracted[side]) == (value.joined.axis,):
            widths = [part.array.shape[value.joined.axis] for part in value.joined.parts]
            pieces = lax.split(other.array, widths, axis=contracted[1 - side][0])
            weights = [Value(piece, other.recurs, other.moves) for piece in pieces]
            pairs = zip(value.joined.parts, weights) if side == 0 else zip(weights, value.joined.parts)
            return _sum([_product(e, *pair) for pair in pairs])
    if a.rows is not None and not b.moves and not b.constant and _multiplies_rows(e, a.aval, b.aval):
        (_, right), batch = e.params["dimension_numbers"]
        numbers = {"dimension_numbers": (((1,), right), batch)}
        multiply = functools.partial(e.primitive.bind, **e.params | numbers)
        table = _table(multiply, a.rows.matrix.array, b.array)
        sizes = {"slice_sizes": (1, table.shape[1])}
        return Value(primitives.gather_p.bind(table, a.rows.indices.array, **a.rows.params | sizes), a.recurs, True)
    return _plain(e, [a, b])


def _table(multiply: Callable, rows: jax.Array, weight: jax.Array) -> jax.Array:
    """``W V``, whose gradients leave out the rows that no tick reads, as those of ``W[x] V`` do.

    A row that is not read may hold anything: its cotangent is zero, but zero times NaN, or infinity, is not.
    """

    def read(cotangent: jax.Array) -> jax.Array:
        return (cotangent != 0).any(1, keepdims=True)

    def by_rows(coefficients: list, cotangents: list) -> list:
        (back,) = jax.linear_transpose(lambda d: multiply(d, coefficients[0]), rows)(cotangents[0])
        return [jnp.where(read(cotangents[0]), back, jnp.zeros_like(back))]

    def by_weight(coefficients: list, cotangents: list) -> list:
        (w,) = coefficients
        w = jnp.where(read(cotangents[0]), w, jnp.zeros_like(w))
        return list(jax.linear_transpose(lambda d: multiply(w, d), weight)(cotangents[0]))

    of_rows = lambda coefficients, moving: [multiply(moving[0], coefficients[0])]
    of_weight = lambda coefficients, moving: [multiply(coefficients[0], moving[0])]

    @jax.custom_jvp
    def product(w: jax.Array, v: jax.Array) -> jax.Array:
        return multiply(w, v)

    @product.defjvp
    def tangent(primals: tuple, tangents: tuple) -> tuple:
        (w, v), (d_w, d_v) = primals, tangents
        (first,) = linear_call.call(linear_call.Linear(of_rows, by_rows, of_rows), [v], [d_w])
        (second,) = linear_call.call(linear_call.Linear(of_weight, by_weight, of_weight), [w], [d_v])
        return product(w, v), first + second

    return product(rows, weight)


def _sum(values: Sequence[Value]) -> Value:
    """``((a + b) + c) + …``, remembering what was added."""

    def add(a: Value, b: Value) -> Value:
        terms = tuple(term for value in (a, b) for term in value.terms or (value,))
        return Value(lax.add(a.array, b.array), a.recurs or b.recurs, a.moves or b.moves, terms=terms)

    return functools.reduce(add, values)


def _split(e: Equation, total: Value) -> list[Value]:
    """The second rule: a sum is split in two parts, that which recurs and that which does not.

    A loop on a CPU that reads all gates' x̂[t] at once and cuts it up is not vectorised: an LSTM's forward pass takes
    1.4 to 1.7 times as long.
    """
    axis, sizes = e.params["axis"], e.params["sizes"]
    recurring = [term for term in total.terms if term.recurs]
    others = [term for term in total.terms if not term.recurs]
    shapes = {np.shape(term.array)[axis:] for term in total.terms}
    if not recurring or not others or shapes != {total.array.shape[axis:]}:
        return [
            Value(piece, total.recurs, total.moves) for piece in e.primitive.bind(total.array, axis=axis, sizes=sizes)
        ]
    parts = (lax.split(_sum(terms).array, sizes, axis) for terms in (others, recurring))
    return [Value(lax.add(a, b), True, True) for a, b in zip(*parts)]


def _look_up(e: Equation, inputs: list[Value], ticks: int | None) -> Value:
    """A look-up in a matrix that does not move, remembered where a table of products pays."""
    matrix, indices = inputs[0], inputs[1]
    out = _plain(e, inputs)
    if ticks is None or matrix.moves or matrix.constant or not _takes_rows(e, out.aval):
        return out
    few = READS * matrix.array.shape[0] <= symbolic.entries((ticks, *out.array.shape[:-1]))
    return out._replace(rows=Rows(e.params, matrix, indices)) if few else out


def _takes_rows(e: Equation, out: Aval) -> bool:
    """``W[x]`` along the first axis; what lies outside W must be the same in W V: nothing, NaN or zero."""
    matrix, params = e.invars[0].aval, e.params
    numbers, fill = params["dimension_numbers"], params["fill_value"]
    return (
        matrix.ndim == 2
        and jaxprs.is_float(matrix)
        and tuple(params["slice_sizes"]) == (1, matrix.shape[1])
        and tuple(numbers.collapsed_slice_dims) == tuple(numbers.start_index_map) == (0,)
        and tuple(numbers.offset_dims) == (out.ndim - 1,)
        and (fill is None or fill == 0 or math.isnan(fill))
    )


def _multiplies_rows(e: Equation, a: Aval, weight: Aval) -> bool:
    """``a V`` along the last axis of a, V a matrix."""
    (left, right), (batch, _) = e.params["dimension_numbers"]
    return weight.ndim == 2 and not batch and tuple(left) == (a.ndim - 1,) and len(right) == 1

"""Products of rows that are looked up, as rows looked up in a product.

    W[x] V = (W V)[x]

The table W V is the same at every tick. With few symbols and many ticks it is by far the smaller product, forwards and
backwards; its gradient is one sum over the ticks that read a symbol.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import primitives

from seqjax.engines import jaxprs
from seqjax.engines.jaxprs import Equation, Var

# A table pays where every row of it is read several times.
READS = 4


class Rows(NamedTuple):
    """Rows of a matrix: the value looked up, the equation that did it, the matrix and the indices."""

    value: Any
    equation: Equation
    matrix: Any
    indices: Any


def multiply_first(equation: Equation, inputs: list, found: dict, moving: set[Var], ticks: int) -> Sequence | None:
    """Rule: ``W[x] V`` becomes ``(W V)[x]`` where neither W nor V is in ``moving`` and W has few rows.

    Args:
      equation: of the tick.
      inputs: its operands.
      found: remembers, by identity, what was looked up.
      moving: the variables that change along time.
      ticks: T.
    """
    primitive, params = equation.primitive, equation.params
    if primitive is primitives.gather_p and _takes_rows(equation) and _still(equation.invars[0], moving):
        out = primitive.bind(*inputs, **params)
        if READS * inputs[0].shape[0] <= ticks * math.prod(out.shape[:-1]):
            found[id(out)] = Rows(out, equation, *inputs)
        return [out]
    rows = found.get(id(inputs[0])) if inputs else None
    if rows is None:
        return None
    if primitive is primitives.convert_element_type_p:
        out, matrix = (primitive.bind(value, **params) for value in (inputs[0], rows.matrix))
        found[id(out)] = rows._replace(value=out, matrix=matrix)
        return [out]
    if primitive is primitives.dot_general_p and _multiplies_rows(equation) and _still(equation.invars[1], moving):
        (_, right), batch = params["dimension_numbers"]
        table = primitive.bind(rows.matrix, inputs[1], **params | {"dimension_numbers": (((1,), right), batch)})
        sizes = {"slice_sizes": (1, table.shape[1])}
        return [primitives.gather_p.bind(table, rows.indices, **rows.equation.params | sizes)]
    return None


def _still(v: Var, moving: set[Var]) -> bool:
    return not jaxprs.is_literal(v) and v not in moving


def _takes_rows(equation: Equation) -> bool:
    """``W[x]`` along the first axis; what lies outside W must be the same in W V: nothing, NaN or zero."""
    matrix, params = equation.invars[0].aval, equation.params
    numbers, fill = params["dimension_numbers"], params["fill_value"]
    return (
        matrix.ndim == 2
        and jaxprs.is_float(matrix)
        and tuple(params["slice_sizes"]) == (1, matrix.shape[1])
        and tuple(numbers.collapsed_slice_dims) == tuple(numbers.start_index_map) == (0,)
        and tuple(numbers.offset_dims) == (equation.outvars[0].aval.ndim - 1,)
        and (fill is None or fill == 0 or math.isnan(fill))
    )


def _multiplies_rows(equation: Equation) -> bool:
    """``a V`` along the last axis of a, V a matrix."""
    a, weight = (v.aval for v in equation.invars)
    (left, right), (batch, _) = equation.params["dimension_numbers"]
    return weight.ndim == 2 and not batch and tuple(left) == (a.ndim - 1,) and len(right) == 1

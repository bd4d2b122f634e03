"""Layers as rows of parts, a row a layer, a part a direction: put together from others' weights, and taken apart."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import records
from seqjax.base import Cell, Layer, PyTree
from seqjax.layers import BidirectionalParams, bidirectional, dropout, recurrent, serial
from seqjax.transforms import stack

DRAWING = ("w_x_init", "w_h_init", "w_c_init", "w_p_init", "b_init", "inner_bias", "dtype", "compute_dtype")
SIZES = ("input_size", "hidden_size", "projection_size")


class Part(NamedTuple):
    """One direction of one layer: a cell and its parameters."""

    cell: Cell
    params: PyTree
    reverse: bool = False


Rows = Sequence[Sequence[Part]]


def put_together(
    rows: Rows, *, rate: float = 0.0, engine: Any = "auto", memory: str | int = "auto"
) -> tuple[Layer, Any]:
    """A layer of rows of one part or two, and its parameters; a single row is no `serial`.

    Args:
      rows: from the input to the output.
      rate: of dropout between rows.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.
    """
    options: Any = {"engine": engine, "memory": memory}
    layers: list[Any] = []
    params: list[Any] = []
    for row in rows:
        if layers and rate:
            layers.append(dropout(rate))
            params.append(())
        if len(row) == 2:
            layers.append(bidirectional(row[0].cell, row[1].cell, keep_backward=True, **options))
            params.append(BidirectionalParams(row[0].params, row[1].params))
        else:
            turned: Any = {"reverse": True} if row[0].reverse else {}
            layers.append(recurrent(row[0].cell, **turned, **options))
            params.append(row[0].params)
    if len(layers) == 1:
        return layers[0], params[0]
    return serial(*layers), tuple(params)


def taken_apart(who: str, module: Cell | Layer, params: PyTree) -> list[list[Part]]:
    """The rows of a layer that others could have: recurrent, bidirectional, a stack of cells, several in a row.

    Raises:
      TypeError: any other layer, named.
    """
    maker, options = made_by(who, module)
    if maker in (serial, stack):
        inner = options["layers" if maker is serial else "cells"]
        if not isinstance(params, tuple) or len(params) != len(inner):
            raise ValueError(
                f"{who}: expected the {len(inner)} parts of {module}, got {described(params)}. Pass its own."
            )
        return [row for one, p in zip(inner, params) for row in taken_apart(who, one, p)]
    if maker is dropout:
        return []
    if maker is recurrent:
        rows = taken_apart(who, options["cell"], params)
        return [[part._replace(reverse=options["reverse"]) for part in row] for row in rows]
    if maker is bidirectional:
        ends = [taken_apart(who, options[name], p) for name, p in zip(("forward", "backward"), params)]
        if not all(len(end) == 1 and len(end[0]) == 1 and not end[0][0].reverse for end in ends):
            raise TypeError(
                f"{who}: expected one cell in each direction, got {module}. Make a bidirectional layer of each."
            )
        return [[end[0][0] for end in ends]]
    if isinstance(module, Cell):
        return [[Part(module, params)]]
    raise TypeError(
        f"{who}: expected recurrent or bidirectional layers, or serial of them, got {module}. "
        "Pass the recurrent part alone."
    )


def made_by(who: str, module: Any) -> tuple[Any, dict[str, Any]]:
    """The maker of a record, and all of its options by name."""
    call = records.call_of(module)
    if call is None:
        raise TypeError(
            f"{who}: expected a layer or cell by one of the package's makers, such as recurrent(lstm(3, 4)), got "
            f"{module!r}. Others have no weights for an equation of one's own."
        )
    options = dict(call.options().arguments)
    return call.maker, {**options, **options.pop("options", {})}


def said(who: str, cell: Cell, words: Mapping[Any, Mapping[str, Sequence[Any]]]) -> tuple[Any, dict[str, Any]]:
    """The maker of a cell that a framework has, with the options that the framework can say.

    Args:
      who: the framework's passport, in errors.
      cell: ours.
      words: for each maker the options that may have other values than the default, and which; ``...`` for any.

    Returns:
      The maker, and all options.

    Raises:
      TypeError: a cell that the framework does not have.
      ValueError: an option that it cannot say.
    """
    maker, options = made_by(who, cell)
    if maker not in words:
        names = ", ".join(each.__name__ for each in words)
        raise TypeError(f"{who}: expected a cell that it has, {names}, got {cell}. Keep this one here, or export it.")
    defaults = {name: parameter.default for name, parameter in inspect.signature(maker).parameters.items()}
    for name, value in options.items():
        allowed = words[maker].get(name, (defaults.get(name),))
        if name in SIZES or name in DRAWING or allowed is ... or value in allowed:
            continue
        raise ValueError(
            f"{who}: expected {name} to be one of {', '.join(map(records.shown, allowed))} in a {maker.__name__}, "
            f"got {records.shown(value)}. It has no word for another."
        )
    return maker, options


def alike(who: str, parts: Sequence[Part], words: Mapping[Any, Any]) -> bool:
    """Whether parts are of one maker with the same units, activations and biases, as one module of others has."""

    def form(part: Part) -> tuple:
        maker, options = said(who, part.cell, words)
        kept = {name: value for name, value in options.items() if name not in (*DRAWING, "input_size")}
        return maker, *sorted(kept.items(), key=lambda item: item[0]), part.params.b is None

    return all(form(part) == form(parts[0]) for part in parts)


def dtype_of(w: Any) -> Any:
    """The dtype in which a cell draws such weights: None for the default float, also where JAX has no wider one."""
    kind = jax.dtypes.canonicalize_dtype(w.dtype)
    return None if kind == jnp.zeros(()).dtype else str(kind)


def described(params: PyTree) -> str:
    """What was given in the place of parameters, in a word."""
    return f"{type(params).__name__} of {len(params)}" if isinstance(params, tuple) else type(params).__name__


def nested(weights: Any, is_leaf: Any) -> list[list[Any]]:
    """Weights of parts as rows: a list a layer, a pair a direction, one alone for one layer of one direction."""
    if is_leaf(weights):
        return [[weights]]
    if isinstance(weights, tuple) and len(weights) == 2 and all(map(is_leaf, weights)):
        return [list(weights)]
    return [row for each in weights for row in nested(each, is_leaf)]


def as_nested(rows: Sequence[Sequence[Any]]) -> Any:
    """Rows as `nested` reads them: what is alone stands alone."""
    shown = [row[0] if len(row) == 1 else tuple(row) for row in rows]
    return shown[0] if len(shown) == 1 else shown

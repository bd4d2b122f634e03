"""What a cell or layer is called with, for exporters: how a sequence starts, a tick or a chunk, and their types."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.export
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Key, Layer, PyTree

Extra = Literal["mask", "lengths", "reset", "key"]
Size = int | str
EXTRAS = ("mask", "lengths", "reset", "key")


class Call(NamedTuple):
    """Two functions and the types of their arguments.

    Attributes:
      start: ``(params, xs, key=None) -> state`` makes the state before inputs of that shape.
      run: ``(params, state, xs, **extra) -> (state, ys)`` runs a cell's tick, or a layer's chunk.
      state: types of the state.
      xs: types of the inputs.
      at_start: types of what ``start`` is given by name.
      extra: types of what ``run`` is given by name.
    """

    start: Callable
    run: Callable
    state: PyTree
    xs: PyTree
    at_start: dict[str, jax.ShapeDtypeStruct]
    extra: dict[str, jax.ShapeDtypeStruct]


def call_of(
    who: str,
    module: Cell | Layer,
    params: PyTree,
    x: PyTree,
    *,
    length: Size,
    batch: Size | tuple[Size, ...],
    takes: Sequence[Extra],
) -> Call:
    """How a module is called; letters in ``length`` and ``batch`` become symbols of one scope.

    Args:
      who: asks, for errors.
      module: a cell or layer.
      params: its parameters.
      x: one tick's input of one sequence.
      length: ticks a chunk; nothing to a cell.
      batch: sequences a batch, in a tuple where there are several axes of them.
      takes: what it is given by name.

    Raises:
      TypeError: neither a cell nor a layer.
      ValueError: an extra that is none, or that a cell does not take; one letter for two sizes.
    """
    is_cell = isinstance(module, Cell)
    if not is_cell:
        checks.instance(who, module, Layer, "Wrap a function in pointwise(fn).")
    for each in takes:
        checks.choice(who, "takes" + " of a cell" * is_cell, each, ("key",) if is_cell else EXTRAS)
    sizes = (length, *(batch if isinstance(batch, tuple) else (batch,)))
    letters = [size for size in sizes if isinstance(size, str)]
    if len(set(letters)) < len(letters):
        raise ValueError(
            f"{who}: expected a letter of its own for length and each axis of the batch, got {', '.join(letters)}. "
            "One letter is one size."
        )
    ticks, *lanes = jax.export.symbolic_shape(", ".join(map(str, sizes)))
    leading = (*lanes,) if is_cell else (ticks, *lanes)
    one = jax.eval_shape(lambda x: x, x)
    xs = jax.tree.map(lambda each: jax.ShapeDtypeStruct((*leading, *each.shape), each.dtype), one)
    types = {
        "mask": jax.ShapeDtypeStruct(leading, jnp.bool_),
        "lengths": jax.ShapeDtypeStruct((*lanes,), jnp.int32),
        "reset": jax.ShapeDtypeStruct(leading, jnp.bool_),
        "key": jax.eval_shape(lambda: jax.random.key(0)),
    }

    def start(params: PyTree, xs: PyTree, key: Key | None = None) -> PyTree:
        shape = jax.tree.leaves(xs)[0].shape
        return module.initial_state(params, shape[len(leading) - len(lanes) : len(leading)], key=key)

    def run(params: PyTree, state: PyTree, xs: PyTree, **extra: Array) -> tuple[PyTree, PyTree]:
        return module.step(params, state, xs) if isinstance(module, Cell) else module.apply(params, state, xs, **extra)

    at_start = {"key": types["key"]} if "key" in takes else {}
    extra: dict[str, jax.ShapeDtypeStruct] = {} if is_cell else {name: types[name] for name in takes}
    return Call(start, run, jax.eval_shape(start, params, xs, **at_start), xs, at_start, extra)

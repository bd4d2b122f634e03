"""Graphs for ONNX's runtimes, by jax2onnx: a cell's tick or a layer's chunk, state in and out, by flat names."""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from seqjax import checks, symbolic
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.engines.equations.jaxprs import ClosedJaxpr
from seqjax.interop.calls import Call, Extra, Size, call_of
from seqjax.interop.equations import evaluated, names, written_out
from seqjax.interop.extras import needed


def to_onnx(
    module: Cell | Layer,
    params: PyTree,
    x: PyTree,
    path: str | pathlib.Path | None = None,
    *,
    length: Size = "t",
    batch: Size | tuple[Size, ...] = "b",
    takes: Sequence[Extra] = (),
    state: Literal["given", "initial"] = "given",
    opset: int = 21,
) -> Any:
    """A cell's tick or a layer's chunk as an ONNX graph with the parameters in it.

        x, state.h, state.c  →  y, next_state.h, next_state.c

    The inputs are ``x`` (``xs`` of a layer), the leaves of the state by their fields and places, and what the layer
    ``takes``; the outputs ``y`` (``ys``) and the next state, under the names of the state with ``next_`` in front.


    Args:
      module: the cell or layer.
      params: its parameters.
      x: one tick's input of one sequence, as an array or a `jax.ShapeDtypeStruct`.
      path: of the file; None writes none.
      length: ticks a chunk; a letter for any number of them. Nothing to a cell.
      batch: sequences a batch; a letter for any number of them, a tuple for several axes, ``()`` for one sequence.
      takes: inputs by name, of ``"mask"``, ``"lengths"`` and ``"reset"``.
      state: ``"given"`` as inputs, or ``"initial"``: the graph begins a sequence itself, and still returns the state
        to go on from.
      opset: version of ONNX's operators.

    Returns:
      The `onnx.ModelProto`.

    Raises:
      ModuleNotFoundError: jax2onnx or onnx is not installed.
      TypeError: neither a cell nor a layer.
      ValueError: an extra that is none; random numbers, which ONNX draws otherwise; complex numbers in the state.
      NotImplementedError: an operation that jax2onnx does not know; names it.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.lstm(3, 4)
      >>> graph = sj.interop.to_onnx(cell, cell.init(jax.random.key(0)), jnp.ones(3)).graph
      >>> [each.name for each in graph.input]
      ['x', 'state.h', 'state.c']
    """
    exporter, onnx = needed("jax2onnx", extra="onnx"), needed("onnx", extra="onnx")
    checks.choice("to_onnx", "state", state, ("given", "initial"))
    wide = any(jnp.result_type(leaf) == jnp.float64 for leaf in jax.tree.leaves((params, x)))
    with jax.enable_x64(wide):  # as the exporter does
        call = call_of("to_onnx", module, params, x, length=length, batch=batch, takes=takes)
        closed, inputs, outputs = _equations(call, isinstance(module, Cell), params, state)
        model = _converted(exporter, closed, inputs, opset, wide)
    _name_outputs(onnx, model.graph, outputs, closed.out_avals)
    _drop_unused(model.graph)
    onnx.checker.check_model(model)
    if path is not None:
        onnx.save(model, str(path))
    return model


def _equations(call: Call, is_cell: bool, params: PyTree, state: str) -> tuple[ClosedJaxpr, list[str], list[str]]:
    """What runs, and the names of what goes in and comes out."""
    _numbers(call)
    given = {"x" if is_cell else "xs": call.xs, **({"state": call.state} if state == "given" else {})}
    types, tree = jax.tree.flatten((tuple(given.values()), call.extra))

    def run(*values: Array) -> list:
        (xs, *states), extra = tree.unflatten(values)
        before = states[0] if states else call.start(params, xs)
        after, ys = call.run(params, before, xs, **extra)
        return jax.tree.leaves((ys, after))

    closed = written_out(run, types)
    drawn = sorted(name for name in names(closed) if name.startswith(("random_", "threefry")))
    if drawn:
        raise ValueError(
            f"to_onnx: expected no random numbers, which ONNX draws otherwise, got {', '.join(drawn)}. "
            "Leave keys out, or draw what is random outside and give it as an input."
        )
    inputs = [name for part, of in (*given.items(), *sorted(call.extra.items())) for name in _names(part, of)]
    after, ys = jax.eval_shape(call.run, params, call.state, call.xs, **call.extra)
    return closed, inputs, [*_names("y" if is_cell else "ys", ys), *_names("next_state", after)]


def _numbers(call: Call) -> None:
    """States and inputs are real numbers: ONNX has no keys, and no products of complex numbers."""
    for path, leaf in jax.tree_util.tree_flatten_with_path((call.state, call.extra, call.at_start))[0]:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise ValueError(
                f"to_onnx: expected numbers, got {leaf.dtype} at {jax.tree_util.keystr(path[1:])}. "
                "ONNX has no keys: leave them out."
            )
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise ValueError(
                f"to_onnx: expected real numbers, got {leaf.dtype}{list(leaf.shape)} in the state or an input. "
                "ONNX has no products of complex numbers: export with `exported` or `export_module`."
            )


def _names(front: str, tree: PyTree) -> list[str]:
    """Names of a tree's leaves, ``state.1.h``, in their order."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [".".join([front, *(jax.tree_util.keystr((key,), simple=True) for key in path)]) for path, _ in paths]


def _converted(exporter: Any, closed: ClosedJaxpr, inputs: list[str], opset: int, wide: bool) -> Any:
    logger, cumsum = logging.getLogger("onnx_ir"), jnp.cumsum
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells of types in the middle that are not known, which runtimes infer
    try:
        return exporter.to_onnx(
            lambda *values: tuple(evaluated(closed, values)),
            [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.in_avals],
            opset=opset,
            enable_double_precision=wide,
            input_names=inputs,
        )
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise NotImplementedError(
            f"to_onnx: expected what jax2onnx turns into ONNX, got what it does not: {type(error).__name__}, {said}. "
            "Try numbers for length and batch, leave that part out, or use seqjax.interop.export_module."
        ) from error
    finally:
        logger.setLevel(level)
        jnp.cumsum = cumsum  # of which the exporter leaves its own behind, which takes other arguments


def _name_outputs(onnx: Any, graph: Any, outputs: list[str], avals: list) -> None:
    """Each output under its own name, even where it is an input or another one, and with the shape that it has."""
    kinds = [each.type.tensor_type.elem_type for each in graph.output]
    graph.node.extend(onnx.helper.make_node("Identity", [old.name], [new]) for old, new in zip(graph.output, outputs))
    del graph.output[:]
    for name, kind, aval in zip(outputs, kinds, avals):
        sizes = [size if symbolic.known(size) else str(size) for size in aval.shape]
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, sizes))


def _drop_unused(graph: Any) -> set[str]:
    """Drops constants that nobody reads, at any depth; returns what the graph reads of others'."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    read = {name for node in graph.node for name in node.input}.union(
        {each.name for each in graph.output}, *map(_drop_unused, inner)
    )
    kept = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return read

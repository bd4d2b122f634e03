"""ONNX: weights and states of the operators `RNN`, `LSTM` with or without peepholes, `GRU` of either reset, both ways.

``W [directions, gates · h, d]``, ``R [directions, gates · h, h]``, ``B [directions, 2 · gates · h]`` and, of an LSTM,
``P [directions, 3h]``. Gates are i, o, f, c (peepholes i, o, f) and z, r, h, where z is as here; each product has a
bias of its own. A state dict here is a node's tensors by these names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.base import Cell, Layer, PyTree
from seqjax.interop import verified
from seqjax.interop.arrays import host, shape, taken
from seqjax.interop.extras import needed
from seqjax.interop.layouts.onnx import (
    FUNCTIONS,
    GATES,
    OPERATORS,
    REMEDY,
    USUAL,
    WORDS,
    described,
    operator_of,
    operators,
    read,
    written,
)
from seqjax.interop.rows import Part, alike, put_together, taken_apart
from seqjax.interop.states import stacked_from, stacked_to
from seqjax.interop.theirs.onnx import alone, outputs_of

__all__ = ["from_file", "from_module", "from_state_dict", "state_from", "state_to", "to_module", "to_state_dict"]

DIRECTIONS = ("forward", "reverse", "bidirectional")


def from_state_dict(
    kind: str,
    state_dict: Mapping[str, Any],
    *,
    direction: str = "forward",
    reset: str = "before",
    activations: Sequence[str] | None = None,
    engine: Any = "auto",
    memory: str | int = "auto",
    verify: bool = False,
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from the tensors of an operator; to the bit.

    Args:
      kind: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
      state_dict: ``W``, ``R``, and ``B`` and ``P`` where there are any.
      direction: ``"forward"``, ``"reverse"`` or ``"bidirectional"``.
      reset: of a GRU, ``"after"`` where the operator says ``linear_before_reset=1``.
      activations: the operator's, of one direction, such as ``("Sigmoid", "Tanh", "Tanh")``.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: convert back, run the model and our layer on a short random sequence, and compare; by onnxruntime.
        `from_module` runs the trained operator itself.

    Raises:
      ValueError: an unknown kind, direction, reset or activation; tensors that are missing, unknown or of another
        shape; outputs that differ.
      TypeError: tensors that are no floating point numbers.

    Example:
      >>> import numpy as np
      >>> tensors = {"W": np.ones((1, 8, 3)), "R": np.ones((1, 8, 2)), "P": np.zeros((1, 6))}
      >>> from_state_dict("lstm", tensors)[0]
      recurrent(peephole_lstm(3, 2, b_init=None))
    """
    operator = "rnn" if kind in ("rnn_tanh", "rnn_relu") else kind
    if operator not in GATES:
        raise ValueError(f"onnx: expected lstm, gru, rnn_tanh or rnn_relu, got {kind!r}. Name the operator.")
    for name, value, allowed in (("direction", direction, DIRECTIONS), ("reset", reset, ("after", "before"))):
        if value not in allowed:
            raise ValueError(f"onnx: expected {name} to be one of {', '.join(allowed)}, got {value!r}. Choose one.")
    default = ("Relu",) if kind == "rnn_relu" else USUAL[operator]
    names = tuple(default if activations is None else activations)
    for name in names:
        if name not in FUNCTIONS:
            raise ValueError(
                f"onnx: expected an activation among {', '.join(FUNCTIONS)}, got {name}. Export another way."
            )
    if len(names) != len(default):
        raise ValueError(f"onnx: expected {len(default)} activations of one direction, got {names}. Pass those of one.")
    gates = len(GATES[operator][0])
    ends = 1 + (direction == "bidirectional")
    _, rows, d = shape("onnx", state_dict, "W", 3, REMEDY)
    h = rows // gates
    wanted: dict[str, tuple[int, ...]] = {"W": (ends, gates * h, d), "R": (ends, gates * h, h)}
    wanted |= {"B": (ends, 2 * gates * h)} if "B" in state_dict else {}
    wanted |= {"P": (ends, 3 * h)} if "P" in state_dict and operator == "lstm" else {}
    values = taken("onnx", state_dict, wanted, REMEDY)
    parts = [read(operator, {name: w[end] for name, w in values.items()}, reset, names) for end in range(ends)]
    layer, params = put_together(
        [[part._replace(reverse=direction == "reverse") for part in parts]], engine=engine, memory=memory
    )
    if verify:
        params32 = jax.tree.map(lambda w: np.asarray(w, np.float32), params)
        _verify(layer, params, to_module(layer, params32))
    return layer, params


def from_module(
    model: Any, node: str | None = None, *, engine: Any = "auto", memory: str | int = "auto", verify: bool = False
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from one operator of a model: `from_state_dict`, its attributes read.

    Args:
      model: an ``onnx.ModelProto``.
      node: the operator's name, or that of its first output; None where the model has one recurrent operator.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: run the operator itself, by onnxruntime in float32, and our layer on a short random sequence from random
        states, and compare their outputs within rounding.

    Returns:
      Layer and parameters. Inputs are ``[T, B, d]``, also where the operator says ``layout=1``.

    Raises:
      ValueError: no such operator, weights that the graph computes, an attribute that has no counterpart, named;
        outputs that differ.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 2))
      >>> from_module(to_module(layer, layer.init(jax.random.key(0))))[0].name
      'recurrent'
    """
    found = operators(model)
    node = next(iter(found)) if node is None and len(found) == 1 else node
    if node not in found:
        raise ValueError(
            f"onnx: expected node to be one of {', '.join(found) or 'none, as there is no recurrent operator'}, got "
            f"{node!r}. Name the operator, or its first output."
        )
    onnx = needed("onnx", extra="onnx")
    kind, values, options = described(onnx, model, node, found[node])
    layer, params = from_state_dict(kind, values, **options, engine=engine, memory=memory)
    if verify:
        _verify(layer, params, alone(onnx, model, found[node], values))
    return layer, params


def from_file(path: Any, *, verify: bool = False) -> dict[str, tuple[Layer, PyTree]]:
    """All recurrent operators of a file as layers, by name.

    Args:
      path: of an ONNX file.
      verify: run each on random inputs and compare.

    Returns:
      ``{name: (layer, params)}``, in the order of the graph; an operator without a name goes by its first output.

    Raises:
      ModuleNotFoundError: onnx is missing.
      ValueError: a file that is no ONNX model, truncated or of something else; as in `from_module`.

    Example:
      >>> import jax, onnx, tempfile, seqjax as sj
      >>> layer = sj.recurrent(sj.lstm(3, 2))
      >>> with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
      ...     onnx.save(to_module(layer, layer.init(jax.random.key(0))), file.name)
      ...     list(from_file(file.name))
      ['Y']
    """
    onnx = needed("onnx", extra="onnx")
    try:
        model = onnx.load(path)
        nodes = len(model.graph.node)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"onnx: expected an ONNX model in {path}, got a file that is none or is cut off. Write it again."
        ) from error
    if not nodes:
        raise ValueError(f"onnx: expected a graph with operators in {path}, got an empty one. Is it the right file?")
    return {name: from_module(model, name, verify=verify) for name in operators(model)}


def to_state_dict(layer: Cell | Layer, params: PyTree) -> dict[str, np.ndarray]:
    """The parameters of one layer as an operator's tensors ``W``, ``R``, ``B`` and ``P``.

    Args:
      layer: of `from_state_dict`, or one of your own of `seqjax.lstm`, `seqjax.peephole_lstm`, `seqjax.gru` or
        `seqjax.elman`; a single one, as an operator is one layer.
      params: its parameters.

    Returns:
      NumPy arrays by name; B and P only where there are any.

    Raises:
      TypeError, ValueError: several layers, or a layer, a cell or an option that ONNX does not have.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 2))
      >>> {name: w.shape for name, w in to_state_dict(layer, layer.init(jax.random.key(0))).items()}
      {'W': (1, 6, 3), 'R': (1, 6, 2), 'B': (1, 12)}
    """
    ends = [written(part) for part in _row(layer, params)]
    return host({name: np.stack([np.asarray(end[name]) for end in ends]) for name in ends[0]})


def _row(layer: Cell | Layer, params: PyTree) -> list[Part]:
    rows = taken_apart("onnx", layer, params)
    if len(rows) != 1 or not alike("onnx", rows[0], WORDS):
        raise ValueError(f"onnx: expected one layer of one kind and size of cell, an operator, got {layer}. Split it.")
    return rows[0]


def to_module(layer: Cell | Layer, params: PyTree) -> Any:
    """A model of one operator: ``X [T, B, d]`` and states in, ``Y [T, directions, B, h]`` and last states out.

    Args:
      layer: as in `to_state_dict`.
      params: its parameters.

    Returns:
      An ``onnx.ModelProto``.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.elman(3, 2))
      >>> to_module(layer, layer.init(jax.random.key(0))).graph.node[0].op_type
      'RNN'

    Raises:
      ModuleNotFoundError: onnx is missing.
      TypeError: as in `to_state_dict`.
      ValueError: as in `to_state_dict`.
    """
    onnx = needed("onnx", extra="onnx")
    row = _row(layer, params)
    operator, options = operator_of(row[0])
    tensors = to_state_dict(layer, params)
    names = {function: name for name, function in FUNCTIONS.items()}
    functions = [] if operator == "rnn" else [options["gate_activation"]]
    functions += [options["activation"]]
    functions += [options.get("output_activation") or options["activation"]] * (operator == "lstm")
    direction = "bidirectional" if len(row) == 2 else "reverse" if row[0].reverse else "forward"
    attributes: dict[str, Any] = {"hidden_size": options["hidden_size"], "direction": direction}
    attributes["activations"] = [names[function] for function in functions] * len(row)
    if operator == "gru":
        attributes["linear_before_reset"] = int(options["reset"] == "after")
    states = ["initial_h", *["initial_c"] * (operator == "lstm")]
    inputs = ["X", "W", "R", "B" if "B" in tensors else "", "", *states]
    outputs = ["Y", "Y_h", *["Y_c"] * (operator == "lstm")]
    op_type = next(name for name, kind in OPERATORS.items() if kind == operator)
    node = onnx.helper.make_node(op_type, inputs + ["P"] * ("P" in tensors), outputs, **attributes)
    kind = onnx.helper.np_dtype_to_tensor_dtype(tensors["W"].dtype)
    state = (len(row), "B", options["hidden_size"])
    shapes = {"X": ("T", "B", options["input_size"]), "Y": ("T", len(row), *state[1:])}
    described = [
        [onnx.helper.make_tensor_value_info(name, kind, shapes.get(name, state)) for name in some]
        for some in (["X", *states], outputs)
    ]
    weights = [onnx.numpy_helper.from_array(w, name) for name, w in tensors.items()]
    graph = onnx.helper.make_graph([node], "seqjax", *described, initializer=weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)


def state_from(layer: Cell | Layer, h0: Any, c0: Any = None) -> PyTree:
    """A layer's state of ``initial_h [directions, B, h]``, and ``initial_c`` for an LSTM.

    Raises:
      ValueError: another number of directions, other sizes, or a c0 that is missing or not wanted.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_from(sj.recurrent(sj.lstm(3, 2)), jnp.zeros((1, 5, 2)), jnp.ones((1, 5, 2))).h.shape
      (5, 2)
    """
    return stacked_from("onnx", layer, h0, c0)


def state_to(layer: Cell | Layer, state: PyTree) -> Any:
    """A layer's state as ONNX stacks it: h ``[directions, B, h]``, or ``(h, c)`` for an LSTM.

    Raises:
      ValueError: a layer in two directions that does not keep where the backward reader arrived.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_to(sj.recurrent(sj.gru(3, 2)), jnp.ones((5, 2))).shape
      (1, 5, 2)
    """
    return stacked_to("onnx", layer, state)


def _verify(layer: Layer, params: PyTree, model: Any) -> None:
    params = jax.tree.map(lambda w: np.asarray(w, np.float32), params)
    verified.checked("onnx", layer, params, outputs_of(model))

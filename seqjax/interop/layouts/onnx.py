"""How ONNX lays out the weights of one direction of one layer: names, shapes, order of gates."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import cells, initializers
from seqjax.interop.arrays import blocks, halves, joined, reordered, transposed
from seqjax.interop.rows import Part, dtype_of, said
from seqjax.products import Biases

GATES = {"lstm": ("iofg", "ifgo"), "gru": ("zrn", "rzn"), "rnn": ("h", "h")}
FUNCTIONS: dict[str, Callable] = {
    "Tanh": jnp.tanh,
    "Sigmoid": jax.nn.sigmoid,
    "Relu": jax.nn.relu,
    "Softsign": jax.nn.soft_sign,
    "Softplus": jax.nn.softplus,
    "Elu": jax.nn.elu,
}
USUAL = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}
ANY = tuple(FUNCTIONS.values())
WORDS: dict[Any, dict[str, Any]] = {
    cells.lstm: {"activation": ANY, "gate_activation": ANY, "output_activation": (None, *ANY)},
    cells.peephole_lstm: {"peepholes": ("diagonal",), "activation": ANY, "gate_activation": ANY},
    cells.gru: {"reset": ("after", "before"), "activation": ANY, "gate_activation": ANY},
    cells.elman: {"activation": ANY},
}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
OPERATORS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
# Attributes that change what an operator computes and have no counterpart, with the value at which they do not.
PLAIN = {"clip": None, "input_forget": 0, "activation_alpha": None, "activation_beta": None}
REMEDY = "Pass the tensors W, R, B and P of one operator."


def read(operator: str, values: Mapping[str, Any], reset: str, names: tuple[str, ...]) -> Part:
    """A cell and its parameters from one direction of W, R, B and P."""
    given, wanted = GATES[operator]
    w_x, w_h = (transposed(reordered(values[name], given, wanted, axis=0)) for name in "WR")
    d, h = w_x.shape[0], w_h.shape[0]
    both = b = None
    if "B" in values:
        both = [reordered(half, given, wanted) for half in blocks(values["B"], "xh").values()]
        b = Biases(*both)
    options: dict[str, Any] = {"dtype": dtype_of(w_x), "b_init": None if b is None else initializers.two_biases()}
    if operator == "rnn":
        return Part(cells.elman(d, h, activation=FUNCTIONS[names[0]], **options), cells.ElmanParams(w_x, w_h, b))
    options |= {"gate_activation": FUNCTIONS[names[0]], "activation": FUNCTIONS[names[1]]}
    if operator == "gru":
        if both is None or reset == "before":
            return Part(cells.gru(d, h, reset=reset, **options), cells.GRUParams(w_x, w_h, b, None))  # type: ignore[arg-type]
        (r, z, n), (r_h, z_h, b_n) = (list(blocks(half, "rzn").values()) for half in both)
        options["b_init"] = initializers.two_biases(gates=("r", "z"))
        return Part(cells.gru(d, h, **options), cells.GRUParams(w_x, w_h, (Biases(r, r_h), Biases(z, z_h), n), b_n))
    if "P" in values:
        if names[2] != names[1]:
            raise ValueError(
                f"onnx: expected one activation for candidate and output of an LSTM with peepholes, got {names}. "
                "There is no such cell here."
            )
        w_c = reordered(values["P"], "iof", "ifo")
        return Part(cells.peephole_lstm(d, h, **options), cells.PeepholeLSTMParams(w_x, w_h, w_c, b))
    own: Any = {} if names[2] == names[1] else {"output_activation": FUNCTIONS[names[2]]}
    return Part(cells.lstm(d, h, **own, **options), cells.LSTMParams(w_x, w_h, b))


def written(part: Part) -> dict[str, Any]:
    """One direction of W, R, B and P."""
    operator, _ = operator_of(part)
    given, wanted = GATES[operator]
    p = part.params
    names = {name: reordered(w.T, wanted, given, axis=0) for name, w in (("W", p.w_x), ("R", p.w_h))}
    both = halves("onnx", p.b, len(given), p.w_x)
    b_n = getattr(p, "b_n", None)
    if both is None and b_n is not None:
        both = halves("onnx", np.zeros(p.w_x.shape[1], p.w_x.dtype), 3, p.w_x)
    if both is not None:
        first, second = both
        if b_n is not None:
            *outer, inner = blocks(second, "rzn").values()
            second = joined([*outer, inner + b_n])
        names["B"] = joined([reordered(half, wanted, given) for half in (first, second)])
    if hasattr(p, "w_c"):
        names["P"] = reordered(p.w_c, "ifo", "iof")
    return names


def operator_of(part: Part) -> tuple[str, dict[str, Any]]:
    """The operator of a cell, and the cell's options."""
    maker, options = said("onnx", part.cell, WORDS)
    return {cells.gru: "gru", cells.elman: "rnn"}.get(maker, "lstm"), options


def operators(model: Any) -> dict[str, Any]:
    """The recurrent nodes of a graph, by name; one without a name goes by its first output."""
    nodes = [node for node in model.graph.node if node.op_type in OPERATORS]
    return {node.name or next(filter(None, node.output), ""): node for node in nodes}


def described(onnx: Any, model: Any, name: str, node: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What a node is: its kind, its tensors, and what its attributes say.

    Raises:
      ValueError: weights that the graph computes, or an attribute that has no counterpart, named.
    """
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    for option, plain in PLAIN.items():
        if attributes.get(option, plain) not in (plain, []):
            raise ValueError(
                f"onnx: expected {option}={plain} of {name}, got {attributes[option]}. It has no counterpart here."
            )
    tensors = {each.name: each for each in model.graph.initializer}
    tensors |= {each.output[0]: each.attribute[0].t for each in model.graph.node if each.op_type == "Constant"}
    values = {}
    for part, given in zip(INPUTS, node.input):
        if part in "WRBP" and given:
            if given not in tensors:
                raise ValueError(
                    f"onnx: expected {part} of {name} as a constant, got {given}, which is computed. Fold it first."
                )
            values[part] = onnx.numpy_helper.to_array(tensors[given])
    kind = OPERATORS[node.op_type]
    functions = [each.decode() for each in attributes.get("activations", [])]
    usual = len(USUAL[kind])
    if functions[usual:] and functions[usual:] != functions[:usual]:
        raise ValueError(
            f"onnx: expected equal activations in both directions of {name}, got {functions}. Split the directions."
        )
    options: dict[str, Any] = {"direction": attributes.get("direction", b"forward").decode()}
    if functions:
        options["activations"] = functions[:usual]
    if kind == "gru":
        options["reset"] = "after" if attributes.get("linear_before_reset", 0) else "before"
    return "rnn_tanh" if kind == "rnn" else kind, values, options

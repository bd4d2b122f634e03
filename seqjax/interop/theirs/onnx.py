"""Outputs of an ONNX operator, by onnxruntime, which has it in float32 and time first."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.interop.extras import needed
from seqjax.interop.layouts.onnx import INPUTS
from seqjax.interop.verified import Run


def outputs_of(model: Any) -> Run:
    """Of a model of one operator."""
    session = needed("onnxruntime", extra="onnx").InferenceSession(model.SerializeToString())

    def run(xs: np.ndarray, states: Any) -> np.ndarray:
        given = dict(zip(("initial_h", "initial_c"), map(np.stack, zip(*states))))
        (ys,) = session.run(["Y"], {"X": xs} | given)
        return np.concatenate(list(ys.swapaxes(0, 1)), axis=-1)

    return run


def alone(onnx: Any, model: Any, node: Any, values: Mapping[str, Any]) -> Any:
    """A model of one of its operators, in float32 and time first, of inputs ``X``, ``initial_h`` and ``initial_c``."""
    states = INPUTS[5 : 7 if node.op_type == "LSTM" else 6]
    only = onnx.NodeProto()
    only.CopyFrom(node)
    del only.input[:], only.output[:], only.attribute[:]
    only.input.extend(name if name in ("X", *states) or name in values else "" for name in INPUTS)
    only.input[:] = only.input[: 6 if node.op_type != "LSTM" else None]
    only.output.append("Y")
    only.attribute.extend(each for each in node.attribute if each.name != "layout")
    described = [
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * axes) for name in some]
        for some, axes in ((("X", *states), 3), (("Y",), 4))
    ]
    weights = [onnx.numpy_helper.from_array(np.asarray(w, np.float32), name) for name, w in values.items()]
    graph = onnx.helper.make_graph([only], "operator", *described, initializer=weights)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 10))

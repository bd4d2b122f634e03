"""Reference vectors of other libraries: `python tests/reference/libraries.py` writes them beside this file.

Each case holds inputs (weights in the library's own names and layout, a padded batch with lengths, initial
states, cotangents) and the library's results in float64. torch also gives every gradient; ONNX operators have
none. The tests read the stored vectors, and where the library is installed they run it on the stored inputs.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
T, B, D, H, P = 6, 4, 3, 5, 2
LENGTHS = np.array([6, 3, 0, 1])
TORCH = {
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}, 1),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}, 1),
    "lstm": ("LSTM", {}, 4),
    "gru": ("GRU", {}, 3),
    "projected_lstm": ("LSTM", {"proj_size": P}, 4),
}
ONNX = {
    "lstm_peepholes": ("LSTM", {}, 4),
    "gru_before": ("GRU", {"linear_before_reset": 0}, 3),
    "lstm_plain": ("LSTM", {}, 4),
    "gru_after": ("GRU", {"linear_before_reset": 1}, 3),
    "rnn_plain": ("RNN", {}, 1),
}


def load(name):
    """The stored inputs and results of a case."""
    with np.load(FOLDER / f"{name}.npz") as file:
        stored = dict(file)
    inputs = {key[3:]: value for key, value in stored.items() if key.startswith("in_")}
    return inputs, {key[4:]: value for key, value in stored.items() if key.startswith("out_")}


def drawer(random):
    """Normal draws small enough that gates are not saturated."""

    def draw(*shape):
        return 0.7 * random.normal(size=shape)

    return draw


def torch_inputs(name, random):
    kind, options, gates = TORCH[name]
    out = options.get("proj_size", H)
    draw = drawer(random)
    inputs = {
        "weight_ih_l0": draw(gates * H, D),
        "weight_hh_l0": draw(gates * H, out),
        "bias_ih_l0": draw(gates * H),
        "bias_hh_l0": draw(gates * H),
        "xs": draw(T, B, D),
        "h": draw(B, out),
        "lengths": LENGTHS,
        "cotangent_ys": draw(T, B, out),
        "cotangent_h": draw(B, out),
    }
    if "proj_size" in options:
        inputs["weight_hr_l0"] = draw(P, H)
    if kind == "LSTM":
        inputs |= {"c": draw(B, H), "cotangent_c": draw(B, H)}
    return inputs


def torch_results(name, inputs):
    """Outputs, last states and all gradients, each example by itself and no longer than it is."""
    import torch

    kind, options, _ = TORCH[name]
    module = getattr(torch.nn, kind)(D, H, dtype=torch.float64, **options)
    values = {k: torch.tensor(v, dtype=torch.float64) for k, v in inputs.items() if k != "lengths"}
    for weight, parameter in module.named_parameters():
        parameter.data = values[weight]
    names = [k for k in ("xs", "h", "c") if k in values]
    for k in names:
        values[k].requires_grad_()

    loss, rows = 0.0, []
    for b, length in enumerate(inputs["lengths"]):
        last = tuple(values[k][None, b : b + 1] for k in names[1:])
        ys = torch.zeros(T, values["h"].shape[1], dtype=torch.float64)
        if length:
            y, last = module(values["xs"][:length, b : b + 1], last if kind == "LSTM" else last[0])
            last = last if kind == "LSTM" else (last,)
            ys = torch.cat([y[:, 0], ys[length:]])
        row = {"ys": ys} | {k: s[0, 0] for k, s in zip(names[1:], last)}
        loss = loss + (row["ys"] * values["cotangent_ys"][:, b]).sum()
        loss = loss + sum((row[k] * values[f"cotangent_{k}"][b]).sum() for k in names[1:])
        rows.append(row)
    loss.backward()

    results = {k: np.stack([r[k].detach().numpy() for r in rows], k == "ys") for k in rows[0]}
    gradients = {k: values[k].grad for k in names} | {k: p.grad for k, p in module.named_parameters()}
    return results | {f"gradient_{k}": g.numpy() for k, g in gradients.items()}


def onnx_inputs(name, random):
    kind, _, gates = ONNX[name]
    draw = drawer(random)
    inputs = {
        "X": draw(T, B, D),
        "W": draw(1, gates * H, D),
        "R": draw(1, gates * H, H),
        "B": draw(1, 2 * gates * H),
        "initial_h": draw(1, B, H),
    }
    if kind == "LSTM":
        inputs |= {"initial_c": draw(1, B, H)} | ({"P": draw(1, 3 * H)} if "peepholes" in name else {})
    return inputs


def onnx_results(name, inputs):
    """By the reference evaluator of the `onnx` package, in float64."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    kind, options, _ = ONNX[name]
    order = ["X", "W", "R", "B", "", "initial_h", "initial_c", "P"]
    outputs = ["Y", "Y_h", "Y_c"] if kind == "LSTM" else ["Y", "Y_h"]
    node = onnx.helper.make_node(kind, [k for k in order if k in inputs or not k], outputs, hidden_size=H, **options)
    described = [
        [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.DOUBLE, None) for k in names]
        for names in (inputs, outputs)
    ]
    graph = onnx.helper.make_graph([node], name, *described)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)])
    return dict(zip(outputs, ReferenceEvaluator(model).run(None, inputs)))


def main():
    random = np.random.default_rng(0)
    makers = [(TORCH, torch_inputs, torch_results), (ONNX, onnx_inputs, onnx_results)]
    for cases, make_inputs, make_results in makers:
        for name in cases:
            inputs = make_inputs(name, random)
            results = make_results(name, inputs)
            stored = {f"in_{k}": v for k, v in inputs.items()} | {f"out_{k}": v for k, v in results.items()}
            np.savez_compressed(FOLDER / f"{name}.npz", **stored)


if __name__ == "__main__":
    main()

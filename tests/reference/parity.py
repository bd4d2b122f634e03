"""The parity ledger: every cell beside every framework's. `python tests/reference/parity.py` writes docs/parity.md.

The package's numbers on the stored inputs of other frameworks, through its weight passports, so that gradients are
those of weights in the framework's own layout; and which cells go by the same name and are not the same.
"""

import json
import re
import statistics
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from reference import frameworks, libraries

import seqjax as sj
from benchmarks import record, versions
from seqjax.cells.registry import REGISTRY

SPEED = Path(__file__).parents[2] / "benchmarks" / "results" / "interop.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "parity.md"
PASSPORTS = {"nnx": "flax", **{name: name for name in ("flax", "equinox", "haiku", "keras")}}
TORCH_KINDS = {name: name for name in libraries.TORCH} | {"projected_lstm": "lstm"}


class Row(NamedTuple):
    """Ours with its options, the framework's, and what is said of the two."""

    ours: str
    framework: str
    theirs: str
    stored: str
    note: str = ""


SAME = [
    Row("elman", "torch", "nn.RNN(nonlinearity='tanh')", "rnn_tanh", "two biases, added"),
    Row("elman(activation=relu)", "torch", "nn.RNN(nonlinearity='relu')", "rnn_relu", "two biases, added"),
    Row("lstm", "torch", "nn.LSTM", "lstm", "two biases, added"),
    Row("gru", "torch", "nn.GRU", "gru", "two biases, added in r and z"),
    Row("projected_lstm", "torch", "nn.LSTM(proj_size=)", "projected_lstm", "two biases, added"),
    Row("peephole_lstm", "ONNX", "LSTM with P", "lstm_peepholes", "operators have no gradients"),
    Row("lstm", "ONNX", "LSTM", "lstm_plain", "operators have no gradients"),
    Row("gru", "ONNX", "GRU(linear_before_reset=1)", "gru_after", "operators have no gradients"),
    Row("elman", "ONNX", "RNN", "rnn_plain", "operators have no gradients"),
    Row("gru(reset='before')", "ONNX", "GRU(linear_before_reset=0)", "gru_before", "operators have no gradients"),
    Row("lstm", "Flax linen", "LSTMCell", "linen_lstm"),
    Row("lstm", "Flax linen", "OptimizedLSTMCell", "linen_optimized_lstm"),
    Row("gru", "Flax linen", "GRUCell", "linen_gru"),
    Row("elman", "Flax linen", "SimpleCell", "linen_simple"),
    Row("lstm", "Flax nnx", "LSTMCell", "nnx_lstm"),
    Row("lstm", "Flax nnx", "OptimizedLSTMCell", "nnx_optimized_lstm"),
    Row("gru(inner_bias=False)", "Flax nnx", "GRUCell", "nnx_gru", "no bias inside the reset, where linen's has one"),
    Row("elman", "Flax nnx", "SimpleCell", "nnx_simple"),
    Row("lstm", "Equinox", "LSTMCell", "equinox_lstm"),
    Row("gru", "Equinox", "GRUCell", "equinox_gru"),
    Row("lstm(forget_bias=1.0)", "Haiku", "LSTM", "haiku_lstm", "1 is added to the forget gate, outside its bias"),
    Row("gru(reset='before')", "Haiku", "GRU", "haiku_gru", "its z is 1 - z here: signs change on the way"),
    Row("elman(activation=relu)", "Haiku", "VanillaRNN", "haiku_rnn", "two biases, added"),
    Row("lstm", "Keras", "LSTM", "keras_lstm", "float32"),
    Row("gru", "Keras", "GRU", "keras_gru", "float32; two biases, added in r and z"),
    Row("gru(reset='before')", "Keras", "GRU(reset_after=False)", "keras_gru_before", "float32"),
    Row("elman", "Keras", "SimpleRNN", "keras_rnn", "float32"),
]

DIFFERENT = [
    Row(
        "lstm",
        "Haiku",
        "LSTM",
        "",
        "theirs adds 1 to the forget gate; here `forget_bias=1.0` does, and is not the default",
    ),
    Row("gru", "Haiku", "GRU", "", "theirs resets before the recurrent product; here `reset='before'`"),
    Row("gru", "ONNX", "GRU", "", "its default resets before the product (`linear_before_reset=0`), ours after it"),
    Row("gru", "Flax nnx", "GRUCell", "", "no bias inside the reset; here `inner_bias=False`"),
    Row("elman", "Haiku", "VanillaRNN", "", "relu; here `activation=jax.nn.relu`, and tanh is the default"),
    Row(
        "minimal_gated_unit",
        "Flax linen",
        "MGUCell",
        "",
        "theirs resets after the product, n = tanh(x W + b + f ⊙ (h U + c)), and f copies, h' = (1-f) ⊙ n + f ⊙ h; "
        "here u acts before it and lets in, h' = (1-u) ⊙ h + u ⊙ n: no weights make one the other",
    ),
    Row(
        "residual(elman)",
        "Flax linen",
        "SimpleCell(residual=True)",
        "",
        "theirs adds h inside the tanh, ours x outside",
    ),
]


INTRODUCTION = """\
Written by `python tests/reference/parity.py`. Weights are theirs, inputs and first states drawn at random; the
numbers are the largest differences between their results and ours, over outputs and last states, and over the
gradients of every weight (in their layout), of the inputs and of the first states. In float64, but for Keras, whose
layers compute to seven digits. The tests compare the same stored vectors each time and, where a framework is
installed (`pip install '.[peers,torch]'`), run the framework itself.

All of this ran on CPUs, where products are exact to the type's own rounding. By default a GPU multiplies float32 in
TF32, with a mantissa of 10 bits, and a TPU in one pass of bfloat16, with one of 7
([precision in JAX](https://docs.jax.dev/en/latest/201/precision.html)): no two libraries agree there in more than some
three or two digits, whoever is right. Under `jax.default_matmul_precision("highest")` products are those of float32;
`verify=True` of the passports runs JAX's side of them so.
"""


def of_torch(name):
    """Ours and torch's: outputs, last states and gradients, with NaN in the padding."""
    inputs, expected = libraries.load(name)
    lengths = inputs["lengths"]
    assert 0 in lengths
    cotangents = {k[10:]: v for k, v in inputs.items() if k.startswith("cotangent_")}
    variables = {k: jnp.asarray(v) for k, v in inputs.items() if not k.startswith(("cotangent_", "lengths"))}
    padding = np.arange(libraries.T)[:, None] >= lengths
    variables["xs"] = jnp.where(padding[..., None], jnp.nan, variables["xs"])

    def loss(v):
        weights = {k: w for k, w in v.items() if k.endswith("_l0")}
        layer, params = sj.interop.torch.from_state_dict(TORCH_KINDS[name], weights)
        state = sj.interop.torch.state_from(layer, *(v[k][None] for k in "hc" if k in v))
        state, ys = layer.apply(params, state, v["xs"], lengths=lengths)
        found = {"ys": ys} | (state._asdict() if "c" in v else {"h": state})
        return sum((value * cotangents[k]).sum() for k, value in found.items()), found

    gradients, found = jax.jit(jax.grad(loss, has_aux=True))(variables)
    return found | {f"gradient_{k}": g for k, g in gradients.items()}, expected


def of_onnx(name):
    """Ours and the operator's: outputs and last states."""
    inputs, expected = libraries.load(name)
    tensors = {k: w for k, w in inputs.items() if k in "WRBP"}
    kind = {"rnn_plain": "rnn_tanh"}.get(name, name.split("_")[0])
    reset = "after" if name == "gru_after" else "before"
    layer, params = sj.interop.onnx.from_state_dict(kind, tensors, reset=reset)
    state = sj.interop.onnx.state_from(layer, *(inputs[k] for k in ("initial_h", "initial_c") if k in inputs))
    state, ys = jax.jit(layer.apply)(params, state, jnp.asarray(inputs["X"]))
    found = dict(zip(("Y_h", "Y_c"), (s[None] for s in jax.tree.leaves(state))))
    return {"Y": ys[:, None]} | found, expected


def of_framework(name):
    """Ours and a JAX framework's: outputs, last states and gradients."""
    case = frameworks.CASES[name]
    passport = getattr(sj.interop, PASSPORTS[case.framework])

    def run(weights, xs, *state):
        layer, params = passport.from_state_dict(case.kind, weights)
        last, ys = layer.apply(params, passport.state_from(layer, *state), xs)
        return ys, tuple(last) if state[1:] else (last,)

    inputs, expected = frameworks.load(name)
    return frameworks.results_of(run, inputs), expected


def numbers(name):
    """Ours and theirs by name of what is compared."""
    if name in libraries.TORCH:
        return of_torch(name)
    return of_onnx(name) if name in libraries.ONNX else of_framework(name)


def differences(name):
    """The largest in outputs and states, and in gradients, None where there are none."""
    found, expected = numbers(name)
    assert found.keys() == expected.keys()
    apart = {k: float(np.abs(np.asarray(found[k]) - expected[k]).max()) for k in expected}
    gradients = [each for k, each in apart.items() if k.startswith("gradient_")]
    return max(each for k, each in apart.items() if not k.startswith("gradient_")), max(gradients, default=None)


def page(measured):
    """The ledger in Markdown; ``measured`` gives the differences of a stored case."""
    lines = [
        "# Parity with other frameworks",
        "",
        *INTRODUCTION.splitlines(),
        "",
        "## Same mathematics",
        "",
        "| ours | framework | theirs | outputs | gradients | |",
        "|---|---|---|---|---|---|",
    ]
    for row in SAME:
        outputs, gradients = measured(row.stored)
        lines.append(
            f"| `{row.ours}` | {row.framework} | `{row.theirs}` | {rounded(outputs)} | "
            f"{rounded(gradients)} | {row.note} |"
        )
    lines += [
        "",
        "## Same name, other mathematics",
        "",
        "| ours | framework | theirs | how they differ |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{row.ours}` | {row.framework} | `{row.theirs}` | {row.note} |" for row in DIFFERENT]
    lines += [
        "",
        "## Every cell",
        "",
        "= the same mathematics, ≠ one of the same name with other mathematics, – none.",
        "",
    ]
    names = sorted({row.framework for row in SAME})
    lines += [f"| cell | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for cell in dict.fromkeys(entry.make.__name__ for entry in REGISTRY.values()):
        marks = [mark(cell, framework) for framework in names]
        lines.append(f"| `{cell}` | {' | '.join(marks)} |")
    return "\n".join([*lines, *speed()]) + "\n"


def speed():
    """How many times as fast a wrapped cell trains as in its own library's loop."""
    rows = [json.loads(line) for line in SPEED.read_text("utf-8").splitlines()]
    rows = [row for row in rows if "speed_up" in row]
    columns = list(dict.fromkeys((row["library"], row["cell"]) for row in rows))
    shapes = list(dict.fromkeys((row["ticks"], row["batch"], row["hidden_size"]) for row in rows))
    lines = [
        "",
        "## Speed of their cells, wrapped",
        "",
        "Times as fast as the library's own loop: a training step, one CPU device, by `python -m benchmarks.interop`;",
        "the medians of its runs.",
    ]
    for setting in versions.told_of(rows):
        lines += [
            "",
            f"| T, batch, units | {' | '.join(f'{library} {cell}' for library, cell in columns)} |",
            f"|---|{'---|' * len(columns)}",
        ]
        found = {}
        for row in rows:
            if record.setting(row) == setting:
                key = (row["library"], row["cell"], row["ticks"], row["batch"], row["hidden_size"])
                found.setdefault(key, []).append(row["speed_up"])
        for shape in shapes:
            numbers = [f"{statistics.median(found[column + shape]):.2f}" for column in columns]
            lines.append(f"| {', '.join(f'{size:,}' for size in shape)} | {' | '.join(numbers)} |")
        lines += ["", f"{setting}."]
    return lines


def rounded(difference):
    """To one digit; none where nothing was compared."""
    return "–" if difference is None else f"{max(difference, 1e-17):.0e}"


def mark(cell, framework):
    """Whether a framework has a cell, and whether one of that name is another."""
    has = lambda rows: any(re.match(r"\w+", row.ours)[0] == cell and row.framework == framework for row in rows)
    return " ".join(["="] * has(SAME) + ["≠"] * has(DIFFERENT)) or "–"


def main():
    with jax.enable_x64(True):
        PAGE.write_text(page(differences), "utf-8")


if __name__ == "__main__":
    main()

"""Reference vectors of JAX's frameworks: `python tests/reference/frameworks.py` writes them beside this file.

Each case holds weights in the framework's own names and layout, inputs, first states and cotangents, and its outputs,
last states and all gradients, in float64 but for Keras, whose layers compute to seven digits. The tests read the
stored vectors, and where the framework is installed they run it on the stored inputs.
"""

import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FOLDER = Path(__file__).parent / "frameworks"
T, B, D, H = 6, 3, 3, 5


class Case(NamedTuple):
    """A framework's cell: its passport, its name there, our kind, and what the passport is told besides."""

    framework: str
    theirs: str
    kind: str
    options: dict = {}  # noqa: RUF012 - never changed

    @property
    def dtype(self):
        return "float32" if self.framework == "keras" else "float64"


CASES = {
    "linen_lstm": Case("flax", "LSTMCell", "lstm"),
    "linen_optimized_lstm": Case("flax", "OptimizedLSTMCell", "lstm"),
    "linen_gru": Case("flax", "GRUCell", "gru"),
    "linen_simple": Case("flax", "SimpleCell", "rnn_tanh"),
    "nnx_lstm": Case("nnx", "LSTMCell", "lstm"),
    "nnx_optimized_lstm": Case("nnx", "OptimizedLSTMCell", "lstm"),
    "nnx_gru": Case("nnx", "GRUCell", "gru"),
    "nnx_simple": Case("nnx", "SimpleCell", "rnn_tanh"),
    "equinox_lstm": Case("equinox", "LSTMCell", "lstm"),
    "equinox_gru": Case("equinox", "GRUCell", "gru"),
    "haiku_lstm": Case("haiku", "LSTM", "lstm"),
    "haiku_gru": Case("haiku", "GRU", "gru"),
    "haiku_rnn": Case("haiku", "VanillaRNN", "rnn_relu"),
    "keras_lstm": Case("keras", "LSTM", "lstm"),
    "keras_gru": Case("keras", "GRU", "gru"),
    "keras_gru_before": Case("keras", "GRU(reset_after=False)", "gru"),
    "keras_rnn": Case("keras", "SimpleRNN", "rnn_tanh"),
}
LSTM = ("lstm",)


def flat(tree, before=""):
    """Nested dictionaries or a list by path."""
    if not isinstance(tree, dict | list | tuple):
        return {before[:-1]: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {path: leaf for name, each in items for path, leaf in flat(each, f"{before}{name}|").items()}


def nested(entries):
    """`flat` turned round; numbers make a list."""
    if set(entries) == {""}:
        return entries[""]
    parts = {}
    for path, leaf in entries.items():
        first, _, rest = path.partition("|")
        parts.setdefault(first, {})[rest] = leaf
    tree = {name: nested(each) for name, each in parts.items()}
    return [tree[str(k)] for k in range(len(tree))] if all(name.isdigit() for name in tree) else tree


def flax_case(case):
    import flax.linen as nn

    cell = getattr(nn, case.theirs)(H, dtype=jnp.float64, param_dtype=jnp.float64)
    rnn = nn.RNN(cell, time_major=True, return_carry=True)

    def run(weights, xs, *state):
        carry, ys = rnn.apply({"params": {"cell": weights}}, xs, initial_carry=state[::-1] if state[1:] else state[0])
        return ys, carry[::-1] if state[1:] else (carry,)

    return rnn.init(jax.random.key(0), jnp.zeros((T, B, D)))["params"]["cell"], run


def nnx_case(case):
    from flax import nnx

    cell = getattr(nnx, case.theirs)(D, H, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(cell, nnx.Param, ...)

    def run(weights, xs, *state):
        own = nnx.clone(params)
        nnx.replace_by_pure_dict(own, weights)
        step = nnx.merge(graph, own, rest)

        def tick(carry, x):
            return step(carry, x)

        carry, ys = jax.lax.scan(tick, state[::-1] if state[1:] else state[0], xs)
        return ys, carry[::-1] if state[1:] else (carry,)

    return nnx.to_pure_dict(params), run


def equinox_case(case):
    import equinox as eqx

    cell = getattr(eqx.nn, case.theirs)(D, H, dtype=jnp.float64, key=jax.random.key(0))
    names = [name for name in ("weight_ih", "weight_hh", "bias", "bias_n") if getattr(cell, name, None) is not None]

    def run(weights, xs, *state):
        own = eqx.tree_at(lambda c: tuple(getattr(c, name) for name in names), cell, tuple(weights[n] for n in names))

        def tick(carry, x):
            carry = jax.vmap(own)(x, carry)
            return carry, carry[0] if state[1:] else carry

        carry, ys = jax.lax.scan(tick, state if state[1:] else state[0], xs)
        return ys, carry if state[1:] else (carry,)

    return {name: getattr(cell, name) for name in names}, run


def haiku_case(case):
    import haiku as hk

    def unrolled(xs, state):
        return hk.dynamic_unroll(getattr(hk, case.theirs)(H), xs, state)

    made = hk.without_apply_rng(hk.transform(unrolled))
    pack = lambda state: hk.LSTMState(*state) if state[1:] else state[0]

    def run(weights, xs, *state):
        ys, last = made.apply(weights, xs, pack(state))
        return ys, tuple(last) if state[1:] else (last,)

    zeros = tuple(jnp.zeros((B, H)) for _ in range(1 + (case.kind in LSTM)))
    return made.init(jax.random.key(0), jnp.zeros((T, B, D)), pack(zeros)), run


def keras_case(case):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    name, _, options = case.theirs.partition("(")
    own = {"reset_after": False} if options else {}
    layer = getattr(keras.layers, name)(H, return_sequences=True, return_state=True, dtype="float32", **own)
    layer.build((None, None, D))
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def run(weights, xs, *state):
        (ys, *last), _ = layer.stateless_call(weights, fixed, xs.swapaxes(0, 1), initial_state=list(state))
        return ys.swapaxes(0, 1), tuple(last)

    return [weight.value for weight in layer.trainable_variables], run


MAKERS = {
    "flax": flax_case,
    "nnx": nnx_case,
    "equinox": equinox_case,
    "haiku": haiku_case,
    "keras": keras_case,
}


def inputs_of(case, random):
    """Weights moved off their start, inputs, states and cotangents."""
    weights, _ = MAKERS[case.framework](case)
    draw = lambda *shape: (0.7 * random.normal(size=shape)).astype(case.dtype)
    moved = {f"w|{path}": np.asarray(w) + 0.5 * draw(*w.shape) for path, w in flat(weights).items()}
    names = ("h", "c")[: 1 + (case.kind in LSTM)]
    states = {name: draw(B, H) for name in names}
    cotangents = {f"cotangent_{name}": draw(B, H) for name in names}
    return moved | states | cotangents | {"xs": draw(T, B, D), "cotangent_ys": draw(T, B, H)}


def results_of(run, inputs):
    """Outputs, last states, and the gradients of everything, of ``run(weights, xs, *state) -> (ys, last)``."""
    names = [name for name in ("h", "c") if name in inputs]
    variables = {k: jnp.asarray(v) for k, v in inputs.items() if not k.startswith("cotangent_")}

    def loss(variables):
        weights = nested({k[2:]: w for k, w in variables.items() if k.startswith("w|")})
        ys, last = run(weights, variables["xs"], *(variables[name] for name in names))
        found = {"ys": ys} | dict(zip(names, last))
        return sum((value * inputs[f"cotangent_{k}"]).sum() for k, value in found.items()), found

    gradients, found = jax.jit(jax.grad(loss, has_aux=True))(variables)
    found |= {f"gradient_{k}": g for k, g in gradients.items()}
    return {k: np.asarray(value) for k, value in found.items()}


def live(name, inputs):
    """What the framework that is installed gives."""
    case = CASES[name]
    with jax.enable_x64(case.dtype == "float64"):
        return results_of(MAKERS[case.framework](case)[1], inputs)


def load(name):
    """The stored inputs and results of a case."""
    with np.load(FOLDER / f"{name}.npz") as file:
        stored = dict(file)
    return tuple({k[4:]: v for k, v in stored.items() if k.startswith(begin)} for begin in ("in__", "out_"))


def main():
    FOLDER.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for name, case in CASES.items():
        with jax.enable_x64(case.dtype == "float64"):
            inputs = inputs_of(case, random)
        stored = {f"in__{k}": v for k, v in inputs.items()} | {f"out_{k}": v for k, v in live(name, inputs).items()}
        np.savez_compressed(FOLDER / f"{name}.npz", **stored)


if __name__ == "__main__":
    main()

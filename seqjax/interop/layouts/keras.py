"""How Keras lays out the weights of one direction of one layer: names, shapes, order of gates."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import cells, initializers
from seqjax.interop.arrays import blocks, halves, joined, of, reordered, single, taken
from seqjax.interop.rows import Part, dtype_of, said
from seqjax.products import Biases


def linear(a: jax.Array) -> jax.Array:
    """No activation.

    Example:
      >>> linear(2.0)
      2.0
    """
    return a


GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
PHI = {"rnn_tanh": jnp.tanh, "rnn_relu": jax.nn.relu}
FUNCTIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "exponential": jnp.exp,
    "linear": linear,
}
ANY = (*FUNCTIONS.values(),)
WORDS: dict[Any, dict[str, Any]] = {
    cells.lstm: {"activation": ANY, "gate_activation": ANY},
    cells.gru: {"reset": ("after", "before"), "activation": ANY, "gate_activation": ANY},
    cells.elman: {"activation": ANY},
}


def read(kind: str, weights: Sequence[Any], reset: str | None, functions: dict[str, Any]) -> Part:
    """A cell and its parameters from two arrays or three."""
    remedy = f"Pass layer.get_weights() of one {kind} layer, with bidirectional=True of a Bidirectional."
    names = ("kernel", "recurrent_kernel", "bias")
    if len(weights) not in (2, 3):
        raise ValueError(
            f"keras: expected two or three arrays, {', '.join(names)}, for each direction, got {len(weights)}. {remedy}"
        )
    entries = dict(zip(names, weights))
    d, columns = (*np.shape(entries["kernel"]), 0, 0)[:2]
    h = columns // GATES[kind]
    wanted: dict[str, tuple[int, ...]] = {"kernel": (d, GATES[kind] * h), "recurrent_kernel": (h, GATES[kind] * h)}
    two = len(np.shape(entries.get("bias", ()))) == 2
    if "bias" in entries:
        wanted["bias"] = (2, columns) if kind == "gru" and two else (columns,)
    values = taken("keras", entries, wanted, remedy)
    w_x, w_h, b = values["kernel"], values["recurrent_kernel"], values.get("bias")
    options: dict[str, Any] = {"dtype": dtype_of(w_x)} | functions | ({} if b is not None else {"b_init": None})
    if kind == "lstm":
        return Part(cells.lstm(d, h, **options), cells.LSTMParams(w_x, w_h, b))
    if kind != "gru":
        return Part(cells.elman(d, h, **options), cells.ElmanParams(w_x, w_h, b))
    told = None if b is None else "after" if two else "before"
    if told and reset not in (None, told):
        raise ValueError(
            f"keras: expected reset={told!r} for a bias of its shape, got {reset!r}. Leave it to the bias."
        )
    reset = reset or told or "after"
    w_x, w_h = (reordered(w, "zrn", "rzn") for w in (w_x, w_h))
    if not two:
        b = None if b is None else reordered(b, "zrn", "rzn")
        return Part(cells.gru(d, h, reset=reset, **options), cells.GRUParams(w_x, w_h, b, None))  # type: ignore[arg-type]
    outer, inner = (blocks(half, "zrn") for half in b)  # type: ignore[union-attr]
    both = (Biases(outer["r"], inner["r"]), Biases(outer["z"], inner["z"]), outer["n"])
    options["b_init"] = initializers.two_biases(gates=("r", "z"))
    return Part(cells.gru(d, h, **options), cells.GRUParams(w_x, w_h, both, inner["n"]))


def written(part: Part) -> list[Any]:
    """Kernel, recurrent kernel and bias, for ``set_weights``."""
    maker, options = said("keras", part.cell, WORDS)
    p = part.params
    if maker is not cells.gru:
        return [p.w_x, p.w_h] + ([] if p.b is None else [single("keras", p.b, 4 if maker is cells.lstm else 1, p.w_x)])
    kernels = [reordered(w, "rzn", "zrn") for w in (p.w_x, p.w_h)]
    if p.b is None and p.b_n is None:
        return kernels
    if options["reset"] == "before":
        return [*kernels, reordered(single("keras", p.b, 3, p.w_x), "rzn", "zrn")]
    zeros = of(p.w_x).zeros(p.w_x.shape[1], p.w_x.dtype)
    outer, inner = halves("keras", p.b, 3, p.w_x) or (zeros, zeros)
    r, z, n = blocks(inner, "rzn").values()
    inner = joined([r, z, n if p.b_n is None else n + p.b_n])
    return [*kernels, of(p.w_x).stack([reordered(half, "rzn", "zrn") for half in (outer, inner)])]

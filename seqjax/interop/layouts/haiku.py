"""How Haiku lays out the weights of one direction of one layer: names, shapes, order of gates."""

from collections.abc import Mapping
from typing import Any

import jax

from seqjax import cells, initializers
from seqjax.interop.arrays import halves, joined, reordered, shape, single
from seqjax.interop.rows import (
    Part,
    dtype_of,
    said,
)
from seqjax.products import Biases

# The names of a core's modules behind its own, first the one whose matrix tells the sizes.
MODULES = {"lstm": ("/linear",), "gru": ("",), "rnn_relu": ("/linear", "/linear_1")}
NAMES = {"lstm": "lstm", "gru": "gru", "rnn_relu": "vanilla_rnn"}
WORDS: dict[Any, dict[str, Any]] = {
    cells.lstm: {"forget_bias": (0.0, 1.0)},
    cells.gru: {"reset": ("before",)},
    cells.elman: {"activation": (jax.nn.relu,)},
}
KINDS = {cells.lstm: "lstm", cells.gru: "gru", cells.elman: "rnn_relu"}
REMEDY = "Pass the parameters that hk.transform(…).init drew, of cores of one kind alone."


def shapes(kind: str, flat: Mapping[str, Any], core: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a core's arrays, from that of its first matrix."""
    if kind == "lstm":
        both, columns = shape("haiku", flat, f"{core}/linear/w", 2, REMEDY)
        return {f"{core}/linear/w": (max(both, columns // 4 + 1), columns // 4 * 4), f"{core}/linear/b": (columns,)}
    if kind == "gru":
        d, columns = shape("haiku", flat, f"{core}/w_i", 2, REMEDY)
        h = columns // 3
        return {f"{core}/w_i": (d, 3 * h), f"{core}/w_h": (h, 3 * h), f"{core}/b": (3 * h,)}
    d, h = shape("haiku", flat, f"{core}/linear/w", 2, REMEDY)
    wanted = {f"{core}/linear/w": (d, h), f"{core}/linear/b": (h,), f"{core}/linear_1/w": (h, h)}
    return wanted | ({f"{core}/linear_1/b": (h,)} if f"{core}/linear_1/b" in flat else {})


def read(kind: str, values: Mapping[str, Any]) -> Part:
    """A cell and its parameters from a core's arrays."""
    if kind == "lstm":
        w, b = (reordered(values[f"/linear/{name}"], "igfo", "ifgo") for name in "wb")
        h = w.shape[1] // 4
        d = w.shape[0] - h
        return Part(cells.lstm(d, h, forget_bias=1.0, dtype=dtype_of(w)), cells.LSTMParams(w[:d], w[d:], b))
    if kind == "gru":
        w_x, w_h, b = (reordered(values[name], "zra", "rza") for name in ("/w_i", "/w_h", "/b"))
        cell = cells.gru(w_x.shape[0], w_h.shape[0], reset="before", dtype=dtype_of(w_x))
        return Part(cell, _turned(cells.GRUParams(w_x, w_h, b, None)))
    w_x, w_h, b = (values[name] for name in ("/linear/w", "/linear_1/w", "/linear/b"))
    second = values.get("/linear_1/b")
    own: Any = {} if second is None else {"b_init": initializers.two_biases()}
    rnn = cells.elman(*w_x.shape, activation=jax.nn.relu, dtype=dtype_of(w_x), **own)
    return Part(rnn, cells.ElmanParams(w_x, w_h, b if second is None else Biases(b, second)))


def _turned(params: cells.GRUParams) -> cells.GRUParams:
    """z for 1 - z: its weights change sign, which loses nothing."""

    def flip(w: Any) -> Any:
        h = w.shape[-1] // 3
        return joined([w[..., :h], -w[..., h : 2 * h], w[..., 2 * h :]])

    return params._replace(w_x=flip(params.w_x), w_h=flip(params.w_h), b=flip(params.b))


def written(part: Part) -> tuple[str, dict[str, dict[str, Any]]]:
    """The kind of a core, and its modules' arrays."""
    maker, options = said("haiku", part.cell, WORDS)
    p, kind = part.params, KINDS[maker]
    if kind == "lstm":
        b = single("haiku", p.b, 4, p.w_x)
        if not options["forget_bias"]:
            h = p.w_h.shape[0]
            b = joined([b[:h], b[h : 2 * h] - 1, b[2 * h :]])
        w, b = (reordered(each, "ifgo", "igfo") for each in (joined([p.w_x, p.w_h], axis=0), b))
        return kind, {"/linear": {"w": w, "b": b}}
    if kind == "gru":
        p = _turned(cells.GRUParams(p.w_x, p.w_h, single("haiku", p.b, 3, p.w_x), None))
        names = {"w_i": p.w_x, "w_h": p.w_h, "b": p.b}
        return kind, {"": {name: reordered(w, "rza", "zra") for name, w in names.items()}}
    first = {"w": p.w_x, "b": single("haiku", None if isinstance(p.b, Biases) else p.b, 1, p.w_x)}
    second = {"w": p.w_h}
    if isinstance(p.b, Biases):
        first["b"], second["b"] = halves("haiku", p.b, 1, p.w_x) or (None, None)
    return kind, {"/linear": first, "/linear_1": second}

"""How Equinox lays out the weights of one direction of one layer: names, shapes, order of gates."""

from collections.abc import Mapping
from typing import Any

from seqjax import cells
from seqjax.interop.arrays import of, shape, single, taken, transposed
from seqjax.interop.rows import (
    Part,
    dtype_of,
    said,
)

GATES = {"lstm": 4, "gru": 3}
WORDS: dict[Any, dict[str, Any]] = {cells.lstm: {}, cells.gru: {"reset": ("after",)}}
REMEDY = "Pass the arrays of one equinox.nn cell by the names of its fields."


def read(kind: str, entries: Mapping[str, Any]) -> Part:
    """A cell and its parameters from the fields of a cell of Equinox's."""
    rows, d = shape("equinox", entries, "weight_ih", 2, REMEDY)
    h = rows // GATES[kind]
    wanted: dict[str, tuple[int, ...]] = {"weight_ih": (GATES[kind] * h, d), "weight_hh": (GATES[kind] * h, h)}
    if "bias" in entries:
        wanted |= {"bias": (rows,)} | ({"bias_n": (h,)} if kind == "gru" else {})
    values = taken("equinox", entries, wanted, f"Are these the weights of an {kind} cell? {REMEDY}")
    w_x, w_h = (transposed(values[name]) for name in ("weight_ih", "weight_hh"))
    b = values.get("bias")
    options: dict[str, Any] = {"dtype": dtype_of(w_x)} | ({} if b is not None else {"b_init": None})
    if kind == "lstm":
        return Part(cells.lstm(d, h, **options), cells.LSTMParams(w_x, w_h, b))
    return Part(cells.gru(d, h, **options), cells.GRUParams(w_x, w_h, b, values.get("bias_n")))


def written(part: Part) -> dict[str, Any]:
    """The fields of Equinox's cell."""
    maker, _ = said("equinox", part.cell, WORDS)
    p = part.params
    names = {"weight_ih": transposed(p.w_x), "weight_hh": transposed(p.w_h)}
    b_n = getattr(p, "b_n", None)
    if p.b is not None or b_n is not None:
        names["bias"] = single("equinox", p.b, 3 if maker is cells.gru else 4, p.w_x)
        if maker is cells.gru:
            names["bias_n"] = of(p.w_x).zeros(p.w_h.shape[0], p.w_h.dtype) if b_n is None else b_n
    return names

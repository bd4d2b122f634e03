"""How torch lays out the weights of one direction of one layer: names, shapes, order of gates."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from seqjax import cells, initializers
from seqjax.interop.arrays import blocks, halves, joined, shape, transposed
from seqjax.interop.rows import Part, dtype_of, said
from seqjax.products import Biases

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
PHI = {"rnn_tanh": jax.numpy.tanh, "rnn_relu": jax.nn.relu}
WORDS: dict[Any, dict[str, Any]] = {
    cells.lstm: {},
    cells.projected_lstm: {},
    cells.gru: {"reset": ("after",)},
    cells.elman: {"activation": tuple(PHI.values())},
}


def shapes(kind: str, entries: Mapping[str, Any], suffix: str, below: int | None) -> dict[str, tuple[int, ...]]:
    """The names and shapes of one direction of one layer, from those of its matrices."""
    remedy = f"Are these the weights of an {kind} module?"
    rows, d = shape("torch", entries, f"weight_ih{suffix}", 2, remedy)
    out = shape("torch", entries, f"weight_hh{suffix}", 2, remedy)[1]
    if rows % GATES[kind]:
        raise ValueError(
            f"torch: expected weight_ih{suffix} with {GATES[kind]} gates of rows for {kind}, got {rows} rows. {remedy}"
        )
    wanted: dict[str, tuple[int, ...]] = {
        f"weight_ih{suffix}": (rows, d if below is None else below),
        f"weight_hh{suffix}": (rows, out),
    }
    hidden = rows // GATES[kind]
    if f"weight_hr{suffix}" in entries and kind == "lstm":
        wanted[f"weight_hr{suffix}"] = (out, hidden)
    elif out != hidden:
        wanted[f"weight_hh{suffix}"] = (rows, hidden)
    if any(f"bias_{each}{suffix}" in entries for each in ("ih", "hh")):
        wanted |= {f"bias_{each}{suffix}": (rows,) for each in ("ih", "hh")}
    return wanted


def read(kind: str, values: Mapping[str, Any], suffix: str) -> Part:
    """A cell and its parameters from the entries of one direction of one layer."""
    w_x, w_h = (transposed(values[f"weight_{each}{suffix}"]) for each in ("ih", "hh"))
    biased = f"bias_ih{suffix}" in values
    b = Biases(values[f"bias_ih{suffix}"], values[f"bias_hh{suffix}"]) if biased else None
    sizes = w_x.shape[0], w_x.shape[1] // GATES[kind]
    options: dict[str, Any] = {"b_init": initializers.two_biases() if biased else None, "dtype": dtype_of(w_x)}
    if kind == "gru":
        if not biased:
            return Part(cells.gru(*sizes, **options), cells.GRUParams(w_x, w_h, None, None))
        (r, z, n), (r_h, z_h, b_n) = (list(blocks(each, "rzn").values()) for each in b)  # type: ignore[union-attr]
        options["b_init"] = initializers.two_biases(gates=("r", "z"))
        both = (Biases(r, r_h), Biases(z, z_h), n)
        return Part(cells.gru(*sizes, **options), cells.GRUParams(w_x, w_h, both, b_n))
    if kind != "lstm":
        return Part(cells.elman(*sizes, activation=PHI[kind], **options), cells.ElmanParams(w_x, w_h, b))
    if f"weight_hr{suffix}" in values:
        w_p = transposed(values[f"weight_hr{suffix}"])
        cell = cells.projected_lstm(*sizes, w_p.shape[1], **options)
        return Part(cell, cells.ProjectedLSTMParams(w_x, w_h, w_p, b))
    return Part(cells.lstm(*sizes, **options), cells.LSTMParams(w_x, w_h, b))


def written(part: Part) -> dict[str, Any]:
    """The entries of one direction of one layer, without their suffix."""
    params = part.params
    gates = (
        GATES["gru"] if isinstance(params, cells.GRUParams) else params.w_x.shape[1] // options_of(part)["hidden_size"]
    )
    names = {"weight_ih": params.w_x.T, "weight_hh": params.w_h.T}
    both = halves("torch", params.b, gates, params.w_x)
    b_n = getattr(params, "b_n", None)
    if both is None and b_n is not None:
        both = halves("torch", np.zeros(params.w_x.shape[1], params.w_x.dtype), gates, params.w_x)
    if both is not None:
        first, second = both
        if b_n is not None:
            *outer, inner = blocks(second, "rzn").values()
            second = joined([*outer, b_n + inner])
        names |= {"bias_ih": first, "bias_hh": second}
    if hasattr(params, "w_p"):
        names["weight_hr"] = params.w_p.T
    return names


def options_of(part: Part) -> dict[str, Any]:
    """The options of a part's cell."""
    return said("torch", part.cell, WORDS)[1]


def tensor(torch: Any, w: np.ndarray) -> Any:
    """Of the same bits: NumPy's bfloat16 is not torch's."""
    return (
        torch.from_numpy(w.view(np.int16)).view(torch.bfloat16) if w.dtype.name == "bfloat16" else torch.from_numpy(w)
    )

"""How Flax lays out the weights of one direction of one layer: names, shapes, order of gates."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import cells
from seqjax.interop.arrays import blocks, joined, of, single, taken
from seqjax.interop.rows import Part, dtype_of, said

GATES = {"lstm": "ifgo", "gru": "rzn", "rnn_tanh": "", "rnn_relu": ""}
PHI = {"rnn_tanh": jnp.tanh, "rnn_relu": jax.nn.relu}
REMEDY = "Pass the parameters of one cell, RNN or Bidirectional, or of several named layers_0, layers_1 and so on."
WORDS: dict[Any, dict[str, Any]] = {
    cells.lstm: {"activation": ..., "gate_activation": ...},
    cells.gru: {"reset": ("after",), "activation": ..., "gate_activation": ...},
    cells.elman: {"activation": ...},
}
Tree = Mapping[str, Any]


def single_cells(tree: Any) -> list[list[Tree]]:
    """The trees of single cells, layer by layer."""
    if isinstance(tree, Mapping):
        for name in ("params", "cell"):
            if set(tree) == {name}:
                return single_cells(tree[name])
        if set(tree) == {"forward_rnn", "backward_rnn"}:
            ends = [single_cells(tree[name]) for name in ("forward_rnn", "backward_rnn")]
            return [[row[0] for row in pair] for pair in zip(*ends)]
        if set(tree) == {"layers"}:
            return single_cells(tree["layers"])
        numbered = sorted((int(str(name).removeprefix("layers_")), name) for name in tree if _is_layer(name))
        if len(numbered) == len(tree) > 0:
            return [row for _, name in numbered for row in single_cells(tree[name])]
        return [[tree]]
    raise TypeError(f"flax: expected nested dictionaries of arrays, got {type(tree).__name__}. {REMEDY}")


def _is_layer(name: Any) -> bool:
    return str(name).removeprefix("layers_").isdigit()


def read(kind: str, tree: Tree, functions: dict[str, Any]) -> Part:
    """A cell and its parameters from the tree of a cell of Flax's."""
    flat = _flat(tree)
    gates = GATES[kind]
    if any(name.startswith("dense_") for name in flat):
        values = _named(flat, {"dense_i/kernel": 2, "dense_h/kernel": 2, _bias(kind): 1}, kind)
        w_x, w_h, b = values["dense_i/kernel"], values["dense_h/kernel"], values[_bias(kind)]
        return _part(kind, w_x, w_h, b, None, functions, inner=False)
    if not gates:
        values = _named(flat, {"i/kernel": 2, "i/bias": 1, "h/kernel": 2}, kind)
        return _part(kind, values["i/kernel"], values["h/kernel"], values["i/bias"], None, functions)
    flat = {name.replace("if_/", "if/"): value for name, value in flat.items()}
    biased = [f"h{g}/bias" for g in gates] if kind == "lstm" else [f"i{g}/bias" for g in gates]
    inner = [] if kind == "lstm" else ["hn/bias"]
    names = {f"{part}{g}/kernel": 2 for part in "ih" for g in gates} | dict.fromkeys(biased + inner, 1)
    values = _named(flat, names, kind)
    w_x, w_h = (joined([values[f"{part}{g}/kernel"] for g in gates]) for part in "ih")
    return _part(kind, w_x, w_h, joined([values[name] for name in biased]), values.get("hn/bias"), functions)


def _bias(kind: str) -> str:
    return "dense_h/bias" if kind == "lstm" else "dense_i/bias"


def _part(kind: str, w_x: Any, w_h: Any, b: Any, b_n: Any, functions: dict[str, Any], inner: bool = True) -> Part:
    options: dict[str, Any] = {"dtype": dtype_of(w_x)} | functions
    sizes = w_x.shape[0], w_h.shape[0]
    if kind == "lstm":
        return Part(cells.lstm(*sizes, **options), cells.LSTMParams(w_x, w_h, b))
    if kind == "gru":
        options |= {} if inner else {"inner_bias": False}
        cell = cells.gru(*sizes, **options)
        return Part(cell, cells.GRUParams(w_x, w_h, b, b_n))
    return Part(cells.elman(*sizes, **options), cells.ElmanParams(w_x, w_h, b))


def _flat(tree: Tree, before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{before}{name}/") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat


def _named(flat: dict[str, Any], axes: dict[str, int], kind: str) -> dict[str, Any]:
    """The entries of these names, their shapes consistent with the first input and recurrent kernel."""
    kernels = {name: np.shape(flat[name]) for name, n in axes.items() if n == 2 and name in flat}
    for name, found in kernels.items():
        if len(found) != 2 or 0 in found:
            raise ValueError(f"flax: expected {name} with 2 axes, none of them empty, got shape {found}. {REMEDY}")
    d = next((found[0] for name, found in kernels.items() if not name.startswith(("h", "dense_h"))), 0)
    h, columns = next((found for name, found in kernels.items() if name.startswith(("h", "dense_h"))), (0, 0))
    whole = any(name.startswith("dense") for name in axes)
    columns = {"lstm": 4, "gru": 3}.get(kind, 1) * h if whole else h
    wanted: dict[str, tuple[int, ...]] = {
        name: (columns,) if n == 1 else (h if name.startswith(("h", "dense_h")) else d, columns)
        for name, n in axes.items()
    }
    return taken("flax", flat, wanted, f"Are these the parameters of a {kind} cell? {REMEDY}")


def written(part: Part, style: str) -> dict[str, Any]:
    """The tree of Flax's cell, linen's or nnx's."""
    maker, _ = said("flax", part.cell, WORDS)
    p = part.params
    gates = {cells.lstm: "ifgo", cells.gru: "rzn", cells.elman: "h"}[maker]
    b = single("flax", p.b, len(gates), p.w_x)
    b_n = getattr(p, "b_n", None)
    if style == "nnx dense":
        if b_n is not None and np.any(np.asarray(b_n)):
            raise ValueError(
                "flax: expected a gru without an inner bias for nnx.GRUCell, which has none, got one that is not zero. "
                'Use style="linen", or a cell gru(…, inner_bias=False).'
            )
        i, h = {"kernel": p.w_x}, {"kernel": p.w_h}
        (h if maker is cells.lstm else i)["bias"] = b
        return {"dense_i": i, "dense_h": h}
    if maker is cells.elman:
        if style == "nnx":
            raise ValueError('flax: expected style="nnx dense" for nnx.SimpleCell, got "nnx". Use that.')
        return {"i": {"kernel": p.w_x, "bias": b}, "h": {"kernel": p.w_h}}
    if maker is cells.gru and style == "nnx":
        raise ValueError('flax: expected style="nnx dense" for nnx.GRUCell, got "nnx". Use that.')
    w_x, w_h, bs = (blocks(w, gates) for w in (p.w_x, p.w_h, b))
    i, h = ({f"{side}{g}": {"kernel": w[g]} for g in gates} for side, w in (("i", w_x), ("h", w_h)))
    for g in gates:
        (h[f"h{g}"] if maker is cells.lstm else i[f"i{g}"])["bias"] = bs[g]
    if maker is cells.gru:
        h["hn"]["bias"] = of(p.w_x).zeros(p.w_h.shape[0], p.w_x.dtype) if b_n is None else b_n
    if style == "nnx":
        i["if_"] = i.pop("if")
    return i | h


def tree_of(cells: Sequence[Tree]) -> dict[str, Any]:
    """Parameters of an ``RNN`` of a cell, or of a ``Bidirectional`` of two."""
    ends = [{"cell": each} for each in cells]
    return ends[0] if len(ends) == 1 else {"forward_rnn": ends[0], "backward_rnn": ends[1]}

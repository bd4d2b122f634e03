"""Flax: weights and states of linen's and nnx's recurrent cells, both ways.

Gates are i, f, g, o and r, z, n as here. Linen keeps a kernel a gate, ``LSTMCell`` and ``OptimizedLSTMCell`` the same
ones; nnx keeps one a gate in its ``LSTMCell`` (where f is ``if_``) and one for all, ``dense_i`` and ``dense_h``, in the
others; its ``GRUCell`` has no bias inside the reset. A state dict here is a tree of parameters of a cell, of an ``RNN``
(under ``cell``), of ``Bidirectional`` (under ``forward_rnn`` and ``backward_rnn``), or of several (``layers_0``, …).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.base import Cell, Layer, PyTree
from seqjax.interop import verified
from seqjax.interop.extras import needed
from seqjax.interop.layouts.flax import GATES, PHI, WORDS, Tree, read, single_cells, tree_of, written
from seqjax.interop.rows import Part, put_together, said, taken_apart
from seqjax.interop.states import state_as_nested, state_nested
from seqjax.interop.theirs.flax import outputs_of

__all__ = ["from_module", "from_state_dict", "state_from", "state_to", "to_module", "to_state_dict"]


def from_state_dict(
    kind: str,
    state_dict: Tree,
    *,
    activation: Callable | None = None,
    gate_activation: Callable = jax.nn.sigmoid,
    engine: Any = "auto",
    memory: str | int = "auto",
    verify: bool = False,
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from a tree of Flax's, linen's or nnx's; to the bit.

    Args:
      kind: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
      state_dict: nested dictionaries of arrays: ``variables["params"]`` of linen, ``nnx.to_pure_dict(nnx.state(…))``.
      activation: of the candidate, ``activation_fn``; tanh if None, or what the kind names.
      gate_activation: of the gates, ``gate_fn``.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: convert back, run the module and our layer on a short random sequence, and compare; needs Flax.
        `from_module` runs the trained module itself.

    Returns:
      Layer and parameters, as JAX's arrays if the entries are, else as NumPy's.

    Raises:
      ValueError: an unknown kind; entries that are missing, unknown or of another shape; outputs that differ.
      TypeError: entries that are no floating point numbers.

    Example:
      >>> import numpy as np
      >>> tree = {"i": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}, "h": {"kernel": np.ones((2, 2))}}
      >>> layer, params = from_state_dict("rnn_tanh", tree)
      >>> params.w_x.shape
      (3, 2)
    """
    if kind not in GATES:
        raise ValueError(f"flax: expected one of {', '.join(GATES)}, got {kind!r}. Name the cell that was trained.")
    functions = {"activation": activation or PHI.get(kind, jnp.tanh)}
    if kind in ("lstm", "gru"):
        functions["gate_activation"] = gate_activation
    elif gate_activation is not jax.nn.sigmoid:
        raise ValueError(
            f"flax: expected no gate_activation for {kind}, which has no gates, got {gate_activation}. Leave it out."
        )
    rows = [[read(kind, tree, functions) for tree in row] for row in single_cells(state_dict)]
    layer, params = put_together(rows, engine=engine, memory=memory)
    if verify:
        made = zip(*[_module(row) for row in rows])
        verified.checked("flax", layer, params, outputs_of(*made))
    return layer, params


def from_module(
    module: Any,
    state_dict: Tree | None = None,
    *,
    engine: Any = "auto",
    memory: str | int = "auto",
    verify: bool = False,
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from Flax modules: `from_state_dict`, with kind and activations read off them.

    Args:
      module: an ``LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell`` or ``SimpleCell``, an ``RNN`` or ``Bidirectional`` of
        them, or a list of such layers; linen's or nnx's.
      state_dict: ``variables["params"]`` of linen modules, which hold no arrays themselves; a list for a list.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: run the modules themselves and our layer on a short random sequence from random
        states, and compare their outputs within rounding.

    Returns:
      Layer and parameters.

    Raises:
      TypeError: another module, or a linen module without its parameters.
      ValueError: an option that has no counterpart, such as ``residual``; outputs that differ.

    Example:
      >>> from flax import nnx
      >>> from_module(nnx.RNN(nnx.OptimizedLSTMCell(3, 2, rngs=nnx.Rngs(0))), verify=True)[0]
      recurrent(lstm(3, 2))
    """
    several = isinstance(module, list | tuple)
    modules = module if several else [module]
    trees = _in_order(state_dict) if several and state_dict is not None else [state_dict] * len(modules)
    rows = [_module_row(each, tree) for each, tree in zip(modules, trees, strict=True)]
    layer, params = put_together(rows, engine=engine, memory=memory)
    if verify:
        verified.checked("flax", layer, params, outputs_of(modules, trees))
    return layer, params


def _in_order(tree: Any) -> list[Any]:
    if not isinstance(tree, Mapping):
        return list(tree)
    return [tree[name] for _, name in sorted((int(str(name).removeprefix("layers_")), name) for name in tree)]


def _module_row(module: Any, tree: Any) -> list[Part]:
    if hasattr(module, "forward_rnn"):
        if module.merge_fn is not inspect.signature(type(module).__init__).parameters["merge_fn"].default:
            raise ValueError(
                f"flax: expected merge_fn to concatenate both directions, got {module.merge_fn}. "
                "Merge the two halves of our outputs instead."
            )
        trees = (None, None) if tree is None else single_cells(tree)[0]
        ends = [_module_row(end, t) for end, t in zip((module.forward_rnn, module.backward_rnn), trees)]
        return [end[0]._replace(reverse=False) for end in ends]
    reverse = bool(getattr(module, "reverse", False))
    cell = getattr(module, "cell", module)
    if tree is None:
        nnx = needed("flax.nnx", extra="flax")
        if not isinstance(cell, nnx.Module):
            raise TypeError(
                f"flax: expected the parameters of a linen {type(cell).__name__} beside it, got none. "
                'Pass from_module(module, variables["params"]).'
            )
        tree = nnx.to_pure_dict(nnx.state(cell, nnx.Param))
    kinds = {"LSTMCell": "lstm", "OptimizedLSTMCell": "lstm", "GRUCell": "gru", "SimpleCell": "rnn_tanh"}
    name = type(cell).__name__
    if name not in kinds or not type(cell).__module__.startswith("flax."):
        raise TypeError(
            f"flax: expected a cell among {', '.join(kinds)}, got {name}. A cell of another kind comes in by "
            "interop.from_linen(cell, input_size) or interop.from_nnx(cell)."
        )
    if getattr(cell, "residual", False):
        raise ValueError(
            "flax: expected a SimpleCell with residual=False, got True. Bring it in by interop.from_linen."
        )
    functions = {"activation": _ours(cell.activation_fn)}
    if hasattr(cell, "gate_fn"):
        functions["gate_activation"] = _ours(cell.gate_fn)
    return [read(kinds[name], single_cells(tree)[0][0], functions)._replace(reverse=reverse)]


def _ours(function: Callable) -> Callable:
    """Flax's names for JAX's functions are JAX's functions, but for these."""
    return {jax.nn.tanh: jnp.tanh, jax.lax.tanh: jnp.tanh}.get(function, function)


def to_state_dict(layer: Cell | Layer, params: PyTree, *, style: str = "linen") -> dict[str, Any]:
    """The parameters of a layer as Flax names and lays them out; two biases that are added become one.

    Args:
      layer: of `from_state_dict`, or one of your own of `seqjax.lstm`, `seqjax.gru` with its reset after the product,
        or `seqjax.elman`. A bias that is absent becomes zeros, as Flax's cells always have one.
      params: its parameters.
      style: ``"linen"``; ``"nnx"`` for its ``LSTMCell``; ``"nnx dense"`` for its ``OptimizedLSTMCell``, ``GRUCell`` and
        ``SimpleCell``.

    Returns:
      What ``nn.RNN(cell).apply({"params": …}, xs)`` takes: ``{"cell": …}``, or ``{"forward_rnn", "backward_rnn"}``; of
      several layers ``{"layers_0": …, …}``, as in ``nn.Sequential``.

    Raises:
      TypeError: a layer or a cell that Flax does not have.
      ValueError: an unknown style, or an option that Flax cannot say.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.elman(3, 2))
      >>> jax.tree.map(jax.numpy.shape, to_state_dict(layer, layer.init(jax.random.key(0))))
      {'cell': {'h': {'kernel': (2, 2)}, 'i': {'bias': (2,), 'kernel': (3, 2)}}}
    """
    if style not in ("linen", "nnx", "nnx dense"):
        raise ValueError(f"flax: expected style linen, nnx or nnx dense, got {style!r}. Choose one of them.")
    trees = [tree_of([written(part, style) for part in row]) for row in taken_apart("flax", layer, params)]
    return trees[0] if len(trees) == 1 else {f"layers_{k}": tree for k, tree in enumerate(trees)}


def to_module(layer: Cell | Layer, params: PyTree) -> tuple[Any, dict[str, Any]]:
    """Linen's modules for a layer, batch first as they are, and their variables.

    Args:
      layer: as in `to_state_dict`.
      params: its parameters.

    Returns:
      ``nn.RNN``, ``nn.Bidirectional`` or an ``nn.Sequential`` of them, and ``{"params": …}``.

    Raises:
      ModuleNotFoundError: Flax is missing.
      TypeError, ValueError: as in `to_state_dict`.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.recurrent(sj.lstm(3, 2))
      >>> module, variables = to_module(layer, layer.init(jax.random.key(0)))
      >>> module.apply(variables, jnp.ones((4, 5, 3))).shape
      (4, 5, 2)
    """
    layers = [_module(row)[0] for row in taken_apart("flax", layer, params)]
    module = layers[0] if len(layers) == 1 else needed("flax.linen", extra="flax").Sequential(layers)
    return module, {"params": jax.tree.map(jnp.asarray, to_state_dict(layer, params))}


def _module(row: Sequence[Part]) -> tuple[Any, dict[str, Any]]:
    """Linen's module of one layer, and its parameters."""
    nn = needed("flax.linen", extra="flax")
    ends = [nn.RNN(_cell(nn, part), **({"reverse": True, "keep_order": True} if part.reverse else {})) for part in row]
    return ends[0] if len(row) == 1 else nn.Bidirectional(*ends), tree_of([written(part, "linen") for part in row])


def _cell(nn: Any, part: Part) -> Any:
    maker, options = said("flax", part.cell, WORDS)
    kind = {cells.lstm: nn.OptimizedLSTMCell, cells.gru: nn.GRUCell, cells.elman: nn.SimpleCell}[maker]
    own = {"activation_fn": options["activation"]}
    if maker is not cells.elman:
        own["gate_fn"] = options["gate_activation"]
    dtype = jnp.asarray(part.params.w_x).dtype
    return kind(options["hidden_size"], dtype=dtype, param_dtype=dtype, **own)


def state_from(layer: Cell | Layer, h0: Any, c0: Any = None) -> PyTree:
    """A layer's state of Flax's carry: ``h``, or ``(c, h)`` of an LSTM, in this order; or of the two apart.

    Args:
      layer: the layer.
      h0: the carry, or h; a pair for both directions, a list for several layers.
      c0: c, where h0 is h alone.

    Returns:
      The state before the first tick; in two directions both readers start from theirs.

    Raises:
      ValueError: another number of layers, other sizes, or a c0 that is missing or not wanted.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_from(sj.recurrent(sj.lstm(3, 2)), (jnp.ones(2), jnp.zeros(2))).c.tolist()
      [1.0, 1.0]
    """
    return state_nested("flax", layer, h0, c0, lambda carry: (carry[1], carry[0]))


def state_to(layer: Cell | Layer, state: PyTree) -> Any:
    """A layer's state as Flax carries it: ``h``, or ``(c, h)`` of an LSTM; a pair of both directions, a list of layers.

    Raises:
      ValueError: a layer in two directions that does not keep where the backward reader arrived.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> layer = sj.recurrent(sj.lstm(3, 2))
      >>> c, h = state_to(layer, sj.cells.LSTMState(h=jnp.zeros(2), c=jnp.ones(2)))
      >>> c.tolist()
      [1.0, 1.0]
    """
    return state_as_nested("flax", layer, state, lambda h, c: (c, h))

"""Equinox: weights and states of `equinox.nn.LSTMCell` and `GRUCell`, both ways.

Gate order, one bias and the bias inside the GRU's reset are as here; matrices lie the other way round. A state dict
here is a cell's arrays by the names of its fields; a list of them is several layers, a pair both directions.
"""

from collections.abc import Mapping
from typing import Any

import jax

from seqjax import cells
from seqjax.base import Cell, Layer, PyTree
from seqjax.interop import verified
from seqjax.interop.extras import needed
from seqjax.interop.layouts.equinox import GATES, WORDS, read, written
from seqjax.interop.rows import Part, as_nested, nested, put_together, said, taken_apart
from seqjax.interop.states import state_as_nested, state_nested
from seqjax.interop.theirs.equinox import outputs_of

__all__ = ["from_module", "from_state_dict", "state_from", "state_to", "to_module", "to_state_dict"]


def from_state_dict(
    kind: str, state_dict: Any, *, engine: Any = "auto", memory: str | int = "auto", verify: bool = False
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from the arrays of Equinox cells; to the bit.

    Args:
      kind: ``"lstm"`` or ``"gru"``.
      state_dict: ``{"weight_ih", "weight_hh", "bias", "bias_n"}`` of a cell, without the biases where it has none; a
        list of these for several layers, a pair for both directions.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: convert back, run the module and our layer on a short random sequence, and compare; needs Equinox.
        `from_module` runs the trained cells itself.

    Returns:
      Layer and parameters, as JAX's arrays if the entries are, else as NumPy's.

    Raises:
      ValueError: an unknown kind; entries that are missing, unknown or of another shape; outputs that differ.
      TypeError: entries that are no floating point numbers.

    Example:
      >>> import numpy as np
      >>> layer, params = from_state_dict("gru", {"weight_ih": np.ones((6, 3)), "weight_hh": np.ones((6, 2))})
      >>> params.w_h.shape
      (2, 6)
    """
    if kind not in GATES:
        raise ValueError(f"equinox: expected one of {', '.join(GATES)}, got {kind!r}. Name the cell that was trained.")
    rows = [[read(kind, each) for each in row] for row in nested(state_dict, lambda leaf: isinstance(leaf, Mapping))]
    layer, params = put_together(rows, engine=engine, memory=memory)
    if verify:
        verified.checked("equinox", layer, params, outputs_of([[_module(part) for part in row] for row in rows]))
    return layer, params


def from_module(
    module: Any, *, engine: Any = "auto", memory: str | int = "auto", verify: bool = False
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from Equinox cells: `from_state_dict`, with the kind read off them.

    Args:
      module: an `equinox.nn.LSTMCell` or ``GRUCell``; a list of them for several layers, a pair for both directions.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: run the cells themselves and our layer on a short random sequence from random
        states, and compare their outputs within rounding.

    Returns:
      Layer and parameters.

    Raises:
      TypeError: another module.
      ValueError: outputs that differ.

    Example:
      >>> import equinox, jax
      >>> from_module(equinox.nn.GRUCell(3, 2, key=jax.random.key(0)), verify=True)[0]
      recurrent(gru(3, 2))
    """
    nn = needed("equinox.nn", extra="equinox")
    rows = nested(module, lambda leaf: not isinstance(leaf, list | tuple))
    kinds = {nn.LSTMCell: "lstm", nn.GRUCell: "gru"}
    parts = []
    for row in rows:
        for each in row:
            if type(each) not in kinds:
                raise TypeError(
                    f"equinox: expected an LSTMCell or GRUCell, got {type(each).__name__}. "
                    "A cell of another kind comes in by interop.from_equinox(cell)."
                )
        names = ("weight_ih", "weight_hh", "bias", "bias_n")
        arrays = [{name: getattr(c, name) for name in names if getattr(c, name, None) is not None} for c in row]
        parts.append([read(kinds[type(each)], entries) for each, entries in zip(row, arrays)])
    layer, params = put_together(parts, engine=engine, memory=memory)
    if verify:
        verified.checked("equinox", layer, params, outputs_of(rows))
    return layer, params


def to_state_dict(layer: Cell | Layer, params: PyTree) -> Any:
    """The parameters of a layer as Equinox names and lays them out; two biases that are added become one.

    Args:
      layer: of `from_state_dict`, or one of your own of `seqjax.lstm` or `seqjax.gru` with its reset after the product.
      params: its parameters.

    Returns:
      Arrays by field; a list of these for several layers, a pair for both directions.

    Raises:
      TypeError: a layer or a cell that Equinox does not have.
      ValueError: an option that it cannot say.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.lstm(3, 2))
      >>> {name: w.shape for name, w in to_state_dict(layer, layer.init(jax.random.key(0))).items()}
      {'weight_ih': (8, 3), 'weight_hh': (8, 2), 'bias': (8,)}
    """
    rows = taken_apart("equinox", layer, params)
    return as_nested([[written(part) for part in row] for row in rows])


def to_module(layer: Cell | Layer, params: PyTree) -> Any:
    """Equinox cells with the parameters of a layer, nested as in `to_state_dict`.

    Args:
      layer: as in `to_state_dict`.
      params: its parameters.

    Returns:
      An `equinox.nn.LSTMCell` or ``GRUCell``, or a list or pair of them.

    Raises:
      ModuleNotFoundError: Equinox is missing.
      TypeError, ValueError: as in `to_state_dict`.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.lstm(3, 2))
      >>> to_module(layer, layer.init(jax.random.key(0))).weight_ih.shape
      (8, 3)
    """
    return as_nested([[_module(part) for part in row] for row in taken_apart("equinox", layer, params)])


def _module(part: Part) -> Any:
    nn, eqx = needed("equinox.nn", extra="equinox"), needed("equinox", extra="equinox")
    entries = written(part)
    maker, options = said("equinox", part.cell, WORDS)
    kind = nn.LSTMCell if maker is cells.lstm else nn.GRUCell
    sizes = options["input_size"], options["hidden_size"]
    bare = kind(*sizes, use_bias="bias" in entries, key=jax.random.key(0))
    where = lambda module: tuple(getattr(module, name) for name in entries)
    return eqx.tree_at(where, bare, tuple(map(jax.numpy.asarray, entries.values())))


def state_from(layer: Cell | Layer, h0: Any, c0: Any = None) -> PyTree:
    """A layer's state of Equinox's: ``h`` of a GRU, ``(h, c)`` of an LSTM or the two apart, nested like the weights.

    Raises:
      ValueError: another number of layers, other sizes, or a c0 that is missing or not wanted.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_from(sj.recurrent(sj.lstm(3, 2)), (jnp.zeros(2), jnp.ones(2))).c.tolist()
      [1.0, 1.0]
    """
    return state_nested("equinox", layer, h0, c0, tuple)


def state_to(layer: Cell | Layer, state: PyTree) -> Any:
    """A layer's state as Equinox carries it: ``h``, or ``(h, c)`` of an LSTM, nested like the weights.

    Raises:
      ValueError: a layer in two directions that does not keep where the backward reader arrived.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 2))
      >>> state_to(layer, jnp.ones(2)).tolist()
      [1.0, 1.0]
    """
    return state_as_nested("equinox", layer, state, lambda h, c: (h, c))

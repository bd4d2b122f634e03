"""Haiku: weights and states of `haiku.LSTM`, `GRU` and `VanillaRNN`, both ways.

Its LSTM multiplies ``[x, h]`` by one matrix, gates i, g, f, o, and adds 1 to the forget gate outside its bias: here
``lstm(…, forget_bias=1.0)``. Its GRU resets before the product, gates z, r, a, and its z is 1 - z here. Its vanilla RNN
has relu and, unless told otherwise, two biases. A state dict here is the tree of ``hk.transform(…).init``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from seqjax.base import Cell, Layer, PyTree
from seqjax.interop import verified
from seqjax.interop.arrays import listed, taken
from seqjax.interop.extras import needed
from seqjax.interop.layouts.haiku import MODULES, NAMES, REMEDY, read, shapes, written
from seqjax.interop.rows import Part, put_together, taken_apart
from seqjax.interop.states import state_as_nested, state_nested
from seqjax.interop.theirs.haiku import outputs_of

__all__ = ["from_module", "from_state_dict", "state_from", "state_to", "to_state_dict"]

CORES = {"lstm": "LSTM", "gru": "GRU", "rnn_relu": "VanillaRNN"}
FIRST = {"lstm": "/linear/w", "gru": "/w_i", "rnn_relu": "/linear/w"}


def from_state_dict(
    kind: str,
    state_dict: Mapping[str, Mapping[str, Any]],
    *,
    engine: Any = "auto",
    memory: str | int = "auto",
    verify: bool = False,
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from those of Haiku cores; to the bit.

    Args:
      kind: ``"lstm"``, ``"gru"`` or ``"rnn_relu"``.
      state_dict: ``{"lstm/linear": {"w", "b"}}`` and the like; several cores of the kind are layers, in their order.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: run our layer and a core with the parameters that `to_state_dict` makes on a short random sequence, and
        compare; needs Haiku. It tells a conversion that goes wrong, `from_module` also other options of the core.

    Returns:
      Layer and parameters, as JAX's arrays if the entries are, else as NumPy's.

    Raises:
      ValueError: an unknown kind; entries that are missing, unknown or of another shape; outputs that differ.
      TypeError: entries that are no floating point numbers.

    Example:
      >>> import numpy as np
      >>> weights = {"lstm/linear": {"w": np.ones((5, 8)), "b": np.zeros(8)}}
      >>> layer, params = from_state_dict("lstm", weights)
      >>> params.w_x.shape, params.w_h.shape
      ((3, 8), (2, 8))
    """
    if kind not in MODULES:
        raise ValueError(f"haiku: expected one of {', '.join(MODULES)}, got {kind!r}. Name the core that was trained.")
    flat = _flat(state_dict)
    cores = _cores(kind, flat)
    if not cores:
        raise ValueError(
            f"haiku: expected entries such as {NAMES[kind]}{FIRST[kind]}, got {listed(flat) or 'none'}. {REMEDY}"
        )
    wanted: dict[str, tuple[int, ...]] = {}
    for core in cores:
        wanted |= shapes(kind, flat, core)
    values = taken("haiku", flat, wanted, REMEDY)
    rows = [[read(kind, {name.removeprefix(core): w for name, w in values.items()})] for core in cores]
    layer, params = put_together(rows, engine=engine, memory=memory)
    if verify:
        verified.checked("haiku", layer, params, outputs_of([_written(part) for (part,) in rows]))
    return layer, params


def _flat(state_dict: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{module}/{name}": w for module, entries in state_dict.items() for name, w in entries.items()}


def _cores(kind: str, flat: Mapping[str, Any]) -> list[str]:
    """The names of the cores that parameters are of."""
    return [name.removesuffix(FIRST[kind]) for name in flat if name.endswith(FIRST[kind])]


def from_module(
    make_core: Callable[[], Any],
    state_dict: Mapping[str, Mapping[str, Any]],
    *,
    engine: Any = "auto",
    memory: str | int = "auto",
    verify: bool = False,
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from a Haiku core: `from_state_dict`, with the kind read off the core.

    Args:
      make_core: makes the core, as in ``lambda: hk.LSTM(64)``; cores have no parameters of their own.
      state_dict: the parameters that were drawn for it.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: run the core itself and our layer on a short random sequence from random
        states, and compare their outputs within rounding.

    Returns:
      Layer and parameters.

    Raises:
      TypeError: another core.
      ValueError: entries that are not those of such a core; outputs that differ.

    Example:
      >>> import haiku as hk, jax, jax.numpy as jnp
      >>> run = hk.transform(lambda xs: hk.dynamic_unroll(hk.LSTM(2), xs, hk.LSTM(2).initial_state(None)))
      >>> from_module(lambda: hk.LSTM(2), run.init(jax.random.key(0), jnp.ones((5, 3))), verify=True)[0]
      recurrent(lstm(3, 2, forget_bias=1.0))
    """
    hk = needed("haiku", extra="haiku")
    seen: list[Any] = []
    hk.transform(lambda: seen.append(make_core())).init(None)
    kinds = {getattr(hk, name): kind for kind, name in CORES.items()}
    if type(seen[0]) not in kinds:
        raise TypeError(
            f"haiku: expected an hk.LSTM, hk.GRU or hk.VanillaRNN, got {type(seen[0]).__name__}. "
            "A core of another kind comes in by interop.from_haiku(make_core, input_size)."
        )
    kind = kinds[type(seen[0])]
    layer, params = from_state_dict(kind, state_dict, engine=engine, memory=memory)
    if verify:
        named = lambda core: {
            seen[0].module_name + name.removeprefix(core): entries
            for name, entries in state_dict.items()
            if name == core or name.startswith(f"{core}/")
        }
        verified.checked(
            "haiku", layer, params, outputs_of([(make_core, named(core)) for core in _cores(kind, _flat(state_dict))])
        )
    return layer, params


def to_state_dict(layer: Cell | Layer, params: PyTree) -> dict[str, dict[str, Any]]:
    """The parameters of a layer as Haiku names and lays them out.

    The 1 that Haiku adds to the forget gate is taken out of the bias of an LSTM without ``forget_bias=1.0``.

    Args:
      layer: of `from_state_dict`, or one of your own of cells that Haiku has: `seqjax.lstm`, `seqjax.gru` with its
        reset before the product, `seqjax.elman` with relu; one direction.
      params: its parameters.

    Returns:
      ``{"lstm/linear": {"w", "b"}}`` and the like; further layers are ``lstm_1`` and so on.

    Raises:
      TypeError: a layer or a cell that Haiku does not have.
      ValueError: an option that it cannot say.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 2, reset="before"))
      >>> jax.tree.map(jax.numpy.shape, to_state_dict(layer, layer.init(jax.random.key(0))))
      {'gru': {'b': (6,), 'w_h': (2, 6), 'w_i': (3, 6)}}
    """
    tree: dict[str, dict[str, Any]] = {}
    count: dict[str, int] = {}
    for row in taken_apart("haiku", layer, params):
        if len(row) != 1 or row[0].reverse:
            raise ValueError(f"haiku: expected one forward direction, got {layer}. Convert the directions one by one.")
        kind, modules = written(row[0])
        name = NAMES[kind] + (f"_{count[kind]}" if kind in count else "")
        count[kind] = count.get(kind, 0) + 1
        tree |= {name + suffix: entries for suffix, entries in modules.items()}
    return tree


def state_from(layer: Cell | Layer, h0: Any, c0: Any = None) -> PyTree:
    """A layer's state of Haiku's: ``h``, or an ``hk.LSTMState(hidden, cell)``; of a ``DeepRNN`` one a layer.

    Raises:
      ValueError: another number of layers, other sizes, or a c0 that is missing or not wanted.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_from(sj.recurrent(sj.lstm(3, 2)), (jnp.zeros(2), jnp.ones(2))).c.tolist()
      [1.0, 1.0]
    """
    return state_nested("haiku", layer, h0, c0, tuple)


def state_to(layer: Cell | Layer, state: PyTree) -> Any:
    """A layer's state as Haiku carries it: ``h``, or ``hk.LSTMState(hidden, cell)``; a list of several layers.

    Raises:
      ModuleNotFoundError: Haiku is missing.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_to(sj.recurrent(sj.lstm(3, 2)), sj.cells.LSTMState(jnp.zeros(2), jnp.ones(2))).cell.tolist()
      [1.0, 1.0]
    """
    return state_as_nested("haiku", layer, state, needed("haiku", extra="haiku").LSTMState)


def _written(part: Part) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A core, and its parameters, of one layer of ours."""
    hk = needed("haiku", extra="haiku")
    kind, modules = written(part)
    extra = {"double_bias": "b" in modules["/linear_1"]} if kind == "rnn_relu" else {}
    make_core = lambda: getattr(hk, CORES[kind])(part.params.w_h.shape[0], **extra)
    return make_core, {NAMES[kind] + suffix: entries for suffix, entries in modules.items()}

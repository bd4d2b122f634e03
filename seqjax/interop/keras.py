"""Keras 3: weights and states of `keras.layers.LSTM`, `GRU` and `SimpleRNN`, both ways.

Matrices lie as here. LSTM gates are i, f, c, o, ours in order; GRU gates z, r, h, with z as here; a GRU with
``reset_after`` has two biases, of which the second's last third is the one inside the reset. A state dict here is what
``get_weights()`` returns and ``set_weights`` takes: a list of arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import cells
from seqjax.base import Cell, Layer, PyTree
from seqjax.interop import verified
from seqjax.interop.extras import needed
from seqjax.interop.layouts.keras import FUNCTIONS, GATES, PHI, WORDS, read, written
from seqjax.interop.rows import Part, put_together, said, taken_apart
from seqjax.interop.states import state_as_nested, state_nested
from seqjax.interop.theirs.keras import outputs_of, weights_of

__all__ = ["from_module", "from_state_dict", "state_from", "state_to", "to_module", "to_state_dict"]


# Options of Keras' layers that change what they compute and are no weights.
PLAIN = {"dropout": 0.0, "recurrent_dropout": 0.0}


def from_state_dict(
    kind: str,
    state_dict: Sequence[Any],
    *,
    bidirectional: bool = False,
    reset: str | None = None,
    activation: Callable | None = None,
    gate_activation: Callable = jax.nn.sigmoid,
    engine: Any = "auto",
    memory: str | int = "auto",
    verify: bool = False,
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from the weights of Keras layers; to the bit.

    Args:
      kind: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
      state_dict: ``layer.get_weights()``: kernel, recurrent kernel, and a bias if there is one; twice that of a
        ``Bidirectional``; a list of such lists for several layers.
      bidirectional: whether the lists are those of ``Bidirectional``.
      reset: of a GRU, ``"after"`` or ``"before"`` the recurrent product; told by the bias where there is one.
      activation: of the candidate; tanh if None, or what the kind names.
      gate_activation: of the gates, ``recurrent_activation``.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: convert back, run the layer and our layer on a short random sequence, and compare; needs Keras.
        `from_module` runs the trained layer itself.

    Returns:
      Layer and parameters, as JAX's arrays if the weights are, else as NumPy's.

    Raises:
      ValueError: an unknown kind; weights that are missing, too many or of another shape; outputs that differ.
      TypeError: weights that are no floating point numbers.

    Example:
      >>> import numpy as np
      >>> layer, params = from_state_dict("gru", [np.ones((3, 6)), np.ones((2, 6)), np.zeros((2, 6))])
      >>> layer.name, params.b_n.shape
      ('recurrent', (2,))
    """
    if kind not in GATES:
        raise ValueError(f"keras: expected one of {', '.join(GATES)}, got {kind!r}. Name the layer that was trained.")
    functions: dict[str, Any] = {"activation": activation or PHI.get(kind, jnp.tanh)}
    if kind in ("lstm", "gru"):
        functions["gate_activation"] = gate_activation
    several = bool(state_dict) and all(isinstance(each, list | tuple) for each in state_dict)
    rows = []
    for weights in state_dict if several else [state_dict]:
        half = len(weights) // 2
        ends = [weights[:half], weights[half:]] if bidirectional else [weights]
        rows.append([read(kind, end, reset, functions) for end in ends])
    layer, params = put_together(rows, engine=engine, memory=memory)
    if verify:
        made = to_module(layer, params)
        _verify(layer, params, made if isinstance(made, list) else [made])
    return layer, params


def from_module(
    module: Any, *, engine: Any = "auto", memory: str | int = "auto", verify: bool = False
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from Keras layers: `from_state_dict`, with kind, reset and activations read off them.

    Args:
      module: a built ``LSTM``, ``GRU`` or ``SimpleRNN``, a ``Bidirectional`` of one, or a list of such layers. With
        ``go_backwards`` our layer runs in reverse; its outputs stay at their ticks, where Keras turns them round.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: run copies of the layers that Keras makes of their configuration and weights, and our layer, on a short
        random sequence from random states, and compare their outputs within rounding; float64 as float32, to whose
        seven digits Keras computes.

    Returns:
      Layer and parameters.

    Raises:
      TypeError: another layer, or one that is not built.
      ValueError: an option that has no counterpart, such as ``dropout``, or an activation that is not JAX's; outputs
        that differ.

    Example:
      >>> import keras
      >>> module = keras.layers.GRU(2)
      >>> module.build((None, None, 3))
      >>> from_module(module, verify=True)[0].name
      'recurrent'
    """
    modules = module if isinstance(module, list | tuple) else [module]
    layer, params = put_together([_module_row(each) for each in modules], engine=engine, memory=memory)
    if verify:
        _verify(layer, params, modules)
    return layer, params


def _module_row(module: Any) -> list[Part]:
    if type(module).__name__ == "Bidirectional":
        if module.merge_mode != "concat":
            raise ValueError(
                f"keras: expected merge_mode='concat', got {module.merge_mode!r}. "
                "Merge the two halves of our outputs instead."
            )
        return [_module_row(end)[0]._replace(reverse=False) for end in (module.forward_layer, module.backward_layer)]
    kinds = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn_tanh"}
    name = type(module).__name__
    if name not in kinds or not type(module).__module__.startswith("keras."):
        raise TypeError(f"keras: expected a layer LSTM, GRU, SimpleRNN or Bidirectional, got {name}. Pass it alone.")
    if not module.built:
        raise TypeError(f"keras: expected a {name} with weights, got one that is not built. Call it once, or build it.")
    for option, plain in PLAIN.items():
        if getattr(module, option) != plain:
            raise ValueError(
                f"keras: expected {option}={plain}, got {getattr(module, option)}. Set it so and use sj.dropout or "
                "sj.recurrent_dropout around our cell."
            )
    functions = {"activation": _ours(module.activation)}
    if name != "SimpleRNN":
        functions["gate_activation"] = _ours(module.recurrent_activation)
    keras = needed("keras", extra="keras")
    reset = ("after" if module.reset_after else "before") if name == "GRU" else None
    part = read(kinds[name], weights_of(keras, module), reset, functions)
    return [part._replace(reverse=bool(module.go_backwards))]


def _ours(function: Any) -> Callable:
    name = getattr(function, "__name__", str(function))
    if name not in FUNCTIONS or not function.__module__.startswith("keras."):
        raise ValueError(
            f"keras: expected an activation among {', '.join(FUNCTIONS)}, got {name}. "
            "Pass the JAX function of it to from_state_dict(…, activation=)."
        )
    return FUNCTIONS[name]


def to_state_dict(layer: Cell | Layer, params: PyTree) -> list[Any]:
    """The parameters of a layer as Keras lists them, for ``set_weights``.

    Args:
      layer: of `from_state_dict`, or one of your own of `seqjax.lstm`, `seqjax.gru` or `seqjax.elman`.
      params: its parameters.

    Returns:
      Arrays: kernel, recurrent kernel, bias; of both directions one after the other; a list of lists of several.

    Raises:
      TypeError: a layer or a cell that Keras does not have.
      ValueError: an option that it cannot say.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 2))
      >>> [w.shape for w in to_state_dict(layer, layer.init(jax.random.key(0)))]
      [(3, 6), (2, 6), (2, 6)]
    """
    rows = [[w for part in row for w in written(part)] for row in taken_apart("keras", layer, params)]
    return rows[0] if len(rows) == 1 else rows


def to_module(layer: Cell | Layer, params: PyTree) -> Any:
    """Keras layers with the parameters of a layer, batch first as they are and returning sequences.

    Args:
      layer: as in `to_state_dict`.
      params: its parameters.

    Returns:
      An ``LSTM``, ``GRU``, ``SimpleRNN`` or ``Bidirectional``; a list of several layers.

    Raises:
      ModuleNotFoundError: Keras is missing.
      TypeError, ValueError: as in `to_state_dict`.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.lstm(3, 2))
      >>> to_module(layer, layer.init(jax.random.key(0))).units
      2
    """
    keras = needed("keras", extra="keras")
    layers = []
    for row in taken_apart("keras", layer, params):
        ends = [_module(keras, part, go_backwards=k == 1 or part.reverse) for k, part in enumerate(row)]
        made = ends[0] if len(row) == 1 else keras.layers.Bidirectional(ends[0], backward_layer=ends[1])
        made.build((None, None, row[0].params.w_x.shape[0]))
        made.set_weights([np.asarray(w) for part in row for w in written(part)])
        layers.append(made)
    return layers[0] if len(layers) == 1 else layers


def _module(keras: Any, part: Part, go_backwards: bool) -> Any:
    maker, options = said("keras", part.cell, WORDS)
    kind = {cells.lstm: keras.layers.LSTM, cells.gru: keras.layers.GRU, cells.elman: keras.layers.SimpleRNN}[maker]
    names = {function: name for name, function in FUNCTIONS.items()}
    own = {"activation": names[options["activation"]], "use_bias": len(written(part)) == 3}
    if maker is not cells.elman:
        own["recurrent_activation"] = names[options["gate_activation"]]
    if maker is cells.gru:
        own["reset_after"] = options["reset"] == "after"
    dtype = jnp.asarray(part.params.w_x).dtype.name
    sizes = {"units": options["hidden_size"], "dtype": dtype, "recurrent_initializer": "zeros"}
    return kind(**sizes, **own, return_sequences=True, go_backwards=go_backwards)


def state_from(layer: Cell | Layer, h0: Any, c0: Any = None) -> PyTree:
    """A layer's state of Keras': ``h``, or ``[h, c]`` of an LSTM, or the two apart.

    Args:
      layer: the layer.
      h0: h, or ``[h, c]``; a pair for both directions, a list for several layers.
      c0: c, where h0 is h alone.

    Returns:
      The state before the first tick; in two directions both readers start from theirs.

    Raises:
      ValueError: another number of layers, other sizes, or a c0 that is missing or not wanted.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_from(sj.recurrent(sj.lstm(3, 2)), jnp.zeros(2), jnp.ones(2)).c.tolist()
      [1.0, 1.0]
    """
    return state_nested("keras", layer, h0, c0, tuple)


def state_to(layer: Cell | Layer, state: PyTree) -> Any:
    """A layer's state as Keras passes it: ``h``, or ``[h, c]`` of an LSTM; a pair of both directions, a list of layers.

    Raises:
      ValueError: a layer in two directions that does not keep where the backward reader arrived.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_to(sj.recurrent(sj.gru(3, 2)), jnp.ones(2)).tolist()
      [1.0, 1.0]
    """
    return state_as_nested("keras", layer, state, lambda h, c: [h, c])


def _verify(layer: Layer, params: PyTree, modules: Sequence[Any]) -> None:
    """In float32 at most: Keras' layers of float64 compute to seven digits, or stop."""
    params = jax.tree.map(lambda w: np.asarray(w, np.float32) if w.dtype == np.float64 else w, params)
    verified.checked("keras", layer, params, outputs_of(modules, str(jax.tree.leaves(params)[0].dtype)))

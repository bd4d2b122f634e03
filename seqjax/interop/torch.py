"""PyTorch: weights and states of `torch.nn.RNN`, `LSTM` and `GRU`, and of their cells, both ways.

Gate order i, f, g, o and r, z, n as here; matrices lie the other way round; each product has a bias of its own, so that
parameters hold `seqjax.products.Biases` and train as torch's do. Nothing here needs torch but what makes, reads or
verifies a module.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from seqjax import cells
from seqjax.base import Cell, Layer, PyTree
from seqjax.interop import verified
from seqjax.interop.arrays import host, listed, taken
from seqjax.interop.extras import needed
from seqjax.interop.layouts.torch import GATES, WORDS, options_of, read, shapes, tensor, written
from seqjax.interop.rows import Part, alike, put_together, said, taken_apart
from seqjax.interop.states import stacked_from, stacked_to
from seqjax.interop.theirs.torch import outputs_of

__all__ = ["from_module", "from_state_dict", "state_from", "state_to", "to_module", "to_state_dict"]

NAME = re.compile(r"weight_ih(?:_l(\d+)(_reverse)?)?$")


def from_state_dict(
    kind: str,
    state_dict: Mapping[str, Any],
    *,
    prefix: str = "",
    dropout: float = 0.0,
    engine: Any = "auto",
    memory: str | int = "auto",
    verify: bool = False,
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from the state dict of a torch module; to the bit.

    Sizes, number of layers, directions, projection and biases are read from names and shapes.

    Args:
      kind: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``, which a state dict does not tell.
      state_dict: of an ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` or of one of their cells; tensors or NumPy arrays, which
        stay in their dtype.
      prefix: of the module's entries in a larger model's state dict, such as ``"encoder.rnn."``.
      dropout: between layers, as the module has it.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: convert back, run the module and our layer on a short random sequence, and compare; needs torch.
        `from_module` runs the trained module itself.

    Returns:
      `seqjax.recurrent` or `seqjax.bidirectional`, a `seqjax.serial` of them where there are several layers, and
      parameters as NumPy arrays. Inputs are ``[T, B, d]`` whatever the module's ``batch_first`` was.

    Raises:
      ValueError: an unknown kind; entries that are missing, unknown or of another shape; outputs that differ.
      TypeError: entries that are no floating point numbers.

    Example:
      >>> import numpy as np
      >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.ones((8, 2))}
      >>> layer, params = from_state_dict("lstm", weights)
      >>> layer, params.w_x.shape, params.b
      (recurrent(lstm(3, 2, b_init=None)), (3, 8), None)
    """
    if kind not in GATES:
        raise ValueError(f"torch: expected one of {', '.join(GATES)}, got {kind!r}. Name the module that was trained.")
    entries = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    found = [match for match in map(NAME.match, entries) if match]
    if not found:
        inner = sorted({name[: -len("weight_ih_l0")] for name in state_dict if name.endswith("weight_ih_l0")})
        remedy = f"Pass prefix={inner[0]!r}." if inner else "Pass the state dict of an nn.LSTM, nn.GRU or nn.RNN."
        raise ValueError(
            f"torch: expected entries such as {prefix}weight_ih_l0, got {listed(state_dict) or 'none'}. {remedy}"
        )
    cell = any(match[1] is None for match in found)
    layers = 1 if cell else 1 + max(int(match[1]) for match in found)
    directions = 1 + any(match[2] is not None for match in found)
    suffixes = [
        [""] if cell else [f"_l{layer}{'_reverse' * turned}" for turned in range(directions)] for layer in range(layers)
    ]
    wanted: dict[str, tuple[int, ...]] = {}
    below = None
    for row in suffixes:
        for suffix in row:
            direction = shapes(kind, entries, suffix, below)
            wanted |= direction
        below = directions * direction[f"weight_hh{suffix}"][1]
    values = taken("torch", entries, wanted, f"Are these the weights of one {kind} module?")
    rows = [[read(kind, values, suffix) for suffix in row] for row in suffixes]
    layer, params = put_together(rows, rate=dropout, engine=engine, memory=memory)
    if verify:
        verified.checked("torch", layer, params, outputs_of(to_module(layer, params)))
    return layer, params


def from_module(
    module: Any, *, engine: Any = "auto", memory: str | int = "auto", verify: bool = False
) -> tuple[Layer, PyTree]:
    """A layer and its parameters from a torch module: `from_state_dict`, with the kind and the dropout read off it.

    Args:
      module: an ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, or one of their cells.
      engine: of the layer, as in `seqjax.unroll`.
      memory: of the layer, as in `seqjax.unroll`.
      verify: run the module itself and our layer on a short random sequence from random
        states, and compare their outputs within rounding.

    Returns:
      Layer and parameters.

    Raises:
      TypeError: another module.
      ValueError: outputs that differ.

    Example:
      >>> import torch
      >>> from_module(torch.nn.GRU(3, 2, bias=False, bidirectional=True), verify=True)[0]
      bidirectional(gru(3, 2, b_init=None), gru(3, 2, b_init=None), keep_backward=True)
    """
    name = type(module).__name__.removesuffix("Cell")
    kind = f"rnn_{module.nonlinearity}" if name == "RNN" else name.lower()
    if kind not in GATES or not hasattr(module, "state_dict"):
        raise TypeError(
            f"torch: expected an nn.LSTM, nn.GRU, nn.RNN or one of their cells, got {type(module).__name__}. "
            "Pass the recurrent module alone."
        )
    options: dict[str, Any] = {"dropout": getattr(module, "dropout", 0.0), "engine": engine, "memory": memory}
    layer, params = from_state_dict(kind, module.state_dict(), **options)
    if verify:
        verified.checked("torch", layer, params, outputs_of(module))
    return layer, params


def to_state_dict(layer: Cell | Layer, params: PyTree) -> dict[str, np.ndarray]:
    """The parameters of a layer as torch names and lays them out.

    One bias is torch's first, and its second is zero (of a GRU's candidate c_n); `seqjax.products.Biases` are both.

    Args:
      layer: of `from_state_dict`, or one of your own of cells that torch has: `seqjax.lstm`, `seqjax.projected_lstm`,
        `seqjax.gru` with its reset after the product, `seqjax.elman` with tanh or relu.
      params: its parameters.

    Returns:
      NumPy arrays by name: ``module.load_state_dict({name: torch.from_numpy(w) for name, w in …})``.

    Raises:
      TypeError: a layer or a cell that torch does not have.
      ValueError: an option that it cannot say, such as another activation.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 2))
      >>> {name: w.shape for name, w in to_state_dict(layer, layer.init(jax.random.key(0))).items()}
      {'weight_ih_l0': (6, 3), 'weight_hh_l0': (6, 2), 'bias_ih_l0': (6,), 'bias_hh_l0': (6,)}
    """
    rows = _rows(layer, params)
    names: dict[str, Any] = {}
    for k, row in enumerate(rows):
        for turned, part in enumerate(row):
            names |= {f"{name}_l{k}{'_reverse' * turned}": w for name, w in written(part).items()}
    return host(names)


def _rows(layer: Cell | Layer, params: PyTree) -> list[list[Part]]:
    rows = taken_apart("torch", layer, params)
    for part in (part for row in rows for part in row):
        said("torch", part.cell, WORDS)
        if part.reverse:
            raise ValueError(
                f"torch: expected a forward layer or both directions, got {layer}. Turn the sequences round instead."
            )
    if len({len(row) for row in rows}) != 1 or not alike("torch", [part for row in rows for part in row], WORDS):
        raise ValueError(
            f"torch: expected one kind and size of cell in all layers and directions, got {layer}. "
            "Convert them one by one."
        )
    return rows


def to_module(layer: Cell | Layer, params: PyTree) -> Any:
    """A torch module, time first, with the parameters of a layer.

    Args:
      layer: as in `to_state_dict`.
      params: its parameters.

    Returns:
      An ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``.

    Raises:
      ModuleNotFoundError: torch is missing.
      TypeError, ValueError: as in `to_state_dict`.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.recurrent(sj.lstm(3, 2))
      >>> to_module(layer, layer.init(jax.random.key(0)))
      LSTM(3, 2)
    """
    torch = needed("torch", extra="torch")
    rows = _rows(layer, params)
    options = options_of(rows[0][0])
    maker = said("torch", rows[0][0].cell, WORDS)[0]
    weights = to_state_dict(layer, params)
    tensors = {name: tensor(torch, w) for name, w in weights.items()}
    name = {cells.lstm: "LSTM", cells.projected_lstm: "LSTM", cells.gru: "GRU", cells.elman: "RNN"}[maker]
    own = {"proj_size": options["projection_size"]} if maker is cells.projected_lstm else {}
    if name == "RNN":
        own["nonlinearity"] = "relu" if options["activation"] is jax.nn.relu else "tanh"
    module = getattr(torch.nn, name)(
        options["input_size"],
        options["hidden_size"],
        num_layers=len(rows),
        bidirectional=len(rows[0]) == 2,
        bias="bias_ih_l0" in weights,
        dtype=tensors["weight_ih_l0"].dtype,
        **own,
    )
    module.load_state_dict(tensors)
    return module


def state_from(layer: Cell | Layer, h0: Any, c0: Any = None) -> PyTree:
    """A layer's state of torch's ``h0 [layers · directions, B, h]``, and ``c0`` for an LSTM.

    Args:
      layer: the layer.
      h0: tensor or array; without a batch ``[layers · directions, h]``.
      c0: likewise.

    Returns:
      The state before the first tick; in two directions both readers start from theirs.

    Raises:
      ValueError: another number of layers and directions, other sizes, or a c0 that is missing or not wanted.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> state_from(sj.recurrent(sj.lstm(3, 2)), jnp.zeros((1, 5, 2)), jnp.ones((1, 5, 2))).c.shape
      (5, 2)
    """
    return stacked_from("torch", layer, h0, c0)


def state_to(layer: Cell | Layer, state: PyTree) -> Any:
    """A layer's state as torch stacks it: h ``[layers · directions, B, h]``, or ``(h, c)`` for an LSTM.

    Args:
      layer: the layer.
      state: its state.

    Returns:
      NumPy arrays.

    Raises:
      ValueError: a layer in two directions that does not keep where the backward reader arrived.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 2))
      >>> state_to(layer, state_from(layer, jnp.ones((1, 5, 2)))).shape
      (1, 5, 2)
    """
    return stacked_to("torch", layer, state)

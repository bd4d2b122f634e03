"""A cell or layer of ours called on sequences as ``nn.RNN`` and ``nnx.RNN`` are."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, Key, Layer, PyTree
from seqjax.layers import reverse as reversed_layer
from seqjax.unroll import unroll


class Settings(NamedTuple):
    """How a module reads its inputs and what it returns.

    Attributes:
      time_major: inputs are ``[T, *B, ...]`` instead of ``[*B, T, ...]``.
      return_carry: whether ``(state, outputs)`` is returned instead of the outputs.
      reverse: from the last real tick to the first, outputs in that order.
      keep_order: outputs of a reverse pass at their ticks instead.
    """

    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False

    def replaced(self, **given: bool | None) -> "Settings":
        """These, but for what was given with a call."""
        return self._replace(**{name: value for name, value in given.items() if value is not None})


def batch_axes(who: str, inputs: PyTree, feature_axes: int | None) -> int:
    """How many axes of the batch inputs have, beside time and features: one a float, none an integer if None."""
    leaves = jax.tree.leaves(inputs)
    if not leaves:
        raise ValueError(f"{who}: expected inputs with at least one array, got none. Pass [batch, time, features].")
    if feature_axes is None:
        feature_axes = 0 if jnp.issubdtype(jnp.result_type(leaves[0]), jnp.integer) else 1
    batch = np.ndim(leaves[0]) - 1 - feature_axes
    if batch < 0:
        raise ValueError(
            f"{who}: expected inputs [*batch, time, ...] with {feature_axes} axes of features, got shape "
            f"{np.shape(leaves[0])}. Add the missing axis, or set feature_axes."
        )
    return batch


def one_tick(inputs: PyTree, batch: int) -> PyTree:
    """The types of one example's input at one tick."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[batch + 1 :], jnp.result_type(x)), inputs)


def run(
    module: Cell | Layer,
    params: PyTree,
    inputs: PyTree,
    batch: int,
    settings: Settings,
    *,
    initial_carry: PyTree,
    seq_lengths: Array | None,
    key: Key | None,
    engine: Any,
    memory: str | int,
) -> PyTree:
    """Outputs, or state and outputs, as the settings say.

    Args:
      module: the cell or layer.
      params: its parameters.
      inputs: a tree of arrays with ``batch`` axes of the batch beside time.
      batch: how many they are.
      settings: which axis is time, and so on.
      initial_carry: the state before the first tick; None for the initial one.
      seq_lengths: ``[*B]``; outputs behind them are zero, the state is that of each last real tick.
      key: draws noise and dropout; None for none.
      engine: as in `seqjax.unroll`, for cells.
      memory: as in `seqjax.unroll`, for cells.
    """
    xs = inputs if settings.time_major else jax.tree.map(lambda x: jnp.moveaxis(x, batch, 0), inputs)
    state_key, chunk_key = (None, None) if key is None else jax.random.split(key)
    state = initial_carry
    if state is None:
        state = module.initial_state(params, np.shape(jax.tree.leaves(xs)[0])[1 : batch + 1], key=state_key)
    if isinstance(module, Cell):
        options = {"reverse": settings.reverse, "engine": engine, "memory": memory}
        state, ys = unroll(module, params, state, xs, lengths=seq_lengths, **options)
    else:
        layer = reversed_layer(module) if settings.reverse else module
        state, ys = layer.apply(params, state, xs, lengths=seq_lengths, key=chunk_key)
    if settings.reverse and not settings.keep_order:
        ys = jax.tree.map(lambda y: _flipped(y, seq_lengths), ys)
    if not settings.time_major:
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, 0, batch), ys)
    return (state, ys) if settings.return_carry else ys


def _flipped(y: Array, lengths: Array | None) -> Array:
    """Turned round along time; padding stays at the end."""
    if lengths is None:
        return jnp.flip(y, 0)
    ticks = jnp.arange(y.shape[0] - 1, -1, -1).reshape(-1, *(1,) * np.ndim(lengths))
    where = (ticks + jnp.asarray(lengths)[None]) % y.shape[0]
    return jnp.take_along_axis(y, where.reshape(*where.shape, *(1,) * (y.ndim - where.ndim)), axis=0)


def check_module(who: str, module: Any, engine: str, memory: str | int, foreign: str) -> None:
    """A cell or a layer of ours; a layer says itself how it is run."""
    if not isinstance(module, Cell | Layer):
        raise TypeError(
            f"{who}: expected a seqjax.Cell, a seqjax.Layer or a recurrent cell of {foreign}, got "
            f"{type(module).__name__}. Pass one of them, such as seqjax.lstm(64, 128)."
        )
    if isinstance(module, Layer) and (engine, memory) != ("auto", "auto"):
        raise ValueError(
            f"{who}: expected engine and memory with a cell, got them with a layer. "
            "Say it where the layer is made: recurrent(cell, engine=…, memory=…)."
        )


def check_started(who: str, module: Any, params: Any, source: Any) -> None:
    """Parameters, or what they are drawn from; one of them."""
    if (params is None) == (source is None):
        raise ValueError(
            f"{who}: expected parameters or what they are drawn from, got {'neither' if params is None else 'both'}. "
            "Give one of them."
        )
    if params is not None:
        checks.params_of(who, module, params)

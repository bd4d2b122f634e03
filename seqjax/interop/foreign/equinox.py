"""Equinox: its recurrent cells as ours, our modules as Equinox modules."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Cell, Key, PyTree
from seqjax.engines.plan import EngineName
from seqjax.interop.extras import needed
from seqjax.interop.foreign import sequences
from seqjax.interop.foreign.example import Held, cell_of
from seqjax.layers import reverse as reversed_layer
from seqjax.records import maker
from seqjax.unroll import unroll

eqx = needed("equinox", extra="equinox")
Module: Any = eqx.Module


def from_equinox(
    cell: Any, *, initial_state: Callable[[Any], PyTree] | None = None, output: Callable[[PyTree], PyTree] | None = None
) -> Cell[Any, Any]:
    """A recurrent cell of Equinox as a cell of ours.

        state' = cell(x, state)                             on one example; a batch by `jax.vmap`
        y = h' of an LSTM and a GRU, the state itself where it is one array, output(state') else

    A cell may return ``(state, y)`` as well. Parameters are what ``eqx.is_inexact_array`` holds, in the module's own
    tree, and ``init`` returns the module's own; whatever else it holds, arrays of whole numbers too, are constants, as
    they are for ``eqx.filter_grad``. ``eqx.combine(params, cell)`` is the module again.

    Args:
      cell: such as ``eqx.nn.LSTMCell(64, 128, key=key)``.
      initial_state: ``(cell) -> state`` of one example before the first tick; None for zeros of ``eqx.nn.LSTMCell`` and
        ``eqx.nn.GRUCell``.
      output: ``(state) -> y``, for cells that return their state alone.

    Returns:
      A cell with the module's parameters and state.

    Raises:
      TypeError: something else than a module that can be called, or no initial state to be had.
      ValueError: a cell with random keys, active dropout or stateful parts, or without a clear output.

    Example:
      >>> import equinox as eqx, jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.interop.from_equinox(eqx.nn.GRUCell(3, 4, key=jax.random.key(0)))
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.shape
      (5, 2, 4)
    """
    check_cell("from_equinox", cell)
    params, constants = eqx.partition(cell, eqx.is_inexact_array)
    name = type(cell).__name__
    return equinox_cell(
        Held(constants, name),
        Held(params, "params"),
        initial_state or _initial_state_of(cell),
        output or _output_of(cell),
    )


@maker
def equinox_cell(
    cell: Held, params: Held | None, initial_state: Callable[[Any], PyTree], output: Callable[[PyTree], PyTree] | None
) -> Cell[Any, Any]:
    """What `from_equinox` makes of a module's constants and its parameters."""
    constants = cell.tree

    def init(key: Key) -> PyTree:
        return None if params is None else params.tree

    def start(params: PyTree) -> PyTree:
        return initial_state(eqx.combine(params, constants))

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        result = eqx.combine(params, constants)(x, state)
        if not _alike(result, state):
            return _pair(result, state, output)
        if output is not None:
            return result, output(result)
        if len(jax.tree.leaves(result)) != 1:
            raise ValueError(
                f"from_equinox: expected a cell that returns (state, y), or a state of one array, got "
                f"{len(jax.tree.leaves(result))} arrays of state and no output. Say which it is: output=lambda state: …"
            )
        return result, jax.tree.leaves(result)[0]

    return cell_of("from_equinox", init, start, step)


def _pair(result: PyTree, state: PyTree, output: Callable | None) -> tuple[PyTree, PyTree]:
    """``(state, y)`` of a cell that returns both."""
    if not isinstance(result, tuple) or len(result) != 2 or not _alike(result[0], state):
        raise ValueError(
            "from_equinox: expected a cell that returns its state, or (state, y), in the structure and shapes of its "
            f"initial state {_shapes(state)}, got {_shapes(result)}. Make initial_state agree with the cell."
        )
    if output is not None:
        raise ValueError(
            "from_equinox: expected no output= for a cell that returns (state, y), got one. "
            "Leave it out, or return the state alone."
        )
    return result


def _alike(a: PyTree, b: PyTree) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and _shapes(a) == _shapes(b)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(np.shape, tree)


def _initial_state_of(cell: Any) -> Callable[[Any], PyTree]:
    """Zeros, of the cells that Equinox has."""
    for kind, start in ((eqx.nn.LSTMCell, _two_zeros), (eqx.nn.GRUCell, _zeros)):
        if isinstance(cell, kind):
            return start
    raise TypeError(
        f"from_equinox: expected initial_state= for a {type(cell).__name__}, which does not say it itself, got None. "
        "Give a function of the cell such as initial_state=lambda cell: jnp.zeros(cell.hidden_size)."
    )


def _zeros(cell: Any) -> jax.Array:
    return jnp.zeros(cell.hidden_size, cell.weight_hh.dtype)


def _two_zeros(cell: Any) -> tuple:
    return _zeros(cell), _zeros(cell)


def _first(state: tuple) -> jax.Array:
    return state[0]


def _output_of(cell: Any) -> Callable[[PyTree], PyTree] | None:
    """h of Equinox's own LSTM; of others the state itself, or what they return."""
    return _first if isinstance(cell, eqx.nn.LSTMCell) else None


def check_cell(who: str, cell: Any) -> None:
    """A module that can be called, of arrays that neither draw nor change."""
    if not isinstance(cell, eqx.Module) or not callable(cell) or isinstance(cell, RNN):
        hint = (
            "Pass the cell inside." if isinstance(cell, RNN) else "Pass one such as eqx.nn.GRUCell(64, 128, key=key)."
        )
        raise TypeError(f"{who}: expected a recurrent cell of Equinox, got {type(cell).__name__}. {hint}")
    special = lambda node: isinstance(node, eqx.nn.Dropout | eqx.nn.StateIndex)
    for path, node in jax.tree_util.tree_flatten_with_path(cell, is_leaf=special)[0]:
        where = f"{type(node).__name__} at {jax.tree_util.keystr(path)}"
        if isinstance(node, eqx.nn.Dropout) and not node.inference and node.p:
            remedy = "Use eqx.nn.inference_mode(cell) and wrap the cell: seqjax.variational_dropout, zoneout."
        elif isinstance(node, eqx.nn.StateIndex):
            remedy = "Make what changes part of the state that it takes and returns; normalise with eqx.nn.LayerNorm."
        elif eqx.is_array(node) and jnp.issubdtype(node.dtype, jax.dtypes.prng_key):
            where = f"a random key at {jax.tree_util.keystr(path)}"
            remedy = "Keep keys out of it and wrap the cell: seqjax.variational_dropout, zoneout."
        else:
            continue
        raise ValueError(f"{who}: expected a cell that neither draws nor remembers by itself, got {where}. {remedy}")


class RNN(Module):
    """A cell or layer run along one sequence; made by `to_equinox`.

    Attributes:
      cell: the parameters, in the tree of our cell or layer; or the Equinox cell itself.
      module: the cell or layer of ours; None where ``cell`` is one of Equinox.
    """

    cell: PyTree
    module: Any = eqx.field(static=True)
    initial_state: Any = eqx.field(static=True)
    output: Any = eqx.field(static=True)
    reverse: bool = eqx.field(static=True)
    engine: EngineName = eqx.field(static=True)
    memory: str | int = eqx.field(static=True)

    def __call__(
        self,
        xs: PyTree,
        state: PyTree = None,
        *,
        mask: jax.Array | None = None,
        lengths: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: Key | None = None,
    ) -> tuple[PyTree, PyTree]:
        """The last state, and the outputs ``[T, ...]``.

        Args:
          xs: ``[T, ...]`` of one sequence; use `jax.vmap` for several.
          state: before the first tick; None for the initial one.
          mask: ``[T]``, True at real ticks.
          lengths: how many ticks are real, in place of ``mask``.
          reset: ``[T]``, True at the first tick of a segment.
          key: draws noise and dropout; None for none.
        """
        module, params = self.module, self.cell
        if module is None:
            params, constants = eqx.partition(self.cell, eqx.is_array)
            module = equinox_cell(Held(constants, type(self.cell).__name__), None, self.initial_state, self.output)
        state_key, chunk_key = (None, None) if key is None else jax.random.split(key)
        state = module.initial_state(params, key=state_key) if state is None else state
        ticks: dict[str, Any] = {"mask": mask, "lengths": lengths, "reset": reset}
        if isinstance(module, Cell):
            return unroll(
                module, params, state, xs, **ticks, reverse=self.reverse, engine=self.engine, memory=self.memory
            )
        layer = reversed_layer(module) if self.reverse else module
        return layer.apply(params, state, xs, **ticks, key=chunk_key)


def to_equinox(
    module: Any,
    params: PyTree = None,
    *,
    key: Key | None = None,
    reverse: bool = False,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    initial_state: Callable[[Any], PyTree] | None = None,
    output: Callable[[PyTree], PyTree] | None = None,
) -> RNN:
    """A cell or layer as an Equinox module that is called on one sequence: ``state, ys = rnn(xs)``.

    In the place of a `jax.lax.scan` over an Equinox cell it holds that cell as ``rnn.cell``. Of a cell or layer of
    ours, ``rnn.cell`` is its parameters.

    Args:
      module: a recurrent cell of Equinox; a cell of ours; or a layer.
      params: of a cell or layer of ours.
      key: draws them, where they are not given.
      reverse: run from the last tick to the first; outputs stay at their ticks.
      engine: as in `seqjax.unroll`, for cells.
      memory: as in `seqjax.unroll`, for cells.
      initial_state: of a cell of Equinox, as in `from_equinox`.
      output: of a cell of Equinox, as in `from_equinox`.

    Returns:
      The module.

    Raises:
      TypeError: something else than a cell or layer, or no initial state to be had.
      ValueError: parameters and a key, or neither; an engine or a memory setting for a layer.

    Example:
      >>> import equinox as eqx, jax, jax.numpy as jnp, seqjax as sj
      >>> rnn = sj.interop.to_equinox(eqx.nn.LSTMCell(3, 4, key=jax.random.key(0)), memory="sqrt")
      >>> (h, c), ys = jax.vmap(rnn)(jnp.ones((2, 5, 3)))
      >>> ys.shape
      (2, 5, 4)
      >>> sj.interop.to_equinox(sj.lstm(3, 4), key=jax.random.key(0)).cell.w_h.shape
      (4, 16)
    """
    if isinstance(module, eqx.Module):
        check_cell("to_equinox", module)
        if params is not None or key is not None:
            raise ValueError(
                "to_equinox: expected no params and no key with a cell of Equinox, which has its own, got some. "
                "Leave them out."
            )
        start = initial_state or _initial_state_of(module)
        return RNN(module, None, start, output or _output_of(module), reverse, engine, memory)
    sequences.check_module("to_equinox", module, engine, memory, "Equinox")
    sequences.check_started("to_equinox", module, params, key)
    if initial_state is not None or output is not None:
        raise ValueError(
            "to_equinox: expected initial_state and output with a cell of Equinox, got them with a module that has its "
            "own. Leave them out."
        )
    params = module.init(key) if params is None else params
    return RNN(params, module, None, None, reverse, engine, memory)

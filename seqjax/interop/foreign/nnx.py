"""Flax nnx: its recurrent cells as ours, our modules in the place of ``nnx.RNN``."""

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.base import Cell, Key, PyTree
from seqjax.engines.plan import EngineName
from seqjax.interop.extras import needed
from seqjax.interop.foreign import names, sequences
from seqjax.interop.foreign.example import Held, cell_of, inputs_of, without_key
from seqjax.records import maker

nnx = needed("flax.nnx", extra="flax")
Module: Any = nnx.Module


def from_nnx(cell: Any, input_size: Any = None) -> Cell[Any, Any]:
    """A recurrent cell of Flax nnx as a cell of ours.

        state', y = cell(state, x)                          on one example; a batch by `jax.vmap`

    Any module with ``initialize_carry`` will do, of any state and output. ``init`` returns the module's own parameters,
    an ``nnx.State``; later ones are ``nnx.state(cell, nnx.Param)``, and ``nnx.update(cell, params)`` puts them back.

    Args:
      cell: such as ``nnx.OptimizedLSTMCell(64, 128, rngs=rngs)``.
      input_size: d, or the shape of one example's input; None for the cell's own ``in_features``.

    Returns:
      A cell with the module's parameters, carry and output.

    Raises:
      TypeError: something else than a recurrent cell, or no size to be had.
      ValueError: a cell with random streams, batch statistics or other variables, with a random carry, or whose step
        changes more than its carry.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> from flax import nnx
      >>> module = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
      >>> cell = sj.interop.from_nnx(module)
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.shape
      (5, 2, 4)
    """
    check_cell(cell)
    if input_size is None:
        input_size = getattr(cell, "in_features", None)
    if input_size is None:
        raise TypeError(
            f"from_nnx: expected {type(cell).__name__} to have in_features, got no size of its inputs. "
            "Set input_size to a size or a shape without batch."
        )
    graph, params, others = nnx.split(cell, nnx.Param, ...)
    check_variables(others)
    leaves, structure = jax.tree.flatten(params)
    return nnx_cell(
        Held(graph, type(cell).__name__), Held(structure.unflatten(leaves), "params"), inputs_of("from_nnx", input_size)
    )


@maker
def nnx_cell(cell: Held, params: Held | None, inputs: PyTree) -> Cell[Any, Any]:
    """What `from_nnx` makes of a module's graph, its parameters and types of inputs."""
    graph = cell.tree
    shape = jax.tree.map(lambda x: tuple(x.shape), inputs)

    def init(key: Key) -> PyTree:
        return None if params is None else params.tree

    def module_of(params: PyTree) -> Any:
        return nnx.merge(graph, jax.tree.map(lambda leaf: leaf, params))  # a copy: a module changes its own in place

    def start(params: PyTree) -> PyTree:
        return without_key("from_nnx", lambda key: module_of(params).initialize_carry(shape, nnx.Rngs(key)))

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        module = module_of(params)
        result = module(state, x)
        _check_unchanged(graph, params, module)
        return result

    return cell_of("from_nnx", init, start, step, inputs)


def check_cell(cell: Any) -> None:
    """A recurrent cell."""
    if not isinstance(cell, nnx.Module) or not hasattr(cell, "initialize_carry"):
        hint = (
            "Pass its cell." if isinstance(cell, nnx.RNN | RNN) else "Pass one such as nnx.GRUCell(64, 128, rngs=rngs)."
        )
        raise TypeError(
            f"from_nnx: expected a recurrent cell of nnx, with initialize_carry, got {type(cell).__name__}. {hint}"
        )


def check_variables(others: Any) -> None:
    """A cell holds parameters and nothing else."""
    flat = list(nnx.to_flat_state(others))
    if not flat:
        return
    path, variable = flat[0]
    kind = type(variable).__name__ if isinstance(variable, nnx.Variable) else "an array"
    if isinstance(variable, nnx.RngState):
        remedy = "Make it without keep_rngs and dropout, and wrap the cell: seqjax.variational_dropout, zoneout."
    elif isinstance(variable, nnx.BatchStat):
        remedy = "Normalise with nnx.LayerNorm instead."
    else:
        remedy = "Make it an nnx.Param, which seqjax.fixed holds where it must not learn; what changes is carry."
    raise ValueError(
        f"from_nnx: expected a cell of parameters only, got {kind} at {'.'.join(map(str, path))}. {remedy}"
    )


def _check_unchanged(graph: Any, params: PyTree, module: Any) -> None:
    """What a step changes beside its carry would be lost."""
    after_graph, after = nnx.split(module)
    flat = lambda state: {".".join(map(str, path)): jax.tree.leaves(leaf) for path, leaf in nnx.to_flat_state(state)}
    before, now = flat(params), flat(after)
    same = lambda name: len(now[name]) == len(before[name]) and all(a is b for a, b in zip(now[name], before[name]))
    changed = [name for name in now if name not in before or not same(name)]
    if changed or graph != after_graph:
        raise ValueError(
            "from_nnx: expected a step that changes nothing but its carry, got one that changes "
            f"{changed[0] if changed else 'an attribute'}. Make it part of the carry."
        )


class RNN(Module):
    """A cell run along time, in the place of ``nnx.RNN``; made by `to_nnx`."""

    def __init__(
        self,
        module: Any,
        params: PyTree,
        settings: sequences.Settings,
        engine: EngineName,
        memory: str | int,
        feature_axes: int | None,
    ):
        """``module`` is a cell of nnx, or one of ours with its parameters."""
        own = not isinstance(module, nnx.Module)
        self.cell = _variables(names.nested(module, params)) if own else module
        self.module: Any = module if own else None
        self.structure = jax.tree.structure(params) if own else None
        self.settings, self.engine, self.memory, self.feature_axes = settings, engine, memory, feature_axes

    def __call__(
        self,
        inputs: PyTree,
        *,
        initial_carry: PyTree = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Any = None,
    ) -> PyTree:
        """Outputs, or carry and outputs.

        Args:
          inputs: ``[*B, T, ...]``, or ``[T, *B, ...]`` with ``time_major``.
          initial_carry: the state before the first tick; None for the initial one.
          seq_lengths: ``[*B]``: real ticks of right-padded sequences. Outputs behind them are zero.
          return_carry: in place of the module's own setting, as all that follow.
          time_major: time is the first axis.
          reverse: from the last real tick to the first, outputs in that order.
          keep_order: outputs of a reverse pass at their ticks.
          rngs: its stream ``dropout`` draws noise and dropout of a cell or layer of ours; None for none.
        """
        settings = self.settings.replaced(
            time_major=time_major, return_carry=return_carry, reverse=reverse, keep_order=keep_order
        )
        own = self.module is not None
        axes = self.feature_axes if self.feature_axes is not None or own else self.cell.num_feature_axes
        batch = sequences.batch_axes("to_nnx", inputs, axes)
        module = self.module if own else _cell_of(self.cell, sequences.one_tick(inputs, batch))
        key = None
        if rngs is not None and own:
            key = rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs()
        return sequences.run(
            module, self.params, inputs, batch, settings,
            initial_carry=initial_carry, seq_lengths=seq_lengths, key=key, engine=self.engine, memory=self.memory,
        )  # fmt: skip

    @property
    def params(self) -> PyTree:
        """The parameters, in the tree of our cell or layer; of a cell of nnx, an ``nnx.State``."""
        if self.structure is None:
            return nnx.state(self.cell, nnx.Param)
        like = self.structure.unflatten(range(self.structure.num_leaves))
        return names.restored(self.module, nnx.to_pure_dict(nnx.state(self.cell)), like)


def _cell_of(cell: Any, inputs: PyTree) -> Cell[Any, Any]:
    """A cell without its parameters, which are tracers where this runs inside a transformation."""
    graph, _, others = nnx.split(cell, nnx.Param, ...)
    check_variables(others)
    return nnx_cell(Held(graph, type(cell).__name__), None, inputs)


def _variables(tree: dict[str, Any]) -> Any:
    """Floats as ``nnx.Param``; whole numbers, which no optimizer moves, as ``nnx.Variable``."""
    kind = lambda leaf: nnx.Param if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else nnx.Variable
    return nnx.Dict({
        name: _variables(leaf) if isinstance(leaf, dict) else kind(leaf)(jnp.asarray(leaf))
        for name, leaf in tree.items()
    })  # fmt: skip


def to_nnx(
    module: Any,
    params: PyTree = None,
    *,
    rngs: Any = None,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    time_major: bool = False,
    return_carry: bool = False,
    reverse: bool = False,
    keep_order: bool = False,
    feature_axes: int | None = None,
) -> RNN:
    """A cell or layer as a module of Flax nnx that is called as ``nnx.RNN`` is.

    In the place of ``nnx.RNN(cell)`` it keeps the model's state, names and all. Parameters of a cell or layer of ours
    are under ``cell``, by their names, as `named` has them; ``rnn.params`` is the tree that the cell takes. ``rngs=``
    at a call draws their noise and dropout; without it nothing is random.

    Args:
      module: a recurrent cell of nnx; a cell of ours; or a layer.
      params: of a cell or layer of ours.
      rngs: draws them, where they are not given, from its stream ``params``.
      engine: as in `seqjax.unroll`, for cells.
      memory: as in `seqjax.unroll`, for cells.
      time_major: inputs are ``[T, *B, ...]``, not ``[*B, T, ...]``.
      return_carry: return ``(carry, outputs)``, not the outputs alone.
      reverse: run from the last real tick to the first; outputs come in that order.
      keep_order: with ``reverse``, outputs stay at their ticks.
      feature_axes: axes behind batch and time; if None what a cell of nnx says, else 1 of floats and 0 of integers.

    Returns:
      The module. Outputs behind ``seq_lengths`` are zero, where ``nnx.RNN`` runs on.

    Raises:
      TypeError: something else than a cell or layer.
      ValueError: parameters and rngs, or neither; an engine or a memory setting for a layer.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> from flax import nnx
      >>> rnn = sj.interop.to_nnx(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), memory="sqrt")
      >>> rnn(jnp.ones((2, 5, 3))).shape
      (2, 5, 4)
      >>> sorted(sj.interop.to_nnx(sj.lstm(3, 4), rngs=nnx.Rngs(0)).cell)
      ['b', 'w_h', 'w_x']
    """
    settings = sequences.Settings(time_major, return_carry, reverse, keep_order)
    if not isinstance(module, nnx.Module):
        sequences.check_module("to_nnx", module, engine, memory, "nnx")
        sequences.check_started("to_nnx", module, params, rngs)
        params = module.init(rngs.params()) if params is None else params
    else:
        check_cell(module)
        if params is not None or rngs is not None:
            raise ValueError(
                "to_nnx: expected no params and no rngs with a cell of nnx, which has its own, got some. "
                "Leave them out."
            )
    return RNN(module, params, settings, engine, memory, feature_axes)

"""Flax Linen: its recurrent cells as ours, our modules in the place of ``nn.RNN``."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.base import Cell, Key, Layer, PyTree
from seqjax.engines.plan import EngineName
from seqjax.interop.extras import needed
from seqjax.interop.foreign import names, sequences
from seqjax.interop.foreign.example import Held, cell_of, inputs_of, without_key
from seqjax.records import maker

nn = needed("flax.linen", extra="flax")
errors = needed("flax.errors", extra="flax")
Module: Any = nn.Module


def from_linen(cell: Any, input_size: Any) -> Cell[Any, Any]:
    """A recurrent cell of Flax Linen as a cell of ours.

        state', y = cell(state, x)                          on one example; a batch by `jax.vmap`

    Any module with ``initialize_carry`` will do, of any state and output. Parameters are those that Flax draws and
    keeps under ``"params"``.

    Args:
      cell: such as ``nn.OptimizedLSTMCell(128)``.
      input_size: d; the shape of one example's input such as ``(28, 28, 1)``; or a tree of `jax.ShapeDtypeStruct`.

    Returns:
      A cell with the module's parameters, carry and output.

    Raises:
      TypeError: something else than a recurrent cell.
      ValueError: a cell with batch statistics or other variables, with random numbers, or with a random carry.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.interop.from_linen(nn.GRUCell(4), 3)
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> sorted(params), ys.shape
      (['hn', 'hr', 'hz', 'in', 'ir', 'iz'], (5, 2, 4))
    """
    if not isinstance(cell, nn.Module) or not hasattr(cell, "initialize_carry"):
        hint = "Pass the cell inside." if isinstance(cell, nn.RNN | RNN) else "Pass one such as nn.GRUCell(128)."
        raise TypeError(
            f"from_linen: expected a recurrent cell of Linen, with initialize_carry, got {type(cell).__name__}. {hint}"
        )
    held = Held(cell.clone(parent=None, name=None), type(cell).__name__)
    inputs = inputs_of("from_linen", input_size)
    return linen_cell(held, inputs)


@maker
def linen_cell(cell: Held, inputs: PyTree) -> Cell[Any, Any]:
    """What `from_linen` makes of a module that is held, and types of inputs."""
    module = cell.tree
    shape = jax.tree.map(lambda x: tuple(x.shape), inputs)

    def start(params: PyTree) -> PyTree:
        carry = functools.partial(module.apply, {"params": params}, method="initialize_carry")
        return without_key("from_linen", lambda key: carry(key, shape))

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        return module.apply({"params": params}, state, x)

    def tick(self: Any, like: jax.Array | None) -> Any:
        carry = self.initialize_carry(jax.random.key(0), shape)
        return self(carry, zeros_like(inputs, carry))

    def init(key: Key) -> PyTree:
        return module.init(key, None, method=tick).get("params", {})

    def check() -> None:
        variables = jax.eval_shape(lambda key: module.init(key, None, method=tick), jax.random.key(0))
        others = sorted(set(variables) - {"params"})
        if others:
            where = ", ".join(f"{kind}{jax.tree_util.keystr(path)}" for kind in others
                              for path, _ in jax.tree_util.tree_flatten_with_path(variables[kind])[0])  # fmt: skip
            raise ValueError(
                f"from_linen: expected a cell of parameters only, got {where}. What changes from tick to tick belongs "
                "in the carry; normalise with nn.LayerNorm instead of nn.BatchNorm."
            )
        try:
            jax.eval_shape(
                lambda params: module.apply({"params": params}, None, method=tick), variables.get("params", {})
            )
        except errors.InvalidRngError as missing:
            raise ValueError(
                "from_linen: expected a cell without random numbers, got one that draws some. Switch its "
                "dropout off (deterministic=True) and wrap the cell: seqjax.variational_dropout, zoneout."
            ) from missing

    check()
    return cell_of("from_linen", init, start, step, inputs)


def zeros_like(inputs: PyTree, carry: PyTree) -> PyTree:
    """An input of zeros; floats in the dtype of the carry's."""
    floats = [leaf.dtype for leaf in jax.tree.leaves(carry) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    dtype = lambda x: floats[0] if floats and jnp.issubdtype(x.dtype, jnp.inexact) else x.dtype
    return jax.tree.map(lambda x: jnp.zeros(x.shape, dtype(x)), inputs)


class RNN(Module):
    """A cell run along time, in the place of ``nn.RNN``; made by `to_linen`."""

    cell: Any
    engine: EngineName = "auto"
    memory: str | int = "auto"
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    feature_axes: int | None = None

    @nn.compact
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
        """
        settings = sequences.Settings(self.time_major, self.return_carry, self.reverse, self.keep_order).replaced(
            time_major=time_major, return_carry=return_carry, reverse=reverse, keep_order=keep_order
        )
        is_linen = isinstance(self.cell, nn.Module)
        axes = self.feature_axes if self.feature_axes is not None or not is_linen else self.cell.num_feature_axes
        batch = sequences.batch_axes("to_linen", inputs, axes)
        if is_linen:
            module = from_linen(self.cell, one := sequences.one_tick(inputs, batch))
            if self.is_initializing():
                carry = self.cell.initialize_carry(jax.random.key(0), jax.tree.map(lambda x: x.shape, one))
                self.cell(carry, zeros_like(one, carry))
            params = self.cell.variables.get("params", {})
        else:
            module = self.cell
            params = names.restored(
                module, self.param("cell", lambda key: names.nested(module, module.init(key))), drawn(module)
            )
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        return sequences.run(
            module, params, inputs, batch, settings,
            initial_carry=initial_carry, seq_lengths=seq_lengths, key=key, engine=self.engine, memory=self.memory,
        )  # fmt: skip

    def params_of(self, variables: Any) -> PyTree:
        """The parameters of our cell or layer, in its own tree, out of the module's variables.

        Args:
          variables: of this module, ``{"params": …}``.
        """
        params = variables["params"]["cell"]
        return params if isinstance(self.cell, nn.Module) else names.restored(self.cell, params, drawn(self.cell))


def drawn(module: Cell | Layer) -> PyTree:
    """The types of a module's parameters."""
    return jax.eval_shape(module.init, jax.random.key(0))


def to_linen(
    module: Any,
    *,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    time_major: bool = False,
    return_carry: bool = False,
    reverse: bool = False,
    keep_order: bool = False,
    feature_axes: int | None = None,
    name: str | None = None,
) -> RNN:
    """A cell or layer as a module of Flax Linen that is called as ``nn.RNN`` is.

    In the place of ``nn.RNN(cell)`` it keeps the model's parameters, names and all. Parameters of a cell or layer of
    ours are under ``"cell"``, by their names, as `named` has them. A random stream ``"dropout"`` draws their noise and
    dropout; without it nothing is random.

    Args:
      module: a recurrent cell of Linen; a cell of ours; or a layer.
      engine: as in `seqjax.unroll`, for cells.
      memory: as in `seqjax.unroll`, for cells.
      time_major: inputs are ``[T, *B, ...]``, not ``[*B, T, ...]``.
      return_carry: return ``(carry, outputs)``, not the outputs alone.
      reverse: run from the last real tick to the first; outputs come in that order.
      keep_order: with ``reverse``, outputs stay at their ticks.
      feature_axes: axes behind batch and time; if None what a cell of Linen says, else 1 of floats and 0 of integers.
      name: of the module in its parent.

    Returns:
      The module. Outputs behind ``seq_lengths`` are zero, where ``nn.RNN`` runs on.

    Raises:
      TypeError: something else than a cell or layer.
      ValueError: an engine or a memory setting for a layer.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, seqjax as sj
      >>> xs = jnp.ones((2, 5, 3))
      >>> variables = nn.RNN(nn.GRUCell(4)).init(jax.random.key(0), xs)
      >>> sj.interop.to_linen(nn.GRUCell(4), memory="sqrt").apply(variables, xs).shape
      (2, 5, 4)
      >>> rnn = sj.interop.to_linen(sj.lstm(3, 4))
      >>> jax.tree.map(jnp.shape, rnn.init(jax.random.key(0), xs))
      {'params': {'cell': {'b': (16,), 'w_h': (4, 16), 'w_x': (3, 16)}}}
    """
    if not (isinstance(module, nn.Module) and hasattr(module, "initialize_carry")):
        sequences.check_module("to_linen", module, engine, memory, "Linen")
        integers = [path for path, leaf in jax.tree_util.tree_flatten_with_path(drawn(module))[0]
                    if not jnp.issubdtype(leaf.dtype, jnp.inexact)]  # fmt: skip
        if integers:
            raise ValueError(
                f"to_linen: expected parameters of floats, got integers at {jax.tree_util.keystr(integers[0])}, which "
                "Flax would try to differentiate. Call seqjax.unroll inside your module instead."
            )
    return RNN(
        module, engine, memory, time_major, return_carry, reverse, keep_order, feature_axes, name=name
    )  # fmt: skip

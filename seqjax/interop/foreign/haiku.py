"""Haiku: its recurrent cores as cells of ours."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.base import Cell, Key, PyTree
from seqjax.interop.extras import needed
from seqjax.interop.foreign.example import cell_of, inputs_of
from seqjax.records import maker

hk = needed("haiku", extra="haiku")


@maker
def from_haiku(make_core: Callable[[], Any], input_size: Any) -> Cell[Any, Any]:
    """A recurrent core of Haiku as a cell of ours.

        y, state' = core(x, state)                          on one example; a batch by `jax.vmap`

    Any core will do, of any state and output, that can be called on one example as Haiku's own can. Parameters are
    those that ``hk.transform`` draws, under the names it gives them.

    Args:
      make_core: makes the core, inside ``hk.transform``: ``lambda: hk.LSTM(128)``.
      input_size: d; the shape of one example's input such as ``(28, 28, 1)``; or a tree of `jax.ShapeDtypeStruct`.

    Returns:
      A cell with the core's parameters, state and output.

    Raises:
      TypeError: a core in the place of a function that makes it.
      ValueError: a core that draws random numbers or keeps variables with ``hk.set_state``.

    Example:
      >>> import haiku as hk, jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.interop.from_haiku(lambda: hk.GRU(4), 3)
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> sorted(params["gru"]), ys.shape
      (['b', 'w_h', 'w_i'], (5, 2, 4))
    """
    if isinstance(make_core, hk.Module) or not callable(make_core):
        raise TypeError(
            f"from_haiku: expected a function that makes a core, got {type(make_core).__name__}. "
            "Haiku makes modules inside hk.transform: from_haiku(lambda: hk.LSTM(128), 64)."
        )
    inputs = inputs_of("from_haiku", input_size)

    def tick(x: PyTree) -> tuple[PyTree, PyTree]:
        core = make_core()
        return core(x, _first_state(core))

    whole = hk.transform_with_state(tick)
    starting = hk.without_apply_rng(hk.transform(lambda: _first_state(make_core())))
    stepping = hk.without_apply_rng(hk.transform(lambda x, state: make_core()(x, state)))
    zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)

    def init(key: Key) -> PyTree:
        return whole.init(key, zeros())[0]

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        y, state = stepping.apply(params, x, state)
        return state, y

    _check(whole, zeros)
    return cell_of("from_haiku", init, starting.apply, step, inputs)


def _first_state(core: Any) -> PyTree:
    """Of one example."""
    if not isinstance(core, hk.RNNCore):
        raise TypeError(
            f"from_haiku: expected a function that makes a core, got one that makes {type(core).__name__}. "
            "Return an hk.RNNCore such as hk.LSTM(128)."
        )
    return core.initial_state(None)


def _check(whole: Any, zeros: Callable[[], PyTree]) -> None:
    """No variables, and nothing random behind the drawing of parameters."""
    key = jax.random.key(0)
    params, variables = jax.eval_shape(lambda: whole.init(key, zeros()))
    if variables:
        module = next(iter(variables))
        raise ValueError(
            f"from_haiku: expected a core of parameters only, got the variable {next(iter(variables[module]))} of "
            f"{module}. Make what changes from tick to tick part of the core's state; normalise with hk.LayerNorm."
        )
    runs = lambda key: jax.eval_shape(lambda params: whole.apply(params, {}, key, zeros())[0], params)
    try:
        runs(None)
    except ValueError as missing:
        runs(key)  # raises the same where it is not the key that is missing
        raise ValueError(
            "from_haiku: expected a core without random numbers, got one that asks for a key (hk.next_rng_key). "
            "Leave its dropout out and wrap the cell: seqjax.variational_dropout, zoneout."
        ) from missing

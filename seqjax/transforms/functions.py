"""Functions as cells, to stand in a stack."""

from collections.abc import Callable

from seqjax.base import Array, Cell, PyTree
from seqjax.records import maker


@maker
def memoryless(function: Callable[[PyTree, PyTree], PyTree], init: Callable[[Array], PyTree] | None = None) -> Cell:
    """A cell without state: a function of every tick's input alone.

        y = function(params, x)

    In a `stack` it becomes part of one recurrence, which the engines see as a whole; `pointwise` is the same as a
    layer. An embedding in front of a cell is the case in point: instead of ``W[x] V`` at every tick the split engine
    then computes the small table ``W V`` once and looks up its rows.

    Args:
      function: ``(params, x) -> y`` of one tick, any batch axes in front.
      init: ``(key) -> params``; no parameters if None.

    Returns:
      A cell with empty state.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> symbols = sj.memoryless(lambda w, x: w[x], lambda key: jax.random.normal(key, (65, 8)))
      >>> cell = sj.stack(symbols, sj.lstm(8, 16))
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), jnp.zeros((5, 2), int))
      >>> ys.shape
      (5, 2, 16)
    """

    def step(params: PyTree, state: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        return state, function(params, x)

    return Cell(init or _no_params, _no_state, step)


def _no_params(key: Array) -> tuple:
    return ()


def _no_state(params: PyTree, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> tuple:
    return ()

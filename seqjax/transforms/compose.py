"""Stacks, with skip connections and residual ones."""

from typing import overload

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import P1, P2, P3, P4, S1, S2, S3, S4, Array, Cell, Params, PyTree, State
from seqjax.records import maker


@overload
def stack(
    first: Cell[P1, S1],
    /,
) -> Cell[tuple[P1], tuple[S1]]: ...
@overload
def stack(
    first: Cell[P1, S1],
    second: Cell[P2, S2],
    /,
) -> Cell[tuple[P1, P2], tuple[S1, S2]]: ...
@overload
def stack(
    first: Cell[P1, S1],
    second: Cell[P2, S2],
    third: Cell[P3, S3],
    /,
) -> Cell[tuple[P1, P2, P3], tuple[S1, S2, S3]]: ...
@overload
def stack(
    first: Cell[P1, S1],
    second: Cell[P2, S2],
    third: Cell[P3, S3],
    fourth: Cell[P4, S4],
    /,
) -> Cell[tuple[P1, P2, P3, P4], tuple[S1, S2, S3, S4]]: ...
@overload
def stack(
    first: Cell,
    second: Cell,
    third: Cell,
    fourth: Cell,
    fifth: Cell,
    /,
    *more: Cell,
) -> Cell[tuple, tuple]: ...
@maker
def stack(*cells: Cell) -> Cell[tuple, tuple]:
    """Cells on top of each other: each reads the output of the one below at the same tick.

        state_l', y_l = step_l(params_l, state_l, y_{l-1})      y_0 = x

    Args:
      *cells: from the input upwards.

    Returns:
      A cell whose params and state are tuples, one entry a layer, and whose output is the topmost output.

    Raises:
      ValueError: no cell; or params or a state of another number of cells.
      TypeError: something else than a cell.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.stack(sj.lstm(8, 16), sj.gru(16, 4))
      >>> len(cell.init(jax.random.key(0)))
      2

    References:
      El Hihi and Bengio (1995), Hierarchical recurrent neural networks for long-term dependencies.
      https://papers.nips.cc/paper/1102-hierarchical-recurrent-neural-networks-for-long-term-dependencies
    """
    _check_cells("stack", cells)

    def init(key: Array) -> tuple:
        return tuple(cell.init(k) for cell, k in zip(cells, jax.random.split(key, len(cells))))

    def initial_state(params: tuple, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> tuple:
        keys = [None] * len(cells) if key is None else jax.random.split(key, len(cells))
        return tuple(cell.initial_state(p, batch_shape, key=k) for cell, p, k in zip(cells, params, keys))

    def step(params: tuple, state: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        checks.parts("stack", len(cells), params, state)
        new = []
        for cell, p, s in zip(cells, params, state):
            s, x = cell.step(p, s, x)
            new.append(s)
        return tuple(new), x

    return Cell(init, initial_state, step)


@maker
def skip_stack(*cells: Cell) -> Cell[tuple, tuple]:
    """Cells on top of each other that all see the input, and are all seen at the output.

        state_l', y_l = step_l(params_l, state_l, [x, y_{l-1}])      l > 1; the first reads x
        y = [y_1, …, y_L]

    Args:
      *cells: from the input upwards; all but the first read the input's size and that of the output below together.

    Returns:
      A cell whose params and state are tuples, one entry a layer, and whose output is all layers' outputs side by side.

    Raises:
      ValueError: no cell; or params or a state of another number of cells.
      TypeError: something else than a cell.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.transforms.skip_stack(sj.lstm(3, 4), sj.gru(3 + 4, 5))
      >>> params = cell.init(jax.random.key(0))
      >>> cell.step(params, cell.initial_state(params), jnp.ones(3))[1].shape
      (9,)

    References:
      Graves (2013), Generating sequences with recurrent neural networks, section 2. https://arxiv.org/abs/1308.0850
    """
    _check_cells("skip_stack", cells)
    stacked = stack(*cells)

    def step(params: tuple, state: tuple, x: Array) -> tuple[tuple, Array]:
        checks.parts("skip_stack", len(cells), params, state)
        new: list = []
        ys: list[Array] = []
        for cell, p, s in zip(cells, params, state):
            seen = jnp.concatenate([x.astype(ys[-1].dtype), ys[-1]], axis=-1) if ys else x
            s, y = cell.step(p, s, seen)
            new.append(s)
            ys.append(y)
        return tuple(new), jnp.concatenate(ys, axis=-1)

    return Cell(stacked.init, stacked.initial_state, step)


def _check_cells(who: str, cells: tuple) -> None:
    if not cells:
        raise ValueError(f"{who}: expected at least one cell, got none. Pass the cells from the input upwards.")
    for cell in cells:
        checks.instance(who, cell, Cell, f"Layers go into serial, cells into {who}.")


@maker
def residual(cell: Cell[Params, State]) -> Cell[Params, State]:
    """The cell's output added to its input.

        state', F(x) = step(params, state, x)      y = x + F(x)

    F = 0 makes it the identity. In a deep stack every layer then adds to what the one below says.

    Args:
      cell: F; its output has the shape of its input.

    Returns:
      A cell with F's params and state.

    Raises:
      TypeError: something else than a cell.
      ValueError: F changes the shape.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.residual(sj.elman(2, 2))
      >>> zero = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
      >>> cell.step(zero, cell.initial_state(zero), jnp.array([1.0, 2.0]))[1].tolist()
      [1.0, 2.0]

    References:
      He et al. (2016), Deep residual learning for image recognition. https://arxiv.org/abs/1512.03385
      Wu et al. (2016), Google's neural machine translation system (residual LSTM stacks), section 3.1.
      https://arxiv.org/abs/1609.08144
    """
    checks.instance("residual", cell, Cell, "Pass a cell, such as lstm(64, 64).")

    def step(params: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
        state, y = cell.step(params, state, x)
        checks.same_shapes("residual", x, y)
        return state, jax.tree.map(lambda x, y: x.astype(y.dtype) + y, x, y)

    return Cell(cell.init, cell.initial_state, step)

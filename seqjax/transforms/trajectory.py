"""Looking into a recurrence: all its states, and what each of them does to a loss."""

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, Params, PyTree, State, is_noise
from seqjax.records import maker
from seqjax.transforms.replay import change_state


@maker
def with_states(cell: Cell[Params, State]) -> Cell[Params, State]:
    """A cell that gives its new state out beside its output.

        state', y = step(params, state, x)      output (y, state')

    `seqjax.unroll` then returns the whole trajectory s_1 … s_T.

    Args:
      cell: any cell.

    Returns:
      A cell with the cell's params and state, and output ``(y, state')``.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.with_states(sj.lstm(3, 2))
      >>> params = cell.init(jax.random.key(0))
      >>> _, (ys, states) = sj.unroll(cell, params, cell.initial_state(params), jnp.ones((5, 3)))
      >>> states.c.shape
      (5, 2)
    """

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        state, y = cell.step(params, state, x)
        return state, (y, state)

    return Cell(cell.init, cell.initial_state, step)


@maker
def perturbed(cell: Cell[Params, State]) -> Cell[Params, State]:
    """A cell whose new state is moved by a part of the input.

        s' = step(params, s, x) + ε      input (x, ε)      y is computed from s'

    At ε = 0 it is the cell itself, and dL/dε_t is dL/ds_t: the gradient of a loss with respect to the state
    after tick t, through the output of tick t and everything that comes later. The state is taken as a whole:
    in an LSTM dL/dc_t is taken with h_t held, in a stack that of one layer with the others held.

    Args:
      cell: any cell.

    Returns:
      A cell with the cell's params and state, whose input is ``(x, ε)``; make a zero ε with
      `zero_perturbation`.

    Raises:
      ValueError: ε has not the state's structure or shapes.

    Example:
      The gradient of the last output with respect to every state of a running product by 1/2:

      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.elman(1, 1, activation=lambda a: a, b_init=None)
      >>> params = sj.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5), None)
      >>> state, xs = cell.initial_state(params), jnp.ones((4, 1))
      >>> def last(epsilon):
      ...     return sj.unroll(sj.perturbed(cell), params, state, (xs, epsilon))[1][-1, 0]
      >>> jax.grad(last)(sj.zero_perturbation(state, 4))[:, 0].tolist()
      [0.125, 0.25, 0.5, 1.0]
    """

    def step(params: PyTree, state: PyTree, x: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        x, epsilon = x
        _check(state, epsilon)

        def move(s: PyTree, e: PyTree) -> PyTree:
            return s if _opaque(e) else s + e.astype(s.dtype)

        return change_state(cell.step, params, state, x, lambda new: jax.tree.map(move, new, epsilon, is_leaf=is_noise))

    return Cell(cell.init, cell.initial_state, step)


def zero_perturbation(state: PyTree, length: int) -> PyTree:
    """An ε of zeros for `perturbed`: ``[T, *B, ...]`` for every float of the state, None for what is none.

    >>> zero_perturbation(jnp.ones((3, 2)), 5).shape
    (5, 3, 2)
    """
    checks.sizes("zero_perturbation", length=length)

    def leaf(s: Array) -> Array | None:
        if is_noise(s) or not jnp.issubdtype(s.dtype, jnp.inexact):
            return None
        return jnp.zeros((length, *s.shape), s.dtype)

    return jax.tree.map(leaf, state, is_leaf=is_noise)


def _check(state: PyTree, epsilon: PyTree) -> None:
    expected, tree = jax.tree.flatten(state, is_leaf=_opaque)
    got, other = jax.tree.flatten(epsilon, is_leaf=_opaque)
    if tree != other or any(e.shape != s.shape for s, e in zip(expected, got) if not _opaque(e)):
        raise ValueError(
            f"perturbed: expected a perturbation like the state, {jax.tree.map(np.shape, state)}, got "
            f"{jax.tree.map(np.shape, epsilon)}. Make it with zero_perturbation(state, length)."
        )


def _opaque(node: PyTree) -> bool:
    return node is None or is_noise(node)

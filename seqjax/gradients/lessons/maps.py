"""Iterated maps: fixed points, periods, bifurcations, and the basins of attraction of a small network."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import base, checks
from seqjax.base import Array, Cell, PyTree
from seqjax.gradients import backward
from seqjax.gradients.vectors import push, state_size
from seqjax.records import maker
from seqjax.unroll import unroll


@maker
def map_cell(f: Callable[[PyTree, Array], Array]) -> Cell:
    """A map as a cell without input: x_t = f(params, x_{t-1}), y = x_t.

    Give the state and the parameters by hand, and `seqjax.unroll` the ``length``.

    Args:
      f: ``(params, x) -> x``, the shape kept.

    Returns:
      A cell whose state is x ``[*B]`` and starts at 0.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> logistic = sj.gradients.lessons.map_cell(lambda r, x: r * x * (1 - x))
      >>> _, ys = sj.unroll(logistic, jnp.asarray(2.0), jnp.asarray(0.5), None, length=3)
      >>> ys.tolist()
      [0.5, 0.5, 0.5]
    """

    def step(params: PyTree, x: Array, _: None) -> tuple[Array, Array]:
        x = f(params, x)
        return x, x

    return Cell(lambda key: (), lambda params, batch_shape=(), *, key=None: jnp.zeros(batch_shape), step)


logistic_map = map_cell(lambda r, x: r * x * (1 - x))


def bifurcation(rates: Array, *, start: float = 0.5, skip: int = 1000, keep: int = 64) -> Array:
    """The attractor of x ← r x (1 - x) for every r: what is left to see when the beginning is forgotten.

    Args:
      rates: ``[R]``, r from 0 to 4.
      start: x_0.
      skip: iterations that are not shown.
      keep: iterations that are.

    Returns:
      ``[keep, R]``.

    References:
      May (1976), Simple mathematical models with very complicated dynamics. https://doi.org/10.1038/261459a0
    """
    checks.sizes("bifurcation", skip=skip, keep=keep)
    settled, _ = unroll(logistic_map, rates, jnp.full(rates.shape, start, rates.dtype), None, length=skip)
    return unroll(logistic_map, rates, settled, None, length=keep)[1]


def period(orbit: Array, tolerance: float = 1e-6) -> Array:
    """The smallest number of iterations after which an orbit repeats itself.

    Args:
      orbit: ``[T, *B]``, on the attractor; periods up to T/2 are found.
      tolerance: how far apart two values may be that count as one.

    Returns:
      ``[*B]`` of int; 0 where no period is found.
    """
    half = checks.length("period", orbit) // 2
    checks.sizes("period", half=half)
    shifts = jnp.arange(1, half + 1)
    apart = jax.lax.map(lambda k: jnp.abs(jax.lax.dynamic_slice_in_dim(orbit, k, half) - orbit[:half]).max(0), shifts)
    repeats = apart <= tolerance
    return jnp.where(repeats.any(0), 1 + repeats.argmax(0), 0)


class Attractors(NamedTuple):
    """The points where runs end, and which of them each run ends at.

    Attributes:
      points: ``[K, n]``, the one that most runs end at first.
      index: ``[*B]`` of int, from 0 to K-1.
    """

    points: np.ndarray
    index: np.ndarray  # type: ignore[assignment]


def attractors(ends: Array, tolerance: float = 1e-2) -> Attractors:
    """Collects the ends of many runs into the fixed points they have reached.

    Runs that are still on their way, as near a boundary, count as points of their own at the end of the list.

    Args:
      ends: ``[*B, n]``, such as the ``end`` of `basins`.
      tolerance: how far apart two ends may be, in any coordinate, that count as one.

    Returns:
      An `Attractors`.

    Example:
      >>> import jax.numpy as jnp
      >>> attractors(jnp.array([[1.0], [-1.0], [1.001]])).index.tolist()
      [0, 1, 0]
    """
    rows = np.asarray(ends).reshape(-1, ends.shape[-1])
    found = np.full(len(rows), -1)
    points: list[np.ndarray] = []
    while (found < 0).any():
        point = rows[np.argmax(found < 0)]
        found[(found < 0) & (np.abs(rows - point).max(-1) <= tolerance)] = len(points)
        points.append(point)
    order = np.argsort(-np.bincount(found), kind="stable")
    return Attractors(np.stack(points)[order], np.argsort(order)[found].reshape(ends.shape[:-1]))


class Basins(NamedTuple):
    """Where a run ends and how much that depends on where it begins.

    Attributes:
      end: the states after T ticks, like the states given.
      log_gradient: ``[*B]``, ln ‖ds_T/ds_0‖₂ (largest singular value): far above its surroundings on the boundary
        between two basins, falling without end inside one.
    """

    end: PyTree
    log_gradient: Array


@functools.partial(jax.jit, static_argnums=(0, 4))
def basins(cell: Cell, params: PyTree, states: PyTree, x: PyTree, length: int) -> Basins:
    """Follows a grid of starting points under one constant input, with the exact Jacobian of the whole run.

    The Jacobian is multiplied up tick by tick and kept at size 1, so that its logarithm stays finite however long
    the run.

    Args:
      cell: any cell with few units, two for a picture.
      params: its parameters.
      states: the starting points ``[*B, ...]``.
      x: the input of every tick, of one example; None for a cell without any.
      length: T.

    Returns:
      A `Basins`.

    References:
      Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, section 2.2.
      https://arxiv.org/abs/1211.5063
    """
    checks.sizes("basins", length=length)

    batch = base.batch_shape(cell, params, states) or ()
    inputs = jax.tree.map(lambda v: jnp.broadcast_to(v, (*batch, *np.shape(v))), x)
    dtype = jnp.result_type(*backward.floats(states))
    unit = jnp.eye(state_size(states, len(batch)), dtype=dtype)

    def tick(carry: tuple, _: None) -> tuple[tuple, None]:
        s, columns, log = carry
        s, columns = push(lambda s: cell.step(params, s, inputs)[0], s, columns)
        size = backward.norm([columns], len(batch))
        return (s, backward.scale(1 / jnp.where(size > 0, size, 1), columns), log + jnp.log(size)), None

    start = (states, jnp.broadcast_to(unit, (*batch, *unit.shape)), jnp.zeros(batch, dtype))
    (end, columns, log), _ = jax.lax.scan(tick, start, None, length=length)
    return Basins(end, log + jnp.log(jnp.linalg.norm(columns, 2, axis=(-2, -1))))

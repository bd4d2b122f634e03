"""What a reservoir remembers of its input, and whether it forgets where it started."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.normalization import norm
from seqjax.reservoir.readout import fit, read
from seqjax.transforms.trajectory import with_states
from seqjax.unroll import unroll


class Forgetting(NamedTuple):
    """How two trajectories of a cell under one input come together.

    Attributes:
      distance: ``[T, *B]``, relative to the distance they started at.
      rate: ``[*B]``, nats a tick, the mean change of ln distance while it could be measured. Below zero the cell
        forgets: the echo-state property holds on this input.
    """

    distance: Array
    rate: Array


class Bounds(NamedTuple):
    """``norm`` below 1: the past is forgotten on every input. ``radius`` of 1 or more: not on zero input."""

    norm: float
    radius: float


def memory_capacity(
    cell: Cell,
    params: PyTree,
    key: Array,
    *,
    delays: int,
    length: int = 4000,
    washout: int = 200,
    ridge: float = 1e-8,
) -> np.ndarray:
    """How much of its input a reservoir remembers, delay by delay.

        MC_k = r²(u_{t-k}, y_k)        u ~ U(-1, 1), y_k the best linear readout of u_{t-k}

    Readouts are fitted on the first half of a random input and judged on the second. The sum over all delays is at
    most the number of units; a linear reservoir reaches it.

    Args:
      cell: the reservoir, of one input.
      params: its parameters.
      key: one JAX key, for the input.
      delays: the longest delay K.
      length: ticks of each half.
      washout: ticks left out at the beginning, at least K.
      ridge: the penalty.

    Returns:
      ``[delays]``, each in [0, 1], for k = 1 … K.

    Raises:
      ValueError: a washout shorter than the delays.

    References:
      Jaeger (2002), Short term memory in echo state networks. GMD report 152.
    """
    checks.sizes("memory_capacity", delays=delays, length=length)
    if washout < delays:
        raise ValueError(
            f"memory_capacity: expected a washout of at least {delays} ticks, the longest delay, got {washout}. "
            "Raise washout."
        )
    us = jax.random.uniform(key, (washout + 2 * length,), minval=-1, maxval=1)
    past = np.stack([np.roll(np.asarray(us), k) for k in range(1, delays + 1)], -1)
    half = washout + length
    fitted = fit(cell, params, us[:half, None], past[:half], washout=washout, ridge=ridge)
    _, hs = unroll(cell, params, fitted.state, us[half:, None])
    ys, truth = np.asarray(read(fitted.readout, hs, us[half:, None]), np.float64), past[half:]
    ys, truth = ys - ys.mean(0), truth - truth.mean(0)
    spread = (ys**2).sum(0) * (truth**2).sum(0)
    return (ys * truth).sum(0) ** 2 / np.where(spread > 0, spread, 1)


def forgetting(
    cell: Cell, params: PyTree, xs: Array, key: Array, *, scale: float = 1.0, floor: float = 1e-4
) -> Forgetting:
    """Runs a cell twice on the same input from different states: with the echo-state property they meet.

    Args:
      cell: any cell.
      params: its parameters.
      xs: inputs ``[T, *B, d]``.
      key: one JAX key, for the states.
      scale: standard deviation of the two states about the initial one.
      floor: the relative distance at which measuring stops, above the rounding of the state's type.

    Returns:
      The distance over time and the rate at which it falls.

    References:
      Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks.
      Yildiz, Jaeger and Kiebel (2012), Re-visiting the echo state property.
      https://doi.org/10.1016/j.neunet.2012.07.005
    """
    xs = jnp.asarray(xs)
    batch = xs.shape[1:-1]
    state = cell.initial_state(params, (2, *batch))
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(key, len(leaves))
    moved = [s + scale * jax.random.normal(k, s.shape, s.dtype) for k, s in zip(keys, leaves)]
    state = tree.unflatten(moved)
    pair = jnp.broadcast_to(xs[:, None], (len(xs), 2, *xs.shape[1:]))
    _, (_, states) = unroll(with_states(cell), params, state, pair)

    def apart(state: PyTree, axis: int) -> Array:
        gaps = [jnp.diff(s, axis=axis).squeeze(axis) for s in jax.tree.leaves(state)]
        axes = [tuple(range(axis + len(batch), gap.ndim)) for gap in gaps]
        return norm(jnp.stack([norm(gap, a) for gap, a in zip(gaps, axes)], -1))

    distance = apart(states, 1) / apart(state, 0)
    ended = jnp.cumsum(distance < floor, axis=0) > 0
    ticks = jnp.minimum((~ended).sum(0) + 1, len(distance))
    last = jnp.take_along_axis(distance, ticks[None] - 1, 0)[0]
    return Forgetting(distance, jnp.log(jnp.maximum(last, jnp.finfo(last.dtype).tiny)) / ticks.astype(last.dtype))


def bounds(w_h: Array, leak: float = 1.0) -> Bounds:
    """Largest singular value and spectral radius of (1-a) I + a U, for `seqjax.echo_state`.

    A norm below 1 suffices for the echo-state property, since tanh never expands. A radius of 1 or more refutes it
    for zero input without bias. Between the two, `forgetting` measures.

    Args:
      w_h: U ``[h, h]``; of a sparse reservoir ``dense(params).w_h``.
      leak: a.

    Raises:
      ValueError: weights that are no square matrix.

    Example:
      >>> import jax, seqjax as sj
      >>> from seqjax import reservoir
      >>> params = sj.sparse_echo_state(1, 50, radius=0.9).init(jax.random.key(0))
      >>> round(reservoir.bounds(reservoir.dense(params).w_h).radius, 3)
      0.9
    """
    w = np.asarray(w_h, np.float64)
    if w.ndim != 2 or len(set(w.shape)) != 1:
        raise ValueError(
            f"bounds: expected square weights [h, h], got shape {w.shape}. "
            "Of a sparse reservoir pass dense(params).w_h."
        )
    w = (1 - leak) * np.eye(len(w)) + leak * w
    return Bounds(float(np.linalg.norm(w, 2)), float(np.abs(np.linalg.eigvals(w)).max()))

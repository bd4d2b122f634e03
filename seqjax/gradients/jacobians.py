"""Jacobians of the step along a real sequence: singular values and Lyapunov exponents."""

import functools
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from seqjax import base, checks
from seqjax.base import Array, Cell, PyTree
from seqjax.buffers import owning
from seqjax.engines.base import Problem
from seqjax.gradients import backward
from seqjax.gradients.vectors import push, state_size
from seqjax.unroll import checked


@owning
def step_jacobians(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    ticks: Sequence[int],
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    length: int | None = None,
) -> Array:
    """∂s_t / ∂s_{t-1} at chosen ticks of a run: row i, column j is ∂s_t[i] / ∂s_{t-1}[j].

    The state is one vector: its float leaves in tree order, an LSTM's h and then its c. At a masked tick the state
    is held and the Jacobian is I; at a reset it is 0.

    Args:
      cell: any cell.
      params: its parameters.
      state: the state before the first tick.
      xs: inputs ``[T, *B, ...]``.
      ticks: the ticks t, counted from 0.
      mask: ``[T, *B]``, True at real ticks.
      reset: ``[T, *B]``, True at the first tick of a segment.
      length: T, where ``xs`` is None.

    Returns:
      ``[len(ticks), *B, n, n]``.

    Raises:
      ValueError: a tick outside 0 … T-1, or shapes that do not agree.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.elman(1, 2, activation=lambda a: a)
      >>> params = cell.init(jax.random.key(0))
      >>> jacobians = sj.gradients.step_jacobians(cell, params, cell.initial_state(params), jnp.ones((5, 1)), [3])
      >>> bool(jnp.allclose(jacobians[0], params.w_h.T))
      True
    """
    problem = checked(cell, params, state, xs, mask=mask, reset=reset, length=length)
    at = tuple(_tick(t, problem.length) for t in ticks)
    return _step_jacobians(cell, at, problem.length, params, state, xs, problem.mask, problem.reset)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step_jacobians(
    cell: Cell,
    ticks: tuple[int, ...],
    length: int,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    mask: Array | None,
    reset: Array | None,
) -> Array:
    batch = base.batch_shape(cell, params, state) or ()
    size = state_size(state, len(batch))
    dtype = jnp.result_type(*backward.floats(state))
    if not ticks:
        return jnp.zeros((0, *batch, size, size), dtype)
    # Of the run as the engines see it: with a mask in the middle, the state that is held and not the zero output.
    step, parts, _, inputs = Problem(cell, params, state, xs, length, mask, None, reset).wrapped()
    index, row = np.unique(ticks, return_inverse=True)
    place = np.full(length, len(index))  # nowhere, for the state of a tick that is not asked for
    place[index] = np.arange(len(index))

    def run(carry: tuple[PyTree, PyTree], now: tuple[PyTree, Array]) -> tuple[tuple[PyTree, PyTree], None]:
        (s, kept), (x, i) = carry, now
        return (step(parts, s, x)[0], jax.tree.map(lambda k, leaf: k.at[i].set(leaf, mode="drop"), kept, s)), None

    kept = jax.tree.map(lambda leaf: jnp.zeros((len(index), *leaf.shape), leaf.dtype), state)
    (_, starts), _ = jax.lax.scan(run, (state, kept), (inputs, jnp.asarray(place)), length=length)

    def jacobian(s: PyTree, x: PyTree) -> Array:
        start, restore = ravel_pytree(backward.floats(s))

        def move(vector: Array) -> Array:
            moved = backward.change_floats(lambda _: restore(vector), s)
            return ravel_pytree(backward.floats(cell.step(params, moved, x)[0]))[0]

        return jax.jacfwd(move)(start)

    for _ in batch:
        jacobian = jax.vmap(jacobian)
    at = jax.tree.map(lambda x: x[index], xs)
    found = jax.lax.map(lambda pair: jacobian(*pair), (starts, at))
    if mask is not None:
        found = jnp.where(mask[index][..., None, None], found, jnp.eye(size, dtype=dtype))
    if reset is not None:
        found = jnp.where(reset[index][..., None, None], jnp.zeros((), dtype), found)
    return found[row]


@owning
def lyapunov_exponents(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    count: int | None = None,
    *,
    skip: int = 0,
    mask: Array | None = None,
    length: int | None = None,
    key: Array | None = None,
) -> Array:
    """The rates at which the run pulls nearby states apart, largest first, in nats a tick.

        Q_t R_t = J_t Q_{t-1}      λ_i = (1/T) Σ_t ln |R_t[i, i]|      J_t = ∂s_t / ∂s_{t-1}

    A QR decomposition a tick keeps the directions apart and every number of the size of one Jacobian, so that T can
    be as long as wanted, in constant memory: only ``[*B, n, count]`` floats are carried. Above 0: neighbours part
    and gradients explode; below 0 they vanish as e^{λt}.

    Args:
      cell: any cell.
      params: its parameters.
      state: the state before the first tick.
      xs: inputs ``[T, *B, ...]``; None for a cell without any.
      count: how many exponents; all n if None.
      skip: real ticks before the average begins, for the run to reach its attractor and Q to align.
      mask: ``[T, *B]``, True at real ticks; the others count for nothing.
      length: T, where ``xs`` is None.
      key: draws the first directions; without one they are fixed.

    Returns:
      ``[*B, count]``; NaN where no tick is left.

    Raises:
      ValueError: more exponents than the state has floats, or nothing left after ``skip``.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> cell = sj.elman(1, 2, activation=lambda a: a, b_init=None)
      >>> params = sj.ElmanParams(jnp.zeros((1, 2)), jnp.diag(jnp.array([2.0, 0.5])), None)
      >>> sj.gradients.lyapunov_exponents(cell, params, jnp.ones(2), jnp.zeros((500, 1)), skip=50).round(3).tolist()
      [0.6930000185966492, -0.6930000185966492]

    References:
      Benettin et al. (1980), Lyapunov characteristic exponents for smooth dynamical systems.
      https://doi.org/10.1007/BF02128236
      Engelken, Wolf and Abbott (2023), Lyapunov spectra of chaotic recurrent neural networks.
      https://arxiv.org/abs/2006.02427
    """
    problem = checked(cell, params, state, xs, mask=mask, length=length)
    mask, length = problem.mask, problem.length
    size = state_size(state, len(base.batch_shape(cell, params, state) or ()))
    count = size if count is None else count
    checks.sizes("lyapunov_exponents", count=count)
    if count > size:
        raise ValueError(f"lyapunov_exponents: expected at most {size} exponents, got count={count}. Lower it.")
    if not 0 <= skip < length:
        raise ValueError(f"lyapunov_exponents: expected skip from 0 to {length - 1}, got {skip!r}. Leave ticks over.")
    key = jax.random.key(0) if key is None else key
    return _lyapunov_exponents(cell, params, state, xs, mask, key, count, skip, length)


@functools.partial(jax.jit, static_argnums=(0, 6, 7, 8))
def _lyapunov_exponents(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    mask: Array | None,
    key: Array,
    count: int,
    skip: int,
    length: int,
) -> Array:
    batch = base.batch_shape(cell, params, state) or ()
    step, parts, _, inputs = Problem(cell, params, state, xs, length, mask).wrapped()
    dtype = jnp.result_type(*backward.floats(state))
    first = jnp.linalg.qr(jax.random.normal(key, (*batch, state_size(state, len(batch)), count), dtype))[0]

    def tick(carry: Any, now: Any) -> tuple[Any, None]:
        s, q, total, seen = carry
        x, mask = now
        real = jnp.ones(batch, bool) if mask is None else mask
        new, columns = push(lambda s: step(parts, s, x)[0], s, q)
        q, r = jnp.linalg.qr(columns)
        stretch = jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))
        counted = real & (seen >= skip)
        total = total + jnp.where(counted[..., None], stretch, 0)
        return (new, q, total, seen + real.astype(seen.dtype)), None

    start = (state, first, jnp.zeros((*batch, count), dtype), jnp.zeros(batch, jnp.int32))
    (_, _, total, seen), _ = jax.lax.scan(tick, start, (inputs, mask), length=length)
    exponents = total / jnp.where(seen > skip, seen - skip, 0)[..., None].astype(dtype)
    return -jnp.sort(-exponents, axis=-1)


def _tick(tick: int, length: int) -> int:
    if not isinstance(tick, Integral) or not 0 <= tick < length:
        raise ValueError(f"step_jacobians: expected ticks from 0 to {length - 1}, got {tick!r}. Choose others.")
    return int(tick)

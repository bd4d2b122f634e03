"""The mean of the parameters over training, kept by the optimizer."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqjax import checks, optimizers
from seqjax.base import Array, PyTree
from seqjax.products import accumulator


class AveragingState(NamedTuple):
    """The wrapped optimizer's state, the number of updates, and the running mean of the parameters."""

    inner: PyTree
    updates: Array
    mean: PyTree


def averaging(
    optimizer: optax.GradientTransformation, *, decay: float | None = None
) -> optax.GradientTransformationExtraArgs:
    """The optimizer, unchanged, with a running mean of the parameters beside it.

        m_n = m_{n-1} + (θ_n - m_{n-1}) (1-d) / (1-dⁿ)      with decay d: recent parameters count most
        m_n = m_{n-1} + (θ_n - m_{n-1}) / n                 without: the plain mean (Polyak)

    Read the mean with `averaged`; it is what to evaluate, while training goes on with the parameters
    themselves.

    The mean is kept in at least float32: in bfloat16 the share of one update would be lost.

    Args:
      optimizer: any Optax transformation.
      decay: d in [0, 1): weights fall by d from update to update; None for the plain mean.

    Returns:
      An Optax transformation with the same updates.

    Raises:
      ValueError: a decay outside [0, 1).

    References:
      Polyak and Juditsky (1992), Acceleration of stochastic approximation by averaging.
      https://doi.org/10.1137/0330046
    """
    if decay is not None:
        checks.rate("averaging", decay, "decay", "Use None for the plain mean.")

    def init(params: PyTree) -> AveragingState:
        mean = jax.tree.map(lambda p: jnp.zeros_like(p, accumulator(p.dtype)), params)
        return AveragingState(optimizer.init(params), jnp.zeros((), jnp.int32), mean)

    def update(
        gradient: PyTree, state: AveragingState, params: PyTree, *, fixed: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, AveragingState]:
        updates, inner = optimizers.update(optimizer, gradient, state.inner, params, extra)
        count = state.updates + 1
        new = optax.apply_updates(params, updates)
        if fixed is not None:
            new = jax.tree.map(lambda old, new, still: old if still else new, params, new, fixed)

        def leaf(mean: Array, p: Array) -> Array:
            n = count.astype(mean.dtype)
            # 1 - dⁿ = -expm1(n ln d), exact where d is close to 1
            share = 1 / n if decay is None else (1 - decay) / -jnp.expm1(n * (math.log(decay) if decay else -math.inf))
            kind = jnp.finfo(p.dtype)
            p = jax.lax.reduce_precision(p, kind.nexp, kind.nmant)  # as stored: XLA keeps more digits where it may
            return mean + share * (p.astype(mean.dtype) - mean)

        return updates, AveragingState(inner, count, jax.tree.map(leaf, state.mean, new))

    return optax.GradientTransformationExtraArgs(init, update)


def averaged(opt_state: AveragingState) -> PyTree:
    """The mean of the parameters that `averaging` keeps, in at least float32.

    Raises:
      TypeError: the state of another optimizer.
    """
    checks.instance("averaged", opt_state, AveragingState, "Wrap the optimizer in averaging(...).")
    return opt_state.mean

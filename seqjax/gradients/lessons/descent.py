"""The training run of an experiment: all updates in one loop, and what happened at each of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqjax.base import Array, PyTree


class Descent(NamedTuple):
    """A training run of S updates.

    Attributes:
      params: after the last update.
      loss: ``[S]``, each before its update.
      report: what the loss reported beside itself, stacked.
      gradient_norm: ``[S]``, ‖g‖ over all parameters, before the optimizer sees it.
    """

    params: PyTree
    loss: Array
    report: PyTree
    gradient_norm: Array


def descend(
    loss: Callable[[PyTree, PyTree], tuple[Array, PyTree]],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    data: PyTree,
) -> Descent:
    """Descends a loss, one update for each entry of the data, inside one compiled loop.

    For experiments that fit the memory at once, under `jax.jit` and `jax.vmap`; `seqjax.train_step` is the step of
    real training. A gradient that is not finite is taken like any other.

    Args:
      loss: ``(params, entry) -> (scalar, report)``; the report may be ``()``.
      params: where to begin.
      optimizer: any Optax transformation; ``optax.chain(seqjax.clip_by_global_norm(1.0), …)`` clips.
      data: a tree of ``[S, ...]``: batches, or keys to draw them from.

    Returns:
      A `Descent`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> run = descend(lambda w, x: ((w - x) ** 2 / 2, ()), jnp.array(0.0), optax.sgd(0.5), jnp.ones(3))
      >>> run.params.item(), run.loss.tolist()
      (0.875, [0.5, 0.125, 0.03125])
    """

    def update(carry: tuple, entry: PyTree) -> tuple[tuple, tuple[Array, PyTree, Array]]:
        params, state = carry
        (value, report), gradient = jax.value_and_grad(loss, has_aux=True)(params, entry)
        with jax.numpy_dtype_promotion("standard"):  # Optax counts on it
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), (value, report, optax.tree.norm(gradient))

    params = jax.tree.map(jnp.asarray, params)
    (params, _), happened = jax.lax.scan(update, (params, optimizer.init(params)), data)
    return Descent(params, *happened)

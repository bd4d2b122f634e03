"""What training carries from update to update, and what it says of each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax import checks, optimizers
from seqjax.base import Array, PyTree
from seqjax.buffers import owned
from seqjax.fixing import differentiable
from seqjax.losses import Tally
from seqjax.objectives import Batch


class TrainState(NamedTuple):
    """What training carries besides the model's state: all that a checkpoint needs.

    ``step``, ``clipped`` and ``skipped`` count the updates so far, those of them that were clipped and those that were
    left out; ``key`` is None where nothing random is wanted.
    """

    params: PyTree
    opt_state: PyTree
    step: Array
    clipped: Array
    key: Array | None
    skipped: Array = np.zeros((), np.int32)  # type: ignore[assignment]


class Metrics(NamedTuple):
    """What a step reports, as device arrays.

    Attributes:
      loss: what was descended, before the update, the penalty included.
      tally: sum and count of the loss, without the penalty, to be added up over steps.
      gradient_norm: ‖g‖ over all parameters, before clipping.
      clipped: whether clipping changed the gradient.
      clip_rate: the fraction of steps so far whose gradient was clipped, this one included.
      skipped: how many updates so far were left out because loss or gradient was not finite, this one included.
    """

    loss: Array
    tally: Tally
    gradient_norm: Array
    clipped: Array
    clip_rate: Array
    skipped: Array


def train_state(params: PyTree, optimizer: optax.GradientTransformation, *, key: Array | None = None) -> TrainState:
    """Where training begins.

    Args:
      params: the parameters; copied, for `train_step` gives the memory of what it is handed to its results. Leaves
        that are no floats (integers, flags, keys) stay as they are, and the optimizer does not see them.
      optimizer: any Optax transformation. It sees parameters of float16 as float32, and keeps what it keeps so: Adam's
        ε of 1e-8 is 0 in float16.
      key: for dropout, noise and the like; None for none of it. A recurrence that draws has its noise in the state,
        which is made with a key too: ``initial_state(params, batch_shape, key=key)``; without, the step refuses.

    Returns:
      The state before the first step.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> train_state(jnp.ones(2), optax.sgd(0.1)).step.item()
      0
    """
    params, key = jax.tree.map(jnp.copy, owned((params, key)))
    opt_state = optimizer.init(optimizers.wide(differentiable(params)))
    opt_state = jax.tree.map(jnp.copy, owned(opt_state))  # which may be params, or its own
    zero = lambda: jnp.zeros((), jnp.int32)
    return TrainState(params, opt_state, zero(), zero(), key, zero())


def in_order(train: TrainState, state: PyTree, batch: Batch) -> None:
    """Arguments in the order (train, state, batch)."""
    order = "The order is (train, state, batch)."
    checks.instance("train_step", train, TrainState, f"Make it with train_state(params, optimizer). {order}")
    for name, value, kind in (("state", state, Batch), ("state", state, TrainState), ("batch", batch, TrainState)):
        if isinstance(value, kind):
            raise TypeError(f"train_step: expected a {name}, got a {kind.__name__} in its place. {order}")

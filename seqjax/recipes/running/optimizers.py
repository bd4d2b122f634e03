"""The optimizers and schedules that can be asked for by name.

All of them treat every array of the parameters apart, so that models trained side by side (`beside`) are independent.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import jax.numpy as jnp
import optax

Schedule = Literal["cosine", "linear", "inverse-sqrt", "constant"]

OPTIMIZERS: dict[str, Callable[[optax.Schedule], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adabelief": optax.adabelief,
    "adagrad": optax.adagrad,
    "adamax": optax.adamax,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "lamb": optax.lamb,
    "lion": optax.lion,
    "momentum": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "novograd": optax.novograd,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
    "yogi": optax.yogi,
}
if TYPE_CHECKING:
    Optimizer = str
else:
    Optimizer = Literal[tuple(OPTIMIZERS)]


def schedule(name: str, top: float, steps: int) -> optax.Schedule:
    """A learning rate η of the update n, from 0.

        cosine, linear   rises over 5 % of the steps from η/10, then falls to η/10 along half a cosine, or a line
        inverse-sqrt     rises as they do, for w updates, then falls as η √(w/n)
        constant         η throughout

    Args:
      name: of the schedule.
      top: η.
      steps: updates in all.

    Returns:
      ``n -> learning rate``.

    Example:
      >>> [round(float(schedule("linear", 1.0, 100)(n)), 2) for n in (0, 5, 100)]
      [0.1, 1.0, 0.1]
    """
    warmup = steps // 20
    if name == "cosine":
        return optax.warmup_cosine_decay_schedule(0.1 * top, top, warmup, steps, 0.1 * top)
    if name == "constant":
        return optax.constant_schedule(top)
    rise, falls = optax.linear_schedule(0.1 * top, top, warmup), optax.linear_schedule(top, 0.1 * top, steps - warmup)
    if name == "inverse-sqrt":
        start = max(1, warmup)
        falls = lambda n: top * jnp.sqrt(start / (start + n))
    return optax.join_schedules([rise, falls], [warmup])

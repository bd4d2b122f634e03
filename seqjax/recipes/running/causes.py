"""Where numbers that are not finite come from, in the words of a run that ends by them."""

from collections.abc import Callable
from typing import Any

import jax

import seqjax as sj
from seqjax.base import PyTree
from seqjax.objectives import Objective
from seqjax.recipes.running import processes


def of(
    objective: Objective, empty: PyTree, batch_of: Callable[[int], sj.Batch], goes_on: Callable[[int], bool] | None
) -> Callable[[Any, int], str]:
    """For `loop.train`: ``(state, step) -> text``, of an update from 0 that left the state as it was.

    Args:
      objective: what is descended.
      empty: the model's state where an update's sequences do not go on from where the last ones stopped.
      batch_of: the batch of an update.
      goes_on: whether they go on; None for never.
    """

    def cause(state: Any, step: int) -> str:
        memory = state.memory if goes_on is not None and goes_on(step) else empty
        train, memory = processes.on_one((state.train, memory))
        key = None if train.key is None else jax.random.fold_in(train.key, step)
        found = sj.first_nonfinite(objective, train.params, memory, batch_of(step), key=key)
        return "" if found is None else f", first at {found} (`sj.first_nonfinite`)"

    return cause

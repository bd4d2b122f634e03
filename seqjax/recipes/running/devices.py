"""All the cores of a CPU: the batch of a training step spread over host devices.

XLA runs the small products of a recurrence on one core, and independent loops of one program one after the other. Two
programs on two host devices do use two cores (benchmarks/results, docs/performance.md).
"""

import os

import jax

from seqjax.base import PyTree
from seqjax.engines import platforms
from seqjax.recipes.running.options import BadInput


def make() -> None:
    """Makes a host device of each core that this process may use; to be called before JAX computes anything.

    Other platforms are not touched.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:  # JAX has already started, with the devices that its caller wanted
        return


def share(who: str, asked: int, batch_size: int, params: PyTree = ()) -> int | None:
    """How many devices share a batch: those asked for, or on a CPU the number that is `best`.

    Args:
      who: the recipe, for errors.
      asked: ``--devices``; 0 to choose.
      batch_size: examples in a batch.
      params: of the model, where they are known.

    Returns:
      The number for `seqjax.train_step`, the same for each process where there are several; None for one.

    Raises:
      BadInput: more devices than there are, or a number that does not divide the batch.
    """
    available, processes = jax.device_count(), jax.process_count()
    if batch_size % processes:
        raise BadInput(
            f"{who}: expected processes that divide the batch size {batch_size}, got {processes}. Change one of them."
        )
    if asked % processes:
        raise BadInput(
            f"{who}: expected as many --devices of each of {processes} processes, got {asked}. "
            "Leave it out to have it chosen."
        )
    if asked > available or (asked and batch_size % asked):
        raise BadInput(
            f"{who}: expected --devices to divide the batch size {batch_size} and be at most {available}, got {asked}. "
            "Leave it out to have it chosen."
        )
    asked = asked or best(available, batch_size, params, processes)
    return asked if asked > 1 else None


def best(available: int, batch_size: int, params: PyTree, processes: int = 1) -> int:
    """On how many devices of all processes a batch trains fastest: on a CPU as many as there are and divide it.

    One a process, where recurrent weights are several times the cache that a core has to itself: every device reads all
    of them at each tick, for a part of the batch, and products of that size XLA spreads over the cores by itself. Two
    devices over one, a training step of T 128, B 64: 1.27 (LSTM) and 1.67 (GRU) at 256 units, 1.09 and 1.12 at 512, .99
    at 768.
    """
    most = platforms.planned().spread
    usable = available if most and recurrent_bytes(params) <= most else 1
    at_most = max(usable // processes, 1) * processes
    return next(n for n in range(at_most, 0, -processes) if batch_size % n == 0)


def recurrent_bytes(params: PyTree) -> int:
    """Of the largest array of recurrent weights, which cells call ``w_h``."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    weights = [leaf for path, leaf in leaves if jax.tree_util.keystr(path[-1:], simple=True) == "w_h"]
    return max((leaf.size * leaf.dtype.itemsize for leaf in weights), default=0)

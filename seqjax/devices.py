"""A batch shared out over devices."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqjax import checks
from seqjax.base import PyTree
from seqjax.objectives import Batch


class Shares(NamedTuple):
    """How the arguments of a training step are shared."""

    train: PartitionSpec
    state: PartitionSpec
    batch: PyTree


def mesh_of(devices: int | Sequence[jax.Device] | None) -> Mesh | None:
    """The devices in a row, the axis called batch; None for the one that JAX takes by itself."""
    if devices is None:
        return None
    if isinstance(devices, int):
        checks.sizes("train_step", devices=devices)
        available = jax.devices()
        if devices > len(available):
            raise ValueError(
                f"train_step: expected at most {len(available)} devices, got devices={devices}. On a CPU, "
                'jax.config.update("jax_num_cpu_devices", n) before anything else makes n of them.'
            )
        devices = available[:devices]
    return Mesh(np.array(devices), ("batch",))


def shares_of(batch: PyTree, in_front: int) -> Shares:
    """What is whole on every device, and which axis is shared: the first of the state, the one behind time of a batch.

    Args:
      batch: its ``lengths`` have no time, where it is a `Batch`.
      in_front: how many axes come before those.
    """
    examples = PartitionSpec(*[None] * in_front, "batch")
    ticks = PartitionSpec(None, *examples)
    known = isinstance(batch, Batch)
    return Shares(PartitionSpec(), examples, Batch(ticks, ticks, ticks, ticks, examples) if known else ticks)


def placed(mesh: Mesh, shares: Shares, trees: tuple) -> tuple:
    """The leaves where they belong. From the second step on they are, and to ask is cheaper than to move."""

    def leaf(spec: PartitionSpec, tree: PyTree) -> PyTree:
        sharding = NamedSharding(mesh, spec)
        there = all(getattr(leaf, "sharding", None) == sharding for leaf in jax.tree.leaves(tree))
        return tree if there else jax.device_put(tree, sharding)

    return tuple(jax.tree.map(leaf, tuple(shares), trees, is_leaf=lambda node: isinstance(node, PartitionSpec)))


def divisible(parts: int, in_front: int, state: PyTree, batch: Batch) -> None:
    """The batch axis is where it is looked for: of one size everywhere, which the devices can share equally."""
    sizes = set()
    places = [("state", state, in_front), ("batch", batch, in_front + 1)]
    if isinstance(batch, Batch):
        places[1:] = [
            ("batch", batch._replace(lengths=None), in_front + 1),
            ("batch.lengths", batch.lengths, in_front),
        ]
    for name, tree, axis in places:
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            shape = np.shape(leaf)
            missing = len(shape) <= axis
            sizes.add(0 if missing else shape[axis])
            if missing or len(sizes) > 1 or min(sizes) % parts:
                raise ValueError(
                    f"train_step: expected a first batch axis that {parts} devices can share equally, axis {axis} of "
                    f"{name}{jax.tree_util.keystr(path)}, got shape {shape}{_unlike(sizes)}. Change the batch size or "
                    "the number of devices; give what has no time an axis of 1 in front, and drop it in the objective."
                )


def _unlike(sizes: set[int]) -> str:
    return f" where others have {max(sizes)} there" if len(sizes) > 1 else ""


_turn = threading.Lock()
_latest: list = []  # of the last program started over several CPU devices: its results


def in_turn(mesh: Mesh, program: Callable, arguments: tuple) -> Any:
    """Starts a program over several devices; on CPUs when what was started before, and what it starts from, is done.

    A CPU's devices share the threads that run programs. Where two programs are under way, their threads can each wait
    in a sum over devices for threads that the other one holds, until XLA ends the process a minute later.
    """
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
    if traced or mesh.size == 1 or mesh.devices.flat[0].platform != "cpu":
        return program(*arguments)
    with _turn:
        with contextlib.suppress(RuntimeError):  # it is told where its results are used
            jax.block_until_ready([leaf for leaf in _latest if not leaf.is_deleted()])
        jax.block_until_ready(arguments)
        results = program(*arguments)
        _latest[:] = jax.tree.leaves(results[-1])
    return results

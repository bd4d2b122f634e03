"""The door to a jitted update: whose memory it reads and takes, on one device, on several, inside a transformation."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from seqjax.base import PyTree
from seqjax.buffers import apart, owned
from seqjax.devices import divisible, in_turn, placed, shares_of


class Step:
    """``(train, state, batch) -> (train, state, metrics)``, jitted and handed memory of its own.

    Where memory is gone it says what happened. Inside `jax.vmap`, `jax.jit` and the like it leaves memory alone: what
    lies where, and whose it is, the outermost function knows.

    Args:
      step: the update.
      in_order: refuses arguments in another order.
      mesh: devices that share a batch, or None.
      in_front: how many axes come before the one they share.
      donate: whether the memory of ``train`` is given away.
    """

    def __init__(self, step: Callable, in_order: Callable, mesh: Mesh | None, in_front: int, donate: bool):
        """Jits the update."""
        self.in_order, self.mesh, self.in_front, self.donate = in_order, mesh, in_front, donate
        self.keeping = jax.jit(step)
        self.jitted: Any = jax.jit(step, donate_argnums=0) if donate else self.keeping

    def __call__(self, train: PyTree, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """One update."""
        given = owned((train, state, batch))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
            return self._traced(*given)
        try:
            if self.donate:
                given = apart(*given)
            if self.mesh is None:
                return self.jitted(*given)
            self._shared(*given)
            return in_turn(self.mesh, self.jitted, placed(self.mesh, shares_of(given[2], self.in_front), given))
        except (RuntimeError, ValueError) as error:
            for name, tree in (("train", train), ("state", state), ("batch", batch)):
                if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(tree)):
                    raise ValueError(
                        f"train_step: expected {name} with its arrays, got one whose memory an earlier step took for "
                        "its results. Go on with what the step returned, or make it with train_step(…, donate=False)."
                    ) from error
            raise

    def _traced(self, train: PyTree, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        if self.mesh is not None:
            self._shared(train, state, batch)
        return self.keeping(train, state, batch)

    def _shared(self, train: PyTree, state: PyTree, batch: PyTree) -> None:
        assert self.mesh is not None
        self.in_order(train, state, batch)
        divisible(self.mesh.size, self.in_front, state, batch)

    def __getattr__(self, name: str) -> Any:
        """What a jitted function has besides: ``lower``, ``trace``, ``clear_cache``."""
        return getattr(self.jitted, name)

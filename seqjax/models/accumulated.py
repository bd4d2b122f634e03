"""Several batches as one: their gradients are added up, one batch in memory at a time."""

import dataclasses

import jax
import numpy as np

from seqjax.base import Array, PyTree
from seqjax.losses import Tally
from seqjax.objectives import Batch, Objective, fixed_by


def accumulated(objective: Objective) -> Objective:
    """A loss over several batches with the memory of one.

        S = Σ_i S_i      n = Σ_i n_i      ∇(S / n) = Σ_i ∇S_i / Σ_i n_i

    Sums and counts are added, not means: batches with more real ticks weigh more, and the gradient is that of one
    large batch. (`optax.MultiSteps` averages the means, which is the same only where all counts are equal, or where
    `seqjax.train_step` divides by a number.) Backwards each batch is run again.

    Args:
      objective: ``(params, state, batch, key) -> (state, Tally)``.

    Returns:
      The same for a batch and a state whose leaves have one more axis in front, one entry a batch:
      ``jax.tree.map(lambda *leaves: np.stack(leaves), *batches)``. With a key, each batch draws with its own.

    Raises:
      ValueError: leaves without that axis, or with different numbers of batches.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.dense(3, 2)
      >>> params = model.init(jax.random.key(0))
      >>> loss = sj.models.accumulated(sj.objective(model, sj.mean_squared_error))
      >>> four = sj.Batch(jnp.ones((4, 5, 8, 3)), jnp.zeros((4, 5, 8, 2)))
      >>> _, tally = loss(params, (), four)
      >>> tally.count.item()
      160
    """
    return _Accumulated(objective)


@dataclasses.dataclass(frozen=True)
class _Accumulated:
    """An objective whose batches have one more axis in front, so that `seqjax.train_step` can spread the batch."""

    objective: Objective

    @property
    def axes_in_front(self) -> int:
        return 1 + getattr(self.objective, "axes_in_front", 0)

    def fixed(self, params: PyTree) -> PyTree:
        """Which parameters stay."""
        return fixed_by(self.objective, params)

    def __call__(self, params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves((state, batch))}
        if len(counts) != 1 or counts == {()}:
            raise ValueError(
                "accumulated: expected leaves [batches, ...] with the same number of batches in front, got first axes "
                f"of {sorted(counts)}. Stack the batches and their states."
            )
        ((parts,),) = counts
        keys = None if key is None else jax.random.split(key, parts)
        again = jax.checkpoint(self.objective, prevent_cse=False)
        state, tallies = jax.lax.scan(lambda _, part: (None, again(params, *part)), None, (state, batch, keys))[1]
        return state, jax.tree.map(lambda x: x.sum(0), tallies)

"""Examples of similar length travel together: a stated bound on shapes, and the least padding within it."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from seqjax import checks


class Buckets(NamedTuple):
    """Which examples travel together, and how much padding that costs.

    Attributes:
      shapes: the padded lengths, one row a bucket, one column a field: no other shape ever reaches the
        compiler.
      members: the examples of each bucket, as indices.
      waste: padded ticks that hold nothing, as a share of all padded ticks, batches filled up included.
    """

    shapes: np.ndarray
    members: tuple[np.ndarray, ...]
    waste: float


def buckets(lengths: np.ndarray, shapes: int = 8, *, size: int = 1) -> Buckets:
    """Splits examples into at most ``shapes`` buckets of similar length with the least padding there is.

    Examples are ordered by total length, those of the same lengths together, and cut where the sum of padded
    ticks is smallest (dynamic programming over the cuts): no other cut of that order into as many buckets wastes
    less.

    Args:
      lengths: ``[n]``, or ``[n, fields]`` where an example has several sequences (a source and a target).
      shapes: the bound on the number of shapes.
      size: B, of the batches that will be made. A bucket's last batch is filled up to B columns, which counts as
        padding and is weighed too: fewer buckets waste less where there are few examples. 1 looks at lengths alone.

    Returns:
      The buckets; ``waste`` states what they cost.

    Raises:
      ValueError: no examples, an empty one, or a bound or size below 1.

    Example:
      >>> import numpy as np
      >>> plan = buckets(np.array([2, 3, 9, 10, 10]), shapes=2)
      >>> plan.shapes.tolist(), round(plan.waste, 3)
      ([[3], [10]], 0.056)
    """
    checks.sizes("buckets", shapes=shapes, size=size)
    lengths = np.asarray(lengths)
    lengths = lengths.reshape(len(lengths), -1)
    if not lengths.size or lengths.min() < 1:
        empty = np.flatnonzero((lengths < 1).any(-1))[:5].tolist() if lengths.size else "no examples"
        raise ValueError(f"buckets: expected sequences of at least one tick, got {empty}. Leave empty examples out.")
    kinds, inverse, counts = np.unique(lengths, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((*kinds.T, kinds.sum(1)))
    bounds = _cuts(kinds[order], counts[order], min(shapes, len(kinds)), size)
    rank = np.argsort(order)[inverse.reshape(-1)]
    members = tuple(np.flatnonzero((rank >= a) & (rank < b)) for a, b in itertools.pairwise(bounds))
    tops = np.stack([lengths[m].max(0) for m in members])
    total = sum(int(top.sum()) * _columns(len(m), size) for top, m in zip(tops, members))
    return Buckets(tops, members, 1 - int(lengths.sum()) / total)


def _columns(examples: Any, size: int) -> Any:
    """So many columns hold them in whole batches."""
    return -(-examples // size) * size


def _cuts(kinds: np.ndarray, counts: np.ndarray, groups: int, size: int) -> list[int]:
    """Bounds 0 = b_0 < … = n of at most ``groups`` runs of ``kinds`` with the fewest padded ticks in all."""
    n = len(kinds)
    before = np.concatenate([[0], np.cumsum(counts)])
    best = np.full((groups + 1, n + 1), np.inf)
    best[:, 0] = 0
    cut = np.zeros((groups + 1, n + 1), int)
    for end in range(1, n + 1):
        tops = np.maximum.accumulate(kinds[:end][::-1])[::-1].sum(1)
        cost = tops * _columns(before[end] - before[:end], size)
        for group in range(1, groups + 1):
            total = best[group - 1, :end] + cost
            cut[group, end] = total.argmin()
            best[group, end] = total.min()
    bounds = [n]
    for group in range(groups, 0, -1):
        if bounds[0] == 0:
            break
        bounds.insert(0, int(cut[group, bounds[0]]))
    return bounds

"""Batches of ragged sequences with a stated bound on shapes and padding, in an order that can be resumed."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seqjax import checks


class Padded(NamedTuple):
    """Sequences side by side: ``values [T, B, ...]`` and ``lengths [B]``."""

    values: np.ndarray
    lengths: np.ndarray


class Buckets(NamedTuple):
    """Which examples travel together, and how much padding that costs.

    Attributes:
      shapes: the padded lengths, one row a bucket, one column a field: no other shape ever reaches the
        compiler.
      members: the examples of each bucket, as indices.
      waste: padded ticks that hold nothing, as a share of all padded ticks.
    """

    shapes: np.ndarray
    members: tuple[np.ndarray, ...]
    waste: float


class Position(NamedTuple):
    """Where in the data training stands: the epoch and the number of its batches already given out."""

    epoch: int = 0
    batch: int = 0


class Drawn(NamedTuple):
    """One batch: the position after it, a `Padded` a field, and which examples it holds, -1 where it is "
    "filled up."""

    position: Position
    fields: tuple[Padded, ...]
    examples: np.ndarray


def pad(sequences: Sequence[np.ndarray], *, length: int | None = None, value: float = 0) -> Padded:
    """Sequences ``[t_i, ...]`` side by side, right-padded.

    Args:
      sequences: arrays that differ in their first axis only.
      length: T; the longest sequence's length if None.
      value: what fills the padding.

    Returns:
      ``values [T, B, ...]`` and ``lengths [B]``.

    Raises:
      ValueError: no sequence, or one longer than ``length``.

    Example:
      >>> import numpy as np
      >>> pad([np.array([1, 2, 3]), np.array([4])]).values.T.tolist()
      [[1, 2, 3], [4, 0, 0]]
    """
    if not len(sequences):
        raise ValueError("pad: expected at least one sequence, got none. Skip the empty batch.")
    arrays = [np.asarray(sequence) for sequence in sequences]
    lengths = np.array([len(array) for array in arrays], np.int32)
    length = int(lengths.max()) if length is None else length
    if lengths.max() > length:
        raise ValueError(
            f"pad: expected sequences of at most {length} ticks, got {lengths.max()} at index "
            f"{lengths.argmax()}. "
            "Raise the limit or leave that example out."
        )
    values = np.full((length, len(arrays), *arrays[0].shape[1:]), value, arrays[0].dtype)
    for i, array in enumerate(arrays):
        values[: len(array), i] = array
    return Padded(values, lengths)


def buckets(lengths: np.ndarray, shapes: int = 8) -> Buckets:
    """Splits examples into at most ``shapes`` buckets of similar length with the least padding there is.

    Examples are ordered by total length and cut where the sum of padded ticks is smallest (dynamic
    programming over the cuts), so no other cut of that order into as many buckets wastes less.

    Args:
      lengths: ``[n]``, or ``[n, fields]`` where an example has several sequences (a source and a target).
      shapes: the bound on the number of shapes.

    Returns:
      The buckets; ``waste`` states what they cost.

    Raises:
      ValueError: no examples, an empty one, or a bound below 1.

    Example:
      >>> import numpy as np
      >>> plan = buckets(np.array([2, 3, 9, 10, 10]), shapes=2)
      >>> plan.shapes.tolist(), round(plan.waste, 3)
      ([[3], [10]], 0.056)
    """
    checks.sizes("buckets", shapes=shapes)
    lengths = np.asarray(lengths)
    lengths = lengths.reshape(len(lengths), -1)
    if not lengths.size or lengths.min() < 1:
        empty = np.flatnonzero((lengths < 1).any(-1))[:5].tolist() if lengths.size else "no examples"
        raise ValueError(f"buckets: expected sequences of at least one tick, got {empty}. Leave empty examples out.")
    kinds, inverse, counts = np.unique(lengths, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((*kinds.T, kinds.sum(1)))
    bounds = _cuts(kinds[order], counts[order], min(shapes, len(kinds)))
    rank = np.argsort(order)[inverse.reshape(-1)]
    members = tuple(np.flatnonzero((rank >= a) & (rank < b)) for a, b in itertools.pairwise(bounds))
    tops = np.stack([lengths[m].max(0) for m in members])
    total = sum(int(top.sum()) * len(m) for top, m in zip(tops, members))
    return Buckets(tops, members, 1 - int(lengths.sum()) / total)


def _cuts(kinds: np.ndarray, counts: np.ndarray, groups: int) -> list[int]:
    """Bounds 0 = b_0 < … = n of at most ``groups`` runs of ``kinds`` with the fewest padded ticks in all."""
    n = len(kinds)
    before = np.concatenate([[0], np.cumsum(counts)])
    best = np.full((groups + 1, n + 1), np.inf)
    best[:, 0] = 0
    cut = np.zeros((groups + 1, n + 1), int)
    for end in range(1, n + 1):
        tops = np.maximum.accumulate(kinds[:end][::-1])[::-1].sum(1)
        cost = tops * (before[end] - before[:end])
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


def batches(
    fields: Sequence[Sequence[np.ndarray]],
    plan: Buckets,
    size: int,
    *,
    seed: int,
    position: Position = Position(),  # noqa: B008
    epochs: int | None = None,
    value: float = 0,
) -> Iterator[Drawn]:
    """Batches in a random order that depends on ``(seed, epoch)`` alone, from any position on.

    Every batch has exactly ``size`` columns and one of the plan's lengths. Where a bucket does not divide
    evenly, its last batch is filled with sequences of length 0, which masks and losses leave out.

    Args:
      fields: one list of sequences a field, aligned by example.
      plan: from `buckets` on the lengths of these fields.
      size: B.
      seed: of the order.
      position: where to start; keep the position of the last batch trained on, and resuming goes on after it.
      epochs: after which epoch to end; None for never.
      value: what fills the padding.

    Yields:
      `Drawn`: labels of whole examples are ``labels[drawn.examples]``, to be masked by ``drawn.examples >=
      0``.

    Raises:
      ValueError: fields or a plan that do not belong together.
    """
    checks.sizes("batches", size=size)
    counts = {len(field) for field in fields} | {sum(map(len, plan.members))}
    if len(counts) != 1 or plan.shapes.shape[1] != len(fields):
        raise ValueError(
            f"batches: expected a plan of {len(fields)} fields with as many examples each, got "
            f"{plan.shapes.shape[1]} fields and {sorted(counts)} examples. Make it with buckets() on these "
            "lengths."
        )
    epoch, start = position
    while epochs is None or epoch < epochs:
        groups = _order(plan, size, seed, epoch)
        for number in range(start, len(groups)):
            bucket, members = groups[number]
            index = np.pad(members, (0, size - len(members)), constant_values=-1)
            yield Drawn(Position(epoch, number + 1), _gather(fields, plan.shapes[bucket], members, size, value), index)
        epoch, start = epoch + 1, 0


def _order(plan: Buckets, size: int, seed: int, epoch: int) -> list[tuple[int, np.ndarray]]:
    rng = np.random.default_rng((seed, epoch))
    groups = []
    for bucket, members in enumerate(plan.members):
        shuffled = rng.permutation(members)
        groups += [(bucket, shuffled[i : i + size]) for i in range(0, len(shuffled), size)]
    return [groups[i] for i in rng.permutation(len(groups))]


def _gather(
    fields: Sequence[Sequence[np.ndarray]], shape: np.ndarray, members: np.ndarray, size: int, value: float
) -> tuple[Padded, ...]:
    padded = []
    for field, length in zip(fields, shape):
        blank = np.asarray(field[members[0]])[:0]
        rows = [field[i] for i in members] + [blank] * (size - len(members))
        padded.append(pad(rows, length=int(length), value=value))
    return tuple(padded)


def streams(tokens: np.ndarray, size: int) -> np.ndarray:
    """One long sequence ``[n]`` as ``size`` contiguous columns ``[n // size, size]``, the rest left out.

    Truncated backpropagation walks down the rows and carries the state of each column.

    Raises:
      ValueError: fewer than two ticks a column.

    >>> import numpy as np
    >>> streams(np.arange(7), 2).T.tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    checks.sizes("streams", size=size)
    tokens = np.asarray(tokens)
    rows = len(tokens) // size
    if rows < 2:
        raise ValueError(
            f"streams: expected at least {2 * size} ticks for {size} columns, got {len(tokens)}. "
            "Give more text or fewer columns."
        )
    return np.ascontiguousarray(tokens[: rows * size].reshape(size, rows).T)


def crops(tokens: np.ndarray, length: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """``size`` random windows of ``length`` ticks, ``[length, size]``; ask one more tick for shifted targets.

    Raises:
      ValueError: a text shorter than one window.
    """
    checks.sizes("crops", length=length, size=size)
    tokens = np.asarray(tokens)
    if len(tokens) < length:
        raise ValueError(
            f"crops: expected at least {length} ticks of text, got {len(tokens)}. Shorten the window or give more text."
        )
    starts = rng.integers(0, len(tokens) - length + 1, size)
    return tokens[starts[None] + np.arange(length)[:, None]]


def split(count: int, shares: tuple[float, ...], seed: int) -> list[np.ndarray]:
    """Indices 0 … count-1 in random order, cut into parts of the given shares; the last part takes the rest.

    >>> [len(part) for part in split(10, (0.8, 0.1, 0.1), seed=0)]
    [8, 1, 1]
    """
    checks.sizes("split", count=count)
    if any(share <= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"split: expected positive shares that sum to 1, got {shares}. Adjust them.")
    bounds = np.round(np.cumsum(shares)[:-1] * count).astype(int)
    parts = np.split(np.random.default_rng(seed).permutation(count), bounds)
    if any(not len(part) for part in parts):
        raise ValueError(f"split: expected every part to hold an example, got {count} for {shares}. Give more data.")
    return parts

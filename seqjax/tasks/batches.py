"""Batches of ragged sequences with a stated bound on shapes and padding, in an order that can be resumed."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqjax import checks
from seqjax.tasks.buckets import Buckets
from seqjax.tasks.problem import whole


class Padded(NamedTuple):
    """Sequences side by side: ``values [T, B, ...]`` and ``lengths [B]``."""

    values: np.ndarray
    lengths: np.ndarray


class Position(NamedTuple):
    """Where in the data training stands: the epoch and the number of its batches already given out."""

    epoch: int = 0
    batch: int = 0


class Drawn(NamedTuple):
    """One batch: the position after it, a `Padded` a field, and which examples it holds, -1 where it is filled up."""

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
      ``values [T, B, ...]`` of a type that holds those of all sequences, and ``lengths [B]``.

    Raises:
      ValueError: no sequence, one longer than ``length``, or a fill value that integers or bools do not hold.

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
    dtype = np.result_type(*({array.dtype for array in arrays if array.size} or {arrays[0].dtype}))
    if dtype.kind in "biu":
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if not least <= value <= most or value % 1:
            raise ValueError(f"pad: expected a value that {dtype} holds, got {value!r}. Cast the sequences first.")
    values = np.full((length, len(arrays), *arrays[0].shape[1:]), value, dtype)
    for i, array in enumerate(arrays):
        values[: len(array), i] = array
    return Padded(values, lengths)


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
    evenly, its last batch is filled with sequences of length 0, which masks and losses leave out; a plan made
    with ``size=`` has them in its ``waste``.

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
      ValueError: fields or a plan that do not belong together, a negative seed, or a position where no batch of this
        plan ends.
    """
    _check("batches", fields, plan, size, seed)
    epoch, start = position
    if epoch < 0 or not 0 <= start <= _in_epoch(plan, size):
        raise ValueError(
            f"batches: expected a position with an epoch of at least 0 and a batch from 0 to {_in_epoch(plan, size)}, "
            f"got {tuple(position)}. Give the position of a batch of the same plan and size."
        )
    while epochs is None or epoch < epochs:
        groups = _order(plan, size, seed, epoch)
        for number in range(start, len(groups)):
            yield _draw(fields, plan, size, groups[number], Position(epoch, number + 1), value)
        epoch, start = epoch + 1, 0


class BatchSource(Sequence[Drawn]):
    """The same batches by number, to be made in any order, by any number of workers.

    Batch i of the source is batch i of `batches`. It is a data source as loaders read it, such as Grain's, which add
    reading ahead in other processes, shards for several hosts, and checkpoints of the position:
    ``grain.MapDataset.source(source).to_iter_dataset().mp_prefetch()``. Where batches are small arrays in memory
    nothing is gained by that; `batches` needs no loader.

    Example:
      >>> import numpy as np
      >>> from seqjax.tasks import buckets
      >>> fields = [[np.arange(n) for n in (2, 3, 9, 10, 10)]]
      >>> plan = buckets(np.array([2, 3, 9, 10, 10]), shapes=2)
      >>> source = BatchSource(fields, plan, 2, seed=0, epochs=4)
      >>> len(source), source[7].position
      (12, Position(epoch=2, batch=2))
    """

    def __init__(
        self,
        fields: Sequence[Sequence[np.ndarray]],
        plan: Buckets,
        size: int,
        *,
        seed: int,
        epochs: int = 1,
        value: float = 0,
    ) -> None:
        """Takes the arguments of `batches`; ``epochs`` must end.

        Raises:
          ValueError: fields or a plan that do not belong together, a negative seed, or a size below 1.
        """
        _check("BatchSource", fields, plan, size, seed)
        checks.sizes("BatchSource", epochs=epochs)
        self._given = fields, plan, size, seed, value
        self._in_epoch = _in_epoch(plan, size)
        self._epochs = epochs
        self._latest: tuple[int, list] = (-1, [])

    def __len__(self) -> int:
        """Batches of all epochs."""
        return self._epochs * self._in_epoch

    def __getitem__(self, index: Any) -> Any:
        """The batch of that number; slices give lists."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"BatchSource: expected a number below {len(self)}, got {number}. Raise epochs.")
        fields, plan, size, seed, value = self._given
        epoch, number = divmod(number % len(self), self._in_epoch)
        latest, groups = self._latest
        if latest != epoch:
            groups = _order(plan, size, seed, epoch)
            self._latest = epoch, groups
        return _draw(fields, plan, size, groups[number], Position(epoch, number + 1), value)


def _check(who: str, fields: Sequence[Sequence[np.ndarray]], plan: Buckets, size: int, seed: int) -> None:
    checks.sizes(who, size=size)
    whole(who, 0, seed=seed)
    counts = {len(field) for field in fields} | {sum(map(len, plan.members))}
    if len(counts) != 1 or plan.shapes.shape[1] != len(fields):
        raise ValueError(
            f"{who}: expected a plan of {len(fields)} fields with as many examples each, got "
            f"{plan.shapes.shape[1]} fields and {sorted(counts)} examples. Make it with buckets() on these "
            "lengths."
        )


def _in_epoch(plan: Buckets, size: int) -> int:
    return sum(-(-len(members) // size) for members in plan.members)


def _order(plan: Buckets, size: int, seed: int, epoch: int) -> list[tuple[int, np.ndarray]]:
    rng = np.random.default_rng((seed, epoch))
    groups = []
    for bucket, members in enumerate(plan.members):
        shuffled = rng.permutation(members)
        groups += [(bucket, shuffled[i : i + size]) for i in range(0, len(shuffled), size)]
    return [groups[i] for i in rng.permutation(len(groups))]


def _draw(
    fields: Sequence[Sequence[np.ndarray]],
    plan: Buckets,
    size: int,
    group: tuple[int, np.ndarray],
    after: Position,
    value: float,
) -> Drawn:
    bucket, members = group
    padded = []
    for field, length in zip(fields, plan.shapes[bucket]):
        blank = np.asarray(field[members[0]])[:0]
        rows = [field[i] for i in members] + [blank] * (size - len(members))
        padded.append(pad(rows, length=int(length), value=value))
    return Drawn(after, tuple(padded), np.pad(members, (0, size - len(members)), constant_values=-1))


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
    whole("split", 0, seed=seed)
    if any(share <= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"split: expected positive shares that sum to 1, got {shares}. Adjust them.")
    bounds = np.round(np.cumsum(shares)[:-1] * count).astype(int)
    parts = np.split(np.random.default_rng(seed).permutation(count), bounds)
    if any(not len(part) for part in parts):
        raise ValueError(f"split: expected every part to hold an example, got {count} for {shares}. Give more data.")
    return parts

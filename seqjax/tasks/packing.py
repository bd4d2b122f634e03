"""Sequences as the batches that a model of the next tick trains on: side by side, or one behind the other."""

from collections.abc import Sequence

import numpy as np

from seqjax import checks
from seqjax.objectives import Batch


def next_step(values: np.ndarray, lengths: np.ndarray | None = None) -> Batch:
    """Every tick as input, the one behind it as target.

        x_t = v_t      target_t = v_{t+1}      t = 1 … T-1

    Args:
      values: ``[T, *B, ...]``, T at least 2.
      lengths: ``[*B]``, how many ticks of each sequence are real; all if None. `pad` returns both.

    Returns:
      A `seqjax.Batch` of views ``[T-1, *B, ...]``, with lengths where some were given.

    Raises:
      ValueError: fewer than two ticks, or lengths of another shape or beyond T.

    Example:
      >>> import numpy as np
      >>> from seqjax.tasks import pad
      >>> batch = next_step(*pad([np.array([1, 2, 3]), np.array([4, 5])]))
      >>> batch.xs.T.tolist(), batch.targets.T.tolist(), batch.lengths.tolist()
      ([[1, 2], [4, 5]], [[2, 3], [5, 0]], [2, 1])
    """
    values = np.asarray(values)
    if values.ndim == 0 or len(values) < 2:
        raise ValueError(
            f"next_step: expected values [T, *batch, ...] of at least two ticks, got shape {values.shape}. "
            "Put time first, and leave out what has no next tick."
        )
    if lengths is None:
        return Batch(values[:-1], values[1:])
    lengths = np.asarray(lengths)
    checks.shapes("next_step", "lengths", lengths.shape, "the batch axes of values", values.shape[1 : 1 + lengths.ndim])
    checks.lengths("next_step", lengths, len(values))
    return Batch(values[:-1], values[1:], lengths=np.maximum(lengths - 1, 0))


def packed(
    xs: Sequence[np.ndarray], targets: Sequence[np.ndarray] | None = None, *, length: int, size: int
) -> list[Batch]:
    """Sequences of any lengths one behind the other in a few columns, cut into windows of one shape.

    A column's next sequence begins where its last one ended, marked by a reset, so that hardly a tick is padding; each
    sequence goes to the column that is shortest so far. One that does not fit goes on in the next window: hand the
    state from window to window, as in `seqjax.truncated`.

    Args:
      xs: inputs ``[t_i, ...]``.
      targets: as long as the inputs; None takes the next tick, so that a sequence of n ticks fills n - 1.
      length: T, ticks a window.
      size: B, columns.

    Returns:
      Windows ``[T, B, ...]`` in order, with ``reset`` at each first tick and a ``mask`` that is False where a column
      has come to its end.

    Raises:
      ValueError: no sequence, one without a tick to fill, a size below 1, or targets that do not belong to the inputs.

    Example:
      >>> import numpy as np
      >>> one, two = packed([np.arange(4), np.arange(10, 15), np.arange(20, 23)], length=3, size=2)
      >>> one.xs.T.tolist(), two.xs.T.tolist()
      ([[0, 1, 2], [10, 11, 12]], [[20, 21, 0], [13, 0, 0]])
      >>> two.reset.T.astype(int).tolist(), two.mask.T.astype(int).tolist()
      ([[1, 0, 0], [0, 0, 0]], [[1, 1, 0], [1, 0, 0]])
    """
    checks.sizes("packed", length=length, size=size)
    pairs = _pairs(xs, targets)
    ends = np.zeros(size, int)
    places = []
    for x, _ in pairs:
        column = int(ends.argmin())
        places.append((column, ends[column]))
        ends[column] += len(x)
    ticks = -(-int(ends.max()) // length) * length
    inputs, answers = (np.zeros((ticks, size, *first.shape[1:]), first.dtype) for first in pairs[0])
    reset = np.zeros((ticks, size), bool)
    for (x, target), (column, start) in zip(pairs, places):
        inputs[start : start + len(x), column] = x
        answers[start : start + len(x), column] = target
        reset[start, column] = True
    mask = np.arange(ticks)[:, None] < ends
    return [
        Batch(*(leaf[start : start + length] for leaf in (inputs, answers, mask, reset)))
        for start in range(0, ticks, length)
    ]


def _pairs(xs: Sequence[np.ndarray], targets: Sequence[np.ndarray] | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets of each sequence."""
    inputs = [np.asarray(x) for x in xs]
    if targets is None:
        pairs = [(x[:-1], x[1:]) for x in inputs]
    else:
        pairs = [(x, np.asarray(target)) for x, target in zip(inputs, targets)]
        lengths = [len(x) for x in inputs], [len(target) for target in targets]
        if lengths[0] != lengths[1]:
            raise ValueError(
                f"packed: expected one target a tick, got inputs of lengths {lengths[0][:5]} … and targets of lengths "
                f"{lengths[1][:5]} …. Align them, or leave targets out for the next tick."
            )
    short = [i for i, (x, _) in enumerate(pairs) if not len(x)]
    if short or not pairs:
        least = "one tick" if targets is not None else "two ticks"
        raise ValueError(
            f"packed: expected sequences of at least {least}, got "
            f"{f'shorter ones at {short[:5]}' if short else 'none'}. Leave them out."
        )
    kinds = [np.result_type(*(part.dtype for part in parts)) for parts in zip(*pairs)]
    return [tuple(part.astype(kind, copy=False) for part, kind in zip(pair, kinds)) for pair in pairs]  # type: ignore

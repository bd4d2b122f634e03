"""Sequences to classify by a rule: identical halves, parity, which sum is larger, and pictures read pixel by pixel."""

import numpy as np

from seqjax.tasks.problem import Examples, Problem, at_least, balanced, one_answer, whole


def identical_halves(longest: int = 20, *, symbols: int = 9) -> Problem:
    """Is the second half of the sequence the same as the first?

    Lengths are even, from 2 to ``longest``; half of the examples have identical halves. Of the others, half
    differ from such a sequence in one symbol only, so that resemblance is not enough: every place must be
    compared. Symbols are 1 … ``symbols``; 0 is padding.

    Args:
      longest: T.
      symbols: how many symbols there are.

    Returns:
      A problem with ``xs [T, B]`` of symbols and targets ``[B]``, 1 = identical.

    Raises:
      ValueError: no even length, or fewer than two symbols.

    Example:
      >>> batch = identical_halves(8).draw(np.random.default_rng(0), 6)
      >>> rows = [x[:n].tolist() for x, n in zip(batch.xs.T, batch.mask.sum(0))]
      >>> [halves_are_identical(row) for row in rows] == batch.targets.astype(bool).tolist()
      True
    """
    longest = at_least("identical_halves", longest, 2)
    whole("identical_halves", 2, symbols=symbols)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        labels = balanced(rng, count, 2)
        xs = np.zeros((longest, count), np.int32)
        lengths = 2 * rng.integers(1, longest // 2 + 1, count)
        near = iter(balanced(rng, int((labels == 0).sum()), 2))
        for i, length in enumerate(lengths):
            half = rng.integers(1, symbols + 1, length // 2)
            other = half.copy()
            if labels[i] == 0:
                if not next(near):
                    other = rng.integers(1, symbols + 1, length // 2)
                if (other == half).all():
                    at = rng.integers(length // 2)
                    other[at] = (half[at] - 1 + rng.integers(1, symbols)) % symbols + 1
            xs[:length, i] = np.concatenate([half, other])
        return one_answer(xs, labels, np.arange(longest)[:, None] < lengths)

    return Problem(draw, symbols + 1, 2, "accuracy", 1 / 2)


def halves_are_identical(sequence) -> bool:
    """The answer by definition, for any sequence.

    >>> halves_are_identical((1, 2, 3, 1, 2, 3)), halves_are_identical((3, 9, 9, 3))
    (True, False)
    """
    sequence = list(sequence)
    half = len(sequence) // 2
    return len(sequence) % 2 == 0 and sequence[:half] == sequence[half:]


def parity(shortest: int, longest: int) -> Problem:
    """Is the number of ones odd? One answer at the end of the string.

    Args:
      shortest: the smallest length.
      longest: T.

    Returns:
      A problem with ``xs [T, B]`` of bits and targets ``[B]``, 1 = odd.

    Raises:
      ValueError: lengths below 1 or in the wrong order.

    Example:
      >>> batch = parity(3, 9).draw(np.random.default_rng(0), 6)
      >>> (batch.xs.sum(0) % 2 == batch.targets).all()
      np.True_
    """

    def draw(rng: np.random.Generator, count: int) -> Examples:
        batch = running.draw(rng, count)
        last = batch.mask.sum(0) - 1
        return one_answer(batch.xs, batch.targets[last, np.arange(count)], batch.mask)

    running = running_parity(shortest, longest)
    return running._replace(draw=draw)


def running_parity(shortest: int, longest: int) -> Problem:
    """Parity with an answer at every tick: is the number of ones so far odd? Easier to learn than `parity`.

    Args:
      shortest: the smallest length.
      longest: T.

    Returns:
      A problem with ``xs [T, B]`` of bits and targets ``[T, B]``.

    Raises:
      ValueError: lengths below 1 or in the wrong order.

    Example:
      >>> batch = running_parity(5, 5).draw(np.random.default_rng(0), 6)
      >>> (batch.xs.cumsum(0) % 2 == batch.targets).all()
      np.True_
    """
    shortest = at_least("parity", shortest, 1)
    longest = at_least("parity", longest, shortest)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        lengths = rng.integers(shortest, longest + 1, count)
        mask = np.arange(longest)[:, None] < lengths
        xs = rng.integers(0, 2, (longest, count), np.int32)
        last = lengths - 1, np.arange(count)
        xs[last] = 0
        xs[last] = (xs * mask).sum(0) % 2 ^ balanced(rng, count, 2)
        xs = xs * mask
        return Examples(xs, (np.cumsum(xs, 0) % 2 * mask).astype(np.int32), mask, mask)

    return Problem(draw, 2, 2, "accuracy", 1 / 2)


def larger_sum(shortest: int, longest: int) -> Problem:
    """Which of two inputs has the larger total?

    Both are standard normal noise at every tick. The class is balanced, the margin is whatever the noise
    makes it.

    Args:
      shortest: the smallest length.
      longest: T.

    Returns:
      A problem with ``xs [T, B, 2]`` and targets ``[B]``, 1 = the second input's.

    Raises:
      ValueError: lengths below 1 or in the wrong order.

    Example:
      >>> batch = larger_sum(5, 5).draw(np.random.default_rng(0), 4)
      >>> (batch.xs.sum(0).argmax(-1) == batch.targets).all()
      np.True_
    """
    shortest = at_least("larger_sum", shortest, 1)
    longest = at_least("larger_sum", longest, shortest)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        labels = balanced(rng, count, 2)
        lengths = rng.integers(shortest, longest + 1, count)
        mask = np.arange(longest)[:, None] < lengths
        xs = (rng.normal(size=(longest, count, 2)) * mask[..., None]).astype(np.float32)
        total = xs.astype(np.float64).sum(0)
        swap = (total[:, 1] > total[:, 0]) != labels
        xs[:, swap] = xs[:, swap, ::-1]
        return one_answer(xs, labels, mask)

    return Problem(draw, 2, 2, "accuracy", 1 / 2)


def pixels(images: np.ndarray, *, permutation: int | None = None) -> np.ndarray:
    """Pictures as sequences of pixels, row by row, scaled to [0, 1].

    Args:
      images: ``[n, height, width]`` of bytes.
      permutation: seed of one fixed order of the pixels for all pictures; None for the natural order.

    Returns:
      ``[height · width, n, 1]`` of float32.

    Raises:
      ValueError: something else than pictures of one channel.
    """
    images = np.asarray(images)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"pixels: expected images [n, height, width] of uint8, got {images.shape} of {images.dtype}. "
            "Read them with read_idx, one channel each."
        )
    if permutation is not None:
        whole("pixels", 0, permutation=permutation)
    flat = images.reshape(len(images), -1).T[..., None].astype(np.float32) / 255
    return flat if permutation is None else flat[np.random.default_rng(permutation).permutation(len(flat))]

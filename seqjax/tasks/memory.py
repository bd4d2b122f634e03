"""Long-memory tasks: something seen early must be known late, and everything between is noise."""

from typing import Literal

import numpy as np

from seqjax import checks
from seqjax.tasks.problem import Examples, Problem, at_least, balanced, deviation, one_answer


def adding(length: int) -> Problem:
    """The adding problem: the sum of the two marked values, one marked in each half.

    Values are uniform in [0, 1]; a second feature is 1 at the two marked ticks and 0 elsewhere. Answering 1
    always scores the variance of the sum, 1/6. This is not Hochreiter's version, `signed_adding`.

    Args:
      length: T.

    Returns:
      A problem with ``xs [T, B, 2]`` and targets ``[B, 1]``.

    References:
      Bai, Kolter and Koltun (2018), An empirical evaluation of generic convolutional and recurrent networks.
      https://arxiv.org/abs/1803.01271

    Example:
      >>> batch = adding(50).draw(np.random.default_rng(0), 4)
      >>> np.allclose((batch.xs[..., 0] * batch.xs[..., 1]).sum(0), batch.targets[..., 0])
      True
    """
    length = at_least("adding", length, 2)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        values = rng.random((length, count))
        marks = np.zeros((length, count))
        columns = np.arange(count)
        marks[rng.integers(0, length // 2, count), columns] = 1
        marks[rng.integers(length // 2, length, count), columns] = 1
        return one_answer(np.stack([values, marks], -1), (values * marks).sum(0)[:, None])

    return Problem(draw, 2, 1, "squared error", 1 / 6)


def signed_adding(length: int) -> Problem:
    """Hochreiter and Schmidhuber's adding problem: values in [-1, 1], target .5 + (x₁ + x₂)/4, ragged.

    A sequence has between ``length`` and ``length + length // 10`` ticks. One of its first ten values is
    marked, and one more among the first ``length // 2 - 1``. The mark is 1 there, -1 at the first and the
    last tick and 0 elsewhere; if the first tick itself is marked, it carries mark 1 and counts as 0.

    Args:
      length: the smallest number of ticks.

    Returns:
      A problem with ``xs [T, B, 2]``, T the largest number of ticks, and targets ``[B, 1]``.

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory, experiment 4. https://doi.org/10.1162/neco.1997.9.8.1735

    Example:
      >>> batch = signed_adding(50).draw(np.random.default_rng(0), 4)
      >>> len(batch.xs) <= 55 and (batch.mask.sum(0) >= 50).all()
      np.True_
    """
    length = at_least("signed_adding", length, 24)
    longest, second = length + length // 10, length // 2 - 1
    first_marked = 1 / 10 + 9 / 10 / (second - 1)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        lengths = rng.integers(length, longest + 1, count)
        columns = np.arange(count)
        one = rng.integers(0, 10, count)
        two = rng.integers(0, second - 1, count)
        two += two >= one
        values = rng.uniform(-1, 1, (longest, count))
        values[0, (one == 0) | (two == 0)] = 0
        marks = np.zeros((longest, count))
        marks[0] = marks[lengths - 1, columns] = -1
        marks[one, columns] = marks[two, columns] = 1
        mask = np.arange(longest)[:, None] < lengths
        targets = 0.5 + (values[one, columns] + values[two, columns]) / 4
        return one_answer(np.stack([values, marks], -1) * mask[..., None], targets[:, None], mask)

    return Problem(draw, 2, 1, "squared error", (2 - first_marked) / 48)


def copy_memory(length: int, *, width: int = 10) -> Problem:
    """Copy memory: ``width`` symbols, a long blank, a signal, and the symbols must come back in order.

    Inputs are ``width`` symbols of 1 … 8, ``length - 1`` blanks (0), then the signal (9) at the last ``width
    + 1`` ticks; the answer is 0 up to the last ``width`` ticks, which repeat the symbols. The cross-entropy
    is averaged over all ``length + 2 width`` ticks, so that its chance level looks small: look at the last
    ticks' accuracy too.

    Args:
      length: ticks between the last symbol and its first repetition, the blank and the signal.
      width: how many symbols.

    Returns:
      A problem with ``xs`` and targets ``[T, B]`` of symbols, T = length + 2 width.

    References:
      Arjovsky, Shah and Bengio (2016), Unitary evolution recurrent neural networks. https://arxiv.org/abs/1511.06464

    Example:
      >>> batch = copy_memory(20, width=3).draw(np.random.default_rng(0), 4)
      >>> (batch.targets[-3:] == batch.xs[:3]).all()
      np.True_
    """
    length = at_least("copy_memory", length, 1)
    checks.sizes("copy_memory", width=width)
    ticks = length + 2 * width

    def draw(rng: np.random.Generator, count: int) -> Examples:
        symbols = rng.integers(1, 9, (width, count), np.int32)
        xs, targets = np.zeros((2, ticks, count), np.int32)
        xs[:width], xs[-width - 1 :], targets[-width:] = symbols, 9, symbols
        every = np.ones((ticks, count), bool)
        return Examples(xs, targets, every, every)

    return Problem(draw, 10, 10, "cross-entropy", width * float(np.log(8)) / ticks)


def latch(length: int, *, noise: float = 0.2) -> Problem:
    """The latch: the sign of the first input is the class, all later inputs are noise.

    Args:
      length: T.
      noise: standard deviation of the inputs after the first; the first is 1 or -1.

    Returns:
      A problem with ``xs [T, B, 1]`` and targets ``[B]`` in {0, 1}.

    References:
      Bengio, Simard and Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
      https://doi.org/10.1109/72.279181

    Example:
      >>> batch = latch(10).draw(np.random.default_rng(0), 4)
      >>> ((batch.xs[0, :, 0] > 0) == batch.targets).all()
      np.True_
    """
    length = at_least("latch", length, 2)
    deviation("latch", noise)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        labels = balanced(rng, count, 2)
        xs = rng.normal(0, noise, (length, count, 1))
        xs[0, :, 0] = 2 * labels - 1
        return one_answer(xs, labels)

    return Problem(draw, 1, 2, "accuracy", 1 / 2)


def temporal_order(length: int = 100, *, relevant: Literal[2, 3] = 2) -> Problem:
    """Temporal order: in which order did the symbols X and Y come, among distractors?

    A sequence has between ``length`` and ``1.1 length`` symbols: E first, B last, X or Y at two (three) ticks
    drawn from the intervals of .1 to .2 and .5 to .6 (.33 to .43 and .66 to .76) of ``length``, a, b, c, d
    elsewhere. The class counts in binary, X = 0 and Y = 1, first symbol first. Symbols are numbered a b c d X
    Y B E.

    Args:
      length: the smallest number of ticks.
      relevant: 2 or 3 relevant symbols, 4 or 8 classes.

    Returns:
      A problem with ``xs [T, B]`` of symbols and targets ``[B]``.

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory, experiment 6. https://doi.org/10.1162/neco.1997.9.8.1735

    Example:
      >>> batch = temporal_order(20).draw(np.random.default_rng(0), 3)
      >>> ["".join("abcdXYBE"[i] for i in x if i in (4, 5)) for x in batch.xs.T], batch.targets.tolist()
      (['YY', 'YX', 'XY'], [3, 2, 1])
    """
    length = at_least("temporal_order", length, 10)
    checks.choice("temporal_order", "relevant", relevant, (2, 3))
    starts = {2: (0.1, 0.5), 3: (0.1, 0.33, 0.66)}[relevant]
    longest = length + length // 10

    def draw(rng: np.random.Generator, count: int) -> Examples:
        lengths = rng.integers(length, longest + 1, count)
        columns = np.arange(count)
        labels = balanced(rng, count, 2**relevant)
        xs = rng.integers(0, 4, (longest, count), np.int32)
        for i, start in enumerate(starts):
            tick = rng.integers(int(start * length), int((start + 0.1) * length) + 1, count)
            xs[tick, columns] = 4 + (labels >> (relevant - 1 - i) & 1)
        xs[0] = 7
        xs[lengths - 1, columns] = 6
        mask = np.arange(longest)[:, None] < lengths
        return one_answer(xs * mask, labels, mask)

    return Problem(draw, 8, 2**relevant, "accuracy", 1 / 2**relevant)

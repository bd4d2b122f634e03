"""Tasks that ask a state for what its inputs decide: what a key stood for, and which symbols were not blank."""

import numpy as np

from seqjax.tasks.problem import Examples, Problem, at_least, whole


def associative_recall(length: int = 128, *, pairs: int = 16, symbols: int = 64, rounds: int = 1) -> Problem:
    """Associative recall: pairs of a key and its value, then keys only, each of which asks for its value.

    The first half of the symbols are keys, the others values. A sequence begins with ``pairs`` different keys, each
    followed by a value drawn for it. In each further round the same keys come again, in another order, with new
    values, of which the last counts. What is left of the sequence are keys drawn among these; there the answer is
    the value, numbered from 0.

    Args:
      length: T, of pairs and queries together.
      pairs: how many keys have a value.
      symbols: keys and values together, an even number.
      rounds: how often each key is given a value; with more than 1 it is not enough to add up what was written.

    Returns:
      A problem with ``xs`` and targets ``[T, B]`` of symbols; ``scored`` from tick 2 pairs rounds on.

    Raises:
      ValueError: no room for a query, an odd number of symbols, or fewer keys than pairs.

    Example:
      >>> import numpy as np
      >>> found = associative_recall(5, pairs=1, symbols=4).draw(np.random.default_rng(0), 3)
      >>> bool((found.xs[1] - 2 == found.targets[2]).all()), found.scored[:, 0].tolist()
      (True, [False, False, True, True, True])

    References:
      Schlag, Irie and Schmidhuber (2021), Linear transformers are secretly fast weight programmers, section 6.1: keys
      with and without replacement. https://arxiv.org/abs/2102.11174
      Arora et al. (2023), Zoology: measuring and improving recall in efficient language models.
      https://arxiv.org/abs/2312.04927
    """
    whole("associative_recall", 1, pairs=pairs, rounds=rounds)
    told = 2 * pairs * rounds
    length = at_least("associative_recall", length, told + 1)
    whole("associative_recall", 2 * pairs, symbols=symbols)
    if symbols % 2:
        raise ValueError(f"associative_recall: expected an even number of symbols, got {symbols}. Add one.")
    kinds = symbols // 2

    def draw(rng: np.random.Generator, count: int) -> Examples:
        columns = np.arange(count)
        keys = rng.permuted(np.tile(np.arange(kinds)[:, None], count), axis=0)[:pairs]
        places = np.concatenate(
            [rng.permuted(np.tile(np.arange(pairs)[:, None], count), axis=0) for _ in range(rounds)]
        )
        values = rng.integers(0, kinds, (rounds * pairs, count))
        last = np.zeros((pairs, count), int)
        for place, value in zip(places, values):
            last[place, columns] = value
        asked = rng.integers(0, pairs, (length - told, count))
        xs, targets = np.zeros((2, length, count), np.int32)
        xs[0:told:2], xs[1:told:2] = keys[places, columns], kinds + values
        xs[told:], targets[told:] = keys[asked, columns], last[asked, columns]
        scored = np.zeros((length, count), bool)
        scored[told:] = True
        return Examples(xs, targets, np.ones((length, count), bool), scored)

    return Problem(draw, symbols, kinds, "accuracy", 1 / kinds)


def selective_copying(length: int = 256, *, width: int = 16, symbols: int = 8) -> Problem:
    """Selective copying: symbols scattered among blanks must come back in order, without the blanks.

    Inputs are ``width`` symbols of 1 … ``symbols`` at ticks drawn among the first ``length``, blanks (0) between
    them, then ``width`` signals (``symbols + 1``), at which the answers are the symbols in their order, numbered from
    0. How far back a symbol lies depends on the input: no fixed delay solves it, as it does `copy_memory`.

    Args:
      length: ticks over which the symbols are scattered.
      width: how many symbols.
      symbols: how many kinds of them.

    Returns:
      A problem with ``xs`` and targets ``[T, B]`` of symbols, T = length + width; the last ``width`` are scored.

    Raises:
      ValueError: more symbols than ticks, or fewer than two kinds.

    Example:
      >>> import numpy as np
      >>> found = selective_copying(6, width=2).draw(np.random.default_rng(0), 1)
      >>> [x - 1 for x in found.xs[:6, 0].tolist() if x] == found.targets[6:, 0].tolist()
      True

    References:
      Gu and Dao (2023), Mamba: linear-time sequence modeling with selective state spaces, section 3.1.
      https://arxiv.org/abs/2312.00752
    """
    whole("selective_copying", 1, width=width)
    whole("selective_copying", 2, symbols=symbols)
    length = at_least("selective_copying", length, width)
    ticks = length + width

    def draw(rng: np.random.Generator, count: int) -> Examples:
        shown = rng.integers(0, symbols, (width, count), np.int32)
        at = np.sort(rng.permuted(np.tile(np.arange(length)[:, None], count), axis=0)[:width], axis=0)
        xs, targets = np.zeros((2, ticks, count), np.int32)
        xs[at, np.arange(count)], xs[length:], targets[length:] = shown + 1, symbols + 1, shown
        scored = np.zeros((ticks, count), bool)
        scored[length:] = True
        return Examples(xs, targets, np.ones((ticks, count), bool), scored)

    return Problem(draw, symbols + 2, symbols, "accuracy", 1 / symbols)

"""What can be asked for: the tasks by name, and how a question and its answer are told."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seqjax import tasks
from seqjax.tasks.reber import SYMBOLS as REBER


def tell_sum(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """The two marked values and their sum."""
    values = " and ".join(f"{xs[t, 0]:6.3f} at tick {t:3}" for t in np.flatnonzero(xs[:, 1] == 1))
    return f"{values}: right {right[0, 0]:.3f}, answered {given[0, 0]:.3f}"


def tell_copy(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """The symbols to repeat."""
    width = int((right > 0).sum())
    shown, said = (" ".join(map(str, symbols)) for symbols in (right[-width:], given[-width:]))
    return f"shown {shown}, {len(xs) - 2 * width} ticks later: {said}"


def tell_selected(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """The symbols among the blanks."""
    shown, said = (" ".join(map(str, symbols + 1)) for symbols in (right, given))
    return f"among {int((xs == 0).sum())} blanks: right {shown}, answered {said}"


def tell_recall(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """The first questions."""
    asked = zip(xs[-len(right) :], right, given)
    return "; ".join(f"key {key}: right {a}, answered {b}" for key, a, b in itertools.islice(asked, 4))


def tell_latch(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """The sign that came first."""
    return f"first {xs[0, 0]:+.0f}, then {len(xs) - 1} ticks of noise: answered {2 * int(given[0]) - 1:+d}"


def tell_order(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """Which symbols counted, where, and in which order."""
    at = np.flatnonzero((xs == 4) | (xs == 5))
    seen = ", ".join(f"{'XY'[xs[t] - 4]} at tick {t}" for t in at)
    return f"{seen} of {len(xs)}: answered {''.join('XY'[given[0] >> (len(at) - 1 - i) & 1] for i in range(len(at)))}"


def tell_reber(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """The string up to the symbol that the second one decides."""
    text = "".join(REBER[x] for x in xs[:-1])
    return f"{text}? right {REBER[right[0]]}, answered {REBER[given[0]]}"


def tell_parity(xs: np.ndarray, right: np.ndarray, given: np.ndarray) -> str:
    """The bits and whether the ones are odd in number."""
    words = ("even", "odd")
    return f"{''.join(map(str, xs))}: right {words[right[-1]]}, answered {words[given[-1]]}"


def recall(length: int) -> tasks.Problem:
    """Up to 16 keys, each given two values, over half of the sequence if it is not long."""
    return tasks.associative_recall(length, pairs=min(16, max(1, length // 8)), symbols=64, rounds=2)


def latch(length: int) -> tasks.Problem:
    """With noise of variance 0.2 as in 1997, but only the first tick tells."""
    return tasks.latch(length, noise=0.2**0.5)


class Task(NamedTuple):
    """What can be asked for: its problem by length, its own length, when it counts as solved, a test of longer ones.

    ``all_learned`` says whether there is something to learn at every tick, or only at those that are asked.
    """

    make: Callable[[int], tasks.Problem]
    length: int
    solved: float
    tell: Callable[[np.ndarray, np.ndarray, np.ndarray], str]
    longer: Callable[[int], tasks.Problem] | None
    all_learned: bool = True


TASKS = {
    "adding": Task(tasks.adding, 200, 1e-3, tell_sum, lambda n: tasks.adding(2 * n)),
    "signed-adding": Task(tasks.signed_adding, 100, 1e-3, tell_sum, lambda n: tasks.signed_adding(2 * n)),
    "copy": Task(tasks.copy_memory, 100, 1e-3, tell_copy, lambda n: tasks.copy_memory(2 * n)),
    "selective-copying": Task(
        tasks.selective_copying, 32, 0.99, tell_selected, lambda n: tasks.selective_copying(8 * n), all_learned=False
    ),
    "recall": Task(recall, 128, 0.99, tell_recall, lambda n: recall(2 * n), all_learned=False),
    "latch": Task(latch, 100, 0.999, tell_latch, lambda n: latch(2 * n)),
    "temporal-order": Task(tasks.temporal_order, 100, 0.999, tell_order, lambda n: tasks.temporal_order(2 * n)),
    "reber": Task(tasks.embedded_reber, 40, 0.999, tell_reber, None),
    "parity": Task(
        lambda n: tasks.running_parity(1, n),
        40,
        0.999,
        tell_parity,
        lambda n: tasks.parity(n + 1, 25 * n // 2),
    ),
}

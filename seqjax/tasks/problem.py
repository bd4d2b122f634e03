"""What a generated task is: examples drawn from a generator of random numbers, and what blind guessing scores."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np


class Examples(NamedTuple):
    """Sequences and their answers, time leading.

    Attributes:
      xs: ``[T, B]`` of symbols (int32) or ``[T, B, d]`` of features (float32).
      targets: one answer a sequence ``[B, ...]`` or one a tick ``[T, B, ...]``.
      mask: ``[T, B]`` of bool, True at real ticks of ``xs``.
      scored: ``[B]`` or ``[T, B]`` of bool, True at the answers that count.
    """

    xs: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    scored: np.ndarray


class Problem(NamedTuple):
    """A task whose examples are arrays.

    Attributes:
      draw: ``(rng, count) -> Examples`` with ``rng`` a `numpy.random.Generator`; the same seed draws the same
        batch.
      input_size: the number of input symbols, or of input features.
      output_size: the number of classes, or of regressed values.
      measure: ``"accuracy"``, ``"cross-entropy"`` (nats an answer) or ``"squared error"``.
      chance: what the best answer that never looks at the input scores by that measure.
    """

    draw: Callable[[np.random.Generator, int], Examples]
    input_size: int
    output_size: int
    measure: str
    chance: float


class Pair(NamedTuple):
    """One example of text: what is read and what is to be answered, each a string or a tuple of words."""

    source: str | tuple[str, ...]
    target: str | tuple[str, ...]


class TextProblem(NamedTuple):
    """A task whose examples are pairs of texts.

    Attributes:
      draw: ``(rng, count) -> list of Pair``.
      source_symbols: every symbol a source can hold, in order.
      target_symbols: every symbol a target can hold, in order.
      measure: ``"exact match"`` of the whole target, or ``"accuracy"`` over single words of it.
      chance: what the best answer that never looks at the source scores by that measure, over the whole target or
        over those words of it that the task is about, where its description names them.
    """

    draw: Callable[[np.random.Generator, int], list[Pair]]
    source_symbols: tuple[str, ...]
    target_symbols: tuple[str, ...]
    measure: str
    chance: float


def balanced(rng: np.random.Generator, count: int, classes: int) -> np.ndarray:
    """``count`` labels in random order, every class as often as the others to within one."""
    extra = rng.permutation(classes)[: count % classes]
    labels = np.concatenate([np.tile(np.arange(classes), count // classes), extra])
    return rng.permutation(labels).astype(np.int32)


def pick(rng: np.random.Generator, options: Sequence):
    """One of the options at even odds."""
    return options[int(rng.integers(len(options)))]


def one_answer(xs: np.ndarray, targets: np.ndarray, mask: np.ndarray | None = None) -> Examples:
    """A batch with one answer a sequence that always counts; no mask means that every tick is real."""
    mask = np.ones(xs.shape[:2], bool) if mask is None else mask
    xs, targets = (a.astype(np.float32 if a.dtype.kind == "f" else np.int32) for a in (xs, targets))
    return Examples(xs, targets, mask, np.ones(xs.shape[1], bool))


def at_least(who: str, length: int, least: int) -> int:
    """A length as a whole number of at least ``least`` ticks."""
    if not _is_whole(length, least):
        raise ValueError(f"{who}: expected a length of at least {least} ticks, got {length!r}. Raise it.")
    return int(length)


def whole(who: str, least: int, **named: int) -> None:
    """Every named number is a whole one of at least ``least``."""
    for name, value in named.items():
        if not _is_whole(value, least):
            raise ValueError(
                f"{who}: expected {name} to be a whole number of at least {least}, got {value!r}. Set {name}."
            )


def _is_whole(value: int, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def deviation(who: str, noise: float) -> None:
    """The standard deviation of noise is a finite number of at least 0."""
    if not isinstance(noise, Real) or not 0 <= noise < math.inf:
        raise ValueError(f"{who}: expected noise to be a finite number of at least 0, got {noise!r}. Use 0 for none.")

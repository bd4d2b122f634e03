"""Interleaved timing: A B C A B C …, so that whatever slows the machine down slows all alike."""

import gc
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

SHORT = 0.01  # seconds


class Timing(NamedTuple):
    """The seconds of every round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper one."""
        lower, upper = np.quantile(self.seconds, [0.25, 0.75])
        return float(lower), float(upper)

    @property
    def least(self) -> float:
        """The fastest round."""
        return min(self.seconds)


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    seconds: float,
    least: int = 5,
    patience: float = math.inf,
    settle: float = 0.01,
    untimed: int = 0,
    after_round: Callable[[int], None] = lambda done: None,
) -> dict[str, Timing]:
    """Times every call once a round, in the given order; a short one several times in a row.

    What takes less than `SHORT` is called until that has passed, and the mean is taken: a single call after a rest
    would time how caches wake up.

    Args:
      calls: each runs once and returns when its result is there; its first call has been made before.
      rounds: how often each is timed.
      seconds: no further round starts after so many, once there are ``least``.
      least: rounds that are run in any case, but for patience.
      patience: seconds after which two rounds are enough: calls of many seconds average by themselves.
      settle: seconds of rest before each call: OpenMP threads spin for some milliseconds after their last
        work, on a core that the next call needs.
      untimed: calls before each that is timed: one behind another contender that used much more memory was seen to
        take 1.3 times as long as one behind itself, as in a training.
      after_round: is told how many rounds are done.

    Returns:
      The times by name.
    """
    repeats = {}
    for name, call in calls.items():
        call()  # warm-up
        repeats[name] = max(1, round(SHORT / once(call)[1]))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for done in range(rounds):
            passed = time.perf_counter() - begin
            if passed > seconds and (done >= least or (passed > patience and done >= 2)):
                break
            for name, call in calls.items():
                time.sleep(settle)
                for _ in range(untimed):
                    call()
                start = time.perf_counter()
                for _ in range(repeats[name]):
                    call()
                taken[name].append((time.perf_counter() - start) / repeats[name])
            after_round(done + 1)
    finally:
        gc.enable()
    return {name: Timing(tuple(times)) for name, times in taken.items()}


def once(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call and the seconds it took."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start

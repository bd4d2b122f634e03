"""Who is timed when: in turns, A B C A B C …, so that whatever slows the machine down slows all alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

SHORT = 0.01  # seconds; what takes less is run as often as that takes, for a single call would time how caches wake up
ROUNDS = 20

Name = TypeVar("Name")


def now() -> float:
    """Seconds since some time."""
    return time.monotonic()


def timed(name: Any, call: Callable[[], Any]) -> float:
    """Seconds of one call.

    Args:
      name: who is called.
      call: starts it.
    """
    count, seconds = 1, _of(call, 1)
    if seconds < SHORT:
        count = max(1, round(SHORT / max(seconds, 1e-6)))
        seconds = _of(call, count)
    return seconds / count


def interleaved(calls: Mapping[Name, Callable[[], Any]], taken: dict[Name, list[float]], until: float) -> None:
    """Adds rounds to the times that are there: up to 20 for each, as long as there is time.

    Args:
      calls: who is timed; each has run once.
      taken: the seconds so far, by name; added to.
      until: when, by `now`, no further call starts.
    """
    for done in range(ROUNDS):
        for name, call in calls.items():
            if now() >= until:
                return
            if len(taken[name]) <= done:
                taken[name].append(timed(name, call))


def _of(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        jax.block_until_ready(call())
    return time.perf_counter() - start

"""Whether there is room: what parameters take is told before anything is allocated."""

import contextvars
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax

LARGE = 2**14  # a size from which on it is asked
_ASKED = contextvars.ContextVar("asked", default=False)


class NoRoom(ValueError):
    """What is asked for does not fit in memory."""


@functools.cache
def memory_of_device() -> int:
    """Bytes of memory of the default device; of the machine on a CPU."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_room(who: str, init: Callable[[Any], Any], key: Any) -> None:
    """Parameters that fit in memory, asked of the outermost ``init``: as many numbers as XLA can't count end a process.

    Raises:
      NoRoom: they do not.

    >>> import seqjax as sj
    >>> sj.dense(10**9, 10**9).init(jax.random.key(0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    seqjax.room.NoRoom: dense: expected parameters that fit in ... bytes of memory, got ... Make the sizes smaller.
    """
    if _ASKED.get():
        return
    token = _ASKED.set(True)
    try:
        drawn = jax.tree.leaves(jax.eval_shape(init, key))
    except Exception:  # an init for the host, or one that complains when it is run
        return
    finally:
        _ASKED.reset(token)
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in drawn)
    if needed > LARGE**2 and needed > memory_of_device():
        raise NoRoom(
            f"{who}: expected parameters that fit in {memory_of_device():,} bytes of memory, got {needed:,}. "
            "Make the sizes smaller."
        )
